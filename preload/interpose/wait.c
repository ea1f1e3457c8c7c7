/* wait.c - the functions that wait for descriptors: is this thread back in its event loop, or waiting for its own call?
 *
 * A thread that waits on a set with a listening socket, an inbound connection, another event loop or somebody else's call is done with
 * what it was doing: its context ends (design section 4, rule 2). Waiting on the connection of its own call is part of the call; descriptors
 * that are not watched (a wake-up pipe, a resolver's socket) say nothing either way. Two exceptions, for a set of a single descriptor:
 *
 *   timeout 0        a question, not a wait: "is this pooled connection still good?" (urllib3 asks that before each request)
 *   to write only    the blocking write of a program with timeouts (CPython's sockets poll before each send)
 *
 * When it is looked at. epoll: before the call. poll: after it, when the kernel has read the array and so proven that it is there (a
 * bad pointer is the program's EFAULT, not our crash). select: before, because the kernel overwrites the sets.
 *
 * poll tells whether a connect in progress succeeded; its failure is left to whoever asks for the error next (getsockopt, the
 * first read or write), because asking clears it. select says "writable" either way, and epoll no descriptor: these are left to them too.
 *
 * These are cancellation points: nothing is held across the real call. */
#include "conn/conn.h"
#include "context/context.h"
#include "interpose/quiet.h"
#include "interpose/real.h"
#include "interpose/wrap.h"
#include "span/span.h"
#include <errno.h>
#include <stdlib.h>

/* ---- what a set of descriptors means ---------------------------------------------------------------------------------------- */

struct set_view {
    unsigned count;
    bool loop;  /* has a descriptor that only an event loop waits for */
    bool reads; /* waits for something else than room to write */
};

static inline void set_add(struct set_view *set, int fd, bool reads)
{
    set->count++;
    set->reads |= reads;
    if (set->loop)
        return;
    enum fd_wait_class class = fd_wait_class(fd);
    set->loop = class == FD_WAIT_INBOUND || class == FD_WAIT_FOREIGN || class == FD_WAIT_LOOP;
}

static inline bool set_decided(const struct set_view *set)
{
    return set->loop && set->count > 1;
}

static void set_conclude(const struct set_view *set, bool zero_timeout)
{
    if (!set->loop || (set->count == 1 && (zero_timeout || !set->reads)))
        return;
    ctx_clear();
}

static inline bool working(void)
{
    struct ctx ctx;
    return ctx_current(&ctx);
}

/* ---- epoll -------------------------------------------------------------------------------------------------------------------- */

static int epoll_made(int epfd)
{
    if (epfd >= 0) {
        conn_socket(epfd);
        fd_epoll_made(epfd);
    }
    return epfd;
}

WRAP(int, epoll_create, (int size))
{
    int epfd = REAL(epoll_create)(size);
    return QUIET_WATCHING() ? epoll_made(epfd) : epfd;
}

WRAP(int, epoll_create1, (int flags))
{
    int epfd = REAL(epoll_create1)(flags);
    return QUIET_WATCHING() ? epoll_made(epfd) : epfd;
}

/* Before the real call: a second thread may wait on epfd at this moment and wake by the new descriptor at once. */
WRAP(int, epoll_ctl, (int epfd, int op, int fd, struct epoll_event *event))
{
    if (op != EPOLL_CTL_DEL && QUIET_WATCHING())
        fd_epoll_added(epfd, fd);
    return REAL(epoll_ctl)(epfd, op, fd, event);
}

static inline void epoll_before(int epfd)
{
    if (fd_epoll_is_loop(epfd))
        ctx_clear();
}

WRAP(int, epoll_wait, (int epfd, struct epoll_event *events, int maxevents, int timeout))
{
    if (!QUIET_WATCHING())
        return REAL(epoll_wait)(epfd, events, maxevents, timeout);
    epoll_before(epfd);
    int result = REAL(epoll_wait)(epfd, events, maxevents, timeout);
    span_tick();
    return result;
}

