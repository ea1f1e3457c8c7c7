/* output.c - the sending half of the io family: each call as the program made it, and the same call described for conn/inject.h. */
#include "conn/inject.h"
#include "context/turn.h"
#include "interpose/wrap.h"

#define NO_INJECTION (MSG_OOB | MSG_ZEROCOPY | MSG_FASTOPEN)

static ssize_t plain_write(const struct output *o)
{
    return REAL(write)(o->fd, o->buf, o->len);
}

static ssize_t plain_writev(const struct output *o)
{
    return REAL(writev)(o->fd, o->iov, (int)(ssize_t)o->iovcnt);
}

static ssize_t plain_send(const struct output *o)
{
    return REAL(send)(o->fd, o->buf, o->len, o->flags);
}

static ssize_t plain_sendto(const struct output *o)
{
    return REAL(sendto)(o->fd, o->buf, o->len, o->flags, o->addr, o->addrlen);
}

static ssize_t plain_sendmsg(const struct output *o)
{
    return REAL(sendmsg)(o->fd, o->msg, o->flags);
}

WRAP(ssize_t, write, (int fd, const void *buf, size_t count))
{
    struct watch watch;
    if (!watch_begin(&watch, fd)) {
        if (fd_is_other(fd))
            turn_gives_work(NULL);
        return REAL(write)(fd, buf, count);
    }
    struct output output = {.plain = plain_write, .fd = fd, .buf = buf, .len = count, .may_inject = true};
    return inject_output(&watch, &output);
}

WRAP(ssize_t, writev, (int fd, const struct iovec *iov, int iovcnt))
{
    struct watch watch;
    if (!watch_begin(&watch, fd))
        return REAL(writev)(fd, iov, iovcnt);
    struct output output = {.plain = plain_writev, .fd = fd, .iov = iov, .iovcnt = (size_t)(ssize_t)iovcnt, .may_inject = true};
    if (iov == NULL || iovcnt < 0)
        return REAL(writev)(fd, iov, iovcnt);
    return inject_output(&watch, &output);
}

WRAP(ssize_t, send, (int fd, const void *buf, size_t len, int flags))
{
    struct watch watch;
    if (!watch_begin(&watch, fd))
        return REAL(send)(fd, buf, len, flags);
    struct output output = {
        .plain = plain_send, .fd = fd, .flags = flags, .buf = buf, .len = len, .may_inject = !(flags & NO_INJECTION)};
    return inject_output(&watch, &output);
}

WRAP(ssize_t, sendto, (int fd, const void *buf, size_t len, int flags, const struct sockaddr *addr, socklen_t addrlen))
{
    struct watch watch;
    if (!watch_begin(&watch, fd))
        return REAL(sendto)(fd, buf, len, flags, addr, addrlen);
    struct output output = {.plain = plain_sendto,
                            .fd = fd,
                            .flags = flags,
                            .buf = buf,
                            .len = len,
                            .addr = addr,
                            .addrlen = addrlen,
                            .may_inject = !(flags & NO_INJECTION) && addr == NULL};
    return inject_output(&watch, &output);
}

/* The header is looked at only where the kernel could, too. */
static ssize_t output_msg(const struct watch *watch, const struct msghdr *msg, int flags)
{
    struct output output = {.plain = plain_sendmsg, .fd = watch->fd, .flags = flags, .msg = msg};
    if (!inject_readable(msg, sizeof *msg) || (msg->msg_iov == NULL && msg->msg_iovlen != 0))
        return plain_sendmsg(&output);
    output.iov = msg->msg_iov;
    output.iovcnt = msg->msg_iovlen;
    output.may_inject = !(flags & NO_INJECTION) && msg->msg_name == NULL && msg->msg_controllen == 0;
    if (output.iovcnt == 0)
        return plain_sendmsg(&output);
    return inject_output(watch, &output);
}

WRAP(ssize_t, sendmsg, (int fd, const struct msghdr *msg, int flags))
{
    struct watch watch;
    if (!watch_begin(&watch, fd))
        return REAL(sendmsg)(fd, msg, flags);
    return output_msg(&watch, msg, flags);
}

