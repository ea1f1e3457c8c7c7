/* status.c - `otshim status`: is anything connected, does anything arrive, does it go out, and what was lost on the way. */
#include "cli/cli.h"

#include "cli/client.h"
#include "metrics/counters.h"
#include "view/text.h"
#include <getopt.h>
#include <otshim/ring.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PROCESSES_SHOWN 50

static void usage(FILE *out)
{
    fputs("usage: otshim status [--json]\n\n"
          "Shows what a running exporter does: connected programs, rates, queue, drops by cause, the last export error.\n\n"
          "example: otshim status --json | jq .queue\n",
          out);
}

static struct terminal terminal;

static const char *bold(void)
{
    return terminal.color ? "\x1b[1m" : "";
}

static const char *red(void)
{
    return terminal.color ? "\x1b[31m" : "";
}

static const char *plain(void)
{
    return terminal.color ? "\x1b[0m" : "";
}

static long long number_at(const json_t *object, const char *key)
{
    return json_integer_value(json_object_get(object, key));
}

/* A string of the answer, fit for the terminal. Valid until the next call but three. */
static const char *text_at(const json_t *object, const char *key, size_t columns)
{
    static char buffers[4][2048];
    static unsigned next;
    char *buffer = buffers[next++ % 4];
    const char *text = json_string_value(json_object_get(object, key));
    text_clean(buffer, sizeof(buffers[0]), text != NULL ? text : "", columns, terminal.utf8);
    return buffer;
}

