/* conn.c - the life of a descriptor, from socket() or accept() to close().
 *
 * A connection belongs to all descriptors that refer to it (dup); it ends when the last one of this process is closed. Everything that makes a
 * descriptor also says that whatever we knew under its number is over: it may have been closed behind our back. */
#include "base/pool.h"
#include "base/raw.h"
#include "conn/defer.h"
#include "conn/exchange.h"
#include "conn/flow.h"
#include "conn/handshake.h"
#include "conn/inject.h"
#include "conn/streams.h"
#include "conn/tls.h"
#include "context/turn.h"
#include "span/span.h"
#include <errno.h>
#include <string.h>

static struct pool conns = POOL_INIT(sizeof(struct conn), 32, CONN_LIMIT);

struct conn *conn_new(uint8_t role, uint8_t transport)
{
    struct conn *conn = pool_get(&conns);
    if (conn == NULL) {
        span_count(OTSHIM_COUNT_CONN_POOL_FULL);
        return NULL;
    }
    /* Lock and generation are not ours to write: somebody with a stale pointer may be looking at them right now. */
    conn->object.kind = FD_CONN;
    conn->role = role;
    conn->transport = transport;
    conn->fork_generation = otshim_fork_generation;
    conn->plain = NULL;
    conn->fd = -1;
    conn->is_plain = false;
    conn->handshake = NULL;
    atomic_store_explicit(&conn->claimed, false, memory_order_relaxed);
    atomic_store_explicit(&conn->blocks, 0, memory_order_relaxed);
    conn->runtime = NULL;
    conn->site = NULL;
    conn->oldest = conn->newest = conn->spare = NULL;
    conn->exchanges = conn->feeds = 0;
    memset(&conn->peer, 0, sizeof conn->peer);
    memset(&conn->local, 0, sizeof conn->local);
    conn->peer_name = conn->path = 0;
    conn->adopted_lookup = false;
    conn->connect_error = 0;
    conn->connect_start_ns = conn->connect_end_ns = 0;
    conn->connect_async = conn->connect_calls = conn->send_closed = false;
    conn->connect_noted_ns = 0;
    memset(&conn->origin, 0, sizeof conn->origin);
    memset(conn->last_owner, 0, sizeof conn->last_owner);
    memset(&conn->parse, 0, offsetof(struct conn_parse, carry));
    conn->parse.ahead = conn->parse.prepaid = 0;
    conn->parse.large = NULL;
    atomic_store_explicit(&conn->connect, CONN_CONNECTED, memory_order_relaxed);
    atomic_store_explicit(&conn->debt, NULL, memory_order_relaxed);
    atomic_store_explicit(&conn->phase, CONN_DETECT, memory_order_relaxed);
    atomic_store_explicit(&conn->references, 1, memory_order_relaxed);
    return conn;
}

void conn_finish_locked(struct conn *conn)
{
    defer_drain_locked(conn);
    if (conn->role == CONN_INBOUND)
        flow_send_closed_locked(conn); /* closing ends a response that has no other end */
    exchange_end_all(conn, OTSHIM_END_LOCAL_CLOSED, 0);
    connect_settle_locked(conn, NULL, OTSHIM_END_ABANDONED);
    connect_call_end(conn);
    inject_drop_debt(conn);
    tls_conn_finished(conn);
    handshake_free(conn->handshake); /* nobody has asked for anything: as if there had been no connection */
    conn->handshake = NULL;
    streams_end(conn);
    if (conn->runtime != NULL && !conn->is_plain)
        runtime_conn_free(conn->runtime);
    conn->runtime = NULL;
    site_free(conn->site);
    conn->site = NULL;
    atomic_store_explicit(&conn->phase, CONN_PASS, memory_order_relaxed);
    atomic_fetch_add_explicit(&conn->generation, 1, memory_order_release);
}

void conn_recycle(struct conn *conn)
{
    pool_put(&conns, conn);
}

/* ---- what a descriptor is: asked of the kernel where no call has told us ------------------------------------------------------------ */

