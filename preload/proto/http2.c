/* http2.c - see http2.h. RFC 9113 throughout. */
#include "proto/http2.h"
#include <string.h>

enum frame_type { DATA = 0, HEADERS = 1, PRIORITY = 2, RST_STREAM = 3, SETTINGS = 4, PUSH_PROMISE = 5, CONTINUATION = 9 };
#define END_STREAM 0x1u
#define ACK 0x1u
#define END_HEADERS 0x4u
#define PADDED 0x8u
#define WITH_PRIORITY 0x20u
#define SETTINGS_HEADER_TABLE_SIZE 1u

/* One feed(). */
struct feed {
    struct http2 *h;
    struct http2_lane *lane;
    enum proto_dir dir;
    proto_sink sink;
    void *arg;
    const char *bytes;
    size_t at; /* how far it is */
};

static void lose(const struct feed *f, const char *why)
{
    f->h->lost = true;
    f->sink(f->arg, &(struct proto_event){.type = PROTO_LOST, .dir = (uint8_t)f->dir, .offset = (ptrdiff_t)f->at, .why = why});
}

/* ---- streams ----------------------------------------------------------------------------------------------------------------------------------------- */

static struct http2_stream *stream_find(struct http2 *h, uint32_t id)
{
    for (unsigned i = 0; id != 0 && i < HTTP2_STREAMS; i++)
        if (h->stream[i].id == id)
            return &h->stream[i];
    return NULL;
}

/* 5.1.1: a client's streams are odd, and each number is higher than all before. */
static struct http2_stream *stream_open(struct http2 *h, uint32_t id)
{
    struct http2_stream *stream = NULL;
    for (unsigned i = 0; i < HTTP2_STREAMS && stream == NULL; i++)
        if (h->stream[i].id == 0)
            stream = &h->stream[i];
    h->newest = id;
    if (stream != NULL)
        *stream = (struct http2_stream){.id = id};
    return stream;
}

static void say(const struct feed *f, struct proto_event *event, uint32_t stream)
{
    event->dir = (uint8_t)f->dir;
    event->version = 20;
    event->stream = stream;
    event->offset = (ptrdiff_t)f->at;
    f->sink(f->arg, event);
}

static void stream_ends(const struct feed *f, struct http2_stream *stream)
{
    unsigned bit = 1u << f->dir;
    if (stream->ended & bit)
        return;
    stream->ended |= (uint8_t)bit;
    say(f,
        &(struct proto_event){
            .type = PROTO_END, .body_bytes = stream->body_bytes[f->dir], .wire_bytes = stream->wire_bytes[f->dir]},
        stream->id);
    if (stream->ended == 3)
        stream->id = 0;
}

/* ---- header blocks ------------------------------------------------------------------------------------------------------------------------------------ */

static enum proto_field request_field(enum hpack_name name)
{
    switch (name) {
    case HPACK_METHOD: return PROTO_METHOD;
    case HPACK_PATH: return PROTO_TARGET;
    case HPACK_AUTHORITY:
    case HPACK_HOST: return PROTO_HOST;
    case HPACK_USER_AGENT: return PROTO_USER_AGENT;
    case HPACK_CONTENT_TYPE: return PROTO_CONTENT_TYPE;
    case HPACK_FORWARDED: return PROTO_FORWARDED;
    case HPACK_X_FORWARDED_FOR: return PROTO_X_FORWARDED_FOR;
    case HPACK_X_FORWARDED_PROTO: return PROTO_X_FORWARDED_PROTO;
    case HPACK_TRACEPARENT: return PROTO_TRACEPARENT;
    case HPACK_TRACESTATE: return PROTO_TRACESTATE;
    case HPACK_PROTOCOL: return PROTO_UPGRADE;
    default: return PROTO_FIELDS;
    }
}

static enum proto_field response_field(enum hpack_name name)
{
    switch (name) {
    case HPACK_GRPC_STATUS: return PROTO_RPC_STATUS;
    case HPACK_GRPC_MESSAGE: return PROTO_ERROR_TEXT;
    default: return PROTO_FIELDS;
    }
}

static uint16_t number_of(const char *text, size_t len)
{
    unsigned number = 0;
    for (size_t i = 0; i < len && len <= 3; i++)
        number = number * 10 + (unsigned)(text[i] - '0');
    return (uint16_t)(number <= 999 ? number : 0);
}

