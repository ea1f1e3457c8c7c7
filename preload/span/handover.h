/* handover.h - giving the ring to an exporter, again and again if need be. See handover.c for how. */
#ifndef OTSHIM_SPAN_HANDOVER_H
#define OTSHIM_SPAN_HANDOVER_H

#include "span/identity.h"

/* There is no ring: makes one, and hands it over if an exporter answers. False: no memory. now: CLOCK_MONOTONIC. */
bool handover_first(uint64_t now);

/* Should handover_try() be called? Asked by whoever is inside `ring`; it has to leave the ring before it calls. `now` may be a little
 * old. A handful of loads. */
bool handover_due(struct ring *ring, uint64_t now);
/* Finishes a hand-over that is still waiting for a writer, or begins one. Try only: returns at once if another thread is at it. */
void handover_try(uint64_t now);
/* The process ends or execs: tries once more, unless somebody has the ring. */
void handover_last(uint64_t now);

/* span.c: handover_first(), and says what could not be said before. */
bool span_first_ring(uint64_t now);
/* inflight.c: copies the picture of what is in flight from a ring to its successor. */
void inflight_move(const struct ring *from, const struct ring *to);
/* runtimes.c: what is known of runtimes, into a ring that is published (or entered). */
void runtimes_draw(struct ring *ring);

#endif
