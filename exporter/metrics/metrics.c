/* metrics.c - /metrics: everything of stats.h, and what the traced processes counted, by reason.
 *
 * Names are literals here and label values are ours, so nothing needs escaping except the executable and service names of processes -
 * and those are left out on purpose: a label per process would grow without bound. */
#include "metrics/metrics.h"

#include "ingest/ingest.h"
#include "metrics/counters.h"
#include "metrics/stats.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static void head(FILE *out, const char *name, const char *type, const char *help)
{
    fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void one(FILE *out, const char *name, const char *type, const char *help, uint64_t value)
{
    head(out, name, type, help);
    fprintf(out, "%s %" PRIu64 "\n", name, value);
}

static void labelled(FILE *out, const char *name, const char *label, const char *value, uint64_t count)
{
    fprintf(out, "%s{%s=\"%s\"} %" PRIu64 "\n", name, label, value, count);
}

static void exporter_metrics(FILE *out)
{
    const char *name;
    one(out, "otshim_exporter_spans_received_total", "counter", "Spans read from the rings of traced processes.",
        stats.spans_received);
    one(out, "otshim_exporter_records_invalid_total", "counter", "Records that the ring reader refused.", stats.records_invalid);
    one(out, "otshim_exporter_records_abandoned_total", "counter", "Records that were begun and never finished by their process.",
        stats.records_abandoned);
    name = "otshim_exporter_hellos_total";
    head(out, name, "counter", "Processes that introduced themselves.");
    labelled(out, name, "result", "accepted", stats.hellos_accepted);
    labelled(out, name, "result", "refused", stats.hellos_refused);
    one(out, "otshim_exporter_spans_exported_total", "counter", "Spans that the OTLP endpoint took.", stats.spans_exported);
    one(out, "otshim_exporter_spans_unsampled_total", "counter", "Spans not exported because their trace is not sampled.",
        stats.spans_unsampled);
    name = "otshim_exporter_spans_dropped_total";
    head(out, name, "counter", "Spans lost on the way to the OTLP endpoint.");
    labelled(out, name, "reason", "queue_full", stats.spans_dropped_queue);
    labelled(out, name, "reason", "refused", stats.spans_dropped_refused);
    labelled(out, name, "reason", "partial_success", stats.spans_dropped_partial);
    labelled(out, name, "reason", "retry_deadline", stats.spans_dropped_expired);
    labelled(out, name, "reason", "shutdown", stats.spans_dropped_shutdown);
    one(out, "otshim_exporter_export_requests_total", "counter", "Requests sent to the OTLP endpoint.", stats.export_requests);
    one(out, "otshim_exporter_export_retries_total", "counter", "Requests that were sent again.", stats.export_retries);
    one(out, "otshim_exporter_export_failures_total", "counter", "Attempts to export that failed.", stats.export_failures);
    one(out, "otshim_exporter_queue_spans", "gauge", "Spans waiting for export.", stats.queue_spans);
    one(out, "otshim_exporter_queue_bytes", "gauge", "Bytes waiting for export.", stats.queue_bytes);
    head(out, "otshim_exporter_last_export_timestamp_seconds", "gauge", "When an export last succeeded (Unix time, 0: never).");
    fprintf(out, "otshim_exporter_last_export_timestamp_seconds %.3f\n", (double)stats.last_export_unix_ns / 1e9);
    head(out, "otshim_exporter_start_timestamp_seconds", "gauge", "When the exporter started (Unix time).");
    fprintf(out, "otshim_exporter_start_timestamp_seconds %.3f\n", (double)stats.start_unix_ns / 1e9);
}

struct sums {
    uint64_t processes, inflight, ring_bytes, ring_used;
};

static void add_process(void *arg, const struct process *process)
{
    struct sums *sums = arg;
    sums->processes += process->alive;
    sums->inflight += process->inflight;
    sums->ring_bytes += process->ring_bytes;
    sums->ring_used += process->ring_used;
}

static void library_metrics(FILE *out, struct ingest *ingest)
{
    uint64_t totals[32];
    struct sums sums = {0};
    const char *name;
    counters_total(ingest, totals);
    ingest_each_process(ingest, add_process, &sums);
    one(out, "otshim_processes", "gauge", "Traced processes that are connected.", sums.processes);
    one(out, "otshim_requests_in_flight", "gauge", "Requests and calls in progress in traced processes.", sums.inflight);
    one(out, "otshim_ring_bytes", "gauge", "Size of the rings of all traced processes.", sums.ring_bytes);
    one(out, "otshim_ring_used_bytes", "gauge", "Bytes in those rings that are not safe at their destination yet.", sums.ring_used);
    one(out, "otshim_library_spans_total", "counter", "Spans that traced processes wrote.", totals[OTSHIM_COUNT_SPANS]);
    one(out, "otshim_library_attaches_total", "counter", "Times that a ring was handed to an exporter.",
        totals[OTSHIM_COUNT_ATTACHES]);
    name = "otshim_library_dropped_total";
    head(out, name, "counter", "What traced processes could not record, by reason.");
    for (size_t i = 0; i < OTSHIM_COUNTERS; i++)
        if (counter_names[i].is_loss)
            labelled(out, name, "reason", counter_names[i].name, totals[i]);
    name = "otshim_library_unread_total";
    head(out, name, "counter", "What traced processes left aside on purpose, by reason.");
    for (size_t i = 0; i < OTSHIM_COUNTERS; i++)
        if (!counter_names[i].is_loss && i != OTSHIM_COUNT_SPANS && i != OTSHIM_COUNT_ATTACHES)
            labelled(out, name, "reason", counter_names[i].name, totals[i]);
}

char *metrics_text(struct ingest *ingest, size_t *len)
{
    char *text = NULL;
    FILE *out = open_memstream(&text, len);
    if (out == NULL)
        return NULL;
    head(out, "otshim_exporter_info", "gauge", "The exporter that answers.");
    fprintf(out, "otshim_exporter_info{version=\"%s\"} 1\n", OTSHIM_VERSION);
    exporter_metrics(out);
    library_metrics(out, ingest);
    if (fclose(out) != 0) {
        free(text);
        return NULL;
    }
    return text;
}
