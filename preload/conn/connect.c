/* connect.c - connect(), from the call to its outcome, and the addresses of a connection.
 *
 * A blocking connect() tells its outcome itself. One in progress tells it later, by whichever comes first: getsockopt(SO_ERROR), a poll
 * that says POLLOUT, a second connect(), the first read or write.
 *
 * The span goes under the request that the thread worked for. If it worked for none, connection and first exchange are one story: the ids of
 * that exchange's span are made here, and a connect that succeeded waits until the exchange is known and becomes its child. If none
 * follows, or it turns out to belong to somebody else's trace, the connect is a root of its own and takes that span id itself, so that a look-up
 * which went under it still finds its parent. */
#include "base/config.h"
#include "conn/exchange.h"
#include "conn/flow.h"
#include "conn/intern.h"
#include "conn/names.h"
#include "context/turn.h"
#include "span/span.h"
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>

_Atomic uint32_t connects_pending;

bool conn_any_connecting(void)
{
    return atomic_load_explicit(&connects_pending, memory_order_relaxed) != 0;
}

/* ---- addresses ------------------------------------------------------------------------------------------------------------------- */

/* Unix: the path as a shared text, "@name" for an abstract one (unix(7)). */
static uint16_t unix_path(const struct sockaddr_un *un, socklen_t len)
{
    if (len <= offsetof(struct sockaddr_un, sun_path))
        return 0; /* unnamed */
    size_t room = len - offsetof(struct sockaddr_un, sun_path);
    if (room > sizeof un->sun_path)
        room = sizeof un->sun_path;
    if (un->sun_path[0] != '\0')
        return intern_put(un->sun_path, strnlen(un->sun_path, room));
    char name[sizeof un->sun_path];
    memcpy(name, un->sun_path, room);
    name[0] = '@';
    return intern_put(name, room);
}

void addr_from_sockaddr(struct otshim_addr *out, uint16_t *path, const struct sockaddr *addr, socklen_t len)
{
    memset(out, 0, sizeof *out);
    if (addr == NULL || len < sizeof(sa_family_t))
        return;
    if (addr->sa_family == AF_INET && len >= sizeof(struct sockaddr_in)) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)addr;
        out->family = 4;
        out->port = ntohs(in->sin_port);
        memcpy(out->bytes, &in->sin_addr, 4);
    } else if (addr->sa_family == AF_INET6 && len >= offsetof(struct sockaddr_in6, sin6_scope_id)) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)addr;
        out->family = 6;
        out->port = ntohs(in6->sin6_port);
        memcpy(out->bytes, &in6->sin6_addr, 16);
        /* A dual-stack socket shows IPv4 peers as ::ffff:a.b.c.d. */
        static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
        if (memcmp(out->bytes, mapped, sizeof mapped) == 0) {
            memmove(out->bytes, out->bytes + 12, 4);
            memset(out->bytes + 4, 0, 12);
            out->family = 4;
        }
    } else if (addr->sa_family == AF_UNIX) {
        out->family = 1;
        if (path != NULL)
            *path = unix_path((const struct sockaddr_un *)(const void *)addr, len);
    }
}

static uint16_t find_name(const struct sockaddr *addr)
{
    char name[OTSHIM_NAME_MAX];
    if (addr->sa_family == AF_UNIX)
        return 0;
    return intern_put(name, names_find(addr, name, sizeof name));
}

/* ---- the span ------------------------------------------------------------------------------------------------------------------------ */

static void write_connect(struct conn *conn, const struct ctx *parent, uint8_t rule, uint8_t end, const struct call_site *site)
{
    struct otshim_span_rec rec = {
        .start_ns = conn->connect_start_ns,
        .end_ns = conn->connect_end_ns,
        .kind = OTSHIM_SPAN_CONNECT,
        .transport = conn->transport,
        .trace_flags = conn->origin.trace_flags,
        .parent_rule = rule,
        .end = end,
        .error = conn->connect_error,
        .peer = conn->peer,
        .local = conn->local,
    };
    if (parent != NULL) {
        memcpy(rec.trace_id, parent->trace_id, sizeof rec.trace_id);
        memcpy(rec.parent_id, parent->span_id, sizeof rec.parent_id);
        ids_span(rec.span_id);
        rec.trace_flags = parent->trace_flags;
    } else {
        memcpy(rec.trace_id, conn->origin.trace_id, sizeof rec.trace_id);
        memcpy(rec.span_id, conn->origin.span_id, sizeof rec.span_id);
    }
    struct span_attr attrs[2 + CALL_SITE_ATTRS] = {{.key = OTSHIM_ATTR_SOCKET_PATH}, {.key = OTSHIM_ATTR_PEER_NAME}};
    size_t len;
    attrs[0].bytes = intern_get(conn->path, &len);
    attrs[0].len = (uint16_t)len;
    attrs[1].bytes = intern_get(conn->peer_name, &len);
    attrs[1].len = (uint16_t)len;
    span_write(&rec, attrs, 2 + call_site_attrs(site, attrs + 2));
}

