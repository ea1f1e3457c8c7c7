/* context.h - for whom is this call made? The rules of design section 4, the certain ones first.
 *
 * A context is a value: it is copied from thread to connection to span and never freed, so that work which outlives its request
 * still belongs to it. Everything here is async-signal-safe and touches only the calling thread's state. */
#ifndef OTSHIM_CONTEXT_H
#define OTSHIM_CONTEXT_H

#include "base/base.h"
#include <otshim/record.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct request;

struct ctx {
    uint8_t trace_id[16];
    uint8_t span_id[8];  /* of the span that new spans go under; all zero: none */
    uint8_t trace_flags; /* W3C; bit 0 sampled */
    uint8_t rule;        /* enum otshim_parent_rule by which this context is the thread's */
    uint8_t has_parent;  /* the span_id field is valid */
    uint8_t reserved;
    uint32_t request_generation; /* with .request: which one it was */
    struct request
        *request;        /* context/request.h: the inbound request, if it was read in this process; only for that file to follow */
    uint32_t tracestate; /* handle of context/tracestate.h; 0: none */
};

/* The request that the calling thread works for now, or false (rule 6). Asks rule 1 (runtime adapters: a table in
 * context/runtime.c), then the thread's own state, which rules 2 and 3 maintain:
 *   ctx_enter     - a thread read bytes of an inbound request, or of the response of a call that belongs to one (rule 2)
 *   ctx_leave     - it finished that request's response: leaves only if the span is the current one
 *   ctx_clear     - it returned to its event loop, accepts, or read from a connection that is nobody's
 * A context by rule 2 counts only while no other request that the thread has read could be meant (context/request.h) and, in a thread with an
 * event loop, while nothing else can be running (context/turn.h).
 *   ctx_inherit   - a new thread starts with its creator's context (rule 3); such a context ends at the thread's first mutex, or wait on a
 *                   condition variable, semaphore or futex (a pool's worker at its queue: see interpose/thread.c)
 *   ctx_read_unwatched - it read from something that we do not watch. A context that was given to it (thread, fork, environment) ends if that
 *                   is a pipe or a socket: whoever started a worker inside a request gives it work of others by one
 *   ctx_hands_over - a thread answers a request that another one has read. From now on no thread of this process is sure to work on what
 *                   it has read, once it has had the opportunity to exchange it for something else: a context by rule 2 ends as an inherited one does
 *   ctx_after_fork - in the child, before otshim_fork_generation changes: what it goes on with was given to it
 */
bool ctx_current(struct ctx *out);
static inline bool ctx_same_request(const struct ctx *a, const struct ctx *b)
{
    return memcmp(a->span_id, b->span_id, sizeof(a->span_id)) == 0 && memcmp(a->trace_id, b->trace_id, sizeof(a->trace_id)) == 0;
}
/* A runtime knows for whom its thread works, and can be asked again at any time. */
static inline bool ctx_is_of_runtime(const struct ctx *ctx)
{
    return ctx->rule == OTSHIM_PARENT_RUNTIME || ctx->rule == OTSHIM_PARENT_HANDOVER;
}
/* What the thread was put into last, whether it is certain or not: for those who put it back with ctx_enter(). */
bool ctx_peek(struct ctx *out);
void ctx_enter(const struct ctx *ctx);
void ctx_leave(const uint8_t span_id[8]);
void ctx_clear(void);
void ctx_inherit(const struct ctx *ctx);
void ctx_waited(void); /* ends a context that came with the thread only */
void ctx_read_unwatched(int fd);
void ctx_hands_over(void);
/* The thread begins or ends a task, by the word of a runtime that always says so: what it reads in the task is what it works for until then,
 * and what it has read before is not. The context itself is not changed. */
void ctx_task(bool begins);
void ctx_after_fork(void);

/* How the thread's context was given to it; 0: it was not, or there is none. One load, for those who ask at every mutex or read. Written by
 * current.c only. */
enum { CTX_BY_THREAD = 1, CTX_BY_FORK = 2, CTX_BY_ENVIRON = 4 };
extern OTSHIM_TLS volatile uint8_t ctx_inherited;

/* TRACEPARENT and TRACESTATE of the environment, read once at start-up: the context of the main thread. */
void ctx_init_environ(const char *traceparent, const char *tracestate);

/* ---- making ids and decisions: context/ids.c, context/sampler.c ----------------------------------------------------------
 * A counter and two keys per thread, seeded by getrandom once per thread and again after fork. Never all zero. Async-signal-safe: a
 * handler that interrupts the thread in here gets another id.
 *
 * otshim_fork_generation: the child's atfork handler (init.c) adds one, so that parent and child never make the same ids. */
extern uint32_t otshim_fork_generation;
void ids_span(uint8_t span_id[8]);
void ids_trace(uint8_t trace_id[16]);

/* OTEL_TRACES_SAMPLER: always_on, always_off, traceidratio, parentbased_always_on (default), parentbased_always_off,
 * parentbased_traceidratio. An unknown name or argument falls back to the default and says so in one log record. */
struct sampler {
    uint8_t root; /* enum inside sampler.c: what to do without (or regardless of) a parent; 0 is always_on */
    uint8_t parent_based;
    uint64_t threshold; /* traceidratio: sampled if the low 56 bits of the trace id are >= threshold (OTEP 235) */
};
/* 0, or -EINVAL with a sentence in *why (static text); *s is usable either way. name and arg may be NULL or empty: not set. */
int sampler_parse(struct sampler *s, const char *name, const char *arg, const char **why);
/* parent may be NULL. Returns the trace flags for a span in that trace (bit 0). */
uint8_t sampler_decide(const struct sampler *s, const struct ctx *parent, const uint8_t trace_id[16]);

/* ---- W3C Trace Context (https://www.w3.org/TR/trace-context/): context/traceparent.c ------------------------------------- */
#define TRACEPARENT_LEN 55 /* 00-<32 hex>-<16 hex>-<2 hex> */
/* False on anything that the specification calls invalid; *out is then untouched. Versions above 00 are read as 00 (section 4,
 * "versioning"). White space around the value is not part of it. Sets rule REMOTE, has_parent, tracestate 0. */
bool traceparent_parse(const char *bytes, size_t len, struct ctx *out);
void traceparent_format(const struct ctx *ctx, char out[TRACEPARENT_LEN]);

/* ---- context/tracestate.c --------------------------------------------------------------------------------------------------
 * tracestate is opaque text of up to 512 bytes that has to be passed on. It is kept in a ring of the last TRACESTATE_SLOTS texts (an
 * mmap'ed table, made at the first one); a handle names slot and generation, and finds nothing once the slot was used again
 * (counted). Lock-free; a torn read is detected and reads as lost. Text that could not go into a header line again (control characters) is
 * not taken; what is longer than 512 bytes loses whole list members from its end (W3C 3.3.1.5). */
#define TRACESTATE_SLOTS 4096u
uint32_t tracestate_put(const char *bytes, size_t len);
size_t tracestate_get(uint32_t handle, char *out, size_t out_size); /* length, 0: none or lost */

#endif
