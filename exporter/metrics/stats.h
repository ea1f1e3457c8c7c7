/* stats.h - the exporter's own counters: what came in, what went out, what was lost and why. One thread, plain integers.
 *
 * Shown by `otshim status`, and on /metrics under the names in the comments. */
#ifndef OTSHIM_EXPORTER_STATS_H
#define OTSHIM_EXPORTER_STATS_H

#include <stdint.h>

struct stats {
    uint64_t start_unix_ns;
    uint64_t spans_received;            /* otshim_exporter_spans_received_total */
    uint64_t records_invalid;           /* otshim_exporter_records_invalid_total: refused by the ring reader */
    uint64_t records_abandoned;         /* otshim_exporter_records_abandoned_total: reserved and never committed */
    uint64_t hellos_accepted;           /* otshim_exporter_hellos_total{result="accepted"} */
    uint64_t hellos_refused;            /* ...{result="refused"} */
    uint64_t spans_exported;            /* otshim_exporter_spans_exported_total */
    uint64_t spans_unsampled;           /* otshim_exporter_spans_unsampled_total */
    uint64_t spans_dropped_queue;       /* otshim_exporter_spans_dropped_total{reason="queue_full"} */
    uint64_t spans_dropped_refused;     /* ...{reason="refused"}: the backend said no for good */
    uint64_t spans_dropped_partial;     /* ...{reason="partial_success"}: rejected by the backend inside a success */
    uint64_t spans_dropped_expired;     /* ...{reason="retry_deadline"} */
    uint64_t spans_dropped_shutdown;    /* ...{reason="shutdown"} */
    uint64_t export_requests;           /* otshim_exporter_export_requests_total */
    uint64_t export_retries;            /* otshim_exporter_export_retries_total */
    uint64_t export_failures;           /* otshim_exporter_export_failures_total: attempts that failed */
    uint64_t queue_spans;               /* otshim_exporter_queue_spans (gauge) */
    uint64_t queue_bytes;               /* otshim_exporter_queue_bytes (gauge) */
    uint64_t last_export_unix_ns;       /* last success; 0: none yet */
    uint64_t last_error_unix_ns;        /* 0: none yet */
    char last_error[256];               /* in words, "" if none */
    uint64_t process_counters_dead[32]; /* enum otshim_counter, sums over processes that have ended */
};

extern struct stats stats;

#endif
