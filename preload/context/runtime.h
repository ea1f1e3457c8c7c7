/* runtime.h - rule 1: a runtime that multiplexes many requests on one thread says itself which of them runs.
 *
 * An adapter is one entry of ctx_runtimes[]; it is asked for the calling thread's context before our own causality is. In the other
 * direction it is told what came: a connection was accepted, bytes of an inbound request were read, the thread read something else or
 * waits. There is one adapter in a process at most that wants to know (runtime_listener); everybody else pays one load and one branch.
 *
 * Programs read requests by connection as often as by request: the task of asyncio.start_server is made when the connection is, before
 * there is a request. So a runtime may also be given the connection, as a handle that leads to the request which is being answered on it
 * when the question is asked (struct runtime_conn).
 *
 * A runtime also knows the call site in the program's own language. When the answer to an asynchronous call arrives, the frames that asked for
 * it are gone; so each outbound call's are *kept* at its begin, by the thread that makes it, as cheaply as can be, and put into words at its
 * end, only if it was slow or failed (context/site.h is for those who ask). */
#ifndef OTSHIM_CONTEXT_RUNTIME_H
#define OTSHIM_CONTEXT_RUNTIME_H

#include "context/context.h"
#include <otshim/limits.h>
#include <stdatomic.h>

/* A connection as the runtimes know it. Type-stable memory: a stale reference is recognised by its generation.
 *
 * Inbound: the one request that it works on. A second one that arrives while the first is unanswered (pipelining) leaves none, until a
 * request finds the connection at rest again: in which order the program takes them up, and from where, is its own affair.
 * Outbound: for whom the program has handed over bytes that are sent later. */
struct runtime_conn {
    _Atomic uint32_t generation;
    _Atomic uint32_t change; /* odd while .ctx is being written; one writer at a time, who holds the connection's lock */
    _Atomic uint8_t known;   /* .ctx is one */
    _Atomic uint8_t pipelined;
    _Atomic uint8_t requests; /* how many have begun: 0, 1, or 2 for more */
    _Atomic uint8_t taken;    /* the program was waiting for this one */
    struct ctx ctx;
};

struct runtime_ref {
    struct runtime_conn *conn; /* NULL: none */
    uint32_t generation;
};

/* A call site in words: nothing is said that is not certain, so any part may be empty. */
struct runtime_site_words {
    uint32_t line; /* of the user's innermost function; 0: not known */
    uint16_t function_len, file_len, stack_len;
    bool truncated;
    char function[OTSHIM_CODE_FUNCTION_MAX]; /* its qualified name */
    char file[OTSHIM_CODE_FILE_MAX];         /* its path, as the language has it */
    char stack[OTSHIM_CODE_STACKTRACE_MAX];  /* as the language prints a stack: whole lines only */
};

#define RUNTIME_SITE_BYTES 1008u /* what an adapter may keep at the begin of a call; 8-byte aligned */

struct ctx_runtime {
    const char *name; /* "cpython", "node", ... */
    /* 1: *out is the context of what runs now (rule OTSHIM_PARENT_RUNTIME). 0: this thread's runtime says "for nobody", which is an
     * answer too. -1: not a thread of this runtime, ask the next. Async-signal-safe, no system call, errno preserved. */
    int (*current)(struct ctx *out);
    /* Both NULL: this runtime has no call sites of its own. They are not asked before runtime_has_sites is raised.
     *
     * Keep: the calling thread is about to make an outbound call, or is in the middle of one; what leads to its stack goes into kept. False:
     * nothing is known (not a thread of this runtime, no frame of the program's own): the native stack may then be looked at. In every call's
     * way: some 100 ns, async-signal-safe, no system call, no lock of the runtime's; what is kept owns nothing, for it is dropped without a
     * word. The connection's lock may be held.
     *
     * Words: later, on any thread, while the runtime goes on: whatever kept leads to may be gone, and then nothing is said. Here system
     * calls are allowed. *words is zeroed but for the texts. False: nothing to say. errno need not be preserved by either. */
    bool (*site_keep)(void *kept);
    bool (*site_words)(const void *kept, struct runtime_site_words *words);
};

