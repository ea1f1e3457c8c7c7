/* receipt.h - which part of a ring is safe, and may be forgotten by its process.
 *
 * Records are read ahead of the ring's tail. Each run of records read, a chunk, has one receipt; every span made of them points to it and
 * settles it once, when the span is delivered (or stored, or given up and counted): receipt_settle, declared in trace/model.h. Spans
 * settle in any order, a ring's tail moves in one: it goes to the end of the last chunk before which nothing is unsettled.
 *
 * A receipt outlives its ring: when the ring goes, or when room in it matters more than a second copy of what we hold in memory
 * (receipt_release_oldest), the chunk leaves the queue, and its later settling moves nothing. */
#ifndef OTSHIM_INGEST_RECEIPT_H
#define OTSHIM_INGEST_RECEIPT_H

#include "trace/model.h"
#include <stdint.h>

struct receipt_queue {
    struct receipt *first, *last; /* oldest first; the open one, if any, is the last */
    uint64_t tail;                /* everything before this position is safe */
    void (*moved)(void *arg, uint64_t tail);
    void *arg;
};

void receipt_queue_init(struct receipt_queue *queue, uint64_t tail, void (*moved)(void *arg, uint64_t tail), void *arg);

/* The open chunk's receipt, owed one more settlement; NULL without memory (the record then counts as safe once it is read). */
struct receipt *receipt_take(struct receipt_queue *queue);
/* Records up to position `end` have been read: closes the open chunk there. Records that made no span are covered as well. */
void receipt_close(struct receipt_queue *queue, uint64_t end);
/* Lets go of the oldest closed chunks until the tail is at `position` or beyond. */
void receipt_release_oldest(struct receipt_queue *queue, uint64_t position);
/* The ring goes away: what is still unsettled settles later, and moves nothing. */
void receipt_queue_detach(struct receipt_queue *queue);

#endif