/* Raw, so that neither errno nor another interposer notices. Each once a listener or passed descriptor, never in the steady state. */
static int option(int fd, int name)
{
    int value = 0;
    socklen_t len = sizeof value;
    long r = raw_syscall6(SYS_getsockopt, fd, SOL_SOCKET, name, (long)&value, (long)&len, 0);
    return raw_failed(r) ? -1 : value;
}

static uint8_t transport_of(const struct otshim_addr *addr)
{
    return addr->family == 1 ? OTSHIM_TRANSPORT_UNIX : OTSHIM_TRANSPORT_TCP;
}

static struct listener *register_listener(int fd)
{
    struct listener *listener = listener_new();
    if (listener == NULL)
        return NULL;
    struct sockaddr_storage addr;
    socklen_t len = sizeof addr;
    if (!raw_failed(raw_syscall3(SYS_getsockname, fd, (long)&addr, (long)&len)))
        addr_from_sockaddr(&listener->local, &listener->path, (struct sockaddr *)&addr, len);
    listener->transport = transport_of(&listener->local);
    listener->stream = listener->local.family != 0 && option(fd, SO_TYPE) == SOCK_STREAM;
    fd_put(fd, &listener->object);
    return listener;
}

/* One byte a descriptor: what socket() was asked for. A byte that went stale (a descriptor from a call that we do not see) at worst makes
 * us watch a connection that turns out to speak nothing we know. */
enum { SOCKET_UNKNOWN = 0, SOCKET_STREAM = 1, SOCKET_OTHER = 2 };
static _Atomic uint8_t socket_kinds[65536];

static void kind_set(int fd, uint8_t kind)
{
    if ((unsigned)fd < sizeof socket_kinds && atomic_load_explicit(&socket_kinds[fd], memory_order_relaxed) != kind)
        atomic_store_explicit(&socket_kinds[fd], kind, memory_order_relaxed);
}

bool conn_is_stream(int fd, int family)
{
    if (family != AF_INET && family != AF_INET6 && family != AF_UNIX)
        return false;
    uint8_t kind =
        (unsigned)fd < sizeof socket_kinds ? atomic_load_explicit(&socket_kinds[fd], memory_order_relaxed) : SOCKET_UNKNOWN;
    if (kind != SOCKET_UNKNOWN)
        return kind == SOCKET_STREAM;
    int type = option(fd, SO_TYPE);
    if (type < 0)
        return false;
    kind_set(fd, type == SOCK_STREAM ? SOCKET_STREAM : SOCKET_OTHER);
    return type == SOCK_STREAM;
}

void conn_socket_made(int fd, int domain, int type)
{
    bool ours =
        (domain == AF_INET || domain == AF_INET6 || domain == AF_UNIX) && (type & ~(SOCK_NONBLOCK | SOCK_CLOEXEC)) == SOCK_STREAM;
    fd_put(fd, NULL);
    kind_set(fd, ours ? SOCKET_STREAM : SOCKET_OTHER);
}

/* ---- life ---------------------------------------------------------------------------------------------------------------------------------- */

void conn_socket(int fd)
{
    fd_put(fd, NULL);
    kind_set(fd, SOCKET_UNKNOWN);
}

void conn_bound(int fd, const struct sockaddr *addr, socklen_t len)
{
    (void)fd; /* what it is bound to is asked when it listens: port 0 has become a number by then */
    (void)addr;
    (void)len;
}

void conn_listening(int fd)
{
    struct fd_object *object = fd_get(fd);
    if (object == NULL || object->kind != FD_LISTENER) /* a second listen() only changes the backlog */
        register_listener(fd);
}

