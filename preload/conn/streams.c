/* streams.c - see streams.h.
 *
 * Putting a traceparent in. It goes to the end of a header block, as a field that touches no table, and the frame that it is in grows by so much: the
 * length in the frame's header has to say so. TLS takes a write whole (conn/tls_write.h). Of a socket that takes a part and stops inside such a frame, the rest of it
 * is a debt, which whatever is sent next on the connection pays first; see taken_of(). Only for blocks that lie in one call whole. */
#include "conn/streams.h"
#include "base/pool.h"
#include "conn/defer.h"
#include "conn/owner.h"
#include "interpose/real.h"
#include "proto/http2.h"
#include "span/span.h"
#include <errno.h>
#include <string.h>

#define RECENT 16u
#define STREAMS_BUSY_BYTES 32768u /* four deferrals (state.h) */

struct stream_state {
    struct http2 parser; /* first: what .large points to */
    uintptr_t thread;    /* that opened a stream first */
    bool shared;         /* another one has, too */
    uint32_t next;
    uint8_t recent[RECENT][8]; /* span ids of the requests that had a stream last */
};
static struct pool states = POOL_INIT(sizeof(struct stream_state), 2, 16384);

bool streams_begin(struct conn *conn)
{
    struct stream_state *state = pool_get(&states);
    if (state != NULL)
        memset((char *)state + sizeof state->parser, 0, sizeof *state - sizeof state->parser);
    conn->parse.large = state;
    conn->parse.ahead = conn->parse.prepaid = 0;
    return conn->parse.large != NULL;
}

void streams_end(struct conn *conn)
{
    if (conn->parse.large != NULL)
        pool_put(&states, conn->parse.large);
    conn->parse.large = NULL;
}

bool streams_certain(struct conn *conn, const struct ctx *owner)
{
    struct stream_state *state = conn->parse.large;
    const uintptr_t thread = (uintptr_t)&otshim_quiet;
    if (state->thread == 0)
        state->thread = thread;
    state->shared |= state->thread != thread;
    if (owner == NULL || !(state->shared || ctx_is_of_runtime(owner)))
        return owner != NULL;
    bool lately = false;
    for (unsigned i = 0; i < RECENT; i++)
        lately |= memcmp(state->recent[i], owner->span_id, sizeof owner->span_id) == 0;
    memcpy(state->recent[state->next++ % RECENT], owner->span_id, sizeof owner->span_id);
    return !lately && conn->oldest == NULL;
}

/* A second block in one call: then the first is not the sender's for sure, either. */
static void note_begun(struct flow *flow, struct exchange *exchange)
{
    struct exchange *first = flow->begun;
    if (first == NULL) {
        flow->begun = exchange;
        return;
    }
    const struct stream_state *state = flow->conn->parse.large;
    if (first->has_owner && (state->shared || ctx_is_of_runtime(&first->owner)))
        owner_disown(first);
}

static struct exchange *find(const struct conn *conn, uint32_t stream)
{
    struct exchange *exchange = conn->oldest;
    while (exchange != NULL && exchange->stream != stream)
        exchange = exchange->next;
    return exchange;
}

/* ---- events ------------------------------------------------------------------------------------------------------------------------------------------ */

static void note_insertion(struct flow *flow, const struct proto_event *event, struct exchange *exchange)
{
    ptrdiff_t at = (ptrdiff_t)flow->base + event->insert_at, frame = (ptrdiff_t)flow->base + event->frame_at;
    if (flow->insertion == NULL || flow->conn->role != CONN_OUTBOUND || exchange->own_header || event->frame_bytes == 0 ||
        frame < 0 || flow->insertions == FLOW_INSERTIONS)
        return;
    flow->insertion[flow->insertions++] = (struct flow_insertion){.at = (size_t)at,
                                                                  .stream = event->stream,
                                                                  .exchange = exchange,
                                                                  .frame_at = (size_t)frame,
                                                                  .frame_bytes = event->frame_bytes};
}

