/* http1.c - HTTP/1.0 and 1.1 in both directions of one connection: where messages begin and end (RFC 9112).
 *
 * A message is a start line and header lines (http1_head.c), then a body that is framed by what they said: nothing, Content-Length,
 * chunks, or the end of the connection. Bodies are passed over by length and never looked at. A response is framed by its request too
 * (HEAD, CONNECT), so the classes of the requests that wait for theirs are kept, oldest first, as bits.
 *
 * Strict where a guess could show a call under the wrong request (two lengths, an unframed request body, a response to nothing): such a
 * connection is given up. Lenient where real programs are: bare LF, folded lines, empty lines before a request. */
#include "proto/http1.h"

#include <string.h>

_Static_assert(sizeof(struct http1) <= PROTO_STATE_MAX, "bounded state");

static void emit(struct http1_cursor *c, struct proto_event *event)
{
    event->dir = (uint8_t)c->dir;
    event->offset = c->p - c->start;
    c->sink(c->sink_arg, event);
}

void http1_lost(struct http1_cursor *c, const char *why)
{
    if (c->s->over)
        return;
    c->s->over = true;
    emit(c, &(struct proto_event){.type = PROTO_LOST, .why = why});
}

static void switched(struct http1_cursor *c)
{
    c->s->over = true;
    emit(c, &(struct proto_event){.type = PROTO_SWITCH, .version = c->h->version, .status = c->h->status});
}

/* ---- which request does a response answer? -------------------------------------------------------------------------------------- */

bool http1_push(struct http1_cursor *c)
{
    struct http1 *s = c->s;
    if (s->waiting >= HTTP1_PIPELINE_MAX) {
        http1_lost(c, "too many requests without a response");
        return false;
    }
    uint64_t bit = 1ull << s->waiting++;
    if (c->h->method == HTTP1_HEAD_METHOD)
        s->waiting_head |= bit;
    if (c->h->method == HTTP1_CONNECT_METHOD)
        s->waiting_connect |= bit;
    return true;
}

static void pop(struct http1 *s)
{
    s->waiting--;
    s->waiting_head >>= 1;
    s->waiting_connect >>= 1;
}

/* The next byte opens a part with a bound of its own: header block, chunk size, trailers. */
static void part_begin(struct http1_cursor *c)
{
    c->h->head_bytes = 0;
    c->part = c->p;
}

/* ---- begin, head, end of a message ------------------------------------------------------------------------------------------------- */

/* False: it has not begun in these bytes. */
static bool message_begin(struct http1_cursor *c)
{
    struct http1_half *h = c->h;
    /* Empty lines before a request: RFC 9112 2.2. They are bounded like a header block, and no part of the message. */
    while (c->p < c->end && (*c->p == '\r' || *c->p == '\n'))
        c->p++;
    if (c->p == c->end)
        return false;
    if (c->dir == PROTO_RESPONSE && c->s->waiting == 0) {
        http1_lost(c, "a response to no request");
        return false;
    }
    memset(h, 0, offsetof(struct http1_half, carry)); /* of which carry_len counts none now */
    part_begin(c);
    h->field = HTTP1_NO_FIELD;
    h->phase = c->dir == PROTO_REQUEST ? HTTP1_METHOD : HTTP1_STATUS;
    emit(c, &(struct proto_event){.type = PROTO_BEGIN});
    return true;
}

static void message_end(struct http1_cursor *c, bool interim)
{
    struct http1_half *h = c->h;
    struct http1 *s = c->s;
    h->phase = HTTP1_START;
    part_begin(c);
    if (c->dir == PROTO_REQUEST && h->method == HTTP1_CONNECT_METHOD)
        h->phase = HTTP1_HELD;
    if (c->dir == PROTO_RESPONSE && !interim) {
        if ((s->waiting_connect & 1) && s->half[PROTO_REQUEST].phase == HTTP1_HELD)
            s->half[PROTO_REQUEST].phase = HTTP1_START; /* refused: what follows are requests again */
        pop(s);
    }
    emit(c, &(struct proto_event){
                .type = PROTO_END, .interim = interim, .body_bytes = h->body_bytes, .version = h->version, .status = h->status});
}

