/* test_exporter_memory.c - delivery when memory runs out: each allocation in turn is made to fail, and no span may be lost by it.
 *
 * This program's own malloc family stands before glibc's, and counts down to the failure. */
#include "deliver/batch.h"
#include "deliver/grpc.h"
#include "deliver/http.h"
#include "otlp/json.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *memory, size_t size);

static long until_failure = -1; /* allocations that still succeed; -1: all */

static bool fails(void)
{
    if (until_failure < 0)
        return false;
    return until_failure == 0 || until_failure-- == 0;
}

void *malloc(size_t size)
{
    return fails() ? NULL : __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    return fails() ? NULL : __libc_calloc(count, size);
}

void *realloc(void *memory, size_t size)
{
    return fails() ? NULL : __libc_realloc(memory, size);
}

static const char *items[] = {"a", "b"};
static struct attribute attributes[] = {
    {.key = "text", .type = VALUE_STRING, .value.string = "not\xffutf8"},
    {.key = "list", .type = VALUE_STRINGS, .value.strings = {items, 2}},
};
static struct span_event an_event = {.name = "e", .attributes = attributes, .attribute_count = 2};
static struct resource resources[2] = {{.refs = 1000, .attributes = attributes, .attribute_count = 2}, {.refs = 1000}};
enum { SPANS = 400 };
static struct span spans[SPANS];

static void fill(struct queue *queue)
{
    for (size_t i = 0; i < SPANS; i++) {
        spans[i] = (struct span){.refs = 1000,
                                 .name = "GET",
                                 .attributes = attributes,
                                 .attribute_count = 2,
                                 .events = &an_event,
                                 .event_count = 1,
                                 .status = SPAN_STATUS_ERROR,
                                 .resource = &resources[i % 2]};
        assert_true(queue_push(queue, &spans[i], 0));
    }
}

static void batches(const struct exporter_config *config)
{
    struct queue queue;
    struct batch *batch = NULL;
    struct span *too_large;
    queue_init(&queue, SPANS);
    fill(&queue);
    enum batch_result result = BATCH_NO_MEMORY;
    long n = 0;
    for (; result != BATCH_MADE; n++) {
        until_failure = n;
        result = batch_make(&queue, config, &batch, &too_large);
        until_failure = -1;
        if (result == BATCH_MADE)
            break;
        assert_int_equal(result, BATCH_NO_MEMORY);
        assert_int_equal(queue.count, SPANS);
    }
    assert_true(n > 3);
    assert_int_equal(batch->count, SPANS);
    assert_int_equal(queue.count, 0);
    batch_free(batch);
    queue_free(&queue);
    for (size_t i = 0; i < SPANS; i++)
        assert_int_equal(spans[i].refs, 1000);
}

static void batches_lose_nothing(void **state)
{
    static const struct exporter_config configs[] = {
        {.protocol = OTLP_GRPC, .max_batch_spans = SPANS},
        {.protocol = OTLP_HTTP_PROTOBUF, .max_batch_spans = SPANS},
        {.protocol = OTLP_HTTP_PROTOBUF, .max_batch_spans = SPANS, .gzip = true},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(configs) / sizeof(configs[0]); i++)
        batches(&configs[i]);
}

/* Without memory to compress, a gRPC message goes out as it is: its frame says so. */
static void grpc_goes_out_uncompressed(void **state)
{
    static const struct exporter_config config = {.protocol = OTLP_GRPC, .max_batch_spans = SPANS, .gzip = true};
    bool plain = false, compressed = false;
    (void)state;
    for (long n = 0; !compressed; n++) {
        struct queue queue;
        struct batch *batch = NULL;
        struct span *too_large;
        queue_init(&queue, SPANS);
        fill(&queue);
        until_failure = n;
        enum batch_result result = batch_make(&queue, &config, &batch, &too_large);
        until_failure = -1;
        if (result == BATCH_MADE) {
            plain |= batch->body[0] == 0;
            compressed |= batch->body[0] == 1;
            batch_free(batch);
        }
        while (queue_pop(&queue))
            ;
        queue_free(&queue);
    }
    assert_true(plain);
}

static void a_queue_that_cannot_grow_refuses(void **state)
{
    struct queue queue;
    (void)state;
    queue_init(&queue, SPANS);
    until_failure = 0;
    assert_false(queue_push(&queue, &spans[0], 0));
    until_failure = -1;
    assert_int_equal(queue.count, 0);
    queue_free(&queue);
}

static void answers_and_json_survive(void **state)
{
    struct span *list[] = {&spans[0], &spans[1]};
    (void)state;
    for (long n = 0; n < 400; n++) {
        struct answer answer;
        struct verdict verdict;
        answer_init(&answer);
        until_failure = n;
        answer.arrived = true;
        answer.http_status = n % 2 ? 200 : 500;
        snprintf(answer.grpc_status, sizeof(answer.grpc_status), n % 3 ? "0" : "8");
        snprintf(answer.grpc_details, sizeof(answer.grpc_details), "CAgSBHNsb3c=");
        answer_body(&answer, (const uint8_t *)"\0\0\0\0\x08\x0a\x06\x08\x03\x12\x02no", 13);
        grpc_verdict(&answer, "x", &verdict);
        http_verdict(&answer, "x", 0, &verdict);
        answer_free(&answer);
        free(otlp_json(list, 2));
        until_failure = -1;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(batches_lose_nothing),
        cmocka_unit_test(grpc_goes_out_uncompressed),
        cmocka_unit_test(a_queue_that_cannot_grow_refuses),
        cmocka_unit_test(answers_and_json_survive),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
