/* flow.c - from bytes to exchanges, and from exchanges to the context of the thread (design section 4, rule 2).
 *
 * The direction of the first bytes tells who the client is where nobody has told us (a descriptor that was passed or inherited). The protocol is
 * detected on the first bytes that the client sends; until they suffice they are kept, up to CONN_CARRY of them. */
#include "conn/flow.h"
#include "conn/defer.h"
#include "conn/exchange.h"
#include "conn/streams.h"
#include "conn/tls.h"
#include "context/turn.h"
#include "span/span.h"
#include <errno.h>
#include <string.h>

bool watch_lock(const struct watch *watch)
{
    if (!watch_holds(watch))
        return false;
    if (OTSHIM_UNLIKELY(!conn_lock(watch->conn)))
        return false;
    if (OTSHIM_UNLIKELY(!watch_holds(watch))) {
        conn_unlock(watch->conn);
        return false;
    }
    /* Left there by somebody who has not come to say so yet: before ours, in the order of the stream. */
    if (OTSHIM_UNLIKELY(atomic_load_explicit(&watch->conn->deferred, memory_order_relaxed) != NULL))
        defer_drain_locked(watch->conn);
    return true;
}

/* ---- feeding ---------------------------------------------------------------------------------------------------------------------- */

static void unknown_protocol(struct conn *conn)
{
    connect_settle_locked(conn, NULL, OTSHIM_END_COMPLETE);
    span_count(OTSHIM_COUNT_CONN_UNKNOWN);
    atomic_store_explicit(&conn->phase, CONN_PASS, memory_order_relaxed);
}

static const struct proto_ops *detect(const char *bytes, size_t len, bool *maybe)
{
    *maybe = false;
    for (const struct proto_ops *const *at = proto_table; *at != NULL; at++) {
        enum proto_match match = (*at)->detect(PROTO_REQUEST, bytes, len);
        if (match == PROTO_YES)
            return *at;
        if (match == PROTO_MAYBE)
            *maybe = true;
    }
    return NULL;
}

/* The server speaks first: with streams it may. */
static const struct proto_ops *detect_server(const char *bytes, size_t len)
{
    for (const struct proto_ops *const *at = proto_table; *at != NULL; at++)
        if ((*at)->streams && (*at)->detect(PROTO_RESPONSE, bytes, len) == PROTO_YES)
            return *at;
    return NULL;
}

/* The parser's state is set up; false: there is no memory for it. */
static bool begin_parsing(struct conn *conn, const struct proto_ops *proto)
{
    struct conn_parse *parse = &conn->parse;
    if (proto->streams && !streams_begin(conn)) {
        span_count(OTSHIM_COUNT_CONN_POOL_FULL);
        atomic_store_explicit(&conn->phase, CONN_PASS, memory_order_relaxed);
        return false;
    }
    parse->proto = proto;
    if (!proto->streams)
        memset(parse->state, 0, proto->state_bytes);
    proto->init(parse_state(parse));
    atomic_store_explicit(&conn->phase, CONN_PARSE, memory_order_relaxed);
    return true;
}

