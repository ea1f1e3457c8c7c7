/* test_preload_ring.c - the producer's half of the ring: wrap, gap, full, nonsense in the header, eight producers against one consumer, a
 * producer that dies between reserve and commit. Run under ThreadSanitizer by tests/unit/tsan_ring.sh. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "ring_consumer.h"
#include "span/ring.h"
#include <pthread.h>
#include <time.h>

#define SMALL 65536u

static struct ring ring;
static struct consumer consumer;

static void fresh(uint64_t bytes)
{
    const size_t total = ring_total_bytes(bytes);
    void *memory = mmap(NULL, total, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(memory, MAP_FAILED);
    ring_format(&ring, memory, bytes);
    consumer_open(&consumer, memory);
}

static bool put(uint64_t value, size_t len)
{
    struct ring_hold hold;
    if (!ring_reserve(&ring, &hold, len, OTSHIM_RECORD_SPAN, 0, 7))
        return false;
    for (size_t i = 0; i + 8 <= len; i += 8)
        memcpy((uint8_t *)hold.payload + i, &value, 8);
    ring_commit(&hold);
    return true;
}

struct seen {
    uint64_t next[16]; /* by producer: the next sequence number expected */
    uint64_t records, holes;
};

/* value = producer << 48 | sequence, repeated over the whole payload. */
static void check(void *arg, const struct otshim_rec *head, const uint8_t *payload, size_t len)
{
    struct seen *seen = arg;
    uint64_t value, other;
    memcpy(&value, payload, 8);
    for (size_t i = 8; i + 8 <= len; i += 8) {
        memcpy(&other, payload + i, 8);
        if (other != value)
            fail_msg("a record with the bytes of two: %llx %llx", (unsigned long long)value, (unsigned long long)other);
    }
    if (head->type != OTSHIM_RECORD_SPAN)
        fail_msg("type %u", head->type);
    const unsigned producer = (unsigned)(value >> 48);
    const uint64_t sequence = value & 0xffffffffffffull;
    if (sequence < seen->next[producer])
        fail_msg("producer %u: record %llu again or out of order", producer, (unsigned long long)sequence);
    seen->holes += sequence - seen->next[producer];
    seen->next[producer] = sequence + 1;
    seen->records++;
}

static void test_wraps(void **state)
{
    (void)state;
    struct seen seen = {{0}, 0, 0};
    fresh(SMALL);
    /* Lengths that meet the end of the area in every way: exactly, and with gaps of 8 bytes and more. */
    for (uint64_t i = 0; i < 20000; i++) {
        assert_true(put(i, 8 + 8 * (i * 7 % 97)));
        assert_int_equal(consumer_read(&consumer, 9, false, check, &seen), 1);
    }
    assert_int_equal(seen.records, 20000);
    assert_int_equal(seen.holes, 0);
    assert_true(consumer.padding > 0);
    assert_int_equal(atomic_load(&ring.shm->head), atomic_load(&ring.shm->tail));
}

static void test_full(void **state)
{
    (void)state;
    struct seen seen = {{0}, 0, 0};
    uint64_t n = 0;
    fresh(SMALL);
    while (put(n, 240))
        n++;
    assert_int_equal(n, SMALL / 256);
    assert_false(put(n, 8));
    assert_int_equal(consumer_read(&consumer, 1, false, check, &seen), 1);
    assert_true(put(n++, 240));
    assert_false(put(n, 240));
    assert_int_equal(consumer_read(&consumer, 99999, false, check, &seen), n - 1);
    assert_int_equal(seen.holes, 0);
    /* A record that would need the gap and has no room for both. */
    while (put(n, 1000))
        n++;
    consumer_read(&consumer, 1, false, check, &seen);
    assert_true(atomic_load(&ring.shm->head) - atomic_load(&ring.shm->tail) <= SMALL);
}

