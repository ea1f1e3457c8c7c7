/* tls.h - the plain side of an encrypted connection.
 *
 * When the first bytes of a connection are a TLS handshake record, its bytes are not looked at any more ("sealed"), and it gets a second struct
 * conn, its plain side, which has no descriptor: what a TLS library of the program reads and writes in the clear is fed to that one, through the
 * same parser, exchanges and rules as any other bytes. The plain side takes along what connect() or accept() knew: addresses, name, origin.
 *
 * Which session of the library belongs to which connection?
 *   - The library reads and writes the socket itself (SSL_set_fd, or a BIO of the program's that calls recv and send): the connection's first
 *     record passes through our wrappers while this thread is inside a call for one session, and for no other: tls_sealed() ties them.
 *   - The program moves the bytes (memory BIOs: asyncio, uvloop): the head of what it received on a sealed connection is remembered by the
 *     thread; when it hands exactly these bytes to a BIO, and then works with the session that reads from this BIO, they are tied. The bytes
 *     are records with random content (a hello has 32 random bytes, anything later is encrypted), so equal heads are the same record.
 *   - Neither: the session has a plain side of its own, of no known peer. Nothing is guessed.
 *
 * A session is found by the address of the library's object, in a table of fixed size. One thread at a time works with a session (OpenSSL's
 * own rule), so it needs no lock; its plain side has the lock that every connection has. */
#ifndef OTSHIM_CONN_TLS_H
#define OTSHIM_CONN_TLS_H

#include "conn/flow.h"

/* A handshake, as far as it is known; texts may be NULL. Valid during the call only. */
struct tls_facts {
    const char *version, *cipher, *server_name, *alpn, *error;
    size_t alpn_len;
    bool resumed;
};

struct tls_session {
    _Atomic uintptr_t key; /* the library's object; 0: free */
    struct conn *plain;    /* NULL: not yet */
    uint32_t generation;   /* of .plain */
    bool server, finished; /* role; the handshake is over, one way or the other */
    bool committed;        /* the library holds bytes of a plain write, which the program is to repeat (tls_write.h) */
    bool corked;           /* what is written stays in the library for now (GnuTLS) */
    bool early;            /* something was written that goes out with the hello, or once more (GnuTLS) */
    uint16_t server_name;  /* as the program set it, where the library does not tell (intern.h) */
    uint64_t begun_ns;     /* of the handshake; 0: not begun */
    struct tls_pending *pending;
};

/* The session of this object, made if need be. NULL: the table is full here (counted), or it was never seen before and make is false. */
struct tls_session *tls_session(const void *key, bool make);
/* The library frees it: what is unfinished ends. */
void tls_forget(struct tls_session *session);

/* Around the library's own call: raw I/O of this thread inside is this session's. */
struct tls_call {
    struct tls_session *session;
    const void *outer; /* whatever was going on before: TLS inside TLS */
};
void tls_call_begin(struct tls_call *call, struct tls_session *session);
void tls_call_end(const struct tls_call *call);

/* For memory BIOs. These bytes went into this BIO; is the session that reads from it one that we look for? */
void tls_bio_written(const void *bio, const void *bytes, size_t len);
bool tls_bio_waits(void); /* one load: did the last tls_bio_written() of this thread find a connection? */
void tls_bio_tie(struct tls_session *session, const void *rbio);

/* The plain side as flow.h and inject.h want it. False: there is none (no memory). */
bool tls_watch(struct tls_session *session, struct watch *watch);

/* The handshake ended now. */
void tls_handshake_done(struct tls_session *session, bool ok, const struct tls_facts *facts);

/* ---- for the files of conn/ ------------------------------------------------------------------------------------------------------ */
bool tls_is_hello(const char *bytes, size_t len, bool *maybe);
/* With the lock of conn, whose first bytes are a TLS record. */
void tls_sealed(struct conn *conn, int fd);
/* Raw bytes were received on a sealed connection that is tied to no session yet. */
void tls_received(struct conn *conn, const struct iovec *iov, size_t iovcnt, size_t len);
/* The sealed connection ends (its lock is held). */
void tls_conn_finished(struct conn *conn);

#endif
