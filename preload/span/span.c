/* span.c - a record from its parts into the ring; what is counted; what is said.
 *
 * The hot path is span_write(): enter the current ring, reserve, copy the record and its attributes straight into the reservation, commit,
 * leave, and look whether the exporter still listens. No system call, no lock, no buffer in between. Everything rare (no ring yet, nobody
 * listens) is in handover.c.
 *
 * Diagnostics (span_log) never make a ring by themselves: a program that touches no network stays without one. The first few are kept
 * until there is a ring; a forked child inherits those that were not yet said, because in a pre-forking server it is the child that says
 * them first. */
#include "span/span.h"
#include "base/config.h"
#include "base/raw.h"
#include "span/handover.h"
#include "span/hello.h"
#include <string.h>
#include <sys/uio.h>

/* ---- records -------------------------------------------------------------------------------------------------------------------- */

#define ATTR_ROOM (OTSHIM_RECORD_MAX_BYTES - sizeof(struct otshim_rec) - sizeof(struct otshim_span_rec))

/* Bytes of the attributes that fit; *n becomes their number. */
static uint32_t attr_bytes(const struct span_attr *attrs, size_t *n)
{
    uint32_t bytes = 0;
    for (size_t i = 0; i < *n; i++) {
        const uint32_t size = attrs[i].len != 0 ? otshim_attr_size(attrs[i].len) : 0;
        if (bytes + size > ATTR_ROOM) {
            *n = i;
            break;
        }
        bytes += size;
    }
    return bytes;
}

static void put_attrs(uint8_t *at, const struct span_attr *attrs, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (attrs[i].len == 0)
            continue;
        const struct otshim_attr head = {.key = attrs[i].key, .len = attrs[i].len};
        const uint32_t size = otshim_attr_size(attrs[i].len);
        memset(at + size - 4, 0, 4); /* the padding; overwritten where there is none */
        memcpy(at, &head, sizeof(head));
        memcpy(at + sizeof(head), attrs[i].bytes, attrs[i].len);
        at += size;
    }
}

static void count_without_ring(enum otshim_counter counter)
{
    atomic_fetch_add_explicit(&identity.pending[counter], 1, memory_order_relaxed);
}

static struct ring *enter(uint64_t now)
{
    struct ring *ring = identity_enter(&identity.current);
    if (OTSHIM_LIKELY(ring != NULL))
        return ring;
    return span_first_ring(now) ? identity_enter(&identity.current) : NULL;
}

void span_write(struct otshim_span_rec *rec, const struct span_attr *attrs, size_t nattrs)
{
    const uint64_t now = rec->end_ns;
    size_t n = nattrs;
    rec->attr_bytes = attr_bytes(attrs, &n);
    if (n != nattrs)
        rec->flags |= OTSHIM_SPAN_TRUNCATED;
    rec->tid = identity_tid();

    struct ring *ring = enter(now);
    if (ring == NULL) {
        count_without_ring(OTSHIM_COUNT_DROPPED_FULL);
        return;
    }
    struct ring_hold hold;
    if (OTSHIM_LIKELY(ring_reserve(ring, &hold, sizeof(*rec) + rec->attr_bytes, OTSHIM_RECORD_SPAN, 0, rec->tid))) {
        memcpy(hold.payload, rec, sizeof(*rec));
        put_attrs((uint8_t *)hold.payload + sizeof(*rec), attrs, n);
        ring_commit(&hold);
        ring_count(ring, OTSHIM_COUNT_SPANS, 1);
    } else {
        ring_count(ring, OTSHIM_COUNT_DROPPED_FULL, 1);
    }
    const bool due = handover_due(ring, now);
    identity_leave(ring);
    if (OTSHIM_UNLIKELY(due))
        handover_try(now);
}

void span_count(enum otshim_counter counter)
{
    struct ring *ring = identity_enter(&identity.current);
    if (ring == NULL) {
        count_without_ring(counter);
        return;
    }
    ring_count(ring, counter, 1);
    identity_leave(ring);
}

/* ---- diagnostics ------------------------------------------------------------------------------------------------------------------ */

#define PENDING_LOGS 8u
#define PENDING_TEXT 254u

static struct {
    _Atomic uint8_t severity; /* 0: not (yet, or any more) there */
    uint8_t len;
    char text[PENDING_TEXT];
} pending_logs[PENDING_LOGS];
static _Atomic uint32_t pending_count;

