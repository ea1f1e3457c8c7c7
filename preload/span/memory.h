/* memory.h - where rings live: a few address ranges that are used in turn.
 *
 * A ring that was replaced must stay mapped as long as anybody may still be inside. Its address range is taken again only when it was
 * seen quiet after it was unpublished (ring.h), by mapping the new memory over it; it is never unmapped. A range in which a thread
 * stays for ever (a signal handler that longjmp'ed out of a write) is simply not used again: there are MEMORY_SLOTS of them. */
#ifndef OTSHIM_SPAN_MEMORY_H
#define OTSHIM_SPAN_MEMORY_H

#include "span/ring.h"

#define MEMORY_SLOTS 8u

/* A ring over new private memory (memfd < 0) or over memfd, header written; ready to be published. NULL: none free, or no memory. */
struct ring *memory_make(int memfd, uint64_t data_bytes);
/* A quiet ring that is not published: its memory goes back to the kernel (the exporter's own mapping of it stays). */
void memory_drop(struct ring *ring);
/* A memfd of that size, sealed against shrinking and growing (close it by hello_close), or -errno. */
int memory_memfd(uint64_t data_bytes);

#endif
