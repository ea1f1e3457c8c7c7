/* seen.h - which spans of a process have been read: their ids, for as many as fit into its ring.
 *
 * One span can stand in two places. A process that finds its exporter silent moves what was not released to a new ring (OTSHIM_REC_MOVED);
 * if the exporter was not dead but stopped, it has read part of that already. And a process that is killed between writing a span and
 * freeing its in-flight slot shows it in both. So the rings of one process share one log. */
#ifndef OTSHIM_INGEST_SEEN_H
#define OTSHIM_INGEST_SEEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct seen {
    unsigned refs;
    size_t size, next, cursor;
    uint64_t ids[]; /* 0: none; a span id is never all zero */
};

/* For a ring of so many bytes. NULL without memory. Pages of it that are never used cost nothing. */
struct seen *seen_new(uint64_t ring_bytes);
struct seen *seen_ref(struct seen *seen);
void seen_unref(struct seen *seen);
void seen_add(struct seen *seen, const uint8_t span_id[8]);
bool seen_has(struct seen *seen, const uint8_t span_id[8]);

#endif
