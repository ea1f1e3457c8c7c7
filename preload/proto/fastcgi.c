/* fastcgi.c - FastCGI 1.0 in both directions of one connection: an HTTP request as variables and content, its response as a CGI program writes it.
 *
 * Everything is records of eight bytes of header, content and padding (3.3), which belong to streams by their type: PARAMS (name-value pairs,
 * 3.4, that take no notice of where a record ends), STDIN, STDOUT, STDERR; an empty record ends a stream. STDOUT begins with header lines
 * (RFC 3875 6), of which Status and Location say what the HTTP status is. The request's HEAD is the end of PARAMS, where one more record of it
 * can go in.
 *
 * A request has no more content than CONTENT_LENGTH says: it ends there, because that is as far as PHP reads. The end of STDIN, which comes
 * after that, is then nobody's.
 *
 * One request at a time: a connection on which a second one begins before the first is answered (multiplexed) is given up. Records of requests
 * that are over are passed over, as 3.3 wants it. */
#include "proto/fastcgi.h"

static ptrdiff_t record_begin(const struct fastcgi_cursor *c)
{
    return (ptrdiff_t)(c->h->record_at - c->h->fed);
}

static void lost(struct fastcgi_cursor *c, const char *why)
{
    c->s->over = true;
    fastcgi_emit(c, &(struct proto_event){.type = PROTO_LOST, .why = why}, fastcgi_here(c));
}

static void message_begin(struct fastcgi_cursor *c)
{
    c->h->open = true;
    c->h->body_bytes = 0;
    fastcgi_emit(c, &(struct proto_event){.type = PROTO_BEGIN}, record_begin(c));
}

static void message_end(struct fastcgi_cursor *c, ptrdiff_t offset)
{
    c->h->open = false;
    fastcgi_emit(c,
                 &(struct proto_event){.type = PROTO_END,
                                       .version = 10,
                                       .status = c->s->lines.status,
                                       .body_bytes = c->h->body_bytes,
                                       .last = c->dir == PROTO_RESPONSE && !c->s->keep},
                 offset);
}

/* ---- what a record is ------------------------------------------------------------------------------------------------------------- */

static uint8_t request_begins(struct fastcgi_cursor *c, uint16_t id)
{
    struct fastcgi *s = c->s;
    if (c->h->left != 8 || id == 0)
        lost(c, "not a BEGIN_REQUEST");
    else if (s->active)
        lost(c, "a second request on the connection");
    if (s->over)
        return FASTCGI_PASSED_OVER;
    if (c->h->open)
        message_end(c, record_begin(c)); /* answered before it was over, and not gone on with */
    memset(&s->pair, 0, sizeof s->pair);
    memset(&s->lines, 0, sizeof s->lines);
    s->id = id;
    s->active = true;
    s->params_over = s->has_length = false;
    s->content_length = 0;
    message_begin(c);
    return FASTCGI_REQUEST_BEGIN;
}

static uint8_t request_record(struct fastcgi_cursor *c, uint8_t type, uint16_t id)
{
    struct fastcgi *s = c->s;
    bool of_open = c->h->open && id == s->id;
    switch (type) {
    case FASTCGI_BEGIN_REQUEST: return request_begins(c, id);
    case FASTCGI_PARAMS:
        if (of_open && !s->params_over)
            return c->h->left > 0 ? FASTCGI_PAIRS : FASTCGI_PAIRS_OVER;
        break;
    case FASTCGI_STDIN:
    case FASTCGI_DATA:
        if (!of_open || (type == FASTCGI_DATA && s->role != FASTCGI_FILTER))
            return FASTCGI_PASSED_OVER;
        if (!s->params_over)
            break;
        if (c->h->left > 0)
            return FASTCGI_CONTENT;
        return type == FASTCGI_DATA || s->role != FASTCGI_FILTER
                   ? FASTCGI_CONTENT_OVER
                   : FASTCGI_PASSED_OVER;                   /* a filter's content is STDIN, then DATA: 6.4 */
    case FASTCGI_ABORT_REQUEST: return FASTCGI_PASSED_OVER; /* the program still ends it */
    default:
        if (id == 0)
            return FASTCGI_PASSED_OVER; /* management: GET_VALUES, and what the program answers with UNKNOWN_TYPE (4) */
    }
    lost(c, "a record out of its place");
    return FASTCGI_PASSED_OVER;
}

