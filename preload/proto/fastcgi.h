/* fastcgi.h - the state of the FastCGI parser, shared by fastcgi.c (records and messages) and fastcgi_text.c (variables, and the header lines of a
 * response). Nobody else includes this: the parser is used through proto.h. */
#ifndef OTSHIM_FASTCGI_H
#define OTSHIM_FASTCGI_H

#include "proto/proto.h"

enum fastcgi_record {
    FASTCGI_BEGIN_REQUEST = 1,
    FASTCGI_ABORT_REQUEST = 2,
    FASTCGI_END_REQUEST = 3,
    FASTCGI_PARAMS = 4,
    FASTCGI_STDIN = 5,
    FASTCGI_STDOUT = 6,
    FASTCGI_STDERR = 7,
    FASTCGI_DATA = 8,
    FASTCGI_GET_VALUES_RESULT = 10,
    FASTCGI_UNKNOWN_TYPE = 11
};

enum fastcgi_role { FASTCGI_RESPONDER = 1, FASTCGI_AUTHORIZER = 2, FASTCGI_FILTER = 3 };

#define FASTCGI_HEADER_LEN 8u
#define FASTCGI_VERSION_1 1
#define FASTCGI_NAME_MAX 22u /* HTTP_X_FORWARDED_PROTO */
#define FASTCGI_CGI_NAME_MAX 8u

/* What a record's content is to us, and what its end. */
enum fastcgi_use {
    FASTCGI_PASSED_OVER,
    FASTCGI_REQUEST_BEGIN,
    FASTCGI_PAIRS,
    FASTCGI_PAIRS_OVER, /* of an empty record, as the next */
    FASTCGI_CONTENT,
    FASTCGI_CONTENT_OVER,
    FASTCGI_CGI_HEADER, /* STDOUT, up to the empty line */
    FASTCGI_CGI_BODY,
    FASTCGI_ERROR_TEXT,
    FASTCGI_RESPONSE_OVER
};

struct fastcgi_half {
    uint64_t fed;       /* before the present feed() */
    uint64_t record_at; /* where the present record began */
    uint64_t body_bytes;
    uint16_t left;      /* of its content */
    uint8_t padding;    /* ... and of its padding */
    uint8_t header_len; /* bytes of its header that are here */
    uint8_t use;        /* enum fastcgi_use */
    bool open;          /* a message began and has not ended */
    unsigned char header[FASTCGI_HEADER_LEN];
};

enum fastcgi_pair_phase { FASTCGI_NAME_LEN, FASTCGI_VALUE_LEN, FASTCGI_NAME, FASTCGI_VALUE };

/* Beside the fields of proto.h, what only the parser needs. */
enum { FASTCGI_CONTENT_LENGTH = PROTO_FIELDS, FASTCGI_NO_FIELD = 0xff };

struct fastcgi_pair {
    uint32_t name_len, value_len; /* while they are read: what is there of them */
    uint32_t done;                /* bytes of what is being read */
    uint8_t phase;                /* enum fastcgi_pair_phase */
    uint8_t field;                /* of the value */
    char name[FASTCGI_NAME_MAX];
};

enum fastcgi_line_phase { FASTCGI_LINE_BEGIN, FASTCGI_LINE_NAME, FASTCGI_LINE_VALUE, FASTCGI_LINE_REST, FASTCGI_LINE_BLANK };

/* The header lines of STDOUT. */
struct fastcgi_lines {
    uint8_t phase; /* enum fastcgi_line_phase */
    uint8_t name_len;
    uint8_t digits;
    bool over;
    bool is_status;
    bool location;
    uint16_t number, status;
    char name[FASTCGI_CGI_NAME_MAX];
};

struct fastcgi {
    struct fastcgi_half half[2];
    uint16_t id;
    uint8_t role;
    bool active;      /* from BEGIN_REQUEST to END_REQUEST */
    bool params_over; /* of the request that is open */
    bool over;        /* lost */
    bool has_length;
    bool keep; /* FCGI_KEEP_CONN: the connection is not closed after the response */
    uint64_t content_length;
    struct fastcgi_pair pair;
    struct fastcgi_lines lines;
};
_Static_assert(sizeof(struct fastcgi) <= PROTO_STATE_MAX, "bounded state");

struct fastcgi_cursor {
    struct fastcgi *s;
    struct fastcgi_half *h;
    enum proto_dir dir;
    const char *start, *p, *end;
    proto_sink sink;
    void *sink_arg;
};

static inline void fastcgi_emit(struct fastcgi_cursor *c, struct proto_event *event, ptrdiff_t offset)
{
    event->dir = (uint8_t)c->dir;
    event->offset = offset;
    c->sink(c->sink_arg, event);
}

static inline ptrdiff_t fastcgi_here(const struct fastcgi_cursor *c)
{
    return c->p - c->start;
}

static inline void fastcgi_text(struct fastcgi_cursor *c, uint8_t field, const char *bytes, size_t len, bool more)
{
    fastcgi_emit(c, &(struct proto_event){.type = PROTO_FIELD, .field = field, .more = more, .bytes = bytes, .len = len},
                 fastcgi_here(c));
}

/* fastcgi_text.c: some of the next `available` bytes of content, at least one. */
void fastcgi_pairs_step(struct fastcgi_cursor *c, uint32_t available);
void fastcgi_lines_step(struct fastcgi_cursor *c, size_t available);
/* Did the pairs end between two of them? */
bool fastcgi_pairs_whole(const struct fastcgi_pair *pair);

#endif
