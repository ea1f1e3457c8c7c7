/* short.c - a kernel in a bad mood, preloaded behind the library: after short_limit(n), the next sending call takes n bytes (0: EAGAIN), two
 * calls get EAGAIN, one takes a single byte, then everything is as usual. Only on stream sockets; write() and sendfile() are part of it. */
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>

static long first = -1;
static int step;

void short_limit(long n)
{
    first = n;
    step = n < 0 ? 4 : 0;
}

/* How much may be taken now; -1: all, 0: EAGAIN. */
static long allowance(void)
{
    if (first < 0 || step >= 4)
        return -1;
    switch (step++) {
    case 0: return first;
    case 3: return 1;
    default: return 0;
    }
}

#define NEXT(name) ((__typeof__(name) *)dlsym(RTLD_NEXT, #name))

/* Calls among ourselves go by static names: the global ones are the library's. */
static ssize_t short_send(int fd, const void *buf, size_t len, int flags)
{
    long n = allowance();
    if (n == 0) {
        errno = EAGAIN;
        return -1;
    }
    return NEXT(send)(fd, buf, n < 0 || (size_t)n > len ? len : (size_t)n, flags);
}

ssize_t send(int fd, const void *buf, size_t len, int flags)
{
    return short_send(fd, buf, len, flags);
}

ssize_t sendto(int fd, const void *buf, size_t len, int flags, const struct sockaddr *to, socklen_t tolen)
{
    (void)to;
    (void)tolen;
    return short_send(fd, buf, len, flags);
}

static ssize_t short_sendmsg(int fd, const struct msghdr *msg, int flags)
{
    size_t len = 0, have = 0;
    for (size_t i = 0; i < msg->msg_iovlen; i++)
        len += msg->msg_iov[i].iov_len;
    char *flat = malloc(len + 1);
    for (size_t i = 0; i < msg->msg_iovlen; have += msg->msg_iov[i++].iov_len)
        memcpy(flat + have, msg->msg_iov[i].iov_base, msg->msg_iov[i].iov_len);
    ssize_t r = short_send(fd, flat, len, flags);
    int e = errno;
    free(flat);
    errno = e;
    return r;
}

ssize_t sendmsg(int fd, const struct msghdr *msg, int flags)
{
    return short_sendmsg(fd, msg, flags);
}

int sendmmsg(int fd, struct mmsghdr *msgs, unsigned n, int flags)
{
    unsigned i;
    for (i = 0; i < n; i++) {
        size_t len = 0;
        for (size_t k = 0; k < msgs[i].msg_hdr.msg_iovlen; k++)
            len += msgs[i].msg_hdr.msg_iov[k].iov_len;
        ssize_t r = short_sendmsg(fd, &msgs[i].msg_hdr, flags);
        if (r < 0)
            return i > 0 ? (int)i : -1;
        msgs[i].msg_len = (unsigned)r;
        if ((size_t)r < len)
            return (int)i + 1;
    }
    return (int)i;
}

static int is_socket(int fd)
{
    int type;
    socklen_t len = sizeof type;
    return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0;
}

ssize_t write(int fd, const void *buf, size_t len)
{
    return first >= 0 && step < 4 && is_socket(fd) ? short_send(fd, buf, len, 0) : NEXT(write)(fd, buf, len);
}

ssize_t writev(int fd, const struct iovec *iov, int n)
{
    struct msghdr msg = {.msg_iov = (struct iovec *)iov, .msg_iovlen = (size_t)n};
    return first >= 0 && step < 4 && is_socket(fd) ? short_sendmsg(fd, &msg, 0) : NEXT(writev)(fd, iov, n);
}

ssize_t sendfile(int out, int in, off_t *offset, size_t n)
{
    long may = allowance();
    if (may == 0) {
        errno = EAGAIN;
        return -1;
    }
    return NEXT(sendfile)(out, in, offset, may < 0 || (size_t)may > n ? n : (size_t)may);
}
