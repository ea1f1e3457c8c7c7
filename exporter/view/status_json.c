/* status_json.c - the state of the exporter as one JSON object.
 *
 * Nanoseconds since the epoch are decimal strings, as in OTLP/JSON: they do not fit the numbers of JavaScript. */
#include "view/status_json.h"

#include "metrics/counters.h"
#include "metrics/rates.h"
#include "metrics/stats.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec ts;
    clock_gettime(clock, &ts);
    return (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
}

static json_t *number(uint64_t value)
{
    return json_integer((json_int_t)(value > INT64_MAX ? INT64_MAX : value));
}

/* null for 0: never. */
static json_t *time_string(uint64_t unix_ns)
{
    char text[24];
    if (unix_ns == 0)
        return json_null();
    snprintf(text, sizeof(text), "%" PRIu64, unix_ns);
    return json_string(text);
}

/* Executable paths and notes are bytes of a peer; JSON wants UTF-8. */
static json_t *text(const char *bytes)
{
    if (bytes == NULL)
        return json_string("");
    json_t *string = json_string(bytes);
    if (string != NULL)
        return string;
    char ascii[512];
    size_t len = 0;
    for (; bytes[len] != 0 && len + 1 < sizeof(ascii); len++)
        ascii[len] = (unsigned char)bytes[len] < 0x80 ? bytes[len] : '?';
    ascii[len] = 0;
    return json_string(ascii);
}

static json_t *counters_json(const uint64_t counters[32])
{
    json_t *object = json_object();
    for (size_t i = 0; i < OTSHIM_COUNTERS; i++)
        json_object_set_new(object, counter_names[i].name, number(counters[i]));
    return object;
}

static uint64_t losses(const uint64_t counters[32])
{
    uint64_t sum = 0;
    for (size_t i = 0; i < OTSHIM_COUNTERS; i++)
        if (counter_names[i].is_loss)
            sum += counters[i];
    return sum;
}

static json_t *cmdline_json(const struct process *process)
{
    json_t *array = json_array();
    size_t at = 0;
    while (at < process->cmdline_len && process->cmdline != NULL) {
        char argument[512];
        size_t len = strnlen(process->cmdline + at, process->cmdline_len - at);
        snprintf(argument, sizeof(argument), "%.*s", (int)len, process->cmdline + at);
        json_array_append_new(array, text(argument));
        at += len + 1;
    }
    return array;
}

static json_t *runtimes_json(const struct process *process)
{
    json_t *array = json_array();
    for (unsigned i = 0; i < process->runtime_count; i++) {
        const struct process_runtime *runtime = &process->runtimes[i];
        json_t *object = json_object();
        json_object_set_new(object, "name", text(runtime->name));
        json_object_set_new(object, "version", text(runtime->version));
        json_object_set_new(object, "exact", json_boolean(runtime->why_not[0] == 0));
        json_object_set_new(object, "whyNot", runtime->why_not[0] != 0 ? text(runtime->why_not) : json_null());
        json_array_append_new(array, object);
    }
    return array;
}

static void add_process(void *arg, const struct process *process)
{
    json_t *array = arg, *object = json_object();
    json_object_set_new(object, "pid", json_integer(process->pid));
    json_object_set_new(object, "pidInItsNamespace", json_integer(process->peer_pid));
    json_object_set_new(object, "uid", json_integer(process->uid));
    json_object_set_new(object, "alive", json_boolean(process->alive));
    json_object_set_new(object, "service", text(process->resource != NULL ? process->resource->service_name : ""));
    json_object_set_new(object, "executable", text(process->executable));
    json_object_set_new(object, "commandLine", cmdline_json(process));
    json_object_set_new(object, "connectedUnixNano", time_string(process->connected_unix_ns));
    json_object_set_new(object, "spans", number(process->counters[OTSHIM_COUNT_SPANS]));
    json_object_set_new(object, "dropped", number(losses(process->counters)));
    json_object_set_new(object, "inFlight", json_integer(process->inflight));
    json_object_set_new(object, "ringBytes", number(process->ring_bytes));
    json_object_set_new(object, "ringUsed", number(process->ring_used));
    json_object_set_new(object, "counters", counters_json(process->counters));
    json_object_set_new(object, "runtimes", runtimes_json(process));
    json_object_set_new(object, "note", text(process->note));
    json_array_append_new(array, object);
}

