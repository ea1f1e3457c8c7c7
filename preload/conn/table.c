/* table.c - descriptors to objects, and what they mean to a thread that waits for them.
 *
 * An entry is changed by atomic exchange only, so that exactly one thread ever drops the reference that an entry stood for. Objects are freed to
 * their pools when the last entry goes; connections first end what is in progress (conn.c). */
#include "conn/table.h"
#include "base/pool.h"
#include "conn/exchange.h"
#include "conn/flow.h"
#include "context/turn.h"
#include "span/span.h"
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

_Atomic(struct fd_object *) *fd_table;
bool fd_any_inbound;

/* One above the highest descriptor ever entered: close_range(3, ~0) need not walk a million entries. */
static _Atomic int table_end;

static struct pool listeners = POOL_INIT(sizeof(struct listener), 16, 16384);
static struct pool epoll_sets = POOL_INIT(sizeof(struct epoll_set), 64, 65536);

int fd_table_init(void)
{
    void *map =
        mmap(NULL, FD_TABLE_MAX * sizeof *fd_table, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED)
        return -errno;
    fd_table = map;
    return 0;
}

int fd_table_end(void)
{
    return atomic_load_explicit(&table_end, memory_order_relaxed);
}

static _Atomic uint32_t *references_of(struct fd_object *object)
{
    switch (object->kind) {
    case FD_CONN: return &((struct conn *)object)->references;
    case FD_LISTENER: return &((struct listener *)object)->references;
    default: return &((struct epoll_set *)object)->references;
    }
}

bool fd_retain(struct fd_object *object)
{
    if (object->kind == FD_OTHER)
        return true;
    _Atomic uint32_t *references = references_of(object);
    uint32_t have = atomic_load_explicit(references, memory_order_relaxed);
    do {
        if (have == 0)
            return false;
    } while (!atomic_compare_exchange_weak_explicit(references, &have, have + 1, memory_order_acquire, memory_order_relaxed));
    return true;
}

void fd_drop(struct fd_object *object)
{
    if (object->kind == FD_OTHER || atomic_fetch_sub_explicit(references_of(object), 1, memory_order_acq_rel) != 1)
        return;
    if (object->kind == FD_CONN) {
        conn_finish((struct conn *)object);
    } else if (object->kind == FD_LISTENER) {
        atomic_fetch_add_explicit(&((struct listener *)object)->generation, 1, memory_order_release);
        pool_put(&listeners, object);
    } else {
        pool_put(&epoll_sets, object);
    }
}

void fd_put(int fd, struct fd_object *object)
{
    if ((unsigned)fd >= FD_TABLE_MAX || fd_table == NULL) {
        if (object != NULL) {
            span_count(OTSHIM_COUNT_FD_ABOVE_TABLE);
            fd_drop(object);
        }
        return;
    }
    if (object == NULL && atomic_load_explicit(&fd_table[fd], memory_order_relaxed) == NULL)
        return;
    struct fd_object *former = atomic_exchange_explicit(&fd_table[fd], object, memory_order_acq_rel);
    if (former != NULL)
        fd_drop(former);
    int end = atomic_load_explicit(&table_end, memory_order_relaxed);
    while (object != NULL && fd >= end &&
           !atomic_compare_exchange_weak_explicit(&table_end, &end, fd + 1, memory_order_relaxed, memory_order_relaxed))
        ;
}

void fd_forget(int fd, struct fd_object *object)
{
    struct fd_object *expected = object;
    if ((unsigned)fd < FD_TABLE_MAX && fd_table != NULL && object != NULL &&
        atomic_compare_exchange_strong_explicit(&fd_table[fd], &expected, NULL, memory_order_acq_rel, memory_order_relaxed))
        fd_drop(object);
}

struct listener *listener_new(void)
{
    struct listener *listener = pool_get(&listeners);
    if (listener == NULL) {
        span_count(OTSHIM_COUNT_CONN_POOL_FULL);
        return NULL;
    }
    listener->object.kind = FD_LISTENER;
    listener->stream = false;
    listener->path = 0;
    memset(&listener->local, 0, sizeof listener->local);
    atomic_store_explicit(&listener->references, 1, memory_order_relaxed);
    return listener;
}

/* ---- what waiting for a descriptor means ------------------------------------------------------------------------------------------- */

static enum fd_wait_class outbound_class(int fd)
{
    struct watch watch;
    struct ctx now, owner;
    bool has_owner, idle;
    if (!watch_begin(&watch, fd) || !watch_holds(&watch) || !conn_lock(watch.conn))
        return FD_WAIT_FOREIGN;
    struct conn *conn = watch.conn;
    const struct exchange *exchange = conn->oldest;
    if (exchange != NULL) {
        idle = false;
        has_owner = exchange->has_owner;
        owner = exchange->owner;
    } else { /* connecting, or talking something that we do not parse */
        idle = conn->connect == CONN_CONNECTED && conn->phase != CONN_PASS && conn->parse.served > 0;
        has_owner = conn->origin.has_parent;
        owner = conn->origin;
    }
    uint8_t last_owner[8];
    memcpy(last_owner, conn->last_owner, sizeof last_owner);
    conn_unlock(conn);
    /* PHP and Ruby look once more at a connection whose response they have read: is it closed now? Still for the same request. */
    if (idle)
        return ctx_current(&now) && memcmp(now.span_id, last_owner, sizeof last_owner) == 0 ? FD_WAIT_OWN : FD_WAIT_FOREIGN;
    if (!ctx_current(&now))
        return has_owner ? FD_WAIT_FOREIGN : FD_WAIT_OWN;
    return has_owner && memcmp(now.span_id, owner.span_id, sizeof now.span_id) == 0 ? FD_WAIT_OWN : FD_WAIT_FOREIGN;
}

