/* json.h - spans as OTLP/JSON, for people and for /api/traces/{id}.
 *
 * The mapping is the one of the OTLP specification ("JSON Protobuf Encoding"): lowerCamelCase keys, trace and span ids as
 * lower-case hexadecimal (not base64), 64-bit integers as decimal strings, enumerations as numbers. */
#ifndef OTSHIM_EXPORTER_OTLP_JSON_H
#define OTSHIM_EXPORTER_OTLP_JSON_H

#include "trace/model.h"
#include <jansson.h>
#include <stddef.h>

/* {"resourceSpans": [...]}, grouped by resource in order of first appearance. A new reference, NULL when memory is short. */
json_t *otlp_json_value(struct span *const *spans, size_t n);

/* The same as text, to be given to free(). NULL when memory is short. */
char *otlp_json(struct span *const *spans, size_t n);

#endif