static void on_request(struct flow *flow, const struct proto_event *event, struct exchange *exchange)
{
    struct conn *conn = flow->conn;
    switch (event->type) {
    case PROTO_BEGIN:
        exchange = exchange_begin(conn, conn->role, flow_now(flow), flow->writer);
        if (exchange == NULL)
            return; /* counted; the others go on */
        exchange->stream = event->stream;
        conn->parse.served++;
        if (exchange->side == CONN_OUTBOUND)
            note_begun(flow, exchange);
        break;
    case PROTO_FIELD:
        if (exchange != NULL)
            exchange_text(exchange, event);
        break;
    case PROTO_HEAD:
        if (exchange == NULL)
            return;
        exchange_head(conn, exchange, event->version);
        note_insertion(flow, event, exchange);
        break;
    case PROTO_END:
        if (exchange == NULL)
            return;
        exchange->request_bytes = event->wire_bytes;
        exchange->request_body_bytes = event->body_bytes;
        if (exchange->side == CONN_INBOUND)
            request_complete(&exchange->request);
        break;
    default: break;
    }
}

static void end(struct flow *flow, struct exchange *exchange, uint8_t how)
{
    uint8_t span_id[8];
    bool inbound = exchange->side == CONN_INBOUND;
    memcpy(span_id, exchange->ctx.span_id, sizeof span_id);
    exchange_end(flow->conn, exchange, how, 0, flow_now(flow), NULL);
    if (inbound && !request_outlives_response())
        ctx_leave(span_id);
}

static void on_response(struct flow *flow, const struct proto_event *event, struct exchange *exchange)
{
    flow_note_owner(flow, exchange);
    switch (event->type) {
    case PROTO_BEGIN:
        exchange->response_begun = true;
        exchange->response_begin_ns = flow_now(flow);
        break;
    case PROTO_FIELD: exchange_text(exchange, event); break;
    case PROTO_HEAD:
        exchange->status = event->status;
        exchange->first_byte_ns = exchange->response_begin_ns;
        if (exchange->side == CONN_INBOUND)
            request_answered(&exchange->request);
        break;
    case PROTO_END:
        exchange->response_bytes = event->wire_bytes;
        exchange->response_body_bytes = event->body_bytes;
        end(flow, exchange, OTSHIM_END_COMPLETE);
        break;
    default: break;
    }
}

void streams_event(struct flow *flow, const struct proto_event *event)
{
    struct exchange *exchange = find(flow->conn, event->stream);
    if (event->type == PROTO_RESET) {
        bool ours = (flow->conn->role == CONN_OUTBOUND) == (event->dir == PROTO_REQUEST);
        if (exchange != NULL)
            end(flow, exchange, ours ? OTSHIM_END_LOCAL_CLOSED : OTSHIM_END_PEER_CLOSED);
    } else if (event->dir == PROTO_REQUEST) {
        on_request(flow, event, exchange);
    } else if (exchange != NULL) {
        on_response(flow, event, exchange);
    }
}

/* ---- sending ------------------------------------------------------------------------------------------------------------------------------------------- */

bool streams_detect(const struct conn *conn, const struct iovec *iov, size_t iovcnt)
{
    if (conn->parse.proto != NULL)
        return conn->parse.proto->streams;
    return conn->parse.carry_len == 0 && iovcnt > 0 && iov[0].iov_len >= 16 && inject_readable(iov[0].iov_base, 16) &&
           http2_ops.detect(PROTO_REQUEST, iov[0].iov_base, 16) == PROTO_YES;
}

#define PIECES (INJECT_IOV_MAX + 4 * FLOW_INSERTIONS)

/* Where a piece of ours lies among the bytes that go out, and among the program's. */
struct part {
    size_t out_from, out_to; /* from its frame's header to its last byte */
    size_t at;               /* the program's byte before which it ends */
    uint32_t stream;
};

struct woven {
    struct iovec piece[PIECES];
    size_t count, total;
    unsigned parts;
    struct part part[FLOW_INSERTIONS];
    uint8_t header[FLOW_INSERTIONS][HTTP2_FRAME_HEADER];
    char text[FLOW_INSERTIONS][1024];
};

static void add(struct woven *w, const void *bytes, size_t len)
{
    if (len == 0)
        return;
    w->piece[w->count++] = (struct iovec){(void *)(uintptr_t)bytes, len};
    w->total += len;
}

