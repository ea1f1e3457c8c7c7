/* test_exporter_store.c - the recent traces: what is kept, what leaves first, what is found. */
#include "view/store.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct resource *resource_named(const char *name)
{
    struct resource *resource = calloc(1, sizeof(*resource));
    resource->refs = 1;
    resource->service_name = name;
    return resource;
}

static struct resource service_a = {.refs = 1000000, .service_name = "a"}, service_b = {.refs = 1000000, .service_name = "b"};

/* Spans on the stack of the tests: their counts never reach 0, so that nothing frees them. */
static struct span span_of(unsigned trace, unsigned id, unsigned parent, uint64_t start, uint64_t end, struct resource *resource)
{
    struct span span = {.refs = 1000,
                        .sampled = true,
                        .has_parent = parent != 0,
                        .name = "GET",
                        .trace_state = "",
                        .status_message = "",
                        .kind = SPAN_KIND_SERVER,
                        .start_unix_ns = start,
                        .end_unix_ns = end,
                        .resource = resource};
    memcpy(span.trace_id + 12, &trace, 4);
    memcpy(span.span_id, &id, 4);
    memcpy(span.parent_id, &parent, 4);
    return span;
}

static void put(struct store *store, struct span *span)
{
    struct span_sink sink = store_sink(store, false);
    sink.span(sink.self, span);
}

struct seen {
    unsigned ids[64];
    size_t count;
};

static void see(void *arg, const struct stored_trace *trace)
{
    struct seen *seen = arg;
    memcpy(&seen->ids[seen->count++], trace->trace_id + 12, 4);
}

static struct seen all(const struct store *store, struct store_filter filter)
{
    struct seen seen = {.count = 0};
    store_each(store, &filter, see, &seen);
    return seen;
}

static void newest_first(void **state)
{
    (void)state;
    struct store *store = store_new(10);
    struct span one = span_of(1, 1, 0, 100, 200, &service_a), two = span_of(2, 2, 0, 300, 400, &service_a),
                three = span_of(3, 3, 0, 200, 300, &service_a);
    put(store, &one);
    put(store, &two);
    put(store, &three);
    struct seen seen = all(store, (struct store_filter){0});
    assert_int_equal(seen.count, 3);
    assert_int_equal(seen.ids[0], 2);
    assert_int_equal(seen.ids[1], 3);
    assert_int_equal(seen.ids[2], 1);
    assert_int_equal(all(store, (struct store_filter){.limit = 2}).count, 2);
    assert_int_equal(one.refs, 1001);
    store_free(store);
    assert_int_equal(one.refs, 1000);
}

static void unchanged_longest_leaves_first(void **state)
{
    (void)state;
    struct store *store = store_new(2);
    struct span one = span_of(1, 1, 0, 100, 200, &service_a), two = span_of(2, 2, 0, 300, 400, &service_a),
                more = span_of(1, 4, 1, 120, 140, &service_a), three = span_of(3, 3, 0, 50, 60, &service_a);
    put(store, &one);
    put(store, &two);
    put(store, &more); /* trace 1 is alive: 2 has to go */
    put(store, &three);
    assert_non_null(store_find(store, one.trace_id));
    assert_null(store_find(store, two.trace_id));
    assert_non_null(store_find(store, three.trace_id));
    assert_int_equal(store_find(store, one.trace_id)->span_count, 2);
    assert_int_equal(two.refs, 1000);
    store_free(store);
}

static void filters(void **state)
{
    (void)state;
    struct store *store = store_new(10);
    struct span one = span_of(1, 1, 0, 100, 200, &service_a), two = span_of(2, 2, 0, 300, 2000, &service_a),
                in_two = span_of(2, 3, 2, 400, 500, &service_b);
    in_two.status = SPAN_STATUS_ERROR;
    put(store, &one);
    put(store, &two);
    put(store, &in_two);
    assert_int_equal(all(store, (struct store_filter){.service = "b"}).count, 1);
    assert_int_equal(all(store, (struct store_filter){.service = "a"}).count, 2);
    assert_int_equal(all(store, (struct store_filter){.service = "c"}).count, 0);
    assert_int_equal(all(store, (struct store_filter){.min_duration_ns = 1700}).count, 1);
    assert_int_equal(all(store, (struct store_filter){.min_duration_ns = 1701}).count, 0);
    struct seen seen = all(store, (struct store_filter){.errors_only = true});
    assert_int_equal(seen.count, 1);
    assert_int_equal(seen.ids[0], 2);
    store_free(store);
}