/* The protocol, if the bytes are to be parsed now: it is known, and the carry has been fed. NULL: they are not. */
static const struct proto_ops *detect_locked(struct flow *flow, const char *bytes, size_t len)
{
    struct conn *conn = flow->conn;
    struct conn_parse *parse = &conn->parse;
    char head[2 * CONN_CARRY];
    if (flow->dir != PROTO_REQUEST) {
        const struct proto_ops *server = detect_server(bytes, len);
        if (server == NULL)
            unknown_protocol(conn);
        return server != NULL && begin_parsing(conn, server) ? server : NULL;
    }
    size_t take = len < CONN_CARRY ? len : CONN_CARRY;
    memcpy(head, parse->carry, parse->carry_len);
    memcpy(head + parse->carry_len, bytes, take);
    bool maybe, maybe_tls;
    if (!conn->is_plain &&
        (parse->carry_len == 0 ? tls_is_hello(bytes, len, &maybe_tls) : tls_is_hello(head, parse->carry_len + take, &maybe_tls))) {
        tls_sealed(conn, flow->fd);
        return NULL;
    }
    /* All that there is, where nothing was kept of earlier calls: an uncommon method is told only by what follows its target. */
    const struct proto_ops *proto =
        parse->carry_len == 0 ? detect(bytes, len, &maybe) : detect(head, parse->carry_len + take, &maybe);
    if (proto == NULL) {
        if (!maybe || parse->carry_len + len > CONN_CARRY) {
            unknown_protocol(conn);
        } else {
            memcpy(parse->carry + parse->carry_len, bytes, len);
            parse->carry_len = (uint8_t)(parse->carry_len + len);
            parse->position[PROTO_REQUEST] += len;
        }
        return NULL;
    }
    if (proto->client_only && conn->role == CONN_INBOUND) {
        atomic_store_explicit(&conn->phase, CONN_PASS, memory_order_relaxed);
        return NULL;
    }
    if (!begin_parsing(conn, proto))
        return NULL;
    if (parse->carry_len > 0) {
        struct flow_insertion *insertion = flow->insertion;
        size_t carried = parse->carry_len;
        parse->carry_len = 0;
        flow->position = parse->position[PROTO_REQUEST] - carried;
        flow->insertion = NULL; /* these bytes are gone */
        proto->feed(parse_state(parse), PROTO_REQUEST, head, carried, flow_on_event, flow);
        flow->insertion = insertion;
    }
    return proto;
}

void flow_feed_locked(struct flow *flow, enum proto_dir dir, const char *bytes, size_t len)
{
    struct conn *conn = flow->conn;
    struct conn_parse *parse = &conn->parse;
    flow->dir = dir;
    conn->feeds++;
    if (len == 0 || atomic_load_explicit(&conn->phase, memory_order_relaxed) == CONN_PASS)
        return;
    const struct proto_ops *proto = parse->proto != NULL ? parse->proto : detect_locked(flow, bytes, len);
    if (proto == NULL)
        return;
    flow->position = parse->position[dir];
    parse->position[dir] += len;
    proto->feed(parse_state(parse), dir, bytes, len, flow_on_event, flow);
}

void flow_skip_locked(struct flow *flow, enum proto_dir dir, uint64_t len)
{
    struct conn *conn = flow->conn;
    struct conn_parse *parse = &conn->parse;
    conn->feeds++;
    if (len == 0 || atomic_load_explicit(&conn->phase, memory_order_relaxed) == CONN_PASS)
        return;
    if (parse->proto == NULL) {
        unknown_protocol(conn);
        return;
    }
    flow->dir = dir;
    parse->position[dir] += len;
    flow->position = parse->position[dir]; /* there are no offsets in bytes that nobody saw: a message ends with the last of them */
    parse->proto->skip(parse_state(parse), dir, len, flow_on_event, flow);
}

/* Which errors of a read or write mean that the connection is over? The others are about the call. */
static bool is_fatal(int error)
{
    switch (error) {
    case ECONNRESET:
    case EPIPE:
    case ETIMEDOUT:
    case ECONNABORTED:
    case ECONNREFUSED:
    case ENETDOWN:
    case ENETUNREACH:
    case ENETRESET:
    case EHOSTDOWN:
    case EHOSTUNREACH:
    case EIO:
    case EPROTO: return true; /* said by TLS libraries (interpose/openssl.c, gnutls.c) */
    default: return false;
    }
}

void flow_result_locked(struct conn *conn, ssize_t result, int error)
{
    if (conn->connect == CONN_CONNECTING)
        connect_first_io_locked(conn, result, error);
    if (result < 0 && is_fatal(error))
        exchange_end_all(conn, OTSHIM_END_RESET, error);
}

/* ---- received ------------------------------------------------------------------------------------------------------------------------ */

/* Bytes of a request were read in a turn of a loop; exchange NULL: of none in particular. A thread that accepts a connection, or takes one
 * out of its loop by making it blocking, and then reads it where it may have to wait, is a worker until it waits for its loop again. One that has
 * blocking connections in its set (and reads what is there) is not. */
