/* base.h - what every file of the library may use: attributes, small inline helpers, raw system calls.
 *
 * The rules of the house we live in (design section 3): libc and nothing else; no malloc, stdio, locale or getenv on any hot path;
 * thread-local state small and safe in a signal handler; errno exactly the real call's. */
#ifndef OTSHIM_BASE_H
#define OTSHIM_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#define OTSHIM_LIKELY(x) __builtin_expect(!!(x), 1)
#define OTSHIM_UNLIKELY(x) __builtin_expect(!!(x), 0)

/* The interposed symbols are the only exports; everything else is hidden by -fvisibility=hidden and the version script. */
#define OTSHIM_EXPORT __attribute__((visibility("default")))

/* Thread-local state lives in the static TLS block: the library is always there at start-up, and initial-exec access neither
 * allocates nor locks, so that it is safe in a signal handler. */
#define OTSHIM_TLS _Thread_local __attribute__((tls_model("initial-exec")))

/* CLOCK_MONOTONIC by the vDSO: ~25 ns, no system call. Async-signal-safe. */
static inline uint64_t now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
}

/* True while this thread runs inside the library, or in libc code whose calls are not the program's (getaddrinfo's sockets).
 * A wrapper that finds it set forwards the call untouched. Also set in a vfork child, which shares our memory with its parent:
 * there nothing of ours may be written at all (see interpose/process.c). */
extern OTSHIM_TLS uint32_t otshim_quiet;

/* False until the constructor ran, and for good when OTEL_SDK_DISABLED=true or the program is excluded: every wrapper then only
 * forwards. One relaxed load. */
extern bool otshim_active;

#endif
