/* noop.c - the do-nothing preload of the benchmark: the calls nginx makes per request, forwarded by a pointer. What it costs is the
 * price of interposition itself; what otshim costs on top of it is the price of tracing. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/epoll.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define FORWARD(ret, name, params, args)                                                                                           \
    static ret(*real_##name) params;                                                                                               \
    ret name params                                                                                                                \
    {                                                                                                                              \
        if (!real_##name)                                                                                                          \
            real_##name = (ret(*) params)dlsym(RTLD_NEXT, #name);                                                                  \
        return real_##name args;                                                                                                   \
    }

FORWARD(ssize_t, read, (int fd, void *buf, size_t n), (fd, buf, n))
FORWARD(ssize_t, recv, (int fd, void *buf, size_t n, int flags), (fd, buf, n, flags))
FORWARD(ssize_t, write, (int fd, const void *buf, size_t n), (fd, buf, n))
FORWARD(ssize_t, send, (int fd, const void *buf, size_t n, int flags), (fd, buf, n, flags))
FORWARD(ssize_t, writev, (int fd, const struct iovec *iov, int n), (fd, iov, n))
FORWARD(ssize_t, sendfile64, (int out, int in, off64_t *off, size_t n), (out, in, off, n))
FORWARD(int, epoll_wait, (int ep, struct epoll_event *ev, int n, int ms), (ep, ev, n, ms))
FORWARD(int, epoll_ctl, (int ep, int op, int fd, struct epoll_event *ev), (ep, op, fd, ev))
FORWARD(int, accept4, (int fd, struct sockaddr *a, socklen_t *l, int flags), (fd, a, l, flags))
FORWARD(int, close, (int fd), (fd))
