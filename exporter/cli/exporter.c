/* exporter.c - `otshim exporter`: the daemon. Builds the row
 *
 *     ingest (sockets, rings) -> trace (meaning) -> { view (recent traces), deliver (OTLP) }
 *
 * in one event loop, and takes it down in the order that loses nothing: read what the rings hold, send what is queued within the
 * deadline, then let go of the rings. What could not be sent stays in them, unread, for the next exporter. */
#include "cli/cli.h"

#include "config/config.h"
#include "deliver/deliver.h"
#include "ingest/ingest.h"
#include "log.h"
#include "metrics/rates.h"
#include "metrics/stats.h"
#include "trace/trace.h"
#include "view/api.h"
#include "view/store.h"
#include "view/web.h"
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <getopt.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define SIGNALS 3

struct exporter {
    struct exporter_config config;
    struct event_base *base;
    struct event *signals[SIGNALS];
    struct event *second;
    struct store *store;
    struct deliver *deliver;
    struct trace *trace;
    struct ingest *ingest;
    struct api api;
    struct web *web;
    struct span_sink to_store, to_deliver;
    bool stopping;
};

static void fan_out(void *self, struct span *span)
{
    struct exporter *exporter = self;
    /* The one that settles the receipt comes last. */
    exporter->to_store.span(exporter->to_store.self, span);
    if (exporter->deliver != NULL)
        exporter->to_deliver.span(exporter->to_deliver.self, span);
}

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec ts;
    clock_gettime(clock, &ts);
    return (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
}

/* ---- events ------------------------------------------------------------------------------------------------------------------ */

static void on_second(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    (void)arg;
    rates_tick(clock_ns(CLOCK_MONOTONIC));
}

static void on_flushed(void *arg)
{
    struct exporter *exporter = arg;
    event_base_loopbreak(exporter->base);
}

/* A little after the signal: a program that has just said hello and ended is in the table by then. */
static void stop_now(evutil_socket_t fd, short what, void *arg)
{
    struct exporter *exporter = arg;
    (void)fd;
    (void)what;
    ingest_drain(exporter->ingest);
    if (exporter->deliver != NULL)
        deliver_flush(exporter->deliver, on_flushed, exporter);
    else
        event_base_loopbreak(exporter->base);
}

static void on_stop(evutil_socket_t signal_number, short what, void *arg)
{
    struct exporter *exporter = arg;
    struct timeval soon = {.tv_usec = 50000};
    (void)what;
    if (exporter->stopping) {
        log_line(LOG_LEVEL_INFO, "second signal: stopped without waiting for the rest of the queue");
        _exit(EXIT_OK);
    }
    exporter->stopping = true;
    log_line(LOG_LEVEL_INFO, "stopping (%s)", signal_number == SIGINT ? "SIGINT" : "SIGTERM");
    if (event_base_once(exporter->base, -1, EV_TIMEOUT, stop_now, exporter, &soon) != 0)
        stop_now(-1, 0, exporter);
}

static void on_hangup(evutil_socket_t signal_number, short what, void *arg)
{
    (void)signal_number;
    (void)what;
    (void)arg;
    log_reopen();
    log_line(LOG_LEVEL_INFO, "log reopened");
}

/* ---- start ------------------------------------------------------------------------------------------------------------------- */

/* Every ring costs a descriptor or two, and the usual soft limit of 1,024 is there for programs that use select. */
static void raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

/* LD_PRELOAD without the library, for what we may start: the exporter is never traced, nor are its children. */
static void drop_preload(void)
{
    const char *preload = getenv("LD_PRELOAD");
    char kept[4096] = "", *copy, *save = NULL;
    if (preload == NULL || strstr(preload, "libotshim") == NULL || (copy = strdup(preload)) == NULL)
        return;
    for (char *item = strtok_r(copy, " :", &save); item != NULL; item = strtok_r(NULL, " :", &save)) {
        size_t used = strlen(kept);
        if (strstr(item, "libotshim") == NULL)
            snprintf(kept + used, sizeof(kept) - used, "%s%s", used > 0 ? ":" : "", item);
    }
    free(copy);
    if (kept[0] != 0)
        setenv("LD_PRELOAD", kept, 1);
    else
        unsetenv("LD_PRELOAD");
}

