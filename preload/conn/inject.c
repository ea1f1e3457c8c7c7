/* inject.c - looking ahead at what is about to be sent, and putting a traceparent into it.
 *
 * An outbound request is looked at before it is sent: its context must be known to be injected, and on a connection with a reader thread the
 * response may be there before the sending call has returned. So the bytes are fed to the parser first, as if the kernel had taken them all - which is
 * what happens, nearly always. When it took fewer, the parser's state of before is put back and the bytes really taken are fed
 * again; exchanges that this had begun wait as spares meanwhile and keep their ids, which may be on the wire already. If somebody else has
 * fed the connection in between, there is no way back and the connection is given up.
 *
 * Only request heads are looked at ahead. Content is fed after the call, from bytes that the kernel has found readable.
 *
 * Sending. The program's pieces and our lines go out by one sendmsg: never by writev, because a descriptor that was closed and reused behind
 * our back may be a file by now; sendmsg then says ENOTSOCK and nothing has happened. A "line" is what the protocol has for it, and stands
 * before the empty line (or empty record) that ends the head, so that bytes of the program's follow it. What the program is told is how many of *its* bytes were taken:
 *
 *     kernel stopped ...                      program is told           and then
 *     before our line                         those bytes               the line is put in by the next call
 *     inside our line, program bytes before   those bytes               the rest of the line is a debt
 *     inside our line, none before            what sending on says      (an error comes with the debt kept)
 *
 * A debt is sent first by whatever sends next on the connection. It is kept outside the lock, by atomic exchange: a connection that
 * has been given up still pays, or the program's request would be cut in the middle of a line that it knows nothing of. */
#include "conn/inject.h"
#include "base/config.h"
#include "base/pool.h"
#include "base/raw.h"
#include "conn/defer.h"
#include "conn/exchange.h"
#include "conn/streams.h"
#include "interpose/real.h"
#include "span/span.h"
#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <string.h>

#define PAGE_BYTES ((size_t)4096) /* the smallest there is: a larger one is tried in parts */
#define LINES_BYTES 1024u
#define BUSY_BYTES 8104u /* what one deferral holds */
#define VEC_MAX (INJECT_IOV_MAX + 2 * FLOW_INSERTIONS)

static struct pool debts = POOL_INIT(sizeof(struct debt), 8, CONN_LIMIT);

/* ---- readable? ---------------------------------------------------------------------------------------------------------------------- */

static _Atomic uintptr_t known_pages[1024];

/* FUTEX_CMP_REQUEUE that wakes none and moves none reads the word and does nothing else: EFAULT tells. (FUTEX_WAIT could swallow a
 * wake-up meant for the program, should the address be a futex of its.) */
static bool page_readable(uintptr_t page)
{
    _Atomic uintptr_t *known = &known_pages[(page / PAGE_BYTES) % (sizeof known_pages / sizeof *known_pages)];
    if (OTSHIM_LIKELY(atomic_load_explicit(known, memory_order_relaxed) == page))
        return true;
    long r = raw_syscall6(SYS_futex, (long)page, FUTEX_CMP_REQUEUE | FUTEX_PRIVATE_FLAG, 0, 0, (long)page, 0);
    if (r != 0 && r != -EAGAIN)
        return false;
    atomic_store_explicit(known, page, memory_order_relaxed);
    return true;
}

bool inject_readable(const void *bytes, size_t len)
{
    uintptr_t at = (uintptr_t)bytes;
    if (len == 0)
        return true;
    if (at < PAGE_BYTES || at + (len - 1) < at)
        return false;
    for (uintptr_t page = at & ~(PAGE_BYTES - 1); page <= at + (len - 1); page += PAGE_BYTES)
        if (!page_readable(page))
            return false;
    return true;
}

/* ---- debts -------------------------------------------------------------------------------------------------------------------------- */

static void debt_keep(struct conn *conn, struct debt *debt)
{
    struct debt *other = atomic_exchange_explicit(&conn->debt, debt, memory_order_acq_rel);
    if (other != NULL)
        pool_put(&debts, other);
}

void inject_drop_debt(struct conn *conn)
{
    debt_keep(conn, NULL);
}

