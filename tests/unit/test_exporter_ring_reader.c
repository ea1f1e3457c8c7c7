/* The ring reader alone, on plain memory: order, laps, gaps, a full ring, producers that died in mid-record, and hostile content. */
#include "ingest/memory.h"
#include "ingest/record_check.h"
#include "ingest/ring_reader.h"
#include "ring_producer.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#define BYTES OTSHIM_RING_MIN_BYTES

static struct producer p;
static struct ring_reader reader;
static struct ring_record record;

static int setup(void **state)
{
    (void)state;
    producer_format(&p, calloc(1, producer_total(BYTES)), BYTES);
    assert_true(ring_reader_init(&reader, p.shm, p.data, p.bytes));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    free(p.shm);
    return 0;
}

static void fresh(void)
{
    teardown(NULL);
    setup(NULL);
}

static enum ring_result next(void)
{
    enum ring_result result;

    do
        result = ring_reader_next(&reader, &record);
    while (result == RING_SKIPPED);
    return result;
}

static uint64_t number(void)
{
    struct otshim_span_rec rec;
    const uint8_t *attrs;

    assert_true(record_check_span(record.bytes + 16, record.len - 16, &rec, &attrs));
    return producer_span_number(&rec);
}

static void test_empty(void **state)
{
    (void)state;
    assert_int_equal(next(), RING_EMPTY);
    assert_false(ring_reader_pending(&reader));
}

static void test_many_laps(void **state)
{
    uint64_t read = 0, laps;

    (void)state;
    for (uint64_t n = 0; n < 20000; n++) {
        assert_true(producer_write_span(&p, n, (uint16_t)(n * 37 % 2000)));
        if (n % 7 != 6)
            continue;
        while (next() == RING_RECORD)
            assert_int_equal(number(), read++);
        assert_null(reader.hostile);
        ring_reader_set_tail(&reader, reader.pos);
    }
    while (next() == RING_RECORD)
        assert_int_equal(number(), read++);
    assert_int_equal(read, 20000);
    laps = reader.pos / BYTES;
    assert_true(laps > 100);
}

static void test_full(void **state)
{
    uint64_t written = 0, read = 0;

    (void)state;
    while (producer_write_span(&p, written, 100))
        written++;
    assert_true(written > 100);
    while (next() == RING_RECORD)
        assert_int_equal(number(), read++);
    assert_int_equal(read, written);
    assert_false(producer_write_span(&p, written, 100)); /* read, but the tail has not moved */
    ring_reader_set_tail(&reader, reader.pos);
    assert_true(producer_write_span(&p, written, 100));
    assert_int_equal(next(), RING_RECORD);
    assert_int_equal(number(), written);
}

/* A successor begins at the tail: what was read and not safe comes again. */
static void test_successor(void **state)
{
    struct ring_reader successor;

    (void)state;
    for (uint64_t n = 0; n < 10; n++)
        producer_write_span(&p, n, 50);
    for (uint64_t n = 0; n < 4; n++)
        next();
    ring_reader_set_tail(&reader, reader.pos);
    for (uint64_t n = 4; n < 8; n++)
        next();
    assert_true(ring_reader_init(&successor, p.shm, p.data, p.bytes));
    reader = successor;
    for (uint64_t n = 4; n < 10; n++) {
        assert_int_equal(next(), RING_RECORD);
        assert_int_equal(number(), n);
    }
    assert_int_equal(next(), RING_EMPTY);
}

static void test_died_while_filling(void **state)
{
    (void)state;
    producer_write_span(&p, 1, 50);
    producer_reserve(&p, 1000, true);
    producer_write_span(&p, 2, 50);
    assert_int_equal(next(), RING_RECORD);
    assert_int_equal(next(), RING_STALLED);
    assert_int_equal(next(), RING_STALLED);
    assert_int_equal(ring_reader_stalled_tid(&reader), syscall(SYS_gettid));
    ring_reader_skip(&reader, reader.head);
    assert_int_equal(next(), RING_RECORD);
    assert_int_equal(number(), 2);
    assert_int_equal(next(), RING_EMPTY);
}

/* Before it could say how long its record is; three of them, one across the end of the ring. */
static void test_died_before_marking(void **state)
{
    uint64_t n = 0;

    (void)state;
    for (int lap = 0; lap < 3; lap++) {
        while (p.shm->head % BYTES < BYTES - 600) {
            assert_true(producer_write_span(&p, n, 100));
            assert_int_equal(next(), RING_RECORD);
            assert_int_equal(number(), n++);
            ring_reader_set_tail(&reader, reader.pos);
        }
        producer_reserve(&p, 200, false);
        producer_reserve(&p, 1000, false);
        producer_write_span(&p, n, 100);
        producer_reserve(&p, 64, false);
        producer_write_span(&p, n + 1, 100);
        for (uint64_t found = n; found < n + 2;) {
            enum ring_result result = next();

            assert_true(result == RING_RECORD || result == RING_STALLED);
            if (result == RING_STALLED)
                ring_reader_skip(&reader, UINT64_MAX);
            else
                assert_int_equal(number(), found++);
        }
        n += 2;
        ring_reader_set_tail(&reader, reader.pos);
        assert_int_equal(next(), RING_EMPTY);
    }
}

