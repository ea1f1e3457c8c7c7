/* epoll.c - one thread, epoll, nothing that blocks: each request is a small state machine. Arguments: the port, and perhaps "tick": the loop
 * then waits for a fixed time and looks at its timers whenever it wakes, as many do.
 *
 *   plain    calls as soon as the request has been read, a connection for each call
 *   pool     the same, on connections that are kept
 *   timer    waits for a timer before each call
 *   both     a timer before each call, and connections that are kept
 *   batch    everything that is readable is read first, and worked on afterwards
 *   line     one connection at a time for all such calls: who finds it busy stands in line for it. With "line" as the second argument also the calls
 *            that no request asked for
 *
 * Besides, it makes a call of its own every 10 milliseconds that no request asked for. */
#include "storm.h"
#include <fcntl.h>
#include <sys/epoll.h>

enum { SOCKETS = 4096 };
enum role { FREE, CLIENT, UPSTREAM };

struct request {
    struct plan plan;
    int client; /* -1: it has gone away */
    int upstream;
    int number;
    uint64_t due_us;
    struct request *next; /* in the list of timers, or of the batch */
};

static struct side {
    enum role role;
    bool connecting;
    size_t len;
    struct request *request;
    char buffer[STORM_HEAD];
} sides[SOCKETS];

static int poll_fd, idle[256], idle_count, in_line;
static struct request *timers, *batch, *line, **line_end = &line;
static bool poll_in_line;

static void watch(int fd, uint32_t events, int op)
{
    struct epoll_event event = {.events = events, .data.fd = fd};
    epoll_ctl(poll_fd, op, fd, &event);
}

static void side_open(int fd, enum role role, struct request *request)
{
    struct side *side = &sides[fd];
    side->role = role;
    side->len = 0;
    side->connecting = false;
    side->request = request;
}

static void side_close(int fd)
{
    sides[fd].role = FREE;
    close(fd);
}

static void answer(struct request *r, bool good)
{
    if (r->client >= 0) {
        sides[r->client].request = NULL;
        if (!storm_answer(r->client, &r->plan, good))
            side_close(r->client);
    }
    free(r);
}

static bool kept(const struct request *r)
{
    return strcmp(r->plan.kind, "pool") == 0 || strcmp(r->plan.kind, "both") == 0 || strcmp(r->plan.kind, "line") == 0;
}

static void send_call(struct request *r)
{
    char buffer[STORM_HEAD];
    int len = storm_request(buffer, sizeof buffer, &r->plan, r->number, kept(r));
    watch(r->upstream, EPOLLIN, EPOLL_CTL_MOD);
    if (!storm_write(r->upstream, buffer, (size_t)len)) {
        side_close(r->upstream);
        answer(r, false);
    }
}

static bool stands(const struct request *r)
{
    return strcmp(r->plan.kind, "line") == 0;
}

static void call(struct request *r)
{
    struct sockaddr_in at = storm_leaf();
    if (stands(r) && in_line++ >= 1) {
        r->next = NULL;
        *line_end = r;
        line_end = &r->next;
        return;
    }
    if (kept(r) && !stands(r) && idle_count > 0) {
        r->upstream = idle[--idle_count];
        side_open(r->upstream, UPSTREAM, r);
        send_call(r);
        return;
    }
    r->upstream = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    side_open(r->upstream, UPSTREAM, r);
    sides[r->upstream].connecting = true;
    if (connect(r->upstream, (struct sockaddr *)&at, sizeof at) != 0 && errno != EINPROGRESS) {
        side_close(r->upstream);
        answer(r, false);
        return;
    }
    storm_nodelay(r->upstream);
    watch(r->upstream, EPOLLOUT, EPOLL_CTL_ADD);
}

/* The next step of a request: a call, perhaps by way of a timer, or the answer. */
static void proceed(struct request *r)
{
    if (r->number >= r->plan.calls) {
        answer(r, true);
    } else if (strcmp(r->plan.kind, "timer") == 0 || strcmp(r->plan.kind, "both") == 0) {
        r->due_us = storm_now_us() + storm_delay_us(&r->plan);
        r->next = timers;
        timers = r;
    } else {
        call(r);
    }
}

static void client_readable(int fd)
{
    struct side *side = &sides[fd];
    ssize_t n = recv(fd, side->buffer + side->len, STORM_HEAD - 1 - side->len, 0);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0) {
        if (side->request != NULL)
            side->request->client = -1;
        side_close(fd);
        return;
    }
    side->len += (size_t)n;
    side->buffer[side->len] = '\0';
    if (storm_message(side->buffer, side->len) == 0)
        return;
    side->len = 0;
    struct request *r = calloc(1, sizeof *r);
    r->client = fd;
    if (!storm_plan(side->buffer, &r->plan)) {
        free(r);
        side_close(fd);
        return;
    }
    side->request = r;
    if (strcmp(r->plan.kind, "batch") == 0) {
        r->next = batch;
        batch = r;
    } else {
        proceed(r);
    }
}