static bool start_events(struct exporter *exporter)
{
    static const int numbers[SIGNALS] = {SIGTERM, SIGINT, SIGHUP};
    struct timeval second = {.tv_sec = 1};
    signal(SIGPIPE, SIG_IGN);
    exporter->base = event_base_new();
    if (exporter->base == NULL)
        return false;
    for (int i = 0; i < SIGNALS; i++) {
        exporter->signals[i] =
            event_new(exporter->base, numbers[i], EV_SIGNAL | EV_PERSIST, numbers[i] == SIGHUP ? on_hangup : on_stop, exporter);
        if (exporter->signals[i] == NULL || event_add(exporter->signals[i], NULL) != 0)
            return false;
    }
    exporter->second = event_new(exporter->base, -1, EV_PERSIST, on_second, exporter);
    return exporter->second != NULL && event_add(exporter->second, &second) == 0;
}

static bool start_row(struct exporter *exporter, char *why, size_t why_size)
{
    const struct exporter_config *config = &exporter->config;
    bool delivers = config->protocol != OTLP_NONE;
    snprintf(why, why_size, "out of memory");
    exporter->store = store_new(config->recent_traces);
    if (exporter->store == NULL)
        return false;
    exporter->to_store = store_sink(exporter->store, !delivers);
    if (delivers) {
        exporter->deliver = deliver_start(exporter->base, config, why, why_size);
        if (exporter->deliver == NULL)
            return false;
        exporter->to_deliver = deliver_sink(exporter->deliver);
    }
    exporter->trace = trace_new((struct span_sink){.span = fan_out, .self = exporter});
    if (exporter->trace == NULL)
        return false;
    exporter->ingest = ingest_start(exporter->base, config, trace_record_sink(exporter->trace), why, why_size);
    if (exporter->ingest == NULL)
        return false;
    exporter->api = (struct api){.config = config, .store = exporter->store, .ingest = exporter->ingest};
    if (config->http_host == NULL)
        return true;
    exporter->web = web_start(exporter->base, &exporter->api, config->http_host, config->http_port, why, why_size);
    return exporter->web != NULL;
}

/* Each part may be missing. */
static void stop_row(struct exporter *exporter)
{
    web_stop(exporter->web);
    /* The rings first: what the deliverer gives up after that stays unread for the next exporter. */
    if (exporter->ingest != NULL)
        ingest_stop(exporter->ingest);
    if (exporter->deliver != NULL)
        deliver_stop(exporter->deliver);
    if (exporter->trace != NULL)
        trace_free(exporter->trace);
    store_free(exporter->store);
    for (int i = 0; i < SIGNALS; i++)
        if (exporter->signals[i] != NULL)
            event_free(exporter->signals[i]);
    if (exporter->second != NULL)
        event_free(exporter->second);
    if (exporter->base != NULL)
        event_base_free(exporter->base);
}

/* ---- words ------------------------------------------------------------------------------------------------------------------- */

static void say_started(const struct exporter *exporter)
{
    const struct exporter_config *config = &exporter->config;
    char where[1024];
    if (config->protocol == OTLP_NONE) {
        snprintf(where, sizeof(where), "no endpoint set: traces are kept in memory only; set OTEL_EXPORTER_OTLP_ENDPOINT");
    } else {
        /* gRPC's path is the same everywhere and says nothing to a person. */
        const char *path = config->protocol == OTLP_GRPC ? strstr(config->url, "/opentelemetry.proto.") : NULL;
        int len = path != NULL ? (int)(path - config->url) : (int)strlen(config->url);
        snprintf(where, sizeof(where), "sending traces to %.*s by %s", len, config->url,
                 config->protocol == OTLP_GRPC ? "gRPC" : "HTTP/protobuf");
    }
    log_line(LOG_LEVEL_INFO, "otshim exporter %s (pid %d): socket %s, %s%s; %s", OTSHIM_VERSION, (int)getpid(), config->socket_path,
             exporter->api.http_address != NULL ? "http://" : "no HTTP",
             exporter->api.http_address != NULL ? exporter->api.http_address : " (OTSHIM_HTTP=off)", where);
}

