/* watch.h - traces as they finish, by asking the exporter for what changed since the last time: for `otshim run` and `traces --follow`.
 *
 * Nobody announces the end of a trace. It counts as finished when its root has ended and nothing was added for a moment; a trace whose
 * root's parent is somebody who is not watched, when nothing was added for longer. */
#ifndef OTSHIM_EXPORTER_WATCH_H
#define OTSHIM_EXPORTER_WATCH_H

#include "cli/client.h"
#include <stdint.h>

struct watch {
    json_t *pending; /* id -> summary as in /api/traces, with "seenMs" added */
    json_t *shown;   /* id -> whether its root had been seen */
    uint64_t since;
};

/* From now on, or (from_start) with what the exporter has. 0, or -1 with why. */
int watch_start(struct watch *watch, struct client *client, bool from_start, char *why, size_t why_size);
/* Asks, and calls finished for each trace that has finished: the summary. all: also for those that may get more spans yet. 0; or -1 with
 * why, and the next call tries again. */
int watch_poll(struct watch *watch, struct client *client, bool all, void (*finished)(void *arg, json_t *summary), void *arg,
               char *why, size_t why_size);
size_t watch_pending(const struct watch *watch);
void watch_stop(struct watch *watch);

#endif