static void body_of_length(struct http1_cursor *c, uint64_t length)
{
    c->h->left = length;
    c->h->phase = HTTP1_BODY_LENGTH;
    if (length == 0)
        message_end(c, false);
}

static void chunk_begin(struct http1_cursor *c)
{
    struct http1_half *h = c->h;
    h->phase = HTTP1_CHUNK_SIZE;
    h->number = 0;
    h->number_begun = false;
    part_begin(c);
}

/* RFC 9112 6.3, requests. */
static void request_body(struct http1_cursor *c)
{
    struct http1_half *h = c->h;
    if (h->te_present && (!h->te_chunked_last || h->version == 10))
        http1_lost(c, "a request body without an end"); /* 6.1, 6.3 (4): servers refuse it */
    else if (h->te_present)
        chunk_begin(c);
    else
        body_of_length(c, h->length);
}

/* RFC 9112 6.3, responses. */
static void response_body(struct http1_cursor *c)
{
    struct http1_half *h = c->h;
    struct http1 *s = c->s;
    bool connect = s->waiting_connect & 1;
    if (h->status == 101 || (connect && h->status >= 200 && h->status < 300)) {
        switched(c);
    } else if (h->status < 200) {
        message_end(c, true);
    } else if (connect && s->held_bytes) {
        http1_lost(c, "bytes after a CONNECT that was refused");
    } else if ((s->waiting_head & 1) || h->status == 204 || h->status == 304) {
        message_end(c, false);
    } else if (h->te_present && h->te_chunked_last) {
        chunk_begin(c);
    } else if (h->has_length && !h->te_present) {
        body_of_length(c, h->length);
    } else {
        h->phase = HTTP1_BODY_CLOSE;
    }
}

void http1_head_done(struct http1_cursor *c)
{
    struct http1_half *h = c->h;
    if (h->trailer) {
        message_end(c, false);
        return;
    }
    emit(c, &(struct proto_event){.type = PROTO_HEAD, .version = h->version, .status = h->status, .insert_at = c->blank_at});
    c->blank_at = -1;
    if (c->dir == PROTO_REQUEST)
        request_body(c);
    else
        response_body(c);
}

/* ---- chunks: RFC 9112 7.1 ------------------------------------------------------------------------------------------------------------ */

static void chunk_data_begin(struct http1_cursor *c)
{
    struct http1_half *h = c->h;
    part_begin(c);
    h->left = h->number;
    h->phase = HTTP1_CHUNK_DATA;
    if (h->left > 0)
        return;
    h->trailer = true;
    h->lines = 0;
    h->field = HTTP1_NO_FIELD;
    h->phase = HTTP1_LINE;
}

static int hex_digit(char byte)
{
    if (byte >= '0' && byte <= '9')
        return byte - '0';
    byte |= 0x20;
    return byte >= 'a' && byte <= 'f' ? byte - 'a' + 10 : -1;
}

static void step_chunk_size(struct http1_cursor *c)
{
    struct http1_half *h = c->h;
    while (c->p < c->end) {
        char byte = *c->p++;
        int digit = hex_digit(byte);
        if (digit >= 0 && h->number >> 59 == 0) {
            h->number = h->number << 4 | (uint64_t)digit;
            h->number_begun = true;
            continue;
        }
        if (!h->number_begun || digit >= 0)
            http1_lost(c, "no chunk size");
        else if (byte == '\n')
            chunk_data_begin(c);
        else if (byte == '\r')
            h->phase = HTTP1_CHUNK_LF;
        else if (byte == ';' || byte == ' ' || byte == '\t')
            h->phase = HTTP1_CHUNK_EXT;
        else
            http1_lost(c, "no chunk size");
        return;
    }
}

