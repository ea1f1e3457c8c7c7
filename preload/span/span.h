/* span.h - one record per finished span into the ring; requests in flight; the hand-over of the ring to an exporter.
 *
 * What a caller sees is "write this span": where the memory is, whether anyone listens, and what fork does to it stays in here.
 * All of it is async-signal-safe, never blocks, never allocates on the heap, and preserves errno. */
#ifndef OTSHIM_SPAN_H
#define OTSHIM_SPAN_H

#include "context/context.h"
#include <otshim/record.h>
#include <stddef.h>

/* A piece of captured text (or other bytes) that goes into the record as an attribute. */
struct span_attr {
    uint16_t key; /* enum otshim_attr_key */
    uint16_t len;
    const void *bytes;
};

/* Commits one span record: rec (attr_bytes and tid are filled in here), then the attributes; empty ones are left out.
 * First record of a process: makes the ring and says hello (a handful of system calls, once). Steady state: none.
 * A full ring drops the record and counts it. */
void span_write(struct otshim_span_rec *rec, const struct span_attr *attrs, size_t nattrs);

/* A diagnostic of our own for the exporter's log. severity: OpenTelemetry number (9 info, 13 warn, 17 error). */
void span_log(uint8_t severity, const char *text);

/* A fact about a runtime (ring.h) for as long as the process lives, and for its forked children: whichever ring there is shows it. why_not
 * NULL or "": its context is exact. The same fact again changes nothing. Texts are cut to fit. False: it was known, or there is no room. */
bool span_runtime(const char *name, const char *version, const char *why_not);

/* One more of a counter of ring.h. Relaxed; before there is a ring it is kept and added later. */
void span_count(enum otshim_counter counter);

/* In flight: claims a slot and draws the span into it, from rec (ids, kind, protocol, parent rule, start, addresses: nothing else of it is
 * looked at) and its names, as far as there are any (NULL/0). Returns the slot's handle, 0 when none is free (counted). inflight_name draws
 * again what a head can change: all but kind, start and addresses. A handle stays good across a change of ring. */
struct inflight_names {
    const char *method, *target, *host;
    size_t method_len, target_len, host_len;
};
uint32_t inflight_begin(const struct otshim_span_rec *rec, const struct inflight_names *names);
void inflight_name(uint32_t handle, const struct otshim_span_rec *rec, const struct inflight_names *names);
void inflight_end(uint32_t handle, const uint8_t span_id[8]);

/* Cheap look after a wait (epoll_wait, poll, accept returned): if unread records lie in the ring and the exporter's heartbeat has
 * stopped, tries the hand-over (rate-limited). Two loads when there is nothing to do. */
void span_tick(void);

/* The call site: up to OTSHIM_STACK_MAX return addresses by libgcc_s (dlopen'ed by stack_prepare, never linked), innermost first, our
 * own frames skipped. 0 if there is no libgcc_s or OTSHIM_STACK_THRESHOLD=off. stack_wanted: is a call site worth it for such a call?
 * stack_prepare is called at the first connect() or listen(), where dlopen does no harm; not async-signal-safe. */
void stack_prepare(void);
bool stack_wanted(uint64_t duration_ns, bool failed);
size_t stack_capture(uint64_t *addresses, size_t max);

/* The process is about to end in an orderly way or to exec: hands the ring over if nobody has it, marks it closed (exec), or takes that
 * back (exec failed). */
void span_at_exit(void);
void span_before_exec(void);
void span_exec_failed(void);

/* After fork, in the child: a ring of its own at its first record; the parent's spans stay the parent's. Registered by init.c; the
 * page behind it is also wiped by the kernel (MADV_WIPEONFORK), for forks that bypass libc. */
void span_after_fork(void);

#endif
