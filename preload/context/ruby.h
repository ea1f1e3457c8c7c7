/* ruby.h - Ruby's servers say themselves on which connection a thread works, and from when to when.
 *
 * Puma reads a request on its reactor's thread (kept connections, slow clients) or on a worker's, and answers it on a worker's, which it got
 * by a queue: what a thread has read says nothing certain then. But a worker has one connection in hand at a time, from Client#finish, which
 * Server#process_client calls before the first request, until process_client returns; and the one request that is unanswered on that
 * connection, or was answered last, is what it works for - also for what is done after the response (rack.after_reply).
 *
 * Unicorn and WEBrick read where they answer, in the one method that serves a connection: there the connection is the one that the thread
 * reads from. (By rule 2 their handlers are right too, but for what comes after the response, and for kept connections: before it uses one,
 * Ruby polls it together with a pipe of its own, which looks like an event loop.) Unicorn closes the connection before rack.after_reply: the
 * request that was read last counts on.
 *
 * interpose/ruby.c finds these moments. A thread without a connection in hand that had one before works for nobody; of one that never had
 * any, nothing is known here. */
#ifndef OTSHIM_CONTEXT_RUBY_H
#define OTSHIM_CONTEXT_RUBY_H

#include "context/runtime.h"

/* All on the thread that serves. Connection NULL (not watched, or not to be had): it works for nobody that we know. */
void ruby_takes(const struct runtime_ref *conn);
void ruby_serves(void); /* the connection that it reads from next */
void ruby_rests(void);

/* Ruby's threads move between the system's (M:N): what a thread of the system has read or was given says nothing, on none of them. For good. */
void ruby_threads_move(void);

int ruby_current(struct ctx *out); /* see struct ctx_runtime */
extern const struct runtime_listener ruby_listener;

#endif
