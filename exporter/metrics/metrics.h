/* metrics.h - the exporter's own counters as a Prometheus page (text format 0.0.4). */
#ifndef OTSHIM_EXPORTER_METRICS_H
#define OTSHIM_EXPORTER_METRICS_H

#include <stddef.h>

struct ingest;

/* The page, to be given to free(); NULL when memory is short. */
char *metrics_text(struct ingest *ingest, size_t *len);

#endif
