/* quiet.h - raising and lowering otshim_quiet (base/base.h) so that it cannot stay raised by accident.
 *
 * Low half: this thread is inside libc code whose calls are not the program's. High half: this is a vfork child on its parent's memory and
 * thread-local state (process.c).
 *
 * libc code can be left without returning: a handler of SIGALRM that siglongjmp()s out of gethostbyname (libcurl without its resolver thread
 * did that), a cancelled thread. So the frame that raised the flag is remembered; a wrapper that finds itself called from an older frame
 * (at the same or a higher address: stacks grow down) knows that the flag is stale and lowers it; the next wait or new socket is usually
 * such a call. A handler on an alternate stack may draw the wrong
 * conclusion; then a few sockets of a name look-up are looked at, which does no harm. */
#ifndef OTSHIM_QUIET_H
#define OTSHIM_QUIET_H

#include "base/base.h"

#define QUIET_VFORK 0x10000u
#define QUIET_LIBC_MASK 0xffffu

/* The frame that raised the low half from 0; NULL when it is 0 or was raised elsewhere. Defined in resolve.c. */
extern OTSHIM_TLS const void *quiet_frame;

static inline bool quiet_in_vfork_child(void)
{
    return OTSHIM_UNLIKELY(otshim_quiet >= QUIET_VFORK);
}

/* Is the flag raised? `frame` is the asking wrapper's. */
static inline bool quiet_now(const void *frame)
{
    if (OTSHIM_LIKELY(otshim_quiet == 0))
        return false;
    if (otshim_quiet >= QUIET_VFORK || quiet_frame == NULL || (uintptr_t)frame < (uintptr_t)quiet_frame)
        return true;
    quiet_frame = NULL;
    otshim_quiet = 0;
    return false;
}

/* May a wrapper look at what it forwards? */
#define QUIET_WATCHING() (OTSHIM_LIKELY(otshim_active) && !quiet_now(__builtin_frame_address(0)))

/* Only with QUIET_WATCHING(), which made sure that the flag is down. */
#define QUIET_ENTER() (quiet_frame = __builtin_frame_address(0), otshim_quiet = 1, (void)0)
#define QUIET_LEAVE() (otshim_quiet = 0, quiet_frame = NULL, (void)0)

#endif
