/* send.c - the delivery half of the exporter alone: makes spans, hands them to deliver/, and tells in JSON what became of them.
 *
 *     send SPANS [PAUSE_MS] [BURST]     the environment is the exporter's; BURST spans at a time (default all), PAUSE_MS apart
 *
 * When every span has met its fate, or SIGTERM's deadline has passed, one JSON object on standard output tells the counters of stats.h and how
 * far the tail of the (imagined) ring moved: to the number of spans, if every receipt was settled. */
#include "config/config.h"
#include "deliver/deliver.h"
#include "ingest/receipt.h"
#include "log.h"
#include "metrics/stats.h"
#include <event2/event.h>
#include <jansson.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static struct event_base *base;
static struct deliver *deliver;
static struct span_sink sink;
static struct event *burst_event, *watch_event, *term_event;
static uint64_t made, wanted, burst, pause_ms, tail;
static bool flushing;
static struct receipt_queue receipts;
static struct span **spans; /* all of them, a reference each: their strings are static, so that nobody else may free them */

static const struct attribute resource_attributes[2][2] = {
    {{.key = "service.name", .type = VALUE_STRING, .value.string = "sender-a"},
     {.key = "process.pid", .type = VALUE_INT, .value.integer = 4711}},
    {{.key = "service.name", .type = VALUE_STRING, .value.string = "sender-b"},
     {.key = "process.pid", .type = VALUE_INT, .value.integer = 4712}},
};
static struct resource resources[2] = {
    {.refs = 1,
     .service_name = "sender-a",
     .pid = 4711,
     .attributes = (struct attribute *)resource_attributes[0],
     .attribute_count = 2},
    {.refs = 1,
     .service_name = "sender-b",
     .pid = 4712,
     .attributes = (struct attribute *)resource_attributes[1],
     .attribute_count = 2},
};
static const char *header_values[] = {"text/html", "gzip"};
static const struct attribute attributes[] = {
    {.key = "http.request.method", .type = VALUE_STRING, .value.string = "GET"},
    {.key = "http.response.status_code", .type = VALUE_INT, .value.integer = 200},
    {.key = "otshim.flag", .type = VALUE_BOOL, .value.boolean = true},
    {.key = "otshim.ratio", .type = VALUE_DOUBLE, .value.number = 0.25},
    {.key = "url.path",
     .type = VALUE_STRING,
     .value.string = "/gr\xc3\xbc\xc3\x9f"
                     "e"},
    {.key = "http.request.header.accept", .type = VALUE_STRINGS, .value.strings = {header_values, 2}},
};
static struct span_event events[] = {{.name = "first byte", .attributes = attributes, .attribute_count = 2}};

static struct span *new_span(uint64_t number)
{
    struct span *span = calloc(1, sizeof(*span));
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    span->refs = 1;
    /* Traces of four: a server and three clients below it. */
    uint64_t trace = number / 4 + 1, root = number / 4 * 4 + 1, self = number + 1, seed = (uint64_t)getpid();
    memcpy(span->trace_id, &seed, 8);
    memcpy(span->trace_id + 8, &trace, 8);
    memcpy(span->span_id, &self, 8);
    span->has_parent = self != root;
    if (span->has_parent)
        memcpy(span->parent_id, &root, 8);
    span->sampled = getenv("SEND_UNSAMPLED") == NULL;
    span->trace_flags = span->sampled;
    span->trace_state = "vendor=value";
    span->name = span->has_parent ? "GET" : "GET /orders/{id}";
    span->kind = span->has_parent ? SPAN_KIND_CLIENT : SPAN_KIND_SERVER;
    span->end_unix_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    span->start_unix_ns = span->end_unix_ns - 20000000;
    span->status = number % 4 == 3 ? SPAN_STATUS_ERROR : SPAN_STATUS_UNSET;
    span->status_message = span->status == SPAN_STATUS_ERROR ? "connection refused" : "";
    span->attributes = attributes;
    span->attribute_count = sizeof(attributes) / sizeof(attributes[0]);
    events[0].time_unix_ns = span->end_unix_ns - 1000000;
    span->events = events;
    span->event_count = 1;
    span->resource = resource_ref(&resources[number % 2]);
    span->size_hint = 400;
    return span;
}

