/* fuzz_exporter_grpc.c - a backend's answer, as hostile as it likes: header lines, trailers, frames, protobuf, JSON, Retry-After.
 *
 * Input: a byte that chooses protocol and status, then header lines ended by '\n', an empty line, and the body. Checked besides the
 * sanitizers' findings: a verdict's words are terminated, valid UTF-8 and fit for a log line; waits are within their bounds. */
#include "deliver/grpc.h"
#include "deliver/http.h"
#include "otlp/decode.h"
#include "otlp/utf8.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct verdict *verdict)
{
    size_t len = strnlen(verdict->words, sizeof(verdict->words));
    if (len == sizeof(verdict->words) || !utf8_valid(verdict->words, len))
        abort();
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)verdict->words[i] < 0x20 || verdict->words[i] == 0x7f)
            abort();
    if (verdict->retry_after_ms < -1 || verdict->retry_after_ms > (int64_t)RETRY_AFTER_MOST_MS)
        abort();
    if (verdict->outcome == OUTCOME_REFUSED && !len)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const long statuses[] = {200, 200, 200, 202, 301, 400, 401, 404, 429, 500, 502, 503, 504, 599, 0, 100};
    struct answer answer;
    struct verdict verdict;
    if (size < 1)
        return 0;
    uint8_t choice = data[0];
    const char *at = (const char *)data + 1, *end = (const char *)data + size, *newline;
    answer_init(&answer);
    answer.arrived = true;
    answer.http_status = statuses[choice & 15];
    while (at < end && (newline = memchr(at, '\n', (size_t)(end - at)))) {
        size_t len = (size_t)(newline - at);
        answer_header(&answer, at, len);
        at = newline + 1;
        if (len == 0)
            break;
    }
    /* In pieces of an odd size, as the network brings them. */
    for (size_t n; at < end; at += n) {
        n = (size_t)(end - at) < 7 ? (size_t)(end - at) : 7;
        if (!answer_body(&answer, (const uint8_t *)at, n))
            break;
    }
    grpc_verdict(&answer, "http://tempo:4317", &verdict);
    check(&verdict);
    http_verdict(&answer, "http://tempo:4318", 1000000, &verdict);
    check(&verdict);
    answer_free(&answer);
    return 0;
}
