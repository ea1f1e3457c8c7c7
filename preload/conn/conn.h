/* conn.h - a watched connection: what the wrappers report, and what they may ask.
 *
 * Each connection has one parser (proto/), a queue of exchanges (conn/exchange.h), and a try-lock that is held only while bytes are
 * being looked at, never across a system call. A signal handler or a second thread that meets it busy leaves a copy of its bytes to the owner
 * (conn/defer.h); where that is not possible the connection is given up, counted. All functions preserve errno unless they say otherwise; all are
 * async-signal-safe. */
#ifndef OTSHIM_CONN_H
#define OTSHIM_CONN_H

#include "base/base.h"
#include "conn/names.h"
#include "conn/table.h"
#include "context/runtime.h"
#include <netdb.h>
#include <sys/socket.h>
#include <sys/uio.h>

/* ---- life of a descriptor (interpose/socket.c) ----------------------------------------------------------------------------- */
void conn_socket(int fd); /* a descriptor was made by any call we see: whatever we knew under this number is over */
void conn_bound(int fd, const struct sockaddr *addr, socklen_t len);
void conn_listening(int fd);
/* addr may be NULL. An unknown listen_fd (inherited) is looked at and registered here. */
void conn_accepted(int listen_fd, int fd, const struct sockaddr *addr, socklen_t len);
void conn_connecting(int fd, const struct sockaddr *addr, socklen_t len, uint64_t start_ns, int result, int error);
/* The outcome of a connect that was in progress became known: error 0 or an errno. No-op for any other descriptor. */
void conn_connect_outcome(int fd, int error);
bool conn_any_connecting(void); /* one load: is there any descriptor whose connect is in progress? */
/* Reads of it block from now on, or do not. No-op for what is not watched. */
void conn_blocks(int fd, bool blocks);
void conn_shutdown(int fd, int how);
void conn_closing(int fd); /* before the real close: another thread may get the number at once after it */
void conn_closing_range(unsigned first, unsigned last);
void conn_duped(int fd, int newfd); /* also dup2/dup3 over an open newfd, which closes it */
void conn_passed(int fd);           /* a descriptor came by SCM_RIGHTS: found out what it is */

/* ---- for the runtimes (context/runtime.h) ------------------------------------------------------------------------------------ */
/* The inbound connection behind a descriptor, as a runtime may refer to it; none: .conn is NULL. */
void conn_runtime(int fd, struct runtime_ref *out);
/* The program hands over bytes for this outbound connection which will be sent later, from its event loop: they are for ctx; NULL: for
 * nobody. */
void conn_write_later(int fd, const struct ctx *ctx);
/* The same, of a thread that may wait a moment for another one that is busy with the connection; and unsent: if nothing was sent on it yet. */
void conn_hand_over(int fd, const struct ctx *ctx, bool unsent);

/* All spans that are unfinished end now (process exit, exec): reason is an enum otshim_end. */
void conn_end_all(uint8_t reason);
/* After fork, in the child: exchanges in progress are the parent's and will not be written by us. */
void conn_after_fork(void);

/* ---- names (conn/names.c): which name did the program ask for to get this address? ----------------------------------------- */
/* Called after a successful resolution, with its timing: a connect to one of its addresses by a thread that works for nobody takes the
 * look-up into its own trace. */
void names_resolved(const char *name, const struct addrinfo *res, uint64_t start_ns, uint64_t end_ns);
/* The name, by which this thread (else any, if unambiguous) got the address. Returns its length, 0 if there is none. */
size_t names_find(const struct sockaddr *addr, char *out, size_t out_size);

#endif
