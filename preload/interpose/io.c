/* io.c - bytes in and out of a connection, except what sends (output.c).
 *
 * Each wrapper: one look-up; for what is not watched the plain call; otherwise the plain call and then a look at what came. errno is the
 * real call's. What MSG_PEEK shows comes again; MSG_OOB and MSG_ERRQUEUE are not of the stream; MSG_TRUNC on a stream socket throws bytes
 * away without showing them (tcp(7)). */
#include "conn/flow.h"
#include "context/turn.h"
#include "interpose/node.h"
#include "interpose/wrap.h"
#include <string.h>

#define NOT_OF_THE_STREAM (MSG_PEEK | MSG_OOB | MSG_ERRQUEUE)

static void after_recv(const struct watch *watch, const struct iovec *iov, size_t iovcnt, ssize_t result, size_t asked, int flags)
{
    if (flags & NOT_OF_THE_STREAM)
        return;
    if (flags & MSG_TRUNC)
        flow_received_unseen(watch, result, asked);
    else
        flow_received(watch, iov, iovcnt, result, asked, !(flags & MSG_DONTWAIT));
}

/* A descriptor that is not watched was read from: see ctx_read_unwatched. errno is the call's. */
static inline ssize_t unwatched(int fd, ssize_t result)
{
    if (OTSHIM_UNLIKELY(ctx_inherited | runtime_given) && result > 0 && !otshim_quiet && otshim_active)
        ctx_read_unwatched(fd);
    if (turn_in() && result > 0 && fd_is_other(fd))
        turn_read_other();
    return result;
}

static size_t total_of(const struct iovec *iov, size_t iovcnt)
{
    size_t total = 0;
    for (size_t i = 0; i < iovcnt; i++)
        total += iov[i].iov_len;
    return total;
}

WRAP(ssize_t, read, (int fd, void *buf, size_t count))
{
    struct watch watch;
    if (!watch_begin(&watch, fd))
        return unwatched(fd, REAL(read)(fd, buf, count));
    ssize_t result = REAL(read)(fd, buf, count);
    flow_received(&watch, &(struct iovec){buf, count}, 1, result, count, true);
    return result;
}

WRAP(ssize_t, readv, (int fd, const struct iovec *iov, int iovcnt))
{
    struct watch watch;
    if (!watch_begin(&watch, fd))
        return unwatched(fd, REAL(readv)(fd, iov, iovcnt));
    ssize_t result = REAL(readv)(fd, iov, iovcnt);
    /* The kernel has read the array where it says 0 or more; iovcnt is sane then. */
    flow_received(&watch, iov, (size_t)iovcnt, result, result == 0 ? total_of(iov, (size_t)iovcnt) : 1, true);
    return result;
}

WRAP(ssize_t, recv, (int fd, void *buf, size_t len, int flags))
{
    struct watch watch;
    if (!watch_begin(&watch, fd))
        return unwatched(fd, REAL(recv)(fd, buf, len, flags));
    ssize_t result = REAL(recv)(fd, buf, len, flags);
    after_recv(&watch, &(struct iovec){buf, len}, 1, result, len, flags);
    return result;
}

WRAP(ssize_t, recvfrom, (int fd, void *buf, size_t len, int flags, struct sockaddr *addr, socklen_t *addrlen))
{
    struct watch watch;
    if (!watch_begin(&watch, fd))
        return unwatched(fd, REAL(recvfrom)(fd, buf, len, flags, addr, addrlen));
    ssize_t result = REAL(recvfrom)(fd, buf, len, flags, addr, addrlen);
    after_recv(&watch, &(struct iovec){buf, len}, 1, result, len, flags);
    return result;
}

