/* clock.c - see clock.h. */
#include "ingest/clock.h"
#include <time.h>

#define CLOCK_SAME_NAMESPACE_NS 1000000000

static uint64_t clock_read(clockid_t id)
{
    struct timespec ts;

    clock_gettime(id, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

uint64_t clock_mono_ns(void)
{
    return clock_read(CLOCK_MONOTONIC);
}

uint64_t clock_unix_ns(void)
{
    return clock_read(CLOCK_REALTIME);
}

int64_t clock_offset_ns(void)
{
    int64_t best = 0;
    uint64_t narrowest = UINT64_MAX;

    /* Of a few readings the one that was interrupted least. */
    for (int i = 0; i < 3; i++) {
        uint64_t before = clock_read(CLOCK_MONOTONIC), wall = clock_read(CLOCK_REALTIME), after = clock_read(CLOCK_MONOTONIC);

        if (after - before < narrowest) {
            narrowest = after - before;
            best = (int64_t)(wall - (before + narrowest / 2));
        }
    }
    return best;
}

int64_t clock_namespace_delta_ns(uint64_t anchor_mono_ns, uint64_t anchor_unix_ns, int64_t offset_ns)
{
    int64_t delta = (int64_t)(anchor_unix_ns - anchor_mono_ns) - offset_ns;

    return delta > -CLOCK_SAME_NAMESPACE_NS && delta < CLOCK_SAME_NAMESPACE_NS ? 0 : delta;
}
