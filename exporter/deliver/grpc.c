/* grpc.c - see grpc.h.
 *
 * A unary answer is: HTTP headers, one framed message, trailers with grpc-status and grpc-message. A call that fails at once may be
 * "trailers-only": grpc-status among the headers and no body. A proxy in between knows nothing of this and answers in plain HTTP, which has a
 * mapping of its own. libcurl hands headers and trailers over alike, so that answer.c has the last grpc-status seen. */
#include "deliver/grpc.h"
#include "deliver/http.h"
#include "deliver/verdict.h"
#include "otlp/decode.h"
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <zlib.h>

const char *grpc_name(int status)
{
    static const char *const names[] = {
        "OK",        "CANCELLED",      "UNKNOWN",           "INVALID_ARGUMENT",   "DEADLINE_EXCEEDED",
        "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION",
        "ABORTED",   "OUT_OF_RANGE",   "UNIMPLEMENTED",     "INTERNAL",           "UNAVAILABLE",
        "DATA_LOSS", "UNAUTHENTICATED"};
    return status >= 0 && (size_t)status < sizeof(names) / sizeof(names[0]) ? names[status] : "UNKNOWN";
}

void grpc_frame_header(uint8_t header[GRPC_FRAME_HEADER], uint32_t message_len, bool compressed)
{
    header[0] = compressed;
    header[1] = (uint8_t)(message_len >> 24);
    header[2] = (uint8_t)(message_len >> 16);
    header[3] = (uint8_t)(message_len >> 8);
    header[4] = (uint8_t)message_len;
}

void grpc_timeout(char *to, size_t size, uint64_t timeout_ms)
{
    if (timeout_ms <= 99999999)
        snprintf(to, size, "%" PRIu64 "m", timeout_ms);
    else
        snprintf(to, size, "%" PRIu64 "S", timeout_ms / 1000 > 99999999 ? (uint64_t)99999999 : timeout_ms / 1000);
}

/* grpc-encoding: gzip. Bounded: a few kilobytes from a hostile peer can inflate to gigabytes. */
static int inflate_bounded(const uint8_t *data, size_t len, uint8_t **out, size_t *out_len)
{
    z_stream stream = {.next_in = (Bytef *)data, .avail_in = (uInt)len};
    if (inflateInit2(&stream, 15 + 16) != Z_OK)
        return -ENOMEM;
    uint8_t *buffer = NULL;
    size_t size = 0, used = 0;
    int state = Z_OK, result = 0;
    while (state == Z_OK && !result) {
        if (used == size) {
            size_t larger = size ? size * 2 : 4096;
            uint8_t *grown = used > ANSWER_BODY_MAX ? NULL : realloc(buffer, larger);
            if (!grown) {
                result = used > ANSWER_BODY_MAX ? -EMSGSIZE : -ENOMEM;
                break;
            }
            buffer = grown;
            size = larger;
        }
        stream.next_out = buffer + used;
        stream.avail_out = (uInt)(size - used);
        state = inflate(&stream, Z_NO_FLUSH);
        used = size - stream.avail_out;
    }
    inflateEnd(&stream);
    if (!result && used > ANSWER_BODY_MAX)
        result = -EMSGSIZE;
    if (!result && state != Z_STREAM_END)
        result = -EBADMSG;
    if (result) {
        free(buffer);
        return result;
    }
    *out = buffer;
    *out_len = used;
    return 0;
}