int inject_settle(const struct watch *watch, int flags)
{
    struct conn *conn = watch->conn;
    if (OTSHIM_LIKELY(atomic_load_explicit(&conn->debt, memory_order_relaxed) == NULL))
        return 0;
    struct debt *debt = atomic_exchange_explicit(&conn->debt, NULL, memory_order_acq_rel);
    while (debt != NULL && debt->sent < debt->len) {
        ssize_t r = REAL(send)(watch->fd, debt->bytes + debt->sent, (size_t)(debt->len - debt->sent),
                               flags & (MSG_DONTWAIT | MSG_NOSIGNAL));
        if (r < 0 && errno == ENOTSOCK)
            break;
        if (r < 0) {
            int error = errno;
            debt_keep(conn, debt);
            errno = error;
            return -1;
        }
        debt->sent = (uint16_t)(debt->sent + r);
    }
    if (debt != NULL)
        pool_put(&debts, debt);
    return 0;
}

/* No memory for a debt: it has to be paid now, whatever that takes. Half a line on the wire is the one thing that must not stay. */
static void pay_at_once(int fd, const char *bytes, size_t len)
{
    while (len > 0) {
        ssize_t r = REAL(send)(fd, bytes, len, MSG_NOSIGNAL);
        if (r > 0) {
            bytes += r;
            len -= (size_t)r;
        } else if (errno == EAGAIN) {
            struct pollfd waits = {.fd = fd, .events = POLLOUT};
            raw_syscall6(SYS_ppoll, (long)&waits, 1, 0, 0, 0, 0);
        } else if (errno != EINTR) {
            return; /* the connection is gone, and the request with it */
        }
    }
}

void inject_owe(const struct watch *watch, const char *bytes, size_t len)
{
    struct debt *debt = pool_get(&debts);
    if (debt == NULL) {
        pay_at_once(watch->fd, bytes, len);
        return;
    }
    debt->sent = 0;
    debt->len = (uint16_t)len;
    memcpy(debt->bytes, bytes, len);
    if (watch_holds(watch))
        debt_keep(watch->conn, debt);
    else
        pool_put(&debts, debt); /* closed by another thread meanwhile */
}

/* ---- looking ahead ------------------------------------------------------------------------------------------------------------------ */

struct line {
    size_t at; /* before this byte of the program's */
    const char *text;
    size_t len;
    struct exchange *exchange;
};

struct ahead {
    size_t fed; /* bytes that the parser has seen ahead of the call */
    uint32_t feeds;
    uint8_t phase, role;
    struct exchange *newest; /* as it was */
    struct exchange_mark mark;
    struct conn_parse parse;
    struct line line[FLOW_INSERTIONS];
    unsigned lines;
    unsigned lines_out; /* of which at least a byte is on the wire */
    char text[LINES_BYTES];
};

/* Those with streams are not looked at ahead this way. */
static void parse_copy(struct conn_parse *to, const struct conn_parse *from)
{
    memcpy(to, from,
           offsetof(struct conn_parse, state) + (from->proto != NULL && from->large == NULL ? from->proto->state_bytes : 0));
}

size_t inject_format(const struct proto_ops *proto, const struct flow_insertion *insertion, char *out, size_t room)
{
    const struct ctx *ctx = &insertion->exchange->ctx;
    char parent[TRACEPARENT_LEN], state[OTSHIM_TRACESTATE_MAX];
    struct proto_carried carried = {
        .stream = insertion->stream, .parent = parent, .parent_len = sizeof parent, .state = state, .state_len = 0};
    traceparent_format(ctx, parent);
    if (ctx->tracestate != 0)
        carried.state_len = tracestate_get(ctx->tracestate, state, sizeof state);
    return proto->inject(&carried, out, room);
}

static void format_lines(struct ahead *ahead, const struct flow *flow, const struct flow_insertion *insertion)
{
    size_t used = 0;
    for (unsigned i = 0; i < flow->insertions; i++) {
        if (insertion[i].exchange == NULL)
            return;
        size_t len = inject_format(flow->conn->parse.proto, &insertion[i], ahead->text + used, LINES_BYTES - used);
        if (len == 0)
            return;
        insertion[i].exchange->injected = true;
        ahead->line[ahead->lines++] = (struct line){insertion[i].at, ahead->text + used, len, insertion[i].exchange};
        used += len;
    }
}

