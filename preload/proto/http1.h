/* http1.h - the state of the HTTP/1 parser, shared by http1.c (messages and bodies), http1_head.c and http1_fast.c (start lines and header lines).
 * Nobody else includes this: the parser is used through proto.h. */
#ifndef OTSHIM_HTTP1_H
#define OTSHIM_HTTP1_H

#include "proto/proto.h"
#include <string.h>

/* A header block (or a trailer section, or a chunk's size line) beyond this is not worth following. Servers refuse far less. */
#define HTTP1_HEAD_MAX (256u * 1024u)
#define HTTP1_LINES_MAX 1000u
#define HTTP1_PIPELINE_MAX 64u
#define HTTP1_CARRY                                                                                                                \
    32u /* the longest of: a method, a header name that matters with some white space behind it, a transfer coding */

/* Where in a message the next byte of a direction is. Up to HTTP1_CHUNK_END_LF inclusive a message is bounded by HTTP1_HEAD_MAX. */
enum http1_phase {
    HTTP1_START,  /* between messages */
    HTTP1_METHOD, /* request line */
    HTTP1_TARGET,
    HTTP1_VERSION,
    HTTP1_STATUS,     /* status line up to the status code */
    HTTP1_LINE,       /* first byte of a line; the field of the line before it may go on here (obs-fold) */
    HTTP1_NAME,       /* in a header name */
    HTTP1_VALUE_SKIP, /* white space before a value */
    HTTP1_VALUE,
    HTTP1_REST,     /* of a line that does not matter */
    HTTP1_BLANK_LF, /* the empty line's CR went by */
    HTTP1_CHUNK_SIZE,
    HTTP1_CHUNK_EXT,
    HTTP1_CHUNK_LF,
    HTTP1_CHUNK_END, /* the line end after a chunk's data */
    HTTP1_CHUNK_END_LF,
    HTTP1_BODY_LENGTH, /* content: everything from here on is passed over by length */
    HTTP1_BODY_CLOSE,
    HTTP1_CHUNK_DATA,
    HTTP1_HELD, /* request direction after CONNECT: whose bytes these are depends on the response */
};

/* Beside the fields of proto.h there are two that only the parser needs. */
enum { HTTP1_CONTENT_LENGTH = PROTO_FIELDS, HTTP1_TRANSFER_ENCODING, HTTP1_NO_FIELD = 0xff };

enum http1_class { HTTP1_OTHER = 0, HTTP1_HEAD_METHOD = 1, HTTP1_CONNECT_METHOD = 2 };

/* One direction. */
struct http1_half {
    uint8_t phase;
    uint8_t field;   /* enum proto_field, one of the above, or HTTP1_NO_FIELD: whose value is being read */
    uint8_t method;  /* enum http1_class, requests */
    uint8_t version; /* 10, 11 */
    uint16_t status; /* responses */
    uint16_t lines;
    uint32_t head_bytes; /* of the current bounded part */
    uint8_t match;       /* bytes of fixed text matched so far */
    uint8_t carry_len;
    bool value_begun; /* a piece of the value was reported */
    bool cr_held;     /* the value's last byte was a CR: part of the line end, or not */
    bool trailer;
    bool has_length;      /* Content-Length */
    bool te_present;      /* Transfer-Encoding other than identity */
    bool te_chunked;      /* ... chunked was among the codings */
    bool te_chunked_last; /* ... as the last of them */
    bool number_begun;    /* digits of Content-Length, or of a chunk's size */
    bool number_over;     /* white space came after them */
    bool token_over;      /* the coding's name is complete: parameters, white space */
    uint64_t number;
    uint64_t length;     /* Content-Length */
    uint64_t left;       /* of the body or chunk */
    uint64_t body_bytes; /* content seen so far */
    char carry[HTTP1_CARRY];
};

struct http1 {
    struct http1_half half[2];
    uint64_t waiting_head;    /* bit i: the i-th oldest request without a response is a HEAD ... */
    uint64_t waiting_connect; /* ... is a CONNECT */
    uint8_t waiting;          /* how many there are */
    bool over;                /* switched or lost: nothing more is looked at */
    bool held_bytes;          /* bytes came after a CONNECT that has no response yet */
};

/* The bytes of one feed(). */
struct http1_cursor {
    struct http1 *s;
    struct http1_half *h;
    enum proto_dir dir;
    const char *start, *p, *end; /* p: next byte; end may be drawn in to keep a bound */
    const char *part;            /* where, in these bytes, the bounded part began that head_bytes counts */
    ptrdiff_t blank_at; /* offset of the empty line, if it began in these bytes; its first byte was the one before them otherwise */
    proto_sink sink;
    void *sink_arg;
};

static inline void http1_text(struct http1_cursor *c, enum proto_field field, const char *bytes, size_t len, bool more)
{
    const struct proto_event event = {.type = PROTO_FIELD,
                                      .dir = (uint8_t)c->dir,
                                      .field = (uint8_t)field,
                                      .more = more,
                                      .offset = c->p - c->start,
                                      .bytes = bytes,
                                      .len = len};
    c->sink(c->sink_arg, &event);
}

static inline bool http1_is_blank(char byte)
{
    return byte == ' ' || byte == '\t';
}

/* RFC 9110 5.6.2 */
static inline bool http1_is_token(unsigned char byte)
{
    if ((byte | 0x20) >= 'a' && (byte | 0x20) <= 'z')
        return true;
    if (byte >= '0' && byte <= '9')
        return true;
    return byte != 0 && strchr("!#$%&'*+-.^_`|~", byte) != NULL;
}

/* http1_head.c: reads as much of a start line or header line as there is, or one step of it. Calls http1_head_done after the empty line. */
void http1_head_step(struct http1_cursor *c);
void http1_method_done(struct http1_cursor *c, const char *name, size_t len);
void http1_line_over(struct http1_cursor *c);
/* The whole value of a header line that frames the body. False: lost. */
bool http1_framing(struct http1_cursor *c, uint8_t field, const char *value, size_t len);

/* http1_fast.c: all whole lines that lie here; a start line, if it lies here whole and is well-formed (false: nothing was read); which
 * field has this name. */
void http1_fast_lines(struct http1_cursor *c);
bool http1_fast_start(struct http1_cursor *c);
uint8_t http1_name_field(enum proto_dir dir, const char *name, size_t len);

/* http1.c */
void http1_lost(struct http1_cursor *c, const char *why);
void http1_head_done(struct http1_cursor *c);
bool http1_push(struct http1_cursor *c); /* one more request waits for its response; false: lost */

#endif
