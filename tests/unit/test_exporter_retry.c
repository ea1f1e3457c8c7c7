/* test_exporter_retry.c - when to try again, and what becomes of the queue: the arithmetic, without a network. */
#include "deliver/batch.h"
#include "deliver/http.h"
#include "deliver/outage.h"
#include "deliver/queue.h"
#include "deliver/retry.h"
#include "metrics/stats.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void backoff_grows_by_half_up_to_thirty_seconds(void **state)
{
    (void)state;
    assert_int_equal(retry_backoff_ms(1, 0.5), 1000);
    assert_int_equal(retry_backoff_ms(2, 0.5), 1500);
    assert_int_equal(retry_backoff_ms(3, 0.5), 2250);
    assert_int_equal(retry_backoff_ms(1, 0.0), 500);
    assert_in_range(retry_backoff_ms(1, 0.999999), 1490, 1500);
    for (unsigned attempt = 1; attempt < 60; attempt++)
        assert_in_range(retry_backoff_ms(attempt, attempt / 60.0), 500, RETRY_MOST_MS);
    assert_int_equal(retry_backoff_ms(4000000000u, 0.5), RETRY_MOST_MS);
    assert_int_equal(retry_backoff_ms(50, 0.0), RETRY_MOST_MS / 2);
    assert_int_equal(retry_backoff_ms(0, 0.5), 1000);
}

static void retry_after_in_both_forms(void **state)
{
    time_t now = 784111777; /* Sun, 06 Nov 1994 08:49:37 GMT, the date of RFC 9110 */
    (void)state;
    assert_int_equal(retry_after_ms("0", now), 0);
    assert_int_equal(retry_after_ms("120", now), 120000);
    assert_int_equal(retry_after_ms("99999999999999999999999999", now), RETRY_AFTER_MOST_MS);
    assert_int_equal(retry_after_ms("3600", now), RETRY_AFTER_MOST_MS);
    assert_int_equal(retry_after_ms("Sun, 06 Nov 1994 08:49:40 GMT", now), 3000);
    assert_int_equal(retry_after_ms("Sunday, 06-Nov-94 08:49:40 GMT", now), 3000);
    assert_int_equal(retry_after_ms("Sun Nov  6 08:49:40 1994", now), 3000);
    assert_int_equal(retry_after_ms("Sun, 06 Nov 1994 08:49:30 GMT", now), 0);
    assert_int_equal(retry_after_ms("Sun, 06 Nov 2094 08:49:30 GMT", now), RETRY_AFTER_MOST_MS);
    const char *const nothing[] = {"", "soon", "-5", "1.5", "12 s", "1e3"};
    for (size_t i = 0; i < sizeof(nothing) / sizeof(nothing[0]); i++)
        assert_int_equal(retry_after_ms(nothing[i], now), -1);
    assert_int_equal(retry_after_ms(NULL, now), -1);
}

static void codes_of_the_specification(void **state)
{
    (void)state;
    const int again[] = {1, 4, 10, 11, 14, 15};
    for (int code = -1; code < 30; code++) {
        bool expected = false;
        for (size_t i = 0; i < sizeof(again) / sizeof(again[0]); i++)
            expected |= code == again[i];
        assert_int_equal(retry_grpc(code, false), expected);
        assert_int_equal(retry_grpc(code, true), expected || code == 8);
    }
    for (long status = 100; status < 600; status++)
        assert_int_equal(retry_http(status), status == 429 || status == 502 || status == 503 || status == 504);
}

/* ---- HTTP's verdicts ---- */

static struct verdict http(long status, const char *type, const char *retry_after, const void *body, size_t len)
{
    struct answer answer;
    struct verdict verdict;
    answer_init(&answer);
    answer.arrived = true;
    answer.http_status = status;
    snprintf(answer.content_type, sizeof(answer.content_type), "%s", type);
    snprintf(answer.retry_after, sizeof(answer.retry_after), "%s", retry_after);
    assert_true(answer_body(&answer, body, len));
    http_verdict(&answer, "http://t:4318", 1000, &verdict);
    answer_free(&answer);
    return verdict;
}

static void http_answers(void **state)
{
    (void)state;
    struct verdict verdict = http(200, "application/x-protobuf", "", "", 0);
    assert_int_equal(verdict.outcome, OUTCOME_ACCEPTED);
    assert_string_equal(verdict.words, "");
    verdict = http(200, "application/x-protobuf; v=1", "", "\x0a\x06\x08\x03\x12\x02no", 8);
    assert_int_equal(verdict.outcome, OUTCOME_ACCEPTED);
    assert_int_equal(verdict.rejected, 3);
    assert_string_equal(verdict.words, "no");
    verdict = http(503, "text/plain", "7", "over\r\nloaded", 12);
    assert_int_equal(verdict.outcome, OUTCOME_RETRY);
    assert_int_equal(verdict.retry_after_ms, 7000);
    assert_string_equal(verdict.words, "http://t:4318 answered 503 Service Unavailable (over  loaded)");
    verdict = http(500, "application/x-protobuf", "7", "\x08\x08\x12\x04slow", 8);
    assert_int_equal(verdict.outcome, OUTCOME_REFUSED);
    assert_int_equal(verdict.retry_after_ms, -1);
    assert_string_equal(verdict.words, "http://t:4318 answered 500 Internal Server Error (RESOURCE_EXHAUSTED: slow)");
    assert_non_null(strstr(verdict.remedy, "rate"));
    verdict = http(599, "", "", "\xff\xff", 2);
    assert_string_equal(verdict.words, "http://t:4318 answered 599");
    assert_int_equal(http(200, "text/html", "", "<html>", 6).outcome, OUTCOME_REFUSED);
    assert_non_null(http(302, "", "", "", 0).remedy);
    assert_non_null(http(404, "", "", "", 0).remedy);
}

