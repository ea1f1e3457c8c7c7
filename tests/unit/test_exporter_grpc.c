/* test_exporter_grpc.c - frames, trailers and the words in them. */
#include "deliver/grpc.h"
#include "deliver/verdict.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void frame_header(void **state)
{
    uint8_t header[GRPC_FRAME_HEADER];
    (void)state;
    grpc_frame_header(header, 0x01020304, true);
    assert_memory_equal(header, "\x01\x01\x02\x03\x04", 5);
    grpc_frame_header(header, 0, false);
    assert_memory_equal(header, "\0\0\0\0\0", 5);
}

static void timeouts_have_eight_digits(void **state)
{
    char text[24];
    (void)state;
    grpc_timeout(text, sizeof(text), 10000);
    assert_string_equal(text, "10000m");
    grpc_timeout(text, sizeof(text), 99999999);
    assert_string_equal(text, "99999999m");
    grpc_timeout(text, sizeof(text), 100000000);
    assert_string_equal(text, "100000S");
    grpc_timeout(text, sizeof(text), UINT64_MAX);
    assert_string_equal(text, "99999999S");
}

static int message(const char *body, size_t len, const char *encoding, size_t *message_len)
{
    uint8_t *out = NULL;
    int result = grpc_message((const uint8_t *)body, len, encoding, &out, message_len);
    assert_true(result == 0 ? out != NULL : out == NULL);
    free(out);
    return result;
}

static void messages(void **state)
{
    size_t len;
    (void)state;
    assert_int_equal(message("", 0, "", &len), -ENODATA);
    assert_int_equal(message("\0\0\0\0\0", 5, "", &len), 0);
    assert_int_equal(len, 0);
    assert_int_equal(message("\0\0\0\0\2ab", 7, "", &len), 0);
    assert_int_equal(len, 2);
    assert_int_equal(message("\0\0\0\0\2abtrailing", 15, "", &len), 0);
    assert_int_equal(message("\0\0\0\0\2a", 6, "", &len), -EBADMSG);
    assert_int_equal(message("\0\0\0\0", 4, "", &len), -EBADMSG);
    assert_int_equal(message("\0\xff\xff\xff\xff"
                             "a",
                             6, "", &len),
                     -EBADMSG);
    assert_int_equal(message("\2\0\0\0\1a", 6, "", &len), -EBADMSG);
    assert_int_equal(message("\1\0\0\0\1a", 6, "", &len), -EBADMSG);
    assert_int_equal(message("\1\0\0\0\1a", 6, "gzip", &len), -EBADMSG);
    assert_int_equal(message("\1\0\0\0\1a", 6, "snappy", &len), -EBADMSG);
}

