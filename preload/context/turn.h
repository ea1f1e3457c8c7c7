/* turn.h - a thread with an event loop works in turns: what it read last says for whom it works only while nothing else can run.
 *
 * A turn lasts from the return of a wait for many connections to the next wait. A request that was read in it, or the response of a call made
 * for it, is a context by rule 2 like any other, but in the same turn the loop may also run the callback of another event, a timer, or a task
 * that somebody has put into its queue, and nothing that libc sees lies between. So such a context answers only if
 *
 *   a. this is the process's only loop with inbound connections, and no other thread has given it work (tasks move between threads);
 *   b. the wait returned one event;
 *   c. no timer can be due: the wait was to last for ever, or longer than until now. Timeouts are counted from the return of the wait before
 *      (a loop reads its clock after that), and believed only of loops that compute them from timers: a fixed tick says nothing;
 *   d. no other request that the thread has read is open (request.h);
 *   e. nothing that happened in the turn was for somebody else;
 *   f. it began with a request, or this process makes no calls that no open request can have asked for: such a call may have waited in line for
 *      the connection, or the place, that the response has just made free.
 *
 * A thread that waits for new connections only, or for one connection, is no loop but a worker. Threads in nginx are not looked at: nginx acts on a
 * request in the event that brought it, and asks nobody by itself.
 *
 * Everything here is the calling thread's own, but for the evidence of a. Async-signal-safe. */
#ifndef OTSHIM_CONTEXT_TURN_H
#define OTSHIM_CONTEXT_TURN_H

#include "base/base.h"
#include <stdint.h>

/* How the loops of this program behave. */
enum turn_manner {
    TURN_UNKNOWN,  /* c. has to be earned */
    TURN_COMPUTES, /* timeouts come from timers: libevent */
    TURN_EVENTS,   /* ... and what other threads give it comes as an event of its own: libev, libuv */
    TURN_SHARES,   /* ... and threads run each other's tasks, as soon as there are two that wait for anything: haproxy */
    TURN_PROMPT,   /* ... and each event's callback does its work: openresty; b. is not asked */
    TURN_EXEMPT    /* nothing is: nginx */
};
extern enum turn_manner turn_manner;
void turn_init(const char *program);
void turn_library(enum turn_manner of); /* a library with a loop is there */

struct turn {
    volatile uint8_t in;     /* in a turn; false: a worker */
    volatile uint8_t doubt;  /* until the next wait */
    volatile uint8_t about;  /* .subject is known */
    volatile uint8_t answer; /* ... from a response */
    uint8_t loops;           /* this thread has waited for many connections by poll or select */
    uint8_t trust;           /* of a loop whose timeouts are not known to be computed */
    volatile uint8_t subject[8];
    uint32_t number;
    int64_t timeout_ns;   /* of the last wait that had one */
    uint64_t due_ns;      /* until then no timer is */
    uint64_t returned_ns; /* when the last wait returned, by the coarse clock */
    uint64_t lasted_ns;   /* that wait, and the turn before it */
};
extern OTSHIM_TLS struct turn turn_mine;

static inline bool turn_in(void)
{
    return OTSHIM_UNLIKELY(turn_mine.in);
}

/* Of this thread's turn, or of none: never 0, and nobody else's. */
static inline uint64_t turn_number(void)
{
    return (uint64_t)turn_mine.number << 32 | (uint32_t)((uintptr_t)&turn_mine >> 5 | 1);
}

/* A wait on a loop's set has returned so many events; < 0: it failed. timeout_ns < 0: it was to last for ever. */
void turn_begin(int events, int64_t timeout_ns);
/* The thread waits for, or blocks on, one connection or new ones: it has no loop at the moment. */
static inline void turn_worker(void)
{
    turn_mine.in = 0;
}
/* Something is being done for the request with this span id; NULL: for nobody, or nobody knows. */
void turn_about(const uint8_t span_id[8]);
/* The same: the response of a call for it was read. */
void turn_answer(const uint8_t span_id[8]);
/* A call was begun that no open request can have asked for. */
void turn_unasked(void);
/* Somebody else's callback runs. */
void turn_stranger(void);
/* The calling thread gives that loop work, or (NULL) some loop. If that is the server's, all certainty ends in this process. */
void turn_gives_work(const struct turn *loop);
/* Bytes came from an unwatched member of a set: other threads may have given this one work. */
void turn_read_other(void);
/* There are timers that are descriptors. libevent can have its next one in there (EVENT_PRECISE_TIMER): it then waits for ever, and runs what is due. */
extern bool turn_timerfd;
/* There are other threads. */
extern bool turn_threads;
/* May the context that was read in this turn, if it is one, answer? */
bool turn_certain(void);
void turn_after_fork(void);

#endif
