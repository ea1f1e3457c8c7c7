/* trace.c - `otshim trace`: one trace as a waterfall. */
#include "cli/cli.h"

#include "cli/client.h"
#include "view/waterfall.h"
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void usage(FILE *out)
{
    fputs("usage: otshim trace ID|PREFIX|latest [--service NAME] [--all] [--verbose] [--json]\n\n"
          "Shows one trace as a waterfall. The first digits of the id are enough; \"latest\" is the newest (of --service).\n\n"
          "  -s, --service NAME  with latest: the newest trace that this service took part in\n"
          "  -a, --all           every span, not only the first 200\n"
          "  -v, --verbose       every attribute and event of each span\n"
          "      --json          as OTLP/JSON\n\n"
          "example: otshim trace latest\n",
          out);
}

/* The id of the newest trace. 0, or the exit status. */
static int find_latest(struct client *client, const char *service, char id[33])
{
    char path[1024] = "/api/traces?limit=1", why[512];
    long status;
    if (service != NULL)
        client_parameter(path, sizeof(path), "service", service);
    json_t *traces = client_get(client, path, &status, why, sizeof(why));
    if (traces == NULL)
        return client_complain(why, status);
    const char *found = json_string_value(json_object_get(json_array_get(traces, 0), "traceId"));
    if (found != NULL)
        snprintf(id, 33, "%s", found);
    else
        fprintf(stderr, "otshim: no trace yet%s%s\n", service != NULL ? " of service " : "", service != NULL ? service : "");
    json_decref(traces);
    return found != NULL ? EXIT_OK : EXIT_FAILED;
}

static int show(struct client *client, const char *id, const struct waterfall_options *options, bool as_json)
{
    char path[256], why[512];
    long status;
    snprintf(path, sizeof(path), "/api/traces/%s", id);
    json_t *document = client_get(client, path, &status, why, sizeof(why));
    if (document == NULL)
        return client_complain(why, status);
    if (as_json) {
        client_print_json(document, true);
        json_decref(document);
        return EXIT_OK;
    }
    struct forest *forest = forest_of(document, why, sizeof(why));
    json_decref(document);
    if (forest == NULL)
        return client_complain(why, 200);
    waterfall_print(stdout, forest, options);
    forest_free(forest);
    return EXIT_OK;
}

int cli_trace(int argc, char **argv)
{
    static const struct option table[] = {{"service", required_argument, NULL, 's'}, {"all", no_argument, NULL, 'a'},
                                          {"verbose", no_argument, NULL, 'v'},       {"json", no_argument, NULL, 'j'},
                                          {"help", no_argument, NULL, 'h'},          {0}};
    struct waterfall_options options = {.terminal = terminal_of(1)};
    struct client client;
    const char *service = NULL;
    bool as_json = false;
    char id[33];
    int option;
    while ((option = getopt_long(argc, argv, "s:avh", table, NULL)) >= 0) {
        switch (option) {
        case 's': service = optarg; break;
        case 'a': options.max_rows = INT_MAX / 4; break;
        case 'v': options.attributes = true; break;
        case 'j': as_json = true; break;
        case 'h': usage(stdout); return EXIT_OK;
        default: fputs("otshim trace --help explains the options\n", stderr); return EXIT_USAGE;
        }
    }
    if (argc - optind != 1) {
        usage(stderr);
        return EXIT_USAGE;
    }
    const char *wanted = argv[optind];
    bool latest = strcmp(wanted, "latest") == 0;
    if (!latest && (strspn(wanted, "0123456789abcdefABCDEF") != strlen(wanted) || strlen(wanted) < 4 || strlen(wanted) > 32)) {
        fprintf(stderr,
                "otshim trace: \"%s\" is no trace id: that is 32 hexadecimal digits, of which the first 4 or more are enough "
                "(otshim traces lists them)\n",
                wanted);
        return EXIT_USAGE;
    }
    int status = client_open(&client);
    if (status != EXIT_OK)
        return status;
    if (latest)
        status = find_latest(&client, service, id);
    if (status == EXIT_OK)
        status = show(&client, latest ? id : wanted, &options, as_json);
    client_close(&client);
    return status;
}
