/* deliver.c - from finished spans to a backend that has taken them: what is sent when, and what becomes of it.
 *
 *     span → queue → batch in one of TRANSPORT_IN_FLIGHT slots → accepted
 *                          ↑ waits and is sent again ↓         → refused, rejected or given up, and counted
 *
 * A batch keeps its slot until its fate is known, so that an outage holds TRANSPORT_IN_FLIGHT batches and everything else stays in the
 * bounded queue. While the backend fails, one request at a time asks whether it is back, and none before `gate_ms`; each batch has a
 * waiting time of its own besides, so that one that always fails does not hold up its neighbour.
 *
 * All of it runs in pump(), from the event loop: after an answer, at a time that pump itself set, or when a batch has become full. */
#include "deliver/deliver.h"
#include "deliver/batch.h"
#include "deliver/grpc.h"
#include "deliver/http.h"
#include "deliver/outage.h"
#include "deliver/queue.h"
#include "deliver/transport.h"
#include "deliver/verdict.h"
#include "log.h"
#include "metrics/stats.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

/* With SIGTERM's deadline running, nobody waits half a minute for the next try. */
#define FLUSH_BACKOFF_MS 1000u

struct slot {
    struct deliver *deliver;
    struct batch *batch; /* NULL: free */
    uint64_t sent_ms;
};

struct deliver {
    struct event_base *base;
    const struct exporter_config *config;
    struct transport *transport;
    struct queue queue;
    struct slot slots[TRANSPORT_IN_FLIGHT];
    struct event *pump_event; /* a timer; made active at once when a batch is full */
    uint64_t pump_ms;         /* when it comes; UINT64_MAX: it is not set */
    struct outage outage;
    unsigned failures; /* in a row, of attempts that may be repeated; 0: the backend is well */
    uint64_t last_failure_ms, gate_ms;
    bool flushing;
    struct event *flush_event;
    void (*flush_done)(void *arg);
    void *flush_arg;
};

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static double random_fraction(void)
{
    uint32_t bits = 0x80000000u;
    if (getrandom(&bits, sizeof(bits), GRND_NONBLOCK) != (ssize_t)sizeof(bits))
        bits = 0x80000000u;
    return bits / 4294967296.0;
}

/* ---- the fate of spans ---- */

static void span_settle(struct span *span)
{
    if (span->receipt)
        receipt_settle(span->receipt);
}

/* The batch's spans are safe, or lost and counted. */
static void slot_clear(struct slot *slot)
{
    struct batch *batch = slot->batch;
    slot->batch = NULL;
    stats.queue_spans -= batch->count;
    stats.queue_bytes -= batch->weight;
    for (size_t i = 0; i < batch->count; i++)
        span_settle(batch->spans[i]);
    batch_free(batch);
}

static void drop_too_large(struct deliver *deliver, struct span *span)
{
    static struct log_limit limit = {.every_s = 60};
    stats.spans_dropped_refused++;
    stats.queue_spans--;
    stats.queue_bytes -= queue_weight(span);
    log_limited(&limit, LOG_LEVEL_ERROR, "a span (%.100s) is larger than %u bytes, which %s would refuse: dropped", span->name,
                BATCH_BYTES_MAX, transport_where(deliver->transport));
    span_settle(span);
    span_unref(span);
}

static void accepted(struct deliver *deliver, struct slot *slot, struct verdict *verdict, uint64_t now)
{
    struct timespec wall;
    uint64_t count = slot->batch->count;
    if (verdict->rejected < 0)
        verdict->rejected = 0;
    if ((uint64_t)verdict->rejected > count)
        verdict->rejected = (int64_t)count;
    stats.spans_exported += count - (uint64_t)verdict->rejected;
    stats.spans_dropped_partial += (uint64_t)verdict->rejected;
    clock_gettime(CLOCK_REALTIME, &wall);
    stats.last_export_unix_ns = (uint64_t)wall.tv_sec * 1000000000u + (uint64_t)wall.tv_nsec;
    slot_clear(slot);
    deliver->failures = 0;
    deliver->gate_ms = 0;
    if (verdict->rejected || verdict->words[0])
        outage_partial(&deliver->outage, transport_where(deliver->transport), verdict, now);
    outage_over(&deliver->outage, transport_where(deliver->transport), now, stats.queue_spans);
    if (deliver->queue.count <= deliver->config->max_queue_spans / 2)
        outage_queue_room(&deliver->outage);
}