static void on_burst(evutil_socket_t fd, short what, void *arg)
{
    struct timeval pause = {.tv_sec = (time_t)(pause_ms / 1000), .tv_usec = (suseconds_t)(pause_ms % 1000 * 1000)};
    (void)fd;
    (void)what;
    (void)arg;
    for (uint64_t i = 0; i < burst && made < wanted; i++, made++) {
        spans[made] = new_span(made);
        spans[made]->receipt = receipt_take(&receipts);
        receipt_close(&receipts, made + 1);
        sink.span(sink.self, spans[made]);
    }
    if (made < wanted)
        event_add(burst_event, &pause);
}

static void on_done(void *arg)
{
    (void)arg;
    event_base_loopbreak(base);
}

static void flush_now(void)
{
    if (!flushing)
        deliver_flush(deliver, on_done, NULL);
    flushing = true;
}

static void on_watch(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    (void)arg;
    if (made == wanted && stats.queue_spans == 0)
        flush_now();
}

static void on_term(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    (void)arg;
    flush_now();
}

static void on_moved(void *arg, uint64_t to)
{
    (void)arg;
    tail = to;
}

static void report(void)
{
    char id[33] = "";
    for (int i = 0; i < 16 && made; i++)
        snprintf(id + 2 * i, 3, "%02x", spans[0]->trace_id[i]);
    json_t *json = json_pack(
        "{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:s}", "trace_id", id, "made", (json_int_t)made, "tail",
        (json_int_t)tail, "exported", (json_int_t)stats.spans_exported, "unsampled", (json_int_t)stats.spans_unsampled,
        "dropped_queue", (json_int_t)stats.spans_dropped_queue, "dropped_refused", (json_int_t)stats.spans_dropped_refused,
        "dropped_partial", (json_int_t)stats.spans_dropped_partial, "dropped_expired", (json_int_t)stats.spans_dropped_expired,
        "dropped_shutdown", (json_int_t)stats.spans_dropped_shutdown, "requests", (json_int_t)stats.export_requests, "retries",
        (json_int_t)stats.export_retries, "failures", (json_int_t)stats.export_failures, "last_error", stats.last_error);
    json_dumpf(json, stdout, JSON_COMPACT);
    putchar('\n');
    json_decref(json);
}

int main(int argc, char **argv)
{
    struct exporter_config config;
    struct timeval often = {.tv_usec = 5000}, at_once = {0};
    char why[256];
    if (argc < 2)
        return 2;
    wanted = strtoull(argv[1], NULL, 10);
    pause_ms = argc > 2 ? strtoull(argv[2], NULL, 10) : 0;
    burst = argc > 3 ? strtoull(argv[3], NULL, 10) : wanted;
    if (exporter_config_load(&config, stderr))
        return 2;
    log_open(config.log_file, (enum log_level)config.log_level);
    spans = calloc(wanted + 1, sizeof(struct span *));
    receipt_queue_init(&receipts, 0, on_moved, NULL);
    base = event_base_new();
    deliver = deliver_start(base, &config, why, sizeof(why));
    if (!deliver) {
        fprintf(stderr, "%s\n", why);
        return 1;
    }
    sink = deliver_sink(deliver);
    burst_event = evtimer_new(base, on_burst, NULL);
    watch_event = event_new(base, -1, EV_PERSIST, on_watch, NULL);
    term_event = evsignal_new(base, SIGTERM, on_term, NULL);
    event_add(burst_event, &at_once);
    event_add(watch_event, &often);
    event_add(term_event, NULL);
    event_base_dispatch(base);
    deliver_stop(deliver);
    report();
    event_free(burst_event);
    event_free(watch_event);
    event_free(term_event);
    event_base_free(base);
    for (uint64_t i = 0; i < made; i++)
        free(spans[i]);
    free(spans);
    exporter_config_free(&config);
    return 0;
}
