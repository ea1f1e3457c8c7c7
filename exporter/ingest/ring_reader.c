/* ring_reader.c - see ring_reader.h.
 *
 * Who writes what: producers write head (CAS), the words and the payloads; we write tail. The acquire load of a word pairs with the
 * producer's release store that committed it, so that the payload is complete; the release store of tail pairs with the producer's
 * acquire load, so that our copying is over before the bytes are used again. */
#include "ingest/ring_reader.h"
#include <string.h>

/* Steps of resynchronisation in one call: bounds the time that one dead (or hostile) process can take from the others. */
#define RESYNC_STEPS (64u * 1024u / 8u)

static _Atomic uint64_t *ring_word(const struct ring_reader *reader, uint64_t pos)
{
    return (_Atomic uint64_t *)(uintptr_t)(reader->data + (pos & (reader->data_bytes - 1)));
}

static uint64_t ring_load_word(const struct ring_reader *reader, uint64_t pos)
{
    return atomic_load_explicit(ring_word(reader, pos), memory_order_acquire);
}

static enum ring_result ring_hostile(struct ring_reader *reader, const char *why)
{
    reader->hostile = why;
    return RING_HOSTILE;
}

/* Loads head and believes it only if a real producer can have put it there. */
static bool ring_load_head(struct ring_reader *reader)
{
    uint64_t head = atomic_load_explicit(&reader->shm->head, memory_order_acquire);

    if (head < reader->head)
        reader->hostile = "its head went backwards";
    else if (head - reader->tail > reader->data_bytes)
        reader->hostile = "its head is further from its tail than the ring is long";
    else if ((head & 7) != 0)
        reader->hostile = "its head is not aligned";
    else
        reader->head = head;
    return reader->hostile == NULL;
}

bool ring_reader_init(struct ring_reader *reader, struct otshim_shm *shm, const uint8_t *data, uint64_t data_bytes)
{
    uint64_t tail = atomic_load_explicit(&shm->tail, memory_order_acquire);

    *reader = (struct ring_reader){.shm = shm, .data = data, .data_bytes = data_bytes, .pos = tail, .tail = tail, .head = tail};
    if ((tail & 7) != 0)
        reader->hostile = "its tail is not aligned";
    else if (tail > UINT64_MAX / 2) /* no real ring gets there, and sums of positions cannot overflow below */
        reader->hostile = "its tail is beyond any real position";
    return reader->hostile == NULL && ring_load_head(reader);
}

/* May a record of `len` bytes stand at pos? It ends before head, does not wrap, and is no longer than the longest. */
static bool ring_len_fits(const struct ring_reader *reader, uint64_t len, uint64_t min)
{
    return len >= min && len <= OTSHIM_RECORD_MAX_BYTES && len <= reader->head - reader->pos &&
           (reader->pos & (reader->data_bytes - 1)) + len <= reader->data_bytes;
}

static enum ring_result ring_take(struct ring_reader *reader, uint64_t word, struct ring_record *record)
{
    uint64_t len = otshim_word_len(word), again;
    const struct otshim_rec *rec;

    if (!ring_len_fits(reader, len, sizeof(struct otshim_rec)))
        return ring_hostile(reader, "a record's length is impossible");
    memcpy(record->bytes, reader->data + (reader->pos & (reader->data_bytes - 1)), len);
    /* A committed word does not change before tail has passed it, but for one reason: its process has given us up and moved the record to a
     * new ring (preload/span/handover.c); then it is padding here. */
    atomic_thread_fence(memory_order_acquire);
    again = atomic_load_explicit(ring_word(reader, reader->pos), memory_order_relaxed);
    if (again == ((word & ~3ull) | OTSHIM_WORD_PADDING)) {
        reader->pos += len;
        return RING_SKIPPED;
    }
    if (again != word)
        return ring_hostile(reader, "a committed record changed while it was read");
    rec = (const struct otshim_rec *)record->bytes;
    record->pos = reader->pos;
    record->len = len;
    record->tid = rec->tid;
    record->type = rec->type;
    record->marks = rec->reserved;
    reader->pos += len;
    return RING_RECORD;
}

/* Steps on, 8 bytes at a time, to the next word that names its own position, at most to resync_to. */
static enum ring_result ring_resync(struct ring_reader *reader)
{
    for (unsigned step = 0; step < RESYNC_STEPS; step++) {
        if (reader->pos >= reader->resync_to) {
            reader->resync_to = 0;
            return RING_SKIPPED;
        }
        uint64_t word = ring_load_word(reader, reader->pos);
        if (otshim_word_is_at(word, reader->pos) && otshim_word_state(word) != OTSHIM_WORD_NONE &&
            ring_len_fits(reader, otshim_word_len(word), 8)) {
            reader->resync_to = 0;
            return RING_SKIPPED;
        }
        reader->pos += 8;
    }
    return RING_SKIPPED;
}

enum ring_result ring_reader_next(struct ring_reader *reader, struct ring_record *record)
{
    uint64_t word;

    if (reader->hostile != NULL)
        return RING_HOSTILE;
    if (reader->resync_to != 0)
        return ring_resync(reader);
    if (reader->pos == reader->head) {
        if (!ring_load_head(reader))
            return RING_HOSTILE;
        if (reader->pos == reader->head)
            return RING_EMPTY;
    }
    word = ring_load_word(reader, reader->pos);
    if (!otshim_word_is_at(word, reader->pos))
        return RING_STALLED;
    switch (otshim_word_state(word)) {
    case OTSHIM_WORD_COMMITTED: return ring_take(reader, word, record);
    case OTSHIM_WORD_PADDING:
        if (!ring_len_fits(reader, otshim_word_len(word), 8))
            return ring_hostile(reader, "a gap's length is impossible");
        reader->pos += otshim_word_len(word);
        return RING_SKIPPED;
    default: return RING_STALLED;
    }
}

uint32_t ring_reader_stalled_tid(const struct ring_reader *reader)
{
    uint64_t word = ring_load_word(reader, reader->pos);
    struct otshim_rec *rec = (struct otshim_rec *)(uintptr_t)ring_word(reader, reader->pos);

    if (!otshim_word_is_at(word, reader->pos) || otshim_word_state(word) != OTSHIM_WORD_RESERVED ||
        !ring_len_fits(reader, otshim_word_len(word), sizeof(struct otshim_rec)))
        return 0;
    return *(volatile uint32_t *)&rec->tid;
}

void ring_reader_skip(struct ring_reader *reader, uint64_t limit)
{
    uint64_t word = ring_load_word(reader, reader->pos);

    if (reader->hostile != NULL || reader->pos == reader->head)
        return;
    if (otshim_word_is_at(word, reader->pos) && otshim_word_state(word) != OTSHIM_WORD_NONE &&
        ring_len_fits(reader, otshim_word_len(word), 8)) {
        reader->pos += otshim_word_len(word); /* the reservation is known to the byte; its payload is not searched for words */
        return;
    }
    if (limit > reader->head)
        limit = reader->head;
    if (limit <= reader->pos)
        limit = reader->pos + 8; /* at least forward */
    reader->resync_to = limit;
    reader->pos += 8;
}

void ring_reader_set_tail(struct ring_reader *reader, uint64_t tail)
{
    reader->tail = tail;
    atomic_store_explicit(&reader->shm->tail, tail, memory_order_release);
}
