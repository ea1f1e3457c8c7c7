/* rates.h - spans per second, over the last ten seconds: for a person who wants to see that something arrives. */
#ifndef OTSHIM_EXPORTER_RATES_H
#define OTSHIM_EXPORTER_RATES_H

#include <stdint.h>

/* Called once a second. */
void rates_tick(uint64_t now_mono_ns);

struct rates {
    double received_per_second;
    double exported_per_second;
    double window_seconds; /* 0: not yet known */
};
struct rates rates_now(uint64_t now_mono_ns);

#endif
