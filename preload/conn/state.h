/* state.h - what a watched connection consists of. For the files of conn/ only.
 *
 * Who may touch what. The descriptor table points to objects; `references` counts its entries. Everything else in a connection that is
 * not atomic belongs to the holder of its lock. The lock is one word:
 *
 *     bits 63..48  fork generation of the owner     bits 47..3  address of the owner's thread-local storage     bits 2..0  requests
 *
 * It is only ever tried: a thread that meets it taken repeats the attempt for about a hundred pauses, a signal handler that finds its own
 * thread the owner does not even do that. Who may not wait leaves a request in the word instead, and the owner, whose unlock is a
 * compare-and-swap that fails then, carries it out:
 *
 *     CONN_DEFERRED  bytes that went by are copied into conn->deferred: the owner feeds them. (On a loaded machine an owner is preempted in
 *                    here once in some ten thousand requests; the connection must survive that.)
 *     CONN_GIVE_UP   bytes went by that nobody could keep: the parser is out of step from here on.
 *     CONN_FINISH    the last descriptor was closed.
 *
 * A word of another fork generation was left by a thread that does not exist in this process: the lock is free, but what it protected may be
 * half written, so the connection is given up.
 *
 * A freed connection's generation changes. A wrapper notes it before the real call and compares it, under the lock, after it. */
#ifndef OTSHIM_CONN_STATE_H
#define OTSHIM_CONN_STATE_H

#include "conn/conn.h"
#include "context/context.h"
#include "context/runtime.h"
#include "proto/proto.h"
#include <otshim/record.h>
#include <sys/un.h>

enum conn_role { CONN_UNKNOWN = 0, CONN_INBOUND = 1, CONN_OUTBOUND = 2 };

enum conn_phase {
    CONN_DETECT = 0, /* the protocol is not known yet */
    CONN_PARSE = 1,
    CONN_PASS = 2 /* unknown, upgraded, or given up: bytes are not looked at */
};

enum conn_connect {
    CONN_CONNECTED = 0,
    CONN_CONNECTING = 1,
    CONN_CONNECT_HELD = 2 /* known, its span waits for the first exchange */
};

#define CONN_GIVE_UP ((uint64_t)1)
#define CONN_FINISH ((uint64_t)2)
#define CONN_DEFERRED ((uint64_t)4)
#define CONN_REQUESTS (CONN_GIVE_UP | CONN_FINISH | CONN_DEFERRED)

#define CONN_LIMIT (256u * 1024u)
#define CONN_CARRY 32u         /* first bytes kept until they tell the protocol; what they do not tell by then is unknown */
#define CONN_EXCHANGES_MAX 64u /* pipelined */

struct exchange;

/* A piece of a traceparent line that the kernel did not take: it goes out before anything else does (inject.c). */
struct debt {
    uint16_t len, sent;
    char bytes[1020]; /* INJECT_DEBT_MAX */
};

/* For whom did the thread work that sent these bytes? */
struct exchange_writer {
    bool known;
    struct ctx ctx;
};

/* Bytes for the owner of the lock to feed. A stack: the owner turns it round. */
struct deferred {
    struct deferred *next;
    uint64_t now; /* when they went by */
    uint64_t len;
    uint32_t generation; /* of the connection that they belong to */
    uint8_t dir;         /* enum proto_dir */
    bool unseen;         /* len bytes that nobody saw */
    struct exchange_writer writer;
    char bytes[8104];
};

/* Everything that a rollback must restore (inject.c): what the request direction has taught us. */
struct conn_parse {
    const struct proto_ops *proto; /* NULL while CONN_DETECT */
    uint64_t position[2];          /* bytes so far, by enum proto_dir */
    uint8_t carry_len;
    bool request_open; /* between BEGIN and END of a request message */
    bool in_head;      /* ... and before its HEAD */
    bool response_open;
    uint32_t served;    /* requests begun */
    uint32_t unwatched; /* requests without an exchange, all behind those that have one: see events.c */
    char carry[CONN_CARRY];
    uint64_t ahead; /* protocols with streams: bytes of the program's that were fed and not yet taken by the kernel */
    size_t prepaid; /* ... that have gone out with a debt and are still to come from the program: 1 or 0 */
    void *large;    /* ... and their state (conn/streams.h) */
    _Alignas(8) unsigned char state[PROTO_STATE_MAX];
};

static inline void *parse_state(struct conn_parse *parse)
{
    return parse->large != NULL ? parse->large : parse->state;
}

struct conn {
    struct fd_object object;
    _Atomic uint8_t phase; /* enum conn_phase; a PASS is final */
    uint8_t role;          /* enum conn_role */
    uint8_t transport;     /* enum otshim_transport */
    _Atomic uint32_t generation;
    _Atomic uint32_t references;
    _Atomic uint64_t lock;
    _Atomic(struct debt *) debt;
    _Atomic(struct deferred *) deferred;

    uint32_t fork_generation; /* of the process that made it */
    _Atomic uint64_t blocks;  /* the turn in which reading it became blocking (context/turn.h); 0: it is not */

    /* TLS (conn/tls.h): a sealed connection has a plain side, which is a conn without a descriptor. */
    struct conn *plain;
    uint32_t plain_generation;
    int fd;                      /* plain side: of the sealed one; -1: not known */
    struct handshake *handshake; /* plain side of an inbound one: waits for the first request */
    bool is_plain;               /* .runtime is the sealed one's */
    _Atomic bool claimed;        /* plain side: a session is tied to it */

