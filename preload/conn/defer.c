/* defer.c - bytes that went by while somebody else held the connection's lock: copied, for the owner to feed (state.h).
 *
 * A thread that is preempted with the lock in hand - once in some ten thousand requests, on a machine with more threads than cores - must
 * not cost the connection its sight for good, and nobody may wait for it. Nor may a signal handler that does I/O on the connection which it
 * has interrupted us in. The copies come from a small pool; when that is empty the connection is given up. */
#include "conn/defer.h"
#include "base/pool.h"
#include <string.h>

static struct pool deferrals = POOL_INIT(sizeof(struct deferred), 4, 256);

static void push(struct conn *conn, struct deferred *deferred)
{
    struct deferred *top = atomic_load_explicit(&conn->deferred, memory_order_relaxed);
    do
        deferred->next = top;
    while (!atomic_compare_exchange_weak_explicit(&conn->deferred, &top, deferred, memory_order_release, memory_order_relaxed));
}

static struct deferred *new_deferred(const struct watch *watch, enum proto_dir dir, uint64_t now)
{
    struct deferred *deferred = pool_get(&deferrals);
    if (deferred != NULL) {
        deferred->now = now;
        deferred->len = 0;
        deferred->generation = watch->generation;
        deferred->dir = (uint8_t)dir;
        deferred->unseen = false;
        deferred->writer.known = ctx_current(&deferred->writer.ctx);
    }
    return deferred;
}

/* Copies into as many objects as it takes. False: not all of it. */
static bool copy_bytes(const struct watch *watch, enum proto_dir dir, const struct iovec *iov, size_t iovcnt, size_t from,
                       size_t len)
{
    struct deferred *deferred = NULL;
    uint64_t now = now_ns();
    for (size_t i = 0; i < iovcnt && len > 0; i++) {
        const char *bytes = iov[i].iov_base;
        size_t left = iov[i].iov_len;
        size_t leave = from < left ? from : left;
        bytes += leave;
        left -= leave;
        from -= leave;
        left = left < len ? left : len;
        len -= left;
        while (left > 0) {
            if (deferred != NULL && deferred->len == sizeof deferred->bytes) {
                push(watch->conn, deferred);
                deferred = NULL;
            }
            if (deferred == NULL && (deferred = new_deferred(watch, dir, now)) == NULL)
                return false;
            size_t room = sizeof deferred->bytes - deferred->len;
            size_t take = left < room ? left : room;
            memcpy(deferred->bytes + deferred->len, bytes, take);
            deferred->len += take;
            bytes += take;
            left -= take;
        }
    }
    if (deferred != NULL)
        push(watch->conn, deferred);
    return true;
}

void defer_bytes(const struct watch *watch, enum proto_dir dir, const struct iovec *iov, size_t iovcnt, size_t from, size_t len)
{
    struct conn *conn = watch->conn;
    if (!watch_holds(watch) || atomic_load_explicit(&conn->phase, memory_order_relaxed) == CONN_PASS)
        return;
    bool kept = false;
    if (iov == NULL) {
        struct deferred *deferred = new_deferred(watch, dir, now_ns());
        if (deferred != NULL) {
            deferred->len = len;
            deferred->unseen = true;
            push(conn, deferred);
            kept = true;
        }
    } else {
        kept = copy_bytes(watch, dir, iov, iovcnt, from, len);
    }
    if (kept)
        conn_deferred(conn);
    else
        conn_give_up(conn);
}

void defer_drain_locked(struct conn *conn)
{
    struct deferred *stack = atomic_exchange_explicit(&conn->deferred, NULL, memory_order_acquire);
    struct deferred *queue = NULL;
    while (stack != NULL) {
        struct deferred *next = stack->next;
        stack->next = queue;
        queue = stack;
        stack = next;
    }
    while (queue != NULL) {
        struct deferred *next = queue->next;
        struct flow flow = {.conn = conn, .fd = -1, .now = queue->now, .writer = &queue->writer};
        bool ours = queue->generation == atomic_load_explicit(&conn->generation, memory_order_relaxed);
        if (ours && queue->unseen)
            flow_skip_locked(&flow, (enum proto_dir)queue->dir, queue->len);
        else if (ours)
            flow_feed_locked(&flow, (enum proto_dir)queue->dir, queue->bytes, queue->len);
        pool_put(&deferrals, queue);
        queue = next;
    }
}
