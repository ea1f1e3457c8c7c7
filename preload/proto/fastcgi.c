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
#include "proto/proto.h"

enum record_type {
    BEGIN_REQUEST = 1,
    ABORT_REQUEST = 2,
    END_REQUEST = 3,
    PARAMS = 4,
    STDIN = 5,
    STDOUT = 6,
    STDERR = 7,
    DATA = 8,
    GET_VALUES_RESULT = 10,
    UNKNOWN_TYPE = 11
};

enum role { RESPONDER = 1, AUTHORIZER = 2, FILTER = 3 };

#define HEADER_LEN 8u
#define VERSION_1 1
#define NAME_MAX 22u /* HTTP_X_FORWARDED_PROTO */
#define CGI_NAME_MAX 8u

/* What a record's content is to us, and what its end. */
enum use {
    PASSED_OVER,
    REQUEST_BEGIN,
    PAIRS,
    PAIRS_OVER, /* of an empty record, as the next */
    CONTENT,
    CONTENT_OVER,
    CGI_HEADER, /* STDOUT, up to the empty line */
    CGI_BODY,
    ERROR_TEXT,
    RESPONSE_OVER
};

struct half {
    uint64_t fed;       /* before the present feed() */
    uint64_t record_at; /* where the present record began */
    uint64_t body_bytes;
    uint16_t left;      /* of its content */
    uint8_t padding;    /* ... and of its padding */
    uint8_t header_len; /* bytes of its header that are here */
    uint8_t use;        /* enum use */
    bool open;          /* a message began and has not ended */
    unsigned char header[HEADER_LEN];
};

enum pair_phase { NAME_LEN, VALUE_LEN, NAME, VALUE };

/* Beside the fields of proto.h, what only the parser needs. */
enum { CONTENT_LENGTH = PROTO_FIELDS, NO_FIELD = 0xff };

struct pair {
    uint32_t name_len, value_len; /* while they are read: what is there of them */
    uint32_t done;                /* bytes of what is being read */
    uint8_t phase;                /* enum pair_phase */
    uint8_t field;                /* of the value */
    char name[NAME_MAX];
};

enum line_phase { LINE_BEGIN, LINE_NAME, LINE_VALUE, LINE_REST, LINE_BLANK };

/* The header lines of STDOUT. */
struct lines {
    uint8_t phase; /* enum line_phase */
    uint8_t name_len;
    uint8_t digits;
    bool over;
    bool is_status;
    bool location;
    uint16_t number, status;
    char name[CGI_NAME_MAX];
};

struct fastcgi {
    struct half half[2];
    uint16_t id;
    uint8_t role;
    bool active;      /* from BEGIN_REQUEST to END_REQUEST */
    bool params_over; /* of the request that is open */
    bool over;        /* lost */
    bool has_length;
    bool keep; /* FCGI_KEEP_CONN: the connection is not closed after the response */
    uint64_t content_length;
    struct pair pair;
    struct lines lines;
};
_Static_assert(sizeof(struct fastcgi) <= PROTO_STATE_MAX, "bounded state");

struct cursor {
    struct fastcgi *s;
    struct half *h;
    enum proto_dir dir;
    const char *start, *p, *end;
    proto_sink sink;
    void *sink_arg;
};

static void emit(struct cursor *c, struct proto_event *event, ptrdiff_t offset)
{
    event->dir = (uint8_t)c->dir;
    event->offset = offset;
    c->sink(c->sink_arg, event);
}

static ptrdiff_t here(const struct cursor *c)
{
    return c->p - c->start;
}

static ptrdiff_t record_begin(const struct cursor *c)
{
    return (ptrdiff_t)(c->h->record_at - c->h->fed);
}

static void text(struct cursor *c, uint8_t field, const char *bytes, size_t len, bool more)
{
    emit(c, &(struct proto_event){.type = PROTO_FIELD, .field = field, .more = more, .bytes = bytes, .len = len}, here(c));
}

static void lost(struct cursor *c, const char *why)
{
    c->s->over = true;
    emit(c, &(struct proto_event){.type = PROTO_LOST, .why = why}, here(c));
}

static void message_begin(struct cursor *c)
{
    c->h->open = true;
    c->h->body_bytes = 0;
    emit(c, &(struct proto_event){.type = PROTO_BEGIN}, record_begin(c));
}

