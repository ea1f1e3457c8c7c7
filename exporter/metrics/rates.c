/* rates.c - spans per second: the counters of stats.h, remembered each second for ten seconds. */
#include "metrics/rates.h"

#include "metrics/stats.h"

#define SAMPLES 11

struct sample {
    uint64_t time_ns, received, exported;
};

static struct sample samples[SAMPLES];
static unsigned next;

void rates_tick(uint64_t now_mono_ns)
{
    samples[next++ % SAMPLES] = (struct sample){now_mono_ns, stats.spans_received, stats.spans_exported};
}

struct rates rates_now(uint64_t now_mono_ns)
{
    struct rates rates = {0};
    if (next == 0)
        return rates;
    const struct sample *oldest = &samples[next < SAMPLES ? 0 : next % SAMPLES];
    if (now_mono_ns <= oldest->time_ns)
        return rates;
    rates.window_seconds = (double)(now_mono_ns - oldest->time_ns) / 1e9;
    rates.received_per_second = (double)(stats.spans_received - oldest->received) / rates.window_seconds;
    rates.exported_per_second = (double)(stats.spans_exported - oldest->exported) / rates.window_seconds;
    return rates;
}