/* Descriptors that came along (unix(7)). */
static void look_for_descriptors(struct msghdr *msg)
{
    if (msg->msg_control == NULL || msg->msg_controllen < sizeof(struct cmsghdr) || otshim_quiet || !otshim_active)
        return;
    int error = errno;
    for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(msg); cmsg != NULL; cmsg = CMSG_NXTHDR(msg, cmsg)) {
        if (cmsg->cmsg_level != SOL_SOCKET || cmsg->cmsg_type != SCM_RIGHTS || cmsg->cmsg_len < CMSG_LEN(0))
            continue;
        size_t count = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(cmsg) + i * sizeof fd, sizeof fd);
            node_look();
            conn_passed(fd);
        }
    }
    errno = error;
}

WRAP(ssize_t, recvmsg, (int fd, struct msghdr *msg, int flags))
{
    struct watch watch;
    if (!watch_begin(&watch, fd)) {
        ssize_t result = REAL(recvmsg)(fd, msg, flags);
        if (result >= 0 && msg->msg_controllen != 0)
            look_for_descriptors(msg);
        return unwatched(fd, result);
    }
    ssize_t result = REAL(recvmsg)(fd, msg, flags);
    if (result >= 0 && msg->msg_controllen != 0)
        look_for_descriptors(msg);
    if (result < 0)
        after_recv(&watch, NULL, 0, result, 1, flags);
    else
        after_recv(&watch, msg->msg_iov, msg->msg_iovlen, result, result == 0 ? total_of(msg->msg_iov, msg->msg_iovlen) : 1, flags);
    return result;
}

WRAP(int, recvmmsg, (int fd, struct mmsghdr *msgs, unsigned vlen, int flags, struct timespec *timeout))
{
    struct watch watch;
    bool watched = watch_begin(&watch, fd);
    int result = REAL(recvmmsg)(fd, msgs, vlen, flags, timeout);
    if (result < 0 && watched)
        after_recv(&watch, NULL, 0, -1, 1, flags);
    for (int i = 0; i < result; i++) {
        struct msghdr *msg = &msgs[i].msg_hdr;
        if (msg->msg_controllen != 0)
            look_for_descriptors(msg);
        if (watched)
            after_recv(&watch, msg->msg_iov, msg->msg_iovlen, (ssize_t)msgs[i].msg_len,
                       msgs[i].msg_len == 0 ? total_of(msg->msg_iov, msg->msg_iovlen) : 1, flags);
    }
    return result;
}

/* Fortified callers. Where this libc has no such function (musl), nobody was compiled to call it; the bound is checked by libc's own
 * where there is one, which ends the program as it does without us. */
WRAP(ssize_t, __read_chk, (int fd, void *buf, size_t count, size_t buflen))
{
    struct watch watch;
    bool watched = watch_begin(&watch, fd);
    ssize_t result = HAVE(__read_chk) ? real.__read_chk(fd, buf, count, buflen) : REAL(read)(fd, buf, count);
    if (watched)
        flow_received(&watch, &(struct iovec){buf, count}, 1, result, count, true);
    else
        unwatched(fd, result);
    return result;
}

WRAP(ssize_t, __recv_chk, (int fd, void *buf, size_t len, size_t buflen, int flags))
{
    struct watch watch;
    bool watched = watch_begin(&watch, fd);
    ssize_t result = HAVE(__recv_chk) ? real.__recv_chk(fd, buf, len, buflen, flags) : REAL(recv)(fd, buf, len, flags);
    if (watched)
        after_recv(&watch, &(struct iovec){buf, len}, 1, result, len, flags);
    return result;
}

WRAP(ssize_t, __recvfrom_chk, (int fd, void *buf, size_t len, size_t buflen, int flags, struct sockaddr *addr, socklen_t *addrlen))
{
    struct watch watch;
    bool watched = watch_begin(&watch, fd);
    ssize_t result = HAVE(__recvfrom_chk) ? real.__recvfrom_chk(fd, buf, len, buflen, flags, addr, addrlen)
                                          : REAL(recvfrom)(fd, buf, len, flags, addr, addrlen);
    if (watched)
        after_recv(&watch, &(struct iovec){buf, len}, 1, result, len, flags);
    return result;
}