/* Page by page, each tried out before it is looked at, until the heads are over. */
static void feed_ahead(struct flow *flow, const struct iovec *iov, size_t iovcnt)
{
    struct conn *conn = flow->conn;
    for (size_t i = 0; i < iovcnt; i++) {
        const char *bytes = iov[i].iov_base;
        size_t left = iov[i].iov_len;
        while (left > 0) {
            size_t len = PAGE_BYTES - ((uintptr_t)bytes & (PAGE_BYTES - 1));
            len = len < left ? len : left;
            if (conn->phase == CONN_PASS || (conn->parse.request_open && !conn->parse.in_head) || !inject_readable(bytes, len))
                return;
            flow_feed_locked(flow, PROTO_REQUEST, bytes, len);
            flow->base += len;
            bytes += len;
            left -= len;
        }
    }
}

static void look_ahead(const struct watch *watch, const struct iovec *iov, size_t iovcnt, bool may_inject, struct ahead *ahead)
{
    struct conn *conn = watch->conn;
    struct flow_insertion insertion[FLOW_INSERTIONS];
    struct flow flow = {.conn = conn, .fd = watch->fd, .insertion = may_inject ? insertion : NULL};
    for (unsigned i = 0; i < FLOW_INSERTIONS; i++)
        insertion[i].exchange = NULL;
    ahead->phase = conn->phase;
    ahead->role = conn->role;
    ahead->newest = conn->newest;
    ahead->lines = ahead->lines_out = 0;
    parse_copy(&ahead->parse, &conn->parse);
    if (conn->newest != NULL)
        exchange_mark(conn->newest, &ahead->mark);
    if (conn->role == CONN_UNKNOWN)
        conn->role = CONN_OUTBOUND;
    feed_ahead(&flow, iov, iovcnt);
    ahead->fed = flow.base;
    ahead->feeds = conn->feeds;
    if (conn->phase == CONN_PASS)
        flow_note_writer_locked(conn);
    else
        format_lines(ahead, &flow, insertion);
}

/* With the lock: the kernel took fewer bytes than were fed. */
static void roll_back(struct conn *conn, const struct ahead *ahead)
{
    struct exchange *begun = ahead->newest != NULL ? ahead->newest->next : conn->oldest;
    atomic_store_explicit(&conn->phase, ahead->phase, memory_order_relaxed);
    conn->role = ahead->role;
    if (ahead->parse.large == NULL)
        streams_end(conn); /* a preface in two pieces, of which the second did not go out */
    parse_copy(&conn->parse, &ahead->parse);
    conn->newest = ahead->newest;
    if (ahead->newest != NULL) {
        ahead->newest->next = NULL;
        exchange_restore(ahead->newest, &ahead->mark);
    } else {
        conn->oldest = NULL;
    }
    conn->spare = begun;
    for (struct exchange *exchange = begun; exchange != NULL; exchange = exchange->next) {
        exchange_rewind(exchange);
        conn->exchanges--;
    }
}

static void feed_range(struct flow *flow, const struct iovec *iov, size_t iovcnt, size_t from, size_t to)
{
    size_t at = 0;
    for (size_t i = 0; i < iovcnt && at < to; at += iov[i++].iov_len) {
        size_t end = at + iov[i].iov_len;
        if (end <= from)
            continue;
        size_t begin = at < from ? from : at;
        end = end < to ? end : to;
        flow->base = begin;
        flow_feed_locked(flow, PROTO_REQUEST, (const char *)iov[i].iov_base + (begin - at), end - begin);
    }
}

/* After the call: the parser has seen ahead->fed bytes, the kernel has taken `result` of the program's. */
static void reconcile(const struct watch *watch, const struct iovec *iov, size_t iovcnt, const struct ahead *ahead, ssize_t result,
                      int error)
{
    struct conn *conn = watch->conn;
    size_t taken = result > 0 ? (size_t)result : 0;
    if (OTSHIM_LIKELY(result >= 0 && taken == ahead->fed && conn->connect != CONN_CONNECTING))
        return;
    if (!watch_lock(watch)) {
        if (taken > ahead->fed)
            defer_bytes(watch, PROTO_REQUEST, iov, iovcnt, ahead->fed, taken - ahead->fed);
        else if (taken < ahead->fed && watch_holds(watch))
            conn_give_up(watch->conn); /* the parser believes what did not happen */
        return;
    }
    struct flow flow = {.conn = conn, .fd = watch->fd};
    if (conn->phase == CONN_PASS) {
        /* unknown, given up, or lost: nothing depends on how far it got */
    } else if (taken > ahead->fed) {
        feed_range(&flow, iov, iovcnt, ahead->fed, taken);
    } else if (taken < ahead->fed && conn->feeds != ahead->feeds) {
        span_count(OTSHIM_COUNT_CONN_BUSY);
        conn_pass_locked(conn, OTSHIM_END_LOST, 0);
    } else if (taken < ahead->fed) {
        for (unsigned i = ahead->lines_out; i < ahead->lines; i++)
            ahead->line[i].exchange->injected = false; /* by a later call, then */
        roll_back(conn, ahead);
        feed_range(&flow, iov, iovcnt, 0, taken);
        while (conn->spare != NULL) {
            struct exchange *exchange = conn->spare;
            conn->spare = exchange->next;
            exchange_free(exchange);
        }
    }
    flow_result_locked(conn, result, error);
    conn_unlock(conn);
}

