/* rpc.c - gRPC, which is HTTP/2 requests of a certain content type, in the conventions for RPC (https://opentelemetry.io/docs/specs/semconv/rpc/grpc/).
 *
 * The method is in the path ("/package.Service/Method"), the outcome in the trailers (grpc-status, a number; gRPC over HTTP/2, "Responses"). The
 * attributes of the HTTP request stay: it is one. */
#include "trace/facts.h"

#include <string.h>

/* https://grpc.io/docs/guides/status-codes/ */
static const char *const codes[] = {"OK",        "CANCELLED",      "UNKNOWN",           "INVALID_ARGUMENT",   "DEADLINE_EXCEEDED",
                                    "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION",
                                    "ABORTED",   "OUT_OF_RANGE",   "UNIMPLEMENTED",     "INTERNAL",           "UNAVAILABLE",
                                    "DATA_LOSS", "UNAUTHENTICATED"};

/* For a server only what is its own fault (the conventions' table for the span status). */
static bool is_error(const struct otshim_span_rec *rec, unsigned code)
{
    if (rec->kind == OTSHIM_SPAN_CLIENT)
        return code != 0;
    return code == 2 || code == 4 || code == 12 || code == 13 || code == 14 || code == 15;
}

static bool is_grpc(struct bytes content_type)
{
    static const char grpc[] = "application/grpc";
    return content_type.len >= sizeof grpc - 1 && memcmp(content_type.at, grpc, sizeof grpc - 1) == 0;
}

void rpc_describe(struct making *m)
{
    struct bytes path = m->facts->attrs[OTSHIM_ATTR_TARGET], status = m->facts->attrs[OTSHIM_ATTR_RPC_STATUS];
    if (!is_grpc(m->facts->attrs[OTSHIM_ATTR_CONTENT_TYPE]) || path.len < 2 || path.at[0] != '/')
        return;
    m->span.name = draft_text(m->draft, path.at + 1, path.len - 1);
    draft_string(m->draft, "rpc.system.name", "grpc");
    draft_string(m->draft, "rpc.method", m->span.name);
    if (status.len == 0 || status.len > 2)
        return;
    unsigned code = 0;
    for (size_t i = 0; i < status.len; i++)
        code = code * 10 + (unsigned)(status.at[i] - '0');
    const char *name = code < sizeof codes / sizeof *codes ? codes[code] : draft_text(m->draft, status.at, status.len);
    draft_string(m->draft, "rpc.response.status_code", name);
    if (is_error(m->facts->rec, code)) {
        m->span.status = SPAN_STATUS_ERROR;
        m->error_type = name;
    }
}
