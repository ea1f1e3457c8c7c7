/* table.h - what a descriptor is to us: one pointer a descriptor, NULL for everything that is not watched.
 *
 * read() on a plain file costs this one look-up. The table is an mmap'ed array (untouched pages cost nothing) for descriptors below
 * FD_TABLE_MAX; above it connections are not watched, and counted. The objects are type-stable: their memory is never given back, so a
 * stale pointer can be looked at safely and recognised by its generation. */
#ifndef OTSHIM_CONN_TABLE_H
#define OTSHIM_CONN_TABLE_H

#include "base/base.h"
#include <stdatomic.h>

#define FD_TABLE_MAX (1u << 20)

enum fd_kind {
    FD_LISTENER = 1,
    FD_CONN = 2,
    FD_EPOLL = 3,
    FD_OTHER = 4 /* a member of an epoll set that is not watched: mostly what other threads wake the loop by */
};

/* First member of every object in the table. */
struct fd_object {
    uint8_t kind; /* enum fd_kind */
};

extern _Atomic(struct fd_object *) *fd_table; /* NULL before init and when inert */

static inline struct fd_object *fd_get(int fd)
{
    if (OTSHIM_UNLIKELY((unsigned)fd >= FD_TABLE_MAX || fd_table == NULL))
        return NULL;
    return atomic_load_explicit(&fd_table[fd], memory_order_acquire);
}

/* Maps the table. 0 or -errno. Called once by init.c. */
int fd_table_init(void);

/* ---- for the wait family --------------------------------------------------------------------------------------------------- */

enum fd_wait_class {
    FD_WAIT_UNWATCHED, /* pipe, eventfd, file, unwatched socket */
    FD_WAIT_LISTENER,  /* a listening socket */
    FD_WAIT_INBOUND,   /* an inbound connection */
    FD_WAIT_OWN, /* an outbound connection that works (or connects) for the thread's current request, or for none while there is none */
    FD_WAIT_FOREIGN, /* an outbound connection that works for another request, or an idle one */
    FD_WAIT_LOOP     /* an epoll set that is itself an event loop's */
};
enum fd_wait_class fd_wait_class(int fd);

/* Has there been an inbound connection in this process? */
extern bool fd_any_inbound;
static inline void fd_note_inbound(void)
{
    if (OTSHIM_UNLIKELY(!fd_any_inbound))
        fd_any_inbound = true;
}

/* An epoll descriptor's memory: what does it mean to wait on it? Sticky: when in doubt it is a loop, which costs a parent and never makes a
 * wrong one. */
enum fd_epoll_class {
    FD_EPOLL_OWN,    /* the connection of one's own call */
    FD_EPOLL_CALLS,  /* calls, whose cannot be said */
    FD_EPOLL_WORKER, /* new connections, or one and the calls that are made for it: the thread works on one thing at a time */
    FD_EPOLL_LOOP    /* many connections */
};
void fd_epoll_made(int epfd);
void fd_epoll_added(int epfd, int fd); /* EPOLL_CTL_ADD and MOD */
enum fd_epoll_class fd_epoll_class(int epfd);
/* A loop's thread has waited on it. From another thread, adding something to it gives that loop work. */
void fd_epoll_waited(int epfd);

/* The descriptor is an unwatched member of a loop's set. */
void fd_other_seen(int fd);
static inline bool fd_is_other(int fd)
{
    struct fd_object *object = fd_get(fd);
    return OTSHIM_UNLIKELY(object != NULL) && object->kind == FD_OTHER;
}

#endif
