/* libev.c - a server and its calls on one libev loop. Argument: the port.
 *
 *   plain   calls as soon as the request has been read
 *   timer   waits for a timer before each call
 *   late    answers first, and calls then
 *
 * Besides, it makes calls of its own that no request asked for: every 10 milliseconds by a timer, and - with a second argument - every 10
 * milliseconds because another thread says so (ev_async). */
#include "storm.h"
#include <ev.h>
#include <fcntl.h>
#include <pthread.h>

static struct ev_loop *loop;
static ev_async asked_by_thread;

struct side {
    ev_io io;
    size_t len;
    struct request *request;
    char buffer[STORM_HEAD];
};

struct request {
    ev_timer timer;
    struct plan plan;
    struct side *client; /* NULL: it has gone away, has been answered, or there is none */
    bool answered;
    int number;
};

static void proceed(struct request *r);

static struct side *side_new(int fd, struct request *request, int events, void (*ready)(struct ev_loop *, ev_io *, int))
{
    struct side *s = calloc(1, sizeof *s);
    s->request = request;
    storm_nodelay(fd);
    ev_io_init(&s->io, ready, fd, events);
    s->io.data = s;
    ev_io_start(loop, &s->io);
    return s;
}

static void side_close(struct side *s)
{
    ev_io_stop(loop, &s->io);
    close(s->io.fd);
    free(s);
}

/* Of a message: 1 it is complete, 0 not yet, -1 the other side has gone */
static int side_read(struct side *s)
{
    ssize_t n = recv(s->io.fd, s->buffer + s->len, STORM_HEAD - 1 - s->len, 0);
    if (n < 0 && errno == EAGAIN)
        return 0;
    if (n <= 0)
        return -1;
    s->len += (size_t)n;
    s->buffer[s->len] = '\0';
    return storm_message(s->buffer, s->len) > 0;
}

static void answer(struct request *r, bool good)
{
    struct side *client = r->client;
    r->answered = true;
    r->client = NULL;
    if (client == NULL)
        return;
    client->request = NULL;
    if (!storm_answer(client->io.fd, &r->plan, good))
        side_close(client);
}

static void finish(struct request *r, bool good)
{
    if (!r->answered)
        answer(r, good);
    free(r);
}

static void response(struct ev_loop *l, ev_io *io, int events)
{
    struct side *s = io->data;
    struct request *r = s->request;
    (void)l;
    (void)events;
    int got = side_read(s);
    if (got == 0)
        return;
    bool good = got > 0 && strstr(s->buffer, " 200 ") != NULL;
    side_close(s);
    r->number++;
    if (good)
        proceed(r);
    else
        finish(r, false);
}

static void writable(struct ev_loop *l, ev_io *io, int events)
{
    struct side *s = io->data;
    struct request *r = s->request;
    char head[512];
    (void)events;
    int len = storm_request(head, sizeof head, &r->plan, r->number, false);
    if (!storm_write(io->fd, head, (size_t)len)) {
        side_close(s);
        finish(r, false);
        return;
    }
    ev_io_stop(l, io);
    ev_io_init(io, response, io->fd, EV_READ);
    ev_io_start(l, io);
}

static void call(struct request *r)
{
    struct sockaddr_in at = storm_leaf();
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || (connect(fd, (struct sockaddr *)&at, sizeof at) != 0 && errno != EINPROGRESS)) {
        close(fd);
        finish(r, false);
        return;
    }
    side_new(fd, r, EV_WRITE, writable);
}

static void timed_out(struct ev_loop *l, ev_timer *timer, int events)
{
    (void)l;
    (void)events;
    call(timer->data);
}

/* The next step of a request: a call, perhaps by way of a timer, or the answer. */
static void proceed(struct request *r)
{
    if (strcmp(r->plan.kind, "late") == 0 && !r->answered)
        answer(r, true);
    if (r->number >= r->plan.calls) {
        finish(r, true);
    } else if (strcmp(r->plan.kind, "timer") == 0) {
        ev_timer_init(&r->timer, timed_out, storm_delay_us(&r->plan) / 1e6, 0.);
        r->timer.data = r;
        ev_timer_start(loop, &r->timer);
    } else {
        call(r);
    }
}

static void asked(struct ev_loop *l, ev_io *io, int events)
{
    struct side *s = io->data;
    (void)l;
    (void)events;
    int got = side_read(s);
    if (got == 0)
        return;
    struct request *r = got > 0 ? calloc(1, sizeof *r) : NULL;
    if (r == NULL || !storm_plan(s->buffer, &r->plan)) {
        if (s->request != NULL)
            s->request->client = NULL;
        free(r);
        side_close(s);
        return;
    }
    s->len = 0;
    s->request = r;
    r->client = s;
    proceed(r);
}

static void take(struct ev_loop *l, ev_io *io, int events)
{
    (void)l;
    (void)events;
    int fd;
    while ((fd = accept(io->fd, NULL, NULL)) >= 0) {
        fcntl(fd, F_SETFL, O_NONBLOCK);
        side_new(fd, NULL, EV_READ, asked);
    }
}

/* A call that no request asked for: a request without a client, with a number for its id. */
static void poll_leaf(void)
{
    static unsigned polls;
    struct request *r = calloc(1, sizeof *r);
    snprintf(r->plan.id, sizeof r->plan.id, "p%06u", polls++ % 1000000u);
    r->plan.calls = r->plan.ms = 1;
    proceed(r);
}

static void often(struct ev_loop *l, ev_timer *timer, int events)
{
    (void)l;
    (void)timer;
    (void)events;
    poll_leaf();
}

static void told(struct ev_loop *l, ev_async *async, int events)
{
    (void)l;
    (void)async;
    (void)events;
    poll_leaf();
}

static void *tell(void *arg)
{
    (void)arg;
    for (;;) {
        usleep(10000);
        ev_async_send(loop, &asked_by_thread);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    ev_io listener;
    ev_timer timer;
    if (argc < 2)
        return 2;
    loop = ev_default_loop(0);
    ev_io_init(&listener, take, storm_listen(argv[1], SOCK_NONBLOCK), EV_READ);
    ev_io_start(loop, &listener);
    ev_timer_init(&timer, often, 0.01, 0.01);
    ev_timer_start(loop, &timer);
    if (argc > 2) {
        pthread_t thread;
        ev_async_init(&asked_by_thread, told);
        ev_async_start(loop, &asked_by_thread);
        pthread_create(&thread, NULL, tell, NULL);
    }
    ev_run(loop, 0);
}