static uint8_t response_record(struct fastcgi_cursor *c, uint8_t type, uint16_t id)
{
    struct fastcgi *s = c->s;
    if (id == 0 && (type == FASTCGI_GET_VALUES_RESULT || type == FASTCGI_UNKNOWN_TYPE))
        return FASTCGI_PASSED_OVER;
    if (!s->active || id != s->id || (type != FASTCGI_STDOUT && type != FASTCGI_STDERR && type != FASTCGI_END_REQUEST) ||
        (type == FASTCGI_END_REQUEST && c->h->left != 8)) {
        lost(c, "a record that answers no request");
        return FASTCGI_PASSED_OVER;
    }
    if (!c->h->open)
        message_begin(c);
    if (type == FASTCGI_END_REQUEST)
        return FASTCGI_RESPONSE_OVER;
    if (c->h->left == 0)
        return FASTCGI_PASSED_OVER;
    if (type == FASTCGI_STDERR)
        return FASTCGI_ERROR_TEXT;
    return s->lines.over ? FASTCGI_CGI_BODY : FASTCGI_CGI_HEADER;
}

static void header_done(struct fastcgi_cursor *c)
{
    const unsigned char *header = c->h->header;
    uint16_t id = (uint16_t)(header[2] << 8 | header[3]);
    c->h->left = (uint16_t)(header[4] << 8 | header[5]);
    c->h->padding = header[6];
    if (header[0] != FASTCGI_VERSION_1)
        lost(c, "no FastCGI record");
    else if (c->dir == PROTO_REQUEST)
        c->h->use = request_record(c, header[1], id);
    else
        c->h->use = response_record(c, header[1], id);
}

/* The record's last byte went by. */
static void record_end(struct fastcgi_cursor *c)
{
    struct fastcgi *s = c->s;
    struct fastcgi_half *h = c->h;
    h->header_len = 0;
    switch (h->use) {
    case FASTCGI_PAIRS_OVER:
        if (!fastcgi_pairs_whole(&s->pair)) {
            lost(c, "PARAMS ends inside a pair");
            return;
        }
        s->params_over = true;
        fastcgi_emit(c, &(struct proto_event){.type = PROTO_HEAD, .version = 10, .insert_at = record_begin(c), .stream = s->id},
                     fastcgi_here(c));
        if (s->role == FASTCGI_AUTHORIZER || (s->role == FASTCGI_RESPONDER && s->has_length && s->content_length == 0))
            message_end(c, fastcgi_here(c));
        break;
    case FASTCGI_CONTENT:
        if (s->role == FASTCGI_RESPONDER && s->has_length && h->body_bytes >= s->content_length)
            message_end(c, fastcgi_here(c));
        break;
    case FASTCGI_CONTENT_OVER: message_end(c, fastcgi_here(c)); break;
    case FASTCGI_ERROR_TEXT: fastcgi_text(c, PROTO_ERROR_TEXT, "", 0, false); break;
    case FASTCGI_RESPONSE_OVER:
        s->active = false;
        message_end(c, fastcgi_here(c));
        break;
    default: break;
    }
}

/* ---- the parser as proto.h has it ------------------------------------------------------------------------------------------------------- */

static struct fastcgi_cursor cursor(void *state, enum proto_dir dir, const char *bytes, size_t len, proto_sink sink, void *sink_arg)
{
    struct fastcgi *s = state;
    return (struct fastcgi_cursor){
        .s = s, .h = &s->half[dir], .dir = dir, .start = bytes, .p = bytes, .end = bytes + len, .sink = sink, .sink_arg = sink_arg};
}