static json_t *export_json(const struct exporter_config *config)
{
    json_t *object = json_object(), *error = json_null();
    const char *protocol = config->protocol == OTLP_GRPC ? "grpc" : config->protocol == OTLP_HTTP_PROTOBUF ? "http/protobuf" : NULL;
    json_object_set_new(object, "endpoint", protocol != NULL ? text(config->url) : json_null());
    json_object_set_new(object, "protocol", protocol != NULL ? json_string(protocol) : json_null());
    json_object_set_new(object, "requests", number(stats.export_requests));
    json_object_set_new(object, "retries", number(stats.export_retries));
    json_object_set_new(object, "failures", number(stats.export_failures));
    json_object_set_new(object, "lastSuccessUnixNano", time_string(stats.last_export_unix_ns));
    if (stats.last_error_unix_ns != 0 || stats.last_error[0] != 0) {
        error = json_object();
        json_object_set_new(error, "timeUnixNano", time_string(stats.last_error_unix_ns));
        json_object_set_new(error, "message", text(stats.last_error));
    }
    json_object_set_new(object, "lastError", error);
    return object;
}

static json_t *spans_json(void)
{
    json_t *object = json_object(), *dropped = json_object();
    json_object_set_new(dropped, "queue_full", number(stats.spans_dropped_queue));
    json_object_set_new(dropped, "refused", number(stats.spans_dropped_refused));
    json_object_set_new(dropped, "partial_success", number(stats.spans_dropped_partial));
    json_object_set_new(dropped, "retry_deadline", number(stats.spans_dropped_expired));
    json_object_set_new(dropped, "shutdown", number(stats.spans_dropped_shutdown));
    json_object_set_new(object, "received", number(stats.spans_received));
    json_object_set_new(object, "exported", number(stats.spans_exported));
    json_object_set_new(object, "unsampled", number(stats.spans_unsampled));
    json_object_set_new(object, "dropped", dropped);
    json_object_set_new(object, "recordsInvalid", number(stats.records_invalid));
    json_object_set_new(object, "recordsAbandoned", number(stats.records_abandoned));
    return object;
}

json_t *status_json(const struct api *api)
{
    json_t *object = json_object(), *part = json_array();
    uint64_t totals[32], now = clock_ns(CLOCK_REALTIME);
    struct rates rates = rates_now(clock_ns(CLOCK_MONOTONIC));

    json_object_set_new(object, "version", json_string(OTSHIM_VERSION));
    json_object_set_new(object, "pid", json_integer(getpid()));
    json_object_set_new(object, "startTimeUnixNano", time_string(stats.start_unix_ns));
    json_object_set_new(object, "uptimeSeconds",
                        json_real(now > stats.start_unix_ns ? (double)(now - stats.start_unix_ns) / 1e9 : 0));
    json_object_set_new(object, "socket", text(api->config->socket_path));
    json_object_set_new(object, "http", text(api->http_address));
    ingest_each_process(api->ingest, add_process, part);
    json_object_set_new(object, "processes", part);
    part = json_object();
    json_object_set_new(part, "spansReceivedPerSecond", json_real(rates.received_per_second));
    json_object_set_new(part, "spansExportedPerSecond", json_real(rates.exported_per_second));
    json_object_set_new(part, "windowSeconds", json_real(rates.window_seconds));
    json_object_set_new(object, "rates", part);
    json_object_set_new(object, "spans", spans_json());
    part = json_object();
    json_object_set_new(part, "spans", number(stats.queue_spans));
    json_object_set_new(part, "bytes", number(stats.queue_bytes));
    json_object_set_new(part, "maxSpans", number(api->config->max_queue_spans));
    json_object_set_new(object, "queue", part);
    json_object_set_new(object, "export", export_json(api->config));
    part = json_object();
    json_object_set_new(part, "accepted", number(stats.hellos_accepted));
    json_object_set_new(part, "refused", number(stats.hellos_refused));
    json_object_set_new(object, "hellos", part);
    counters_total(api->ingest, totals);
    json_object_set_new(object, "library", counters_json(totals));
    json_object_set_new(object, "sequence", number(store_sequence(api->store)));
    return object;
}