static void turn_inbound(const struct conn *conn, const struct exchange *exchange, bool blocking)
{
    if (blocking && atomic_load_explicit(&conn->blocks, memory_order_relaxed) == turn_number()) {
        turn_worker();
        return;
    }
    if (exchange != NULL && exchange->head_done)
        turn_about(exchange->ctx.span_id);
    else if (exchange == NULL || turn_mine.about)
        turn_stranger();
}

/* A thread that reads from an inbound connection works for the one request that is unanswered on it. Two of them (pipelining): which one the
 * program turns to next is its own affair, so neither. A head that is not complete has no identity yet. */
static const struct ctx *context_inbound(struct conn *conn, bool blocking)
{
    struct exchange *exchange = conn->oldest;
    bool one = exchange != NULL && exchange->next == NULL && exchange->fork_generation == otshim_fork_generation;
    if (turn_in())
        turn_inbound(conn, one ? exchange : NULL, blocking);
    if (one && exchange->head_done) {
        ctx_enter(&exchange->ctx);
        if (conn->runtime != NULL)
            runtime_conn_set(conn->runtime, &exchange->ctx);
        return &exchange->ctx;
    }
    if (exchange != NULL || !request_outlives_response()) /* else: a rest of what was answered already */
        ctx_clear();
    return NULL;
}

/* What a runtime is told once the lock is given back: it may wait for a lock of its own. */
struct runtime_news {
    struct runtime_ref conn;
    bool inbound, known;
    struct ctx ctx;
};

static void news_inbound(struct runtime_news *news, const struct conn *conn, const struct ctx *ctx)
{
    if (OTSHIM_LIKELY(runtime_listening() == NULL))
        return;
    news->inbound = true;
    news->conn = runtime_ref(conn->runtime);
    news->known = ctx != NULL;
    if (ctx != NULL)
        news->ctx = *ctx;
}

static void news_tell(const struct runtime_news *news)
{
    const struct runtime_listener *listener = runtime_listening();
    if (OTSHIM_LIKELY(listener == NULL))
        return;
    if (news->inbound)
        listener->received(&news->conn, news->known ? &news->ctx : NULL);
    else
        listener->idle();
}

/* Bytes that we do not understand. Inbound: somebody's request, whose we cannot say. Outbound: the answer to whoever wrote last, if
 * that is the thread's own request; any other is not known. */
static void context_unparsed(struct conn *conn)
{
    struct ctx now;
    if (conn->send_closed && request_outlives_response())
        return; /* read away: no request comes by it */
    if (conn->role != CONN_OUTBOUND || !ctx_current(&now) || !conn->origin.has_parent || !ctx_same_request(&now, &conn->origin))
        ctx_clear();
}

static void context_outbound(struct flow *flow)
{
    struct ctx owner, now;
    if (!flow->response_read)
        return; /* nobody waits for these bytes (a 408 on an idle connection): they tell nothing */
    if (turn_in())
        turn_answer(flow->response_has_owner ? flow->response_owner.span_id : NULL);
    if (!flow->response_has_owner) {
        ctx_clear();
        return;
    }
    owner = flow->response_owner;
    if (ctx_is_of_runtime(&owner)) {
        /* It is asked again: the thread may have gone on to something else, which no read of ours would tell. But for those who say so when it
         * does, and until then leave it in this context (context/jvm). */
        if (!(ctx_peek(&now) && now.rule == owner.rule && ctx_same_request(&now, &owner)))
            ctx_clear();
        return;
    }
    if (owner.rule != OTSHIM_PARENT_INHERITED && owner.rule != OTSHIM_PARENT_ENVIRON)
        owner.rule = OTSHIM_PARENT_THREAD;
    ctx_enter(&owner);
}

static void set_role(struct conn *conn, uint8_t role)
{
    if (conn->role != CONN_UNKNOWN)
        return;
    conn->role = role;
    if (role == CONN_INBOUND && conn->runtime == NULL &&
        runtime_listening() != NULL) /* passed on to this process: not seen at accept() */
        conn->runtime = runtime_conn_new();
}

