/* title.h - what a person calls a span.
 *
 * OpenTelemetry's span name of an HTTP request without a known route is its method alone, so that names group well. A list or a
 * waterfall wants "GET /chain" and "GET http://app-b:8002/io_task": the title, made from the attributes. */
#ifndef OTSHIM_EXPORTER_TITLE_H
#define OTSHIM_EXPORTER_TITLE_H

#include <stdbool.h>
#include <stddef.h>

/* The attribute as text, NULL if the span has none of that name. Valid until the next call but three. */
typedef const char *(*title_lookup)(void *span, const char *key);

/* Writes the title, raw (not cleaned for a terminal). */
void title_make(char *out, size_t out_size, const char *name, bool is_server, title_lookup lookup, void *span);

struct span;
/* The same for a span of the model. */
void title_of_span(char *out, size_t out_size, const struct span *span);

#endif
