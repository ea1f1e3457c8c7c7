/* decode.c - what a backend says: bytes from the network, believed only as far as they decode. */
#include "otlp/decode.h"
#include "otlp/otlp.pb-c.h"
#include "otlp/rpc_status.pb-c.h"
#include "otlp/utf8.h"
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

void otlp_copy_text(char *to, size_t size, const char *from, size_t len)
{
    size_t used = 0, n;
    for (size_t i = 0; i < len; i += n ? n : 1) {
        n = utf8_sequence(from + i, len - i);
        if (used + (n ? n : 1) >= size)
            break;
        /* It ends in a log line and on a terminal: no line breaks, no escape sequences. */
        if (n == 0)
            to[used++] = '?';
        else if ((unsigned char)from[i] < 0x20 || from[i] == 0x7f)
            to[used++] = ' ';
        else
            for (size_t k = 0; k < n; k++)
                to[used++] = from[i + k];
    }
    while (used && to[used - 1] == ' ')
        used--;
    to[used] = '\0';
}

int otlp_decode_answer(const uint8_t *data, size_t len, struct otlp_answer *answer)
{
    memset(answer, 0, sizeof(*answer));
    Otlp__ExportTraceServiceResponse *response = otlp__export_trace_service_response__unpack(NULL, len, data);
    if (!response)
        return -EBADMSG;
    if (response->partial_success) {
        const char *message = response->partial_success->error_message;
        answer->rejected_spans = response->partial_success->rejected_spans;
        otlp_copy_text(answer->message, sizeof(answer->message), message, strlen(message));
    }
    otlp__export_trace_service_response__free_unpacked(response, NULL);
    return 0;
}

int otlp_decode_answer_json(const uint8_t *data, size_t len, struct otlp_answer *answer)
{
    memset(answer, 0, sizeof(*answer));
    json_t *root = json_loadb((const char *)data, len, 0, NULL);
    if (!json_is_object(root)) {
        json_decref(root);
        return -EBADMSG;
    }
    json_t *partial = json_object_get(root, "partialSuccess");
    json_t *rejected = json_object_get(partial, "rejectedSpans");
    /* 64-bit integers are strings in protobuf's JSON, and readers must take numbers too. */
    if (json_is_string(rejected))
        answer->rejected_spans = strtoll(json_string_value(rejected), NULL, 10);
    else if (json_is_integer(rejected))
        answer->rejected_spans = json_integer_value(rejected);
    const char *message = json_string_value(json_object_get(partial, "errorMessage"));
    if (message)
        otlp_copy_text(answer->message, sizeof(answer->message), message, strlen(message));
    json_decref(root);
    return 0;
}

/* google.protobuf.Duration in milliseconds, rounded up, within 0 .. 24 h: longer is a mistake of the peer's and means "a long time". */
static int64_t duration_ms(const Rpc__Duration *duration)
{
    const int64_t most = 24LL * 3600;
    if (duration->seconds < 0 || duration->nanos < 0)
        return 0;
    if (duration->seconds >= most)
        return most * 1000;
    return duration->seconds * 1000 + (duration->nanos + 999999LL) / 1000000;
}

static int64_t retry_delay_ms(const Rpc__Detail *detail)
{
    /* The type's name comes after the last slash of the URL, whatever the host. */
    const char *type = strrchr(detail->type_url, '/');
    if (strcmp(type ? type + 1 : detail->type_url, "google.rpc.RetryInfo") != 0)
        return -1;
    Rpc__RetryInfo *info = rpc__retry_info__unpack(NULL, detail->value.len, detail->value.data);
    if (!info)
        return -1;
    int64_t ms = info->retry_delay ? duration_ms(info->retry_delay) : 0;
    rpc__retry_info__free_unpacked(info, NULL);
    return ms;
}

int otlp_decode_failure(const uint8_t *data, size_t len, struct otlp_failure *failure)
{
    memset(failure, 0, sizeof(*failure));
    failure->retry_delay_ms = -1;
    Rpc__Status *status = rpc__status__unpack(NULL, len, data);
    if (!status)
        return -EBADMSG;
    failure->code = status->code;
    otlp_copy_text(failure->message, sizeof(failure->message), status->message, strlen(status->message));
    for (size_t i = 0; i < status->n_details && failure->retry_delay_ms < 0; i++)
        failure->retry_delay_ms = retry_delay_ms(status->details[i]);
    rpc__status__free_unpacked(status, NULL);
    return 0;
}
