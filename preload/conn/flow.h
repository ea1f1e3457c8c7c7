/* flow.h - bytes that went through a watched descriptor: what the read and write wrappers report.
 *
 *     struct watch watch;
 *     if (!watch_begin(&watch, fd))
 *         return REAL(read)(fd, buf, count);
 *     ssize_t result = REAL(read)(fd, buf, count);
 *     flow_received(&watch, ...);
 *
 * Nothing is held during the real call. errno is preserved. */
#ifndef OTSHIM_FLOW_H
#define OTSHIM_FLOW_H

#include "conn/state.h"
#include <string.h>

struct watch {
    struct conn *conn;
    uint32_t generation;
    int fd;
};

/* False: nothing of ours, make the plain call. This is all that a descriptor which is not watched costs. */
static inline bool watch_begin(struct watch *watch, int fd)
{
    struct fd_object *object = fd_get(fd);
    if (OTSHIM_LIKELY(object == NULL))
        return false;
    if (object->kind != FD_CONN || otshim_quiet || !otshim_active)
        return false;
    watch->conn = (struct conn *)object;
    watch->generation = atomic_load_explicit(&watch->conn->generation, memory_order_acquire);
    watch->fd = fd;
    return true;
}

/* Is it still the same connection, under the same number? */
static inline bool watch_holds(const struct watch *watch)
{
    return (fd_get(watch->fd) == &watch->conn->object || watch->conn->is_plain) &&
           atomic_load_explicit(&watch->conn->generation, memory_order_relaxed) == watch->generation;
}

/* Takes the lock. False: the connection is another one by now, or busy. */
bool watch_lock(const struct watch *watch);

/* result bytes lie in iov; result 0 with asked > 0 is the end of the stream; result -1 comes with errno. blocking: the call was made with
 * no flag that keeps it from blocking. */
void flow_received(const struct watch *watch, const struct iovec *iov, size_t iovcnt, ssize_t result, size_t asked, bool blocking);
/* `result` bytes left the socket without a copy for us (splice, MSG_TRUNC). */
void flow_received_unseen(const struct watch *watch, ssize_t result, size_t asked);
/* The program's bytes that the kernel has taken. */
void flow_sent(const struct watch *watch, const struct iovec *iov, size_t iovcnt, ssize_t result);
void flow_sent_unseen(const struct watch *watch, ssize_t result);

/* ---- for inject.c: looking at bytes that are about to be sent. With the lock. ------------------------------------------------------ */

#define FLOW_INSERTIONS 4

/* Where a context can go in: before byte `at` of this call's. */
struct flow_insertion {
    size_t at;
    uint32_t stream; /* proto.h */
    struct exchange *exchange;
    /* The header of the frame that it goes into, and how long that is (proto.h); protocols with streams only. */
    size_t frame_at;
    uint32_t frame_bytes;
};

struct flow {
    struct conn *conn;
    int fd;
    uint64_t now;      /* 0: not asked for yet; one look at the clock a call at most */
    uint64_t position; /* of the first byte of this feed, in its direction */
    size_t base;       /* bytes of this call fed before this feed */
    enum proto_dir dir;
    bool blocking; /* a read that may have waited: its stack is the call site */
    unsigned insertions;
    struct exchange *begun; /* the first of this call: protocols with streams, or where .sends_for_others */
    struct flow_insertion *insertion;
    const struct exchange_writer *writer; /* NULL: the calling thread */
    /* What happened, for the context of the thread. */
    bool response_read;
    bool response_has_owner;
    struct ctx response_owner; /* if response_has_owner; the last, because not initialised */
};

static inline uint64_t flow_now(struct flow *flow)
{
    if (flow->now == 0)
        flow->now = now_ns();
    return flow->now;
}

/* What the parsers' events are told to; .sink_arg is the flow. */
void flow_on_event(void *arg, const struct proto_event *event);
/* With the call site, if the call was slow or failed and this thread has waited for it. Not inlined: the events before need no such room on the stack. */
__attribute__((noinline)) void flow_end_exchange(struct flow *flow, struct exchange *exchange, uint8_t end, int error);

/* A response of this exchange is being read: for whom was what this call reads? Answers to several at once are for nobody. */
void flow_note_owner(struct flow *flow, const struct exchange *exchange);

static inline void flow_begin(struct flow *flow, struct conn *conn, int fd)
{
    memset(flow, 0, offsetof(struct flow, response_owner));
    flow->conn = conn;
    flow->fd = fd;
}

/* Remembers for whom the thread writes on a connection that is not parsed. */
void flow_note_writer_locked(struct conn *conn);
void flow_feed_locked(struct flow *flow, enum proto_dir dir, const char *bytes, size_t len);
void flow_skip_locked(struct flow *flow, enum proto_dir dir, uint64_t len); /* bytes that nobody saw */
/* The result of the first call on a connecting descriptor, errors that end a connection. With the lock. */
void flow_result_locked(struct conn *conn, ssize_t result, int error);

/* The program shut down its sending direction, or is about to close. With the lock. */
void flow_send_closed_locked(struct conn *conn);

#endif
