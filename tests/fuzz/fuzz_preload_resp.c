/* fuzz_preload_resp.c - any bytes, in both directions, cut anywhere: the parser of Redis' protocol breaks no rule of proto.h, and says the same however
 * the bytes are cut. The input is described in blocks.h; recorded exchanges are made by record_redis.py. */
#include "blocks.h"

extern const struct proto_ops resp_ops;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    return blocks_one_input(&resp_ops, data, size);
}