WRAP(int, epoll_pwait, (int epfd, struct epoll_event *events, int maxevents, int timeout, const sigset_t *sigmask))
{
    if (!QUIET_WATCHING())
        return REAL(epoll_pwait)(epfd, events, maxevents, timeout, sigmask);
    epoll_before(epfd);
    int result = REAL(epoll_pwait)(epfd, events, maxevents, timeout, sigmask);
    span_tick();
    return result;
}

/* A libc without it (glibc before 2.35, musl): a program can only get here because it asked by dlsym or a weak reference and found us. It
 * is answered as by a kernel without the call; everyone who probes for it is prepared for that. */
static int real_epoll_pwait2(int epfd, struct epoll_event *events, int maxevents, const struct timespec *timeout,
                             const sigset_t *sigmask)
{
    if (OTSHIM_UNLIKELY(real.epoll_pwait2 == NULL))
        real_resolve();
    if (real.epoll_pwait2 != NULL)
        return real.epoll_pwait2(epfd, events, maxevents, timeout, sigmask);
    errno = ENOSYS;
    return -1;
}

WRAP(int, epoll_pwait2,
     (int epfd, struct epoll_event *events, int maxevents, const struct timespec *timeout, const sigset_t *sigmask))
{
    if (!QUIET_WATCHING())
        return real_epoll_pwait2(epfd, events, maxevents, timeout, sigmask);
    epoll_before(epfd);
    int result = real_epoll_pwait2(epfd, events, maxevents, timeout, sigmask);
    span_tick();
    return result;
}

/* ---- poll --------------------------------------------------------------------------------------------------------------------- */

static void poll_outcomes(const struct pollfd *fds, nfds_t nfds)
{
    for (nfds_t i = 0; i < nfds; i++)
        if ((fds[i].revents & (POLLOUT | POLLERR | POLLHUP)) == POLLOUT)
            conn_connect_outcome(fds[i].fd, 0);
}

static int poll_after(const struct pollfd *fds, nfds_t nfds, bool zero_timeout, int result)
{
    if ((result >= 0 || errno == EINTR) && nfds > 0) {
        if (working()) {
            struct set_view set = {0};
            for (nfds_t i = 0; i < nfds && !set_decided(&set); i++)
                if (fds[i].fd >= 0)
                    set_add(&set, fds[i].fd, (fds[i].events & (POLLIN | POLLPRI | POLLRDNORM | POLLRDBAND)) != 0);
            set_conclude(&set, zero_timeout);
        }
        if (result > 0 && conn_any_connecting())
            poll_outcomes(fds, nfds);
    }
    span_tick();
    return result;
}

static inline bool is_zero(const struct timespec *timeout)
{
    return timeout != NULL && timeout->tv_sec == 0 && timeout->tv_nsec == 0;
}

WRAP(int, poll, (struct pollfd * fds, nfds_t nfds, int timeout))
{
    int result = REAL(poll)(fds, nfds, timeout);
    return QUIET_WATCHING() ? poll_after(fds, nfds, timeout == 0, result) : result;
}

WRAP(int, ppoll, (struct pollfd * fds, nfds_t nfds, const struct timespec *timeout, const sigset_t *sigmask))
{
    int result = REAL(ppoll)(fds, nfds, timeout, sigmask);
    return QUIET_WATCHING() ? poll_after(fds, nfds, result >= 0 && is_zero(timeout), result) : result;
}

/* The fortified ones abort when the array is smaller than it is said to be. musl has none and no programs that call them, but for those built
 * for glibc that run on a compatibility layer. */
WRAP(int, __poll_chk, (struct pollfd * fds, nfds_t nfds, int timeout, size_t fdslen))
{
    if (OTSHIM_UNLIKELY(real.__poll_chk == NULL))
        real_resolve();
    if (OTSHIM_UNLIKELY(real.__poll_chk == NULL)) {
        if (fdslen / sizeof(*fds) < nfds)
            abort();
        return wrap_poll(fds, nfds, timeout);
    }
    int result = real.__poll_chk(fds, nfds, timeout, fdslen);
    return QUIET_WATCHING() ? poll_after(fds, nfds, timeout == 0, result) : result;
}