static void on_field(void *arg, enum hpack_name name, const char *value, size_t len, bool cut)
{
    const struct feed *f = arg;
    const struct http2_lane *lane = f->lane;
    (void)cut; /* longer than any text that is kept */
    struct http2_stream *stream = lane->block_is_promise ? NULL : stream_find(f->h, lane->block_stream);
    if (stream == NULL || name == HPACK_OTHER)
        return;
    if (f->dir == PROTO_RESPONSE && name == HPACK_STATUS)
        stream->status = number_of(value, len);
    bool trailers = (stream->heads & (1u << f->dir)) != 0;
    if (f->dir == PROTO_REQUEST && trailers)
        return;
    enum proto_field field = f->dir == PROTO_REQUEST ? request_field(name) : response_field(name);
    if (field != PROTO_FIELDS)
        say(f, &(struct proto_event){.type = PROTO_FIELD, .field = (uint8_t)field, .bytes = value, .len = len}, stream->id);
}

/* 8.1: a response may have interim heads before its own; what comes after that are trailers. */
static void block_ends(const struct feed *f)
{
    struct http2_lane *lane = f->lane;
    struct http2_stream *stream = lane->block_is_promise ? NULL : stream_find(f->h, lane->block_stream);
    unsigned bit = 1u << f->dir;
    lane->in_block = false;
    if (stream == NULL)
        return;
    bool trailers = (stream->heads & bit) != 0;
    bool interim = f->dir == PROTO_RESPONSE && stream->status >= 100 && stream->status < 200;
    if (!trailers && !interim) {
        stream->heads |= (uint8_t)bit;
        struct proto_event head = {.type = PROTO_HEAD, .status = f->dir == PROTO_RESPONSE ? stream->status : 0};
        head.insert_at = (ptrdiff_t)f->at;
        head.frame_at = head.insert_at - (ptrdiff_t)(HTTP2_FRAME_HEADER + lane->frame_done);
        head.frame_bytes = lane->frame_bytes;
        say(f, &head, stream->id);
    }
    if (lane->block_ends_stream)
        stream_ends(f, stream);
}

/* ---- frames -------------------------------------------------------------------------------------------------------------------------------------------- */

static bool begin_headers(const struct feed *f)
{
    struct http2_lane *lane = f->lane;
    bool promise = lane->type == PUSH_PROMISE;
    lane->padded = lane->flags & PADDED;
    lane->prefix = (uint8_t)((lane->padded ? 1 : 0) + (promise ? 4 : lane->flags & WITH_PRIORITY ? 5 : 0));
    if (lane->prefix > lane->left)
        return false;
    lane->in_block = true;
    lane->block_is_promise = promise;
    lane->block_stream = lane->stream;
    lane->block_ends_stream = !promise && (lane->flags & END_STREAM);
    if (promise)
        return f->dir == PROTO_RESPONSE;
    struct http2_stream *stream = stream_find(f->h, lane->stream);
    if (stream == NULL && f->dir == PROTO_REQUEST && (lane->stream & 1) && lane->stream > f->h->newest)
        stream = stream_open(f->h, lane->stream);
    else if (stream == NULL)
        return true;
    if (stream == NULL)
        return true;
    stream->wire_bytes[f->dir] += HTTP2_FRAME_HEADER + lane->left;
    if ((stream->heads & (1u << f->dir)) == 0) {
        struct proto_event begin = {.type = PROTO_BEGIN};
        say(f, &begin, stream->id);
    }
    return true;
}

static bool begin_frame(const struct feed *f)
{
    struct http2_lane *lane = f->lane;
    const uint8_t *b = lane->header;
    lane->left = lane->frame_bytes = (uint32_t)b[0] << 16 | (uint32_t)b[1] << 8 | b[2];
    lane->frame_done = 0;
    lane->type = b[3];
    lane->flags = b[4];
    lane->stream = ((uint32_t)b[5] << 24 | (uint32_t)b[6] << 16 | (uint32_t)b[7] << 8 | b[8]) & 0x7fffffffu;
    lane->pad = lane->prefix = 0;
    lane->padded = false;
    lane->number = lane->number_have = lane->setting_have = 0;
    /* 6.10: nothing may come between the frames of a block. */
    if (lane->in_block != (lane->type == CONTINUATION) || (lane->in_block && lane->stream != lane->block_stream))
        return false;
    struct http2_stream *stream;
    switch (lane->type) {
    case HEADERS:
    case PUSH_PROMISE: return lane->stream != 0 && begin_headers(f);
    case DATA:
        lane->padded = lane->flags & PADDED;
        lane->prefix = lane->padded;
        stream = stream_find(f->h, lane->stream);
        if (stream != NULL)
            stream->wire_bytes[f->dir] += HTTP2_FRAME_HEADER + lane->left;
        return lane->stream != 0 && lane->prefix <= lane->left;
    case SETTINGS: return lane->stream == 0 && lane->left % 6 == 0;
    case RST_STREAM: return lane->left == 4;
    default: return true;
    }
}