static void step_chunk(struct http1_cursor *c)
{
    struct http1_half *h = c->h;
    switch (h->phase) {
    case HTTP1_CHUNK_SIZE: step_chunk_size(c); break;
    case HTTP1_CHUNK_EXT: {
        const char *lf = memchr(c->p, '\n', (size_t)(c->end - c->p));
        c->p = lf != NULL ? lf + 1 : c->end;
        if (lf != NULL)
            chunk_data_begin(c);
        break;
    }
    case HTTP1_CHUNK_LF:
        if (*c->p++ == '\n')
            chunk_data_begin(c);
        else
            http1_lost(c, "no chunk size");
        break;
    default: { /* HTTP1_CHUNK_END, HTTP1_CHUNK_END_LF */
        char byte = *c->p++;
        if (byte == '\n')
            chunk_begin(c);
        else if (byte == '\r' && h->phase == HTTP1_CHUNK_END)
            h->phase = HTTP1_CHUNK_END_LF;
        else
            http1_lost(c, "a chunk is longer than its size");
        break;
    }
    }
}

/* ---- content ---------------------------------------------------------------------------------------------------------------------------- */

/* Up to len bytes of content go by; returns how many were content. The message's end is not reported here. */
static uint64_t content(struct http1_half *h, uint64_t len)
{
    if (h->phase != HTTP1_BODY_CLOSE) {
        len = len < h->left ? len : h->left;
        h->left -= len;
    }
    h->body_bytes += len;
    return len;
}

static void content_end(struct http1_cursor *c)
{
    struct http1_half *h = c->h;
    if (h->phase == HTTP1_BODY_CLOSE || h->left > 0)
        return;
    if (h->phase == HTTP1_CHUNK_DATA)
        h->phase = HTTP1_CHUNK_END;
    else
        message_end(c, false);
}

/* ---- the parser as proto.h has it ------------------------------------------------------------------------------------------------------- */

static struct http1_cursor cursor(void *state, enum proto_dir dir, const char *bytes, size_t len, proto_sink sink, void *sink_arg)
{
    struct http1 *s = state;
    return (struct http1_cursor){.s = s,
                                 .h = &s->half[dir],
                                 .dir = dir,
                                 .start = bytes,
                                 .p = bytes,
                                 .end = bytes + len,
                                 .blank_at = -1,
                                 .sink = sink,
                                 .sink_arg = sink_arg};
}

/* One step of a part whose length is bounded: never sees more than what the bound leaves, so that the bound falls on the same byte however
 * the bytes are cut. */
static void bounded_step(struct http1_cursor *c)
{
    struct http1_half *h = c->h;
    const char *end = c->end;
    size_t room = HTTP1_HEAD_MAX - h->head_bytes;
    if (room == 0) {
        http1_lost(c, "header block too long");
        return;
    }
    c->part = c->p;
    if ((size_t)(end - c->p) > room)
        c->end = c->p + room;
    if (h->phase >= HTTP1_CHUNK_SIZE)
        step_chunk(c);
    else if (h->phase != HTTP1_START || message_begin(c))
        http1_head_step(c);
    h->head_bytes += (uint32_t)(c->p - c->part);
    c->end = end;
}

static void http1_feed(void *state, enum proto_dir dir, const char *bytes, size_t len, proto_sink sink, void *sink_arg)
{
    struct http1_cursor c = cursor(state, dir, bytes, len, sink, sink_arg);
    while (c.p < c.end && !c.s->over) {
        if (c.h->phase < HTTP1_BODY_LENGTH) {
            bounded_step(&c);
        } else if (c.h->phase == HTTP1_HELD) {
            c.s->held_bytes = true;
            return;
        } else {
            c.p += content(c.h, (uint64_t)(c.end - c.p));
            content_end(&c);
        }
    }
}

static void http1_skip(void *state, enum proto_dir dir, uint64_t len, proto_sink sink, void *sink_arg)
{
    struct http1_cursor c = cursor(state, dir, "", 0, sink, sink_arg);
    if (c.s->over || len == 0)
        return;
    if (c.h->phase == HTTP1_HELD) {
        c.s->held_bytes = true;
        return;
    }
    if (c.h->phase < HTTP1_BODY_LENGTH || content(c.h, len) != len)
        http1_lost(&c, "bytes that nobody saw");
    else
        content_end(&c);
}

static void http1_eof(void *state, enum proto_dir dir, proto_sink sink, void *sink_arg)
{
    struct http1_cursor c = cursor(state, dir, "", 0, sink, sink_arg);
    if (!c.s->over && c.h->phase == HTTP1_BODY_CLOSE)
        message_end(&c, false);
}

