/* turns.c - an event loop with real descriptors: in which turns does the request that was read in them own the call that follows?
 *
 * Each case is a process of its own (fork), because what is found out about a loop stays found out. "ours" is the request's trace. */
#define _GNU_SOURCE
#include "client.h"
#include "portable.h"
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/wait.h>

static int loop, listener, port;

struct side {
    int client, fd;
};

static void check(bool good, const char *what)
{
    if (good)
        return;
    perror(what);
    exit(3);
}

static void add(int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    check(epoll_ctl(loop, EPOLL_CTL_ADD, fd, &event) == 0, "epoll_ctl");
}

static int turn(int timeout)
{
    struct epoll_event events[8];
    return epoll_wait(loop, events, 8, timeout);
}

static void begin(void)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof addr;
    listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    check(bind(listener, (struct sockaddr *)&addr, len) == 0 && listen(listener, 8) == 0, "listen");
    check(getsockname(listener, (struct sockaddr *)&addr, &len) == 0, "getsockname");
    port = ntohs(addr.sin_port);
    loop = epoll_create1(0);
    add(listener);
}

/* A connection that the loop has taken. */
static struct side connection(int flags)
{
    struct side side = {.client = client_connect(port)};
    check(turn(-1) == 1, "no connection");
    side.fd = accept4(listener, NULL, NULL, flags);
    add(side.fd);
    return side;
}

static void ask(const struct side *side)
{
    static const char request[] = "GET /in HTTP/1.1\r\nHost: here\r\ntraceparent: 00-" TRACE "-00f067aa0ba902b7-01\r\n\r\n";
    check(send(side->client, request, sizeof request - 1, 0) == (ssize_t)sizeof request - 1, "send");
}

static void take(const struct side *side)
{
    char buf[256];
    check(recv(side->fd, buf, sizeof buf, 0) > 0, "recv");
}

static void say(const char *what)
{
    printf("%s: %s\n", what, client_parent());
}

static void one_event(void)
{
    struct side a = connection(SOCK_NONBLOCK);
    ask(&a), turn(-1), take(&a);
    say("one event");
    say("... and a second call");
}

static void two_events(void)
{
    struct side a = connection(SOCK_NONBLOCK), b = connection(SOCK_NONBLOCK);
    ask(&a), close(b.client);
    check(turn(-1) == 2, "two events");
    take(&a);
    say("two events");
}

static void with_timeout(const char *what, int step, int timeout, bool late)
{
    struct side a = connection(SOCK_NONBLOCK);
    for (int i = 1; i <= 6; i++)
        turn(step > 0 ? i * step : timeout);
    ask(&a), turn(timeout), take(&a);
    if (late)
        usleep(60000);
    say(what);
}
static void timer_far(void)
{
    with_timeout("no timer can be due", 1, 1000, false);
}
static void timer_due(void)
{
    with_timeout("a timer may be due", 1, 50, true);
}
static void timer_now(void)
{
    with_timeout("timeout 0", 1, 0, false);
}
static void ticks(void)
{
    with_timeout("a fixed tick", 0, 30, false);
}

static void other_closed(void)
{
    struct side a = connection(SOCK_NONBLOCK), b = connection(SOCK_NONBLOCK);
    ask(&a), turn(-1), take(&a);
    close(b.fd);
    say("another connection is closed");
}

/* Its own request was answered, so that it is not open. */
static void other_read(void)
{
    static const char response[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    struct side a = connection(SOCK_NONBLOCK), b = connection(SOCK_NONBLOCK);
    ask(&b), turn(-1), take(&b);
    check(send(b.fd, response, sizeof response - 1, 0) > 0, "send");
    ask(&a);
    turn(-1), take(&a);
    check(send(a.fd, response, sizeof response - 1, 0) > 0, "send");
    ask(&b), take(&b);
    say("another request in the same turn");
}

static void pipe_read(void)
{
    struct side a = connection(SOCK_NONBLOCK);
    uint64_t one = 1;
    int wake = eventfd(0, 0);
    add(wake);
    ask(&a), turn(-1), take(&a);
    check(write(wake, &one, sizeof one) == sizeof one && read(wake, &one, sizeof one) == sizeof one, "eventfd");
    say("a wake-up is read");
}

static void *wakes(void *arg)
{
    uint64_t one = 1;
    check(write(*(int *)arg, &one, sizeof one) == sizeof one, "write");
    return NULL;
}
static void *adds(void *arg)
{
    (void)arg;
    add(eventfd(0, 0));
    return NULL;
}
static void *turns(void *arg)
{
    int own = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN};
    epoll_ctl(own, EPOLL_CTL_ADD, listener, &event);
    epoll_ctl(own, EPOLL_CTL_ADD, *(int *)arg, &event);
    epoll_wait(own, &event, 1, 1);
    return NULL;
}
static void *nothing(void *arg)
{
    return arg;
}

