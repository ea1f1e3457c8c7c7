/* tracee.h - one traced process as ingest/ holds it: what others may see (struct process), its memory, how far it is read, whether it lives.
 *
 * Really one ring of a process: after exec there are two for a while, the old image's (closed) and the new one's. */
#ifndef OTSHIM_INGEST_TRACEE_H
#define OTSHIM_INGEST_TRACEE_H

#include "ingest/arrival.h"
#include "ingest/ingest.h"
#include "ingest/memory.h"
#include "ingest/receipt.h"
#include "ingest/ring_reader.h"
#include "ingest/seen.h"
#include <event2/event.h>

struct tracee {
    struct process process; /* first: what the sink sees */
    struct tracee *next, *prev;
    struct ingest *owner;
    struct memory memory;
    struct ring_reader reader;
    struct receipt_queue receipts;

    int pidfd; /* -1: none */
    struct event *death;
    bool same_pid_namespace; /* its thread ids mean something to us */
    int64_t clock_delta_ns;  /* other time namespace */

    /* A reservation that is not committed: where, since when, how far reservations went then. */
    struct {
        bool on;
        uint64_t pos, head, since_ns, looked_ns;
    } stall;

    uint64_t closed_since_ns;            /* 0: open */
    uint64_t head_seen, head_changed_ns; /* for processes whose death we cannot see */
    uint64_t dropped_said;               /* OTSHIM_COUNT_DROPPED_FULL as last said in the log */
    bool hostile_said;

    struct seen *seen; /* shared by all rings of the process */
};

/* Maps the memory and fills everything in; takes peer->pidfd (also on failure). NULL with *why. */
/* elder: another ring of the same process, or NULL. */
struct tracee *tracee_new(const struct arrival_peer *peer, const struct hello *hello, int memfd, int64_t offset_ns,
                          const struct tracee *elder, const char **why);
void tracee_free(struct tracee *tracee); /* unmaps; receipts still owed move nothing any more */

/* Takes note of a further hello of the same memory. */
void tracee_again(struct tracee *tracee, const struct arrival_peer *peer, const struct hello *hello, int64_t offset_ns);

void tracee_set_clock(struct tracee *tracee, int64_t offset_ns);
/* Copies counters and fill level from the shared header to process. */
void tracee_refresh(struct tracee *tracee);
bool tracee_is_closed(const struct tracee *tracee);
/* For a process without pidfd: what /proc says. */
bool tracee_seems_dead(const struct tracee *tracee);
/* A word for log lines: the executable's path, or "a process". */
const char *tracee_name(const struct tracee *tracee);

enum tracee_thread { THREAD_GONE, THREAD_STOPPED, THREAD_RUNS, THREAD_UNKNOWN };
/* tid 0: the process as a whole. */
enum tracee_thread tracee_thread(const struct tracee *tracee, uint32_t tid);

#endif
