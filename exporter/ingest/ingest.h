/* ingest.h - from the Unix socket to raw records: the hello, the rings, the table of processes.
 *
 * ingest knows bytes, pids and memory; it hands each checked record, with the process it came from, to trace/ and knows nothing of
 * what becomes of it. A ring's tail moves when every record before it has been settled (receipt.c), or when the ring is more than half
 * full and the records are at least in our memory - so that a killed exporter's successor finds what was not yet safe, and a long
 * outage of the backend does not make the producers drop while we still have room. */
#ifndef OTSHIM_EXPORTER_INGEST_H
#define OTSHIM_EXPORTER_INGEST_H

#include "config/config.h"
#include "trace/model.h"
#include <event2/event.h>
#include <otshim/record.h>
#include <sys/types.h>

/* What the library found out about a runtime in the process (struct otshim_runtime), copied and terminated. */
struct process_runtime {
    char name[24];
    char version[40];
    char why_not[184]; /* "": its own contexts are read, so that each call's request is exact */
};

/* A traced process, as far as anybody outside ingest/ may see it. */
struct process {
    pid_t pid;         /* in our pid namespace (SO_PEERCRED) */
    uint32_t peer_pid; /* in its own */
    uid_t uid;
    uint64_t start_ticks; /* /proc/PID/stat field 22; 0 unknown: tells a reused pid */
    uint64_t connected_unix_ns;
    bool alive;
    char *executable; /* path, "" unknown */
    char *cmdline;    /* argv joined by NUL; cmdline_len */
    size_t cmdline_len;
    struct resource *resource;
    int64_t clock_offset_ns; /* wall clock = record's CLOCK_MONOTONIC + this */
    uint64_t counters[32];   /* enum otshim_counter, last seen */
    uint64_t ring_bytes, ring_used;
    unsigned inflight;
    struct process_runtime runtimes[OTSHIM_RUNTIMES]; /* one of a name */
    unsigned runtime_count;
    char note[160]; /* the last OTSHIM_HELLO_RUNTIME_NOTE, "" if none */
};

/* What trace/ provides to ingest: called for each checked record (a private copy: rec and attrs stay valid during the call). */
struct record_sink {
    /* attrs: rec->attr_bytes bytes, already checked to be well-formed. receipt may be NULL; otherwise this call is owed exactly one
     * receipt_settle(receipt), now or later, also when no span came of the record. */
    void (*span)(void *self, const struct process *process, const struct otshim_span_rec *rec, const uint8_t *attrs,
                 struct receipt *receipt);
    void (*log)(void *self, const struct process *process, const struct otshim_log_rec *rec, const uint8_t *attrs);
    /* The process died with this exchange in flight: the only trace of it that there will be. slot is a private copy whose lengths and
     * enums are checked; end_mono_ns is on the clock of the record's times. May be NULL. */
    void (*inflight_died)(void *self, const struct process *process, const struct otshim_inflight *slot, uint64_t end_mono_ns);
    /* A process said hello; it leaves the table (ended and read to the end, or moved to another image). May be NULL. */
    void (*process_seen)(void *self, const struct process *process);
    void (*process_gone)(void *self, const struct process *process);
    void *self;
};

struct ingest;

/* Binds and listens on config->socket_path. NULL on failure, with one line in why (which thing, cause, remedy; a second exporter is
 * named by pid). */
struct ingest *ingest_start(struct event_base *base, const struct exporter_config *config, struct record_sink sink, char *why,
                            size_t why_size);
/* Reads everything that is in the rings now. */
void ingest_drain(struct ingest *ingest);
/* Stops listening, unlinks the socket, unmaps. Tails stand at what was settled before this call; receipts that are settled after it move
 * nothing, so that a successor reads those records again: call it before the deliverer gives up what it could not send. */
void ingest_stop(struct ingest *ingest);
/* For status, /metrics and requests in progress. Brings counters, ring_used and inflight up to date first. */
void ingest_each_process(struct ingest *ingest, void (*visit)(void *arg, const struct process *process), void *arg);
/* Every exchange in flight now; slots as in inflight_died. */
void ingest_each_inflight(struct ingest *ingest,
                          void (*visit)(void *arg, const struct process *process, const struct otshim_inflight *slot), void *arg);

#endif
