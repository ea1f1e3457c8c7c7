/* proto_events.h - what a parser says about an exchange, as one line of text that a person can read and a test can compare.
 *
 *     >BEGIN@0 METHOD='GET' TARGET='/' HOST='a' HEAD@27 1.1 END@27 body=0 <BEGIN@0 HEAD@19 1.1 204 END@19 body=0
 *
 * > and < are the directions, @ is an offset in all bytes of that direction, however they were cut. Used by the unit tests and the fuzzers. */
#ifndef PROTO_EVENTS_H
#define PROTO_EVENTS_H

#include "proto/proto.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EVENTS_MAX 65536
#define EVENTS_STATE 61440 /* the largest there is: HTTP/2's */

struct events {
    _Alignas(16) char state[EVENTS_STATE];
    const struct proto_ops *ops;
    uint64_t fed[2];
    const char *piece; /* the bytes of the present feed() */
    size_t piece_len;
    enum proto_dir dir;
    bool text_open[2];
    int in_message[2];
    bool over;
    uint64_t last_offset[2];
    int printed_dir;       /* of the last event in out, -1: none */
    uint64_t insert_at;    /* of the last HEAD of a request */
    bool insert_here;      /* ... in the piece that was fed last */
    const char *violation; /* first broken rule of proto.h, static text */
    size_t len;
    char out[EVENTS_MAX];
};

static inline void events_printf(struct events *e, const char *format, ...) __attribute__((format(printf, 2, 3)));
static inline void events_printf(struct events *e, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    int n = vsnprintf(e->out + e->len, EVENTS_MAX - e->len, format, ap);
    va_end(ap);
    e->len = n < 0 || e->len + (size_t)n >= EVENTS_MAX ? EVENTS_MAX - 1 : e->len + (size_t)n;
}

static inline void events_text(struct events *e, const struct proto_event *event)
{
    static const char *const names[PROTO_FIELDS] = {
        "METHOD",       "TARGET",      "HOST",        "USER_AGENT",   "FORWARDED",  "X_FORWARDED_FOR", "X_FORWARDED_PROTO",
        "TRACEPARENT",  "TRACESTATE",  "UPGRADE",     "CONTENT_TYPE", "RPC_STATUS", "ERROR_TEXT",      "SCRIPT_NAME",
        "QUERY_STRING", "SERVER_NAME", "REMOTE_ADDR", "SCHEME",       "DB",         "ARGUMENTS",       "KEY"};
    if ((unsigned)event->field >= PROTO_FIELDS) {
        e->violation = "unknown field";
        return;
    }
    if (!e->text_open[event->dir])
        events_printf(e, "%s='", names[event->field]);
    for (size_t i = 0; i < event->len; i++)
        events_printf(e, (unsigned char)event->bytes[i] < ' ' ? "\\x%02x" : "%c", (unsigned char)event->bytes[i]);
    e->text_open[event->dir] = event->more;
    if (!event->more)
        events_printf(e, "'");
}

/* Where something can be inserted: before the empty line, or before the empty record. */
static inline void events_insert_at(struct events *e, const struct proto_event *event)
{
    if (e->ops->inject == NULL)
        return;
    ptrdiff_t len = event->offset - event->insert_at;
    e->insert_at = e->fed[PROTO_REQUEST] + (uint64_t)event->insert_at;
    e->insert_here = event->insert_at >= 0;
    if (e->ops->streams) {
        if (event->frame_bytes > 0 &&
            (event->insert_at - event->frame_at < 9 || event->insert_at - event->frame_at > 9 + (ptrdiff_t)event->frame_bytes))
            e->violation = "insert_at is not in its frame";
    } else if (e->ops->variables) {
        events_printf(e, " id=%u", event->stream);
        if (len < 8 || len > 8 + 255 ||
            (e->insert_here && (e->piece[event->insert_at] != 1 || e->piece[event->insert_at + 1] != 4)))
            e->violation = "insert_at is no empty record";
    } else {
        if (len < 1 || len > 2)
            e->violation = "insert_at is not the last line";
        if (e->insert_here && e->piece[event->insert_at] != '\r' && e->piece[event->insert_at] != '\n')
            e->violation = "insert_at is no empty line";
    }
}

