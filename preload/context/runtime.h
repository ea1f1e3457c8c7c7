/* runtime.h - rule 1: a runtime that multiplexes many requests on one thread says itself which of them runs.
 *
 * An adapter is one entry of ctx_runtimes[]; it is asked for the calling thread's context before our own causality is. The table has no
 * entry yet: this is where they go. */
#ifndef OTSHIM_CONTEXT_RUNTIME_H
#define OTSHIM_CONTEXT_RUNTIME_H

#include "context/context.h"

struct ctx_runtime {
    const char *name; /* "cpython", "node", ... */
    /* 1: *out is the context of what runs now (rule OTSHIM_PARENT_RUNTIME). 0: this thread's runtime says "for nobody", which is an
     * answer too. -1: not a thread of this runtime, ask the next. Async-signal-safe, no system call, errno preserved. */
    int (*current)(struct ctx *out);
};

extern const struct ctx_runtime ctx_runtimes[]; /* ends with .current == NULL */

#endif