/* Two header lines, or the first of them. */
static size_t http1_inject(const struct proto_carried *carried, char *out, size_t room)
{
    static const char parent_name[] = "traceparent: ", state_name[] = "tracestate: ";
    const size_t around = sizeof parent_name - 1 + 2, state_around = sizeof state_name - 1 + 2;
    char *p = out;
    if (room < around + carried->parent_len)
        return 0;
    p = proto_put(p, parent_name, sizeof parent_name - 1);
    p = proto_put(p, carried->parent, carried->parent_len);
    p = proto_put(p, "\r\n", 2);
    if (carried->state_len == 0 || room - (size_t)(p - out) < state_around + carried->state_len)
        return (size_t)(p - out);
    p = proto_put(p, state_name, sizeof state_name - 1);
    p = proto_put(p, carried->state, carried->state_len);
    p = proto_put(p, "\r\n", 2);
    return (size_t)(p - out);
}

static void http1_init(void *state)
{
    memset(state, 0, sizeof(struct http1));
}

/* ---- is it HTTP/1 at all? ------------------------------------------------------------------------------------------------------------------ */

static enum proto_match prefix(const char *bytes, size_t len, const char *fixed)
{
    size_t fixed_len = strlen(fixed);
    if (memcmp(bytes, fixed, len < fixed_len ? len : fixed_len) != 0)
        return PROTO_NO;
    return len < fixed_len ? PROTO_MAYBE : PROTO_YES;
}

static bool known_method(const char *bytes, size_t len)
{
    static const char methods[][8] = {"GET", "POST", "PUT", "HEAD", "DELETE", "OPTIONS", "PATCH", "TRACE"};
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++)
        if (strlen(methods[i]) == len && memcmp(methods[i], bytes, len) == 0)
            return true;
    return false;
}

/* The first line from its target on. Other protocols have "WORD WORD ..." too (Redis inline commands, SMTP, NATS' CONNECT, RTSP, SIP): a
 * version has to follow, unless a well-known method and the beginning of the target leave no doubt. */
static enum proto_match detect_target(bool known, const char *p, const char *end)
{
    const char *first = p;
    while (p < end && (unsigned char)*p > ' ' && *p != 0x7f)
        p++;
    if (p < end) {
        enum proto_match version = p > first && *p == ' ' ? prefix(p + 1, (size_t)(end - p - 1), "HTTP/1.") : PROTO_NO;
        if (version != PROTO_MAYBE)
            return version; /* a beginning of it is as good as a target that is cut off: below */
    }
    if (p == first)
        return PROTO_MAYBE;
    size_t len = (size_t)(p - first);
    if (known && (*first == '/' || prefix(first, len, "http://") == PROTO_YES || prefix(first, len, "https://") == PROTO_YES))
        return PROTO_YES;
    return len < 8192 ? PROTO_MAYBE : PROTO_NO;
}

/* Letters, - and _ of at most 16: "BASELINE-CONTROL" is the longest method that is registered. */
static enum proto_match detect_request(const char *p, const char *end)
{
    for (int empty = 0; p < end && (*p == '\r' || *p == '\n'); p++)
        if (++empty > 4)
            return PROTO_NO;
    const char *first = p;
    while (p < end && (((*p | 0x20) >= 'a' && (*p | 0x20) <= 'z') || *p == '-' || *p == '_'))
        p++;
    size_t len = (size_t)(p - first);
    if (len > 16)
        return PROTO_NO;
    if (p == end)
        return PROTO_MAYBE;
    if (len == 0 || *p != ' ')
        return PROTO_NO;
    return detect_target(known_method(first, len), p + 1, end);
}

static enum proto_match http1_detect(enum proto_dir dir, const char *bytes, size_t len)
{
    if (len == 0)
        return PROTO_MAYBE;
    return dir == PROTO_REQUEST ? detect_request(bytes, bytes + len) : prefix(bytes, len, "HTTP/1.");
}

const struct proto_ops http1_ops = {
    .name = "http",
    .id = OTSHIM_PROTOCOL_HTTP1,
    .state_bytes = sizeof(struct http1),
    .detect = http1_detect,
    .init = http1_init,
    .feed = http1_feed,
    .skip = http1_skip,
    .eof = http1_eof,
    .inject = http1_inject,
};
