/* pump.h - one pass over one process's ring: records out of shared memory, checked, into the sink; receipts; who died in mid-record. */
#ifndef OTSHIM_INGEST_PUMP_H
#define OTSHIM_INGEST_PUMP_H

#include "ingest/tracee.h"

#define PUMP_CHUNK_RECORDS 64
#define PUMP_STALL_NS 5000000000ull /* a living, running producer that does not commit for so long has jumped away */

enum pump_end {
    PUMP_EMPTY,   /* all read */
    PUMP_MORE,    /* the budget is used up */
    PUMP_STALLED, /* waits for a producer */
    PUMP_HOSTILE
};

struct pump_result {
    enum pump_end end;
    uint64_t bytes; /* read */
};

/* budget: records (and steps) at most. */
struct pump_result pump_run(struct tracee *tracee, const struct record_sink *sink, uint64_t now_ns, unsigned budget);
/* Reads up to where head is now, however much that is. */
void pump_drain(struct tracee *tracee, const struct record_sink *sink, uint64_t now_ns);
/* Exchanges that the dead process had in flight, except those whose span was read. Returns how many. */
unsigned pump_inflight_died(struct tracee *tracee, const struct record_sink *sink, uint64_t now_ns);

#endif
