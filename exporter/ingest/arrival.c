/* arrival.c - see arrival.h.
 *
 * The usual hello lies in the socket before we accept, so most connections live for one call of arrival_accept. Against floods: a bounded
 * number of accepts a turn of the event loop; a bounded number of silent connections a user, of which the oldest goes first, so that one
 * user's flood cannot keep another user's hello out; and when descriptors run out, a pause instead of a busy loop. */
#include "ingest/arrival.h"
#include "ingest/proc.h"
#include "log.h"
#include "metrics/stats.h"
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define ARRIVAL_ACCEPTS_A_TURN 64
#define ARRIVAL_FDS 16 /* descriptors received in one message at most; more make the kernel set MSG_CTRUNC */

struct arrival {
    struct arrivals *all;
    struct arrival *next, *prev; /* oldest first */
    struct event *event;
    int fd;
    struct arrival_peer peer;
};

struct arrivals {
    struct event_base *base;
    struct event *listen_event, *pause_event;
    int listen_fd;
    struct arrival *oldest, *newest;
    unsigned pending;
    arrival_hello taker;
    void *arg;
    struct log_limit refusals;
    uint64_t versions_said[64]; /* hashes of executables whose version was named in the log */
    unsigned versions;
};

static void arrival_refused(struct arrivals *all, const struct arrival_peer *peer, const char *why)
{
    char executable[256];

    stats.hellos_refused++;
    proc_executable(peer->pid, executable, sizeof executable);
    log_limited(&all->refusals, LOG_LEVEL_INFO, "refused a hello from pid %d (uid %u%s%s): %s", (int)peer->pid, (unsigned)peer->uid,
                executable[0] != '\0' ? ", " : "", executable, why);
}

/* Another version of the library is somebody's deployment that needs fixing, so it is named: once for each executable. */
static void arrival_other_version(struct arrivals *all, const struct arrival_peer *peer, uint32_t version)
{
    char executable[256];
    uint64_t hash = 14695981039346656037ull; /* FNV-1a */

    stats.hellos_refused++;
    proc_executable(peer->pid, executable, sizeof executable);
    for (const char *at = executable; *at != '\0'; at++)
        hash = (hash ^ (unsigned char)*at) * 1099511628211ull;
    hash ^= version;
    for (unsigned i = 0; i < sizeof all->versions_said / sizeof *all->versions_said; i++)
        if (all->versions_said[i] == hash)
            return;
    all->versions_said[all->versions++ % (sizeof all->versions_said / sizeof *all->versions_said)] = hash;
    log_line(LOG_LEVEL_ERROR,
             "%s (pid %d) runs a libotshim.so of protocol version %u, this exporter speaks version %u: its spans are not "
             "collected; use the "
             "libotshim.so and otshim of one release",
             executable[0] != '\0' ? executable : "a process", (int)peer->pid, (unsigned)version, OTSHIM_ABI_VERSION);
}

/* Everything that came as SCM_RIGHTS. Returns how many; the first goes to *fd, the others are closed. */
static int arrival_descriptors(struct msghdr *msg, int *fd)
{
    int count = 0;

    *fd = -1;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c != NULL; c = CMSG_NXTHDR(msg, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        for (size_t i = 0; i + sizeof(int) <= c->cmsg_len - CMSG_LEN(0); i += sizeof(int)) {
            int received;

            memcpy(&received, CMSG_DATA(c) + i, sizeof received);
            if (count++ == 0)
                *fd = received;
            else
                close(received);
        }
    }
    return count;
}

/* One message and its one descriptor: hello is parsed and offered. */
static void arrival_message(struct arrival *arrival, const void *bytes, size_t len, int memfd)
{
    struct arrivals *all = arrival->all;
    struct hello hello;
    const char *why = NULL;

    switch (hello_parse(&hello, bytes, len, &why)) {
    case HELLO_OK:
        if (recv(arrival->fd, &(char){0}, 1, MSG_PEEK | MSG_DONTWAIT) > 0) {
            why = "it sent more than one message";
        } else {
            why = all->taker(all->arg, &arrival->peer, &hello, memfd);
            arrival->peer.pidfd = -1;
        }
        hello_free(&hello);
        break;
    case HELLO_VERSION: arrival_other_version(all, &arrival->peer, hello.head.abi_version); return;
    case HELLO_BAD: break;
    case HELLO_NO_MEMORY: why = "there is no memory for it"; break;
    }
    if (why != NULL)
        arrival_refused(all, &arrival->peer, why);
    else
        stats.hellos_accepted++;
}

