/* resp.h - the state of the parser of Redis' protocol, shared by resp.c (commands), resp_words.c (which command is what) and resp_reply.c.
 * Nobody else includes this: the parser is used through proto.h. */
#ifndef OTSHIM_RESP_H
#define OTSHIM_RESP_H

#include "proto/proto.h"

#define RESP_DEPTH 12u       /* aggregates in each other; COMMAND DOCS, the deepest of Redis' own, has eight */
#define RESP_NAME 32u        /* the longest command, with its subcommand: CLUSTER COUNT-FAILURE-REPORTS */
#define RESP_CONTENT 16384u  /* an argument of so many bytes is content, which is not looked at before it is sent */
#define RESP_DB_UNKNOWN (-1) /* a SELECT that may not have happened */

/* A number in a line of its own: after the type byte, up to CR LF. */
struct resp_line {
    uint64_t number;
    uint8_t digits;
    bool negative, streamed /* ? */, cr;
};

/* What is to be done with an argument. */
enum resp_use { RESP_PASS, RESP_NAME_WORD, RESP_SUB_WORD, RESP_KEY, RESP_DB };

/* What a command means to us: resp_words.c. */
enum resp_trait {
    RESP_CONTAINER = 1u << 0, /* its first argument is a word: CONFIG GET */
    RESP_KEYED = 1u << 1,     /* the argument after the words is a key, or a channel */
    RESP_SECRET = 1u << 2,    /* its arguments are nobody's business, not even how many there are */
    RESP_SWITCHES = 1u << 3,  /* what comes after its reply are no replies */
    RESP_SELECTS = 1u << 4,
    RESP_RESETS = 1u << 5,  /* the database is the first one again */
    RESP_BEGINS = 1u << 6,  /* MULTI: what follows is carried out later, or not */
    RESP_ENDS = 1u << 7,    /* EXEC, DISCARD */
    RESP_SILENCES = 1u << 8 /* CLIENT REPLY: there may be no more replies */
};

struct resp_request {
    uint64_t args; /* still to come, with the present one */
    uint64_t left; /* bytes of it */
    struct resp_line line;
    uint8_t phase, use;
    bool head_done, named;
    uint8_t name_len;
    uint16_t traits;
    char name[RESP_NAME];
};

struct resp_reply {
    uint64_t left;
    struct resp_line line;
    uint8_t phase, type, depth;
    bool counts;                /* it answers a command: not a push message, not an attribute */
    bool head_done, chunk;      /* chunk: the present bytes are a part of a streamed string */
    uint8_t text;               /* of an error: enum resp_text */
    uint16_t extra;             /* bit a level: an attribute, no element of the level above */
    uint16_t streamed;          /* ... ends with a "." */
    uint64_t level[RESP_DEPTH]; /* elements to come */
};

struct resp {
    struct resp_request q;
    struct resp_reply r;
    uint32_t pending;   /* commands without a reply */
    uint32_t switch_in; /* the so-manieth reply from now on is that of a command which switches; 0: there is none */
    uint32_t select_in;
    int32_t db, db_before;
    bool over, multi;
};

struct resp_cursor {
    struct resp *s;
    enum proto_dir dir;
    const char *start, *p, *end;
    proto_sink sink;
    void *sink_arg;
};

static inline ptrdiff_t resp_here(const struct resp_cursor *c)
{
    return c->p - c->start;
}

static inline void resp_emit(const struct resp_cursor *c, struct proto_event event, ptrdiff_t offset)
{
    event.dir = (uint8_t)c->dir;
    event.offset = offset;
    c->sink(c->sink_arg, &event);
}

static inline void resp_text(const struct resp_cursor *c, enum proto_field field, const char *bytes, size_t len, bool more)
{
    resp_emit(c, (struct proto_event){.type = PROTO_FIELD, .field = (uint8_t)field, .more = more, .bytes = bytes, .len = len},
              resp_here(c));
}

static inline void resp_lost(struct resp_cursor *c, const char *why)
{
    c->s->over = true;
    resp_emit(c, (struct proto_event){.type = PROTO_LOST, .why = why}, resp_here(c));
}

enum resp_line_is { RESP_LINE_OPEN, RESP_LINE_WHOLE, RESP_LINE_BAD };

/* The next byte of the line. Numbers are of 64 bits, as in Redis. */
enum resp_line_is resp_line_step(struct resp_line *line, char byte);

/* Traits of a command, in any case; of a container with the word that follows, if that is there: "CONFIG GET". */
uint16_t resp_traits(const char *name, size_t len);

void resp_reply_step(struct resp_cursor *c);

#endif
