/* tls_write.h - a request written in the clear, with a traceparent put in, by the rules of a TLS library's write.
 *
 * SSL_write takes a buffer whole, or it wants to be called again with the same one: what it could not send is encrypted already, and on the next
 * call it only looks at address and length (SSL_write(3), SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER). So bytes with a line of ours in them are written from a copy
 * that stays where it is until it is all out. Meanwhile the program is told what the library said (WANT_WRITE); when it comes again with its bytes, as it
 * must, the copy goes on, and the answer is the number of the program's own bytes.
 *
 * It could come with other bytes only if nothing of the first were committed, which is the case before the handshake is over: then nothing is put in. Should
 * it do so all the same, the connection is given up and the call passed on as it is.
 *
 * gnutls_record_send takes at most one record, and what it could not send is encrypted already, too; on the next call it looks neither at address nor at
 * length, which may be NULL and 0 ("the same data as before"). So a request is put into the first record's worth of the program's bytes, the copy goes on
 * whatever the program names, and also of a plain write that is to be repeated a copy is kept, for the parser.
 *
 * What the library has encrypted of a plain write goes out unchanged: nothing is put in until it is out, although the program names the bytes again. */
#ifndef OTSHIM_CONN_TLS_WRITE_H
#define OTSHIM_CONN_TLS_WRITE_H

#include "conn/tls.h"

/* Requests longer than this in one write carry no traceparent (counted): 16 KiB from a pool, above that memory of their own. */
#define TLS_WRITE_MAX ((size_t)1 << 20)

struct tls_pending;

/* The library's own write: what it returned, as write(2) would say it: bytes, or -1 with errno EAGAIN (call again), another errno (it failed). */
struct tls_writer {
    ssize_t (*write)(struct tls_writer *writer, const void *bytes, size_t len);
    size_t most;    /* bytes that it takes in one call; 0: all */
    bool nameless;  /* a repeated call need not name its bytes */
    bool committed; /* set by .write with EAGAIN: the bytes are encrypted already */
};

/* The program writes len bytes (NULL and 0 from a nameless one: those of before). may_inject: the handshake is over. Returns as .write does; the program is told what the library said last
 * unless this is positive: then that many of its bytes were taken. */
ssize_t tls_write(struct tls_session *session, struct tls_writer *writer, const void *bytes, size_t len, bool may_inject);

void tls_pending_drop(struct tls_session *session);

#endif
