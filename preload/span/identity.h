/* identity.h - what is this process's alone, and must not be its children's.
 *
 * A forked child has a copy of all our memory, and the parent's shared ring besides. It must neither write into that ring nor think that
 * anybody knows it. So everything that says "I have a ring, an exporter, requests in flight" lives in pages that the kernel zeroes in a
 * child (MADV_WIPEONFORK, Linux 4.14), however it was forked; where the kernel cannot, the atfork handler does (span_after_fork). All
 * zero means: nothing yet.
 *
 * What a writer that is inside a ring needs (struct ring) is not in here but in plain memory: a signal handler may fork in the middle
 * of a write, and when it returns in the child, the rest of that write must still find valid pointers. It then completes the parent's
 * record with the parent's bytes, in the memory they share, which harms nobody. */
#ifndef OTSHIM_SPAN_IDENTITY_H
#define OTSHIM_SPAN_IDENTITY_H

#include "base/base.h"
#include "span/ring.h"

/* Whole pages, of the largest size that the architecture has. */
#ifdef __aarch64__
#define IDENTITY_PAGE 65536u
#else
#define IDENTITY_PAGE 4096u
#endif
#define IDENTITY_BYTES ((12288u + IDENTITY_PAGE - 1) / IDENTITY_PAGE * IDENTITY_PAGE)

struct identity {
    /* Which ring (handover.c): */
    _Atomic(struct ring *) current; /* where new records go */
    _Atomic(struct ring *)
        previous;           /* unpublished, but perhaps not yet quiet: what is committed in there late is still to be moved */
    _Atomic uint32_t moves; /* odd while previous is being emptied, and one more each time that begins or ends */
    _Atomic uint32_t handing_over;   /* try-lock: one thread at a time replaces a ring */
    _Atomic uint32_t generation;     /* of this process among its forked relatives; 0: not begun */
    _Atomic uint64_t unpublished_ns; /* since when previous is that */

    /* Is anybody listening (handover.c)? Times are CLOCK_MONOTONIC. */
    _Atomic uint64_t beat;         /* last heartbeat seen, and ... */
    _Atomic uint64_t beat_ns;      /* ... about when it was beaten */
    _Atomic uint64_t next_try_ns;  /* no hand-over before that */
    _Atomic uint32_t unanswered;   /* hand-overs since the last heartbeat seen */
    _Atomic uint32_t attach_count; /* successful hand-overs */

    /* Counted while there is no ring. */
    _Atomic uint64_t pending[OTSHIM_COUNTERS];

    /* In flight (inflight.c): whose slot is it? The span id, 0: free. The shared table is only its picture. */
    alignas(64) _Atomic uint64_t inflight_owner[OTSHIM_INFLIGHT_SLOTS];
};
_Static_assert(sizeof(struct identity) <= IDENTITY_BYTES, "fits its pages");

union identity_pages {
    struct identity now;
    uint8_t pages[IDENTITY_BYTES];
};
extern union identity_pages identity_pages;
#define identity (identity_pages.now)

/* This thread's part. depth: how many ring_enter() of this thread are open (more than one: a signal handler). */
struct identity_thread {
    uint32_t tid;
    uint32_t generation;
    uint32_t depth;
};
extern OTSHIM_TLS struct identity_thread identity_thread;

/* Begins this process's identity if that has not happened; returns its generation, never 0. */
uint32_t identity_begin(void);
uint32_t identity_tid_slow(void);

/* Thread id in the process's pid namespace: a system call once per thread, and once more after fork. */
static inline uint32_t identity_tid(void)
{
    const uint32_t generation = atomic_load_explicit(&identity.generation, memory_order_relaxed);
    return OTSHIM_LIKELY(generation != 0 && identity_thread.generation == generation) ? identity_thread.tid : identity_tid_slow();
}

/* The current ring, entered; NULL if there is none. Leave by identity_leave. */
static inline struct ring *identity_enter(_Atomic(struct ring *) *which)
{
    identity_thread.depth++;
    struct ring *ring = ring_enter(which);
    if (OTSHIM_UNLIKELY(ring == NULL))
        identity_thread.depth--;
    return ring;
}
static inline void identity_leave(struct ring *ring)
{
    ring_leave(ring);
    identity_thread.depth--;
}

/* In a child: forgets the parent's (for kernels without MADV_WIPEONFORK). */
void identity_wipe(void);

#endif