/* 6.4: both directions of the stream end. What was complete stays so. */
static void reset_stream(const struct feed *f)
{
    struct http2_stream *stream = stream_find(f->h, f->lane->stream);
    if (stream == NULL)
        return;
    struct proto_event reset = {.type = PROTO_RESET, .error = f->lane->number};
    say(f, &reset, stream->id);
    stream->id = 0;
}

static void end_frame(const struct feed *f)
{
    struct http2_lane *lane = f->lane;
    lane->header_have = 0;
    if (lane->type == RST_STREAM) {
        reset_stream(f);
    } else if (lane->type == DATA && (lane->flags & END_STREAM)) {
        struct http2_stream *stream = stream_find(f->h, lane->stream);
        if (stream != NULL)
            stream_ends(f, stream);
    }
}

/* A setting of one side is a bound for the other's encoder. */
static void settings_byte(const struct feed *f, uint8_t byte)
{
    struct http2_lane *lane = f->lane;
    if (lane->setting_have < 2) {
        lane->setting = (uint16_t)(lane->setting << 8 | byte);
        lane->setting_have++;
        return;
    }
    lane->number = lane->number << 8 | byte;
    if (++lane->number_have < 4)
        return;
    if (lane->setting == SETTINGS_HEADER_TABLE_SIZE)
        hpack_allow(&f->h->hpack[f->dir == PROTO_REQUEST ? PROTO_RESPONSE : PROTO_REQUEST], lane->number);
    lane->number_have = lane->setting_have = 0;
    lane->number = 0;
}

static bool prefix_byte(struct http2_lane *lane, uint8_t byte)
{
    if (lane->padded) {
        lane->padded = false;
        lane->pad = byte;
        return lane->pad + lane->prefix <= lane->left; /* 6.1: no more padding than there is payload after the prefix */
    }
    return true;
}

/* Bytes of the payload, of one kind: at most n, at least one. How many; 0: lost. */
static size_t payload(const struct feed *f, size_t n)
{
    struct http2_lane *lane = f->lane;
    const char *bytes = f->bytes + f->at;
    if (lane->prefix > 0) {
        bool good = prefix_byte(lane, (uint8_t)*bytes);
        lane->prefix--;
        return good ? 1 : 0;
    }
    size_t content = lane->left > lane->pad ? lane->left - lane->pad : 0;
    if (content == 0)
        return n < lane->left ? n : lane->left; /* padding */
    n = n < content ? n : content;
    if (lane->in_block) {
        bool last = n == content && (lane->flags & END_HEADERS);
        return hpack_feed(&f->h->hpack[f->dir], bytes, n, last, on_field, (void *)(uintptr_t)f) ? n : 0;
    }
    struct http2_stream *stream;
    switch (lane->type) {
    case DATA:
        stream = stream_find(f->h, lane->stream);
        if (stream != NULL)
            stream->body_bytes[f->dir] += n;
        return n;
    case SETTINGS: settings_byte(f, (uint8_t)*bytes); return 1;
    case RST_STREAM: lane->number = lane->number << 8 | (uint8_t)*bytes; return 1;
    default: return n;
    }
}

/* The block's last byte, when its frame has END_HEADERS: it may be followed by padding. */
static bool at_block_end(const struct http2_lane *lane)
{
    return lane->in_block && (lane->flags & END_HEADERS) && lane->prefix == 0 && lane->left == lane->pad;
}

static bool feed_payload(struct feed *f, size_t len)
{
    struct http2_lane *lane = f->lane;
    while (lane->left > 0 && f->at < len) {
        size_t taken = payload(f, len - f->at);
        if (taken == 0) {
            lose(f, "HTTP/2: a frame or header block that is not one");
            return false;
        }
        f->at += taken;
        lane->left -= (uint32_t)taken;
        lane->frame_done += (uint32_t)taken;
        if (at_block_end(lane))
            block_ends(f);
    }
    return true;
}

static bool feed_header(struct feed *f, size_t len)
{
    struct http2_lane *lane = f->lane;
    for (; lane->preface > 0 && f->at < len; f->at++, lane->preface--)
        if (f->bytes[f->at] != HTTP2_PREFACE[sizeof HTTP2_PREFACE - 1 - lane->preface]) {
            lose(f, "HTTP/2: not its preface");
            return false;
        }
    while (lane->preface == 0 && lane->header_have < HTTP2_FRAME_HEADER && f->at < len)
        lane->header[lane->header_have++] = (uint8_t)f->bytes[f->at++];
    if (lane->header_have < HTTP2_FRAME_HEADER)
        return false;
    if (begin_frame(f)) {
        if (at_block_end(lane)) { /* an empty block, or the last piece is empty */
            if (hpack_feed(&f->h->hpack[f->dir], f->bytes, 0, true, on_field, f)) {
                block_ends(f);
                return true;
            }
        } else {
            return true;
        }
    }
    lose(f, "HTTP/2: a frame that may not come here");
    return false;
}

