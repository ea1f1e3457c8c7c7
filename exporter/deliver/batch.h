/* batch.h - spans that are sent as one request, with its bytes, which stay the same from try to try. */
#ifndef OTSHIM_EXPORTER_DELIVER_BATCH_H
#define OTSHIM_EXPORTER_DELIVER_BATCH_H

#include "config/config.h"
#include "deliver/queue.h"

#define BATCH_BYTES_AIM (1024u * 1024)     /* a batch is closed when the spans in it weigh this much */
#define BATCH_BYTES_MAX (4u * 1024 * 1024) /* never more, uncompressed and framed: what a gRPC server takes unless told otherwise */

struct batch {
    struct span **spans; /* references */
    size_t count;
    uint64_t weight; /* sum of queue_weight */
    uint8_t *body;
    size_t body_len;

    /* deliver.c's: */
    unsigned attempts; /* that failed */
    bool in_flight;
    uint64_t next_try_ms; /* not before */
    uint64_t deadline_ms; /* UINT64_MAX: never given up */
};

enum batch_result {
    BATCH_MADE,
    BATCH_EMPTY,     /* nothing is queued */
    BATCH_TOO_LARGE, /* *too_large, taken off the queue with its reference, cannot be sent: it alone is larger than BATCH_BYTES_MAX */
    BATCH_NO_MEMORY, /* the spans are still queued: try later */
};

/* Takes spans off the queue, oldest first, and encodes them. *batch: to be given to batch_free. */
enum batch_result batch_make(struct queue *queue, const struct exporter_config *config, struct batch **batch,
                             struct span **too_large);
/* Would batch_make find a full batch? */
bool batch_is_full(const struct queue *queue, const struct exporter_config *config);
/* Gives the references back. */
void batch_free(struct batch *batch);

#endif