static void end_of_stream(struct flow *flow)
{
    struct conn *conn = flow->conn;
    struct conn_parse *parse = &conn->parse;
    bool parsed = atomic_load_explicit(&conn->phase, memory_order_relaxed) == CONN_PARSE;
    conn->feeds++;
    if (conn->role == CONN_INBOUND) {
        /* The peer may have shut down its sending side only: what is complete can still be answered. */
        if (parsed)
            parse->proto->eof(parse_state(parse), PROTO_REQUEST, flow_on_event, flow);
        if (parsed && parse->proto->streams)
            exchange_end_all(conn, OTSHIM_END_PEER_CLOSED, 0); /* open streams end with the connection */
        else if (conn->newest != NULL && parse->request_open)
            exchange_end(conn, conn->newest, OTSHIM_END_PEER_CLOSED, 0, flow_now(flow), NULL);
        return;
    }
    flow->position = parse->position[PROTO_RESPONSE];
    if (parsed)
        parse->proto->eof(parse_state(parse), PROTO_RESPONSE, flow_on_event, flow);
    while (conn->oldest != NULL)
        flow_end_exchange(flow, conn->oldest, OTSHIM_END_PEER_CLOSED, 0);
    connect_call_end(conn);
}

/* The first `len` bytes of the pieces; none (iovcnt 0): nobody saw them. */
static void feed_pieces(struct flow *flow, enum proto_dir dir, const struct iovec *iov, size_t iovcnt, size_t len)
{
    if (iovcnt == 0)
        flow_skip_locked(flow, dir, len);
    for (size_t i = 0; i < iovcnt && len > 0; i++) {
        size_t piece = iov[i].iov_len < len ? iov[i].iov_len : len;
        flow_feed_locked(flow, dir, iov[i].iov_base, piece);
        flow->base += piece;
        len -= piece;
    }
}

/* Somebody else has the lock, so these bytes may begin another request than the one that a runtime would be told of. What the connection
 * refers to is never unmapped; if it is another's by now, that one loses a parent. */
static void unseen_inbound(const struct conn *conn)
{
    struct runtime_conn *runtime = conn->role == CONN_INBOUND ? conn->runtime : NULL;
    if (runtime != NULL)
        runtime_conn_set(runtime, NULL);
}

static void received(const struct watch *watch, const struct iovec *iov, size_t iovcnt, ssize_t result, size_t asked, bool unseen,
                     bool blocking)
{
    struct conn *conn = watch->conn;
    int error = errno;
    if (result < 0 && (error == EAGAIN || error == EINTR))
        return;
    if (atomic_load_explicit(&conn->phase, memory_order_relaxed) == CONN_PASS && conn->connect == CONN_CONNECTED) {
        if (result > 0 && watch_holds(watch)) {
            context_unparsed(conn);
            if (conn->plain != NULL && !unseen)
                tls_received(conn, iov, iovcnt, (size_t)result);
        }
        return;
    }
    if (!watch_lock(watch)) {
        if (result > 0) {
            ctx_clear();
            unseen_inbound(conn);
            defer_bytes(watch, conn->role == CONN_OUTBOUND ? PROTO_RESPONSE : PROTO_REQUEST, unseen ? NULL : iov, iovcnt, 0,
                        (size_t)result);
        }
        errno = error;
        return;
    }
    struct flow flow;
    flow_begin(&flow, conn, watch->fd);
    flow.blocking = blocking;
    struct runtime_news news;
    news.inbound = false;
    flow_result_locked(conn, result, error);
    if (result > 0) {
        set_role(conn, CONN_INBOUND);
        enum proto_dir dir = conn->role == CONN_INBOUND ? PROTO_REQUEST : PROTO_RESPONSE;
        feed_pieces(&flow, dir, iov, unseen ? 0 : iovcnt, (size_t)result);
        if (atomic_load_explicit(&conn->phase, memory_order_relaxed) == CONN_PASS && !flow.response_read)
            context_unparsed(conn);
        else if (conn->role == CONN_INBOUND)
            news_inbound(&news, conn, context_inbound(conn, blocking));
        else
            context_outbound(&flow);
    } else if (result == 0 && asked > 0) {
        end_of_stream(&flow);
    }
    if (result > 0 && conn->plain != NULL && !unseen)
        tls_received(conn, iov, iovcnt, (size_t)result);
    conn_unlock(conn);
    news_tell(&news);
    errno = error;
}