extern const struct ctx_runtime ctx_runtimes[]; /* ends with .current == NULL */
extern _Atomic bool runtime_has_sites;          /* site.c; by the adapter that is ready to keep them */

/* What an adapter is told, on the thread where it happened, without any lock of ours held. errno need not be preserved. */
struct runtime_listener {
    void (*accepted)(const struct runtime_ref *conn);
    /* Bytes were read from an inbound connection; ctx NULL: of no request in particular. */
    void (*received)(const struct runtime_ref *conn, const struct ctx *ctx);
    void (*idle)(void); /* bytes of something else, or the thread is about to wait for events. Async-signal-safe */
    /* A thread was started while runtime_starts_thread was true, for ctx: the first that is done on the new thread. NULL in an adapter that never
     * raises it. */
    void (*started)(const struct ctx *ctx);
    /* With runtime_given: the thread read from a pipe, a socket or the like that is not watched. May be NULL. Async-signal-safe. */
    void (*read_unwatched)(void);
    /* Clients of this runtime share a connection between requests, and what several of them have asked for is sent in one call, by the first (node-redis). */
    bool sends_for_others;
};

/* The calling thread is in a function of its runtime that starts a thread of the runtime's own: where it ends to work for its creator's
 * request is the runtime's to say (started), not that of rule 3. */
extern OTSHIM_TLS bool runtime_starts_thread;

/* Not 0: by what the runtime knows this thread has been given work that it may lose again. One load for those who ask at every read or lock. */
extern OTSHIM_TLS volatile uint8_t runtime_given;

extern _Atomic(const struct runtime_listener *) runtime_listener;

static inline const struct runtime_listener *runtime_listening(void)
{
    return atomic_load_explicit(&runtime_listener, memory_order_acquire);
}

static inline void runtime_idle(void)
{
    const struct runtime_listener *listener = runtime_listening();
    if (OTSHIM_UNLIKELY(listener != NULL))
        listener->idle();
}

/* Says, to whom it may concern (`otshim status`, `otshim doctor PID`, the exporter's log), whether a runtime's own context is read: why_not
 * NULL: it is, each call's request is exact. Else one clause in lower case that says why not ("this version is not known"); calls on threads
 * that many requests share are roots then. Once an adapter knows, and again only if that changes; the same again costs a look and does
 * nothing. name as people write it ("CPython", "Node.js"), version up to its first blank ("" if there is none). Async-signal-safe. */
void runtime_report(const char *name, const char *version, const char *why_not);

/* ---- runtime.c. The first four by the holder of the connection's lock. ------------------------------------------------------------------- */
struct runtime_conn *runtime_conn_new(void); /* NULL: no memory */
void runtime_conn_free(struct runtime_conn *conn);
void runtime_conn_begin(struct runtime_conn *conn, bool pipelined);      /* a request's first byte */
void runtime_conn_set(struct runtime_conn *conn, const struct ctx *ctx); /* NULL: for nobody */

/* For anyone, at any time. False: there is none now. */
bool runtime_conn_get(const struct runtime_ref *ref, struct ctx *out);
bool runtime_conn_pipelined(const struct runtime_ref *ref);
/* For a runtime whose flows of control are each made for a connection, not for a request: has the flow turned to the request that
 * is being answered on it now? To the first one, yes. To a later one, if it is known to have waited for it: else it may be busy with what it had
 * left to do for the one before. */
void runtime_conn_take(const struct runtime_ref *ref); /* it has waited */
enum runtime_turn { RUNTIME_TURN_NONE_YET, RUNTIME_TURN_TAKEN, RUNTIME_TURN_UNKNOWN };
enum runtime_turn runtime_conn_turn(const struct runtime_ref *ref);
static inline struct runtime_ref runtime_ref(struct runtime_conn *conn)
{
    return (struct runtime_ref){conn, conn != NULL ? atomic_load_explicit(&conn->generation, memory_order_acquire) : 0};
}

#endif
