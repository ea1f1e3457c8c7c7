/* trace.h - from a raw record to a span with OpenTelemetry meaning.
 *
 * One thread, the exporter's event loop. The record is a checked private copy (ingest/), its text is not trusted: it becomes valid UTF-8
 * and is cut to what backends keep. Every record that comes in goes on to the next consumer exactly once, with its receipt; if there
 * is no memory for it, it is settled here and counted. */
#ifndef OTSHIM_EXPORTER_TRACE_H
#define OTSHIM_EXPORTER_TRACE_H

#include "ingest/ingest.h"
#include "trace/model.h"

struct trace;

/* NULL without memory. */
struct trace *trace_new(struct span_sink next);
void trace_free(struct trace *trace);

/* What ingest/ calls for each record. */
struct record_sink trace_record_sink(struct trace *trace);

/* A request that was in flight when its process died: makes a span of what the slot (a private, consistent copy) tells, ended at
 * end_mono_ns of the process's CLOCK_MONOTONIC, status Error, otshim.end=died. Such a span has no receipt. */
void trace_inflight_died(struct trace *trace, const struct process *process, const struct otshim_inflight *slot,
                         uint64_t end_mono_ns);

/* A process said hello: its modules are looked at while it lives, so that its addresses can be named after it has died. */
void trace_process_seen(struct trace *trace, const struct process *process);

#endif
