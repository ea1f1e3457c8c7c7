/* retry.h - what an answer means for the spans that were sent, and when to try again: the arithmetic of the OTLP specification
 * (sections "OTLP/gRPC Throttling", "OTLP/HTTP Response", "All Other Responses"), without clocks and without a network. */
#ifndef OTSHIM_EXPORTER_DELIVER_RETRY_H
#define OTSHIM_EXPORTER_DELIVER_RETRY_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

enum outcome {
    OUTCOME_ACCEPTED, /* taken; .rejected of the spans were not (partial success), which is never retried */
    OUTCOME_RETRY,    /* not now: send the same bytes again later */
    OUTCOME_REFUSED,  /* not ever */
};

struct verdict {
    enum outcome outcome;
    int code;               /* equal codes are the same trouble: it is said once (outage.c) */
    int64_t retry_after_ms; /* OUTCOME_RETRY: the backend's own word for when, -1 if it said none */
    int64_t rejected;       /* OUTCOME_ACCEPTED: spans rejected by a partial success */
    char words[512];        /* what happened, for a person; for OUTCOME_ACCEPTED the backend's message, "" if none */
    const char *remedy;     /* what to do about it; NULL where we know nothing better than to wait. static */
};

#define RETRY_FIRST_MS 1000u
#define RETRY_MOST_MS 30000u
#define RETRY_AFTER_MOST_MS (3600u * 1000u) /* a backend that says "next year" means "not soon" */

/* How long to wait after the attempt-th failure in a row (1, 2, ...): 1 s growing by half each time, with jitter of up to one half in either
 * direction so that exporters that failed together do not come back together. random: 0 <= random < 1. At most RETRY_MOST_MS. */
uint64_t retry_backoff_ms(unsigned attempt, double random);

/* Retry-After (RFC 9110 section 10.2.3) as milliseconds from now: delay-seconds or an HTTP-date; a date in the past is 0. -1 if it is
 * neither. At most RETRY_AFTER_MOST_MS. */
int64_t retry_after_ms(const char *value, time_t now);

/* May a request that was answered so be sent again? gRPC: RESOURCE_EXHAUSTED only where the backend says when (RetryInfo). */
bool retry_grpc(int grpc_status, bool has_retry_info);
bool retry_http(long http_status);

#endif
