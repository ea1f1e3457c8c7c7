/* ring.c - reserve, fill, commit. The algorithm and its reasons are in include/otshim/ring.h; this is the producer's side of it.
 *
 * One compare-and-swap moves head over the new record and, where the record would cross the end of the data area, over the gap before
 * that end as well. From then on [pos, pos + len) is ours alone until the consumer moves tail past it, which it does only after the word
 * says COMMITTED (or the thread that wrote its id there is gone). Relaxed is enough for head: what the consumer needs to see before it
 * believes a record is ordered by the word. Tail is loaded acquire: it pairs with the consumer's release, so that our bytes cannot be
 * seen by it before it has finished with the old ones.
 *
 * A hostile or broken peer can write any head and tail. A head that is not a multiple of 8 makes the ring full for good; anything else
 * lands, masked, inside the data area; a tail above head reads as full. */
#include "span/ring.h"
#include <string.h>

#define INFLIGHT_OFF 4096u
#define PAGE 4096u

static uint64_t data_offset(void)
{
    uint64_t table = sizeof(struct otshim_inflight) * OTSHIM_INFLIGHT_SLOTS;
    return INFLIGHT_OFF + ((table + PAGE - 1) & ~(uint64_t)(PAGE - 1));
}

size_t ring_total_bytes(uint64_t data_bytes)
{
    return (size_t)(data_offset() + data_bytes);
}

void ring_format(struct ring *ring, void *memory, uint64_t data_bytes)
{
    struct otshim_shm *shm = memory;
    shm->abi_version = OTSHIM_ABI_VERSION;
    shm->inflight_slots = OTSHIM_INFLIGHT_SLOTS;
    shm->inflight_off = INFLIGHT_OFF;
    shm->data_off = data_offset();
    shm->data_bytes = data_bytes;
    shm->total_bytes = ring_total_bytes(data_bytes);
    shm->magic = OTSHIM_SHM_MAGIC;
    ring->shm = shm;
    ring->data = (uint8_t *)memory + data_offset();
    ring->data_bytes = data_bytes;
    ring->attached = false;
}

bool ring_reserve(struct ring *ring, struct ring_hold *hold, uint64_t payload_len, uint16_t type, uint16_t marks, uint32_t tid)
{
    struct otshim_shm *shm = ring->shm;
    const uint64_t bytes = ring->data_bytes;
    const uint64_t len = (sizeof(struct otshim_rec) + payload_len + 7u) & ~7ull;
    uint64_t head = atomic_load_explicit(&shm->head, memory_order_relaxed);
    uint64_t gap;
    for (;;) {
        const uint64_t tail = atomic_load_explicit(&shm->tail, memory_order_acquire);
        const uint64_t used = head - tail;
        if (used > bytes) {
            /* Our head is from before the consumer passed it (then there is a newer one), or one of the two is nonsense. */
            const uint64_t newer = atomic_load_explicit(&shm->head, memory_order_relaxed);
            if (newer == head)
                return false;
            head = newer;
            continue;
        }
        const uint64_t to_end = bytes - (head & (bytes - 1));
        gap = len > to_end ? to_end : 0;
        if (gap + len > bytes - used || (head & 7u) != 0)
            return false;
        if (atomic_compare_exchange_weak_explicit(&shm->head, &head, head + gap + len, memory_order_relaxed, memory_order_relaxed))
            break;
    }

    if (gap != 0) { /* only the word: the gap may be no longer than that */
        _Atomic uint64_t *word = (_Atomic uint64_t *)(void *)(ring->data + (head & (bytes - 1)));
        atomic_store_explicit(word, otshim_word(head, gap, OTSHIM_WORD_PADDING), memory_order_release);
        head += gap;
    }
    struct otshim_rec *rec = (struct otshim_rec *)(void *)(ring->data + (head & (bytes - 1)));
    rec->tid = tid;
    rec->type = type;
    rec->reserved = marks;
    /* Release: a consumer that meets the reservation reads the owner's id behind it. */
    atomic_store_explicit(&rec->word, otshim_word(head, len, OTSHIM_WORD_RESERVED), memory_order_release);
    hold->payload = rec + 1;
    hold->rec = rec;
    hold->word = otshim_word(head, len, OTSHIM_WORD_COMMITTED);
    return true;
}
