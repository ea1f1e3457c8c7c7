/* traces.c - `otshim traces`: the recent traces as a table, newest first. */
#include "cli/cli.h"

#include "cli/client.h"
#include "cli/watch.h"
#include "view/text.h"
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define DEFAULT_LIMIT "20"

struct options {
    const char *service, *min_duration, *limit;
    bool errors, json, follow;
    uint64_t min_duration_ns;
};

static void usage(FILE *out)
{
    fputs("usage: otshim traces [--service NAME] [--min-duration 100ms] [--error] [--limit N] [--follow] [--json]\n\n"
          "Lists recent traces, newest first.\n\n"
          "  -s, --service NAME         only traces that this service took part in\n"
          "  -d, --min-duration TIME    only traces that took at least so long: 100ms, 1.5s, 250us\n"
          "  -e, --error                only traces with an error\n"
          "  -n, --limit N              at most N (" DEFAULT_LIMIT "; 0: all that are in memory)\n"
          "  -f, --follow               go on, each as it finishes, until Ctrl-C\n"
          "      --json                 as JSON\n\n"
          "example: otshim traces --service checkout --min-duration 1s\n",
          out);
}

static const char *string_of(const json_t *summary, const char *key)
{
    const char *text = json_string_value(json_object_get(summary, key));
    return text != NULL ? text : "";
}

static void print_heading(const struct terminal *terminal)
{
    printf("%s%-12s  %-8s  %9s  %5s  %-16s  REQUEST%s\n", terminal->color ? "\x1b[1m" : "", "TRACE", "START", "DURATION", "SPANS",
           "SERVICE", terminal->color ? "\x1b[0m" : "");
}

static void print_row(const struct terminal *terminal, const json_t *summary)
{
    char id[64], service[128], title[4096], duration[32], clean[64], when[32] = "";
    long long errors = json_integer_value(json_object_get(summary, "errorCount"));
    time_t seconds = (time_t)(strtoull(string_of(summary, "startTimeUnixNano"), NULL, 10) / 1000000000ull);
    struct tm tm;
    text_clean(id, sizeof(id), string_of(summary, "traceId"), 32, terminal->utf8);
    size_t service_columns = text_clean(service, sizeof(service), string_of(summary, "rootService"), 16, terminal->utf8);
    if (localtime_r(&seconds, &tm) != NULL)
        strftime(when, sizeof(when), "%H:%M:%S", &tm);
    text_duration(duration, sizeof(duration), (uint64_t)json_integer_value(json_object_get(summary, "durationNs")), terminal->utf8);
    size_t duration_columns = text_clean(clean, sizeof(clean), duration, 12, terminal->utf8);
    size_t fixed = 12 + 2 + 8 + 2 + 9 + 2 + 5 + 2 + 16 + 2, room = terminal->width > fixed + 20 ? terminal->width - fixed : 20;
    if (errors > 0)
        room -= 2;
    text_clean(title, sizeof(title), string_of(summary, "rootTitle"), terminal->is_tty ? room : 300, terminal->utf8);
    printf("%.12s  %-8s  %*s%s  %5lld  %s%*s  %s%s%s%s\n", id, when, (int)(duration_columns < 9 ? 9 - duration_columns : 0), "",
           clean, (long long)json_integer_value(json_object_get(summary, "spanCount")), service,
           (int)(service_columns < 16 ? 16 - service_columns : 0), "", errors > 0 && terminal->color ? "\x1b[1;31m" : "",
           errors > 0 ? (terminal->utf8 ? "\xe2\x9c\x97 " : "x ") : "", title, errors > 0 && terminal->color ? "\x1b[0m" : "");
}

static int list(struct client *client, const struct options *options)
{
    char path[2048] = "/api/traces", why[512];
    long status;
    struct terminal terminal = terminal_of(1);
    client_parameter(path, sizeof(path), "limit", options->limit);
    if (options->service != NULL)
        client_parameter(path, sizeof(path), "service", options->service);
    if (options->min_duration != NULL)
        client_parameter(path, sizeof(path), "min_duration", options->min_duration);
    if (options->errors)
        client_parameter(path, sizeof(path), "error", "true");
    json_t *traces = client_get(client, path, &status, why, sizeof(why));
    if (traces == NULL)
        return client_complain(why, status) == EXIT_FAILED && status == 400 ? EXIT_USAGE : EXIT_FAILED;
    if (options->json) {
        client_print_json(traces, true);
    } else if (json_array_size(traces) == 0) {
        fputs(options->service != NULL || options->min_duration != NULL || options->errors
                  ? "no trace matches\n"
                  : "no traces yet; send a request to a program that runs with the library (otshim status lists them)\n",
              stderr);
    } else {
        size_t index;
        json_t *summary;
        print_heading(&terminal);
        json_array_foreach(traces, index, summary) print_row(&terminal, summary);
    }
    json_decref(traces);
    return EXIT_OK;
}

