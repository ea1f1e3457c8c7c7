/* outage.h - what the log says of trouble with the backend: one line when it begins, one when it is over; never one an attempt.
 *
 * A backend that limits the rate fails and recovers all day. Trouble that comes back within OUTAGE_QUIET_MS of its last line is
 * therefore not said again until that time is over, unless it is trouble of another kind. stats.last_error is always up to date. */
#ifndef OTSHIM_EXPORTER_DELIVER_OUTAGE_H
#define OTSHIM_EXPORTER_DELIVER_OUTAGE_H

#include "deliver/retry.h"
#include <stddef.h>
#include <stdint.h>

#define OUTAGE_QUIET_MS 60000u

struct outage {
    bool on;             /* the last attempt failed */
    bool said;           /* ... and the log knows */
    int code;            /* verdict.code of the last line */
    uint64_t since_ms;   /* CLOCK_MONOTONIC */
    uint64_t line_ms;    /* when the last line was written; 0: never */
    uint64_t lost_start; /* outage_lost() when it began */
    uint64_t lost_said;  /* ... and when the last line was written */
    bool queue_full;     /* ... and has been since the last outage_queue_room */
    uint64_t queue_full_line_ms;
    struct {
        uint64_t line_ms, rejected, requests; /* since the last line */
    } partial;
};

/* An attempt failed. waiting: spans that wait, this attempt's among them unless it was refused; next_ms: until the next try. */
void outage_failed(struct outage *outage, const struct verdict *verdict, uint64_t now_ms, uint64_t waiting, uint64_t refused_spans,
                   uint64_t next_ms);
/* An attempt succeeded. */
void outage_over(struct outage *outage, const char *where, uint64_t now_ms, uint64_t waiting);
/* A span was dropped because the queue is full. */
void outage_queue_full(struct outage *outage, size_t max_spans, uint64_t now_ms);
/* The queue is half empty again: the next time that it is full is news. */
void outage_queue_room(struct outage *outage);
/* A success of which spans were rejected (or that came with a warning: rejected 0). */
void outage_partial(struct outage *outage, const char *where, const struct verdict *verdict, uint64_t now_ms);

/* The end: what is left over and what was lost in all, if anything was. */
void outage_sum(const char *where);

/* Spans lost so far, for whatever reason, from stats. */
uint64_t outage_lost(void);

/* "1,203 spans", "1 span"; "4 s", "3 min 12 s", "2 h 5 min". Into the caller's buffer, which is returned. */
const char *outage_spans(char to[40], uint64_t spans);
const char *outage_duration(char to[40], uint64_t ms);

#endif
