/* receipt.c - see receipt.h. One thread; counts are plain.
 *
 * A receipt is freed when it has left its queue and nobody owes it anything. It leaves the queue at the front only, so that the tail
 * never passes an unsettled record unless it is told to. */
#include "ingest/receipt.h"
#include <stdbool.h>
#include <stdlib.h>

struct receipt {
    struct receipt_queue *queue; /* NULL: has left it */
    struct receipt *next;
    uint64_t end; /* valid when closed */
    unsigned unsettled;
    bool closed;
};

void receipt_queue_init(struct receipt_queue *queue, uint64_t tail, void (*moved)(void *arg, uint64_t tail), void *arg)
{
    *queue = (struct receipt_queue){.tail = tail, .moved = moved, .arg = arg};
}

static struct receipt *receipt_open(struct receipt_queue *queue)
{
    struct receipt *receipt;

    if (queue->last != NULL && !queue->last->closed)
        return queue->last;
    receipt = calloc(1, sizeof *receipt);
    if (receipt == NULL)
        return NULL;
    receipt->queue = queue;
    if (queue->last != NULL)
        queue->last->next = receipt;
    else
        queue->first = receipt;
    queue->last = receipt;
    return receipt;
}

struct receipt *receipt_take(struct receipt_queue *queue)
{
    struct receipt *receipt = receipt_open(queue);

    if (receipt != NULL)
        receipt->unsettled++;
    return receipt;
}

static void receipt_pop(struct receipt_queue *queue)
{
    struct receipt *receipt = queue->first;

    queue->first = receipt->next;
    if (queue->first == NULL)
        queue->last = NULL;
    receipt->queue = NULL;
    receipt->next = NULL;
    if (receipt->unsettled == 0)
        free(receipt);
}

static void receipt_set_tail(struct receipt_queue *queue, uint64_t tail)
{
    if (tail == queue->tail)
        return;
    queue->tail = tail;
    queue->moved(queue->arg, tail);
}

static void receipt_advance(struct receipt_queue *queue)
{
    uint64_t tail = queue->tail;

    while (queue->first != NULL && queue->first->closed && queue->first->unsettled == 0) {
        tail = queue->first->end;
        receipt_pop(queue);
    }
    receipt_set_tail(queue, tail);
}

void receipt_close(struct receipt_queue *queue, uint64_t end)
{
    struct receipt *receipt = queue->last;

    if (receipt == NULL) { /* nothing before it is owed anything */
        receipt_set_tail(queue, end);
        return;
    }
    /* A closed last chunk and new records without a span: they are safe as soon as that chunk is. */
    receipt->closed = true;
    receipt->end = end;
    receipt_advance(queue);
}

void receipt_release_oldest(struct receipt_queue *queue, uint64_t position)
{
    uint64_t tail = queue->tail;

    while (queue->first != NULL && queue->first->closed && tail < position) {
        tail = queue->first->end;
        receipt_pop(queue);
    }
    receipt_set_tail(queue, tail);
    receipt_advance(queue);
}

void receipt_queue_detach(struct receipt_queue *queue)
{
    while (queue->first != NULL)
        receipt_pop(queue);
}

void receipt_settle(struct receipt *receipt)
{
    if (receipt == NULL || receipt->unsettled == 0)
        return;
    receipt->unsettled--;
    if (receipt->unsettled > 0)
        return;
    if (receipt->queue != NULL)
        receipt_advance(receipt->queue);
    else
        free(receipt);
}