void conn_accepted(int listen_fd, int fd, const struct sockaddr *addr, socklen_t len)
{
    struct fd_object *object = fd_get(listen_fd);
    struct listener *listener = object != NULL && object->kind == FD_LISTENER ? (struct listener *)object : NULL;
    if (listener == NULL)
        listener = register_listener(listen_fd); /* inherited (systemd, a supervisor) */
    if (listener == NULL || !listener->stream || (unsigned)fd >= FD_TABLE_MAX) {
        if ((unsigned)fd >= FD_TABLE_MAX)
            span_count(OTSHIM_COUNT_FD_ABOVE_TABLE);
        fd_put(fd, NULL);
        return;
    }
    struct conn *conn = conn_new(CONN_INBOUND, listener->transport);
    if (conn == NULL) {
        fd_put(fd, NULL);
        return;
    }
    fd_note_inbound();
    addr_from_sockaddr(&conn->peer, NULL, addr, len);
    conn->local = listener->local;
    conn->path = listener->path;
    const struct runtime_listener *runtime = runtime_listening();
    if (runtime != NULL)
        conn->runtime = runtime_conn_new();
    struct runtime_ref ref = runtime_ref(conn->runtime);
    fd_put(fd, &conn->object);
    if (runtime != NULL)
        runtime->accepted(&ref);
}

void conn_runtime(int fd, struct runtime_ref *out)
{
    struct conn *conn = fd_conn(fd);
    struct watch watch;
    out->conn = NULL;
    if (conn == NULL || conn->role != CONN_INBOUND || !watch_begin(&watch, fd) || !watch_lock(&watch))
        return;
    *out = runtime_ref(watch.conn->runtime);
    conn_unlock(watch.conn);
}

static bool lock_outbound(struct watch *watch, int fd)
{
    struct conn *conn = fd_conn(fd);
    return conn != NULL && conn->role == CONN_OUTBOUND && watch_begin(watch, fd) && watch_lock(watch);
}

static void note_writer(struct conn *conn, const struct ctx *ctx)
{
    if (conn->runtime == NULL && ctx != NULL)
        conn->runtime = runtime_conn_new();
    if (conn->runtime != NULL)
        runtime_conn_set(conn->runtime, ctx);
}

void conn_write_later(int fd, const struct ctx *ctx)
{
    struct watch watch;
    if (!lock_outbound(&watch, fd))
        return;
    note_writer(watch.conn, ctx);
    conn_unlock(watch.conn);
}

void conn_hand_over(int fd, const struct ctx *ctx, bool unsent)
{
    struct watch watch;
    struct conn *conn = fd_conn(fd);
    bool locked = false;
    if (conn == NULL || conn->role != CONN_OUTBOUND)
        return;
    for (unsigned i = 0; i < 200 && !(locked = lock_outbound(&watch, fd)); i++)
        raw_syscall3(SYS_sched_yield, 0, 0, 0);
    if (!locked)
        return;
    if (!unsent || (watch.conn->parse.served == 0 && watch.conn->newest == NULL))
        note_writer(watch.conn, ctx);
    conn_unlock(watch.conn);
}

void conn_blocks(int fd, bool blocks)
{
    struct conn *conn = fd_conn(fd);
    if (conn != NULL && conn->role != CONN_OUTBOUND)
        atomic_store_explicit(&conn->blocks, blocks ? turn_number() : 0, memory_order_relaxed);
}

void conn_shutdown(int fd, int how)
{
    struct watch watch;
    if (!watch_begin(&watch, fd) || watch.conn->phase == CONN_PASS || !watch_lock(&watch))
        return;
    if (how == SHUT_WR || how == SHUT_RDWR)
        flow_send_closed_locked(watch.conn);
    if (how == SHUT_RDWR)
        exchange_end_all(watch.conn, OTSHIM_END_LOCAL_CLOSED, 0);
    /* What an inbound connection brings from here on can never be answered: httpd reads it away ("lingering close"), and a request among
     * it would count as open for as long as that takes. */
    if (how != SHUT_RD && watch.conn->role == CONN_INBOUND) {
        watch.conn->send_closed = true;
        conn_pass_locked(watch.conn, OTSHIM_END_LOCAL_CLOSED, 0);
    }
    conn_unlock(watch.conn);
}

