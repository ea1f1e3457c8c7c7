/* run_show.h - the waterfalls that `otshim run` prints: each finished trace that the program, or a program that it started, took part in. */
#ifndef OTSHIM_EXPORTER_RUN_SHOW_H
#define OTSHIM_EXPORTER_RUN_SHOW_H

#include "cli/client.h"
#include <sys/types.h>

struct run_show;

/* service: its name if it was given, else NULL. everything: the exporter is ours alone. NULL without memory, or if the exporter does not
 * answer. */
struct run_show *run_show_start(struct client *client, const char *service, bool everything, bool as_json);
void run_show_program(struct run_show *show, pid_t pid);
/* Prints what has finished. all: also what may get more spans yet. */
void run_show_poll(struct run_show *show, bool all);
/* Traces that may still be waiting for spans. */
size_t run_show_pending(const struct run_show *show);
/* How many were shown, or would have been but for their number. */
size_t run_show_count(const struct run_show *show);
void run_show_stop(struct run_show *show);

#endif
