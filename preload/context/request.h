/* request.h - is it certain that a thread works for the request which it read last?
 *
 * On a thread that works on one request at a time it is. An event loop reads request B while A waits for a timer, a file or another
 * thread, and takes A up again with nothing that we see: the call that it makes then is A's, though B was read last. So each thread has a
 * count of the requests that it has read and that could be taken up at any moment ("open"), and what was read last counts only while no
 * other one is open. That costs such a loop some parents, and makes none of them wrong.
 *
 * A request is open from its last byte until its response begins. Some kinds of programs differ (a table by name in request.c):
 * proxies, which do nothing for a request while a call of it is in flight - it is not open then; runtimes that multiplex many flows of
 * control in one request on one thread, where it is open until its response has ended; and workers, which have one request at a time.
 *
 * Everything here is lock-free and async-signal-safe. A struct request lives in type-stable memory (inside an exchange); a context
 * refers to it by address and generation, so that a reference outlives the request harmlessly. */
#ifndef OTSHIM_CONTEXT_REQUEST_H
#define OTSHIM_CONTEXT_REQUEST_H

#include "context/context.h"
#include <stdatomic.h>

/* The open requests of one thread. */
struct workload {
    _Atomic uint64_t thread; /* whose; 0: free */
    _Atomic uint64_t open;   /* bits 31..0 how many; 63..32 the thread's task: those of earlier ones do not count */
};

struct request {
    _Atomic uint64_t state; /* request.c */
    _Atomic uint64_t from;  /* the span id of the traceparent that came with it; 0: none */
    struct workload *workload;
    uint32_t task; /* of the workload, when it was read */
};

/* By the program's name, once, before anything else. */
void request_init(const char *program);

/* Does a thread of this program work for one request until it takes up the next, also when it has answered it? PHP's FastCGI workers do
 * (fastcgi_finish_request). */
bool request_outlives_response(void);

/* Its head was read; ctx is the context that it gives (the reference is filled in); from: the span id of the traceparent that came with it, or
 * NULL. */
void request_begin(struct request *request, struct ctx *ctx, const uint8_t from[8]);
/* The last byte of it was read, by this thread. */
void request_complete(struct request *request);
void request_answered(struct request *request); /* its response has begun */
/* ... and by this thread: was it read by another one? */
bool request_is_from_elsewhere(const struct request *request);
void request_end(struct request *request);

/* A call made for ctx begins, ends. Safe with any context, at any time. */
void request_call_begin(const struct ctx *ctx);
void request_call_end(const struct ctx *ctx);

/* Is this traceparent the one that came with ctx's request, which is still in progress? */
bool request_came_from(const struct ctx *ctx, const struct ctx *traceparent);

/* The thread begins or ends a task, by the word of a runtime that knows: what it has read before is not what it takes up now. */
void request_new_task(void);

/* Has this thread read no request that is open? */
bool request_none_open(void);
/* Works this thread, which is in ctx, for nobody else? */
bool request_is_certain(const struct ctx *ctx);

#endif