/* ---- sending ------------------------------------------------------------------------------------------------------------------------- */

/* The program's pieces with our lines between them. Returns how many pieces there are. */
static size_t weave(struct iovec *vec, const struct iovec *iov, size_t iovcnt, const struct ahead *ahead)
{
    size_t count = 0;
    size_t at = 0; /* of the program's bytes */
    unsigned next = 0;
    for (size_t i = 0; i < iovcnt; i++) {
        char *bytes = iov[i].iov_base;
        size_t left = iov[i].iov_len;
        while (next < ahead->lines && ahead->line[next].at < at + left) {
            size_t before = ahead->line[next].at - at;
            if (before > 0)
                vec[count++] = (struct iovec){bytes, before};
            vec[count++] = (struct iovec){(void *)ahead->line[next].text, ahead->line[next].len};
            bytes += before;
            left -= before;
            at += before;
            next++;
        }
        if (left > 0)
            vec[count++] = (struct iovec){bytes, left};
        at += left;
    }
    return count;
}

/* Of `sent` bytes woven together, how many are the program's? *line: the line inside which, or before which, it stopped, and how much of it is out. */
static size_t unweave(const struct ahead *ahead, size_t sent, unsigned *line, size_t *line_sent)
{
    size_t taken = 0;
    *line_sent = 0;
    for (*line = 0; *line < ahead->lines; ++*line) {
        const struct line *ours = &ahead->line[*line];
        if (sent <= ours->at - taken)
            return taken + sent;
        sent -= ours->at - taken;
        taken = ours->at;
        if (sent < ours->len) {
            *line_sent = sent;
            return taken;
        }
        sent -= ours->len;
    }
    return taken + sent;
}

static size_t sum(const struct iovec *iov, size_t count)
{
    size_t total = 0;
    for (size_t i = 0; i < count; i++)
        total += iov[i].iov_len;
    return total;
}

static ssize_t send_whole(const struct output *output, const struct iovec *vec, size_t count, const struct ahead *ahead)
{
    size_t total = sum(vec, count), ours = 0;
    ssize_t sent = output->woven(output, vec, count, total);
    for (unsigned i = 0; i < ahead->lines; i++) {
        ours += ahead->line[i].len;
        if (sent == 0)
            ahead->line[i].exchange->injected = false;
    }
    if (sent == 0)
        return output->plain(output);
    return sent < 0 ? -1 : (ssize_t)(total - ours);
}

static ssize_t send_woven(const struct watch *watch, const struct output *output, const struct iovec *iov, size_t iovcnt,
                          struct ahead *ahead)
{
    struct iovec vec[VEC_MAX];
    struct msghdr msg = {.msg_iov = vec, .msg_iovlen = weave(vec, iov, iovcnt, ahead)};
    if (output->woven != NULL)
        return send_whole(output, vec, msg.msg_iovlen, ahead);
    ssize_t sent = REAL(sendmsg)(watch->fd, &msg, output->flags);
    if (sent < 0 && errno == ENOTSOCK) {
        fd_forget(watch->fd, &watch->conn->object);
        return output->plain(output);
    }
    unsigned line = 0;
    size_t line_sent = 0;
    size_t taken = unweave(ahead, sent > 0 ? (size_t)sent : 0, &line, &line_sent);
    int error = errno;
    ahead->lines_out = line + (line_sent > 0);
    if (line_sent > 0)
        inject_owe(watch, ahead->line[line].text + line_sent, ahead->line[line].len - line_sent);
    errno = error;
    if (sent <= 0 || taken > 0)
        return sent <= 0 ? sent : (ssize_t)taken;
    /* Bytes of ours are out and none of the program's: there is nothing that it could be told yet. */
    if (inject_settle(watch, output->flags) < 0)
        return -1;
    return output->plain(output);
}