void flow_received(const struct watch *watch, const struct iovec *iov, size_t iovcnt, ssize_t result, size_t asked, bool blocking)
{
    received(watch, iov, iovcnt, result, asked, false, blocking);
}

void flow_received_unseen(const struct watch *watch, ssize_t result, size_t asked)
{
    received(watch, NULL, 0, result, asked, true, false);
}

/* ---- sent ---------------------------------------------------------------------------------------------------------------------------- */

/* Whose bytes are these? For reads of a connection that is not parsed (above), and for the wait family. */
void flow_note_writer_locked(struct conn *conn)
{
    if (conn->role == CONN_INBOUND || conn->connect == CONN_CONNECTING ||
        (conn->connect == CONN_CONNECT_HELD && conn->parse.served == 0))
        return; /* .origin is still connect()'s */
    connect_call_end(conn);
    if (!ctx_current(&conn->origin))
        conn->origin.has_parent = false;
}

static void sent(const struct watch *watch, const struct iovec *iov, size_t iovcnt, ssize_t result, bool unseen)
{
    struct conn *conn = watch->conn;
    int error = errno;
    if (result == 0 || (result < 0 && (error == EAGAIN || error == EINTR)))
        return;
    if (atomic_load_explicit(&conn->phase, memory_order_relaxed) == CONN_PASS && conn->role == CONN_INBOUND)
        return;
    if (!watch_lock(watch)) {
        if (result > 0)
            defer_bytes(watch, conn->role == CONN_INBOUND ? PROTO_RESPONSE : PROTO_REQUEST, unseen ? NULL : iov, iovcnt, 0,
                        (size_t)result);
        errno = error;
        return;
    }
    struct flow flow;
    flow_begin(&flow, conn, watch->fd);
    flow_result_locked(conn, result, error);
    if (result > 0) {
        set_role(conn, CONN_OUTBOUND);
        enum proto_dir dir = conn->role == CONN_OUTBOUND ? PROTO_REQUEST : PROTO_RESPONSE;
        feed_pieces(&flow, dir, iov, unseen ? 0 : iovcnt, (size_t)result);
        if (atomic_load_explicit(&conn->phase, memory_order_relaxed) == CONN_PASS)
            flow_note_writer_locked(conn);
    }
    conn_unlock(conn);
    errno = error;
}

void flow_sent(const struct watch *watch, const struct iovec *iov, size_t iovcnt, ssize_t result)
{
    sent(watch, iov, iovcnt, result, false);
}

void flow_sent_unseen(const struct watch *watch, ssize_t result)
{
    sent(watch, NULL, 0, result, true);
}

/* ---- shutdown and close ---------------------------------------------------------------------------------------------------------------- */

/* The program ends its sending direction: a response that ends with the connection is complete now. With the lock. */
void flow_send_closed_locked(struct conn *conn)
{
    struct flow flow = {.conn = conn};
    struct conn_parse *parse = &conn->parse;
    enum proto_dir dir = conn->role == CONN_INBOUND ? PROTO_RESPONSE : PROTO_REQUEST;
    conn->feeds++;
    if (atomic_load_explicit(&conn->phase, memory_order_relaxed) != CONN_PARSE)
        return;
    flow.position = parse->position[dir];
    parse->proto->eof(parse_state(parse), dir, flow_on_event, &flow);
    if (conn->role == CONN_INBOUND)
        exchange_end_all(conn, OTSHIM_END_LOCAL_CLOSED, 0);
}
