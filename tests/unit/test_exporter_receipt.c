/* Receipts: spans settle in any order, the tail moves in one, and never past an unsettled record unless it is told to. */
#include "ingest/receipt.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static uint64_t moved_to;
static unsigned moves;

static void moved(void *arg, uint64_t tail)
{
    (void)arg;
    assert_true(tail > moved_to);
    moved_to = tail;
    moves++;
}

static int setup(void **state)
{
    static struct receipt_queue queue;

    moved_to = 0;
    moves = 0;
    receipt_queue_init(&queue, 0, moved, NULL);
    *state = &queue;
    return 0;
}

static int teardown(void **state)
{
    receipt_queue_detach(*state);
    return 0;
}

static void test_settled_in_order(void **state)
{
    struct receipt_queue *queue = *state;
    struct receipt *a = receipt_take(queue), *same = receipt_take(queue), *b;

    assert_ptr_equal(a, same); /* one chunk, two spans */
    receipt_close(queue, 100);
    b = receipt_take(queue);
    assert_ptr_not_equal(a, b);
    receipt_close(queue, 200);
    receipt_settle(a);
    assert_int_equal(moved_to, 0);
    receipt_settle(a);
    assert_int_equal(moved_to, 100);
    receipt_settle(b);
    assert_int_equal(moved_to, 200);
    assert_null(queue->first);
    assert_null(queue->last);
}

static void test_settled_backwards(void **state)
{
    struct receipt_queue *queue = *state;
    struct receipt *r[3];

    for (unsigned i = 0; i < 3; i++) {
        r[i] = receipt_take(queue);
        receipt_close(queue, (i + 1) * 100);
    }
    receipt_settle(r[2]);
    receipt_settle(r[1]);
    assert_int_equal(moves, 0);
    receipt_settle(r[0]);
    assert_int_equal(moved_to, 300);
    assert_int_equal(moves, 1);
}

static void test_settled_before_its_chunk_closes(void **state)
{
    struct receipt_queue *queue = *state;
    struct receipt *r = receipt_take(queue);

    receipt_settle(r);
    assert_int_equal(moves, 0);
    assert_ptr_equal(receipt_take(queue), r); /* still open */
    receipt_settle(r);
    receipt_close(queue, 64);
    assert_int_equal(moved_to, 64);
}

static void test_records_without_spans(void **state)
{
    struct receipt_queue *queue = *state;
    struct receipt *r;

    receipt_close(queue, 50); /* nothing owed at all */
    assert_int_equal(moved_to, 50);
    r = receipt_take(queue);
    receipt_close(queue, 100);
    receipt_close(queue, 170); /* behind an unsettled chunk: covered by it */
    assert_int_equal(moved_to, 50);
    receipt_settle(r);
    assert_int_equal(moved_to, 170);
}

static void test_released_early(void **state)
{
    struct receipt_queue *queue = *state;
    struct receipt *r[4];

    for (unsigned i = 0; i < 4; i++) {
        r[i] = receipt_take(queue);
        receipt_close(queue, (i + 1) * 100);
    }
    receipt_release_oldest(queue, 150); /* the chunks [0,100) and [100,200) */
    assert_int_equal(moved_to, 200);
    receipt_settle(r[0]); /* settled later: nothing moves, nothing breaks */
    receipt_settle(r[1]);
    assert_int_equal(moved_to, 200);
    receipt_settle(r[2]);
    assert_int_equal(moved_to, 300);
    receipt_settle(r[3]);
    assert_int_equal(moved_to, 400);
}

static void test_never_past_an_open_chunk(void **state)
{
    struct receipt_queue *queue = *state;
    struct receipt *a = receipt_take(queue), *open;

    receipt_close(queue, 100);
    open = receipt_take(queue);
    receipt_release_oldest(queue, 1000);
    assert_int_equal(moved_to, 100);
    receipt_settle(a);
    receipt_settle(open);
    receipt_close(queue, 200);
    assert_int_equal(moved_to, 200);
}

static void test_ring_gone(void **state)
{
    struct receipt_queue *queue = *state;
    struct receipt *a = receipt_take(queue), *b;

    receipt_close(queue, 100);
    b = receipt_take(queue);
    receipt_take(queue);
    receipt_queue_detach(queue); /* b is open and owed twice */
    receipt_settle(b);
    receipt_settle(a);
    receipt_settle(b);
    receipt_settle(NULL);
    assert_int_equal(moves, 0);
}

/* Any order of 6 chunks of 1 to 3 spans: the tail is always the end of the settled prefix. */
static void test_any_order(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed < 2000; seed++) {
        struct receipt_queue queue;
        struct receipt *owed[18];
        unsigned chunk_of[18], open_in[6] = {0}, count = 0;

        srand(seed);
        moved_to = 0;
        receipt_queue_init(&queue, 0, moved, NULL);
        for (unsigned c = 0; c < 6; c++) {
            for (unsigned n = 1 + (unsigned)rand() % 3; n > 0; n--) {
                chunk_of[count] = c;
                open_in[c]++;
                owed[count++] = receipt_take(&queue);
            }
            receipt_close(&queue, (c + 1) * 8);
        }
        while (count > 0) {
            unsigned i = (unsigned)rand() % count, prefix = 0;

            receipt_settle(owed[i]);
            open_in[chunk_of[i]]--;
            owed[i] = owed[count - 1];
            chunk_of[i] = chunk_of[--count];
            while (prefix < 6 && open_in[prefix] == 0)
                prefix++;
            assert_int_equal(queue.tail, prefix * 8);
        }
        assert_int_equal(moved_to, 48);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_settled_in_order, setup, teardown),
        cmocka_unit_test_setup_teardown(test_settled_backwards, setup, teardown),
        cmocka_unit_test_setup_teardown(test_settled_before_its_chunk_closes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_records_without_spans, setup, teardown),
        cmocka_unit_test_setup_teardown(test_released_early, setup, teardown),
        cmocka_unit_test_setup_teardown(test_never_past_an_open_chunk, setup, teardown),
        cmocka_unit_test_setup_teardown(test_ring_gone, setup, teardown),
        cmocka_unit_test(test_any_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
