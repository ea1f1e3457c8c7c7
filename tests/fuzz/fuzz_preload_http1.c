/* fuzz_preload_http1.c - any bytes, in both directions, cut anywhere: the HTTP/1 parser breaks no rule of proto.h, and says the same
 * however the bytes are cut. The input is described in blocks.h. */
#include "blocks.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    return blocks_one_input(proto_table[0], data, size);
}
