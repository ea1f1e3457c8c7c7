/* thread.c - a thread starts with its creator's request (design section 4, rule 3), and where that ends.
 *
 * pthread_create: if the creator works for a request, the new thread first runs start_with_context, which takes the context over and jumps to
 * the program's function as a tail call: no frame of ours is on the new thread's stack when the program runs, so return,
 * pthread_exit, cancellation and C++ exceptions meet what they would meet without us. Its argument is a block of a small fixed pool, given back
 * before the jump. Nobody works for a request, or no block is free: the call is passed on as it is.
 *
 * An inherited context ends where a thread of a pool takes its work: at the first wait on a condition variable, a semaphore or (syscall(),
 * process.c) a futex, and at the first mutex. The mutex because under load a worker finds its queue never empty and does not wait at all:
 * a C++ pool whose workers were started by requests gave 99 of 100 calls to the wrong request while only waits counted. Whether a mutex guards
 * a queue or something else cannot be told, so the doubt costs the parent. What is left is the thread that is started for a call and makes it.
 * Everyone's mutexes pay for that with one look at a thread-local word.
 *
 * Threads of a runtime are its own affair, if it says so (context/runtime.h): Python's take locks before they do anything.
 *
 * Of pthread_cond_wait and pthread_cond_timedwait there are two versions in glibc: see versions.def. */
#include "context/runtime.h"
#include "context/turn.h"
#include "interpose/quiet.h"
#include "interpose/real.h"
#include "interpose/wrap.h"
#include <errno.h>
#include <stdatomic.h>

#define BLOCKS 64u

struct block {
    _Atomic uint32_t taken;
    void *(*start)(void *);
    void *arg;
    const struct runtime_listener *runtime; /* whose thread it is; NULL: the program's */
    struct ctx ctx;
};

static struct block blocks[BLOCKS];
static _Atomic uint32_t next_block; /* where to look first: spreads neighbours over the pool */

static struct block *block_take(void)
{
    uint32_t at = atomic_fetch_add_explicit(&next_block, 1, memory_order_relaxed);
    for (uint32_t i = 0; i < BLOCKS; i++) {
        struct block *b = &blocks[(at + i) % BLOCKS];
        uint32_t no = 0;
        if (atomic_compare_exchange_strong_explicit(&b->taken, &no, 1, memory_order_acquire, memory_order_relaxed))
            return b;
    }
    return NULL;
}

static void block_give(struct block *b)
{
    atomic_store_explicit(&b->taken, 0, memory_order_release); /* pairs with block_take */
}

/* pthread_create itself orders the creator's writes to the block before this. */
static void *start_with_context(void *arg)
{
    struct block *b = arg;
    void *(*start)(void *) = b->start;
    void *start_arg = b->arg;
    if (b->runtime != NULL)
        b->runtime->started(&b->ctx);
    else
        ctx_inherit(&b->ctx);
    block_give(b);
    return start(start_arg);
}

WRAP(int, pthread_create, (pthread_t * thread, const pthread_attr_t *attr, void *(*start)(void *), void *arg))
{
    struct ctx ctx;
    struct block *b;
    turn_threads = true;
    if (!QUIET_WATCHING() || !ctx_current(&ctx) || (b = block_take()) == NULL)
        return REAL(pthread_create)(thread, attr, start, arg);
    b->start = start;
    b->arg = arg;
    b->ctx = ctx;
    b->runtime = runtime_starts_thread ? runtime_listening() : NULL; /* by whom it can only have been raised */
    int result = REAL(pthread_create)(thread, attr, start_with_context, b);
    if (result != 0)
        block_give(b);
    return result;
}

static inline void waits(void)
{
    if (OTSHIM_UNLIKELY(ctx_inherited & CTX_BY_THREAD) && QUIET_WATCHING())
        ctx_waited();
}

WRAP(int, pthread_cond_wait, (pthread_cond_t * cond, pthread_mutex_t *mutex))
{
    waits();
    return REAL(pthread_cond_wait)(cond, mutex);
}

WRAP(int, pthread_cond_timedwait, (pthread_cond_t * cond, pthread_mutex_t *mutex, const struct timespec *abstime))
{
    waits();
    return REAL(pthread_cond_timedwait)(cond, mutex, abstime);
}

/* The clockwait pair is there since glibc 2.30. Without it a program can only get here because it asked by dlsym or a weak reference and
 * found us; it is told that the clock is not supported. */
WRAP(int, pthread_cond_clockwait, (pthread_cond_t * cond, pthread_mutex_t *mutex, clockid_t clock, const struct timespec *abstime))
{
    waits();
    if (OTSHIM_UNLIKELY(real.pthread_cond_clockwait == NULL))
        real_resolve();
    if (OTSHIM_UNLIKELY(real.pthread_cond_clockwait == NULL))
        return EINVAL;
    return real.pthread_cond_clockwait(cond, mutex, clock, abstime);
}

WRAP(int, pthread_mutex_lock, (pthread_mutex_t * mutex))
{
    waits();
    return REAL(pthread_mutex_lock)(mutex);
}

WRAP(int, pthread_mutex_trylock, (pthread_mutex_t * mutex))
{
    waits();
    return REAL(pthread_mutex_trylock)(mutex);
}

WRAP(int, sem_trywait, (sem_t * sem))
{
    waits();
    return REAL(sem_trywait)(sem);
}

WRAP(int, sem_wait, (sem_t * sem))
{
    waits();
    return REAL(sem_wait)(sem);
}

WRAP(int, sem_timedwait, (sem_t * sem, const struct timespec *abstime))
{
    waits();
    return REAL(sem_timedwait)(sem, abstime);
}

WRAP(int, sem_clockwait, (sem_t * sem, clockid_t clock, const struct timespec *abstime))
{
    waits();
    if (OTSHIM_UNLIKELY(real.sem_clockwait == NULL))
        real_resolve();
    if (OTSHIM_UNLIKELY(real.sem_clockwait == NULL)) {
        errno = EINVAL;
        return -1;
    }
    return real.sem_clockwait(sem, clock, abstime);
}