    struct runtime_conn *runtime;     /* NULL: no runtime has asked for it. Its life is the connection's */
    struct exchange *oldest, *newest; /* in order of their requests */
    struct exchange *spare;           /* taken back by a rollback: the same requests come again, with the same ids */
    uint32_t exchanges;
    uint32_t feeds; /* counts every look at bytes: tells a rollback whether somebody else was here */

    struct otshim_addr peer, local;
    uint16_t peer_name; /* interned */
    uint16_t path;      /* interned */

    /* connect() */
    _Atomic uint8_t connect; /* enum conn_connect */
    bool
        connect_calls; /* counted among its origin's calls in flight: until its first exchange takes over, or from its last one on */
    bool send_closed;  /* inbound, and shut down for writing */
    bool connect_async;  /* it was in progress when connect() returned */
    bool adopted_lookup; /* the look-up of its name lies in origin's trace, under origin's span id */
    int32_t connect_error;
    uint64_t connect_start_ns, connect_end_ns;
    uint64_t connect_noted_ns; /* when SO_ERROR was last asked for and said 0; 0: never */
    /* Outbound: the context in which connect() was called; has_parent false: nobody's, and then trace_id and span_id are those
     * that the first exchange will have. Once that one has begun: the context of the thread that wrote last. */
    struct ctx origin;
    struct site *
        site; /* outbound: where in the program connect() was called while it is in progress, or bytes handed over that are sent later */
    uint8_t last_owner[8]; /* span id of the request that its last exchange was made for; zero: nobody */

    struct conn_parse parse;
};
_Static_assert(sizeof(struct conn) <= 640, "an idle keep-alive connection is small");

struct listener {
    struct fd_object object;
    _Atomic uint32_t generation;
    _Atomic uint32_t references;
    bool stream;
    uint8_t transport;
    struct otshim_addr local;
    uint16_t path;
};

struct epoll_set {
    struct fd_object object;
    _Atomic uint32_t generation;
    _Atomic uint32_t references;
    _Atomic uint8_t members;              /* bits of table.c: what was ever added */
    _Atomic(const void *) waiter;         /* address of the thread-local storage of who waits on it as a loop */
    _Atomic(struct fd_object *) outbound; /* the first such connection that was added; compared, never followed */
    _Atomic(struct fd_object *) inbound;
};

/* ---- lock.c ------------------------------------------------------------------------------------------------------------------ */
bool conn_lock(struct conn *conn); /* false: not had; nothing was changed */
void conn_unlock(struct conn *conn);
/* Have it given up, by us or by the owner. Counted. */
void conn_give_up(struct conn *conn);
/* With the lock: ends every exchange, and bytes are not looked at any more. */
void conn_pass_locked(struct conn *conn, uint8_t end, int error);
/* Something lies in conn->deferred. */
void conn_deferred(struct conn *conn);
/* The last descriptor is gone: ended by us, or by the owner of the lock when it lets go. */
void conn_finish(struct conn *conn);

/* ---- conn.c ------------------------------------------------------------------------------------------------------------------- */
void conn_finish_locked(struct conn *conn); /* everything ends, the generation changes */
void conn_recycle(struct conn *conn);       /* back to the pool */
/* For connect(): is this a stream socket of a family that we watch? A system call at most for a socket that was not made by socket(). */
bool conn_is_stream(int fd, int family);
/* getsockopt(SO_ERROR) said so: 0 may also mean "not yet", and is believed when bytes have gone by. */
void conn_connect_asked(int fd, int error);
/* socket() made it. */
void conn_socket_made(int fd, int domain, int type);

/* ---- table.c ------------------------------------------------------------------------------------------------------------------ */
/* What the descriptor pointed to gives way to `object` (may be NULL). Drops the table's reference to the former. */
void fd_put(int fd, struct fd_object *object);
/* Forgets the descriptor only if it still points to this. */
void fd_forget(int fd, struct fd_object *object);
/* One more table entry for it: false if its last one is gone already. */
bool fd_retain(struct fd_object *object);
void fd_drop(struct fd_object *object); /* the counterpart */
struct conn *conn_new(uint8_t role, uint8_t transport);
struct listener *listener_new(void);
int fd_table_end(void); /* one above the highest descriptor that was ever watched */

/* ---- connect.c ---------------------------------------------------------------------------------------------------------------- */
extern _Atomic uint32_t connects_pending;
void addr_from_sockaddr(struct otshim_addr *out, uint16_t *path, const struct sockaddr *addr, socklen_t len);
/* With the lock: the connection is no call of its origin's any more. */
void connect_call_end(struct conn *conn);
/* With the lock: what is left to say about a connect() when its connection ends, or (exchange not NULL) when its first exchange is known. */
void connect_settle_locked(struct conn *conn, const struct exchange *exchange, uint8_t end);
/* With the lock: the first I/O on a connecting descriptor had this result. */
void connect_first_io_locked(struct conn *conn, ssize_t result, int error);

static inline struct conn *fd_conn(int fd)
{
    struct fd_object *object = fd_get(fd);
    return object != NULL && object->kind == FD_CONN ? (struct conn *)object : NULL;
}

#endif