static void http2_feed(void *state, enum proto_dir dir, const char *bytes, size_t len, proto_sink sink, void *sink_arg)
{
    struct http2 *h = state;
    struct feed f = {.h = h, .lane = &h->lane[dir], .dir = dir, .sink = sink, .arg = sink_arg, .bytes = bytes};
    while (f.at < len && !h->lost) {
        if (f.lane->header_have < HTTP2_FRAME_HEADER && !feed_header(&f, len))
            return;
        if (!feed_payload(&f, len))
            return;
        if (f.lane->left == 0)
            end_frame(&f);
    }
}

/* Content of a DATA frame, sent by sendfile; or a whole one and more, and then we have lost count. */
static void http2_skip(void *state, enum proto_dir dir, uint64_t len, proto_sink sink, void *sink_arg)
{
    struct http2 *h = state;
    struct feed f = {.h = h, .lane = &h->lane[dir], .dir = dir, .sink = sink, .arg = sink_arg};
    struct http2_lane *lane = f.lane;
    if (h->lost || len == 0)
        return;
    if (lane->header_have < HTTP2_FRAME_HEADER || lane->type != DATA || lane->prefix != 0 || len > lane->left) {
        lose(&f, "HTTP/2: bytes that were not seen");
        return;
    }
    struct http2_stream *stream = stream_find(h, lane->stream);
    if (stream != NULL)
        stream->body_bytes[dir] += len;
    lane->left -= (uint32_t)len;
    if (lane->left == 0)
        end_frame(&f);
}

/* 5.4.1, 9.1: a connection that ends takes its open streams with it; the caller ends them. */
static void http2_eof(void *state, enum proto_dir dir, proto_sink sink, void *sink_arg)
{
    (void)state, (void)dir, (void)sink, (void)sink_arg;
}

/* 3.4: a server's first frame is SETTINGS, and it need not wait for the client's preface. */
static enum proto_match detect_server(const char *bytes, size_t len)
{
    static const uint8_t rest[6] = {SETTINGS};
    const uint8_t *b = (const uint8_t *)bytes;
    bool fits = len >= HTTP2_FRAME_HEADER && b[0] == 0 && b[1] == 0 && b[2] % 6 == 0 && memcmp(b + 3, rest, sizeof rest) == 0;
    return fits ? PROTO_YES : PROTO_NO;
}

static enum proto_match http2_detect(enum proto_dir dir, const char *bytes, size_t len)
{
    static const char preface[] = HTTP2_PREFACE;
    size_t n = len < sizeof preface - 1 ? len : sizeof preface - 1;
    if (dir == PROTO_RESPONSE)
        return detect_server(bytes, len);
    if (memcmp(bytes, preface, n) != 0)
        return PROTO_NO;
    return n >= 16 ? PROTO_YES : PROTO_MAYBE;
}

static void http2_init(void *state)
{
    struct http2 *h = state;
    memset(h, 0, offsetof(struct http2, hpack));
    for (unsigned dir = 0; dir < 2; dir++) {
        memset(&h->hpack[dir], 0, offsetof(struct hpack, name_text));
        hpack_init(&h->hpack[dir]);
    }
    memset(h->stream, 0, sizeof h->stream);
    h->lane[PROTO_REQUEST].preface = sizeof HTTP2_PREFACE - 1;
}

/* Fields that touch no table. They go at the end of the block; the length in its last frame's header grows by them (proto.h, .frame_at). */
static size_t http2_inject(const struct proto_carried *carried, char *out, size_t room)
{
    size_t len = hpack_literal("traceparent", carried->parent, carried->parent_len, out, room);
    if (len > 0 && carried->state_len > 0)
        len += hpack_literal("tracestate", carried->state, carried->state_len, out + len, room - len);
    return len;
}

const struct proto_ops http2_ops = {
    .name = "http2",
    .id = OTSHIM_PROTOCOL_HTTP2,
    .state_bytes = sizeof(struct http2),
    .streams = true,
    .detect = http2_detect,
    .init = http2_init,
    .feed = http2_feed,
    .skip = http2_skip,
    .eof = http2_eof,
    .inject = http2_inject,
};