/* A root span has used up the ids that the first exchange was promised. */
static void settle_as_root(struct conn *conn, uint8_t end, const struct call_site *site)
{
    write_connect(conn, NULL, OTSHIM_PARENT_NONE, end, site);
    conn->connect_start_ns = 0;
}

void connect_call_end(struct conn *conn)
{
    if (!conn->connect_calls)
        return;
    conn->connect_calls = false;
    request_call_end(&conn->origin);
}

/* here: it blocked, and this is still the stack that called it. */
static void outcome_locked(struct conn *conn, int error, uint8_t failed_end, uint64_t now, bool here)
{
    if (conn->connect != CONN_CONNECTING)
        return;
    atomic_fetch_sub_explicit(&connects_pending, 1, memory_order_relaxed);
    conn->connect_end_ns = error == 0 && conn->connect_noted_ns != 0 ? conn->connect_noted_ns : now;
    conn->connect_error = error;
    conn->connect = CONN_CONNECTED;
    bool failed = error != 0 || failed_end == OTSHIM_END_ABANDONED;
    struct call_site site;
    call_site_none(&site);
    if (stack_wanted(conn->connect_end_ns - conn->connect_start_ns, failed)) {
        if (here)
            call_site_here(&site);
        else
            call_site_kept(&site, conn->site);
    }
    site_free(conn->site);
    conn->site = NULL;
    if (failed)
        connect_call_end(conn);
    if (conn->fork_generation != otshim_fork_generation)
        conn->connect_start_ns = 0; /* our parent's */
    else if (conn->origin.has_parent)
        write_connect(conn, &conn->origin, conn->origin.rule, failed ? failed_end : OTSHIM_END_COMPLETE, &site);
    else if (failed || conn->plain != NULL)
        settle_as_root(conn, failed ? failed_end : OTSHIM_END_COMPLETE, &site);
    else
        conn->connect = CONN_CONNECT_HELD;
    call_site_done(&site);
}

void connect_settle_locked(struct conn *conn, const struct exchange *exchange, uint8_t end)
{
    if (conn->connect == CONN_CONNECTING) {
        bool abandoned = exchange == NULL && end != OTSHIM_END_COMPLETE && conn->connect_noted_ns == 0;
        outcome_locked(conn, 0, abandoned ? OTSHIM_END_ABANDONED : OTSHIM_END_COMPLETE, now_ns(), false);
    }
    if (conn->connect != CONN_CONNECT_HELD)
        return;
    conn->connect = CONN_CONNECTED;
    if (conn->fork_generation != otshim_fork_generation)
        return;
    bool together = exchange != NULL && !exchange->has_owner && !(exchange->own_header && conn->adopted_lookup);
    if (together)
        write_connect(conn, &exchange->ctx, OTSHIM_PARENT_CONNECT, OTSHIM_END_COMPLETE, NULL);
    else
        settle_as_root(conn, OTSHIM_END_COMPLETE, NULL);
}

void connect_first_io_locked(struct conn *conn, ssize_t result, int error)
{
    if (result >= 0)
        outcome_locked(conn, 0, OTSHIM_END_FAILED, now_ns(), false);
    else if (error != EAGAIN && error != EINTR && error != ENOTCONN && error != EINPROGRESS && error != EFAULT && error != EINVAL)
        outcome_locked(conn, error, OTSHIM_END_FAILED, now_ns(), false);
    if (conn->connect == CONN_CONNECT_HELD && conn->oldest != NULL && conn->oldest->head_done)
        connect_settle_locked(conn, conn->oldest, OTSHIM_END_COMPLETE);
}

/* ---- the call ------------------------------------------------------------------------------------------------------------------------- */

/* Errors that are about the call and not about the peer: no attempt was made. */
static bool is_misuse(int error)
{
    switch (error) {
    case EBADF:
    case ENOTSOCK:
    case EFAULT:
    case EINVAL:
    case EAFNOSUPPORT:
    case EISCONN:
    case EALREADY:
    case EOPNOTSUPP:
    case EPROTOTYPE: return true;
    default: return false;
    }
}