static void refused(struct deliver *deliver, struct slot *slot, const struct verdict *verdict, uint64_t now)
{
    uint64_t count = slot->batch->count;
    stats.export_failures++;
    stats.spans_dropped_refused += count;
    slot_clear(slot);
    /* It is there and it answers: the next batch may be luckier. */
    deliver->failures = 0;
    deliver->gate_ms = 0;
    outage_failed(&deliver->outage, verdict, now, stats.queue_spans, count, 0);
}

static void give_up(struct deliver *deliver, struct slot *slot)
{
    static struct log_limit limit = {.every_s = 60};
    char spans[40], duration[40];
    uint64_t count = slot->batch->count;
    stats.spans_dropped_expired += count;
    slot_clear(slot);
    log_limited(&limit, LOG_LEVEL_ERROR, "%s given up after %s without success (OTEL_BSP_EXPORT_TIMEOUT)",
                outage_spans(spans, count), outage_duration(duration, deliver->config->retry_deadline_ms));
}

static void try_later(struct deliver *deliver, struct slot *slot, const struct verdict *verdict, uint64_t now)
{
    struct batch *batch = slot->batch;
    uint64_t server_ms = verdict->retry_after_ms > 0 ? (uint64_t)verdict->retry_after_ms : 0;
    double random = random_fraction();
    stats.export_failures++;
    batch->attempts++;
    /* Two requests that fail together are one failure of the backend. */
    if (deliver->failures == 0 || slot->sent_ms >= deliver->last_failure_ms)
        deliver->failures++;
    deliver->last_failure_ms = now;
    uint64_t own_ms = retry_backoff_ms(batch->attempts, random), all_ms = retry_backoff_ms(deliver->failures, random);
    if (deliver->flushing && own_ms > FLUSH_BACKOFF_MS)
        own_ms = FLUSH_BACKOFF_MS;
    if (deliver->flushing && all_ms > FLUSH_BACKOFF_MS)
        all_ms = FLUSH_BACKOFF_MS;
    /* Its own word is a lower bound. */
    own_ms = own_ms > server_ms ? own_ms : server_ms;
    all_ms = all_ms > server_ms ? all_ms : server_ms;
    deliver->gate_ms = now + all_ms;
    bool expired = now >= batch->deadline_ms || (server_ms && now + server_ms > batch->deadline_ms);
    batch->next_try_ms = now + own_ms < batch->deadline_ms ? now + own_ms : batch->deadline_ms;
    outage_failed(&deliver->outage, verdict, now, stats.queue_spans, 0, own_ms > all_ms ? own_ms : all_ms);
    if (expired)
        give_up(deliver, slot);
}

static void judge(struct deliver *deliver, struct slot *slot, struct verdict *verdict)
{
    uint64_t now = now_ms();
    slot->batch->in_flight = false;
    switch (verdict->outcome) {
    case OUTCOME_ACCEPTED: accepted(deliver, slot, verdict, now); break;
    case OUTCOME_REFUSED: refused(deliver, slot, verdict, now); break;
    case OUTCOME_RETRY: try_later(deliver, slot, verdict, now); break;
    }
}

/* ---- what is sent when ---- */

static void pump(struct deliver *deliver);

static void on_answer(void *arg, const struct answer *answer)
{
    struct slot *slot = arg;
    struct deliver *deliver = slot->deliver;
    const char *where = transport_where(deliver->transport);
    struct verdict verdict;
    if (deliver->config->protocol == OTLP_GRPC)
        grpc_verdict(answer, where, &verdict);
    else
        http_verdict(answer, where, time(NULL), &verdict);
    judge(deliver, slot, &verdict);
    pump(deliver);
}

static void slot_send(struct deliver *deliver, struct slot *slot, uint64_t now)
{
    struct batch *batch = slot->batch;
    if (batch->attempts == 0)
        batch->deadline_ms = deliver->config->retry_deadline_ms ? now + deliver->config->retry_deadline_ms : UINT64_MAX;
    else
        stats.export_retries++;
    stats.export_requests++;
    slot->sent_ms = now;
    batch->in_flight = true;
    if (transport_send(deliver->transport, batch->body, batch->body_len, on_answer, slot) == 0)
        return;
    struct verdict verdict = {.outcome = OUTCOME_RETRY, .code = VERDICT_LOCAL, .retry_after_ms = -1};
    verdict_say(&verdict, "libcurl took no further request for %s", transport_where(deliver->transport));
    judge(deliver, slot, &verdict);
}