/* Resynchronisation does not run past the limit, where records may be in the making. */
static void test_resync_stops_at_its_limit(void **state)
{
    uint64_t limit;

    (void)state;
    producer_reserve(&p, 512, false);
    assert_int_equal(next(), RING_STALLED);
    limit = reader.head;
    producer_reserve(&p, 512, false); /* later: not marked yet */
    producer_write_span(&p, 7, 10);
    ring_reader_skip(&reader, limit);
    assert_int_equal(next(), RING_STALLED);
    assert_int_equal(reader.pos, limit);
    ring_reader_skip(&reader, UINT64_MAX);
    while (next() == RING_STALLED)
        ring_reader_skip(&reader, UINT64_MAX);
    assert_int_equal(number(), 7);
}

/* The payload of a record whose length is known is not searched for words. */
static void test_forged_word_in_a_payload(void **state)
{
    uint64_t pos = producer_reserve(&p, 256, true);

    (void)state;
    atomic_store(producer_word(&p, pos + 64), otshim_word(pos + 64, 64, OTSHIM_WORD_COMMITTED));
    producer_write_span(&p, 3, 10);
    assert_int_equal(next(), RING_STALLED);
    ring_reader_skip(&reader, UINT64_MAX);
    assert_int_equal(next(), RING_RECORD);
    assert_int_equal(number(), 3);
}

static void expect_hostile(void)
{
    assert_int_equal(next(), RING_HOSTILE);
    assert_non_null(reader.hostile);
    assert_int_equal(next(), RING_HOSTILE); /* for good */
}

static void test_hostile_head(void **state)
{
    uint64_t heads[] = {BYTES + 8, UINT64_MAX, UINT64_MAX - 7, 4, 1ull << 63};

    (void)state;
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++) {
        fresh();
        atomic_store(&p.shm->head, heads[i]);
        expect_hostile();
    }
    fresh();
    producer_write_span(&p, 1, 10);
    assert_int_equal(next(), RING_RECORD);
    atomic_store(&p.shm->head, 8);
    expect_hostile();
}

static void test_hostile_tail_at_start(void **state)
{
    uint64_t tails[] = {8, 4, UINT64_MAX, UINT64_MAX - 7, 1ull << 63};

    (void)state;
    for (size_t i = 0; i < sizeof tails / sizeof *tails; i++) {
        atomic_store(&p.shm->tail, tails[i]);
        assert_false(ring_reader_init(&reader, p.shm, p.data, p.bytes));
        assert_int_equal(ring_reader_next(&reader, &record), RING_HOSTILE);
    }
    atomic_store(&p.shm->tail, 0);
    assert_true(ring_reader_init(&reader, p.shm, p.data, p.bytes));
}

static void test_hostile_lengths(void **state)
{
    static const struct {
        uint64_t pos, len, head;
        enum otshim_word_state state;
    } cases[] = {
        {0, 0, 64, OTSHIM_WORD_COMMITTED},
        {0, 8, 64, OTSHIM_WORD_COMMITTED},  /* shorter than its header */
        {0, 72, 64, OTSHIM_WORD_COMMITTED}, /* beyond head */
        {0, OTSHIM_RECORD_MAX_BYTES + 8, BYTES, OTSHIM_WORD_COMMITTED},
        {BYTES - 64, 128, BYTES + 64, OTSHIM_WORD_COMMITTED}, /* across the end */
        {0, 0, 64, OTSHIM_WORD_PADDING},
        {BYTES - 64, 128, BYTES + 64, OTSHIM_WORD_PADDING},
        {0, 72, 64, OTSHIM_WORD_PADDING},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fresh();
        atomic_store(&p.shm->tail, cases[i].pos);
        atomic_store(&p.shm->head, cases[i].head);
        assert_true(ring_reader_init(&reader, p.shm, p.data, p.bytes));
        atomic_store(producer_word(&p, cases[i].pos), otshim_word(cases[i].pos, cases[i].len, cases[i].state));
        expect_hostile();
    }
}

