/* events.c - what a parser says of a connection whose messages come one after the other, and what that means for its exchanges. Requests are the newest's, responses the
 * oldest's. (Where a protocol has many at a time: streams.c.) */
#include "base/raw.h"
#include "conn/exchange.h"
#include "conn/flow.h"
#include "conn/owner.h"
#include "conn/streams.h"
#include "context/turn.h"
#include "span/span.h"
#include <fcntl.h>
#include <string.h>

/* Is this stack the call site of a client call that was slow or failed? Only where this thread sent the request and sits in a read that may
 * block. On a non-blocking socket the read is made from an event loop, and its stack says nothing about who wanted the response. */
static bool waits_here(struct flow *flow, const struct exchange *exchange, bool failed)
{
    if (!flow->blocking || exchange->side != CONN_OUTBOUND || exchange->thread != (uintptr_t)&otshim_quiet)
        return false;
    if (!stack_wanted(flow_now(flow) - exchange->start_ns, failed))
        return false;
    long flags = raw_syscall3(SYS_fcntl, flow->fd, F_GETFL, 0);
    return flags >= 0 && !(flags & O_NONBLOCK);
}

/* Not inlined: the events before an END need no such room on the stack. */
void flow_end_exchange(struct flow *flow, struct exchange *exchange, uint8_t end, int error)
{
    struct call_site site;
    if (exchange->site != NULL || !waits_here(flow, exchange, exchange_failed(exchange, end))) {
        exchange_end(flow->conn, exchange, end, error, flow_now(flow), NULL);
        return;
    }
    call_site_here(&site);
    exchange_end(flow->conn, exchange, end, error, flow_now(flow), &site);
    call_site_done(&site);
}

/* The queue of exchanges ends with those that have none: the next one that has must wait until these are answered. */
static struct exchange *pass_over(void)
{
    span_count(OTSHIM_COUNT_EXCHANGE_FULL);
    return NULL;
}

/* A second one in the same call: whose they are is not known, if the program sends some for others. */
static void note_begun(struct flow *flow, struct exchange *exchange)
{
    const struct runtime_listener *listener = runtime_listening();
    if (OTSHIM_LIKELY(listener == NULL || !listener->sends_for_others) || !exchange->has_owner ||
        !ctx_is_of_runtime(&exchange->owner))
        return;
    if (flow->begun == NULL) {
        flow->begun = exchange;
        return;
    }
    owner_disown(flow->begun);
    owner_disown(exchange);
}

static void on_request(struct flow *flow, const struct proto_event *event)
{
    struct conn *conn = flow->conn;
    struct conn_parse *parse = &conn->parse;
    if (event->type == PROTO_BEGIN) {
        /* The carry of an earlier call may hold its first bytes; the time is then that of this call, which the parser could tell the
         * protocol from. */
        struct exchange *exchange =
            parse->unwatched == 0 ? exchange_begin(conn, conn->role, flow_now(flow), flow->writer) : pass_over();
        if (exchange == NULL && !parse->proto->passes_over) {
            conn_pass_locked(conn, OTSHIM_END_LOST, 0);
            return;
        }
        if (exchange == NULL) {
            parse->unwatched++;
            parse->served++;
            return;
        }
        if (parse->proto->passes_over)
            note_begun(flow, exchange);
        exchange->request_from = flow->position + (uint64_t)event->offset;
        parse->served++;
        parse->request_open = parse->in_head = true;
        return;
    }
    struct exchange *exchange = conn->newest;
    if (event->type == PROTO_END)
        parse->request_open = parse->in_head = false;
    /* Its response was complete before the request was (an early refusal): the span is written, the rest of the request is nobody's. */
    if (exchange == NULL || (event->type != PROTO_END && !parse->request_open) || exchange->request_bytes != 0)
        return;
    if (event->type == PROTO_FIELD) {
        exchange_text(exchange, event);
    } else if (event->type == PROTO_HEAD) {
        parse->in_head = false;
        exchange_head(conn, exchange, event->version);
        if (flow->insertion != NULL && parse->proto->inject != NULL && conn->role == CONN_OUTBOUND && !exchange->own_header &&
            !exchange->injected) {
            /* A piece before this one may hold it: still before us, if it is one of this call. */
            ptrdiff_t at = (ptrdiff_t)flow->base + event->insert_at;
            if (at >= 0 && flow->insertions < FLOW_INSERTIONS)
                flow->insertion[flow->insertions++] =
                    (struct flow_insertion){.at = (size_t)at, .stream = event->stream, .exchange = exchange};
        }
    } else if (event->type == PROTO_END) {
        exchange->request_bytes = flow->position + (uint64_t)event->offset - exchange->request_from;
        exchange->request_body_bytes = event->body_bytes;
        if (exchange->side == CONN_INBOUND)
            request_complete(&exchange->request);
    }
}

