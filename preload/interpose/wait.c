/* wait.c - the functions that wait for descriptors: is this thread back in its event loop, or waiting for its own call?
 *
 * A thread that waits on a set with a listening socket, an inbound connection, another event loop or somebody else's call is done with
 * what it was doing: its context ends (design section 4, rule 2). Waiting on the connection of its own call is part of the call; descriptors
 * that are not watched (a wake-up pipe, a resolver's socket) say nothing either way. Two exceptions, for a set of a single descriptor:
 *
 *   timeout 0        a question, not a wait: "is this pooled connection still good?" (urllib3 asks that before each request; Ruby, too, in one
 *                    of its threads with the pipe of its signals beside it)
 *   to write only    the blocking write of a program with timeouts (CPython's sockets poll before each send)
 *
 * A thread that waits for many connections has an event loop: what it does from the return of that wait on is a turn (context/turn.h). One that
 * waits for new connections only, or for a single one and what is called for it, is a worker.
 *
 * When it is looked at. epoll: before the call. poll: after it, when the kernel has read the array and so proven that it is there (a
 * bad pointer is the program's EFAULT, not our crash). select: before, because the kernel overwrites the sets.
 *
 * poll tells whether a connect in progress succeeded; its failure is left to whoever asks for the error next (getsockopt, the
 * first read or write), because asking clears it. select says "writable" either way, and epoll no descriptor: these are left to them too.
 *
 * These are cancellation points: nothing is held across the real call. */
#include "interpose/wait.h"
#include "conn/conn.h"
#include "conn/inject.h"
#include "context/context.h"
#include "context/turn.h"
#include "interpose/lookup.h"
#include "interpose/quiet.h"
#include "interpose/real.h"
#include "interpose/wrap.h"
#include "span/span.h"
#include <errno.h>
#include <stdlib.h>

/* ---- what a set of descriptors means ---------------------------------------------------------------------------------------- */

struct set_view {
    unsigned listeners, inbound, own, foreign, loops, others;
    bool reads; /* waits for something else than room to write */
};

static void set_add(struct set_view *set, int fd, bool reads)
{
    set->reads |= reads;
    switch (fd_wait_class(fd)) {
    case FD_WAIT_LISTENER: set->listeners++; break;
    case FD_WAIT_INBOUND: set->inbound++; break;
    case FD_WAIT_OWN: set->own++; break;
    case FD_WAIT_FOREIGN: set->foreign++; break;
    case FD_WAIT_LOOP: set->loops++; break;
    case FD_WAIT_UNWATCHED:
        set->others++;
        if (turn_in())
            fd_other_seen(fd);
        break;
    }
}

/* For many connections? One, and what is called for it, is what a thread has that works for one client, perhaps with a pipe beside it (Ruby's, to
 * hear of signals) - unless it has had more. */
static bool set_is_turn(const struct set_view *set)
{
    if (set->loops > 0 || set->inbound > 1 || (set->listeners > 0 && set->inbound + set->own + set->foreign > 0))
        turn_mine.loops = 1;
    else if (set->inbound == 0 || set->others == 0 || !turn_mine.loops)
        return false;
    return true;
}

static inline bool set_decided(const struct set_view *set)
{
    return set_is_turn(set) && turn_manner == TURN_EXEMPT;
}

/* A question may have a pipe beside the connection: the thread of Ruby that is to hear of signals. */
static bool set_is_question(const struct set_view *set, bool zero_timeout)
{
    unsigned watched = set->listeners + set->inbound + set->own + set->foreign + set->loops;
    if (watched + set->others == 1)
        return zero_timeout || !set->reads;
    return zero_timeout && watched == 1 && set->foreign == 1 && ctx_inherited == 0;
}

static void set_conclude(const struct set_view *set, bool zero_timeout)
{
    if (set->listeners + set->inbound + set->foreign + set->loops == 0 || set_is_question(set, zero_timeout))
        return;
    ctx_clear();
    if (turn_in() && !set_is_turn(set) && set->listeners + set->inbound > 0 && !zero_timeout)
        turn_worker();
}

/* Is there something that a wait could mean? */
static inline bool matters(void)
{
    struct ctx ctx;
    return (fd_any_inbound && turn_manner != TURN_EXEMPT) || ctx_current(&ctx);
}

static inline void took_turn(int events, int64_t timeout_ns)
{
    if (turn_manner != TURN_EXEMPT)
        turn_begin(events, timeout_ns);
}

static inline int64_t ms_to_ns(int timeout)
{
    return timeout < 0 ? -1 : timeout * 1000000ll;
}