WRAP(int, __ppoll_chk, (struct pollfd * fds, nfds_t nfds, const struct timespec *timeout, const sigset_t *sigmask, size_t fdslen))
{
    if (OTSHIM_UNLIKELY(real.__ppoll_chk == NULL))
        real_resolve();
    if (OTSHIM_UNLIKELY(real.__ppoll_chk == NULL)) {
        if (fdslen / sizeof(*fds) < nfds)
            abort();
        return wrap_ppoll(fds, nfds, timeout, sigmask);
    }
    int result = real.__ppoll_chk(fds, nfds, timeout, sigmask, fdslen);
    return QUIET_WATCHING() ? poll_after(fds, nfds, result >= 0 && is_zero(timeout), result) : result;
}

/* ---- select ------------------------------------------------------------------------------------------------------------------- */

/* A pointer that cannot be one gets its EFAULT from the kernel. */
static bool plausible(const void *pointer)
{
    uintptr_t address = (uintptr_t)pointer;
    return address >= 65536 && address < (UINTPTR_MAX >> 17) && address % sizeof(long) == 0;
}

/* Word by word as the kernel reads them, only as far as nfds reaches: a set may be smaller than fd_set. It may be larger, too, but that
 * cannot be trusted: select(getdtablesize(), ...) with a plain fd_set works, because the kernel stops at the process's highest
 * descriptor. Beyond fd_set the answer is the one in doubt, "event loop". */
static void select_before(int nfds, const fd_set *readfds, const fd_set *writefds, const fd_set *exceptfds, bool zero_timeout)
{
    const unsigned bits = 8 * sizeof(unsigned long);
    const unsigned long *sets[3] = {NULL, NULL, NULL};
    const fd_set *given[3] = {readfds, writefds, exceptfds};
    for (int i = 0; i < 3; i++) {
        if (given[i] == NULL)
            continue;
        if (!plausible(given[i])) {
            ctx_clear();
            return;
        }
        sets[i] = (const unsigned long *)given[i];
    }
    struct set_view view = {0};
    if (nfds > FD_SETSIZE) {
        view.loop = true;
        view.count = 1;
        view.reads = true;
        nfds = FD_SETSIZE;
    }
    for (unsigned base = 0; base < (unsigned)nfds && !set_decided(&view); base += bits) {
        unsigned long reads = (sets[0] ? sets[0][base / bits] : 0) | (sets[2] ? sets[2][base / bits] : 0);
        unsigned long all = reads | (sets[1] ? sets[1][base / bits] : 0);
        if ((unsigned)nfds - base < bits)
            all &= (1ul << ((unsigned)nfds - base)) - 1;
        for (; all != 0 && !set_decided(&view); all &= all - 1) {
            unsigned bit = (unsigned)__builtin_ctzl(all);
            set_add(&view, (int)(base + bit), (reads >> bit & 1ul) != 0);
        }
    }
    set_conclude(&view, zero_timeout);
}

static inline bool select_matters(int nfds)
{
    return nfds > 0 && QUIET_WATCHING() && working();
}

WRAP(int, select, (int nfds, fd_set *readfds, fd_set *writefds, fd_set *exceptfds, struct timeval *timeout))
{
    if (select_matters(nfds))
        select_before(nfds, readfds, writefds, exceptfds, plausible(timeout) && timeout->tv_sec == 0 && timeout->tv_usec == 0);
    int result = REAL(select)(nfds, readfds, writefds, exceptfds, timeout);
    if (QUIET_WATCHING())
        span_tick();
    return result;
}

WRAP(int, pselect,
     (int nfds, fd_set *readfds, fd_set *writefds, fd_set *exceptfds, const struct timespec *timeout, const sigset_t *sigmask))
{
    if (select_matters(nfds))
        select_before(nfds, readfds, writefds, exceptfds, plausible(timeout) && is_zero(timeout));
    int result = REAL(pselect)(nfds, readfds, writefds, exceptfds, timeout, sigmask);
    if (QUIET_WATCHING())
        span_tick();
    return result;
}
