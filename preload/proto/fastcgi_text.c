/* fastcgi_text.c - the text in a FastCGI conversation: the variables of a request, and the header lines with which its response begins.
 *
 * Both come in pieces of any size. Names that matter are short and kept until they are whole; values go on as they come. */
#include "proto/fastcgi.h"

/* ---- name-value pairs: 3.4 ------------------------------------------------------------------------------------------------------------ */

static uint8_t field_of(const char *name, size_t len)
{
    static const struct {
        const char *name;
        uint8_t len, field;
    } known[] = {
#define VARIABLE(name, field) {name, sizeof name - 1, field}
        VARIABLE("REQUEST_METHOD", PROTO_METHOD),
        VARIABLE("REQUEST_URI", PROTO_TARGET),
        VARIABLE("REQUEST_SCHEME", PROTO_SCHEME),
        VARIABLE("SCRIPT_NAME", PROTO_SCRIPT_NAME),
        VARIABLE("QUERY_STRING", PROTO_QUERY_STRING),
        VARIABLE("CONTENT_LENGTH", FASTCGI_CONTENT_LENGTH),
        VARIABLE("SERVER_NAME", PROTO_SERVER_NAME),
        VARIABLE("REMOTE_ADDR", PROTO_REMOTE_ADDR),
        VARIABLE("HTTP_HOST", PROTO_HOST),
        VARIABLE("HTTP_USER_AGENT", PROTO_USER_AGENT),
        VARIABLE("HTTP_FORWARDED", PROTO_FORWARDED),
        VARIABLE("HTTP_X_FORWARDED_FOR", PROTO_X_FORWARDED_FOR),
        VARIABLE("HTTP_X_FORWARDED_PROTO", PROTO_X_FORWARDED_PROTO),
        VARIABLE("HTTP_TRACEPARENT", PROTO_TRACEPARENT),
        VARIABLE("HTTP_TRACESTATE", PROTO_TRACESTATE),
#undef VARIABLE
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i].len == len && memcmp(known[i].name, name, len) == 0)
            return known[i].field;
    return FASTCGI_NO_FIELD;
}

/* A length of one byte, or of four, the first of which has its highest bit set. True: it is complete. */
static bool length_byte(struct fastcgi_pair *pair, uint32_t *length, unsigned char byte)
{
    if (pair->done++ == 0) {
        *length = byte & 0x7fu;
        if ((byte & 0x80u) != 0)
            return false;
    } else {
        *length = *length << 8 | byte;
        if (pair->done < 4)
            return false;
    }
    pair->done = 0;
    return true;
}

static void name_over(struct fastcgi_cursor *c)
{
    struct fastcgi_pair *pair = &c->s->pair;
    pair->field = pair->name_len <= FASTCGI_NAME_MAX ? field_of(pair->name, pair->name_len) : FASTCGI_NO_FIELD;
    pair->done = 0;
    pair->phase = FASTCGI_VALUE;
    if (pair->field == FASTCGI_CONTENT_LENGTH) {
        c->s->has_length =
            pair->value_len > 0; /* nginx has an empty one when there is no content, or when it does not know how much */
        c->s->content_length = 0;
    }
}

static void value_bytes(struct fastcgi_cursor *c, const char *bytes, uint32_t len)
{
    struct fastcgi *s = c->s;
    struct fastcgi_pair *pair = &s->pair;
    if (pair->field == FASTCGI_CONTENT_LENGTH) {
        for (uint32_t i = 0; i < len; i++) {
            unsigned digit = (unsigned char)bytes[i] - (unsigned)'0';
            if (digit > 9 || s->content_length > UINT64_MAX / 10 - 1)
                s->has_length = false;
            else
                s->content_length = s->content_length * 10 + digit;
        }
    } else if (pair->field == PROTO_SERVER_NAME && pair->value_len == 1 && len == 1 && *bytes == '_') {
        /* what people write who want no name (nginx) */
    } else if (pair->field != FASTCGI_NO_FIELD) {
        fastcgi_text(c, pair->field, bytes, len, pair->done + len < pair->value_len);
    }
}