/* The program's bytes from..to; into `copy` instead, if that is given. False: too many pieces. */
static bool add_range(struct woven *w, const struct iovec *iov, size_t iovcnt, size_t from, size_t to, uint8_t *copy)
{
    size_t at = 0;
    for (size_t i = 0; i < iovcnt && at < to; at += iov[i++].iov_len) {
        size_t end = at + iov[i].iov_len < to ? at + iov[i].iov_len : to, begin = at < from ? from : at;
        if (end <= begin)
            continue;
        const char *bytes = (const char *)iov[i].iov_base + (begin - at);
        if (copy != NULL)
            memcpy(copy + (begin - from), bytes, end - begin);
        else if (w->count + 3 > PIECES)
            return false;
        else
            add(w, bytes, end - begin);
    }
    return true;
}

/* The pieces with our fields in their header blocks. False: one does not fit its frame (RFC 9113 4.2: 16,384 bytes are always allowed). */
static bool weave(struct woven *w, const struct iovec *iov, size_t iovcnt, size_t len, const struct flow *flow)
{
    size_t at = 0;
    w->count = w->total = w->parts = 0;
    for (unsigned i = 0; i < flow->insertions; i++) {
        const struct flow_insertion *in = &flow->insertion[i];
        const size_t content = in->frame_at + HTTP2_FRAME_HEADER;
        size_t ours = inject_format(flow->conn->parse.proto, in, w->text[i], sizeof w->text[i]);
        size_t frame = in->frame_bytes + ours;
        if (ours == 0 || frame > 16384 || in->frame_at < at || !add_range(w, iov, iovcnt, at, in->frame_at, NULL))
            return false;
        add_range(w, iov, iovcnt, in->frame_at, content, w->header[i]);
        w->header[i][0] = (uint8_t)(frame >> 16);
        w->header[i][1] = (uint8_t)(frame >> 8);
        w->header[i][2] = (uint8_t)frame;
        w->part[i] = (struct part){.out_from = w->total, .at = in->at, .stream = in->stream};
        add(w, w->header[i], HTTP2_FRAME_HEADER);
        if (!add_range(w, iov, iovcnt, content, in->at, NULL))
            return false;
        add(w, w->text[i], ours);
        w->part[i].out_to = w->total;
        w->parts++;
        at = in->at;
    }
    return add_range(w, iov, iovcnt, at, len, NULL);
}

/* ---- a socket that takes a part ------------------------------------------------------------------------------------------------------------------------ */

/* The bytes that go out from..to, gathered. */
static size_t gather(const struct woven *w, size_t from, size_t to, char *out)
{
    size_t at = 0, len = 0;
    for (size_t i = 0; i < w->count && at < to; at += w->piece[i++].iov_len) {
        size_t end = at + w->piece[i].iov_len < to ? at + w->piece[i].iov_len : to, begin = at < from ? from : at;
        if (end <= begin)
            continue;
        memcpy(out + len, (const char *)w->piece[i].iov_base + (begin - at), end - begin);
        len += end - begin;
    }
    return len;
}

/* Of `sent` bytes, how many are the program's? When it stopped inside a frame of ours, the rest of that is a debt (inject.c). It is for the next call
 * to pay, so there must be one: the program's last byte before our field is left for it to send once more. It is out, or in the debt: prepaid. */
static size_t taken_of(const struct watch *watch, const struct woven *w, size_t sent, bool out[FLOW_INSERTIONS])
{
    size_t ours = 0;
    for (unsigned i = 0; i < w->parts; i++) {
        const struct part *part = &w->part[i];
        size_t field =
            part->out_to - ours - part->at; /* its length: what is out before it is the program's, and ours of earlier parts */
        out[i] = sent > part->out_from;
        if (sent <= part->out_from)
            return sent - ours;
        if (sent < part->out_to) {
            char rest[INJECT_DEBT_MAX];
            size_t len = gather(w, sent, part->out_to, rest);
            watch->conn->parse.prepaid = 1;
            inject_owe(watch, rest, len);
            return part->at - 1;
        }
        ours += field;
    }
    return sent - ours;
}

