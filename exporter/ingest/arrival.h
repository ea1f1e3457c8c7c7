/* arrival.h - connections to the socket, from accept() to a hello that is believed.
 *
 * A process connects, sends one message with one descriptor, and is gone; there is no answer. A connection that says nothing (a second
 * exporter that looks whether we live, a health check) does no harm; one that stays silent is closed after ARRIVAL_TIMEOUT_S. */
#ifndef OTSHIM_INGEST_ARRIVAL_H
#define OTSHIM_INGEST_ARRIVAL_H

#include "ingest/hello.h"
#include <event2/event.h>
#include <stdbool.h>
#include <sys/types.h>

#define ARRIVAL_TIMEOUT_S 2
#define ARRIVALS_PENDING_UID 64 /* silent connections of one user; the oldest of them makes room for the next */
#define ARRIVALS_PENDING 1024   /* of all users: 16 users who each flood us */

/* What the kernel says of the peer. */
struct arrival_peer {
    pid_t pid; /* 0: not visible from our pid namespace */
    uid_t uid;
    int pidfd;    /* -1: none; the taker owns it */
    bool certain; /* pidfd is the peer's for sure; otherwise it may be that of a process that has got its pid since */
    bool dead;    /* already, and reaped */
};

/* Takes a hello. `memfd` stays the caller's. Returns NULL, or why it is refused (static text). */
typedef const char *(*arrival_hello)(void *arg, const struct arrival_peer *peer, const struct hello *hello, int memfd);

struct arrivals;
struct arrivals *arrivals_start(struct event_base *base, int listen_fd, arrival_hello taker, void *arg);
/* Takes everything that waits in the socket now. */
void arrivals_take(struct arrivals *arrivals);
void arrivals_stop(struct arrivals *arrivals);
unsigned arrivals_pending(const struct arrivals *arrivals);

#endif