/* "12 s ago", from a decimal string of nanoseconds since the epoch; "never". */
static const char *ago(const json_t *value)
{
    static char buffer[48];
    char duration[32];
    const char *text = json_string_value(value);
    struct timespec now;
    if (text == NULL)
        return "never";
    clock_gettime(CLOCK_REALTIME, &now);
    uint64_t then = strtoull(text, NULL, 10), now_ns = (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
    text_duration(duration, sizeof(duration), now_ns > then ? now_ns - then : 0, terminal.utf8);
    snprintf(buffer, sizeof(buffer), "%s ago", duration);
    return buffer;
}

static void print_exporter(const json_t *status)
{
    char uptime[32];
    double seconds = json_number_value(json_object_get(status, "uptimeSeconds"));
    text_duration(uptime, sizeof(uptime), seconds > 0 && seconds < 9e9 ? (uint64_t)(seconds * 1e9) : 0, terminal.utf8);
    printf("%sexporter%s   %s, pid %lld, up %s\n", bold(), plain(), text_at(status, "version", 32), number_at(status, "pid"),
           uptime);
    printf("           socket %s, http://%s\n", text_at(status, "socket", 200), text_at(status, "http", 200));
}

static void print_export(const json_t *status)
{
    const json_t *export = json_object_get(status, "export"), *error = json_object_get(export, "lastError");
    const json_t *queue = json_object_get(status, "queue"), *rates = json_object_get(status, "rates");
    const json_t *spans = json_object_get(status, "spans");
    char bytes[32];
    printf("%sspans%s      %lld received (%.1f/s)", bold(), plain(), number_at(spans, "received"),
           json_number_value(json_object_get(rates, "spansReceivedPerSecond")));
    if (!json_is_string(json_object_get(export, "endpoint"))) {
        printf("\n%sexport%s     none: traces are kept in memory only; set OTEL_EXPORTER_OTLP_ENDPOINT and restart the exporter\n",
               bold(), plain());
        return;
    }
    printf(", %lld exported (%.1f/s)", number_at(spans, "exported"),
           json_number_value(json_object_get(rates, "spansExportedPerSecond")));
    if (number_at(spans, "unsampled") > 0)
        printf(", %lld not sampled", number_at(spans, "unsampled"));
    printf("\n%sexport%s     to %s (%s), last success %s\n", bold(), plain(), text_at(export, "endpoint", 200),
           text_at(export, "protocol", 32), ago(json_object_get(export, "lastSuccessUnixNano")));
    printf("           %lld requests, %lld failed, %lld sent again\n", number_at(export, "requests"), number_at(export, "failures"),
           number_at(export, "retries"));
    text_bytes(bytes, sizeof(bytes), (uint64_t)number_at(queue, "bytes"));
    printf("%squeue%s      %lld of %lld spans, %s\n", bold(), plain(), number_at(queue, "spans"), number_at(queue, "maxSpans"),
           bytes);
    if (json_is_object(error))
        printf("%slast error%s %s%s%s (%s)\n", bold(), plain(), red(), text_at(error, "message", 1000), plain(),
               ago(json_object_get(error, "timeUnixNano")));
    else
        printf("%slast error%s none\n", bold(), plain());
}

static int print_loss(long long count, const char *words)
{
    if (count == 0)
        return 0;
    printf("           %s%lld%s %s\n", red(), count, plain(), words);
    return 1;
}

/* Every cause with a count, in words; a line that says there is none. */
static void print_drops(const json_t *status)
{
    static const struct {
        const char *key, *words;
    } causes[] = {{"queue_full", "spans dropped: the queue was full (the endpoint is slower than the programs)"},
                  {"refused", "spans dropped: the endpoint refused them for good"},
                  {"partial_success", "spans dropped: rejected by the endpoint inside a success"},
                  {"retry_deadline", "spans dropped: the endpoint could not be reached for too long"},
                  {"shutdown", "spans dropped: not sent before the shutdown deadline"}};
    const json_t *spans = json_object_get(status, "spans"), *library = json_object_get(status, "library");
    int lines = 0;
    printf("%slost%s\n", bold(), plain());
    for (size_t i = 0; i < sizeof(causes) / sizeof(causes[0]); i++)
        lines += print_loss(number_at(json_object_get(spans, "dropped"), causes[i].key), causes[i].words);
    lines += print_loss(number_at(spans, "recordsInvalid"), "records refused: not valid");
    lines += print_loss(number_at(spans, "recordsAbandoned"), "records begun by a program and never finished");
    lines += print_loss(number_at(json_object_get(status, "hellos"), "refused"), "programs refused (the exporter's log says why)");
    for (size_t i = 0; i < OTSHIM_COUNTERS; i++)
        if (counter_names[i].is_loss)
            lines += print_loss(number_at(library, counter_names[i].name), counter_names[i].words);
    if (lines == 0)
        puts("           nothing");
}

/* Not lost, and worth knowing when a span is missed. */
static void print_unread(const json_t *status)
{
    const json_t *library = json_object_get(status, "library");
    bool any = false;
    for (size_t i = 0; i < OTSHIM_COUNTERS; i++) {
        long long count = number_at(library, counter_names[i].name);
        if (counter_names[i].is_loss || count == 0 || i == OTSHIM_COUNT_SPANS || i == OTSHIM_COUNT_ATTACHES)
            continue;
        if (!any)
            printf("%sleft aside%s\n", bold(), plain());
        any = true;
        printf("           %lld %s\n", count, counter_names[i].words);
    }
}

/* Whether the runtime says for whom a call is made, for those that had to be asked. */
static void print_runtimes(const json_t *process)
{
    size_t index;
    json_t *runtime;
    json_array_foreach(json_object_get(process, "runtimes"), index, runtime)
    {
        const char *version = text_at(runtime, "version", 40);
        printf("           %s%s%s: ", text_at(runtime, "name", 24), version[0] != 0 ? " " : "", version);
        if (json_is_true(json_object_get(runtime, "exact")))
            puts("exact, by its own contexts");
        else
            printf("%snot exact%s: %s; calls made on threads that many requests share have no parent\n", red(), plain(),
                   text_at(runtime, "whyNot", 184));
    }
}

static void print_processes(const json_t *status)
{
    const json_t *processes = json_object_get(status, "processes");
    size_t index, count = json_array_size(processes);
    json_t *process;
    if (count == 0) {
        printf("%sprograms%s   none connected; start one with LD_PRELOAD=libotshim.so, or by otshim run -- PROGRAM\n", bold(),
               plain());
        return;
    }
    printf("%sprograms%s\n", bold(), plain());
    printf("  %7s  %-20s %9s %7s %9s  %-18s %s\n", "PID", "SERVICE", "SPANS", "LOST", "IN FLIGHT", "RING", "EXECUTABLE");
    json_array_foreach(processes, index, process)
    {
        char used[32], size[32], ring[80];
        if (index == PROCESSES_SHOWN) {
            printf("  ... %zu more (otshim status --json has them)\n", count - index);
            break;
        }
        text_bytes(used, sizeof(used), (uint64_t)number_at(process, "ringUsed"));
        text_bytes(size, sizeof(size), (uint64_t)number_at(process, "ringBytes"));
        snprintf(ring, sizeof(ring), "%s of %s", used, size);
        printf("  %7lld  %-20s %9lld %7lld %9lld  %-18s %s%s\n", number_at(process, "pid"), text_at(process, "service", 20),
               number_at(process, "spans"), number_at(process, "dropped"), number_at(process, "inFlight"), ring,
               text_at(process, "executable", 80), json_is_false(json_object_get(process, "alive")) ? " (ended)" : "");
        print_runtimes(process);
        const char *note = text_at(process, "note", 160);
        if (note[0] != 0)
            printf("           note: %s\n", note);
    }
}

int cli_status(int argc, char **argv)
{
    static const struct option table[] = {{"json", no_argument, NULL, 'j'}, {"help", no_argument, NULL, 'h'}, {0}};
    struct client client;
    bool as_json = false;
    char why[512];
    long http_status;
    int option;
    while ((option = getopt_long(argc, argv, "h", table, NULL)) >= 0) {
        switch (option) {
        case 'j': as_json = true; break;
        case 'h': usage(stdout); return EXIT_OK;
        default: fputs("otshim status --help explains the options\n", stderr); return EXIT_USAGE;
        }
    }
    if (optind < argc) {
        fprintf(stderr, "otshim status takes no argument (\"%s\")\n", argv[optind]);
        return EXIT_USAGE;
    }
    int result = client_open(&client);
    if (result != EXIT_OK)
        return result;
    json_t *status = client_get(&client, "/api/status", &http_status, why, sizeof(why));
    client_close(&client);
    if (status == NULL)
        return client_complain(why, http_status);
    terminal = terminal_of(1);
    if (as_json) {
        client_print_json(status, true);
    } else {
        print_exporter(status);
        print_export(status);
        print_drops(status);
        print_unread(status);
        print_processes(status);
    }
    json_decref(status);
    return EXIT_OK;
}