/* One step of a record's content: some of the bytes here, at least one. */
static void step_content(struct fastcgi_cursor *c)
{
    struct fastcgi_half *h = c->h;
    const char *from = c->p;
    size_t len = (size_t)(c->end - c->p) < h->left ? (size_t)(c->end - c->p) : h->left;
    switch (h->use) {
    case FASTCGI_PAIRS: fastcgi_pairs_step(c, (uint32_t)len); break;
    case FASTCGI_CGI_HEADER: fastcgi_lines_step(c, len); break;
    case FASTCGI_REQUEST_BEGIN: /* the role, in two bytes; flags; five that are reserved */
        if (h->left == 7)
            c->s->role = (uint8_t)*c->p;
        else if (h->left == 6)
            c->s->keep = *c->p & 1;
        c->p++;
        break;
    default:
        if (h->use == FASTCGI_ERROR_TEXT)
            fastcgi_text(c, PROTO_ERROR_TEXT, c->p, len, true);
        else if (h->use == FASTCGI_CONTENT || h->use == FASTCGI_CGI_BODY)
            h->body_bytes += len;
        c->p += len;
    }
    h->left = (uint16_t)(h->left - (c->p - from));
}

static void step(struct fastcgi_cursor *c)
{
    struct fastcgi_half *h = c->h;
    if (h->header_len < FASTCGI_HEADER_LEN) {
        if (h->header_len == 0)
            h->record_at = h->fed + (uint64_t)fastcgi_here(c);
        h->header[h->header_len++] = (unsigned char)*c->p++;
        if (h->header_len < FASTCGI_HEADER_LEN)
            return;
        header_done(c);
    } else if (h->left > 0) {
        step_content(c);
    } else {
        size_t len = (size_t)(c->end - c->p) < h->padding ? (size_t)(c->end - c->p) : h->padding;
        c->p += len;
        h->padding = (uint8_t)(h->padding - len);
    }
    if (h->left == 0 && h->padding == 0 && !c->s->over)
        record_end(c);
}

static void fastcgi_feed(void *state, enum proto_dir dir, const char *bytes, size_t len, proto_sink sink, void *sink_arg)
{
    struct fastcgi_cursor c = cursor(state, dir, bytes, len, sink, sink_arg);
    while (c.p < c.end && !c.s->over)
        step(&c);
    c.h->fed += len;
}

static void fastcgi_skip(void *state, enum proto_dir dir, uint64_t len, proto_sink sink, void *sink_arg)
{
    struct fastcgi_cursor c = cursor(state, dir, "", 0, sink, sink_arg);
    struct fastcgi_half *h = c.h;
    if (c.s->over || len == 0)
        return;
    bool content = h->use == FASTCGI_CONTENT || h->use == FASTCGI_CGI_BODY;
    uint64_t of_content = len < h->left ? len : h->left;
    if (h->header_len < FASTCGI_HEADER_LEN || len > (uint64_t)h->left + h->padding ||
        (of_content > 0 && !content && h->use != FASTCGI_PASSED_OVER && h->use != FASTCGI_RESPONSE_OVER)) {
        lost(&c, "bytes that nobody saw");
        return;
    }
    h->fed += len;
    h->left = (uint16_t)(h->left - of_content);
    h->padding = (uint8_t)(h->padding - (len - of_content));
    if (content)
        h->body_bytes += of_content;
    if (h->left == 0 && h->padding == 0)
        record_end(&c);
}

/* Nothing ends with the connection. */
static void fastcgi_eof(void *state, enum proto_dir dir, proto_sink sink, void *sink_arg)
{
    (void)state;
    (void)dir;
    (void)sink;
    (void)sink_arg;
}

static void fastcgi_init(void *state)
{
    memset(state, 0, sizeof(struct fastcgi));
}

