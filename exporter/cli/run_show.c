/* run_show.c - the waterfalls that `otshim run` prints: see run_show.h.
 *
 * With an exporter that serves others too, a trace is ours if one of its processes is the program, a descendant of it, or has the service
 * name that one of those had. Descendants come and go; every one that is ever seen is remembered as a bit (a pid is below 2^22). */
#include "cli/run_show.h"

#include "cli/watch.h"
#include "view/waterfall.h"
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PID_LIMIT (1u << 22)
#define SHOWN_PER_POLL 5 /* a server under load makes more traces than a person reads */
#define DESCENDANTS_MAX 4096

struct run_show {
    struct client *client;
    struct watch watch;
    struct terminal terminal;
    bool everything, as_json;
    pid_t program;
    json_t *services; /* names of ours, as keys */
    size_t shown_now, skipped_now, count;
    uint8_t pids[PID_LIMIT / 8];
};

struct run_show *run_show_start(struct client *client, const char *service, bool everything, bool as_json)
{
    char why[512];
    struct run_show *show = calloc(1, sizeof(*show));
    if (show == NULL)
        return NULL;
    show->client = client;
    show->client->timeout_ms = 2000;
    show->terminal = terminal_of(2);
    show->everything = everything;
    show->as_json = as_json;
    show->services = json_object();
    if (service != NULL)
        json_object_set_new(show->services, service, json_true());
    if (watch_start(&show->watch, client, false, why, sizeof(why)) != 0) {
        fprintf(stderr, "otshim: traces cannot be shown: %s\n", why);
        run_show_stop(show);
        return NULL;
    }
    return show;
}

/* ---- whose trace ------------------------------------------------------------------------------------------------------------- */

static void mark(struct run_show *show, long pid)
{
    if (pid > 0 && pid < (long)PID_LIMIT)
        show->pids[pid / 8] |= (uint8_t)(1u << pid % 8);
}

static bool is_marked(const struct run_show *show, const char *pid_text)
{
    long pid = pid_text != NULL ? strtol(pid_text, NULL, 10) : 0;
    return pid > 0 && pid < (long)PID_LIMIT && (show->pids[pid / 8] >> pid % 8 & 1) != 0;
}

void run_show_program(struct run_show *show, pid_t pid)
{
    show->program = pid;
    mark(show, pid);
}

/* Children of each thread of the process: /proc/PID/task/TID/children. Appends to the queue. */
static void add_children(struct run_show *show, int pid, int *queue, int *count)
{
    char path[80];
    snprintf(path, sizeof(path), "/proc/%d/task", pid);
    DIR *tasks = opendir(path);
    struct dirent *task;
    while (tasks != NULL && (task = readdir(tasks)) != NULL) {
        int child;
        if (task->d_name[0] == '.')
            continue;
        snprintf(path, sizeof(path), "/proc/%d/task/%.16s/children", pid, task->d_name);
        FILE *file = fopen(path, "re");
        while (file != NULL && fscanf(file, "%d", &child) == 1 && *count < DESCENDANTS_MAX) {
            mark(show, child);
            queue[(*count)++] = child;
        }
        if (file != NULL)
            fclose(file);
    }
    if (tasks != NULL)
        closedir(tasks);
}

static void mark_descendants(struct run_show *show)
{
    static int queue[DESCENDANTS_MAX];
    int count = 1;
    queue[0] = show->program;
    for (int at = 0; at < count; at++)
        add_children(show, queue[at], queue, &count);
}

static bool is_ours(struct run_show *show, const struct forest *forest)
{
    bool ours = show->everything;
    const json_t *seen = NULL;
    for (int i = 0; i < forest->count; i++) {
        const struct forest_span *span = &forest->spans[i];
        if (span->resource == seen)
            continue;
        seen = span->resource;
        const char *pid = forest_attribute(span->resource, "process.pid");
        bool by_pid = is_marked(show, pid) || is_marked(show, forest_attribute(span->resource, "process.parent_pid"));
        if (by_pid) {
            if (pid != NULL)
                mark(show, strtol(pid, NULL, 10));
            json_object_set_new(show->services, span->service, json_true());
        }
        ours |= by_pid || json_object_get(show->services, span->service) != NULL;
    }
    return ours;
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
    if (show->shown_now >= SHOWN_PER_POLL && show->everything) {
        show->skipped_now++;
        show->count++;
        return;
    }
    snprintf(path, sizeof(path), "/api/traces/%.32s", id);
    json_t *document = client_get(show->client, path, &status, why, sizeof(why));
    struct forest *forest = document != NULL ? forest_of(document, why, sizeof(why)) : NULL;
    if (forest != NULL && is_ours(show, forest)) {
        show->count++;
        if (show->shown_now < SHOWN_PER_POLL || show->as_json) {
            print_whole(show, forest);
            show->shown_now++;
        } else {
            show->skipped_now++;
        }
    }
    forest_free(forest);
    json_decref(document);
}

void run_show_poll(struct run_show *show, bool all)
{
    char why[512];
    show->shown_now = show->skipped_now = 0;
    mark_descendants(show);
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
