/* exchange.h - one request and its response on a watched connection: what becomes one span.
 *
 * An exchange exists only while its request is in progress. Its text is copied in the order in which it comes, into 448 bytes in the
 * object, which typical requests fit into, or into an overflow buffer. All functions want the connection's lock. */
#ifndef OTSHIM_EXCHANGE_H
#define OTSHIM_EXCHANGE_H

#include "conn/call_site.h"
#include "conn/state.h"
#include "context/request.h"

#define EXCHANGE_INLINE_TEXT 448u
#define EXCHANGE_OVERFLOW_TEXT 8176u
#define EXCHANGE_LIMIT 65536u
#define EXCHANGE_NO_FIELD 0xffu

struct exchange_overflow {
    char text[EXCHANGE_OVERFLOW_TEXT];
};

struct exchange_text {
    uint16_t at, len;
};

struct exchange {
    struct request request; /* inbound. Not cleared with the rest: references to it may outlive the exchange */
    struct exchange *next;
    uint32_t fork_generation; /* of the process that began it: a forked child never writes its parent's */
    uint32_t inflight;
    uint8_t side; /* enum conn_role: CONN_INBOUND or CONN_OUTBOUND */
    uint8_t parent_rule;
    uint8_t version;
    bool head_done; /* of the request: ids and parent are final */
    bool has_owner;
    bool calling; /* counted among its owner's calls in flight */
    bool injected;
    bool own_header;
    bool reused;
    bool response_begun;
    bool truncated;
    bool failed;     /* of a response without a status */
    uint32_t stream; /* protocols with streams: its number; else 0 */
    bool variables;  /* of the protocol (proto.h) */
    uint16_t status;
    struct ctx ctx;   /* the span's own: what calls made for an inbound request go under, what an outbound request carries */
    struct ctx owner; /* outbound: for whom it was made */
    uint8_t parent_id[8];
    uint64_t start_ns, response_begin_ns, first_byte_ns;
    uint64_t request_from, response_from; /* positions of their first bytes in the connection's directions */
    uint64_t request_bytes, request_body_bytes, response_bytes, response_body_bytes;
    uintptr_t thread;  /* that began it: address of its thread-local storage */
    struct site *site; /* outbound: where in the program it was begun; NULL: not known */

    struct exchange_text field[PROTO_FIELDS];
    uint32_t seen;      /* bit a field: a text of it has begun */
    uint32_t repeated;  /* ... a second one */
    uint8_t open_field; /* the next piece of this field belongs to the same text */
    bool skip_text;
    uint16_t text_len;
    struct exchange_overflow *overflow;
    char text[EXCHANGE_INLINE_TEXT];
};

/* Takes the place of the newest. NULL, counted: no memory, or too many. now_ns: when its first byte was read, or is about to be written. */
/* writer: on whose behalf the bytes were sent, where that was not this thread (defer.c); NULL: this thread is asked. */
struct exchange *exchange_begin(struct conn *conn, uint8_t side, uint64_t now, const struct exchange_writer *writer);
void exchange_text(struct exchange *exchange, const struct proto_event *event);
/* The request's header block is complete: parent and ids are decided. */
void exchange_head(struct conn *conn, struct exchange *exchange, uint8_t version);
/* The captured text of a field, white space around it removed; NULL if there was none. */
const char *exchange_field(const struct exchange *exchange, enum proto_field field, size_t *len);

/* Takes it out of the queue, writes its span, frees it. site: that of the call which ended it, or NULL: then an outbound one that was slow
 * or failed has that of its begin. */
void exchange_end(struct conn *conn, struct exchange *exchange, uint8_t end, int error, uint64_t end_ns, struct call_site *site);
bool exchange_failed(const struct exchange *exchange, uint8_t end);
void exchange_end_all(struct conn *conn, uint8_t end, int error);
/* Without a word: a request that was never sent, or one that is our parent's. */
void exchange_free(struct exchange *exchange);
void exchange_forget_all(struct conn *conn);
/* What a roll-back undoes (inject.c). */
struct exchange_mark {
    bool head_done, skip_text;
    uint8_t open_field;
    uint32_t seen, repeated;
    uint16_t text_len;
    uint64_t request_bytes, request_body_bytes;
    struct exchange_text field[PROTO_FIELDS];
};
void exchange_mark(const struct exchange *exchange, struct exchange_mark *mark);
void exchange_restore(struct exchange *exchange, const struct exchange_mark *mark);
/* Forgets all that the request said, keeps who it is. */
void exchange_rewind(struct exchange *exchange);

#endif