/* False: nothing there yet. */
static bool arrival_receive(struct arrival *arrival)
{
    static char bytes[OTSHIM_HELLO_MAX_BYTES + 1]; /* one thread; zeroed by nobody, only received bytes are looked at */
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(ARRIVAL_FDS * sizeof(int))];
    struct iovec iov = {.iov_base = bytes, .iov_len = sizeof bytes};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    const char *why = NULL;
    int memfd, count;
    ssize_t n;

    do
        n = recvmsg(arrival->fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return errno != EAGAIN && errno != EWOULDBLOCK;
    count = arrival_descriptors(&msg, &memfd);
    if (n == 0 && count == 0)
        return true; /* closed without a word: a probe */
    if ((msg.msg_flags & MSG_CTRUNC) != 0)
        why = count < ARRIVAL_FDS
                  ? "its descriptor could not be received: too many are open here; raise the exporter's limit of open files"
                  : "it sent too many descriptors";
    else if ((msg.msg_flags & MSG_TRUNC) != 0 || (size_t)n > OTSHIM_HELLO_MAX_BYTES)
        why = "its hello is too long";
    else if (count != 1)
        why = count == 0 ? "it sent no descriptor" : "it sent more than one descriptor";
    if (why != NULL)
        arrival_refused(arrival->all, &arrival->peer, why);
    else
        arrival_message(arrival, bytes, (size_t)n, memfd);
    if (memfd >= 0)
        close(memfd);
    return true;
}

static void arrival_free(struct arrival *arrival)
{
    struct arrivals *all = arrival->all;

    if (arrival->event != NULL) { /* it is in the list of silent ones */
        event_free(arrival->event);
        if (arrival->prev != NULL)
            arrival->prev->next = arrival->next;
        else
            all->oldest = arrival->next;
        if (arrival->next != NULL)
            arrival->next->prev = arrival->prev;
        else
            all->newest = arrival->prev;
        all->pending--;
    }
    if (arrival->peer.pidfd >= 0)
        close(arrival->peer.pidfd);
    close(arrival->fd);
    free(arrival);
}

static void arrival_event(evutil_socket_t fd, short what, void *arg)
{
    struct arrival *arrival = arg;

    (void)fd;
    if ((what & EV_TIMEOUT) != 0) {
        arrival_refused(arrival->all, &arrival->peer, "it connected and said nothing");
        arrival_free(arrival);
    } else if (arrival_receive(arrival)) {
        arrival_free(arrival);
    }
}

/* Room for one more silent connection of this user. */
static bool arrival_make_room(struct arrivals *all, uid_t uid)
{
    struct arrival *oldest = NULL;
    unsigned count = 0;

    for (struct arrival *a = all->oldest; a != NULL; a = a->next) {
        if (a->peer.uid != uid)
            continue;
        if (oldest == NULL)
            oldest = a;
        count++;
    }
    if (oldest != NULL && (count >= ARRIVALS_PENDING_UID || all->pending >= ARRIVALS_PENDING)) {
        arrival_refused(all, &oldest->peer, "too many of this user's connections say nothing");
        arrival_free(oldest);
    }
    return all->pending < ARRIVALS_PENDING;
}

static bool arrival_wait(struct arrival *arrival)
{
    static const struct timeval timeout = {.tv_sec = ARRIVAL_TIMEOUT_S};
    struct arrivals *all = arrival->all;

    if (!arrival_make_room(all, arrival->peer.uid))
        return false;
    arrival->event = event_new(all->base, arrival->fd, EV_READ | EV_PERSIST, arrival_event, arrival);
    if (arrival->event == NULL)
        return false;
    arrival->prev = all->newest;
    if (all->newest != NULL)
        all->newest->next = arrival;
    else
        all->oldest = arrival;
    all->newest = arrival;
    all->pending++;
    event_add(arrival->event, &timeout);
    return true;
}

