/* deliver.h - queue, batches, retry: finished spans to an OTLP endpoint by libcurl multi in the exporter's own event loop.
 *
 * Never traces itself. What it drops it counts in stats and says once in the log, in words. A span's receipt is settled when the
 * backend has taken it (or refused it for good), or when it is dropped and counted. */
#ifndef OTSHIM_EXPORTER_DELIVER_H
#define OTSHIM_EXPORTER_DELIVER_H

#include "config/config.h"
#include "trace/model.h"
#include <event2/event.h>

struct deliver;

/* NULL with a line in why on failure (libcurl cannot do HTTP/2, certificate file unreadable, ...). */
struct deliver *deliver_start(struct event_base *base, const struct exporter_config *config, char *why, size_t why_size);
struct span_sink deliver_sink(struct deliver *deliver);
/* SIGTERM: sends what is queued; calls done (from the event loop) when all is delivered or config->shutdown_ms have passed. */
void deliver_flush(struct deliver *deliver, void (*done)(void *arg), void *arg);
/* Counts what is left as dropped by shutdown, and settles its receipts: after ingest_stop, so that the tails of rings that live on do not move
 * over it and the next exporter finds it there. */
void deliver_stop(struct deliver *deliver);

#endif
