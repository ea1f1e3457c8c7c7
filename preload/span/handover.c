/* handover.c - giving the process's ring to an exporter.
 *
 * We keep no descriptor, so the memory that an exporter was given cannot be given to its successor: every hand-over means *new* memory.
 * It is done by whichever thread notices that it is due, with a try-lock, all signals blocked (a handler that longjmp'ed away would leave
 * it half done), while all others go on writing:
 *
 *   1. connect to the exporter. Nobody there: that is all it has cost.
 *   2. make a memfd, map it as a ring, send the hello, close both descriptors. A failure here drops the new memory, which nobody has seen.
 *   3. publish it: previous = old, then current = new. From now on writers go to the new ring; those that were inside the old one finish
 *      there. Nobody waits for anybody.
 *   4. move what the exporter has not released, [tail, head), from the old ring to the new one; each moved record is turned into padding
 *      in the old, so that a slow exporter that was not dead after all does not read it again (and marked as moved in the new, for one that
 *      had). Once nobody is inside the old ring any more (ring.h says why that is then final) this is done for the last time, with the
 *      picture of what is in flight and the counters; the old ring is marked closed, and its memory dropped.
 *      Usually that is at once. If a writer is still inside (it was preempted, or its signal handler is what runs here), previous stays
 *      set, and a later record or span_tick() finishes it. A writer that is not back after STUCK_NS is not coming back (a signal
 *      handler longjmp'ed out of it): then what it has not committed is given up.
 *
 * When? The exporter adds one to the heartbeat every second. We keep the last value seen and about when it was beaten; a ring whose beat is
 * older than OTSHIM_HEARTBEAT_STALE_NS, or that was never given to anybody, is due: once a second while nobody answers the connect, after
 * 5, then 10, 20, 40 seconds while somebody takes the hello and never beats (an exporter that refuses us). The clock is the end time of the
 * record that is being written. When `beat` was seen to advance by n since we last looked, perhaps long ago: an exporter that is alive beats
 * at least every two seconds, so the last beat is at most 2n seconds younger than the one before; that finds out at once that it died while
 * we were idle.
 *
 * The first ring of a process is made here too. The thread with the try-lock tries the hand-over first; others that come meanwhile
 * publish a private ring of their own rather than wait, which step 4 then empties like any other. */
#include "span/handover.h"
#include "base/config.h"
#include "base/raw.h"
#include "span/hello.h"
#include "span/memory.h"
#include "span/span.h"
#include <errno.h>
#include <signal.h>
#include <string.h>

#define RETRY_NS 1000000000ull
#define REFUSED_RETRY_NS 5000000000ull
#define NO_MEMORY_RETRY_NS 60000000000ull
#define STUCK_NS 5000000000ull
#define QUIET_SPINS 200

static uint64_t load(const _Atomic uint64_t *value)
{
    return atomic_load_explicit(value, memory_order_relaxed);
}

static bool before(uint64_t a, uint64_t b)
{
    return (int64_t)(a - b) < 0;
}

/* ---- the try-lock ------------------------------------------------------------------------------------------------------------------ */

/* What the kernel takes for a signal set. Faults stay open: blocked, they would kill at once and without the host's own handler. */
struct mask {
    uint64_t was;
};

static bool lock(struct mask *mask)
{
    uint64_t all = ~0ull;
    if (atomic_load_explicit(&identity.handing_over, memory_order_relaxed) != 0)
        return false;
    static const int faults[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGSYS};
    for (size_t i = 0; i < sizeof(faults) / sizeof(*faults); i++)
        all &= ~(1ull << (faults[i] - 1));
    raw_syscall4(SYS_rt_sigprocmask, SIG_SETMASK, (long)&all, (long)&mask->was, sizeof(all));
    if (atomic_exchange(&identity.handing_over, 1) == 0)
        return true;
    raw_syscall4(SYS_rt_sigprocmask, SIG_SETMASK, (long)&mask->was, 0, sizeof(all));
    return false;
}

static void unlock(const struct mask *mask)
{
    atomic_store(&identity.handing_over, 0);
    raw_syscall4(SYS_rt_sigprocmask, SIG_SETMASK, (long)&mask->was, 0, sizeof(mask->was));
}

/* ---- step 4: moving --------------------------------------------------------------------------------------------------------------- */