/* For whom does a callback run that closes this? */
static void turn_closing(int fd)
{
    struct conn *conn = fd_conn(fd);
    struct watch watch;
    uint8_t span_id[8];
    if (conn == NULL || !turn_mine.about || !watch_begin(&watch, fd) || !watch_lock(&watch))
        return;
    const struct exchange *exchange = conn->oldest;
    if (conn->role == CONN_OUTBOUND)
        memcpy(span_id,
               exchange != NULL         ? exchange->owner.span_id
               : conn->parse.served > 0 ? conn->last_owner
                                        : conn->origin.span_id,
               sizeof span_id);
    else if (exchange != NULL)
        memcpy(span_id, exchange->ctx.span_id, sizeof span_id);
    else
        memset(span_id, 0, sizeof span_id);
    conn_unlock(conn);
    turn_about(span_id);
}

void conn_closing(int fd)
{
    if (turn_in())
        turn_closing(fd);
    fd_put(fd, NULL);
}

void conn_closing_range(unsigned first, unsigned last)
{
    unsigned end = (unsigned)fd_table_end();
    for (unsigned fd = first; fd < end && fd <= last; fd++)
        fd_put((int)fd, NULL);
}

void conn_duped(int fd, int newfd)
{
    if (fd == newfd)
        return;
    struct fd_object *object = fd_get(fd);
    if (object != NULL && !fd_retain(object))
        object = NULL;
    if (object != NULL && fd_get(fd) != object) { /* closed and freed in between, and used again: not what was duplicated */
        fd_drop(object);
        object = NULL;
    }
    fd_put(newfd, object);
    kind_set(newfd,
             (unsigned)fd < sizeof socket_kinds ? atomic_load_explicit(&socket_kinds[fd], memory_order_relaxed) : SOCKET_UNKNOWN);
}

void conn_passed(int fd)
{
    struct sockaddr_storage addr;
    socklen_t len = sizeof addr;
    struct otshim_addr peer, local;
    uint16_t path = 0;
    conn_socket(fd);
    if (option(fd, SO_TYPE) != SOCK_STREAM)
        return;
    if (option(fd, SO_ACCEPTCONN) == 1) {
        register_listener(fd);
        return;
    }
    if (raw_failed(raw_syscall3(SYS_getpeername, fd, (long)&addr, (long)&len)))
        return; /* not connected */
    addr_from_sockaddr(&peer, &path, (struct sockaddr *)&addr, len);
    len = sizeof addr;
    if (peer.family == 0 || raw_failed(raw_syscall3(SYS_getsockname, fd, (long)&addr, (long)&len)))
        return;
    addr_from_sockaddr(&local, &path, (struct sockaddr *)&addr, len);
    struct conn *conn = conn_new(CONN_UNKNOWN, transport_of(&peer));
    if (conn == NULL)
        return;
    fd_note_inbound();
    conn->peer = peer;
    conn->local = local;
    conn->path = path;
    fd_put(fd, &conn->object);
}

static void end_unfinished(struct conn *conn, int fd, uint8_t reason)
{
    struct watch watch = {.conn = conn, .fd = fd};
    if (conn == NULL)
        return;
    watch.generation = atomic_load_explicit(&conn->generation, memory_order_relaxed);
    if (!watch_holds(&watch) || !conn_lock(conn))
        return;
    if (watch_holds(&watch)) {
        exchange_end_all(conn, reason, 0);
        connect_settle_locked(conn, NULL, OTSHIM_END_ABANDONED);
    }
    conn_unlock(conn);
}

void conn_end_all(uint8_t reason)
{
    int end = fd_table_end();
    for (int fd = 0; fd < end; fd++) {
        struct conn *conn = fd_conn(fd);
        end_unfinished(conn, fd, reason);
        if (conn != NULL && conn->plain != NULL)
            end_unfinished(conn->plain, fd, reason);
    }
}

/* Everything of our parent's carries its fork generation, and is recognised by it: locks (lock.c), exchanges, connects. */
void conn_after_fork(void)
{
}
