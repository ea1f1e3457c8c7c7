/* queue.c - see queue.h. */
#include "deliver/queue.h"
#include <stdlib.h>
#include <string.h>

#define QUEUE_FIRST_SIZE 1024u

void queue_init(struct queue *queue, size_t max_spans)
{
    memset(queue, 0, sizeof(*queue));
    queue->max_spans = max_spans;
}

void queue_free(struct queue *queue)
{
    free(queue->items);
    memset(queue, 0, sizeof(*queue));
}

size_t queue_weight(const struct span *span)
{
    return span->size_hint > 64 ? span->size_hint : 64;
}

const struct queued *queue_at(const struct queue *queue, size_t i)
{
    return &queue->items[(queue->first + i) % queue->size];
}

static bool grow(struct queue *queue)
{
    size_t size = queue->size ? queue->size * 2 : QUEUE_FIRST_SIZE;
    if (size > queue->max_spans)
        size = queue->max_spans;
    struct queued *items = calloc(size, sizeof(*items));
    if (!items)
        return false;
    for (size_t i = 0; i < queue->count; i++)
        items[i] = *queue_at(queue, i);
    free(queue->items);
    queue->items = items;
    queue->size = size;
    queue->first = 0;
    return true;
}

bool queue_push(struct queue *queue, struct span *span, uint64_t now_ms)
{
    size_t weight = queue_weight(span);
    if (queue->count >= queue->max_spans || queue->bytes + weight > QUEUE_BYTES_MAX)
        return false;
    if (queue->count == queue->size && !grow(queue))
        return false;
    queue->items[(queue->first + queue->count) % queue->size] = (struct queued){.span = span_ref(span), .since_ms = now_ms};
    queue->count++;
    queue->bytes += weight;
    return true;
}

struct span *queue_pop(struct queue *queue)
{
    if (queue->count == 0)
        return NULL;
    struct span *span = queue->items[queue->first].span;
    queue->first = (queue->first + 1) % queue->size;
    queue->count--;
    queue->bytes -= queue_weight(span);
    return span;
}
