/* socket.c - the life of a descriptor.
 *
 * Calls that make descriptors report after the real call; close() and its kin before it: another thread may get the number at once. */
#include "conn/flow.h"
#include "conn/inject.h"
#include "context/context.h"
#include "interpose/jvm.h"
#include "interpose/node.h"
#include "interpose/python.h"
#include "interpose/quiet.h"
#include "interpose/ruby.h"
#include "interpose/tls_library.h"
#include "interpose/wait.h"
#include "interpose/wrap.h"
#include "span/span.h"
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef CLOSE_RANGE_UNSHARE
#define CLOSE_RANGE_UNSHARE (1U << 1)
#endif
#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC (1U << 2)
#endif

/* Where a descriptor's life begins and ends is also where a flag is lowered that a longjmp out of a name look-up left raised (quiet.h). */
static inline bool watching(void)
{
    return QUIET_WATCHING();
}

#define PRESERVE_ERRNO(what)                                                                                                       \
    do {                                                                                                                           \
        int saved_ = errno;                                                                                                        \
        what;                                                                                                                      \
        errno = saved_;                                                                                                            \
    } while (0)

WRAP(int, socket, (int domain, int type, int protocol))
{
    int fd = REAL(socket)(domain, type, protocol);
    if (fd >= 0 && watching())
        PRESERVE_ERRNO(conn_socket_made(fd, domain, type));
    return fd;
}

WRAP(int, bind, (int fd, const struct sockaddr *addr, socklen_t addrlen))
{
    int result = REAL(bind)(fd, addr, addrlen);
    if (result == 0 && watching())
        PRESERVE_ERRNO(conn_bound(fd, addr, addrlen));
    return result;
}

WRAP(int, listen, (int fd, int backlog))
{
    if (watching())
        PRESERVE_ERRNO((stack_prepare(), wait_look(), python_look(true), node_look(), ruby_look(true), tls_library_look(),
                        jvm_look(fd, true)));
    int result = REAL(listen)(fd, backlog);
    if (result == 0 && watching())
        PRESERVE_ERRNO(conn_listening(fd));
    return result;
}

/* The peer's address: the program's, if it asked for it, else one that we ask for. */
static int accept_watched(int fd, struct sockaddr *addr, socklen_t *addrlen, int flags, bool four)
{
    struct sockaddr_storage own;
    socklen_t own_len = sizeof own, room = 0;
    struct sockaddr *peer = addr;
    socklen_t *peer_len = addrlen;
    ctx_clear(); /* back to waiting for work */
    ruby_look(false);
    /* The call turns the room that the program gave into the length of the address, which may be more. */
    if (addr == NULL) {
        peer = (struct sockaddr *)&own;
        peer_len = &own_len;
    } else if (inject_readable(addrlen, sizeof *addrlen)) {
        memcpy(&room, addrlen, sizeof room);
    }
    int result = four ? REAL(accept4)(fd, peer, peer_len, flags) : REAL(accept)(fd, peer, peer_len);
    int error = errno;
    if (result >= 0) {
        if (addr != NULL) {
            own_len = *addrlen < room ? *addrlen : room;
            own_len = own_len < sizeof own ? own_len : sizeof own;
            memcpy(&own, addr, own_len); /* what was cut is too short for its family, and left out */
        }
        wait_look();
        python_look(false);
        tls_library_look();
        jvm_look(fd, false);
        conn_accepted(fd, result, (struct sockaddr *)&own, own_len);
        conn_blocks(result, !(flags & SOCK_NONBLOCK));
    }
    span_tick();
    errno = error;
    return result;
}

WRAP(int, accept, (int fd, struct sockaddr *addr, socklen_t *addrlen))
{
    return watching() ? accept_watched(fd, addr, addrlen, 0, false) : REAL(accept)(fd, addr, addrlen);
}

WRAP(int, accept4, (int fd, struct sockaddr *addr, socklen_t *addrlen, int flags))
{
    return watching() ? accept_watched(fd, addr, addrlen, flags, true) : REAL(accept4)(fd, addr, addrlen, flags);
}

/* Before the call only what cannot fault: the address is read once the kernel has read it. */
WRAP(int, connect, (int fd, const struct sockaddr *addr, socklen_t addrlen))
{
    if (!watching())
        return REAL(connect)(fd, addr, addrlen);
    PRESERVE_ERRNO((stack_prepare(), tls_library_look(), python_look_once()));
    uint64_t start = now_ns();
    int result = REAL(connect)(fd, addr, addrlen);
    int error = errno;
    if (addr != NULL && addrlen >= sizeof(sa_family_t) &&
        (result == 0 || (error != EFAULT && error != EBADF && error != ENOTSOCK && error != EINVAL))) {
        if (conn_is_stream(fd, addr->sa_family))
            conn_connecting(fd, addr, addrlen, start, result, error);
    }
    errno = error;
    return result;
}

