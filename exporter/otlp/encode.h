/* encode.h - spans as an ExportTraceServiceRequest, grouped by resource. */
#ifndef OTSHIM_EXPORTER_OTLP_ENCODE_H
#define OTSHIM_EXPORTER_OTLP_ENCODE_H

#include "trace/model.h"
#include <stddef.h>
#include <stdint.h>

#define OTLP_SCOPE_NAME "otshim"

/* Bits of Span.flags above the W3C trace flags: whether the parent is in another process is known, and is so. */
#define OTLP_FLAG_HAS_IS_REMOTE 0x100u
#define OTLP_FLAG_IS_REMOTE 0x200u
uint32_t otlp_span_flags(const struct span *span);

/* The encoded request after `headroom` bytes that the caller fills (gRPC's frame header). *len: headroom and message together. To
 * be given to free(). NULL when memory is short. */
uint8_t *otlp_encode(struct span *const *spans, size_t n, size_t headroom, size_t *len);

#endif
