/* ids.c - trace and span ids.
 *
 * Each thread has two random keys and a counter with a random start; an id is the counter, mixed with the keys by two rounds of a 64-bit
 * finaliser (SplitMix64's, which is a bijection: one counter value gives one id). A signal handler may interrupt the thread anywhere in
 * here: the counter moves by one atomic add, so that nobody gets the same value twice, which a generator that reads, mixes and
 * writes back its state (xorshift) could not promise.
 *
 * The keys come from getrandom, once per thread, and again in a child of fork, where they would otherwise go on like the parent's. Two
 * numbers tell: otshim_fork_generation, and that of the pages which the kernel wipes in a child (span/identity.h), for forks that no
 * atfork handler sees. Where getrandom is refused (old kernel, seccomp) clock, thread id and addresses are mixed instead. */
#include "base/base.h"
#include "base/raw.h"
#include "context/context.h"
#include "span/identity.h"

#include <string.h>

#ifndef GRND_NONBLOCK
#define GRND_NONBLOCK 1 /* early at boot: rather the fallback than wait */
#endif

uint32_t otshim_fork_generation = 1;

struct seed {
    uint64_t key[2];
    uint64_t counter;
};

static OTSHIM_TLS struct seed seed;
static OTSHIM_TLS uint64_t seed_generation; /* 0: no seed yet */

/* Of this process; never 0. */
static uint64_t generation(void)
{
    uint32_t wiped = atomic_load_explicit(&identity.generation, memory_order_relaxed);
    if (OTSHIM_UNLIKELY(wiped == 0))
        wiped = identity_begin();
    return (uint64_t)__atomic_load_n(&otshim_fork_generation, __ATOMIC_RELAXED) << 32 | wiped;
}

static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ x >> 27) * 0x94d049bb133111ebull;
    return x ^ x >> 31;
}

static void seed_fallback(struct seed *fresh)
{
    struct timespec wall;
    clock_gettime(CLOCK_REALTIME, &wall);
    uint64_t x = now_ns() ^ mix((uint64_t)wall.tv_nsec << 32 ^ (uint64_t)wall.tv_sec);
    x = mix(x ^ (uint64_t)raw_syscall0(SYS_gettid) << 32 ^ (uint64_t)raw_syscall0(SYS_getpid));
    x = mix(x ^ (uintptr_t)&seed); /* of this thread, in an address space laid out at random */
    fresh->key[0] = x;
    fresh->key[1] = x = mix(x + (uintptr_t)fresh);
    fresh->counter = mix(x + now_ns());
}

/* A handler that interrupts this may seed the thread too, and use its seed: ours then replaces it, which does no harm. */
static void seed_thread(uint64_t now)
{
    struct seed fresh;
    if (raw_syscall3(SYS_getrandom, (long)&fresh, sizeof fresh, GRND_NONBLOCK) != (long)sizeof fresh)
        seed_fallback(&fresh);
    seed = fresh;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    seed_generation = now;
}

/* n counter values, the first of them. */
static inline uint64_t take(unsigned n)
{
    uint64_t now = generation();
    if (OTSHIM_UNLIKELY(seed_generation != now))
        seed_thread(now);
    return __atomic_fetch_add(&seed.counter, n, __ATOMIC_RELAXED);
}

/* Never 0: one value in 2^64 would be. */
static inline uint64_t id_of(uint64_t count)
{
    uint64_t id = mix(mix(count * 0x9e3779b97f4a7c15ull + seed.key[0]) ^ seed.key[1]);
    return OTSHIM_LIKELY(id != 0) ? id : 1;
}

void ids_span(uint8_t span_id[8])
{
    uint64_t id = id_of(take(1));
    memcpy(span_id, &id, 8);
}

void ids_trace(uint8_t trace_id[16])
{
    uint64_t count = take(2);
    uint64_t id[2] = {id_of(count), id_of(count + 1)};
    memcpy(trace_id, id, 16);
}