static bool debts_fit(const struct woven *w)
{
    for (unsigned i = 0; i < w->parts; i++)
        if (w->part[i].out_to - w->part[i].out_from > INJECT_DEBT_MAX)
            return false;
    return true;
}

/* As the program's own call would say it. out: which of ours have gone out, or will. */
static ssize_t send_parts(const struct watch *watch, const struct output *output, const struct woven *w, bool out[FLOW_INSERTIONS])
{
    struct msghdr msg = {.msg_iov = (struct iovec *)(uintptr_t)w->piece, .msg_iovlen = w->count};
    ssize_t sent = REAL(sendmsg)(watch->fd, &msg, output->flags);
    if (sent < 0 && errno == ENOTSOCK) {
        fd_forget(watch->fd, &watch->conn->object);
        return output->plain(output);
    }
    if (sent <= 0)
        return sent;
    int error = errno;
    size_t taken = taken_of(watch, w, (size_t)sent, out); /* never 0: a frame's header is the program's as well */
    errno = error;
    return (ssize_t)taken;
}

/* The program sends bytes of which the first one has gone out with a debt. */
static ssize_t send_prepaid(const struct watch *watch, const struct output *output, const struct iovec *iov, size_t iovcnt)
{
    struct iovec rest[INJECT_IOV_MAX];
    size_t count = 0, skip = 1;
    if (inject_settle(watch, output->flags) < 0)
        return -1;
    watch->conn->parse.prepaid = 0;
    for (size_t i = 0; i < iovcnt && count < INJECT_IOV_MAX; i++) {
        size_t leave = skip < iov[i].iov_len ? skip : iov[i].iov_len;
        skip -= leave;
        if (iov[i].iov_len > leave)
            rest[count++] = (struct iovec){(char *)iov[i].iov_base + leave, iov[i].iov_len - leave};
    }
    struct msghdr msg = {.msg_iov = rest, .msg_iovlen = count};
    int error = errno;
    ssize_t sent = count > 0 ? REAL(sendmsg)(watch->fd, &msg, output->flags) : 0;
    if (sent < 0)
        errno = error; /* a part was sent: no error */
    return 1 + (sent > 0 ? sent : 0);
}

/* ---- the call ---------------------------------------------------------------------------------------------------------------------------------------------- */

/* All that was not fed by an earlier call. */
static size_t feed(struct flow *flow, const struct iovec *iov, size_t iovcnt)
{
    size_t total = 0;
    for (size_t i = 0; i < iovcnt; i++) {
        size_t len = iov[i].iov_len, skip = 0;
        if (flow->conn->parse.ahead > total)
            skip = flow->conn->parse.ahead - total < len ? (size_t)(flow->conn->parse.ahead - total) : len;
        if (len > skip && !inject_readable((const char *)iov[i].iov_base + skip, len - skip))
            return total + skip; /* the kernel will refuse it */
        flow->base = total + skip;
        flow_feed_locked(flow, PROTO_REQUEST, (const char *)iov[i].iov_base + skip, len - skip);
        total += len;
    }
    return total;
}

/* With the lock: is there something to put in, and is it woven? */
static bool prepare(struct woven *w, const struct output *output, const struct iovec *iov, size_t iovcnt, size_t fed,
                    const struct flow *flow)
{
    if (flow->insertions == 0 || flow->conn->phase != CONN_PARSE || !weave(w, iov, iovcnt, fed, flow) ||
        (output->woven == NULL && !debts_fit(w)))
        return false;
    for (unsigned i = 0; i < flow->insertions; i++)
        flow->insertion[i].exchange->injected = true;
    return true;
}

/* Whole or not at all, where the output can do that. */
static ssize_t send_woven(const struct watch *watch, const struct output *output, const struct woven *w, size_t len,
                          bool out[FLOW_INSERTIONS])
{
    if (output->woven == NULL)
        return send_parts(watch, output, w, out);
    ssize_t sent = output->woven(output, w->piece, w->count, w->total);
    for (unsigned i = 0; i < w->parts; i++)
        out[i] = sent != 0;
    if (sent == 0)
        return output->plain(output);
    return sent < 0 ? -1 : (ssize_t)len;
}

