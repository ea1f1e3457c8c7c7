/* store.h - the last N traces in memory, for /api/traces, `otshim traces` and the waterfalls of `otshim run`. */
#ifndef OTSHIM_EXPORTER_STORE_H
#define OTSHIM_EXPORTER_STORE_H

#include "trace/model.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STORE_SPANS_PER_TRACE 10000 /* more are counted, not kept */

struct stored_trace {
    uint8_t trace_id[16];
    struct span **spans; /* in order of arrival; references */
    size_t span_count;
    size_t spans_left_out;
    uint64_t start_unix_ns, end_unix_ns; /* over its spans */
    uint64_t changed_mono_ns;            /* when the last span arrived */
    uint64_t sequence;                   /* grows with each change: a poller asks for what changed since */
    bool has_error;
    const struct span *root; /* the span without a parent, else the earliest whose parent is not here */
};

struct store;
struct store *store_new(size_t max_traces);
void store_free(struct store *store);
struct span_sink store_sink(struct store *store, bool settles_receipts);
const struct stored_trace *store_find(const struct store *store, const uint8_t trace_id[16]);

struct store_filter {
    const char *service;      /* NULL: any; else some span's service.name */
    uint64_t min_duration_ns; /* of the whole trace */
    bool errors_only;
    uint64_t since_sequence; /* only traces changed after it */
    size_t limit;            /* 0: all */
};
/* Newest start first. */
void store_each(const struct store *store, const struct store_filter *filter,
                void (*visit)(void *arg, const struct stored_trace *trace), void *arg);
uint64_t store_sequence(const struct store *store);

#endif
