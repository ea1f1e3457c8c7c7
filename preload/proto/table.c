/* table.c - the protocols that are understood, in order of detection. */
#include "proto/proto.h"

extern const struct proto_ops http1_ops, http2_ops, fastcgi_ops,
    resp_ops; /* each asserts that its state fits PROTO_STATE_MAX, or has .streams */

const struct proto_ops *const proto_table[] = {&http2_ops, &http1_ops, &fastcgi_ops, &resp_ops, NULL};