/* A pair whose name is the variable for a header of this name. */
static char *put_pair(char *p, const char *name, size_t name_len, const char *value, size_t value_len)
{
    *p++ = (char)name_len;
    if (value_len > 127) {
        p = proto_put(p, (const char[]){(char)0x80, 0, (char)(value_len >> 8)}, 3);
        *p++ = (char)value_len;
    } else {
        *p++ = (char)value_len;
    }
    p = proto_put(p, name, name_len);
    return proto_put(p, value, value_len);
}

/* One more record of PARAMS: for many programs the last variable of a name is the one that counts. */
static size_t fastcgi_inject(const struct proto_carried *carried, char *out, size_t room)
{
    static const char parent[] = "HTTP_TRACEPARENT", state[] = "HTTP_TRACESTATE";
    const size_t parent_room = FASTCGI_HEADER_LEN + 2 + sizeof parent - 1 + carried->parent_len;
    char *p = out + FASTCGI_HEADER_LEN;
    if (room < parent_room)
        return 0;
    p = put_pair(p, parent, sizeof parent - 1, carried->parent, carried->parent_len);
    if (carried->state_len > 0 && room - parent_room >= 5 + sizeof state - 1 + carried->state_len)
        p = put_pair(p, state, sizeof state - 1, carried->state, carried->state_len);
    size_t len = (size_t)(p - out) - FASTCGI_HEADER_LEN;
    proto_put(out,
              (const char[]){FASTCGI_VERSION_1, FASTCGI_PARAMS, (char)(carried->stream >> 8), (char)carried->stream,
                             (char)(len >> 8), (char)len, 0, 0},
              FASTCGI_HEADER_LEN);
    return (size_t)(p - out);
}

/* ---- is it FastCGI at all? ------------------------------------------------------------------------------------------------------------------ */

/* A byte of the first record: any, one value, or at most so much. */
struct expected {
    unsigned char least, most;
};

static enum proto_match matches(const unsigned char *bytes, size_t len, const struct expected *expected, size_t count)
{
    for (size_t i = 0; i < len && i < count; i++)
        if (bytes[i] < expected[i].least || bytes[i] > expected[i].most)
            return PROTO_NO;
    return len < count ? PROTO_MAYBE : PROTO_YES;
}

/* A request begins, by a well-known role; or the program is asked for a value whose name begins as all of them do (4.1). */
static enum proto_match fastcgi_detect(enum proto_dir dir, const char *bytes, size_t len)
{
#define IS(byte)                                                                                                                   \
    {                                                                                                                              \
        byte, byte                                                                                                                 \
    }
#define ANY                                                                                                                        \
    {                                                                                                                              \
        0, 255                                                                                                                     \
    }
    static const struct expected begin[] = {IS(1), IS(FASTCGI_BEGIN_REQUEST),           ANY,   ANY, IS(0), IS(8), ANY, ANY,
                                            IS(0), {FASTCGI_RESPONDER, FASTCGI_FILTER}, {0, 1}};
    static const struct expected values[] = {IS(1), IS(9), ANY,     ANY,     ANY,     ANY,     ANY,    ANY,
                                             ANY,   IS(0), IS('F'), IS('C'), IS('G'), IS('I'), IS('_')};
#undef IS
#undef ANY
    const unsigned char *p = (const unsigned char *)bytes;
    if (dir != PROTO_REQUEST)
        return PROTO_NO;
    enum proto_match begins = matches(p, len, begin, sizeof begin / sizeof *begin);
    return begins != PROTO_NO ? begins : matches(p, len, values, sizeof values / sizeof *values);
}

const struct proto_ops fastcgi_ops = {
    .name = "fastcgi",
    .id = OTSHIM_PROTOCOL_FASTCGI,
    .state_bytes = sizeof(struct fastcgi),
    .variables = true,
    .detect = fastcgi_detect,
    .init = fastcgi_init,
    .feed = fastcgi_feed,
    .skip = fastcgi_skip,
    .eof = fastcgi_eof,
    .inject = fastcgi_inject,
};
