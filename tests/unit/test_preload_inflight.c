/* test_preload_inflight.c - the picture of what is in flight: slots, names, a full table, and a change of ring in the middle. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/config.h"
#include "ring_consumer.h"
#include "span/handover.h"
#include "span/span.h"

static const struct inflight_names nameless;

#define SECOND 1000000000ull

static struct taker taker;
static uint64_t now_fake = 1000 * SECOND;

static void reset(void)
{
    span_after_fork();
    taker_close(&taker);
    memset(&config, 0, sizeof(config));
    config.ring_bytes = OTSHIM_RING_MIN_BYTES;
    config.socket_path_set = true;
    snprintf(config.socket_path, sizeof(config.socket_path), "%s", taker.path);
    now_fake += 1000 * SECOND;
}

static struct otshim_span_rec span(uint64_t id)
{
    struct otshim_span_rec rec = {
        .start_ns = now_fake, .end_ns = now_fake, .kind = OTSHIM_SPAN_SERVER, .protocol = OTSHIM_PROTOCOL_HTTP1};
    id *= 0x9e3779b97f4a7c15ull; /* spread, as random ids are */
    memcpy(rec.span_id, &id, 8);
    rec.trace_id[0] = 1;
    rec.peer.port = 80;
    return rec;
}

static struct otshim_inflight *slots(struct otshim_shm *shm)
{
    return (struct otshim_inflight *)(void *)((uint8_t *)shm + shm->inflight_off);
}

static unsigned shown(struct otshim_shm *shm)
{
    unsigned n = 0;
    for (unsigned i = 0; i < OTSHIM_INFLIGHT_SLOTS; i++) {
        const uint64_t s = atomic_load(&slots(shm)[i].state);
        assert_int_equal(s & 1, 0);
        n += s != 0;
    }
    return n;
}

/* Slots that belong to a span. */
static unsigned owned(void)
{
    unsigned n = 0;
    for (unsigned i = 0; i < OTSHIM_INFLIGHT_SLOTS; i++)
        n += atomic_load(&identity.inflight_owner[i]) != 0;
    return n;
}

static void test_one(void **state)
{
    (void)state;
    reset();
    taker_bind(&taker);
    struct otshim_span_rec rec = span(1);
    const uint32_t handle = inflight_begin(&rec, &nameless); /* the first thing a process does: makes the ring */
    struct otshim_shm *shm = taker_accept(&taker, 1000);
    assert_non_null(shm);
    assert_int_not_equal(handle, 0);
    assert_int_equal(shown(shm), 1);
    struct otshim_inflight *slot = &slots(shm)[handle - 1];
    assert_memory_equal(slot->span_id, rec.span_id, 8);
    assert_int_equal(slot->start_ns, rec.start_ns);
    assert_int_equal(slot->peer.port, 80);
    assert_int_equal(slot->tid, (uint32_t)getpid());
    assert_int_equal(slot->method_len, 0);
    const uint64_t first = atomic_load(&slot->state);
    char target[300];
    memset(target, 't', sizeof(target));
    rec.trace_id[0] = 2; /* an inbound traceparent */
    inflight_name(
        handle, &rec,
        &(struct inflight_names){
            .method = "GET", .method_len = 3, .target = target, .target_len = sizeof(target), .host = "a.example", .host_len = 9});
    assert_int_not_equal(atomic_load(&slot->state), first);
    assert_int_equal(slot->trace_id[0], 2);
    assert_int_equal(slot->method_len, 3);
    assert_int_equal(slot->target_len, sizeof(slot->target));
    assert_int_equal(slot->host_len, 9);
    struct otshim_span_rec other = span(2);
    inflight_name(handle, &other, &(struct inflight_names){.method = "PUT", .method_len = 3}); /* not his */
    inflight_end(handle, other.span_id);
    assert_memory_equal(slot->method, "GET", 3);
    assert_int_equal(shown(shm), 1);
    inflight_end(handle, rec.span_id);
    assert_int_equal(shown(shm), 0);
    inflight_end(handle, rec.span_id);
    inflight_end(0, rec.span_id);
    inflight_end(~0u, rec.span_id);
    inflight_name(0, &rec, &nameless);
    assert_int_equal(owned(), 0);
}