static void message_end(struct cursor *c, ptrdiff_t offset)
{
    c->h->open = false;
    emit(c,
         &(struct proto_event){.type = PROTO_END,
                               .version = 10,
                               .status = c->s->lines.status,
                               .body_bytes = c->h->body_bytes,
                               .last = c->dir == PROTO_RESPONSE && !c->s->keep},
         offset);
}

/* ---- what a record is ------------------------------------------------------------------------------------------------------------- */

static uint8_t request_begins(struct cursor *c, uint16_t id)
{
    struct fastcgi *s = c->s;
    if (c->h->left != 8 || id == 0)
        lost(c, "not a BEGIN_REQUEST");
    else if (s->active)
        lost(c, "a second request on the connection");
    if (s->over)
        return PASSED_OVER;
    if (c->h->open)
        message_end(c, record_begin(c)); /* answered before it was over, and not gone on with */
    memset(&s->pair, 0, sizeof s->pair);
    memset(&s->lines, 0, sizeof s->lines);
    s->id = id;
    s->active = true;
    s->params_over = s->has_length = false;
    s->content_length = 0;
    message_begin(c);
    return REQUEST_BEGIN;
}

static uint8_t request_record(struct cursor *c, uint8_t type, uint16_t id)
{
    struct fastcgi *s = c->s;
    bool of_open = c->h->open && id == s->id;
    switch (type) {
    case BEGIN_REQUEST: return request_begins(c, id);
    case PARAMS:
        if (of_open && !s->params_over)
            return c->h->left > 0 ? PAIRS : PAIRS_OVER;
        break;
    case STDIN:
    case DATA:
        if (!of_open || (type == DATA && s->role != FILTER))
            return PASSED_OVER;
        if (!s->params_over)
            break;
        if (c->h->left > 0)
            return CONTENT;
        return type == DATA || s->role != FILTER ? CONTENT_OVER : PASSED_OVER; /* a filter's content is STDIN, then DATA: 6.4 */
    case ABORT_REQUEST: return PASSED_OVER;                                    /* the program still ends it */
    default:
        if (id == 0)
            return PASSED_OVER; /* management: GET_VALUES, and what the program answers with UNKNOWN_TYPE (4) */
    }
    lost(c, "a record out of its place");
    return PASSED_OVER;
}

static uint8_t response_record(struct cursor *c, uint8_t type, uint16_t id)
{
    struct fastcgi *s = c->s;
    if (id == 0 && (type == GET_VALUES_RESULT || type == UNKNOWN_TYPE))
        return PASSED_OVER;
    if (!s->active || id != s->id || (type != STDOUT && type != STDERR && type != END_REQUEST) ||
        (type == END_REQUEST && c->h->left != 8)) {
        lost(c, "a record that answers no request");
        return PASSED_OVER;
    }
    if (!c->h->open)
        message_begin(c);
    if (type == END_REQUEST)
        return RESPONSE_OVER;
    if (c->h->left == 0)
        return PASSED_OVER;
    if (type == STDERR)
        return ERROR_TEXT;
    return s->lines.over ? CGI_BODY : CGI_HEADER;
}

static void header_done(struct cursor *c)
{
    const unsigned char *header = c->h->header;
    uint16_t id = (uint16_t)(header[2] << 8 | header[3]);
    c->h->left = (uint16_t)(header[4] << 8 | header[5]);
    c->h->padding = header[6];
    if (header[0] != VERSION_1)
        lost(c, "no FastCGI record");
    else if (c->dir == PROTO_REQUEST)
        c->h->use = request_record(c, header[1], id);
    else
        c->h->use = response_record(c, header[1], id);
}

/* The record's last byte went by. */
static void record_end(struct cursor *c)
{
    struct fastcgi *s = c->s;
    struct half *h = c->h;
    h->header_len = 0;
    switch (h->use) {
    case PAIRS_OVER:
        if (s->pair.phase != NAME_LEN || s->pair.done != 0) {
            lost(c, "PARAMS ends inside a pair");
            return;
        }
        s->params_over = true;
        emit(c, &(struct proto_event){.type = PROTO_HEAD, .version = 10, .insert_at = record_begin(c), .stream = s->id}, here(c));
        if (s->role == AUTHORIZER || (s->role == RESPONDER && s->has_length && s->content_length == 0))
            message_end(c, here(c));
        break;
    case CONTENT:
        if (s->role == RESPONDER && s->has_length && h->body_bytes >= s->content_length)
            message_end(c, here(c));
        break;
    case CONTENT_OVER: message_end(c, here(c)); break;
    case ERROR_TEXT: text(c, PROTO_ERROR_TEXT, "", 0, false); break;
    case RESPONSE_OVER:
        s->active = false;
        message_end(c, here(c));
        break;
    default: break;
    }
}

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
        VARIABLE("CONTENT_LENGTH", CONTENT_LENGTH),
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
    return NO_FIELD;
}