static void keep_log(uint8_t severity, const char *text, size_t len)
{
    const uint32_t i = atomic_fetch_add(&pending_count, 1);
    if (i >= PENDING_LOGS)
        return;
    pending_logs[i].len = (uint8_t)(len < PENDING_TEXT ? len : PENDING_TEXT);
    memcpy(pending_logs[i].text, text, pending_logs[i].len);
    atomic_store_explicit(&pending_logs[i].severity, severity, memory_order_release);
}

/* False: there is no ring. */
static bool put_log(uint8_t severity, const char *text, size_t len)
{
    struct ring *ring = identity_enter(&identity.current);
    if (ring == NULL)
        return false;
    struct ring_hold hold;
    const struct span_attr attr = {.key = OTSHIM_ATTR_ERROR_TEXT, .len = (uint16_t)len, .bytes = text};
    const struct otshim_log_rec rec = {.time_ns = now_ns(), .severity = severity, .attr_bytes = otshim_attr_size((uint32_t)len)};
    if (ring_reserve(ring, &hold, sizeof(rec) + rec.attr_bytes, OTSHIM_RECORD_LOG, 0, identity_tid())) {
        memcpy(hold.payload, &rec, sizeof(rec));
        put_attrs((uint8_t *)hold.payload + sizeof(rec), &attr, 1);
        ring_commit(&hold);
    } else {
        ring_count(ring, OTSHIM_COUNT_DROPPED_FULL, 1);
    }
    identity_leave(ring);
    return true;
}

static void say_pending(void)
{
    for (uint32_t i = 0; i < PENDING_LOGS; i++) {
        const uint8_t severity = atomic_exchange_explicit(&pending_logs[i].severity, 0, memory_order_acquire);
        if (severity != 0)
            put_log(severity, pending_logs[i].text, pending_logs[i].len);
    }
}

bool span_first_ring(uint64_t now)
{
    if (!handover_first(now))
        return false;
    say_pending();
    return true;
}

/* OTSHIM_LOG: to stderr as well, for somebody who asked. */
static void print_log(uint8_t severity, const char *text, size_t len)
{
    const int wanted = severity >= 17 ? 1 : severity >= 9 ? 2 : 3;
    if (config.log_level < wanted)
        return;
    const struct iovec parts[] = {
        {.iov_base = (void *)(uintptr_t) "otshim: ", .iov_len = 8},
        {.iov_base = (void *)(uintptr_t)text, .iov_len = len},
        {.iov_base = (void *)(uintptr_t) "\n", .iov_len = 1},
    };
    raw_syscall3(SYS_writev, 2, (long)parts, 3);
}

void span_log(uint8_t severity, const char *text)
{
    size_t len = strlen(text);
    if (len > OTSHIM_TEXT_MAX)
        len = OTSHIM_TEXT_MAX;
    if (len == 0)
        return;
    print_log(severity, text, len);
    if (!put_log(severity, text, len))
        keep_log(severity, text, len);
}

/* ---- the process's turns ------------------------------------------------------------------------------------------------------------ */

/* A few milliseconds old at most, and cheaper than now_ns(): good enough for "three seconds". */
static uint64_t coarse_now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
    return (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
}

void span_tick(void)
{
    struct ring *ring = atomic_load_explicit(&identity.current, memory_order_relaxed);
    if (ring == NULL)
        return;
    if (atomic_load_explicit(&ring->shm->head, memory_order_relaxed) ==
            atomic_load_explicit(&ring->shm->tail, memory_order_relaxed) &&
        atomic_load_explicit(&identity.previous, memory_order_relaxed) == NULL)
        return;
    /* Not entered, to save two locked instructions a wait: a ring that was dropped this moment is still mapped, and reads as zero. */
    const uint64_t now = coarse_now_ns();
    if (OTSHIM_UNLIKELY(handover_due(ring, now)))
        handover_try(now);
}

void span_at_exit(void)
{
    handover_last(now_ns());
}

static void set_closed(uint32_t closed)
{
    struct ring *ring = identity_enter(&identity.current);
    if (ring == NULL)
        return;
    atomic_store_explicit(&ring->shm->closed, closed, memory_order_release);
    identity_leave(ring);
}

void span_before_exec(void)
{
    handover_last(now_ns());
    set_closed(1);
}

/* If the exporter has let go of the ring meanwhile, its heartbeat stands still, and the ring is handed over as from a dead one. */
void span_exec_failed(void)
{
    set_closed(0);
}

void span_after_fork(void)
{
    identity_wipe();
    hello_after_fork();
}
