/* run_show.h - the waterfalls that `otshim run` prints: each finished trace that the program, or a program that it started, took part in. */
#ifndef OTSHIM_EXPORTER_RUN_SHOW_H
#define OTSHIM_EXPORTER_RUN_SHOW_H

#include "cli/client.h"
#include <stdbool.h>
#include <stddef.h>

struct run_show;

/* The resource attribute by which the traces of one run are known. */
#define RUN_MARK "otshim.run.id"

/* mark: the value of RUN_MARK in the program's OTEL_RESOURCE_ATTRIBUTES. NULL without memory, or if the exporter does not answer. */
struct run_show *run_show_start(struct client *client, const char *mark, bool as_json);
/* Prints what has finished. all: also what may get more spans yet. */
void run_show_poll(struct run_show *show, bool all);
/* Traces that may still be waiting for spans. */
size_t run_show_pending(const struct run_show *show);
/* How many were shown, or would have been but for their number. */
size_t run_show_count(const struct run_show *show);
void run_show_stop(struct run_show *show);

#endif
