/* proto.h - what a protocol parser is: a pure function over bytes, the same object for the unit test, the fuzzer and the host.
 *
 * A parser finds where messages start and end and reports a few facts. It does no I/O, allocates nothing, keeps bounded state, and
 * includes nothing of conn/. It sees both directions of one connection (HTTP/1 needs the request's method to frame the response) but
 * does not know which side we are on: PROTO_REQUEST is what the client sends.
 *
 * feed() is given every byte of a direction once, in order, cut anywhere, and calls the sink, in order, for what they contain.
 * Text is passed in pieces that point into the fed bytes (or into a small carry of the state): valid during the call only. The state
 * is plain memory without pointers: a caller may copy it, feed the copy to look ahead, and throw the copy away. */
#ifndef OTSHIM_PROTO_H
#define OTSHIM_PROTO_H

#include <otshim/record.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum proto_dir { PROTO_REQUEST = 0, PROTO_RESPONSE = 1 };

enum proto_match { PROTO_NO = 0, PROTO_YES = 1, PROTO_MAYBE = 2 /* more bytes are needed to tell */ };

enum proto_event_type {
    PROTO_BEGIN, /* first byte of a message. Also of an interim response (1xx): its HEAD has that status, its END does not end the exchange (.interim) */
    PROTO_FIELD, /* a fact's text: .field, .bytes, .len; .more: the next piece of the same text follows (append) */
    PROTO_HEAD,  /* the header block is complete: .version, .status (responses), .insert_at and .stream (requests) */
    PROTO_END,   /* last byte of a message: .body_bytes, .interim, .last */
    PROTO_SWITCH, /* the connection speaks another protocol from the next byte on, in both directions; nothing more is reported */
    PROTO_RESET,  /* of one stream: it ends here, in both directions: .error is the protocol's code */
    PROTO_LOST,   /* these bytes are not this protocol (.why); nothing more is reported, the connection is given up */
};

/* Text is what stands in the message, without the white space before it; white space after it is the reader's to trim. A header line
 * that comes twice begins a second text. A text may end with an empty piece (.len 0, .more false).
 * Order matches nothing; which of them a parser reports is its own affair. TRACEPARENT etc. are matched case-insensitively. */
enum proto_field {
    PROTO_METHOD,
    PROTO_TARGET,
    PROTO_HOST,
    PROTO_USER_AGENT,
    PROTO_FORWARDED,
    PROTO_X_FORWARDED_FOR,
    PROTO_X_FORWARDED_PROTO,
    PROTO_TRACEPARENT,
    PROTO_TRACESTATE, /* may come in several header lines: each begins a new text; they are joined with commas (W3C 3.3.1) */
    PROTO_UPGRADE,
    PROTO_CONTENT_TYPE, /* of a request; reported by protocols with streams only */
    PROTO_RPC_STATUS,   /* of a response: grpc-status */
    /* Of a response: what the program says went wrong. */
    PROTO_ERROR_TEXT,
    /* Variables of a CGI program (RFC 3875 4.1) that stand in where one of the above is missing: */
    PROTO_SCRIPT_NAME, /* with QUERY_STRING for TARGET */
    PROTO_QUERY_STRING,
    PROTO_SERVER_NAME, /* for HOST */
    PROTO_REMOTE_ADDR, /* for X_FORWARDED_FOR: who the server's own client is */
    PROTO_SCHEME,      /* for X_FORWARDED_PROTO */
    /* Of a database's request, whose METHOD is the command. Decimal numbers in text: */
    PROTO_DB_NAMESPACE, /* which database */
    PROTO_DB_ARGUMENTS, /* how many arguments the command has */
    PROTO_DB_KEY,       /* the first of them, if it is known to be a key */
    PROTO_FIELDS
};

/* Small, and only what belongs to its type: half a dozen of them are made for each request. */
struct proto_event {
    uint8_t type;    /* enum proto_event_type */
    uint8_t dir;     /* enum proto_dir */
    uint8_t version; /* HTTP: 10, 11 */
    bool interim;
    uint16_t status;
    uint8_t field;   /* FIELD: enum proto_field */
    bool more;       /* FIELD */
    uint32_t stream; /* which message it is, where a connection has many at once; 0: it has one after the other */
    /* In the bytes of this feed(): first byte (BEGIN), one past the last byte (HEAD, END, SWITCH). Negative where it went by in an earlier
     * one: that a message begins shows at the end of a record's header only. */
    ptrdiff_t offset;
    union {
        struct { /* FIELD */
            const char *bytes;
            size_t len;
        };
        bool failed; /* HEAD of a response without a status: it is an error */
        struct {     /* HEAD of a request */
            /* What carries a context (.inject) goes in before this byte, if it has not been sent yet. An offset like the one above. */
            ptrdiff_t insert_at;
            /* It lies in a frame whose header has its length: that begins at this offset, and is so long now. 0 bytes: it does not. */
            ptrdiff_t frame_at;
            uint32_t frame_bytes;
        };
        struct { /* END */
            uint64_t body_bytes;
            uint64_t wire_bytes; /* with framing, where a message is not all there is between BEGIN and END; else 0 */
            bool last;           /* of a response: the server closes the connection next */
        };
        uint32_t error;  /* RESET */
        const char *why; /* LOST: static text */
    };
};

typedef void (*proto_sink)(void *sink_arg, const struct proto_event *event);

/* A context as text (W3C Trace Context). */
struct proto_carried {
    uint32_t stream; /* of the HEAD */
    const char *parent, *state;
    size_t parent_len, state_len; /* at most 127, and OTSHIM_TRACESTATE_MAX */
};

/* One protocol: an entry of proto_table[]. State is `state_bytes` of zeroed memory, initialised by init(). */
struct proto_ops {
    const char *name;
    uint8_t id; /* enum otshim_protocol */
    uint16_t state_bytes;
    bool
        streams; /* many messages at a time: events carry .stream. The state may be larger than PROTO_STATE_MAX, and bytes are fed once only */
    bool variables;   /* its texts are variables: one that comes again takes the place of the former. Else header lines */
    bool client_only; /* nobody wants to know what such a server is asked: inbound connections are not read */
    bool
        passes_over; /* responses come in the order of the requests, one each: a request that there is no room for is passed over */
    /* Do the first bytes that went in direction dir open this protocol? */
    enum proto_match (*detect)(enum proto_dir dir, const char *bytes, size_t len);
    void (*init)(void *state);
    void (*feed)(void *state, enum proto_dir dir, const char *bytes, size_t len, proto_sink sink, void *sink_arg);
    /* `len` bytes went by that nobody saw (sendfile, splice): fine inside content, PROTO_LOST elsewhere. */
    void (*skip)(void *state, enum proto_dir dir, uint64_t len, proto_sink sink, void *sink_arg);
    /* End of stream in this direction: ends a message that ends with the connection; an incomplete one is left to the caller. */
    void (*eof)(void *state, enum proto_dir dir, proto_sink sink, void *sink_arg);
    /* Writes what carries a context, to go in at a HEAD's .insert_at; tracestate_len 0: it has none, or it is left out. How many bytes; 0:
     * there is no room for them. NULL: the protocol has no place for one. */
    size_t (*inject)(const struct proto_carried *carried, char *out, size_t room);
};

/* Appends; returns the new end. */
static inline char *proto_put(char *end, const void *bytes, size_t len)
{
    memcpy(end, bytes, len);
    return end + len;
}

extern const struct proto_ops *const proto_table[]; /* NULL-terminated, in order of detection */
#define PROTO_STATE_MAX 256                         /* bytes: the largest state_bytes in the table; asserted in proto/table.c */

#endif
