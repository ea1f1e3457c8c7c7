/* counters.c - the names of the library's counters: see counters.h. */
#include "metrics/counters.h"

#include "ingest/ingest.h"
#include "metrics/stats.h"
#include <string.h>

const struct counter_name counter_names[OTSHIM_COUNTERS] = {
    [OTSHIM_COUNT_SPANS] = {"spans", "spans written", false},
    [OTSHIM_COUNT_DROPPED_FULL] = {"ring_full", "records lost: the ring was full (a larger OTSHIM_BUFFER_SIZE gives more room)",
                                   true},
    [OTSHIM_COUNT_INFLIGHT_FULL] = {"inflight_full", "spans not shown while in progress: more than fit the table", false},
    [OTSHIM_COUNT_CONN_POOL_FULL] = {"connection_pool_full", "connections not watched: too many at once", true},
    [OTSHIM_COUNT_EXCHANGE_FULL] = {"exchange_full", "requests not watched: too many at once", true},
    [OTSHIM_COUNT_CONN_BUSY] = {"connection_busy", "connections given up: used by two threads at the same moment", true},
    [OTSHIM_COUNT_CONN_LOST] = {"protocol_lost", "connections given up: their bytes stopped being the protocol they began with",
                                true},
    [OTSHIM_COUNT_CONN_UPGRADED] =
        {"upgraded", "connections that went on as something else (WebSocket, CONNECT, Redis' SUBSCRIBE): not read further", false},
    [OTSHIM_COUNT_CONN_UNKNOWN] = {"protocol_unknown", "connections of a protocol that is not known", false},
    [OTSHIM_COUNT_NOT_INJECTED] = {"not_injected", "outbound requests that could carry no traceparent", true},
    [OTSHIM_COUNT_TRACESTATE_LOST] = {"tracestate_lost", "tracestate headers not passed on", true},
    [OTSHIM_COUNT_FD_ABOVE_TABLE] = {"descriptor_too_high", "connections not watched: their descriptor is too high", true},
    [OTSHIM_COUNT_ATTACHES] = {"attaches", "times a ring was handed to an exporter", false},
};

static void add_process(void *arg, const struct process *process)
{
    uint64_t *totals = arg;
    for (size_t i = 0; i < 32; i++)
        totals[i] += process->counters[i];
}

void counters_total(struct ingest *ingest, uint64_t totals[32])
{
    memcpy(totals, stats.process_counters_dead, sizeof(stats.process_counters_dead));
    ingest_each_process(ingest, add_process, totals);
}