static void move_record(struct otshim_rec *rec, uint64_t word, struct ring *to)
{
    const uint64_t len = otshim_word_len(word);
    struct ring_hold hold;
    if (ring_reserve(to, &hold, len - sizeof(*rec), rec->type, rec->reserved | OTSHIM_REC_MOVED, rec->tid)) {
        memcpy(hold.payload, rec + 1, len - sizeof(*rec));
        ring_commit(&hold);
    } else {
        ring_count(to, OTSHIM_COUNT_DROPPED_FULL, 1);
    }
    atomic_store_explicit(&rec->word, (word & ~3ull) | OTSHIM_WORD_PADDING, memory_order_release);
}

/* final: nobody is inside `from` any more, what is not committed now never will be. Otherwise stops where a writer has not come to. The
 * exporter could write anything into this memory: every value is checked, the work is bounded by the size of the ring. */
static void move_records(struct ring *from, struct ring *to, bool final)
{
    const uint64_t bytes = from->data_bytes;
    uint64_t pos = atomic_load_explicit(&from->shm->tail, memory_order_acquire);
    const uint64_t head = load(&from->shm->head);
    if (((head | pos) & 7u) != 0 || head - pos > bytes)
        return;
    while (pos != head) {
        /* Not dead, only slow, and reading at this moment: what it releases meanwhile it has. */
        const uint64_t released = atomic_load_explicit(&from->shm->tail, memory_order_acquire) - pos;
        if (released - 1 < head - pos && (released & 7u) == 0) {
            pos += released;
            continue;
        }
        struct otshim_rec *rec = (struct otshim_rec *)(void *)(from->data + (pos & (bytes - 1)));
        const uint64_t word = atomic_load_explicit(&rec->word, memory_order_acquire);
        const uint64_t len = otshim_word_len(word);
        const uint64_t to_end = bytes - (pos & (bytes - 1));
        if (!otshim_word_is_at(word, pos) || len < 8 || len > head - pos || len > to_end) {
            if (!final)
                return;
            pos += 8;
            continue;
        }
        if (otshim_word_state(word) == OTSHIM_WORD_COMMITTED && len >= sizeof(*rec) && len <= OTSHIM_RECORD_MAX_BYTES)
            move_record(rec, word, to);
        pos += len;
    }
}

static void move_counters(struct ring *from, struct ring *to)
{
    for (int i = 0; i < OTSHIM_COUNTERS; i++)
        ring_count(to, (enum otshim_counter)i, atomic_exchange_explicit(&from->shm->counters[i], 0, memory_order_relaxed));
}

static bool quiet(const struct ring *ring)
{
    for (int i = 0; i < QUIET_SPINS; i++) {
        if (atomic_load(&ring->active) == 0)
            return true;
#ifdef __x86_64__
        __builtin_ia32_pause();
#endif
    }
    return false;
}

/* Lock held. True: there is no previous ring any more. */
static bool finish(uint64_t now)
{
    struct ring *old = atomic_load(&identity.previous);
    struct ring *ring = atomic_load(&identity.current);
    if (old == NULL)
        return true;
    const bool done = quiet(old) || !before(now, load(&identity.unpublished_ns) + STUCK_NS);
    move_records(old, ring, done);
    if (!done)
        return false;
    inflight_move(old, ring);
    move_counters(old, ring);
    atomic_store_explicit(&old->shm->closed, 1, memory_order_release);
    atomic_store(&identity.previous, NULL);
    atomic_fetch_add(&identity.moves, 1);
    memory_drop(old);
    return true;
}

/* ---- steps 1 to 3 ------------------------------------------------------------------------------------------------------------------- */

static void take_pending(struct ring *ring)
{
    for (int i = 0; i < OTSHIM_COUNTERS; i++)
        ring_count(ring, (enum otshim_counter)i, atomic_exchange_explicit(&identity.pending[i], 0, memory_order_relaxed));
}

/* Lock held, no previous. */
static void publish(struct ring *ring, uint64_t now)
{
    struct ring *old = atomic_load(&identity.current);
    atomic_store(&identity.unpublished_ns, now);
    do { /* repeated at most once: the only change without the lock is from NULL to a private ring */
        if (old != NULL && atomic_load(&identity.previous) == NULL)
            atomic_fetch_add(&identity.moves, 1);
        atomic_store(&identity.previous, old);
    } while (!atomic_compare_exchange_strong(&identity.current, &old, ring));
    take_pending(ring);
    runtimes_draw(ring);
}

