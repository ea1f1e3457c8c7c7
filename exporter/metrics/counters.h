/* counters.h - what the library in the traced processes counts (enum otshim_counter), with a name for machines and words for people. */
#ifndef OTSHIM_EXPORTER_COUNTERS_H
#define OTSHIM_EXPORTER_COUNTERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ingest;

struct counter_name {
    const char *name;  /* a metric's label, a key of /api/status */
    const char *words; /* what it means, for `otshim status` */
    bool is_loss;      /* a span or a part of one was lost */
};

/* By enum otshim_counter; OTSHIM_COUNTERS entries. */
extern const struct counter_name counter_names[];

/* Sums over the processes that live and those that have ended. */
void counters_total(struct ingest *ingest, uint64_t totals[32]);

#endif