/* Old laps' words, other positions' words, zeroes: not committed here. */
static void test_words_of_other_places(void **state)
{
    (void)state;
    atomic_store(&p.shm->head, 64);
    assert_int_equal(next(), RING_STALLED); /* zeroed memory */
    atomic_store(producer_word(&p, 0), otshim_word(BYTES, 64, OTSHIM_WORD_COMMITTED));
    assert_int_equal(next(), RING_STALLED);
    atomic_store(producer_word(&p, 0), otshim_word(64, 64, OTSHIM_WORD_COMMITTED));
    assert_int_equal(next(), RING_STALLED);
    atomic_store(producer_word(&p, 0), otshim_word(0, 64, OTSHIM_WORD_NONE));
    assert_int_equal(next(), RING_STALLED);
}

static void test_layouts(void **state)
{
    struct otshim_shm good = *p.shm, bad;
    uint64_t bytes = good.total_bytes;

    (void)state;
    assert_null(memory_check_layout(&good, bytes));
#define BAD(field, value)                                                                                                          \
    bad = good;                                                                                                                    \
    bad.field = value;                                                                                                             \
    assert_non_null(memory_check_layout(&bad, bytes))
    BAD(magic, 1);
    BAD(abi_version, 2);
    BAD(total_bytes, bytes + 1);
    BAD(inflight_slots, OTSHIM_INFLIGHT_SLOTS + 1);
    BAD(inflight_off, 0);
    BAD(inflight_off, 4097);
    BAD(inflight_off, bytes - 8);
    BAD(inflight_off, UINT64_MAX - 7);
    BAD(inflight_off, good.data_off);
    BAD(data_off, 0);
    BAD(data_off, good.data_off + 8);
    BAD(data_off, UINT64_MAX - 7);
    BAD(data_off, good.data_off + 4);
    BAD(data_bytes, 0);
    BAD(data_bytes, BYTES + 8);
    BAD(data_bytes, BYTES / 2);
    BAD(data_bytes, BYTES * 2);
    BAD(data_bytes, UINT64_MAX);
    BAD(data_bytes, 1ull << 63);
#undef BAD
    /* No table at all is a layout too. */
    bad = good;
    bad.inflight_slots = 0;
    assert_null(memory_check_layout(&bad, bytes));
}

static void test_record_checks(void **state)
{
    uint8_t payload[OTSHIM_RECORD_MAX_BYTES];
    size_t len = producer_span(payload, 5, 30);
    struct otshim_span_rec rec, *in = (struct otshim_span_rec *)payload;
    const uint8_t *attrs;

    (void)state;
    assert_true(record_check_span(payload, len, &rec, &attrs));
    for (size_t cut = 0; cut < len; cut++)
        assert_false(record_check_span(payload, cut, &rec, &attrs));
#define BAD(statement)                                                                                                             \
    producer_span(payload, 5, 30);                                                                                                 \
    statement;                                                                                                                     \
    assert_false(record_check_span(payload, len, &rec, &attrs))
    BAD(in->kind = 0);
    BAD(in->kind = OTSHIM_SPAN_KIND_LAST + 1);
    BAD(in->protocol = 9);
    BAD(in->transport = 3);
    BAD(in->parent_rule = 10);
    BAD(in->end = 10);
    BAD(in->end = OTSHIM_END_DIED);
    BAD(in->status = 1000);
    BAD(in->peer.family = 2);
    BAD(in->end_ns = in->start_ns - 1);
    BAD(in->end_ns = UINT64_MAX);
    BAD(memset(in->trace_id, 0, 16));
    BAD(memset(in->span_id, 0, 8));
    BAD(in->attr_bytes = 3);
    BAD(in->attr_bytes = UINT32_MAX);
    BAD(((struct otshim_attr *)(payload + sizeof *in))->len = 33);
    BAD(((struct otshim_attr *)(payload + sizeof *in))->len = UINT16_MAX);
    BAD(((struct otshim_attr *)(payload + sizeof *in))->key = OTSHIM_ATTR_STACK); /* 30 is no multiple of 8 */
    BAD(((struct otshim_attr *)(payload + sizeof *in))->key = OTSHIM_ATTR_CODE_LINE);
#undef BAD
    producer_span(payload, 5, 30);
    ((struct otshim_attr *)(payload + sizeof *in))->key = 777; /* unknown: skipped by its reader */
    assert_true(record_check_span(payload, len, &rec, &attrs));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_empty),
        TEST(test_many_laps),
        TEST(test_full),
        TEST(test_successor),
        TEST(test_died_while_filling),
        TEST(test_died_before_marking),
        TEST(test_resync_stops_at_its_limit),
        TEST(test_forged_word_in_a_payload),
        TEST(test_hostile_head),
        TEST(test_hostile_tail_at_start),
        TEST(test_hostile_lengths),
        TEST(test_words_of_other_places),
        TEST(test_layouts),
        TEST(test_record_checks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
