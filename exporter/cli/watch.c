/* watch.c - traces as they finish: see watch.h. */
#include "cli/watch.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define QUIET_MS 300           /* the root has ended: its last children's spans are on their way */
#define QUIET_REMOTE_MS 1500   /* the parent lives in another process, watched or not */
#define QUIET_UNKNOWN_MS 60000 /* the parent is in the same process and has not ended */
#define SHOWN_MAX 20000

static int64_t now_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

int watch_start(struct watch *watch, struct client *client, bool from_start, char *why, size_t why_size)
{
    long http_status;
    memset(watch, 0, sizeof(*watch));
    watch->pending = json_object();
    watch->shown = json_object();
    if (from_start)
        return 0;
    json_t *status = client_get(client, "/api/status", &http_status, why, why_size);
    if (status == NULL)
        return -1;
    watch->since = (uint64_t)json_integer_value(json_object_get(status, "sequence"));
    json_decref(status);
    return 0;
}

static void note_changes(struct watch *watch, json_t *changed)
{
    /* Newest first, as it comes; from the end, so that what is pending is shown in the order in which it began. */
    for (size_t index = json_array_size(changed); index-- > 0;) {
        json_t *summary = json_array_get(changed, index);
        const char *id = json_string_value(json_object_get(summary, "traceId"));
        uint64_t sequence = (uint64_t)json_integer_value(json_object_get(summary, "sequence"));
        if (id == NULL)
            continue;
        if (sequence > watch->since)
            watch->since = sequence;
        /* Shown whole already: what comes late is seen by `otshim trace`. */
        if (json_is_true(json_object_get(watch->shown, id)))
            continue;
        json_object_set_new(summary, "seenMs", json_integer(now_ms()));
        json_object_set(watch->pending, id, summary);
    }
}

static bool is_finished(const json_t *summary)
{
    int64_t quiet = now_ms() - json_integer_value(json_object_get(summary, "seenMs"));
    if (json_is_true(json_object_get(summary, "rootSeen")))
        return quiet >= QUIET_MS;
    return quiet >= (json_is_true(json_object_get(summary, "rootParentRemote")) ? QUIET_REMOTE_MS : QUIET_UNKNOWN_MS);
}

int watch_poll(struct watch *watch, struct client *client, bool all, void (*finished)(void *arg, json_t *summary), void *arg,
               char *why, size_t why_size)
{
    char path[128];
    long http_status;
    const char *id;
    json_t *summary;
    void *next;
    snprintf(path, sizeof(path), "/api/traces?limit=0&since=%" PRIu64, watch->since);
    json_t *changed = client_get(client, path, &http_status, why, why_size);
    if (changed != NULL)
        note_changes(watch, changed);
    if (json_object_size(watch->shown) > SHOWN_MAX)
        json_object_clear(watch->shown);
    json_object_foreach_safe(watch->pending, next, id, summary)
    {
        if (!all && !is_finished(summary))
            continue;
        json_object_set(watch->shown, id, json_object_get(summary, "rootSeen"));
        finished(arg, summary);
        json_object_del(watch->pending, id);
    }
    json_decref(changed);
    return changed != NULL ? 0 : -1;
}

size_t watch_pending(const struct watch *watch)
{
    return json_object_size(watch->pending);
}

void watch_stop(struct watch *watch)
{
    json_decref(watch->pending);
    json_decref(watch->shown);
    watch->pending = watch->shown = NULL;
}