/* ---- following --------------------------------------------------------------------------------------------------------------- */

static volatile sig_atomic_t interrupted;

static void on_interrupt(int signal_number)
{
    (void)signal_number;
    interrupted = 1;
}

struct follow {
    const struct options *options;
    struct terminal terminal;
};

static bool wanted(const struct options *options, const json_t *summary)
{
    size_t index;
    json_t *service;
    if ((uint64_t)json_integer_value(json_object_get(summary, "durationNs")) < options->min_duration_ns ||
        (options->errors && json_integer_value(json_object_get(summary, "errorCount")) == 0))
        return false;
    if (options->service == NULL)
        return true;
    json_array_foreach(json_object_get(summary, "services"), index, service)
    {
        if (strcmp(json_string_value(service) != NULL ? json_string_value(service) : "", options->service) == 0)
            return true;
    }
    return false;
}

static void show_finished(void *arg, json_t *summary)
{
    const struct follow *follow = arg;
    if (!wanted(follow->options, summary))
        return;
    if (follow->options->json) {
        json_object_del(summary, "seenMs");
        client_print_json(summary, false);
    } else {
        print_row(&follow->terminal, summary);
    }
}

static int follow_traces(struct client *client, const struct options *options)
{
    struct follow follow = {.options = options, .terminal = terminal_of(1)};
    struct watch watch;
    char why[512] = "";
    bool complained = false;
    struct sigaction action = {.sa_handler = on_interrupt};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    if (watch_start(&watch, client, false, why, sizeof(why)) != 0) {
        watch_stop(&watch);
        return client_complain(why, 0);
    }
    if (!options->json)
        print_heading(&follow.terminal);
    while (!interrupted && !ferror(stdout)) {
        bool failed = watch_poll(&watch, client, false, show_finished, &follow, why, sizeof(why)) != 0;
        /* An exporter may be restarted under us; said once. */
        if (failed && !complained)
            fprintf(stderr, "otshim: %s; waiting for it\n", why);
        complained = failed;
        fflush(stdout);
        nanosleep(&(struct timespec){.tv_nsec = 300000000}, NULL);
    }
    watch_stop(&watch);
    return EXIT_OK;
}

static bool is_number(const char *text)
{
    return text != NULL && text[0] != 0 && strspn(text, "0123456789") == strlen(text);
}

int cli_traces(int argc, char **argv)
{
    static const struct option table[] = {{"service", required_argument, NULL, 's'}, {"min-duration", required_argument, NULL, 'd'},
                                          {"error", no_argument, NULL, 'e'},         {"limit", required_argument, NULL, 'n'},
                                          {"follow", no_argument, NULL, 'f'},        {"json", no_argument, NULL, 'j'},
                                          {"help", no_argument, NULL, 'h'},          {0}};
    struct options options = {.limit = DEFAULT_LIMIT};
    struct client client;
    int option;
    while ((option = getopt_long(argc, argv, "s:d:en:fh", table, NULL)) >= 0) {
        switch (option) {
        case 's': options.service = optarg; break;
        case 'd': options.min_duration = optarg; break;
        case 'e': options.errors = true; break;
        case 'n': options.limit = optarg; break;
        case 'f': options.follow = true; break;
        case 'j': options.json = true; break;
        case 'h': usage(stdout); return EXIT_OK;
        default: fputs("otshim traces --help explains the options\n", stderr); return EXIT_USAGE;
        }
    }
    if (optind < argc) {
        fprintf(stderr, "otshim traces takes no argument (\"%s\"); one trace is shown by: otshim trace %s\n", argv[optind],
                argv[optind]);
        return EXIT_USAGE;
    }
    if (options.min_duration != NULL && text_parse_duration(options.min_duration, &options.min_duration_ns) != 0) {
        fprintf(stderr, "otshim traces: --min-duration %s is no duration: write a number and a unit, as in 100ms, 1.5s or 250us\n",
                options.min_duration);
        return EXIT_USAGE;
    }
    if (!is_number(options.limit)) {
        fprintf(stderr, "otshim traces: --limit %s is not a whole number\n", options.limit);
        return EXIT_USAGE;
    }
    int status = client_open(&client);
    if (status != EXIT_OK)
        return status;
    status = options.follow ? follow_traces(&client, &options) : list(&client, &options);
    client_close(&client);
    return status;
}
