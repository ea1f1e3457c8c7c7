/* clock.h - from a process's CLOCK_MONOTONIC to the wall clock.
 *
 * Records carry monotonic times. wall = monotonic + offset, where the offset is (CLOCK_REALTIME - CLOCK_MONOTONIC) as we read it now, so that
 * a step of the wall clock (NTP) is followed within seconds, and the spans of all processes agree. CLOCK_REALTIME is the same everywhere on
 * a machine; CLOCK_MONOTONIC is not, in a time namespace. The hello's two anchors, read together, give the process's own offset; where
 * it differs from ours by more than a second the process lives in another time namespace, and the difference stays for its life. (Comparing
 * the anchor with our clock at receipt would not do: a hello may have waited in the socket while we were stopped.) */
#ifndef OTSHIM_INGEST_CLOCK_H
#define OTSHIM_INGEST_CLOCK_H

#include <stdint.h>

uint64_t clock_mono_ns(void);
uint64_t clock_unix_ns(void);
/* CLOCK_REALTIME - CLOCK_MONOTONIC now, as exactly as two vDSO calls allow. */
int64_t clock_offset_ns(void);
/* What to add to our own offset for a process with these anchors: 0 in our time namespace. */
int64_t clock_namespace_delta_ns(uint64_t anchor_mono_ns, uint64_t anchor_unix_ns, int64_t offset_ns);

#endif
