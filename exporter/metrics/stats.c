/* stats.c - the one set of the exporter's counters (stats.h). */
#include "metrics/stats.h"

struct stats stats;
