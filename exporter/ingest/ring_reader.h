/* ring_reader.h - reads a ring's records, in order, into private memory. Knows bytes and nothing of processes, clocks or spans.
 *
 * The algorithm is ring.h's. The other side of the memory may be hostile: it can change any byte at any moment. So the layout comes from
 * a private copy, the read position is ours alone, a record is copied before anybody looks into it, and every step moves the position
 * forward by at least 8 bytes or ends the pass: reading terminates whatever the memory holds. */
#ifndef OTSHIM_INGEST_RING_READER_H
#define OTSHIM_INGEST_RING_READER_H

#include <otshim/record.h>
#include <stdbool.h>
#include <stddef.h>

struct ring_reader {
    struct otshim_shm *shm; /* the shared header: only head, tail, heartbeat, closed and counters are ever used */
    const uint8_t *data;    /* the shared data area */
    uint64_t data_bytes;    /* private copy, checked: a power of two */
    uint64_t pos;           /* everything before has been read */
    uint64_t tail;          /* what we last stored there */
    uint64_t head;          /* the last value believed: it may not go backwards */
    uint64_t resync_to;     /* position at which a resynchronisation began to look no further; 0: none going on */
    const char *hostile;    /* why this ring is not read any more; static text */
};

enum ring_result {
    RING_EMPTY,   /* nothing more for now */
    RING_RECORD,  /* *record is filled */
    RING_SKIPPED, /* padding, or a step of resynchronisation: call again */
    RING_STALLED, /* reserved and not committed: come again, or ring_reader_skip() when its producer is known to be gone */
    RING_HOSTILE  /* reader->hostile says why; for good */
};

struct ring_record {
    uint64_t pos;
    size_t len; /* header included, 16 to OTSHIM_RECORD_MAX_BYTES */
    uint32_t tid;
    uint16_t type;
    uint16_t marks;                                     /* OTSHIM_REC_MOVED or 0 */
    _Alignas(8) uint8_t bytes[OTSHIM_RECORD_MAX_BYTES]; /* the payload begins at sizeof(struct otshim_rec) */
};

/* Starts at the ring's tail, where the last exporter left off. False if head and tail make no sense (reader->hostile). */
bool ring_reader_init(struct ring_reader *reader, struct otshim_shm *shm, const uint8_t *data, uint64_t data_bytes);

/* Is there anything to read? One load of one shared cache line. */
static inline bool ring_reader_pending(const struct ring_reader *reader)
{
    return atomic_load_explicit(&reader->shm->head, memory_order_relaxed) != reader->pos;
}

enum ring_result ring_reader_next(struct ring_reader *reader, struct ring_record *record);

/* After RING_STALLED: who reserved it? 0: not known (it died before it could say). */
uint32_t ring_reader_stalled_tid(const struct ring_reader *reader);
/* After RING_STALLED: gives the record up. `limit` is a head position, seen earlier: records reserved after it may be in the making, so
 * resynchronisation looks no further. When the record says its own length exactly that is skipped. */
void ring_reader_skip(struct ring_reader *reader, uint64_t limit);

/* Everything before `tail` may be overwritten: release, pairs with the producer's acquire of tail. */
void ring_reader_set_tail(struct ring_reader *reader, uint64_t tail);

#endif
