/* run_show.c - the waterfalls that `otshim run` prints: see run_show.h.
 *
 * The exporter may serve others too. A trace is ours if one of its processes carries this run's mark, a resource attribute that travels with
 * the environment to the program and all that it starts. */
#include "cli/run_show.h"

#include "cli/watch.h"
#include "view/waterfall.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SHOWN_PER_POLL 5 /* a server under load makes more traces than a person reads */

struct run_show {
    struct client *client;
    struct watch watch;
    struct terminal terminal;
    bool as_json;
    char mark[64];
    json_t *services; /* names that ours have had, as keys */
    size_t shown_now, skipped_now, count;
};

struct run_show *run_show_start(struct client *client, const char *mark, bool as_json)
{
    char why[512];
    struct run_show *show = calloc(1, sizeof(*show));
    if (show == NULL)
        return NULL;
    show->client = client;
    show->client->timeout_ms = 2000;
    show->terminal = terminal_of(2);
    show->as_json = as_json;
    show->services = json_object();
    snprintf(show->mark, sizeof(show->mark), "%s", mark);
    if (watch_start(&show->watch, client, false, why, sizeof(why)) != 0) {
        fprintf(stderr, "otshim: traces cannot be shown: %s\n", why);
        run_show_stop(show);
        return NULL;
    }
    return show;
}

/* ---- whose trace ------------------------------------------------------------------------------------------------------------- */

static bool is_ours(struct run_show *show, const struct forest *forest)
{
    bool ours = false;
    const json_t *seen = NULL;
    for (int i = 0; i < forest->count; i++) {
        const struct forest_span *span = &forest->spans[i];
        if (span->resource == seen)
            continue;
        seen = span->resource;
        const char *mark = forest_attribute(span->resource, RUN_MARK);
        if (mark == NULL || strcmp(mark, show->mark) != 0)
            continue;
        ours = true;
        json_object_set_new(show->services, span->service, json_true());
    }
    return ours;
}

/* From the summary alone, for those that are only counted: does a service of ours take part? */
static bool is_likely_ours(const struct run_show *show, const json_t *summary)
{
    size_t i;
    const json_t *service;
    json_array_foreach(json_object_get(summary, "services"), i, service)
    {
        if (json_string_value(service) != NULL && json_object_get(show->services, json_string_value(service)) != NULL)
            return true;
    }
    return false;
}

/* ---- showing ----------------------------------------------------------------------------------------------------------------- */

/* One write for a whole picture: the program writes to the same terminal. */
static void print_whole(const struct run_show *show, const struct forest *forest)
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    if (out == NULL)
        return;
    if (show->as_json) {
        json_dumpf(forest->document, out, JSON_COMPACT | JSON_ENSURE_ASCII);
        fputc('\n', out);
    } else {
        waterfall_print(out, forest, &(struct waterfall_options){.terminal = show->terminal});
        fputc('\n', out);
    }
    if (fclose(out) == 0) {
        fwrite(text, 1, len, stderr);
        fflush(stderr);
    }
    free(text);
}

static void show_finished(void *arg, json_t *summary)
{
    struct run_show *show = arg;
    char path[128], why[512];
    long status;
    const char *id = json_string_value(json_object_get(summary, "traceId"));
    if (show->shown_now >= SHOWN_PER_POLL && !show->as_json) {
        size_t more = is_likely_ours(show, summary);
        show->skipped_now += more;
        show->count += more;
        return;
    }
    snprintf(path, sizeof(path), "/api/traces/%.32s", id);
    json_t *document = client_get(show->client, path, &status, why, sizeof(why));
    struct forest *forest = document != NULL ? forest_of(document, why, sizeof(why)) : NULL;
    if (forest != NULL && is_ours(show, forest)) {
        show->count++;
        print_whole(show, forest);
        show->shown_now++;
    }
    forest_free(forest);
    json_decref(document);
}

void run_show_poll(struct run_show *show, bool all)
{
    char why[512];
    show->shown_now = show->skipped_now = 0;
    watch_poll(&show->watch, show->client, all, show_finished, show, why, sizeof(why));
    if (show->skipped_now > 0)
        fprintf(stderr, "otshim: and %zu more trace%s (otshim traces lists them)\n", show->skipped_now,
                show->skipped_now == 1 ? "" : "s");
}

size_t run_show_pending(const struct run_show *show)
{
    return watch_pending(&show->watch);
}

size_t run_show_count(const struct run_show *show)
{
    return show->count;
}

void run_show_stop(struct run_show *show)
{
    if (show == NULL)
        return;
    watch_stop(&show->watch);
    json_decref(show->services);
    free(show);
}