/* .ahead and .prepaid are the sender's alone (one thread at a time sends on a stream of bytes, or there would be no stream): no lock. */
static void note_taken(const struct watch *watch, ssize_t result)
{
    struct conn_parse *parse = &watch->conn->parse;
    size_t taken = result > 0 ? (size_t)result : 0;
    if (watch_holds(watch))
        parse->ahead -= taken < parse->ahead ? taken : parse->ahead;
}

static void after_output(const struct watch *watch, const struct woven *w, ssize_t result, const bool out[FLOW_INSERTIONS])
{
    struct conn *conn = watch->conn;
    int error = errno;
    note_taken(watch, result);
    if (!watch_lock(watch))
        return; /* what was put in and did not go out is believed to have: a span says so that its header was sent */
    for (unsigned i = 0; i < w->parts; i++) {
        struct exchange *exchange = out[i] ? NULL : find(conn, w->part[i].stream);
        if (exchange != NULL)
            exchange->injected = false;
    }
    flow_result_locked(conn, result, error);
    conn_unlock(conn);
}

ssize_t streams_output(const struct watch *watch, const struct output *output, const struct iovec *iov, size_t iovcnt)
{
    struct conn *conn = watch->conn;
    struct flow_insertion insertion[FLOW_INSERTIONS];
    struct flow flow = {.conn = conn, .fd = watch->fd};
    struct woven w = {.parts = 0};
    bool out[FLOW_INSERTIONS] = {false};
    if (conn->role == CONN_UNKNOWN)
        conn->role = CONN_OUTBOUND;
    if (output->may_inject && iovcnt <= INJECT_IOV_MAX && (output->woven == NULL || output->iov == NULL) && conn->parse.ahead == 0)
        flow.insertion = insertion;
    size_t fed = feed(&flow, iov, iovcnt);
    if (fed > conn->parse.ahead)
        conn->parse.ahead = fed;
    bool woven = prepare(&w, output, iov, iovcnt, fed, &flow);
    if (!woven)
        w.parts = 0;
    conn_unlock(conn);
    ssize_t result = woven ? send_woven(watch, output, &w, fed, out) : output->plain(output);
    int error = errno;
    after_output(watch, &w, result, out);
    errno = error;
    return result;
}

/* The bytes that no earlier call has fed, left to the owner of the lock. */
static bool defer_rest(const struct watch *watch, const struct iovec *iov, size_t iovcnt)
{
    struct conn_parse *parse = &watch->conn->parse;
    size_t total = 0;
    for (size_t i = 0; i < iovcnt; i++) {
        if (!inject_readable(iov[i].iov_base, iov[i].iov_len))
            return false;
        total += iov[i].iov_len;
    }
    if (total <= parse->ahead)
        return true;
    if (total - parse->ahead > STREAMS_BUSY_BYTES)
        return false;
    defer_bytes(watch, PROTO_REQUEST, iov, iovcnt, (size_t)parse->ahead, total - (size_t)parse->ahead);
    parse->ahead = total;
    return true;
}

ssize_t streams_output_busy(const struct watch *watch, const struct output *output, const struct iovec *iov, size_t iovcnt)
{
    if (!defer_rest(watch, iov, iovcnt))
        conn_give_up(watch->conn);
    ssize_t result = output->plain(output);
    int error = errno;
    note_taken(watch, result);
    errno = error;
    return result;
}

ssize_t streams_output_prepaid(const struct watch *watch, const struct output *output, const struct iovec *iov, size_t iovcnt)
{
    struct conn *conn = watch->conn;
    if (watch_lock(watch)) {
        struct flow flow = {.conn = conn, .fd = watch->fd};
        size_t fed = conn->phase == CONN_PARSE ? feed(&flow, iov, iovcnt) : 0;
        if (fed > conn->parse.ahead)
            conn->parse.ahead = fed;
        conn_unlock(conn);
    } else if (!defer_rest(watch, iov, iovcnt)) {
        conn_give_up(conn);
    }
    ssize_t result = send_prepaid(watch, output, iov, iovcnt);
    int error = errno;
    note_taken(watch, result);
    errno = error;
    return result;
}
