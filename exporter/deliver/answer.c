/* answer.c - see answer.h. */
#include "deliver/answer.h"
#include <stdlib.h>
#include <string.h>
#include <strings.h>

void answer_init(struct answer *answer)
{
    memset(answer, 0, sizeof(*answer));
}

void answer_free(struct answer *answer)
{
    free(answer->body);
    answer_init(answer);
}

static void forget_headers(struct answer *answer)
{
    answer->content_type[0] = answer->retry_after[0] = '\0';
    answer->grpc_status[0] = answer->grpc_encoding[0] = answer->grpc_message[0] = answer->grpc_details[0] = '\0';
    answer->body_len = 0;
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

void answer_header(struct answer *answer, const char *line, size_t len)
{
    const struct {
        const char *name;
        char *value;
        size_t size;
        bool whole; /* half of it is worth nothing */
    } wanted[] = {
        {"content-type", answer->content_type, sizeof(answer->content_type), false},
        {"retry-after", answer->retry_after, sizeof(answer->retry_after), true},
        {"grpc-status", answer->grpc_status, sizeof(answer->grpc_status), false},
        {"grpc-encoding", answer->grpc_encoding, sizeof(answer->grpc_encoding), true},
        {"grpc-message", answer->grpc_message, sizeof(answer->grpc_message), false},
        {"grpc-status-details-bin", answer->grpc_details, sizeof(answer->grpc_details), true},
    };
    if (len >= 5 && memcmp(line, "HTTP/", 5) == 0) {
        forget_headers(answer);
        return;
    }
    const char *colon = memchr(line, ':', len);
    if (!colon)
        return;
    size_t name_len = (size_t)(colon - line);
    const char *value = colon + 1, *end = line + len;
    while (value < end && is_space(*value))
        value++;
    while (end > value && is_space(end[-1]))
        end--;
    size_t value_len = (size_t)(end - value);
    for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
        if (name_len != strlen(wanted[i].name) || strncasecmp(line, wanted[i].name, name_len) != 0)
            continue;
        if (value_len >= wanted[i].size)
            value_len = wanted[i].whole ? 0 : wanted[i].size - 1;
        memcpy(wanted[i].value, value, value_len);
        wanted[i].value[value_len] = '\0';
        return;
    }
}

bool answer_body(struct answer *answer, const uint8_t *data, size_t len)
{
    if (len > ANSWER_BODY_MAX - answer->body_len) {
        answer->body_too_long = true;
        return false;
    }
    if (answer->body_len + len > answer->body_size) {
        size_t size = answer->body_size ? answer->body_size : 512;
        while (size < answer->body_len + len)
            size *= 2;
        uint8_t *body = realloc(answer->body, size);
        if (!body) {
            answer->body_too_long = true;
            return false;
        }
        answer->body = body;
        answer->body_size = size;
    }
    if (len)
        memcpy(answer->body + answer->body_len, data, len);
    answer->body_len += len;
    return true;
}
