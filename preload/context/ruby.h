/* ruby.h - Ruby's Puma says itself whose connection a worker thread has in hand.
 *
 * Puma reads a request on its reactor's thread (kept connections, slow clients) or on a worker's, and answers it on a worker's, which it got
 * by a queue: what a thread has read says nothing certain then. But a worker has one connection in hand at a time, from Client#finish, which
 * Server#process_client calls before the first request, until process_client returns; and the one request that is unanswered on that
 * connection, or was answered last, is what it works for - also for what is done after the response (rack.after_reply).
 *
 * interpose/ruby.c finds these two moments. A thread without a connection in hand that had one before works for nobody; of one that never had
 * any, nothing is known here. */
#ifndef OTSHIM_CONTEXT_RUBY_H
#define OTSHIM_CONTEXT_RUBY_H

#include "context/runtime.h"

/* On the worker's thread. Connection NULL (not watched, or not to be had): it works for nobody that we know. */
void ruby_takes(const struct runtime_ref *conn);
void ruby_rests(void);

int ruby_current(struct ctx *out); /* see struct ctx_runtime */
extern const struct runtime_listener ruby_listener;

#endif
