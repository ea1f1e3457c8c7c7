/* fuzz_preload_http2.c - any bytes, in both directions, cut anywhere: the HTTP/2 parser and its HPACK decoder break no rule of proto.h, and say the same
 * however the bytes are cut. The input is described in blocks.h. HPACK is also compared with libnghttp2's: tests/unit/test_preload_http2.c. */
#include "blocks.h"

extern const struct proto_ops http2_ops;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    return blocks_one_input(&http2_ops, data, size);
}
