/* streams.h - connections whose protocol carries many messages at a time (proto.h, .streams: HTTP/2).
 *
 * Each stream is an exchange of its own, found by its number. The parser's state is large, so it lives in memory of its own and is never copied: bytes are fed
 * once. What the program sends is fed before the call, as if the kernel had taken all of it (its answer may be read by another thread before the call
 * returns); what the kernel did not take is remembered as fed ahead, and is not fed again when the program sends it once more. */
#ifndef OTSHIM_CONN_STREAMS_H
#define OTSHIM_CONN_STREAMS_H

#include "conn/inject.h"

/* With the lock: memory for the state of this protocol. False: there is none. */
bool streams_begin(struct conn *conn);
void streams_end(struct conn *conn);

/* For whom is a stream? Whoever sends on such a connection sends what all have given it: a client library's task or thread flushes the header blocks of others with
 * its own (httpcore, and any that has one write lock a connection). A thread that alone uses a connection, and works for one request at a time, sends its own. Where
 * a runtime says for whom it sends, or several threads do, the one block of a call is the sender's only if no other stream is open, and if it has not had one here lately,
 * whose end it might be attending to. Asked for each stream, with the lock, before it is linked; owner NULL: the sender works for nobody. */
bool streams_certain(struct conn *conn, const struct ctx *owner);

void streams_event(struct flow *flow, const struct proto_event *event);

/* Do these first bytes of a connection open such a protocol? */
bool streams_detect(const struct conn *conn, const struct iovec *iov, size_t iovcnt);
/* With the lock, which it gives back: makes the call. */
ssize_t streams_output(const struct watch *watch, const struct output *output, const struct iovec *iov, size_t iovcnt);

/* The same where the lock is busy. */
ssize_t streams_output_busy(const struct watch *watch, const struct output *output, const struct iovec *iov, size_t iovcnt);
/* A byte of these has gone out already, with a debt. Without the lock; the connection may be given up by now. */
ssize_t streams_output_prepaid(const struct watch *watch, const struct output *output, const struct iovec *iov, size_t iovcnt);

#endif