/* A length of one byte, or of four, the first of which has its highest bit set. True: it is complete. */
static bool length_byte(struct pair *pair, uint32_t *length, unsigned char byte)
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

static void name_over(struct cursor *c)
{
    struct pair *pair = &c->s->pair;
    pair->field = pair->name_len <= NAME_MAX ? field_of(pair->name, pair->name_len) : NO_FIELD;
    pair->done = 0;
    pair->phase = VALUE;
    if (pair->field == CONTENT_LENGTH) {
        c->s->has_length =
            pair->value_len > 0; /* nginx has an empty one when there is no content, or when it does not know how much */
        c->s->content_length = 0;
    }
}

static void value_bytes(struct cursor *c, const char *bytes, uint32_t len)
{
    struct fastcgi *s = c->s;
    struct pair *pair = &s->pair;
    if (pair->field == CONTENT_LENGTH) {
        for (uint32_t i = 0; i < len; i++) {
            unsigned digit = (unsigned char)bytes[i] - (unsigned)'0';
            if (digit > 9 || s->content_length > UINT64_MAX / 10 - 1)
                s->has_length = false;
            else
                s->content_length = s->content_length * 10 + digit;
        }
    } else if (pair->field == PROTO_SERVER_NAME && pair->value_len == 1 && len == 1 && *bytes == '_') {
        /* what people write who want no name (nginx) */
    } else if (pair->field != NO_FIELD) {
        text(c, pair->field, bytes, len, pair->done + len < pair->value_len);
    }
}

/* As much as there is of one part of a pair. */
static void step_pairs(struct cursor *c, uint32_t available)
{
    struct pair *pair = &c->s->pair;
    uint32_t len;
    switch (pair->phase) {
    case NAME_LEN:
    case VALUE_LEN:
        if (length_byte(pair, pair->phase == NAME_LEN ? &pair->name_len : &pair->value_len, (unsigned char)*c->p++))
            pair->phase++;
        if (pair->phase == NAME && pair->name_len == 0)
            name_over(c);
        break;
    case NAME:
        len = pair->name_len - pair->done < available ? pair->name_len - pair->done : available;
        if (pair->name_len <= NAME_MAX)
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
    if (pair->phase == VALUE && pair->done == pair->value_len) {
        if (pair->value_len == 0)
            value_bytes(c, "", 0);
        pair->phase = NAME_LEN;
        pair->done = 0;
    }
}

/* ---- the header lines of STDOUT: RFC 3875 6.3 -------------------------------------------------------------------------------------------- */

static void lines_over(struct cursor *c)
{
    struct lines *lines = &c->s->lines;
    lines->over = true;
    c->h->use = CGI_BODY;
    if (lines->status == 0)
        lines->status = lines->location ? 302 : 200;
    emit(c, &(struct proto_event){.type = PROTO_HEAD, .version = 10, .status = lines->status}, here(c));
}

static bool is_name(const struct lines *lines, const char *name)
{
    return lines->name_len == strlen(name) && memcmp(lines->name, name, lines->name_len) == 0;
}

static void name_byte(struct lines *lines, char byte)
{
    if (byte == ':') {
        lines->is_status = is_name(lines, "status");
        lines->location |= is_name(lines, "location");
        lines->phase = lines->is_status ? LINE_VALUE : LINE_REST;
        lines->number = lines->digits = 0;
    } else if (lines->name_len == CGI_NAME_MAX) {
        lines->phase = LINE_REST; /* none that matters */
    } else {
        lines->name[lines->name_len++] = (char)(byte | 0x20);
    }
}

/* Three digits and no more. */
static void status_byte(struct lines *lines, char byte)
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
    lines->phase = LINE_REST;
}