/* One line of JSON for whoever started us: we accept processes, and this is where. */
static void say_ready(const struct exporter *exporter, int fd)
{
    json_t *line = json_object();
    json_object_set_new(line, "socket", json_string(exporter->config.socket_path));
    json_object_set_new(line, "http", exporter->api.http_address != NULL ? json_string(exporter->api.http_address) : json_null());
    char *text = json_dumps(line, JSON_COMPACT);
    if (text != NULL)
        dprintf(fd, "%s\n", text);
    free(text);
    json_decref(line);
    close(fd);
}

static void usage(FILE *out)
{
    fputs("usage: otshim exporter [--ready-fd N]\n\n"
          "Takes spans from traced programs, keeps the last traces in memory and sends all of them on by OTLP.\n"
          "Configured by the environment:\n\n"
          "  OTEL_EXPORTER_OTLP_ENDPOINT  where to: http://tempo:4317 is gRPC, http://tempo:4318 HTTP/protobuf\n"
          "  OTEL_EXPORTER_OTLP_*, OTEL_BSP_*, as OpenTelemetry defines them\n"
          "  OTSHIM_SOCKET, OTSHIM_SOCKET_MODE    the Unix socket that programs say hello on\n"
          "  OTSHIM_HTTP=host:port|off    for `otshim traces`, browsers, Prometheus (/metrics)\n"
          "  OTSHIM_TRACES=N              traces kept in memory\n"
          "  OTSHIM_LOG=error|info|debug, OTSHIM_LOG_FILE (reopened at SIGHUP)\n\n"
          "  --ready-fd N   writes one line of JSON to descriptor N once it is ready, and closes it\n\n"
          "SIGTERM: reads what programs have written, sends it, ends.\n"
          "example: OTEL_EXPORTER_OTLP_ENDPOINT=http://tempo:4317 otshim exporter\n",
          out);
}

static int parse_ready_fd(const char *text)
{
    char *end;
    long fd = strtol(text, &end, 10);
    return *text != 0 && *end == 0 && fd >= 0 && fd < 1 << 20 && fcntl((int)fd, F_GETFD) >= 0 ? (int)fd : -1;
}

/* From the first socket to the last span; the configuration is checked, the log open. */
static int serve(struct exporter *exporter, int ready_fd)
{
    char why[512] = "";
    int status = EXIT_OK;
    raise_descriptor_limit();
    stats.start_unix_ns = clock_ns(CLOCK_REALTIME);
    rates_tick(clock_ns(CLOCK_MONOTONIC));
    if (!start_events(exporter) || !start_row(exporter, why, sizeof(why))) {
        log_line(LOG_LEVEL_ERROR, "%s", why[0] != 0 ? why : "cannot make an event loop");
        status = EXIT_FAILED;
    } else {
        say_started(exporter);
        if (ready_fd >= 0)
            say_ready(exporter, ready_fd);
        event_base_dispatch(exporter->base);
    }
    stop_row(exporter);
    return status;
}

int cli_exporter(int argc, char **argv)
{
    static const struct option options[] = {{"ready-fd", required_argument, NULL, 'r'}, {"help", no_argument, NULL, 'h'}, {0}};
    struct exporter exporter = {0};
    int option, ready_fd = -1, status = EXIT_OK;

    while ((option = getopt_long(argc, argv, "h", options, NULL)) >= 0) {
        if (option == 'h') {
            usage(stdout);
            return EXIT_OK;
        }
        if (option != 'r' || (ready_fd = parse_ready_fd(optarg)) < 0) {
            if (option == 'r')
                fprintf(stderr, "otshim exporter: --ready-fd %s is no open descriptor\n", optarg);
            fputs("otshim exporter --help explains the options\n", stderr);
            return EXIT_USAGE;
        }
    }
    if (optind < argc) {
        fprintf(stderr, "otshim exporter takes no argument (\"%s\"); to run a program: otshim run -- %s\n", argv[optind],
                argv[optind]);
        return EXIT_USAGE;
    }
    drop_preload();
    int error = 0;
    if (exporter_config_load(&exporter.config, stderr) > 0)
        status = EXIT_USAGE;
    else if ((error = log_open(exporter.config.log_file, (enum log_level)exporter.config.log_level)) != 0)
        fprintf(stderr, "otshim exporter: cannot open the log %s: %s; OTSHIM_LOG_FILE names it\n", exporter.config.log_file,
                strerror(-error));
    else
        status = serve(&exporter, ready_fd);
    exporter_config_free(&exporter.config);
    return error != 0 ? EXIT_USAGE : status;
}