/* As much as there is of one part of a pair. */
void fastcgi_pairs_step(struct fastcgi_cursor *c, uint32_t available)
{
    struct fastcgi_pair *pair = &c->s->pair;
    uint32_t len;
    switch (pair->phase) {
    case FASTCGI_NAME_LEN:
    case FASTCGI_VALUE_LEN:
        if (length_byte(pair, pair->phase == FASTCGI_NAME_LEN ? &pair->name_len : &pair->value_len, (unsigned char)*c->p++))
            pair->phase++;
        if (pair->phase == FASTCGI_NAME && pair->name_len == 0)
            name_over(c);
        break;
    case FASTCGI_NAME:
        len = pair->name_len - pair->done < available ? pair->name_len - pair->done : available;
        if (pair->name_len <= FASTCGI_NAME_MAX)
            memcpy(pair->name + pair->done, c->p, len);
        c->p += len;
        pair->done += len;
        if (pair->done == pair->name_len)
            name_over(c);
        break;
    default:
        len = pair->value_len - pair->done < available ? pair->value_len - pair->done : available;
        value_bytes(c, c->p, len);
        c->p += len;
        pair->done += len;
    }
    if (pair->phase == FASTCGI_VALUE && pair->done == pair->value_len) {
        if (pair->value_len == 0)
            value_bytes(c, "", 0);
        pair->phase = FASTCGI_NAME_LEN;
        pair->done = 0;
    }
}

bool fastcgi_pairs_whole(const struct fastcgi_pair *pair)
{
    return pair->phase == FASTCGI_NAME_LEN && pair->done == 0;
}

/* ---- the header lines of STDOUT: RFC 3875 6.3 -------------------------------------------------------------------------------------------- */

static void lines_over(struct fastcgi_cursor *c)
{
    struct fastcgi_lines *lines = &c->s->lines;
    lines->over = true;
    c->h->use = FASTCGI_CGI_BODY;
    if (lines->status == 0)
        lines->status = lines->location ? 302 : 200;
    fastcgi_emit(c, &(struct proto_event){.type = PROTO_HEAD, .version = 10, .status = lines->status}, fastcgi_here(c));
}

static bool is_name(const struct fastcgi_lines *lines, const char *name)
{
    return lines->name_len == strlen(name) && memcmp(lines->name, name, lines->name_len) == 0;
}

static void name_byte(struct fastcgi_lines *lines, char byte)
{
    if (byte == ':') {
        lines->is_status = is_name(lines, "status");
        lines->location |= is_name(lines, "location");
        lines->phase = lines->is_status ? FASTCGI_LINE_VALUE : FASTCGI_LINE_REST;
        lines->number = lines->digits = 0;
    } else if (lines->name_len == FASTCGI_CGI_NAME_MAX) {
        lines->phase = FASTCGI_LINE_REST; /* none that matters */
    } else {
        lines->name[lines->name_len++] = (char)(byte | 0x20);
    }
}

/* Three digits and no more. */
static void status_byte(struct fastcgi_lines *lines, char byte)
{
    bool blank = byte == ' ' || byte == '\t';
    if (lines->digits == 0 && blank)
        return;
    if (byte >= '0' && byte <= '9' && lines->digits < 3) {
        lines->number = (uint16_t)(lines->number * 10 + (byte - '0'));
        lines->digits++;
        return;
    }
    if (lines->digits == 3 && lines->number >= 100 && (blank || byte == '\r' || byte == '\n'))
        lines->status = lines->number;
    lines->phase = FASTCGI_LINE_REST;
}

void fastcgi_lines_step(struct fastcgi_cursor *c, size_t available)
{
    struct fastcgi_lines *lines = &c->s->lines;
    if (lines->phase == FASTCGI_LINE_REST) {
        const char *lf = memchr(c->p, '\n', available);
        if (lf == NULL) {
            c->p += available;
            return;
        }
        c->p = lf;
    }
    char byte = *c->p++;
    if (lines->phase == FASTCGI_LINE_VALUE)
        status_byte(lines, byte);
    if (byte == '\n' && (lines->phase == FASTCGI_LINE_BEGIN || lines->phase == FASTCGI_LINE_BLANK)) {
        lines_over(c);
    } else if (byte == '\n') {
        lines->phase = FASTCGI_LINE_BEGIN;
    } else if (byte == '\r' && lines->phase == FASTCGI_LINE_BEGIN) {
        lines->phase = FASTCGI_LINE_BLANK;
    } else if (lines->phase == FASTCGI_LINE_BEGIN || lines->phase == FASTCGI_LINE_BLANK) {
        lines->phase = FASTCGI_LINE_NAME;
        lines->name_len = 0;
        name_byte(lines, byte);
    } else if (lines->phase == FASTCGI_LINE_NAME) {
        name_byte(lines, byte);
    }
}