WRAP(int, getsockopt, (int fd, int level, int optname, void *optval, socklen_t *optlen))
{
    int result = REAL(getsockopt)(fd, level, optname, optval, optlen);
    if (level == SOL_SOCKET && optname == SO_ERROR && result == 0 && conn_any_connecting() && watching() &&
        *optlen >= sizeof(int)) {
        int error = errno, outcome;
        memcpy(&outcome, optval, sizeof outcome);
        conn_connect_asked(fd, outcome);
        errno = error;
    }
    return result;
}

WRAP(int, shutdown, (int fd, int how))
{
    int result = REAL(shutdown)(fd, how);
    if ((result == 0 || errno == ENOTCONN) && watching())
        PRESERVE_ERRNO(conn_shutdown(fd, how));
    return result;
}

WRAP(int, close, (int fd))
{
    if (fd_get(fd) != NULL && watching())
        PRESERVE_ERRNO(conn_closing(fd));
    return REAL(close)(fd);
}

static bool closes_range(unsigned first, unsigned last, int flags)
{
    return first <= last && !((unsigned)flags & ~(CLOSE_RANGE_UNSHARE)); /* with CLOEXEC it closes nothing */
}

WRAP(int, close_range, (unsigned first, unsigned last, int flags))
{
    if (closes_range(first, last, flags) && watching())
        PRESERVE_ERRNO(conn_closing_range(first, last));
    /* Not in every libc; then the program got here by dlsym, or by a fallback of its own, and gets what the kernel says. */
    if (HAVE(close_range))
        return real.close_range(first, last, flags);
#ifdef SYS_close_range
    return (int)REAL(syscall)(SYS_close_range, (long)first, (long)last, (long)flags);
#else
    errno = ENOSYS;
    return -1;
#endif
}

WRAP(void, closefrom, (int lowfd))
{
    if (watching())
        PRESERVE_ERRNO(conn_closing_range(lowfd > 0 ? (unsigned)lowfd : 0, ~0u));
    if (HAVE(closefrom))
        real.closefrom(lowfd);
    else
        wrap_close_range(lowfd > 0 ? (unsigned)lowfd : 0, ~0u, 0);
}

/* stdio closes by a name of its own that we do not see. */
WRAP(int, fclose, (FILE * stream))
{
    if (watching() && stream != NULL) {
        int error = errno;
        int fd = fileno(stream);
        if (fd >= 0 && fd_get(fd) != NULL)
            conn_closing(fd);
        errno = error;
    }
    return REAL(fclose)(stream);
}

static int duped(int fd, int newfd)
{
    if (newfd >= 0 && watching())
        PRESERVE_ERRNO(conn_duped(fd, newfd));
    return newfd;
}

WRAP(int, dup, (int fd))
{
    return duped(fd, REAL(dup)(fd));
}

WRAP(int, dup2, (int fd, int newfd))
{
    return duped(fd, REAL(dup2)(fd, newfd));
}

WRAP(int, dup3, (int fd, int newfd, int flags))
{
    return duped(fd, REAL(dup3)(fd, newfd, flags));
}

static int controlled(int fd, int cmd, void *arg, int result)
{
    if (cmd == F_DUPFD || cmd == F_DUPFD_CLOEXEC)
        return duped(fd, result);
    if (cmd == F_SETFL && result == 0 && fd_get(fd) != NULL && watching())
        conn_blocks(fd, ((uintptr_t)arg & O_NONBLOCK) == 0);
    return result;
}

/* The third argument, if there is one, is an int or a pointer: passed on as wide as a pointer, which is how libc takes it off again. */
WRAP(int, fcntl, (int fd, int cmd, ...))
{
    va_list args;
    va_start(args, cmd);
    void *arg = va_arg(args, void *);
    va_end(args);
    return controlled(fd, cmd, arg, REAL(fcntl)(fd, cmd, arg));
}

WRAP(int, fcntl64, (int fd, int cmd, ...))
{
    va_list args;
    va_start(args, cmd);
    void *arg = va_arg(args, void *);
    va_end(args);
    return controlled(fd, cmd, arg, HAVE(fcntl64) ? real.fcntl64(fd, cmd, arg) : REAL(fcntl)(fd, cmd, arg));
}

/* musl takes the request as an int: the upper half of the register may then hold anything, and is passed on. */
WRAP(int, ioctl, (int fd, unsigned long request, ...))
{
    va_list args;
    va_start(args, request);
    void *arg = va_arg(args, void *);
    va_end(args);
    int result = REAL(ioctl)(fd, request, arg);
    if ((unsigned)request == FIONBIO && result == 0 && fd_get(fd) != NULL && watching()) {
        int value;
        memcpy(&value, arg, sizeof value);
        conn_blocks(fd, value == 0);
    }
    return result;
}
