/* batch.c - see batch.h.
 *
 * How many spans go into a batch is guessed from their weights and checked on the encoded bytes: a batch that came out above the
 * hard limit is halved until it fits. Spans leave the queue only when the bytes are there. */
#include "deliver/batch.h"
#include "deliver/grpc.h"
#include "otlp/encode.h"
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

static size_t how_many(const struct queue *queue, const struct exporter_config *config)
{
    size_t n = 0;
    uint64_t weight = 0;
    while (n < queue->count && n < config->max_batch_spans) {
        weight += queue_weight(queue_at(queue, n)->span);
        if (weight > BATCH_BYTES_AIM && n > 0)
            break;
        n++;
    }
    return n;
}

bool batch_is_full(const struct queue *queue, const struct exporter_config *config)
{
    return queue->count >= config->max_batch_spans || queue->bytes >= BATCH_BYTES_AIM;
}

/* gzip of body after `headroom`; replaces body. On failure body stays as it was, and goes out uncompressed. */
static bool compress_body(uint8_t **body, size_t *len, size_t headroom)
{
    z_stream stream = {0};
    /* The fastest level: names and keys repeat from span to span, which any level finds. */
    if (deflateInit2(&stream, Z_BEST_SPEED, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK)
        return false;
    size_t bound = deflateBound(&stream, *len - headroom);
    uint8_t *out = malloc(headroom + bound);
    stream.next_in = *body + headroom;
    stream.avail_in = (uInt)(*len - headroom);
    stream.next_out = out ? out + headroom : NULL;
    stream.avail_out = (uInt)bound;
    bool done = out && deflate(&stream, Z_FINISH) == Z_STREAM_END;
    size_t packed = bound - stream.avail_out;
    deflateEnd(&stream);
    if (!done) {
        free(out);
        return false;
    }
    free(*body);
    *body = out;
    *len = headroom + packed;
    return true;
}

/* Content-Encoding is among the fixed headers, so HTTP has no way out when compressing fails; gRPC has a flag in each frame. */
static bool finish_body(struct batch *batch, const struct exporter_config *config)
{
    size_t headroom = config->protocol == OTLP_GRPC ? GRPC_FRAME_HEADER : 0;
    bool compressed = config->gzip && compress_body(&batch->body, &batch->body_len, headroom);
    if (config->protocol == OTLP_GRPC)
        grpc_frame_header(batch->body, (uint32_t)(batch->body_len - headroom), compressed);
    return compressed || !config->gzip || config->protocol == OTLP_GRPC;
}

void batch_free(struct batch *batch)
{
    if (!batch)
        return;
    for (size_t i = 0; i < batch->count; i++)
        span_unref(batch->spans[i]);
    free(batch->spans);
    free(batch->body);
    free(batch);
}

static struct batch *batch_new(size_t n)
{
    struct batch *batch = calloc(1, sizeof(*batch));
    if (batch)
        batch->spans = calloc(n, sizeof(struct span *));
    if (batch && !batch->spans) {
        free(batch);
        return NULL;
    }
    return batch;
}

enum batch_result batch_make(struct queue *queue, const struct exporter_config *config, struct batch **made,
                             struct span **too_large)
{
    size_t n = how_many(queue, config), headroom = config->protocol == OTLP_GRPC ? GRPC_FRAME_HEADER : 0;
    if (n == 0)
        return BATCH_EMPTY;
    struct batch *batch = batch_new(n);
    if (!batch)
        return BATCH_NO_MEMORY;
    for (size_t i = 0; i < n; i++)
        batch->spans[i] = queue_at(queue, i)->span;
    for (;;) {
        batch->body = otlp_encode(batch->spans, n, headroom, &batch->body_len);
        if (!batch->body) {
            batch_free(batch); /* count is 0: the references are still the queue's */
            return BATCH_NO_MEMORY;
        }
        if (batch->body_len < BATCH_BYTES_MAX)
            break;
        free(batch->body);
        batch->body = NULL;
        if (n == 1) {
            batch_free(batch);
            *too_large = queue_pop(queue);
            return BATCH_TOO_LARGE;
        }
        n /= 2;
    }
    if (!finish_body(batch, config)) {
        batch_free(batch);
        return BATCH_NO_MEMORY;
    }
    for (size_t i = 0; i < n; i++) {
        batch->weight += queue_weight(batch->spans[i]);
        queue_pop(queue);
    }
    batch->count = n;
    *made = batch;
    return BATCH_MADE;
}