static void step_lines(struct cursor *c, size_t available)
{
    struct lines *lines = &c->s->lines;
    if (lines->phase == LINE_REST) {
        const char *lf = memchr(c->p, '\n', available);
        if (lf == NULL) {
            c->p += available;
            return;
        }
        c->p = lf;
    }
    char byte = *c->p++;
    if (lines->phase == LINE_VALUE)
        status_byte(lines, byte);
    if (byte == '\n' && (lines->phase == LINE_BEGIN || lines->phase == LINE_BLANK)) {
        lines_over(c);
    } else if (byte == '\n') {
        lines->phase = LINE_BEGIN;
    } else if (byte == '\r' && lines->phase == LINE_BEGIN) {
        lines->phase = LINE_BLANK;
    } else if (lines->phase == LINE_BEGIN || lines->phase == LINE_BLANK) {
        lines->phase = LINE_NAME;
        lines->name_len = 0;
        name_byte(lines, byte);
    } else if (lines->phase == LINE_NAME) {
        name_byte(lines, byte);
    }
}

/* ---- the parser as proto.h has it ------------------------------------------------------------------------------------------------------- */

static struct cursor cursor(void *state, enum proto_dir dir, const char *bytes, size_t len, proto_sink sink, void *sink_arg)
{
    struct fastcgi *s = state;
    return (struct cursor){
        .s = s, .h = &s->half[dir], .dir = dir, .start = bytes, .p = bytes, .end = bytes + len, .sink = sink, .sink_arg = sink_arg};
}

/* One step of a record's content: some of the bytes here, at least one. */
static void step_content(struct cursor *c)
{
    struct half *h = c->h;
    const char *from = c->p;
    size_t len = (size_t)(c->end - c->p) < h->left ? (size_t)(c->end - c->p) : h->left;
    switch (h->use) {
    case PAIRS: step_pairs(c, (uint32_t)len); break;
    case CGI_HEADER: step_lines(c, len); break;
    case REQUEST_BEGIN: /* the role, in two bytes; flags; five that are reserved */
        if (h->left == 7)
            c->s->role = (uint8_t)*c->p;
        else if (h->left == 6)
            c->s->keep = *c->p & 1;
        c->p++;
        break;
    default:
        if (h->use == ERROR_TEXT)
            text(c, PROTO_ERROR_TEXT, c->p, len, true);
        else if (h->use == CONTENT || h->use == CGI_BODY)
            h->body_bytes += len;
        c->p += len;
    }
    h->left = (uint16_t)(h->left - (c->p - from));
}

static void step(struct cursor *c)
{
    struct half *h = c->h;
    if (h->header_len < HEADER_LEN) {
        if (h->header_len == 0)
            h->record_at = h->fed + (uint64_t)here(c);
        h->header[h->header_len++] = (unsigned char)*c->p++;
        if (h->header_len < HEADER_LEN)
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
    struct cursor c = cursor(state, dir, bytes, len, sink, sink_arg);
    while (c.p < c.end && !c.s->over)
        step(&c);
    c.h->fed += len;
}

static void fastcgi_skip(void *state, enum proto_dir dir, uint64_t len, proto_sink sink, void *sink_arg)
{
    struct cursor c = cursor(state, dir, "", 0, sink, sink_arg);
    struct half *h = c.h;
    if (c.s->over || len == 0)
        return;
    bool content = h->use == CONTENT || h->use == CGI_BODY;
    uint64_t of_content = len < h->left ? len : h->left;
    if (h->header_len < HEADER_LEN || len > (uint64_t)h->left + h->padding ||
        (of_content > 0 && !content && h->use != PASSED_OVER && h->use != RESPONSE_OVER)) {
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
    const size_t parent_room = HEADER_LEN + 2 + sizeof parent - 1 + carried->parent_len;
    char *p = out + HEADER_LEN;
    if (room < parent_room)
        return 0;
    p = put_pair(p, parent, sizeof parent - 1, carried->parent, carried->parent_len);
    if (carried->state_len > 0 && room - parent_room >= 5 + sizeof state - 1 + carried->state_len)
        p = put_pair(p, state, sizeof state - 1, carried->state, carried->state_len);
    size_t len = (size_t)(p - out) - HEADER_LEN;
    proto_put(
        out,
        (const char[]){VERSION_1, PARAMS, (char)(carried->stream >> 8), (char)carried->stream, (char)(len >> 8), (char)len, 0, 0},
        HEADER_LEN);
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
    static const struct expected begin[] = {IS(1), IS(BEGIN_REQUEST),   ANY,   ANY, IS(0), IS(8), ANY, ANY,
                                            IS(0), {RESPONDER, FILTER}, {0, 1}};
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
