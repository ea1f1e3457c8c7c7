/* real.h - the functions we stand in front of.
 *
 * One pointer a symbol, found by dlsym(RTLD_NEXT). Calls may arrive before our constructor (another library's constructor runs first):
 * REAL() then looks the pointer up on the spot. A symbol that this libc does not have stays NULL. */
#ifndef OTSHIM_REAL_H
#define OTSHIM_REAL_H

#include "base/base.h"
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

struct real {
#define SYMBOL(family, ret, name, params) ret(*name) params;
#include "interpose/symbols.def"
#undef SYMBOL
};

extern struct real real;

/* Resolves every symbol. Idempotent, thread-safe (all writers write the same values). Not async-signal-safe the first time. */
void real_resolve(void);

#define REAL(name) (*(OTSHIM_LIKELY(real.name != NULL) ? real.name : (real_resolve(), real.name)))

#endif