/* Whatever another process writes into the header, nothing is written outside the data area. */
static void test_nonsense_in_header(void **state)
{
    (void)state;
    fresh(SMALL);
    uint8_t *end = (uint8_t *)ring.shm + ring_total_bytes(SMALL);
    (void)end;
    static const uint64_t values[] = {0, 1, 7, 8, SMALL - 8, SMALL, SMALL + 8, ~0ull, ~7ull, 1ull << 63, (1ull << 63) + SMALL - 8};
    for (size_t h = 0; h < sizeof(values) / sizeof(*values); h++)
        for (size_t t = 0; t < sizeof(values) / sizeof(*values); t++) {
            atomic_store(&ring.shm->head, values[h]);
            atomic_store(&ring.shm->tail, values[t]);
            ring.shm->data_bytes = ~0ull;
            ring.shm->data_off = ~0ull;
            struct ring_hold hold;
            if (ring_reserve(&ring, &hold, 4000, 1, 0, 1)) {
                assert_true((uint8_t *)hold.rec >= ring.data && (uint8_t *)hold.payload + 4000 <= ring.data + SMALL);
                assert_int_equal((uintptr_t)hold.rec & 7, 0);
            }
        }
}

/* ---- eight producers ------------------------------------------------------------------------------------------------------------ */

#define PRODUCERS 8
static uint64_t per_producer = 40000;
static _Atomic uint64_t dropped;
static _Atomic int running;

static void *produce(void *arg)
{
    const uint64_t id = (uintptr_t)arg;
    for (uint64_t i = 0; i < per_producer; i++)
        if (!put(id << 48 | i, 8 + 8 * ((i * 31 + id) % 60))) {
            atomic_fetch_add(&dropped, 1);
            if ((i & 7) == 0)
                sched_yield();
        }
    atomic_fetch_sub(&running, 1);
    return NULL;
}

static void test_eight_producers(void **state)
{
    (void)state;
    struct seen seen = {{0}, 0, 0};
    pthread_t threads[PRODUCERS];
    fresh(SMALL); /* small: wraps all the time, and is full often */
    atomic_store(&dropped, 0);
    atomic_store(&running, PRODUCERS);
    for (uintptr_t i = 0; i < PRODUCERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, produce, (void *)i), 0);
    while (atomic_load(&running) != 0)
        if (consumer_read(&consumer, 1000, false, check, &seen) == 0)
            sched_yield();
    for (int i = 0; i < PRODUCERS; i++)
        pthread_join(threads[i], NULL);
    consumer_read(&consumer, SIZE_MAX, false, check, &seen);
    assert_int_equal(seen.records + atomic_load(&dropped), PRODUCERS * per_producer);
    assert_int_equal(atomic_load(&ring.shm->head), consumer.pos);
    assert_int_equal(consumer.skipped, 0);
    printf("    %llu read, %llu dropped (full), %llu gaps\n", (unsigned long long)seen.records,
           (unsigned long long)atomic_load(&dropped), (unsigned long long)consumer.padding);
}

static void *die_holding(void *arg)
{
    struct ring_hold hold;
    (void)arg;
    if (!ring_reserve(&ring, &hold, 200, OTSHIM_RECORD_SPAN, 0, 9))
        return (void *)1;
    memset(hold.payload, 0xee, 100);
    pthread_exit(NULL); /* between reserve and commit */
}

static void test_dead_producer(void **state)
{
    (void)state;
    struct seen seen = {{0}, 0, 0};
    pthread_t thread;
    void *result;
    fresh(SMALL);
    assert_true(put(0, 64));
    pthread_create(&thread, NULL, die_holding, NULL);
    pthread_join(thread, &result);
    assert_null(result);
    assert_true(put(1, 64));
    assert_int_equal(consumer_read(&consumer, 99, false, check, &seen), 1); /* stops in front of it */
    assert_int_equal(consumer_read(&consumer, 99, true, check, &seen), 1);  /* the owner is gone: goes on behind it */
    assert_int_equal(consumer.skipped, 216);
    assert_int_equal(seen.holes, 0);
}

int main(void)
{
    if (getenv("RING_RECORDS") != NULL)
        per_producer = (uint64_t)atol(getenv("RING_RECORDS"));
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wraps),           cmocka_unit_test(test_full),          cmocka_unit_test(test_nonsense_in_header),
        cmocka_unit_test(test_eight_producers), cmocka_unit_test(test_dead_producer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