/* Who is it? The pid of SO_PEERCRED may have been used again since the peer died; SO_PEERPIDFD cannot be wrong about that, pidfd_open can:
 * then the taker compares times. */
static void arrival_identify(struct arrival *arrival)
{
    struct ucred cred = {0};
    socklen_t len = sizeof cred;
    struct arrival_peer *peer = &arrival->peer;
    int pidfd;

    *peer = (struct arrival_peer){.pidfd = -1, .uid = (uid_t)-1};
    if (getsockopt(arrival->fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) != 0)
        return;
    peer->uid = cred.uid;
    peer->pid = cred.pid > 0 ? cred.pid : 0;
    /* Also for a peer whose pid means nothing in our pid namespace: its pidfd tells of its death all the same. */
    pidfd = proc_peer_pidfd(arrival->fd);
    peer->certain = pidfd >= 0;
    if ((pidfd == -ENOPROTOOPT || pidfd == -EOPNOTSUPP) && peer->pid != 0)
        pidfd = proc_pidfd_open(peer->pid);
    peer->pidfd = pidfd >= 0 ? pidfd : -1;
    peer->dead = pidfd == -ESRCH;
}

static void arrivals_resume(evutil_socket_t fd, short what, void *arg)
{
    struct arrivals *all = arg;

    (void)fd, (void)what;
    event_add(all->listen_event, NULL);
}

/* accept failed for a reason that lasts (no descriptors, no memory): the listening socket stays readable, so look away for a moment. */
static void arrivals_pause(struct arrivals *all, int error)
{
    static const struct timeval moment = {.tv_usec = 200000};
    static struct log_limit limit = {.every_s = 60};

    log_limited(&limit, LOG_LEVEL_ERROR, "cannot accept connections of traced processes: %s%s", strerror(error),
                error == EMFILE ? "; raise the exporter's limit of open files (one for each traced process)" : "");
    event_del(all->listen_event);
    event_add(all->pause_event, &moment);
}

static void arrivals_accept(evutil_socket_t listen_fd, short what, void *arg)
{
    struct arrivals *all = arg;

    (void)listen_fd, (void)what;
    arrivals_take(all);
}

void arrivals_take(struct arrivals *all)
{
    for (int i = 0; i < ARRIVAL_ACCEPTS_A_TURN; i++) {
        struct arrival *arrival;
        int fd = accept4(all->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

        if (fd < 0) {
            if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)
                arrivals_pause(all, errno);
            if (errno == EINTR || errno == ECONNABORTED)
                continue;
            return;
        }
        arrival = calloc(1, sizeof *arrival);
        if (arrival == NULL) {
            close(fd);
            return;
        }
        arrival->all = all;
        arrival->fd = fd;
        arrival_identify(arrival);
        if (arrival_receive(arrival) || !arrival_wait(arrival))
            arrival_free(arrival);
    }
}

struct arrivals *arrivals_start(struct event_base *base, int listen_fd, arrival_hello taker, void *arg)
{
    struct arrivals *all = calloc(1, sizeof *all);

    if (all == NULL)
        return NULL;
    all->base = base;
    all->listen_fd = listen_fd;
    all->taker = taker;
    all->arg = arg;
    all->refusals.every_s = 10;
    all->listen_event = event_new(base, listen_fd, EV_READ | EV_PERSIST, arrivals_accept, all);
    all->pause_event = evtimer_new(base, arrivals_resume, all);
    if (all->listen_event == NULL || all->pause_event == NULL || event_add(all->listen_event, NULL) != 0) {
        arrivals_stop(all);
        return NULL;
    }
    return all;
}

void arrivals_stop(struct arrivals *all)
{
    if (all == NULL)
        return;
    for (struct arrival *a = all->oldest, *next; a != NULL; a = next) {
        next = a->next;
        arrival_free(a);
    }
    if (all->listen_event != NULL)
        event_free(all->listen_event);
    if (all->pause_event != NULL)
        event_free(all->pause_event);
    free(all);
}

unsigned arrivals_pending(const struct arrivals *all)
{
    return all->pending;
}