static void beside(const char *what, void *(*run)(void *), bool connection_too)
{
    struct side a = connection(SOCK_NONBLOCK), b = connection(SOCK_NONBLOCK);
    int wake = eventfd(0, EFD_NONBLOCK);
    pthread_t thread;
    add(wake);
    ask(&a), turn(-1), take(&a);
    pthread_create(&thread, NULL, run, connection_too ? &b.fd : &wake);
    pthread_join(thread, NULL);
    say(what);
}
static void thread_idle(void)
{
    beside("a thread that does nothing", nothing, false);
}
static void thread_wakes(void)
{
    beside("a thread that wakes the loop", wakes, false);
}
static void thread_adds(void)
{
    beside("a thread that adds to the set", adds, false);
}
static void thread_turns(void)
{
    beside("a thread that has a loop, too", turns, true);
}

/* Two events, which would be too many. */
static struct side crowd(int flags)
{
    struct side a = connection(SOCK_NONBLOCK);
    struct side b = {.client = client_connect(port)};
    close(a.client);
    ask(&b);
    check(turn(-1) == 2, "two events");
    b.fd = accept4(listener, NULL, NULL, flags);
    return b;
}
static void worker(void)
{
    struct side a = crowd(0);
    take(&a);
    say("accepted and read, blocking");
}
static void no_worker(void)
{
    struct side a = crowd(SOCK_NONBLOCK);
    take(&a);
    say("accepted and read, not blocking");
}
static void made_blocking(void)
{
    struct side a = crowd(SOCK_NONBLOCK);
    fcntl(a.fd, F_SETFL, 0);
    take(&a);
    say("made blocking and read");
}
static void made_not_blocking(void)
{
    struct side a = crowd(0);
    int yes = 1;
    ioctl(a.fd, FIONBIO, &yes);
    take(&a);
    say("made not blocking and read");
}
static void blocking_in_the_set(void)
{
    struct side a = connection(0), b = connection(0);
    ask(&a), close(b.client);
    check(turn(-1) == 2, "two events");
    take(&a);
    say("blocking, in the loop's set");
}

static int poll_of(int a, int b, bool with_select)
{
    if (with_select) {
        fd_set set;
        FD_ZERO(&set);
        FD_SET(a, &set), FD_SET(b, &set), FD_SET(listener, &set);
        return select((a > b ? a : b) + 1, &set, NULL, NULL, NULL);
    }
    struct pollfd fds[] = {{a, POLLIN, 0}, {b, POLLIN, 0}, {listener, POLLIN, 0}};
    return poll(fds, 3, -1);
}
static void by_poll(const char *what, bool with_select, bool two)
{
    struct side a = connection(SOCK_NONBLOCK), b = connection(SOCK_NONBLOCK);
    ask(&a);
    if (two)
        close(b.client);
    check(poll_of(a.fd, b.fd, with_select) == 1 + two, "events");
    take(&a);
    say(what);
}
static void poll_one(void)
{
    by_poll("poll, one event", false, false);
}
static void poll_two(void)
{
    by_poll("poll, two events", false, true);
}
static void select_one(void)
{
    by_poll("select, one event", true, false);
}
static void select_two(void)
{
    by_poll("select, two events", true, true);
}

int main(void)
{
    static void (*const cases[])(void) = {
        one_event,         two_events,          timer_far,    timer_due,   timer_now,    ticks,     other_closed, other_read,
        pipe_read,         thread_idle,         thread_wakes, thread_adds, thread_turns, worker,    no_worker,    made_blocking,
        made_not_blocking, blocking_in_the_set, poll_one,     poll_two,    select_one,   select_two};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fflush(stdout);
        if (fork() == 0) {
            begin();
            cases[i]();
            exit(0);
        }
        int status;
        wait(&status);
        if (status != 0)
            printf("case %zu: status %x\n", i, status);
    }
    return 0;
}