static size_t length_of(const struct msghdr *msg)
{
    size_t total = 0;
    for (size_t i = 0; i < (size_t)msg->msg_iovlen; i++)
        total += msg->msg_iov[i].iov_len;
    return total;
}

/* On an outbound connection message by message, by the rules of the kernel (net/socket.c, __sys_sendmmsg): an error after the
 * first message is not told, a message that was taken in part is the last one. */
WRAP(int, sendmmsg, (int fd, struct mmsghdr *msgs, unsigned vlen, int flags))
{
    struct watch watch;
    if (!watch_begin(&watch, fd))
        return REAL(sendmmsg)(fd, msgs, vlen, flags);
    if (vlen > 1024)
        vlen = 1024; /* UIO_MAXIOV: the kernel caps it alike */
    if (vlen == 0 || watch.conn->role == CONN_INBOUND || !inject_readable(msgs, vlen * sizeof *msgs)) {
        int result = REAL(sendmmsg)(fd, msgs, vlen, flags);
        for (int i = 0; i < result; i++)
            flow_sent(&watch, msgs[i].msg_hdr.msg_iov, msgs[i].msg_hdr.msg_iovlen, (ssize_t)msgs[i].msg_len);
        return result;
    }
    int count = 0, error = errno;
    for (unsigned i = 0; i < vlen; i++) {
        ssize_t sent = output_msg(&watch, &msgs[i].msg_hdr, flags);
        if (sent < 0 && count == 0)
            return -1;
        if (sent < 0) {
            errno = error; /* a success leaves it alone */
            break;
        }
        msgs[i].msg_len = (unsigned)sent;
        count++;
        if ((size_t)sent < length_of(&msgs[i].msg_hdr))
            break;
    }
    return count;
}

/* ---- bytes that nobody shows us ----------------------------------------------------------------------------------------------------- */

WRAP(ssize_t, sendfile, (int out_fd, int in_fd, off_t *offset, size_t count))
{
    struct watch watch;
    if (!watch_begin(&watch, out_fd))
        return REAL(sendfile)(out_fd, in_fd, offset, count);
    if (inject_settle(&watch, 0) < 0)
        return -1;
    ssize_t result = REAL(sendfile)(out_fd, in_fd, offset, count);
    flow_sent_unseen(&watch, result);
    return result;
}

static ssize_t real_sendfile64(int out_fd, int in_fd, off64_t *offset, size_t count)
{
    /* One and the same on a 64-bit system; musl has the one name only. */
    return HAVE(sendfile64) ? real.sendfile64(out_fd, in_fd, offset, count) : REAL(sendfile)(out_fd, in_fd, (off_t *)offset, count);
}

WRAP(ssize_t, sendfile64, (int out_fd, int in_fd, off64_t *offset, size_t count))
{
    struct watch watch;
    if (!watch_begin(&watch, out_fd))
        return real_sendfile64(out_fd, in_fd, offset, count);
    if (inject_settle(&watch, 0) < 0)
        return -1;
    ssize_t result = real_sendfile64(out_fd, in_fd, offset, count);
    flow_sent_unseen(&watch, result);
    return result;
}

/* From a connection to a pipe, or from a pipe to a connection. */
WRAP(ssize_t, splice, (int fd_in, off64_t *off_in, int fd_out, off64_t *off_out, size_t len, unsigned flags))
{
    struct watch from, to;
    bool in = watch_begin(&from, fd_in);
    bool out = watch_begin(&to, fd_out);
    if (out && inject_settle(&to, flags & 2u /* SPLICE_F_NONBLOCK */ ? MSG_DONTWAIT : 0) < 0)
        return -1;
    ssize_t result = REAL(splice)(fd_in, off_in, fd_out, off_out, len, flags);
    if (in)
        flow_received_unseen(&from, result, len);
    if (out)
        flow_sent_unseen(&to, result);
    return result;
}
