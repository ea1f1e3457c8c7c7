/* fuzz_preload_fastcgi.c - any bytes, in both directions, cut anywhere: the FastCGI parser breaks no rule of proto.h, and says the same however
 * the bytes are cut. The input is described in blocks.h; recorded exchanges are made by record_fastcgi.py. */
#include "blocks.h"

extern const struct proto_ops fastcgi_ops;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    return blocks_one_input(&fastcgi_ops, data, size);
}