/* The server closes the connection after this response, and a proxy goes on with its own only then (nginx, of FastCGI). */
static void call_until_closed(struct conn *conn, struct exchange *exchange)
{
    if (!exchange->calling)
        return;
    exchange->calling = false;
    conn->origin = exchange->owner;
    conn->connect_calls = true;
}

/* The response of a request has begun. */
static void answers(const struct flow *flow, struct exchange *exchange)
{
    request_answered(&exchange->request);
    if (flow->writer == NULL && exchange->fork_generation == otshim_fork_generation &&
        request_is_from_elsewhere(&exchange->request))
        ctx_hands_over();
}

void flow_note_owner(struct flow *flow, const struct exchange *exchange)
{
    if (flow->conn->role != CONN_OUTBOUND)
        return;
    if (!flow->response_read) {
        flow->response_read = true;
        flow->response_has_owner = exchange->has_owner;
        if (exchange->has_owner)
            flow->response_owner = exchange->owner;
    } else if (flow->response_has_owner && !(exchange->has_owner && ctx_same_request(&exchange->owner, &flow->response_owner))) {
        flow->response_has_owner = false;
    }
}

/* To a request that was passed over: whose it was is not known. */
static void unwatched_response(struct flow *flow, const struct proto_event *event)
{
    struct conn_parse *parse = &flow->conn->parse;
    if (parse->unwatched == 0)
        return;
    flow->response_read = true;
    flow->response_has_owner = false;
    if (event->type == PROTO_END)
        parse->unwatched--;
}

static void on_response(struct flow *flow, const struct proto_event *event)
{
    struct conn *conn = flow->conn;
    struct exchange *exchange = conn->oldest;
    if (event->type == PROTO_BEGIN)
        conn->parse.response_open = true;
    if (event->type == PROTO_END && !event->interim)
        conn->parse.response_open = false;
    if (exchange == NULL) {
        unwatched_response(flow, event);
        return;
    }
    flow_note_owner(flow, exchange);
    switch (event->type) {
    case PROTO_FIELD:
        if (event->field == PROTO_ERROR_TEXT && exchange->head_done) /* else it would get among the request's own texts */
            exchange_text(exchange, event);
        break;
    case PROTO_BEGIN:
        if (!exchange->response_begun)
            exchange->response_from = flow->position + (uint64_t)event->offset;
        exchange->response_begun = true;
        exchange->response_begin_ns = flow_now(flow);
        if (turn_in() && exchange->side == CONN_INBOUND && flow->writer == NULL)
            turn_about(exchange->ctx.span_id);
        break;
    case PROTO_HEAD:
        exchange->status = event->status;
        exchange->failed = event->status == 0 && event->failed;
        /* 1xx but 101 are interim: RFC 9110 15.2; 0: a protocol that has none */
        if (event->status >= 200 || event->status == 101 || event->status == 0) {
            exchange->first_byte_ns = exchange->response_begin_ns;
            if (exchange->side == CONN_INBOUND)
                answers(flow, exchange);
        }
        break;
    case PROTO_END:
        if (event->interim)
            break;
        exchange->response_bytes = flow->position + (uint64_t)event->offset - exchange->response_from;
        exchange->response_body_bytes = event->body_bytes;
        if (exchange->side == CONN_INBOUND) {
            uint8_t span_id[8];
            memcpy(span_id, exchange->ctx.span_id, sizeof span_id);
            exchange_end(conn, exchange, OTSHIM_END_COMPLETE, 0, flow_now(flow), NULL);
            if (!request_outlives_response())
                ctx_leave(span_id);
        } else {
            if (event->last)
                call_until_closed(conn, exchange);
            flow_end_exchange(flow, exchange, OTSHIM_END_COMPLETE, 0);
        }
        break;
    default: break;
    }
}

static void on_switch(struct flow *flow)
{
    struct conn *conn = flow->conn;
    span_count(OTSHIM_COUNT_CONN_UPGRADED);
    if (conn->oldest != NULL)
        exchange_end(conn, conn->oldest, OTSHIM_END_UPGRADED, 0, flow_now(flow), NULL);
    conn_pass_locked(conn, OTSHIM_END_LOST, 0);
}

void flow_on_event(void *arg, const struct proto_event *event)
{
    struct flow *flow = arg;
    if (atomic_load_explicit(&flow->conn->phase, memory_order_relaxed) == CONN_PASS)
        return;
    if (event->type == PROTO_LOST) {
        span_count(OTSHIM_COUNT_CONN_LOST);
        conn_pass_locked(flow->conn, OTSHIM_END_LOST, 0);
    } else if (event->type == PROTO_SWITCH) {
        on_switch(flow);
    } else if (flow->conn->parse.proto->streams) {
        streams_event(flow, event);
    } else if (event->dir == PROTO_REQUEST) {
        on_request(flow, event);
    } else {
        on_response(flow, event);
    }
}