static struct ring *make_attached(uint64_t now)
{
    const int fd = hello_connect();
    if (fd < 0)
        return NULL;
    const int memfd = memory_memfd(config.ring_bytes);
    struct ring *ring = memfd >= 0 ? memory_make(memfd, config.ring_bytes) : NULL;
    if (ring == NULL) {
        /* A limit of this process, which will hardly be gone in a second. */
        atomic_store(&identity.next_try_ns, now + NO_MEMORY_RETRY_NS);
        span_log(13, memfd == -EFBIG
                         ? "the file size limit (RLIMIT_FSIZE) is too small for the ring: nothing can be handed to the exporter"
                         : "no memory that could be shared with the exporter: nothing can be handed to it");
        if (memfd >= 0)
            hello_close(memfd);
        hello_close(fd);
        return NULL;
    }
    ring->attached = true;
    ring_count(ring, OTSHIM_COUNT_ATTACHES, 1);
    if (hello_send(fd, memfd, atomic_load(&identity.attach_count) + 1) != 0) {
        memory_drop(ring);
        return NULL;
    }
    atomic_fetch_add(&identity.attach_count, 1);
    return ring;
}

/* Lock held. */
static bool hand_over(uint64_t now)
{
    atomic_store(&identity.next_try_ns, now + RETRY_NS);
    if (!finish(now))
        return false;
    struct ring *ring = make_attached(now);
    if (ring == NULL)
        return false;
    const uint32_t unanswered = atomic_fetch_add(&identity.unanswered, 1);
    if (unanswered != 0) /* each costs the move of what is unread, milliseconds if that is much: 5, 10, 20, 40 s */
        atomic_store(&identity.next_try_ns, now + (REFUSED_RETRY_NS << (unanswered < 4 ? unanswered - 1 : 3)));
    atomic_store(&identity.beat, 0);
    atomic_store(&identity.beat_ns, now);
    publish(ring, now);
    finish(now);
    return true;
}

static void publish_private(void)
{
    struct ring *none = NULL;
    struct ring *ring = memory_make(-1, config.ring_bytes);
    if (ring == NULL)
        return;
    if (atomic_compare_exchange_strong(&identity.current, &none, ring)) {
        take_pending(ring);
        runtimes_draw(ring);
    } else {
        memory_drop(ring);
    }
}

bool handover_first(uint64_t now)
{
    struct mask mask;
    const uint64_t next = load(&identity.next_try_ns);
    if (next != 0 && before(now, next) && atomic_load(&identity.handing_over) == 0)
        return atomic_load(&identity.current) != NULL; /* no memory a moment ago */
    identity_begin();
    if (lock(&mask)) {
        if (atomic_load(&identity.current) == NULL && !hand_over(now))
            publish_private();
        unlock(&mask);
    } else if (atomic_load(&identity.current) == NULL) {
        publish_private();
    }
    return atomic_load(&identity.current) != NULL;
}

/* ---- when ----------------------------------------------------------------------------------------------------------------------------- */

static bool listened_to(struct ring *ring, uint64_t now)
{
    if (!ring->attached)
        return false;
    const uint64_t beat = load(&ring->shm->heartbeat);
    const uint64_t seen = load(&identity.beat);
    uint64_t beat_ns = load(&identity.beat_ns);
    if (beat != seen) {
        const uint64_t latest = beat_ns + (beat - seen) * 2 * OTSHIM_HEARTBEAT_NS;
        beat_ns = beat - seen < 1000000 && before(latest, now) ? latest : now;
        atomic_store_explicit(&identity.beat, beat, memory_order_relaxed);
        atomic_store_explicit(&identity.beat_ns, beat_ns, memory_order_relaxed);
        atomic_store_explicit(&identity.unanswered, 0, memory_order_relaxed);
    }
    return before(now, beat_ns + OTSHIM_HEARTBEAT_STALE_NS);
}

bool handover_due(struct ring *ring, uint64_t now)
{
    const struct ring *old = atomic_load_explicit(&identity.previous, memory_order_relaxed);
    if (OTSHIM_UNLIKELY(old != NULL))
        return atomic_load_explicit(&old->active, memory_order_relaxed) == 0 ||
               !before(now, load(&identity.unpublished_ns) + STUCK_NS);
    return OTSHIM_UNLIKELY(!listened_to(ring, now)) && !before(now, load(&identity.next_try_ns));
}

void handover_try(uint64_t now)
{
    struct mask mask;
    if (!lock(&mask))
        return;
    struct ring *ring = atomic_load(&identity.current);
    if (ring != NULL && finish(now) && handover_due(ring, now)) /* asked again: another thread may just have done it */
        hand_over(now);
    unlock(&mask);
}

void handover_last(uint64_t now)
{
    struct mask mask;
    if (atomic_load(&identity.current) == NULL || !lock(&mask))
        return;
    struct ring *ring = atomic_load(&identity.current);
    const bool unread = load(&ring->shm->head) != load(&ring->shm->tail);
    finish(now);
    if (unread && !listened_to(ring, now))
        hand_over(now);
    unlock(&mask);
}