static size_t gzip(uint8_t *to, size_t size, const uint8_t *data, size_t len)
{
    z_stream stream = {.next_in = (Bytef *)data, .avail_in = (uInt)len, .next_out = to, .avail_out = (uInt)size};
    assert_int_equal(deflateInit2(&stream, 9, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
    assert_int_equal(deflate(&stream, Z_FINISH), Z_STREAM_END);
    deflateEnd(&stream);
    return size - stream.avail_out;
}

static void compressed_messages_are_bounded(void **state)
{
    enum { BIG = ANSWER_BODY_MAX + 1 };
    uint8_t *plain = calloc(1, BIG), *packed = malloc(BIG), *out;
    const size_t sizes[] = {1, 4096, 4097, 100000, ANSWER_BODY_MAX, BIG};
    size_t out_len;
    (void)state;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        size_t len = gzip(packed + 5, BIG - 5, plain, sizes[i]);
        grpc_frame_header(packed, (uint32_t)len, true);
        int result = grpc_message(packed, len + 5, "gzip", &out, &out_len);
        if (sizes[i] > ANSWER_BODY_MAX) {
            assert_int_equal(result, -EMSGSIZE);
            continue;
        }
        assert_int_equal(result, 0);
        assert_int_equal(out_len, sizes[i]);
        free(out);
        grpc_frame_header(packed, (uint32_t)len - 1, true); /* cut off */
        assert_int_equal(grpc_message(packed, len + 4, "gzip", &out, &out_len), -EBADMSG);
    }
    free(plain);
    free(packed);
}

static void status_text(void **state)
{
    char text[32];
    (void)state;
    grpc_decode_text(text, sizeof(text), "rate%20limit%3A %c3%BC");
    assert_string_equal(text, "rate limit: \xc3\xbc");
    grpc_decode_text(text, sizeof(text), "100% %zz %4 %");
    assert_string_equal(text, "100% %zz %4 %");
    grpc_decode_text(text, sizeof(text), "%00%0a%1b[31m%ff end  ");
    assert_string_equal(text, "   [31m? end");
    grpc_decode_text(text, sizeof(text), "1234567890123456789012345678\xc3\xbc\xc3\xbc\xc3\xbc");
    assert_string_equal(text, "1234567890123456789012345678\xc3\xbc");
}

static void base64(void **state)
{
    uint8_t out[16];
    (void)state;
    assert_int_equal(grpc_decode_base64(out, sizeof(out), ""), 0);
    assert_int_equal(grpc_decode_base64(out, sizeof(out), "Zm9vYg=="), 4);
    assert_memory_equal(out, "foob", 4);
    assert_int_equal(grpc_decode_base64(out, sizeof(out), "Zm9vYg"), 4);
    assert_int_equal(grpc_decode_base64(out, sizeof(out), "-_+/"), 3);
    assert_memory_equal(out, "\xfb\xff\xbf", 3);
    assert_int_equal(grpc_decode_base64(out, sizeof(out), "Z"), -1);
    assert_int_equal(grpc_decode_base64(out, sizeof(out), "Zm9v!"), -1);
    assert_int_equal(grpc_decode_base64(out, sizeof(out), "Zm=v"), -1);
    assert_int_equal(grpc_decode_base64(out, sizeof(out), "Zm9vYg==="), -1);
    assert_int_equal(grpc_decode_base64(out, 3, "Zm9vYg=="), -1);
}

static struct verdict verdict_of(long http_status, const char *const *header_lines, const char *body, size_t len)
{
    struct answer answer;
    struct verdict verdict;
    answer_init(&answer);
    answer.arrived = true;
    answer.http_status = http_status;
    for (; *header_lines; header_lines++)
        answer_header(&answer, *header_lines, strlen(*header_lines));
    answer_body(&answer, (const uint8_t *)body, len);
    grpc_verdict(&answer, "http://tempo:4317", &verdict);
    answer_free(&answer);
    return verdict;
}
#define LINES(...) ((const char *const[]){"content-type: application/grpc", __VA_ARGS__, NULL})

static void verdicts(void **state)
{
    (void)state;
    struct verdict verdict = verdict_of(200, LINES("grpc-status: 0"), "\0\0\0\0\0", 5);
    assert_int_equal(verdict.outcome, OUTCOME_ACCEPTED);
    verdict = verdict_of(200, LINES("grpc-status: 0"), "\0\0\0\0\x08\x0a\x06\x08\x03\x12\x02no", 13);
    assert_int_equal(verdict.rejected, 3);
    assert_string_equal(verdict.words, "no");
    verdict = verdict_of(200, LINES("grpc-status: 8", "grpc-message: slow"), "", 0);
    assert_int_equal(verdict.outcome, OUTCOME_REFUSED);
    assert_string_equal(verdict.words, "http://tempo:4317 answered RESOURCE_EXHAUSTED: slow");
    verdict = verdict_of(200, LINES("grpc-status: 8", "grpc-message: received message larger than max (5 vs. 4)"), "", 0);
    assert_non_null(strstr(verdict.remedy, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE"));
    verdict = verdict_of(200, LINES("grpc-status: 14"), "", 0);
    assert_int_equal(verdict.outcome, OUTCOME_RETRY);
    assert_int_equal(verdict.retry_after_ms, -1);
    verdict = verdict_of(200, LINES("grpc-status: 16"), "", 0);
    assert_int_equal(verdict.outcome, OUTCOME_REFUSED);
    assert_non_null(strstr(verdict.remedy, "OTEL_EXPORTER_OTLP_HEADERS"));
    verdict = verdict_of(200, LINES("x: y"), "", 0); /* cut off before its trailers */
    assert_int_equal(verdict.outcome, OUTCOME_RETRY);
    verdict = verdict_of(503, (const char *const[]){NULL}, "", 0);
    assert_int_equal(verdict.outcome, OUTCOME_RETRY);
    verdict = verdict_of(404, (const char *const[]){NULL}, "", 0);
    assert_int_equal(verdict.outcome, OUTCOME_REFUSED);
    /* Both at once: the status that gRPC gave counts. */
    verdict = verdict_of(503, LINES("grpc-status: 3"), "", 0);
    assert_int_equal(verdict.outcome, OUTCOME_REFUSED);
}

/* google.rpc.Status {code 8, details [RetryInfo {retry_delay {seconds, nanos}}]} as base64, made with protobuf's own tools. */
static void retry_info(void **state)
{
    (void)state;
    static const struct {
        const char *base64;
        long long ms;
    } cases[] = {
        {"CAgSBHNsb3caLgoodHlwZS5nb29nbGVhcGlzLmNvbS9nb29nbGUucnBjLlJldHJ5SW5mbxICCgA", 0},
        {"CAgSBHNsb3caMAoodHlwZS5nb29nbGVhcGlzLmNvbS9nb29nbGUucnBjLlJldHJ5SW5mbxIECgIIBQ==", 5000},
        {"CAgSBHNsb3caNgoodHlwZS5nb29nbGVhcGlzLmNvbS9nb29nbGUucnBjLlJldHJ5SW5mbxIKCggIARCAyrXuAQ", 1500},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char line[256];
        snprintf(line, sizeof(line), "grpc-status-details-bin: %s", cases[i].base64);
        struct verdict verdict = verdict_of(200, LINES("grpc-status: 8", line), "", 0);
        assert_int_equal(verdict.outcome, OUTCOME_RETRY);
        assert_int_equal(verdict.retry_after_ms, cases[i].ms);
    }
    struct verdict verdict = verdict_of(200, LINES("grpc-status: 8", "grpc-status-details-bin: CAgSBHNsb3c"), "", 0);
    assert_int_equal(verdict.outcome, OUTCOME_REFUSED);
    verdict = verdict_of(200, LINES("grpc-status: 8", "grpc-status-details-bin: ////"), "", 0);
    assert_int_equal(verdict.outcome, OUTCOME_REFUSED);
}

static void no_answer_is_tried_again(void **state)
{
    struct answer answer;
    struct verdict verdict;
    (void)state;
    answer_init(&answer);
    snprintf(answer.failure, sizeof(answer.failure), "cannot connect to tempo:4317: connection refused");
    answer.failure_code = 7;
    grpc_verdict(&answer, "http://tempo:4317", &verdict);
    assert_int_equal(verdict.outcome, OUTCOME_RETRY);
    assert_int_equal(verdict.code, VERDICT_CURL + 7);
    assert_string_equal(verdict.words, answer.failure);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frame_header),
        cmocka_unit_test(timeouts_have_eight_digits),
        cmocka_unit_test(messages),
        cmocka_unit_test(compressed_messages_are_bounded),
        cmocka_unit_test(status_text),
        cmocka_unit_test(base64),
        cmocka_unit_test(verdicts),
        cmocka_unit_test(retry_info),
        cmocka_unit_test(no_answer_is_tried_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
