/* inflight.h - reads a process's table of requests in flight (ring.h) into private, checked copies. */
#ifndef OTSHIM_INGEST_INFLIGHT_H
#define OTSHIM_INGEST_INFLIGHT_H

#include "ingest/memory.h"
#include <stdbool.h>

/* Slots in use now: one load each. */
unsigned inflight_count(const struct memory *memory);
/* Calls visit for each slot that is consistent and makes sense. Returns how many were visited. */
unsigned inflight_each(const struct memory *memory, void (*visit)(void *arg, const struct otshim_inflight *slot), void *arg);
/* Is this private copy one that a library can have written? Lengths and enums. */
bool inflight_valid(const struct otshim_inflight *slot);

#endif