/* The program's pieces; false: it made a call that the kernel will refuse, or bytes that cannot be looked at. */
static bool pieces(const struct output *output, struct iovec *one, const struct iovec **iov, size_t *iovcnt)
{
    *one = (struct iovec){(void *)output->buf, output->len};
    *iov = output->iov != NULL ? output->iov : one;
    *iovcnt = output->iov != NULL ? output->iovcnt : 1;
    if (output->iov == NULL)
        return true;
    return output->iovcnt <= 1024 && inject_readable(output->iov, output->iovcnt * sizeof *output->iov); /* UIO_MAXIOV */
}

/* The connection is busy, so there is no line for this request. It is still left to the owner before it is sent: its response may be here first
 * otherwise. */
static ssize_t output_busy(const struct watch *watch, const struct output *output, const struct iovec *iov, size_t iovcnt)
{
    size_t total = 0;
    bool ahead = true;
    if (watch->conn->parse.large != NULL)
        return streams_output_busy(watch, output, iov, iovcnt);
    for (size_t i = 0; i < iovcnt && ahead; i++) {
        total += iov[i].iov_len;
        ahead = iov[i].iov_len <= BUSY_BYTES && total <= BUSY_BYTES && inject_readable(iov[i].iov_base, iov[i].iov_len);
    }
    ahead = ahead && watch->conn->role == CONN_OUTBOUND;
    if (ahead)
        defer_bytes(watch, PROTO_REQUEST, iov, iovcnt, 0, total);
    ssize_t result = output->plain(output);
    int error = errno;
    if (!ahead)
        flow_sent(watch, iov, iovcnt, result);
    else if (result != (ssize_t)total && watch_holds(watch))
        conn_give_up(watch->conn);
    errno = error;
    return result;
}

static __attribute__((noinline)) ssize_t output_request(const struct watch *watch, const struct output *output)
{
    struct iovec one;
    const struct iovec *iov;
    size_t iovcnt;
    struct ahead ahead;
    if (!pieces(output, &one, &iov, &iovcnt))
        return output->plain(output);
    if (!watch_lock(watch))
        return output_busy(watch, output, iov, iovcnt);
    if (streams_detect(watch->conn, iov, iovcnt))
        return streams_output(watch, output, iov, iovcnt);
    if (watch->conn->parse.request_open &&
        !watch->conn->parse.in_head) { /* content: nothing to put in, nothing that a response depends on */
        conn_unlock(watch->conn);
        ssize_t sent = output->plain(output);
        flow_sent(watch, iov, iovcnt, sent);
        return sent;
    }
    bool may_inject = output->may_inject && config.propagate_w3c && iovcnt <= INJECT_IOV_MAX;
    look_ahead(watch, iov, iovcnt, may_inject, &ahead);
    conn_unlock(watch->conn);

    ssize_t result = ahead.lines > 0 ? send_woven(watch, output, iov, iovcnt, &ahead) : output->plain(output);
    int error = errno;
    reconcile(watch, iov, iovcnt, &ahead, result, error);
    errno = error;
    return result;
}

static ssize_t output_prepaid(const struct watch *watch, const struct output *output)
{
    struct iovec one;
    const struct iovec *iov;
    size_t iovcnt;
    return pieces(output, &one, &iov, &iovcnt) ? streams_output_prepaid(watch, output, iov, iovcnt) : output->plain(output);
}

static bool is_empty(const struct output *output)
{
    return output->iov != NULL ? output->iovcnt == 0 : output->len == 0;
}

ssize_t inject_output(const struct watch *watch, const struct output *output)
{
    struct conn *conn = watch->conn;
    if (is_empty(output))
        return output->plain(output);
    if (inject_settle(watch, output->flags) < 0)
        return -1;
    if (OTSHIM_UNLIKELY(conn->parse.prepaid != 0) && watch_holds(watch))
        return output_prepaid(watch, output);
    if (conn->role != CONN_INBOUND && conn->phase != CONN_PASS && !(output->flags & MSG_OOB))
        return output_request(watch, output);
    ssize_t result = output->plain(output);
    if (output->flags & MSG_OOB)
        return result;
    struct iovec one;
    const struct iovec *iov;
    size_t iovcnt;
    pieces(output, &one, &iov, &iovcnt);
    flow_sent(watch, iov, iovcnt, result);
    return result;
}
