/* queue.h - finished spans that wait to be sent: first in, first out, bounded in number and bytes. */
#ifndef OTSHIM_EXPORTER_DELIVER_QUEUE_H
#define OTSHIM_EXPORTER_DELIVER_QUEUE_H

#include "trace/model.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define QUEUE_BYTES_MAX (64u * 1024 * 1024)

struct queue {
    struct queued {
        struct span *span; /* a reference */
        uint64_t since_ms; /* CLOCK_MONOTONIC */
    } * items;             /* a circle of `size`, which grows up to max_spans */
    size_t size, first, count;
    uint64_t bytes; /* sum of queue_weight */
    size_t max_spans;
};

void queue_init(struct queue *queue, size_t max_spans);
/* The queue must be empty. */
void queue_free(struct queue *queue);

/* What a span counts for: its encoded size, roughly. */
size_t queue_weight(const struct span *span);

/* Takes a reference. false: full, or no memory. */
bool queue_push(struct queue *queue, struct span *span, uint64_t now_ms);
/* The oldest, with the queue's reference; NULL when empty. */
struct span *queue_pop(struct queue *queue);
/* The i-th oldest, i < count. */
const struct queued *queue_at(const struct queue *queue, size_t i);

#endif
