/* ring.h - the producer's half of include/otshim/ring.h, and how a piece of memory becomes a ring.
 *
 * Who may write: every thread and signal handler of the process, at the same time, without locks. What the producer knows about the
 * memory (where it is, how large) it keeps here, in private memory: the header is shared with another process, and a value that is read
 * from there (head, tail) is only ever used masked and aligned, so that no content of it can make us write outside the data area.
 *
 * `active` counts the threads that are between ring_enter() and ring_leave(). A ring is replaced (handover.c) by publishing another one
 * and waiting until active is 0; the pairing is Dekker's: a writer adds itself, then looks whether the ring is still the published one;
 * the replacer publishes, then looks whether anybody is inside. Both with sequential consistency, so at least one sees the other, and a
 * ring that was seen quiet after it was unpublished is never touched again. */
#ifndef OTSHIM_SPAN_RING_H
#define OTSHIM_SPAN_RING_H

#include <otshim/ring.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ring {
    struct otshim_shm *shm;
    uint8_t *data;
    uint64_t data_bytes; /* power of two */
    bool attached;       /* an exporter was given this memory */
    alignas(64) _Atomic uint32_t active;
};

/* A reservation: fill `payload` (len bytes as asked), then commit. */
struct ring_hold {
    void *payload;
    struct otshim_rec *rec;
    uint64_t word;
};

/* Size of the memory for a data area of data_bytes. */
size_t ring_total_bytes(uint64_t data_bytes);
/* Writes the header into zeroed memory of that size. */
void ring_format(struct ring *ring, void *memory, uint64_t data_bytes);

/* False: full (the caller counts it). payload_len + 16 <= OTSHIM_RECORD_MAX_BYTES. */
bool ring_reserve(struct ring *ring, struct ring_hold *hold, uint64_t payload_len, uint16_t type, uint16_t marks, uint32_t tid);
static inline void ring_commit(const struct ring_hold *hold)
{
    /* Release: pairs with the consumer's acquire load of the word. */
    atomic_store_explicit(&hold->rec->word, hold->word, memory_order_release);
}

static inline struct ring *ring_enter(_Atomic(struct ring *) *published)
{
    struct ring *ring = atomic_load_explicit(published, memory_order_acquire);
    while (ring != NULL) {
        atomic_fetch_add(&ring->active, 1);
        struct ring *again = atomic_load(published);
        if (__builtin_expect(again == ring, 1))
            return ring;
        atomic_fetch_sub(&ring->active, 1);
        ring = again;
    }
    return NULL;
}
static inline void ring_leave(struct ring *ring)
{
    atomic_fetch_sub_explicit(&ring->active, 1, memory_order_release);
}

static inline void ring_count(struct ring *ring, enum otshim_counter counter, uint64_t by)
{
    atomic_fetch_add_explicit(&ring->shm->counters[counter], by, memory_order_relaxed);
}

static inline struct otshim_inflight *ring_inflight(const struct ring *ring)
{
    return (struct otshim_inflight *)(void *)((uint8_t *)ring->shm + 4096);
}

#endif