static bool in_progress(int result, int error)
{
    /* An interrupted connect() goes on by itself (POSIX, connect: "shall be established asynchronously"). */
    return result < 0 && (error == EINPROGRESS || error == EINTR);
}

static void begin(struct conn *conn, const struct sockaddr *addr, socklen_t len, uint64_t start_ns)
{
    addr_from_sockaddr(&conn->peer, &conn->path, addr, len);
    conn->peer_name = find_name(addr);
    conn->connect_start_ns = start_ns;
    conn->connect = CONN_CONNECTING;
    atomic_fetch_add_explicit(&connects_pending, 1, memory_order_relaxed);
    if (ctx_current(&conn->origin)) {
        conn->origin.has_parent = true;
        conn->connect_calls = true;
        request_call_begin(&conn->origin);
        return;
    }
    if (turn_in() && request_none_open())
        turn_unasked();
    memset(&conn->origin, 0, sizeof conn->origin);
    ids_trace(conn->origin.trace_id);
    ids_span(conn->origin.span_id);
    conn->origin.trace_flags = sampler_decide(&config.sampler, NULL, conn->origin.trace_id);
    struct names_lookup lookup;
    if (addr->sa_family != AF_UNIX && names_adopt(addr, &lookup)) {
        struct ctx parent = conn->origin;
        parent.has_parent = true;
        parent.rule = OTSHIM_PARENT_CONNECT;
        conn->adopted_lookup = true;
        names_write(&lookup, &parent, NULL);
    }
}

static void again(struct conn *conn, int result, int error)
{
    if (in_progress(result, error) || error == EALREADY)
        return;
    if (!conn_lock(conn))
        return;
    outcome_locked(conn, result == 0 || error == EISCONN ? 0 : error, OTSHIM_END_FAILED, now_ns(), false);
    conn_unlock(conn);
}

/* Once a connection that was in progress is made, Linux says so to one more connect(), with 0 (hiredis asks by that). When the outcome was known
 * already, from a poll(), this is no other connection. */
static bool is_confirmation(const struct conn *conn, const struct sockaddr *addr, socklen_t len)
{
    struct otshim_addr peer;
    uint16_t path = 0;
    if (conn->connect != CONN_CONNECT_HELD || !conn->connect_async)
        return false;
    addr_from_sockaddr(&peer, &path, addr, len);
    return memcmp(&peer, &conn->peer, sizeof peer) == 0 && path == conn->path;
}

void conn_connecting(int fd, const struct sockaddr *addr, socklen_t len, uint64_t start_ns, int result, int error)
{
    struct conn *conn = fd_conn(fd);
    error = result < 0 ? error : 0;
    if (conn != NULL && conn->connect == CONN_CONNECTING && error != EINPROGRESS) {
        again(conn, result, error);
        return;
    }
    if (is_misuse(error) || (conn != NULL && result == 0 && is_confirmation(conn, addr, len)))
        return;
    uint8_t transport = addr->sa_family == AF_UNIX ? OTSHIM_TRANSPORT_UNIX : OTSHIM_TRANSPORT_TCP;
    if ((unsigned)fd >= FD_TABLE_MAX) {
        span_count(OTSHIM_COUNT_FD_ABOVE_TABLE);
        return;
    }
    conn = conn_new(CONN_OUTBOUND, transport);
    if (conn == NULL)
        return;
    begin(conn, addr, len, start_ns);
    conn->connect_async = in_progress(result, error);
    /* Nobody else knows the object yet: the lock is not needed. */
    if (in_progress(result, error))
        conn->site = site_keep();
    else
        outcome_locked(conn, error, OTSHIM_END_FAILED, now_ns(), true);
    fd_put(fd, &conn->object);
}

void conn_connect_outcome(int fd, int error)
{
    struct conn *conn = fd_conn(fd);
    if (conn == NULL || conn->connect != CONN_CONNECTING)
        return;
    struct watch watch;
    if (!watch_begin(&watch, fd) || !watch_lock(&watch))
        return;
    outcome_locked(conn, error, OTSHIM_END_FAILED, now_ns(), false);
    conn_unlock(conn);
}

void conn_connect_asked(int fd, int error)
{
    struct conn *conn = fd_conn(fd);
    if (conn == NULL || conn->connect != CONN_CONNECTING)
        return;
    if (error != 0)
        conn_connect_outcome(fd, error);
    else
        conn->connect_noted_ns = now_ns(); /* one aligned word, by the thread that connects: no lock */
}