static inline int64_t timespec_to_ns(const struct timespec *timeout)
{
    if (timeout == NULL || timeout->tv_sec > INT32_MAX)
        return -1;
    return (int64_t)timeout->tv_sec * 1000000000ll + timeout->tv_nsec;
}

/* libevent, libev and libuv compute their timeouts, wherever they are: in the program (Node), or in a library. libev and libuv take up what other
 * threads give them only when the event of it has come; libevent looks whenever it wakes. (libev has event_base_loop, too.) */
void wait_look(void)
{
    static bool looked;
    struct lookup_item items[] = {{"evthread_make_base_notifiable", NULL, NULL}, {"ev_run", NULL, NULL}, {"uv_run", NULL, NULL}};
    if (OTSHIM_LIKELY(looked))
        return;
    looked = true;
    lookup_any(items, sizeof items / sizeof *items);
    if (items[0].found != NULL)
        turn_library(TURN_COMPUTES);
    else if (items[1].found != NULL || items[2].found != NULL)
        turn_library(TURN_EVENTS);
}

/* ---- epoll -------------------------------------------------------------------------------------------------------------------- */

WRAP(int, timerfd_create, (int clock, int flags))
{
    turn_timerfd = true;
    return REAL(timerfd_create)(clock, flags);
}

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

static inline enum fd_epoll_class epoll_before(int epfd)
{
    enum fd_epoll_class class = fd_epoll_class(epfd);
    if (class != FD_EPOLL_OWN)
        ctx_clear();
    return class;
}

static inline void epoll_after(int epfd, enum fd_epoll_class class, int events, int64_t timeout_ns)
{
    if ((class == FD_EPOLL_LOOP && turn_manner != TURN_EXEMPT) || turn_manner == TURN_SHARES) {
        fd_epoll_waited(epfd);
        turn_begin(events, timeout_ns);
    } else if (class == FD_EPOLL_WORKER) {
        turn_worker();
    }
    span_tick();
}

WRAP(int, epoll_wait, (int epfd, struct epoll_event *events, int maxevents, int timeout))
{
    if (!QUIET_WATCHING())
        return REAL(epoll_wait)(epfd, events, maxevents, timeout);
    enum fd_epoll_class class = epoll_before(epfd);
    int result = REAL(epoll_wait)(epfd, events, maxevents, timeout);
    epoll_after(epfd, class, result, ms_to_ns(timeout));
    return result;
}

WRAP(int, epoll_pwait, (int epfd, struct epoll_event *events, int maxevents, int timeout, const sigset_t *sigmask))
{
    if (!QUIET_WATCHING())
        return REAL(epoll_pwait)(epfd, events, maxevents, timeout, sigmask);
    enum fd_epoll_class class = epoll_before(epfd);
    int result = REAL(epoll_pwait)(epfd, events, maxevents, timeout, sigmask);
    epoll_after(epfd, class, result, ms_to_ns(timeout));
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
    enum fd_epoll_class class = epoll_before(epfd);
    int result = real_epoll_pwait2(epfd, events, maxevents, timeout, sigmask);
    epoll_after(epfd, class, result, result >= 0 ? timespec_to_ns(timeout) : 0);
    return result;
}

/* ---- poll --------------------------------------------------------------------------------------------------------------------- */

static void poll_outcomes(const struct pollfd *fds, nfds_t nfds)
{
    for (nfds_t i = 0; i < nfds; i++)
        if ((fds[i].revents & (POLLOUT | POLLERR | POLLHUP)) == POLLOUT)
            conn_connect_outcome(fds[i].fd, 0);
}

/* timeout_ns < 0: for ever */
static int poll_after(const struct pollfd *fds, nfds_t nfds, int64_t timeout_ns, int result)
{
    if ((result >= 0 || errno == EINTR) && nfds > 0) {
        if (matters()) {
            struct set_view set = {0};
            for (nfds_t i = 0; i < nfds && !set_decided(&set); i++)
                if (fds[i].fd >= 0)
                    set_add(&set, fds[i].fd, (fds[i].events & (POLLIN | POLLPRI | POLLRDNORM | POLLRDBAND)) != 0);
            set_conclude(&set, timeout_ns == 0);
            if (set_is_turn(&set))
                took_turn(result, timeout_ns);
        }
        if (result > 0 && conn_any_connecting())
            poll_outcomes(fds, nfds);
    }
    span_tick();
    return result;
}

WRAP(int, poll, (struct pollfd * fds, nfds_t nfds, int timeout))
{
    int result = REAL(poll)(fds, nfds, timeout);
    return QUIET_WATCHING() ? poll_after(fds, nfds, ms_to_ns(timeout), result) : result;
}