int grpc_message(const uint8_t *body, size_t len, const char *encoding, uint8_t **message, size_t *message_len)
{
    if (len == 0)
        return -ENODATA;
    if (len < GRPC_FRAME_HEADER || body[0] > 1)
        return -EBADMSG;
    size_t size = (size_t)body[1] << 24 | (size_t)body[2] << 16 | (size_t)body[3] << 8 | body[4];
    if (size > len - GRPC_FRAME_HEADER)
        return -EBADMSG;
    if (body[0] == 1)
        return strcasecmp(encoding, "gzip") == 0 ? inflate_bounded(body + GRPC_FRAME_HEADER, size, message, message_len) : -EBADMSG;
    *message = malloc(size ? size : 1);
    if (!*message)
        return -ENOMEM;
    memcpy(*message, body + GRPC_FRAME_HEADER, size);
    *message_len = size;
    return 0;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

void grpc_decode_text(char *to, size_t size, const char *encoded)
{
    char decoded[1024];
    size_t n = 0;
    for (const char *p = encoded; *p && n < sizeof(decoded); p++) {
        int high = *p == '%' ? hex_digit(p[1]) : -1, low = high >= 0 ? hex_digit(p[2]) : -1;
        /* PROTOCOL-HTTP2: what is no valid escape stays as it is. */
        decoded[n++] = low >= 0 ? (char)(high << 4 | low) : *p;
        if (low >= 0)
            p += 2;
    }
    otlp_copy_text(to, size, decoded, n);
}

static int base64_digit(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' || c == '-' ? 62 : c == '/' || c == '_' ? 63 : -1;
}

long grpc_decode_base64(uint8_t *to, size_t size, const char *encoded)
{
    uint32_t bits = 0;
    unsigned have = 0;
    size_t n = 0, digits = 0;
    const char *p = encoded;
    for (; *p && *p != '='; p++, digits++) {
        int digit = base64_digit(*p);
        if (digit < 0)
            return -1;
        bits = bits << 6 | (uint32_t)digit;
        have += 6;
        if (have < 8)
            continue;
        have -= 8;
        if (n == size)
            return -1;
        to[n++] = (uint8_t)(bits >> have);
    }
    return digits % 4 == 1 || strspn(p, "=") != strlen(p) || strlen(p) > 2 ? -1 : (long)n;
}

/* A plain HTTP status from something that does not speak gRPC (http-grpc-status-mapping.md). */
static int status_of_http(long http_status)
{
    switch (http_status) {
    case 400: return GRPC_INTERNAL;
    case 401: return GRPC_UNAUTHENTICATED;
    case 403: return GRPC_PERMISSION_DENIED;
    case 404: return GRPC_UNIMPLEMENTED;
    case 429:
    case 502:
    case 503:
    case 504: return GRPC_UNAVAILABLE;
    default: return GRPC_UNKNOWN;
    }
}

static void plain_http(const struct answer *answer, const char *where, struct verdict *verdict)
{
    int status = status_of_http(answer->http_status);
    verdict->code = VERDICT_HTTP + (int)answer->http_status;
    verdict->outcome = retry_grpc(status, false) ? OUTCOME_RETRY : OUTCOME_REFUSED;
    verdict->remedy = verdict_remedy(status, NULL);
    if (answer->http_status == 200 && strncasecmp(answer->content_type, "application/grpc", 16) == 0) {
        /* It began to answer and was cut off: a disconnect, which is tried again. */
        verdict->outcome = OUTCOME_RETRY;
        verdict_say(verdict, "%s ended the call without a status", where);
        return;
    }
    if (answer->http_status == 200) {
        verdict_say(verdict, "%s answered 200, but not in gRPC", where);
        verdict->remedy = "is this OTLP's gRPC port? For OTLP over HTTP set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf";
        return;
    }
    verdict_say(verdict, "%s answered HTTP status %ld %s instead of gRPC", where, answer->http_status,
                http_reason(answer->http_status));
}

static void failed(const struct answer *answer, const char *where, int status, struct verdict *verdict)
{
    char text[256];
    uint8_t details[sizeof(answer->grpc_details)];
    struct otlp_failure failure = {.retry_delay_ms = -1};
    long details_len = grpc_decode_base64(details, sizeof(details), answer->grpc_details);
    if (details_len <= 0 || otlp_decode_failure(details, (size_t)details_len, &failure) != 0)
        failure.retry_delay_ms = -1;
    grpc_decode_text(text, sizeof(text), answer->grpc_message);
    verdict->outcome = retry_grpc(status, failure.retry_delay_ms >= 0) ? OUTCOME_RETRY : OUTCOME_REFUSED;
    verdict->code = VERDICT_GRPC + (status >= 0 && status <= GRPC_UNAUTHENTICATED ? status : GRPC_UNKNOWN);
    verdict->remedy = verdict_remedy(status, text);
    if (verdict->outcome == OUTCOME_RETRY)
        verdict->retry_after_ms =
            failure.retry_delay_ms > (int64_t)RETRY_AFTER_MOST_MS ? RETRY_AFTER_MOST_MS : failure.retry_delay_ms;
    if (text[0])
        verdict_say(verdict, "%s answered %s: %s", where, grpc_name(status), text);
    else
        verdict_say(verdict, "%s answered %s", where, grpc_name(status));
}

static void succeeded(const struct answer *answer, const char *where, struct verdict *verdict)
{
    uint8_t *message = NULL;
    size_t len = 0;
    struct otlp_answer decoded = {0};
    int result = grpc_message(answer->body, answer->body_len, answer->grpc_encoding, &message, &len);
    if (result == 0)
        result = otlp_decode_answer(message, len, &decoded);
    free(message);
    /* A missing message is a fault of form, but the backend's word is OK. */
    if (result != 0 && result != -ENOMEM && result != -ENODATA) {
        /* gRPC calls an unreadable message of a unary call INTERNAL, which is not retried. */
        verdict->outcome = OUTCOME_REFUSED;
        verdict->code = VERDICT_GARBAGE;
        verdict_say(verdict, "%s answered OK with a message that is no OTLP answer", where);
        verdict->remedy = "is it an OTLP receiver? Check OTEL_EXPORTER_OTLP_ENDPOINT";
        return;
    }
    verdict->outcome = OUTCOME_ACCEPTED;
    verdict->rejected = decoded.rejected_spans;
    verdict_say(verdict, "%s", decoded.message);
}

void grpc_verdict(const struct answer *answer, const char *where, struct verdict *verdict)
{
    memset(verdict, 0, sizeof(*verdict));
    verdict->retry_after_ms = -1;
    if (!answer->arrived) {
        verdict_no_answer(answer, verdict);
        return;
    }
    char *end = NULL;
    long status = answer->grpc_status[0] ? strtol(answer->grpc_status, &end, 10) : -1;
    if (!answer->grpc_status[0])
        plain_http(answer, where, verdict);
    else if (*end || status < 0)
        failed(answer, where, GRPC_UNKNOWN, verdict);
    else if (status != GRPC_OK)
        failed(answer, where, status > GRPC_UNAUTHENTICATED ? GRPC_UNKNOWN : (int)status, verdict);
    else
        succeeded(answer, where, verdict);
}