enum fd_wait_class fd_wait_class(int fd)
{
    struct fd_object *object = fd_get(fd);
    if (object == NULL)
        return FD_WAIT_UNWATCHED;
    if (object->kind == FD_OTHER)
        return FD_WAIT_UNWATCHED;
    if (object->kind == FD_LISTENER)
        return FD_WAIT_LISTENER;
    if (object->kind == FD_EPOLL)
        return fd_epoll_class(fd) != FD_EPOLL_OWN ? FD_WAIT_LOOP : FD_WAIT_UNWATCHED;
    if (((struct conn *)object)->role == CONN_INBOUND)
        return FD_WAIT_INBOUND;
    return outbound_class(fd);
}

/* ---- epoll sets ----------------------------------------------------------------------------------------------------------------------- */

#define LISTENER 1u
#define INBOUND 2u
#define SECOND_INBOUND 4u
#define OUTBOUND 8u
#define SECOND_OUTBOUND 16u
#define OTHER 32u
#define SET 64u

void fd_epoll_made(int epfd)
{
    struct epoll_set *set = pool_get(&epoll_sets);
    if (set == NULL)
        return; /* unknown: counts as a loop */
    set->object.kind = FD_EPOLL;
    atomic_store_explicit(&set->members, 0, memory_order_relaxed);
    atomic_store_explicit(&set->waiter, NULL, memory_order_relaxed);
    atomic_store_explicit(&set->outbound, NULL, memory_order_relaxed);
    atomic_store_explicit(&set->inbound, NULL, memory_order_relaxed);
    atomic_store_explicit(&set->references, 1, memory_order_relaxed);
    fd_put(epfd, &set->object);
}

static struct epoll_set *epoll_set(int epfd)
{
    struct fd_object *object = fd_get(epfd);
    return object != NULL && object->kind == FD_EPOLL ? (struct epoll_set *)object : NULL;
}

/* Is it another one than the first? */
static bool is_second(_Atomic(struct fd_object *) *first, struct fd_object *added)
{
    struct fd_object *before = NULL;
    return !atomic_compare_exchange_strong_explicit(first, &before, added, memory_order_relaxed, memory_order_relaxed) &&
           before != added;
}

static uint8_t member_bits(struct epoll_set *set, uint8_t members, struct fd_object *added)
{
    if (added == NULL || added->kind == FD_OTHER)
        return OTHER;
    if (added->kind == FD_LISTENER)
        return LISTENER;
    if (added->kind == FD_EPOLL)
        return SET;
    if (((struct conn *)added)->role == CONN_OUTBOUND)
        return (members & SECOND_OUTBOUND) || is_second(&set->outbound, added) ? OUTBOUND | SECOND_OUTBOUND : OUTBOUND;
    return (members & SECOND_INBOUND) || is_second(&set->inbound, added) ? INBOUND | SECOND_INBOUND : INBOUND;
}

void fd_epoll_added(int epfd, int fd)
{
    struct epoll_set *set = epoll_set(epfd);
    if (set == NULL)
        return;
    const void *waiter = atomic_load_explicit(&set->waiter, memory_order_relaxed);
    if (OTSHIM_UNLIKELY(waiter != NULL && waiter != &turn_mine))
        turn_gives_work(waiter);
    struct fd_object *added = fd_get(fd);
    uint8_t members = atomic_load_explicit(&set->members, memory_order_relaxed);
    uint8_t bits = member_bits(set, members, added);
    if ((members & bits) != bits)
        atomic_fetch_or_explicit(&set->members, bits, memory_order_relaxed);
    if (added == NULL)
        fd_other_seen(fd);
}

/* A set with nothing but one outbound connection is a blocking client's. Anything else can wake the thread for somebody's work - also what
 * is not watched: the eventfd, pipe or timer by which other threads give work to a client's selector thread. An empty set is a loop's, too: its
 * members may have come by a way that we do not see (io_uring). */
enum fd_epoll_class fd_epoll_class(int epfd)
{
    struct epoll_set *set = epoll_set(epfd);
    unsigned members = set != NULL ? atomic_load_explicit(&set->members, memory_order_relaxed) : 0;
    if (members == OUTBOUND)
        return FD_EPOLL_OWN;
    if (members == 0 || (members & (SECOND_INBOUND | SET)) || ((members & INBOUND) && (members & (LISTENER | OTHER))) ||
        ((members & LISTENER) && (members & OUTBOUND)))
        return FD_EPOLL_LOOP;
    return members & (LISTENER | INBOUND) ? FD_EPOLL_WORKER : FD_EPOLL_CALLS;
}

void fd_epoll_waited(int epfd)
{
    struct epoll_set *set = epoll_set(epfd);
    if (set != NULL && atomic_load_explicit(&set->waiter, memory_order_relaxed) != &turn_mine)
        atomic_store_explicit(&set->waiter, &turn_mine, memory_order_relaxed);
}

/* One object for all of them: nothing is to be said about it but that it is one. */
void fd_other_seen(int fd)
{
    static struct fd_object other = {FD_OTHER};
    if (turn_manner != TURN_EXEMPT && fd_get(fd) == NULL)
        fd_put(fd, &other);
}