WRAP(int, ppoll, (struct pollfd * fds, nfds_t nfds, const struct timespec *timeout, const sigset_t *sigmask))
{
    int result = REAL(ppoll)(fds, nfds, timeout, sigmask);
    return QUIET_WATCHING() ? poll_after(fds, nfds, result >= 0 ? timespec_to_ns(timeout) : 1, result) : result;
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
    return QUIET_WATCHING() ? poll_after(fds, nfds, ms_to_ns(timeout), result) : result;
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
    return QUIET_WATCHING() ? poll_after(fds, nfds, result >= 0 ? timespec_to_ns(timeout) : 1, result) : result;
}

/* ---- select ------------------------------------------------------------------------------------------------------------------- */

/* A pointer that cannot be one gets its EFAULT from the kernel. */
static bool plausible(const void *pointer, size_t len)
{
    uintptr_t address = (uintptr_t)pointer;
    return address >= 65536 && address < (UINTPTR_MAX >> 17) && address % sizeof(long) == 0 && inject_readable(pointer, len);
}

/* Word by word as the kernel reads them, only as far as nfds reaches: a set may be smaller than fd_set. It may be larger, too, but that
 * cannot be trusted: select(getdtablesize(), ...) with a plain fd_set works, because the kernel stops at the process's highest
 * descriptor. Beyond fd_set the answer is the one in doubt, "event loop". */
static bool select_before(int nfds, const fd_set *readfds, const fd_set *writefds, const fd_set *exceptfds, bool zero_timeout)
{
    const unsigned bits = 8 * sizeof(unsigned long);
    const unsigned looked = nfds > FD_SETSIZE ? FD_SETSIZE : (unsigned)nfds;
    const unsigned long *sets[3] = {NULL, NULL, NULL};
    const fd_set *given[3] = {readfds, writefds, exceptfds};
    for (int i = 0; i < 3; i++) {
        if (given[i] == NULL)
            continue;
        if (!plausible(given[i], (looked + bits - 1) / bits * sizeof(unsigned long))) {
            ctx_clear();
            return true;
        }
        sets[i] = (const unsigned long *)given[i];
    }
    struct set_view view = {0};
    if (nfds > FD_SETSIZE) {
        view.loops = 1;
        view.reads = true;
    }
    for (unsigned base = 0; base < looked && !set_decided(&view); base += bits) {
        unsigned long reads = (sets[0] ? sets[0][base / bits] : 0) | (sets[2] ? sets[2][base / bits] : 0);
        unsigned long all = reads | (sets[1] ? sets[1][base / bits] : 0);
        if (looked - base < bits)
            all &= (1ul << (looked - base)) - 1;
        for (; all != 0 && !set_decided(&view); all &= all - 1) {
            unsigned bit = (unsigned)__builtin_ctzl(all);
            set_add(&view, (int)(base + bit), (reads >> bit & 1ul) != 0);
        }
    }
    set_conclude(&view, zero_timeout);
    return set_is_turn(&view);
}

WRAP(int, select, (int nfds, fd_set *readfds, fd_set *writefds, fd_set *exceptfds, struct timeval *timeout))
{
    bool turn = false;
    int64_t timeout_ns = -1;
    if (nfds > 0 && QUIET_WATCHING() && matters()) {
        if (plausible(timeout, sizeof *timeout)) /* before the kernel writes into it what is left */
            timeout_ns = timespec_to_ns(&(struct timespec){timeout->tv_sec, timeout->tv_usec * 1000});
        turn = select_before(nfds, readfds, writefds, exceptfds, timeout_ns == 0);
    }
    int result = REAL(select)(nfds, readfds, writefds, exceptfds, timeout);
    if (QUIET_WATCHING()) {
        if (turn)
            took_turn(result, timeout_ns);
        span_tick();
    }
    return result;
}

WRAP(int, pselect,
     (int nfds, fd_set *readfds, fd_set *writefds, fd_set *exceptfds, const struct timespec *timeout, const sigset_t *sigmask))
{
    bool turn = false;
    int64_t timeout_ns = -1;
    if (nfds > 0 && QUIET_WATCHING() && matters()) {
        if (plausible(timeout, sizeof *timeout))
            timeout_ns = timespec_to_ns(timeout);
        turn = select_before(nfds, readfds, writefds, exceptfds, timeout_ns == 0);
    }
    int result = REAL(pselect)(nfds, readfds, writefds, exceptfds, timeout, sigmask);
    if (QUIET_WATCHING()) {
        if (turn)
            took_turn(result, timeout_ns);
        span_tick();
    }
    return result;
}
