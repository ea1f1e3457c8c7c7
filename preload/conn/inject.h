/* inject.h - what the program sends on a watched connection, with its context put into the heads of requests as their protocol carries it.
 *
 * Which outbound requests carry none (OTSHIM_COUNT_NOT_INJECTED): those whose empty line's (record's) first byte was sent by an earlier call; sent with
 * MSG_OOB, MSG_ZEROCOPY, MSG_FASTOPEN, an address, or control data; in more than INJECT_IOV_MAX pieces; the fifth and further heads in one call. */
#ifndef OTSHIM_INJECT_H
#define OTSHIM_INJECT_H

#include "conn/flow.h"

#define INJECT_IOV_MAX 62

/* A call that sends bytes. plain() makes exactly the call that the program made. */
struct output {
    ssize_t (*plain)(const struct output *output);
    int fd;
    int flags; /* of send and its kin; 0 for write and writev */
    const void *buf;
    size_t len;
    const struct iovec *iov; /* NULL: buf and len */
    size_t iovcnt;
    const struct msghdr *msg; /* plain()'s own */
    const struct sockaddr *addr;
    socklen_t addrlen;
    bool may_inject;
    /* Sends the program's pieces with our lines between them, whole: `total` bytes, or -1 with errno; 0: it cannot,
     * nothing was sent. NULL: by sendmsg, which may take a part. */
    ssize_t (*woven)(const struct output *output, const struct iovec *pieces, size_t count, size_t total);
};

/* Makes the call, watched. Result and errno are those of the call as the program made it. */
ssize_t inject_output(const struct watch *watch, const struct output *output);

/* The context of an insertion's exchange as its protocol carries it. With the lock. Bytes; 0: there is no room. */
size_t inject_format(const struct proto_ops *proto, const struct flow_insertion *insertion, char *out, size_t room);

/* These bytes go out before anything else does. At most INJECT_DEBT_MAX of them. Without the lock. */
#define INJECT_DEBT_MAX 1020u
void inject_owe(const struct watch *watch, const char *bytes, size_t len);

/* Sends what is left of a line of ours, before anything else may be sent on this connection (by sendfile or splice, too). 0, or -1 with
 * the errno that the program's own call would have got. */
int inject_settle(const struct watch *watch, int flags);

/* With the lock: the connection is over, or the program gave up in the middle of a request. */
void inject_drop_debt(struct conn *conn);

/* May these bytes be looked at before the kernel has? A pointer that the kernel would refuse (EFAULT) must not crash us. True for pages that were
 * found readable once; others are tried out by a futex wait that cannot wait. */
bool inject_readable(const void *bytes, size_t len);

#endif