static void since(void **state)
{
    (void)state;
    struct store *store = store_new(10);
    struct span one = span_of(1, 1, 0, 100, 200, &service_a), two = span_of(2, 2, 0, 300, 400, &service_a),
                late = span_of(1, 3, 1, 100, 150, &service_a);
    put(store, &one);
    uint64_t before = store_sequence(store);
    assert_int_equal(all(store, (struct store_filter){.since_sequence = before}).count, 0);
    put(store, &two);
    assert_int_equal(all(store, (struct store_filter){.since_sequence = before}).ids[0], 2);
    before = store_sequence(store);
    put(store, &late);
    struct seen seen = all(store, (struct store_filter){.since_sequence = before});
    assert_int_equal(seen.count, 1);
    assert_int_equal(seen.ids[0], 1);
    store_free(store);
}

static void root(void **state)
{
    (void)state;
    struct store *store = store_new(10);
    struct span child = span_of(1, 2, 1, 150, 160, &service_a), grandchild = span_of(1, 3, 2, 152, 155, &service_b),
                parent = span_of(1, 1, 0, 100, 200, &service_a);
    put(store, &grandchild);
    assert_ptr_equal(store_find(store, child.trace_id)->root, &grandchild);
    put(store, &child);
    assert_ptr_equal(store_find(store, child.trace_id)->root, &child);
    put(store, &parent);
    const struct stored_trace *trace = store_find(store, child.trace_id);
    assert_ptr_equal(trace->root, &parent);
    assert_int_equal(trace->start_unix_ns, 100);
    assert_int_equal(trace->end_unix_ns, 200);
    store_free(store);
}

/* Two spans that name each other as parents: there is no root, and yet something to show. */
static void ring_of_parents(void **state)
{
    (void)state;
    struct store *store = store_new(10);
    struct span one = span_of(1, 1, 2, 100, 200, &service_a), two = span_of(1, 2, 1, 90, 160, &service_a);
    put(store, &one);
    put(store, &two);
    assert_ptr_equal(store_find(store, one.trace_id)->root, &two);
    store_free(store);
}

static void bounded_trace(void **state)
{
    (void)state;
    struct store *store = store_new(10);
    struct span *spans = calloc(STORE_SPANS_PER_TRACE + 5, sizeof(*spans));
    for (unsigned i = 0; i < STORE_SPANS_PER_TRACE + 5; i++) {
        spans[i] = span_of(7, i + 1, i, 100 + i, 200 + i, &service_a);
        put(store, &spans[i]);
    }
    const struct stored_trace *trace = store_find(store, spans[0].trace_id);
    assert_int_equal(trace->span_count, STORE_SPANS_PER_TRACE);
    assert_int_equal(trace->spans_left_out, 5);
    store_free(store);
    free(spans);
}

/* Large traces leave room by bytes, not only by number; what is newest stays. */
static void bounded_bytes(void **state)
{
    (void)state;
    struct store *store = store_new(1000);
    struct span *spans = calloc(100, sizeof(*spans));
    for (unsigned i = 0; i < 100; i++) {
        spans[i] = span_of(i + 1, 1, 0, 100 + i, 200 + i, &service_a);
        spans[i].size_hint = 8u << 20;
        put(store, &spans[i]);
    }
    size_t kept = all(store, (struct store_filter){.limit = 60}).count;
    assert_in_range(kept, 10, 25);
    assert_non_null(store_find(store, spans[99].trace_id));
    assert_null(store_find(store, spans[0].trace_id));
    store_free(store);
    free(spans);
}

static void unsampled_is_not_kept(void **state)
{
    (void)state;
    struct store *store = store_new(10);
    struct span one = span_of(1, 1, 0, 100, 200, &service_a);
    one.sampled = false;
    put(store, &one);
    assert_null(store_find(store, one.trace_id));
    assert_int_equal(one.refs, 1000);
    store_free(store);
}

/* The span's last reference may be the store's. */
static void references(void **state)
{
    (void)state;
    struct resource *resource = resource_named("c");
    resource->refs = 100;
    struct span span = span_of(9, 1, 0, 1, 2, resource);
    struct store *store = store_new(1);
    for (unsigned i = 0; i < 50; i++)
        put(store, &span);
    assert_int_equal(span.refs, 1050);
    store_free(store);
    assert_int_equal(span.refs, 1000);
    free(resource);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(newest_first),  cmocka_unit_test(unchanged_longest_leaves_first),
        cmocka_unit_test(filters),       cmocka_unit_test(since),
        cmocka_unit_test(root),          cmocka_unit_test(ring_of_parents),
        cmocka_unit_test(bounded_trace), cmocka_unit_test(bounded_bytes),
        cmocka_unit_test(references),    cmocka_unit_test(unsampled_is_not_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
