/* lock.c - the try-lock of a connection. The idea is in state.h. */
#include "conn/defer.h"
#include "conn/exchange.h"
#include "conn/state.h"
#include "span/span.h"

/* About 100 pauses are 1 to 4 us: longer than any look at bytes takes, shorter than a system call's worth of harm. */
#define LOCK_ATTEMPTS 100

#define GENERATION_SHIFT 48
#define OWNER_MASK 0x0000fffffffffff8ull

static inline void pause_briefly(void)
{
#if defined(__x86_64__)
    __asm__ volatile("pause" ::: "memory");
#elif defined(__aarch64__)
    __asm__ volatile("isb" ::: "memory");
#endif
}

static inline uint64_t generation_bits(void)
{
    return (uint64_t)otshim_fork_generation << GENERATION_SHIFT;
}

/* Nothing but an address that no other thread has. */
static OTSHIM_TLS _Alignas(8) char thread_mark[8];

static inline uint64_t self(void)
{
    return generation_bits() | ((uint64_t)(uintptr_t)thread_mark & OWNER_MASK);
}

/* Taken by a thread of this process? */
static inline bool is_held(uint64_t word)
{
    return word != 0 && (word >> GENERATION_SHIFT << GENERATION_SHIFT) == generation_bits();
}

/* The former owner is a thread of our parent: what it was doing here will never be finished. */
static void after_stale_owner(struct conn *conn)
{
    exchange_forget_all(conn);
    atomic_store_explicit(&conn->phase, CONN_PASS, memory_order_relaxed);
}

static bool lock_slowly(struct conn *conn, uint64_t mine)
{
    for (int attempt = 0; attempt < LOCK_ATTEMPTS; attempt++) {
        uint64_t word = atomic_load_explicit(&conn->lock, memory_order_relaxed);
        if (!is_held(word)) {
            if (atomic_compare_exchange_weak_explicit(&conn->lock, &word, mine, memory_order_acquire, memory_order_relaxed)) {
                if (word != 0)
                    after_stale_owner(conn);
                return true;
            }
        } else if ((word & ~CONN_REQUESTS) == mine) {
            return false; /* we are a signal handler in the middle of it */
        }
        pause_briefly();
    }
    return false;
}

bool conn_lock(struct conn *conn)
{
    uint64_t mine = self(), free = 0;
    if (OTSHIM_LIKELY(
            atomic_compare_exchange_strong_explicit(&conn->lock, &free, mine, memory_order_acquire, memory_order_relaxed)))
        return true;
    return lock_slowly(conn, mine);
}

void conn_pass_locked(struct conn *conn, uint8_t end, int error)
{
    exchange_end_all(conn, end, error);
    connect_settle_locked(conn, NULL, OTSHIM_END_COMPLETE);
    atomic_store_explicit(&conn->phase, CONN_PASS, memory_order_relaxed);
}

/* True if the connection is over: its memory goes back to the pool once the lock is released. */
static bool carry_out(struct conn *conn, uint64_t requests)
{
    if (requests & CONN_DEFERRED)
        defer_drain_locked(conn);
    if (requests & CONN_GIVE_UP) {
        conn_pass_locked(conn, OTSHIM_END_LOST, 0);
        if (conn->runtime != NULL)
            runtime_conn_set(conn->runtime, NULL); /* what comes on it from here on is not seen */
    }
    if (requests & CONN_FINISH)
        conn_finish_locked(conn);
    return (requests & CONN_FINISH) != 0;
}

/* Release pairs with the acquire of the next owner. */
static void unlock(struct conn *conn, bool finished)
{
    uint64_t word = self();
    while (!atomic_compare_exchange_strong_explicit(&conn->lock, &word, 0, memory_order_release, memory_order_relaxed)) {
        uint64_t requests = word & CONN_REQUESTS;
        if (requests == 0)
            return; /* not ours: a child forked by a system call in the middle of this. The word is stale there. */
        if (atomic_compare_exchange_strong_explicit(&conn->lock, &word, word & ~CONN_REQUESTS, memory_order_acquire,
                                                    memory_order_relaxed))
            finished |= carry_out(conn, requests);
        word = self();
    }
    if (finished)
        conn_recycle(conn);
}

void conn_unlock(struct conn *conn)
{
    uint64_t word = self();
    if (OTSHIM_UNLIKELY(
            !atomic_compare_exchange_strong_explicit(&conn->lock, &word, 0, memory_order_release, memory_order_relaxed)))
        unlock(conn, false);
}

static void request(struct conn *conn, uint64_t what)
{
    uint64_t word = atomic_load_explicit(&conn->lock, memory_order_relaxed);
    for (;;) {
        if (is_held(word)) {
            if (atomic_compare_exchange_weak_explicit(&conn->lock, &word, word | what, memory_order_acq_rel, memory_order_relaxed))
                return;
            continue;
        }
        if (!atomic_compare_exchange_weak_explicit(&conn->lock, &word, self(), memory_order_acquire, memory_order_relaxed))
            continue;
        if (word != 0)
            after_stale_owner(conn);
        unlock(conn, carry_out(conn, what));
        return;
    }
}

void conn_give_up(struct conn *conn)
{
    if (atomic_load_explicit(&conn->phase, memory_order_relaxed) == CONN_PASS)
        return;
    span_count(OTSHIM_COUNT_CONN_BUSY);
    request(conn, CONN_GIVE_UP);
}

void conn_deferred(struct conn *conn)
{
    request(conn, CONN_DEFERRED);
}

void conn_finish(struct conn *conn)
{
    request(conn, CONN_FINISH);
}
