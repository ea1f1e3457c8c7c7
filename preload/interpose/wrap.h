/* wrap.h - how an interposed function is written down.
 *
 *     WRAP(ssize_t, read, (int fd, void *buf, size_t count))
 *     {
 *         ...
 *     }
 *
 * defines the exported symbol `read` under the C name wrap_read. The detour by an assembler name keeps libc's own declaration out of the
 * way: glibc declares connect(), accept() and others with transparent unions and attributes that differ from version to version,
 * and declares the fortified __*_chk functions not at all. Name and parameters are those of symbols.def. */
#ifndef OTSHIM_WRAP_H
#define OTSHIM_WRAP_H

#include "base/base.h"
#include "interpose/real.h"
#include <errno.h>

#define WRAP(ret, name, params)                                                                                                    \
    OTSHIM_EXPORT ret wrap_##name params __asm__(#name);                                                                           \
    OTSHIM_EXPORT ret wrap_##name params

/* Does this libc have it? (REAL() is a call through the pointer: it cannot be compared with NULL.) */
#define HAVE(name) (real.name != NULL || (real.read == NULL && (real_resolve(), real.name != NULL)))

#endif