static inline void events_sink(void *arg, const struct proto_event *event)
{
    struct events *e = arg;
    enum proto_dir dir = event->dir;
    if (e->over)
        e->violation = "event after SWITCH or LOST";
    if (dir != e->dir || event->offset > (ptrdiff_t)e->piece_len)
        e->violation = "offset beyond the bytes that were fed";
    uint64_t at = e->fed[dir] + (uint64_t)event->offset;
    if (at < e->last_offset[dir] || at > e->fed[dir] + e->piece_len)
        e->violation = "offsets go back";
    e->last_offset[dir] = at;
    if (event->type != PROTO_FIELD && event->type != PROTO_LOST && e->text_open[dir])
        e->violation = "a text was not ended";
    if (!e->ops->streams && (event->type == PROTO_BEGIN ? e->in_message[dir]++ : event->type != PROTO_LOST && !e->in_message[dir]))
        e->violation = "BEGIN and END do not pair";
    if (event->type == PROTO_BEGIN || e->printed_dir != (int)dir)
        events_printf(e, "%s%s", e->len ? " " : "", dir == PROTO_REQUEST ? ">" : "<");
    else if (event->type != PROTO_FIELD || !e->text_open[dir])
        events_printf(e, " ");
    e->printed_dir = (int)dir;
    if (e->ops->streams && event->type != PROTO_LOST)
        events_printf(e, "%u:", event->stream);
    switch (event->type) {
    case PROTO_BEGIN: events_printf(e, "BEGIN@%llu", (unsigned long long)at); break;
    case PROTO_FIELD: events_text(e, event); break;
    case PROTO_HEAD:
        events_printf(e, "HEAD@%llu %u.%u", (unsigned long long)at, event->version / 10u, event->version % 10u);
        if (dir == PROTO_RESPONSE)
            events_printf(e, event->status == 0 ? event->failed ? " failed" : " ok" : " %u", event->status);
        else
            events_insert_at(e, event);
        break;
    case PROTO_END:
        e->in_message[dir] = 0;
        events_printf(e, "END@%llu body=%llu%s%s", (unsigned long long)at, (unsigned long long)event->body_bytes,
                      event->interim ? " interim" : "", event->last ? " last" : "");
        break;
    case PROTO_RESET: events_printf(e, "RESET@%llu %u", (unsigned long long)at, event->error); break;
    case PROTO_SWITCH:
        e->over = true;
        events_printf(e, "SWITCH@%llu", (unsigned long long)at);
        break;
    case PROTO_LOST:
        e->over = true;
        if (event->why == NULL)
            e->violation = "LOST without a reason";
        events_printf(e, "LOST");
        break;
    }
}

static inline void events_init(struct events *e, const struct proto_ops *ops)
{
    memset(e, 0, offsetof(struct events, out));
    e->ops = ops;
    e->out[0] = '\0';
    e->printed_dir = -1;
    ops->init(e->state);
}

/* The piece is copied to memory of just its size, so that a read past its end is found (ASan), and a kept pointer too. */
static inline void events_feed(struct events *e, enum proto_dir dir, const char *bytes, size_t len)
{
    char *copy = malloc(len ? len : 1);
    memcpy(copy, bytes, len);
    e->piece = copy;
    e->piece_len = len;
    e->dir = dir;
    e->ops->feed(e->state, dir, copy, len, events_sink, e);
    e->fed[dir] += len;
    free(copy);
}

static inline void events_skip(struct events *e, enum proto_dir dir, uint64_t len)
{
    e->piece_len = 0;
    e->piece = "";
    e->dir = dir;
    e->fed[dir] += len;
    e->ops->skip(e->state, dir, len, events_sink, e);
}

static inline void events_eof(struct events *e, enum proto_dir dir)
{
    e->piece_len = 0;
    e->dir = dir;
    e->ops->eof(e->state, dir, events_sink, e);
}

#endif