static void header_lines(void **state)
{
    struct answer answer;
    (void)state;
    answer_init(&answer);
    const char *const lines[] = {
        "HTTP/1.1 100 Continue\r\n", "Retry-After: 9\r\n", "\r\n",  "HTTP/1.1 503 Busy\r\n", "RETRY-AFTER:\t 12 \r\n",
        "content-type:a/b\r\n",      "nonsense\r\n",       ":\r\n", "grpc-status\r\n"};
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
        answer_header(&answer, lines[i], strlen(lines[i]));
    assert_string_equal(answer.retry_after, "12");
    assert_string_equal(answer.content_type, "a/b");
    char lengthy[9000];
    memset(lengthy, 'a', sizeof(lengthy));
    memcpy(lengthy, "grpc-status-details-bin:", 24);
    answer_header(&answer, lengthy, sizeof(lengthy));
    assert_string_equal(answer.grpc_details, "");
    memcpy(lengthy, "grpc-message:           ", 24);
    answer_header(&answer, lengthy, sizeof(lengthy));
    assert_int_equal(strlen(answer.grpc_message), sizeof(answer.grpc_message) - 1);
    answer_header(&answer, "HTTP/2 200", 10);
    assert_string_equal(answer.grpc_message, "");
    uint8_t piece[4096] = {0};
    for (size_t i = 0; i < ANSWER_BODY_MAX / sizeof(piece); i++)
        assert_true(answer_body(&answer, piece, sizeof(piece)));
    assert_false(answer_body(&answer, piece, 1));
    assert_true(answer.body_too_long);
    answer_free(&answer);
}

/* ---- queue and batches ---- */

static struct resource resource = {.refs = 1000, .service_name = "s"};

static struct span *span_of(uint32_t id, size_t size_hint, const char *name)
{
    struct span *span = calloc(1, sizeof(*span));
    span->refs = 1;
    span->sampled = true;
    span->name = name;
    span->trace_state = span->status_message = "";
    span->size_hint = size_hint;
    span->resource = &resource;
    memcpy(span->span_id, &id, sizeof(id));
    return span;
}

static void queue_keeps_order_and_bounds(void **state)
{
    enum { MANY = 5000 };
    struct queue queue;
    static struct span *spans[MANY];
    (void)state;
    queue_init(&queue, 3000);
    for (uint32_t i = 0; i < MANY; i++)
        spans[i] = span_of(i, 100, "x");
    uint32_t in = 0, out = 0;
    for (; in < 3000; in++)
        assert_true(queue_push(&queue, spans[in], in));
    assert_false(queue_push(&queue, spans[in], in));
    for (; in < MANY; in++) { /* round the circle */
        assert_ptr_equal(queue_pop(&queue), spans[out++]);
        assert_true(queue_push(&queue, spans[in], in));
    }
    assert_int_equal(queue.bytes, 3000 * 100);
    assert_ptr_equal(queue_at(&queue, 0)->span, spans[out]);
    while (out < MANY)
        assert_ptr_equal(queue_pop(&queue), spans[out++]);
    assert_null(queue_pop(&queue));
    assert_int_equal(queue.bytes, 0);
    queue_free(&queue);
    queue_init(&queue, 1000000);
    spans[0]->size_hint = QUEUE_BYTES_MAX - 10;
    assert_true(queue_push(&queue, spans[0], 0));
    assert_false(queue_push(&queue, spans[1], 0));
    queue_pop(&queue);
    queue_free(&queue);
    for (uint32_t i = 0; i < MANY; i++) {
        assert_int_equal(spans[i]->refs, i == 0 ? 3 : 2); /* the queue's references went to us, who popped */
        free(spans[i]);
    }
}