static unsigned in_flight(const struct deliver *deliver)
{
    unsigned n = 0;
    for (size_t i = 0; i < TRANSPORT_IN_FLIGHT; i++)
        n += deliver->slots[i].batch && deliver->slots[i].batch->in_flight;
    return n;
}

/* The waiting batch whose turn comes first; NULL if none waits. */
static struct slot *next_waiting(struct deliver *deliver)
{
    struct slot *first = NULL;
    for (size_t i = 0; i < TRANSPORT_IN_FLIGHT; i++) {
        struct slot *slot = &deliver->slots[i];
        if (slot->batch && !slot->batch->in_flight && (!first || slot->batch->next_try_ms < first->batch->next_try_ms))
            first = slot;
    }
    return first;
}

static struct slot *free_slot(struct deliver *deliver)
{
    for (size_t i = 0; i < TRANSPORT_IN_FLIGHT; i++)
        if (!deliver->slots[i].batch)
            return &deliver->slots[i];
    return NULL;
}

/* When the queue's oldest spans want to go, full batch or not; UINT64_MAX: there are none. */
static uint64_t queue_due_ms(const struct deliver *deliver)
{
    if (deliver->queue.count == 0)
        return UINT64_MAX;
    if (deliver->flushing || batch_is_full(&deliver->queue, deliver->config))
        return 0;
    return queue_at(&deliver->queue, 0)->since_ms + deliver->config->schedule_delay_ms;
}

/* Fills the slot from the queue. false: nothing to send. */
static bool slot_fill(struct deliver *deliver, struct slot *slot, uint64_t now)
{
    static struct log_limit limit = {.every_s = 60};
    struct span *too_large;
    for (;;) {
        switch (batch_make(&deliver->queue, deliver->config, &slot->batch, &too_large)) {
        case BATCH_MADE: return true;
        case BATCH_EMPTY: return false;
        case BATCH_TOO_LARGE: drop_too_large(deliver, too_large); break;
        case BATCH_NO_MEMORY:
            log_limited(&limit, LOG_LEVEL_ERROR, "no memory to encode spans: trying again in a second");
            deliver->gate_ms = now + 1000;
            return false;
        }
    }
}

/* The next thing to send at this moment, in its slot; NULL: nothing yet, and *wake_ms is when to look again. */
static struct slot *next_slot(struct deliver *deliver, uint64_t now, uint64_t *wake_ms)
{
    *wake_ms = UINT64_MAX;
    if (in_flight(deliver) >= (deliver->failures ? 1u : TRANSPORT_IN_FLIGHT))
        return NULL; /* the answer wakes us */
    struct slot *waiting = next_waiting(deliver), *empty = free_slot(deliver);
    uint64_t waiting_ms = waiting ? waiting->batch->next_try_ms : UINT64_MAX, queue_ms = empty ? queue_due_ms(deliver) : UINT64_MAX;
    uint64_t first_ms = waiting_ms <= queue_ms ? waiting_ms : queue_ms;
    if (first_ms < deliver->gate_ms)
        first_ms = deliver->gate_ms;
    if (first_ms > now) {
        *wake_ms = first_ms;
        return NULL;
    }
    /* What has not been tried yet goes first: should the waiting one be what the backend stumbles over, the rest gets past it. */
    if (queue_ms <= now && slot_fill(deliver, empty, now))
        return empty;
    if (waiting_ms <= now)
        return waiting;
    *wake_ms = deliver->queue.count ? deliver->gate_ms : UINT64_MAX;
    return NULL;
}

static void set_pump_timer(struct deliver *deliver, uint64_t now, uint64_t wake_ms)
{
    deliver->pump_ms = wake_ms;
    if (wake_ms == UINT64_MAX) {
        event_del(deliver->pump_event);
        return;
    }
    uint64_t wait = wake_ms > now ? wake_ms - now : 0;
    struct timeval timeval = {.tv_sec = (time_t)(wait / 1000), .tv_usec = (suseconds_t)(wait % 1000 * 1000)};
    event_add(deliver->pump_event, &timeval);
}

static void pump(struct deliver *deliver)
{
    uint64_t now = now_ms(), wake_ms;
    struct slot *slot;
    while ((slot = next_slot(deliver, now, &wake_ms)))
        slot_send(deliver, slot, now);
    set_pump_timer(deliver, now, wake_ms);
    if (deliver->flushing && deliver->flush_done && stats.queue_spans == 0)
        event_active(deliver->flush_event, EV_TIMEOUT, 0);
}

