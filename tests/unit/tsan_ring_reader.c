/* The two halves of the ring against each other: eight threads write with the library's producer (preload/span/ring.c), this one reads with
 * the exporter's reader and releases by receipts that settle late and out of order. Run under ThreadSanitizer (tests/tsan/run.sh), which
 * sees both sides of every barrier here, as it cannot across two processes. Without it the program is a test of its own: every record that
 * was written is read once, in its thread's order, byte for byte. */
#include "ingest/receipt.h"
#include "ingest/ring_reader.h"
#include "span/ring.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define THREADS 8
#define HELD 300 /* receipts not settled yet */

struct payload {
    uint32_t thread, len;
    uint64_t number;
    uint8_t fill[];
};

static struct ring ring;
static uint64_t records = 20000;
static _Atomic unsigned running = THREADS;
static uint64_t written[THREADS], full[THREADS];

static void *writer(void *arg)
{
    const uint32_t thread = (uint32_t)(uintptr_t)arg;

    for (uint64_t n = 0; n < records; n++) {
        const uint32_t len = (uint32_t)(sizeof(struct payload) + (n * 31 + thread * 7) % 700);
        struct ring_hold hold;

        if (!ring_reserve(&ring, &hold, len, 1, 0, thread + 1)) {
            full[thread]++;
            sched_yield();
            continue;
        }
        struct payload *payload = hold.payload;
        payload->thread = thread;
        payload->len = len;
        payload->number = n;
        memset(payload->fill, (int)(n + thread), len - sizeof *payload);
        ring_commit(&hold);
        written[thread]++;
    }
    atomic_fetch_sub(&running, 1);
    return NULL;
}

static void check(const struct ring_record *record, uint64_t next[THREADS], uint64_t counts[THREADS])
{
    const struct payload *payload = (const struct payload *)(record->bytes + sizeof(struct otshim_rec));

    if (payload->thread >= THREADS || record->tid != payload->thread + 1 || payload->number < next[payload->thread] ||
        record->len != ((sizeof(struct otshim_rec) + payload->len + 7) & ~(size_t)7))
        abort();
    for (uint32_t i = 0; i < payload->len - sizeof *payload; i++)
        if (payload->fill[i] != (uint8_t)(payload->number + payload->thread))
            abort();
    next[payload->thread] = payload->number + 1;
    counts[payload->thread]++;
}

static void moved(void *arg, uint64_t tail)
{
    ring_reader_set_tail(arg, tail);
}

/* Settles one of the receipts held, any of them. */
static void settle_one(struct receipt **held, unsigned *count, unsigned *seed)
{
    unsigned i = (unsigned)rand_r(seed) % *count;

    receipt_settle(held[i]);
    held[i] = held[--*count];
}

static void read_all(struct ring_reader *reader, uint64_t counts[THREADS])
{
    static struct ring_record record;
    struct receipt_queue queue;
    struct receipt *held[HELD];
    uint64_t next[THREADS] = {0};
    unsigned count = 0, seed = 1, in_chunk = 0;

    receipt_queue_init(&queue, 0, moved, reader);
    for (;;) {
        unsigned before = atomic_load(&running);
        enum ring_result result = ring_reader_next(reader, &record);

        if (result == RING_RECORD) {
            check(&record, next, counts);
            if (count == HELD)
                settle_one(held, &count, &seed);
            held[count++] = receipt_take(&queue);
            if (++in_chunk % 16 == 0)
                receipt_close(&queue, reader->pos);
        } else if (result == RING_HOSTILE) {
            fprintf(stderr, "hostile: %s\n", reader->hostile);
            abort();
        } else if (result != RING_SKIPPED) {
            receipt_close(&queue, reader->pos);
            while (count > 0)
                settle_one(held, &count, &seed);
            if (result == RING_EMPTY && before == 0)
                break;
            sched_yield();
        }
    }
    if (queue.first != NULL || reader->tail != reader->pos)
        abort();
}

int main(void)
{
    const uint64_t bytes = OTSHIM_RING_MIN_BYTES;
    void *memory = aligned_alloc(4096, (ring_total_bytes(bytes) + 4095) & ~(size_t)4095);
    uint64_t counts[THREADS] = {0}, total = 0, dropped = 0;
    struct ring_reader reader;
    pthread_t threads[THREADS];

    if (getenv("RING_RECORDS") != NULL)
        records = strtoull(getenv("RING_RECORDS"), NULL, 10);
    memset(memory, 0, ring_total_bytes(bytes));
    ring_format(&ring, memory, bytes);
    if (!ring_reader_init(&reader, ring.shm, ring.data, bytes))
        abort();
    for (uintptr_t i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, writer, (void *)i);
    read_all(&reader, counts);
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        if (counts[i] != written[i] || written[i] + full[i] != records)
            abort();
        total += counts[i];
        dropped += full[i];
    }
    printf("tsan_ring_reader: %llu records read, %llu not written because the ring was full, %llu laps\n",
           (unsigned long long)total, (unsigned long long)dropped, (unsigned long long)(reader.pos / bytes));
    free(memory);
    return 0;
}