static void batches_by_count_and_weight(void **state)
{
    struct exporter_config config = {.protocol = OTLP_GRPC, .max_batch_spans = 10};
    struct queue queue;
    struct batch *batch;
    struct span *spans[25], *too_large;
    (void)state;
    queue_init(&queue, 100);
    assert_int_equal(batch_make(&queue, &config, &batch, &too_large), BATCH_EMPTY);
    for (uint32_t i = 0; i < 25; i++) {
        spans[i] = span_of(i, i < 20 ? 100 : BATCH_BYTES_AIM / 2 + 1, "x");
        assert_true(queue_push(&queue, spans[i], 0));
        assert_int_equal(batch_is_full(&queue, &config), i >= 9);
    }
    const size_t expected[] = {10, 10, 1, 1, 1, 1, 1};
    for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
        assert_int_equal(batch_make(&queue, &config, &batch, &too_large), BATCH_MADE);
        assert_int_equal(batch->count, expected[i]);
        assert_int_equal(batch->body[0], 0);
        assert_int_equal(batch->body[3] << 8 | batch->body[4], batch->body_len - 5);
        batch_free(batch);
    }
    assert_int_equal(queue.count, 0);
    queue_free(&queue);
    for (uint32_t i = 0; i < 25; i++) {
        assert_int_equal(spans[i]->refs, 1);
        free(spans[i]);
    }
}

/* Weights are guesses: what comes out above the hard limit is halved, and one span above it is given back. */
static void batches_stay_below_the_hard_limit(void **state)
{
    struct exporter_config config = {.protocol = OTLP_HTTP_PROTOBUF, .max_batch_spans = 100};
    struct queue queue;
    struct batch *batch;
    struct span *spans[9], *too_large = NULL;
    (void)state;
    char *name = malloc(BATCH_BYTES_MAX), *huge = malloc(BATCH_BYTES_MAX + 10);
    memset(name, 'n', BATCH_BYTES_MAX);
    memset(huge, 'h', BATCH_BYTES_MAX + 10);
    name[BATCH_BYTES_MAX / 3] = '\0';
    huge[BATCH_BYTES_MAX + 9] = '\0';
    queue_init(&queue, 100);
    for (uint32_t i = 0; i < 9; i++) {
        spans[i] = span_of(i, 100, i < 8 ? name : huge);
        assert_true(queue_push(&queue, spans[i], 0));
    }
    size_t sent = 0;
    enum batch_result result;
    while ((result = batch_make(&queue, &config, &batch, &too_large)) == BATCH_MADE) {
        assert_true(batch->body_len < BATCH_BYTES_MAX);
        sent += batch->count;
        batch_free(batch);
    }
    assert_int_equal(sent, 8);
    assert_int_equal(result, BATCH_TOO_LARGE);
    assert_ptr_equal(too_large, spans[8]);
    assert_int_equal(batch_make(&queue, &config, &batch, &too_large), BATCH_EMPTY);
    queue_free(&queue);
    for (uint32_t i = 0; i < 9; i++)
        free(spans[i]);
    free(name);
    free(huge);
}

/* ---- words ---- */

static void numbers_in_words(void **state)
{
    char text[40];
    (void)state;
    assert_string_equal(outage_spans(text, 0), "0 spans");
    assert_string_equal(outage_spans(text, 1), "1 span");
    assert_string_equal(outage_spans(text, 999), "999 spans");
    assert_string_equal(outage_spans(text, 1203), "1,203 spans");
    assert_string_equal(outage_spans(text, UINT64_MAX), "18,446,744,073,709,551,615 spans");
    assert_string_equal(outage_duration(text, 536), "536 ms");
    assert_string_equal(outage_duration(text, 4200), "4 s");
    assert_string_equal(outage_duration(text, 192000), "3 min 12 s");
    assert_string_equal(outage_duration(text, 7500000), "2 h 5 min");
}

static void last_error_is_a_sentence(void **state)
{
    struct outage outage = {0};
    struct verdict verdict = {.outcome = OUTCOME_RETRY, .code = 7, .words = "cannot connect to tempo:4317: connection refused"};
    (void)state;
    outage_failed(&outage, &verdict, 1000, 1203, 0, 4000);
    assert_string_equal(stats.last_error, "cannot connect to tempo:4317: connection refused; 1,203 spans waiting, next try in 4 s");
    assert_true(outage.on && outage.said);
    outage_over(&outage, "http://tempo:4317", 2000, 3);
    assert_false(outage.on);
    outage_failed(&outage, &verdict, 3000, 1, 0, 900); /* the same trouble soon after: not said again */
    assert_false(outage.said);
    verdict.code = 8;
    verdict.outcome = OUTCOME_REFUSED;
    outage_failed(&outage, &verdict, 4000, 1, 512, 0); /* another kind is */
    assert_true(outage.said);
    assert_non_null(strstr(stats.last_error, "512 spans dropped"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(backoff_grows_by_half_up_to_thirty_seconds),
        cmocka_unit_test(retry_after_in_both_forms),
        cmocka_unit_test(codes_of_the_specification),
        cmocka_unit_test(http_answers),
        cmocka_unit_test(header_lines),
        cmocka_unit_test(queue_keeps_order_and_bounds),
        cmocka_unit_test(batches_by_count_and_weight),
        cmocka_unit_test(batches_stay_below_the_hard_limit),
        cmocka_unit_test(numbers_in_words),
        cmocka_unit_test(last_error_is_a_sentence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