static void test_full(void **state)
{
    (void)state;
    static uint32_t handles[OTSHIM_INFLIGHT_SLOTS + 10];
    reset();
    taker_bind(&taker);
    for (unsigned i = 0; i < OTSHIM_INFLIGHT_SLOTS + 10; i++) {
        struct otshim_span_rec rec = span(i + 1);
        handles[i] = inflight_begin(&rec, &nameless);
        assert_true((handles[i] != 0) == (i < OTSHIM_INFLIGHT_SLOTS));
    }
    struct otshim_shm *shm = taker_accept(&taker, 1000);
    assert_int_equal(shown(shm), OTSHIM_INFLIGHT_SLOTS);
    assert_int_equal(atomic_load(&shm->counters[OTSHIM_COUNT_INFLIGHT_FULL]), 10);
    for (unsigned i = 0; i < OTSHIM_INFLIGHT_SLOTS; i++) {
        struct otshim_span_rec rec = span(i + 1);
        inflight_end(handles[i], rec.span_id);
    }
    assert_int_equal(shown(shm), 0);
    struct otshim_span_rec rec = span(5000);
    assert_int_not_equal(inflight_begin(&rec, &nameless), 0);
}

/* What is in flight when the exporter changes is shown to the next one under the same handle; what ended meanwhile is not. */
static void test_change_of_ring(void **state)
{
    (void)state;
    uint32_t handles[100];
    reset();
    for (unsigned i = 0; i < 100; i++) {
        struct otshim_span_rec rec = span(i + 1);
        handles[i] = inflight_begin(&rec, &nameless);
        inflight_name(
            handles[i], &rec,
            &(struct inflight_names){.method = "GET", .method_len = 3, .target = "/", .target_len = 1, .host = "h", .host_len = 1});
    }
    for (unsigned i = 0; i < 100; i += 2) {
        struct otshim_span_rec rec = span(i + 1);
        inflight_end(handles[i], rec.span_id);
    }
    taker_bind(&taker);
    /* A writer is inside while the ring is replaced: the pictures follow when it has left, without those that end in between. */
    struct ring *ring = identity_enter(&identity.current);
    struct otshim_span_rec late = span(1000);
    late.end_ns = now_fake + 2 * SECOND;
    span_write(&late, NULL, 0);
    struct otshim_shm *shm = taker_accept(&taker, 1000);
    assert_non_null(shm);
    assert_int_equal(shown(shm), 0);
    struct otshim_span_rec ended = span(2), begun = span(2000);
    inflight_end(handles[1], ended.span_id);
    const uint32_t new_handle = inflight_begin(&begun, &nameless);
    assert_int_not_equal(new_handle, 0);
    identity_leave(ring);
    atomic_fetch_add(&shm->heartbeat, 1);
    span_write(&late, NULL, 0);
    assert_int_equal(shown(shm), 50);
    for (unsigned i = 3; i < 100; i += 2) {
        struct otshim_span_rec rec = span(i + 1);
        assert_memory_equal(slots(shm)[handles[i] - 1].span_id, rec.span_id, 8);
        assert_int_equal(slots(shm)[handles[i] - 1].method_len, 3);
        inflight_end(handles[i], rec.span_id);
    }
    assert_int_equal(shown(shm), 1);
    inflight_end(new_handle, begun.span_id);
    assert_int_equal(shown(shm), 0);
    assert_int_equal(owned(), 0);
}

/* Whatever is written into the table by somebody else: no slot is lost or given out twice. */
static void test_nonsense_in_table(void **state)
{
    (void)state;
    reset();
    taker_bind(&taker);
    struct otshim_span_rec rec = span(1);
    uint32_t handle = inflight_begin(&rec, &nameless);
    struct otshim_shm *shm = taker_accept(&taker, 1000);
    memset(slots(shm), 0xff, sizeof(struct otshim_inflight) * OTSHIM_INFLIGHT_SLOTS);
    inflight_end(handle, rec.span_id);
    handle = inflight_begin(&rec, &nameless); /* not shown, but nothing worse */
    assert_int_equal(handle, 0);
    assert_int_equal(owned(), 0);
}

int main(void)
{
    taker_make_place(&taker);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one),
        cmocka_unit_test(test_full),
        cmocka_unit_test(test_change_of_ring),
        cmocka_unit_test(test_nonsense_in_table),
    };
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    taker_close(&taker);
    rmdir(taker.dir);
    return failed;
}