static void upstream_readable(int fd)
{
    struct side *side = &sides[fd];
    struct request *r = side->request;
    ssize_t n = recv(fd, side->buffer + side->len, STORM_HEAD - 1 - side->len, 0);
    if (n < 0 && errno == EAGAIN)
        return;
    if (r == NULL || n <= 0) { /* an idle connection ends, or one in the middle of its answer */
        for (int i = 0; i < idle_count; i++)
            if (idle[i] == fd)
                idle[i] = idle[--idle_count];
        side_close(fd);
        if (r != NULL)
            answer(r, false);
        return;
    }
    side->len += (size_t)n;
    side->buffer[side->len] = '\0';
    if (storm_message(side->buffer, side->len) == 0)
        return;
    side->request = NULL;
    side->len = 0;
    if (stands(r)) {
        in_line--;
        if (line != NULL) { /* the next one's */
            struct request *next = line;
            line = next->next;
            if (line == NULL)
                line_end = &line;
            side->request = next;
            next->upstream = fd;
            send_call(next);
        } else {
            side_close(fd);
        }
    } else if (kept(r) && idle_count < 256)
        idle[idle_count++] = fd;
    else
        side_close(fd);
    r->number++;
    proceed(r);
}

static void ready(int fd)
{
    struct side *side = &sides[fd];
    if (side->role == CLIENT) {
        client_readable(fd);
    } else if (side->role == UPSTREAM && side->connecting) {
        int error = 0;
        socklen_t len = sizeof error;
        getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len);
        side->connecting = false;
        if (error == 0) {
            send_call(side->request);
        } else {
            side_close(fd);
            answer(side->request, false);
        }
    } else if (side->role == UPSTREAM) {
        upstream_readable(fd);
    }
}

static void run_batch(void)
{
    while (batch != NULL) {
        struct request *r = batch;
        batch = r->next;
        proceed(r);
    }
}

/* A call that no request asked for: a request without a client, with a number for its id. */
static uint64_t poll_us;
static void poll_leaf(void)
{
    static unsigned polls;
    struct request *r = calloc(1, sizeof *r);
    r->client = -1;
    snprintf(r->plan.kind, sizeof r->plan.kind, "%s", poll_in_line ? "line" : "plain");
    snprintf(r->plan.id, sizeof r->plan.id, "p%06u", polls++ % 1000000u);
    r->plan.calls = r->plan.ms = 1;
    call(r);
}

/* Milliseconds until the next timer, after those that are due have run. */
static int run_timers(void)
{
    uint64_t now = storm_now_us(), next = UINT64_MAX;
    struct request *due = NULL, **at = &timers;
    while (*at != NULL) {
        struct request *r = *at;
        if (r->due_us <= now) {
            *at = r->next;
            r->next = due;
            due = r;
            continue;
        }
        next = r->due_us < next ? r->due_us : next;
        at = &r->next;
    }
    while (due != NULL) {
        struct request *r = due;
        due = r->next;
        call(r);
    }
    if (poll_us <= now) {
        poll_leaf();
        poll_us = now + 10000;
    }
    next = poll_us < next ? poll_us : next;
    return (int)((next - now) / 1000u) + 1;
}

static void take(int listener)
{
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0) {
        storm_nodelay(fd);
        side_open(fd, CLIENT, NULL);
        watch(fd, EPOLLIN, EPOLL_CTL_ADD);
    }
}

int main(int argc, char **argv)
{
    if (argc < 2)
        return 2;
    struct epoll_event events[64];
    bool tick = argc > 2 && strcmp(argv[2], "tick") == 0;
    poll_in_line = argc > 2 && strcmp(argv[2], "line") == 0;
    int listener = storm_listen(argv[1], SOCK_NONBLOCK);
    poll_fd = epoll_create1(EPOLL_CLOEXEC);
    watch(listener, EPOLLIN, EPOLL_CTL_ADD);
    for (int timeout = -1;;) {
        int n = epoll_wait(poll_fd, events, 64, timeout);
        for (int i = 0; i < n; i++) {
            if (events[i].data.fd == listener)
                take(listener);
            else
                ready(events[i].data.fd);
        }
        run_batch();
        timeout = run_timers();
        if (tick)
            timeout = 5;
    }
}
