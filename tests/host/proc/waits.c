/* waits.c - poll, select, epoll and their relatives over a matrix of sets and failures: what they return, their errno, what they
 * leave behind in their arguments. To be compared with the bare run, once without and once in a request.
 *
 * One argument: also what each wait means for the request that the thread works for. */
#define _GNU_SOURCE
#include "client.h"
#include "portable.h"
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/time.h>

#define BAD ((void *)(uintptr_t)16)

#ifdef __GLIBC__
int __poll_chk(struct pollfd *, nfds_t, int, size_t);
int __ppoll_chk(struct pollfd *, nfds_t, const struct timespec *, const sigset_t *, size_t);
#endif

static void ticks(int signal)
{
    (void)signal;
}

/* `call` is evaluated before errno is looked at. */
#define SAY(what, call)                                                                                                            \
    do {                                                                                                                           \
        errno = 0;                                                                                                                 \
        int result_ = (call), error_ = errno;                                                                                      \
        printf("%s: %d %d\n", what, result_, error_);                                                                              \
    } while (0)

static void poll_matrix(void)
{
    int p[2], pair[2];
    struct timespec none = {0, 0}, some = {0, 2000000}, wrong = {0, -1};
    sigset_t mask;
    sigemptyset(&mask);
    if (pipe(p) != 0 || socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0)
        exit(3);
    char *page = mmap(NULL, 8192, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct pollfd fds[] = {
        {p[0], POLLIN, 0}, {p[1], POLLOUT, 0}, {-1, POLLIN, 77}, {999, POLLIN, 0}, {pair[0], POLLIN | POLLOUT, 0}};
    for (nfds_t n = 0; n <= 5; n++)
        for (int timeout = 0; timeout <= 2; timeout++) {
            SAY("poll", poll(fds, n, timeout));
            SAY("ppoll", ppoll(fds, n, timeout ? &some : &none, &mask));
            SAY("__poll_chk", __poll_chk(fds, n, timeout, sizeof(fds)));
            SAY("__ppoll_chk", __ppoll_chk(fds, n, &none, NULL, sizeof(fds)));
            for (nfds_t i = 0; i < n; i++)
                printf(" %x", (unsigned)fds[i].revents);
            puts("");
        }
    SAY("poll of NULL", poll(NULL, 1, 0));
    SAY("poll of a bad pointer", poll(BAD, 1, 0));
    SAY("poll of no memory", poll((struct pollfd *)page, 4, 1));
    SAY("poll of too many", poll(fds, ~(nfds_t)0, 0));
    SAY("poll of a million", poll(fds, 100000000, 0));
    SAY("ppoll of a bad pointer", ppoll(BAD, 1, &none, NULL));
    SAY("ppoll, wrong timeout", ppoll(fds, 1, &wrong, NULL));
    SAY("ppoll, bad mask", ppoll(fds, 1, &none, BAD));
    close(p[1]), close(pair[1]);
    SAY("poll of the hung up", poll(fds, 5, 0));
    for (int i = 0; i < 5; i++)
        printf(" %x", (unsigned)fds[i].revents);
    puts("");
    munmap(page, 8192);
    close(p[0]), close(pair[0]);
}

static void print_set(const char *name, fd_set *set, int n)
{
    printf(" %s", name);
    for (int i = 0; i < n; i++)
        if (FD_ISSET(i, set))
            printf(" %d", i);
}

static void select_matrix(void)
{
    int p[2];
    if (pipe(p) != 0)
        exit(3);
    for (int what = 0; what < 16; what++) {
        fd_set r, w, x, empty;
        FD_ZERO(&empty);
        r = w = x = empty;
        struct timeval tv = {0, what & 8 ? 3000 : 0};
        struct timespec ts = {0, what & 8 ? 3000000 : 0};
        FD_SET(p[0], &r), FD_SET(p[1], &w), FD_SET(p[0], &x);
        SAY("select", select(p[1] + 1, what & 1 ? &r : NULL, what & 2 ? &w : NULL, what & 4 ? &x : NULL, &tv));
        print_set("r", &r, p[1] + 1), print_set("w", &w, p[1] + 1), print_set("x", &x, p[1] + 1);
        printf(" remaining %s\n", tv.tv_usec > 0 ? "some" : "none");
        SAY("pselect", pselect(p[1] + 1, what & 1 ? &r : NULL, what & 2 ? &w : NULL, what & 4 ? &x : NULL, &ts, NULL));
    }
    fd_set r, big[64];
    FD_ZERO(&r);
    memset(big, 0, sizeof(big));
    FD_SET(p[0], &r);
    struct timeval none = {0, 0}, wrong = {-1, 0};
    SAY("select of nothing", select(0, NULL, NULL, NULL, &none));
    SAY("select, negative", select(-1, &r, NULL, NULL, &none));
    SAY("select, bad set", select(4, BAD, NULL, NULL, &none));
    char *page = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    SAY("select, no memory", select(4, (fd_set *)page, NULL, NULL, &none));
    SAY("select, no memory for the timeout", select(4, &r, NULL, NULL, (struct timeval *)page));
    SAY("pselect, no memory for the timeout", pselect(4, &r, NULL, NULL, (struct timespec *)page, NULL));
    munmap(page, 4096);
    SAY("select, wrong timeout", select(4, &r, NULL, NULL, &wrong));
    SAY("select up to the table's size", select(1 << 20, &r, NULL, NULL, &none));
    SAY("select of a large set", select(4096, big, NULL, NULL, &none));
    close(p[0]);
    FD_SET(p[0], &r);
    SAY("select of the closed", select(p[1] + 1, &r, NULL, NULL, &none));
    close(p[1]);
}

static void epoll_matrix(void)
{
    struct epoll_event event = {.events = EPOLLIN}, out[4];
    struct timespec none = {0, 0}, some = {0, 2000000};
    int event_fd = eventfd(0, EFD_NONBLOCK);
    SAY("epoll_create(0)", epoll_create(0));
    SAY("epoll_create1(bad)", epoll_create1(77));
    int epfd = epoll_create1(EPOLL_CLOEXEC), old = epoll_create(1);
    event.data.fd = event_fd;
    SAY("add", epoll_ctl(epfd, EPOLL_CTL_ADD, event_fd, &event));
    SAY("add again", epoll_ctl(epfd, EPOLL_CTL_ADD, event_fd, &event));
    SAY("mod", epoll_ctl(epfd, EPOLL_CTL_MOD, event_fd, &event));
    SAY("mod unknown", epoll_ctl(epfd, EPOLL_CTL_MOD, 0, &event));
    SAY("add NULL", epoll_ctl(epfd, EPOLL_CTL_ADD, old, NULL));
    SAY("add itself", epoll_ctl(epfd, EPOLL_CTL_ADD, epfd, &event));
    SAY("add to no epoll", epoll_ctl(event_fd, EPOLL_CTL_ADD, epfd, &event));
    SAY("add the closed", epoll_ctl(epfd, EPOLL_CTL_ADD, 999, &event));
    SAY("add to the closed", epoll_ctl(999, EPOLL_CTL_ADD, 0, &event));
    SAY("add an epoll", epoll_ctl(old, EPOLL_CTL_ADD, epfd, &event));
    SAY("wait", epoll_wait(epfd, out, 4, 0));
    SAY("wait a little", epoll_wait(epfd, out, 4, 2));
    SAY("pwait", epoll_pwait(epfd, out, 4, 0, NULL));
    SAY("pwait2", epoll_pwait2(epfd, out, 4, &none, NULL));
    SAY("pwait2 a little", epoll_pwait2(epfd, out, 4, &some, NULL));
    eventfd_write(event_fd, 1);
    SAY("wait", epoll_wait(epfd, out, 4, -1));
    printf("%x %s\n", out[0].events, out[0].data.fd == event_fd ? "right" : "wrong");
    SAY("wait outside", epoll_wait(old, out, 4, -1));
    SAY("wait for none", epoll_wait(epfd, out, 0, 0));
    SAY("wait, bad pointer", epoll_wait(epfd, BAD, 4, 0));
    SAY("wait on the closed", epoll_wait(999, out, 4, 0));
    SAY("wait on no epoll", epoll_wait(event_fd, out, 4, 0));
    SAY("del", epoll_ctl(epfd, EPOLL_CTL_DEL, event_fd, NULL));
    SAY("del again", epoll_ctl(epfd, EPOLL_CTL_DEL, event_fd, NULL));
    close(epfd), close(old), close(event_fd);
}

/* Interrupted by a signal, none of them may hide it. */
static void interrupted(void)
{
    struct itimerval timer = {{0, 0}, {0, 3000}};
    struct sigaction action = {.sa_handler = ticks};
    struct epoll_event out[1];
    struct pollfd pfd = {-1, 0, 0};
    fd_set r;
    int epfd = epoll_create1(0);
    sigaction(SIGALRM, &action, NULL);
    FD_ZERO(&r);
    setitimer(ITIMER_REAL, &timer, NULL);
    SAY("poll interrupted", poll(&pfd, 1, 5000));
    setitimer(ITIMER_REAL, &timer, NULL);
    SAY("ppoll interrupted", ppoll(&pfd, 1, &(struct timespec){5, 0}, NULL));
    setitimer(ITIMER_REAL, &timer, NULL);
    SAY("select interrupted", select(1, &r, NULL, NULL, &(struct timeval){5, 0}));
    setitimer(ITIMER_REAL, &timer, NULL);
    SAY("pselect interrupted", pselect(1, &r, NULL, NULL, &(struct timespec){5, 0}, NULL));
    setitimer(ITIMER_REAL, &timer, NULL);
    SAY("epoll_wait interrupted", epoll_wait(epfd, out, 1, 5000));
    setitimer(ITIMER_REAL, &timer, NULL);
    SAY("epoll_pwait interrupted", epoll_pwait(epfd, out, 1, 5000, NULL));
    close(epfd);
}

static void *cancelled(void *arg)
{
    struct pollfd pfd = {-1, 0, 0};
    struct epoll_event out[1];
    int epfd = epoll_create1(0);
    switch (*(int *)arg) {
    case 0: poll(&pfd, 1, 10000); break;
    case 1: select(0, NULL, NULL, NULL, &(struct timeval){10, 0}); break;
    case 2: epoll_wait(epfd, out, 1, 10000); break;
    case 3: ppoll(&pfd, 1, &(struct timespec){10, 0}, NULL); break;
    case 4: pselect(0, NULL, NULL, NULL, &(struct timespec){10, 0}, NULL); break;
    default: epoll_pwait(epfd, out, 1, 10000, NULL); break;
    }
    return NULL;
}

static void cancellation(void)
{
    for (int i = 0; i < 6; i++) {
        pthread_t thread;
        void *result;
        pthread_create(&thread, NULL, cancelled, &i);
        usleep(3000);
        pthread_cancel(thread);
        pthread_join(thread, &result);
        printf("cancelled %d: %d\n", i, result == PTHREAD_CANCELED);
    }
}

static void matrix(void)
{
    poll_matrix();
    select_matrix();
    epoll_matrix();
    interrupted();
    cancellation();
}

/* ---- meaning ------------------------------------------------------------------------------------------------------------------------- */

static void means(const char *what, void (*wait)(struct inbound *, int own))
{
    struct inbound in = inbound_begin();
    int own = client_connect(client_port());
    char answer[128];
    client_exchange(own, answer);
    wait(&in, own);
    printf("%s: %s\n", what, client_parent());
    close(own);
    inbound_end(&in);
}

static void poll_of(int a, int b, short events, int timeout)
{
    struct pollfd fds[] = {{a, events, 0}, {b, events, 0}};
    poll(fds, b >= 0 ? 2 : 1, timeout);
}
static void select_of(int a, int b, bool write, int usec)
{
    fd_set set;
    struct timeval tv = {0, usec};
    FD_ZERO(&set);
    FD_SET(a, &set);
    if (b >= 0)
        FD_SET(b, &set);
    select((a > b ? a : b) + 1, write ? NULL : &set, write ? &set : NULL, NULL, &tv);
}
static void nothing(struct inbound *in, int own)
{
    (void)in, (void)own;
}
static void poll_listener(struct inbound *in, int own)
{
    poll_of(in->listener, own, POLLIN, 1);
}
static void poll_inbound(struct inbound *in, int own)
{
    poll_of(in->fd, own, POLLIN, 1);
}
static void poll_inbound_alone(struct inbound *in, int own)
{
    (void)own, poll_of(in->fd, -1, POLLIN, 1);
}
static void poll_question(struct inbound *in, int own)
{
    (void)in, poll_of(own, -1, POLLIN, 0);
}
static void poll_client_there(struct inbound *in, int own)
{
    (void)own, poll_of(in->fd, -1, POLLIN, 0);
}
static void poll_to_write(struct inbound *in, int own)
{
    (void)own, poll_of(in->fd, -1, POLLOUT, 1);
}
static void poll_pipe(struct inbound *in, int own)
{
    (void)in, (void)own, poll_of(0, -1, POLLIN, 1);
}
static void poll_nothing(struct inbound *in, int own)
{
    (void)in, (void)own, poll(NULL, 0, 1);
}
static void select_listener(struct inbound *in, int own)
{
    select_of(in->listener, own, false, 1000);
}
static void select_listener_alone(struct inbound *in, int own)
{
    (void)own, select_of(in->listener, -1, false, 1000);
}
static void select_to_write(struct inbound *in, int own)
{
    (void)own, select_of(in->fd, -1, true, 1000);
}
static void select_question(struct inbound *in, int own)
{
    (void)in, select_of(own, -1, false, 0);
}

static void epoll_of(int a, int b)
{
    struct epoll_event event = {.events = EPOLLIN}, out[2];
    int epfd = epoll_create1(0);
    epoll_ctl(epfd, EPOLL_CTL_ADD, a, &event);
    if (b >= 0)
        epoll_ctl(epfd, EPOLL_CTL_ADD, b, &event);
    epoll_wait(epfd, out, 2, 1);
    close(epfd);
}
static void epoll_listener(struct inbound *in, int own)
{
    epoll_of(in->listener, own);
}
static void epoll_wakeup(struct inbound *in, int own)
{
    (void)in;
    int fd = eventfd(0, 0);
    epoll_of(own, fd);
    close(fd);
}

/* The request is out, its answer not yet read: a blocking client with a timeout. */
static void own_call(bool with_epoll, bool with_pipe)
{
    static const char request[] = "GET / HTTP/1.1\r\nHost: origin\r\n\r\n";
    struct inbound in = inbound_begin();
    int own = client_connect(client_port()), p[2];
    if (pipe(p) != 0 || send(own, request, sizeof(request) - 1, 0) < 0)
        exit(3);
    if (with_epoll)
        epoll_of(own, -1);
    else if (with_pipe)
        poll_of(own, p[0], POLLIN, 1000);
    else
        select_of(own, -1, false, 1000000);
    printf("own call, %s%s: %s\n",
           with_epoll  ? "epoll"
           : with_pipe ? "poll"
                       : "select",
           with_pipe ? " with a wake-up pipe" : "", client_parent());
    close(own), close(p[0]), close(p[1]);
    inbound_end(&in);
}

static void meaning(void)
{
    means("no wait", nothing);
    means("poll listener + own", poll_listener);
    means("poll inbound + own", poll_inbound);
    means("poll inbound alone", poll_inbound_alone);
    means("poll own idle connection, timeout 0", poll_question);
    means("poll inbound alone, timeout 0", poll_client_there);
    means("poll inbound to write", poll_to_write);
    means("poll unwatched", poll_pipe);
    means("poll nothing", poll_nothing);
    means("select listener + own", select_listener);
    means("select listener", select_listener_alone);
    means("select inbound to write", select_to_write);
    means("select own idle connection, timeout 0", select_question);
    means("epoll listener + own", epoll_listener);
    means("epoll own + wake-up", epoll_wakeup);
    own_call(false, false);
    own_call(false, true);
    own_call(true, false);
}

int main(int argc, char **argv)
{
    (void)argv;
    if (argc > 1) {
        meaning();
        return 0;
    }
    puts("== without a request");
    matrix();
    struct inbound in = inbound_begin();
    puts("== in a request");
    matrix();
    (void)in;
    return 0;
}
