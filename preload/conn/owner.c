/* owner.c - see owner.h. */
#include "conn/owner.h"
#include "base/config.h"
#include "conn/streams.h"
#include "context/turn.h"
#include <string.h>

/* By what the program's event loop sends now, but got earlier. */
static bool written_for(struct conn *conn, struct ctx *owner)
{
    struct runtime_ref ref = runtime_ref(conn->runtime);
    if (!runtime_conn_get(&ref, owner))
        return false;
    runtime_conn_set(conn->runtime, NULL);
    return true;
}

/* Where in the program is it made? By what an event loop sends later, that is known by whoever gave it the bytes. */
static void keep_site(struct conn *conn, struct exchange *exchange, const struct exchange_writer *writer)
{
    if (!(exchange->ctx.trace_flags & 1u))
        return;
    if (writer == NULL)
        exchange->site = site_keep();
    if (exchange->site != NULL || OTSHIM_LIKELY(conn->site == NULL))
        return;
    exchange->site = conn->site;
    conn->site = NULL;
}

/* The next exchange of this connection, and no other, was said to be for that request: whichever thread sends it. */
static bool handed_over(struct conn *conn, struct ctx *owner)
{
    struct runtime_ref ref = runtime_ref(conn->runtime);
    return conn->runtime != NULL && runtime_conn_get(&ref, owner) && owner->rule == OTSHIM_PARENT_HANDOVER &&
           written_for(conn, owner);
}

/* What an event loop's turn shows of itself by making this call. */
static void turn_call(const struct exchange *exchange)
{
    turn_about(exchange->has_owner ? exchange->owner.span_id : NULL);
    if (!exchange->has_owner && request_none_open())
        turn_unasked();
}

/* Of a connection with many streams, whoever sends sends what all have given it; what was noted for the connection, and who made it, says nothing of one
 * stream (streams.h). */
static void decide_stream(struct conn *conn, struct exchange *exchange)
{
    bool known = ctx_current(&exchange->owner);
    bool made_elsewhere = conn->parse.served == 0 && conn->connect_async && known && !ctx_is_of_runtime(&exchange->owner) &&
                          !(conn->origin.has_parent && ctx_same_request(&conn->origin, &exchange->owner));
    exchange->has_owner = streams_certain(conn, known ? &exchange->owner : NULL) && !made_elsewhere;
    exchange->parent_rule = exchange->has_owner ? exchange->owner.rule : OTSHIM_PARENT_NONE;
}

static void decide_connection(struct conn *conn, struct exchange *exchange, const struct exchange_writer *writer)
{
    bool first = conn->parse.served == 0, certain = false;
    if (writer != NULL) {
        exchange->has_owner = writer->known;
        exchange->owner = writer->ctx;
    } else if (handed_over(conn, &exchange->owner)) {
        exchange->has_owner = certain = true;
    } else {
        exchange->has_owner = ctx_current(&exchange->owner) || written_for(conn, &exchange->owner);
    }
    /* A connection that was made without waiting is written to when the loop finds it writable, between other events: what the thread read
     * last is then somebody else's. connect() was called for the request, or for nobody. */
    if (first && conn->connect_async && !certain && !(exchange->has_owner && ctx_is_of_runtime(&exchange->owner)))
        exchange->has_owner = false;
    exchange->parent_rule = exchange->has_owner ? exchange->owner.rule : OTSHIM_PARENT_NONE;
    /* A runtime's "for nobody" is an answer: the one for whom a pool makes a connection need not be the first to use it. */
    if (!exchange->has_owner && first && conn->origin.has_parent && !ctx_is_of_runtime(&conn->origin)) {
        exchange->owner = conn->origin;
        exchange->has_owner = true;
        exchange->parent_rule = OTSHIM_PARENT_CONNECT;
    }
}

/* For whom is this outbound request made? Asked at its first byte, in the thread that sends it. */
void owner_decide(struct conn *conn, struct exchange *exchange, const struct exchange_writer *writer)
{
    bool first = conn->parse.served == 0;
    if (conn->parse.proto->streams)
        decide_stream(conn, exchange);
    else
        decide_connection(conn, exchange, writer);
    if (turn_in() && writer == NULL)
        turn_call(exchange);
    if (exchange->has_owner) {
        request_call_begin(&exchange->owner);
        exchange->calling = true;
        exchange->ctx = exchange->owner;
        memcpy(exchange->parent_id, exchange->owner.span_id, sizeof exchange->parent_id);
        ids_span(exchange->ctx.span_id);
    } else if (first && !conn->origin.has_parent && conn->connect_start_ns != 0) {
        exchange->ctx = conn->origin; /* the ids that connect() promised */
    } else {
        ids_trace(exchange->ctx.trace_id);
        ids_span(exchange->ctx.span_id);
    }
    connect_call_end(conn);
    exchange->ctx.has_parent = true;
    exchange->ctx.trace_flags =
        sampler_decide(&config.sampler, exchange->has_owner ? &exchange->owner : NULL, exchange->ctx.trace_id);
    keep_site(conn, exchange, writer);
}

void owner_disown(struct exchange *exchange)
{
    if (!exchange->has_owner)
        return;
    if (exchange->calling)
        request_call_end(&exchange->owner);
    exchange->has_owner = exchange->calling = false;
    exchange->parent_rule = OTSHIM_PARENT_NONE;
    memset(exchange->parent_id, 0, sizeof exchange->parent_id);
    ids_trace(exchange->ctx.trace_id);
    exchange->ctx.trace_flags = sampler_decide(&config.sampler, NULL, exchange->ctx.trace_id);
    exchange->ctx.tracestate = 0;
}