static void on_pump(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    pump(arg);
}

/* ---- what the rest of the exporter calls ---- */

static void take_span(void *self, struct span *span)
{
    struct deliver *deliver = self;
    uint64_t now = now_ms();
    if (!span->sampled) {
        stats.spans_unsampled++;
        span_settle(span);
        return;
    }
    if (!queue_push(&deliver->queue, span, now)) {
        stats.spans_dropped_queue++;
        outage_queue_full(&deliver->outage, deliver->queue.count, now);
        span_settle(span);
        return;
    }
    stats.queue_spans++;
    stats.queue_bytes += queue_weight(span);
    /* Not from here: we may be deep inside the reading of a ring. A timer that is set comes early enough, unless this span filled a batch.
     * While all slots are taken, an answer is what moves things. */
    uint64_t due = queue_due_ms(deliver);
    if (due < deliver->gate_ms)
        due = deliver->gate_ms;
    if (due < deliver->pump_ms && free_slot(deliver))
        set_pump_timer(deliver, now, due);
}

struct span_sink deliver_sink(struct deliver *deliver)
{
    return (struct span_sink){.span = take_span, .self = deliver};
}

static void on_flush(evutil_socket_t fd, short what, void *arg)
{
    struct deliver *deliver = arg;
    void (*done)(void *) = deliver->flush_done;
    (void)fd;
    (void)what;
    deliver->flush_done = NULL;
    event_del(deliver->flush_event);
    if (done)
        done(deliver->flush_arg); /* may stop us: nothing after this */
}

void deliver_flush(struct deliver *deliver, void (*done)(void *arg), void *arg)
{
    uint64_t now = now_ms(), wait = deliver->config->shutdown_ms;
    struct timeval deadline = {.tv_sec = (time_t)(wait / 1000), .tv_usec = (suseconds_t)(wait % 1000 * 1000)};
    deliver->flushing = true;
    deliver->flush_done = done;
    deliver->flush_arg = arg;
    event_add(deliver->flush_event, &deadline);
    /* One try at once, whatever the waiting times were. */
    deliver->gate_ms = 0;
    for (size_t i = 0; i < TRANSPORT_IN_FLIGHT; i++)
        if (deliver->slots[i].batch)
            deliver->slots[i].batch->next_try_ms = now;
    pump(deliver);
}

struct deliver *deliver_start(struct event_base *base, const struct exporter_config *config, char *why, size_t why_size)
{
    struct deliver *deliver = NULL;
    if (config->protocol == OTLP_NONE || !config->url) {
        snprintf(why, why_size, "no endpoint to deliver to: set OTEL_EXPORTER_OTLP_ENDPOINT");
        return NULL;
    }
    struct transport *transport = transport_new(base, config, why, why_size);
    if (transport)
        deliver = calloc(1, sizeof(*deliver));
    if (deliver) {
        deliver->pump_event = evtimer_new(base, on_pump, deliver);
        deliver->flush_event = evtimer_new(base, on_flush, deliver);
    }
    if (!deliver || !deliver->pump_event || !deliver->flush_event) {
        if (transport)
            snprintf(why, why_size, "cannot deliver traces: no memory");
        if (deliver && deliver->pump_event)
            event_free(deliver->pump_event);
        free(deliver);
        transport_free(transport);
        return NULL;
    }
    deliver->base = base;
    deliver->config = config;
    deliver->transport = transport;
    deliver->pump_ms = UINT64_MAX;
    queue_init(&deliver->queue, config->max_queue_spans);
    for (size_t i = 0; i < TRANSPORT_IN_FLIGHT; i++)
        deliver->slots[i].deliver = deliver;
    return deliver;
}

void deliver_stop(struct deliver *deliver)
{
    struct span *span;
    if (!deliver)
        return;
    stats.spans_dropped_shutdown += stats.queue_spans;
    outage_sum(transport_where(deliver->transport));
    transport_free(deliver->transport);
    for (size_t i = 0; i < TRANSPORT_IN_FLIGHT; i++)
        if (deliver->slots[i].batch)
            slot_clear(&deliver->slots[i]);
    while ((span = queue_pop(&deliver->queue))) {
        span_settle(span);
        span_unref(span);
    }
    stats.queue_spans = stats.queue_bytes = 0;
    queue_free(&deliver->queue);
    event_free(deliver->pump_event);
    event_free(deliver->flush_event);
    free(deliver);
}
