/* queue.c - one thread reads all requests (epoll), a pool of threads works on them, from a queue. Argument: the port.
 *
 *   worker   the worker writes the response
 *   back     the worker puts the finished request into a second queue, from which the reading thread writes the response: no worker
 *            touches an inbound connection, ever
 *   spin     like back, but the workers wait for nothing that libc knows of: they look again and again, and sleep in between
 *   ahead    the worker looks for its next request before it writes the response of this one: a queue that is never empty */
#include "storm.h"
#include <pthread.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

enum { WORKERS = 8, CONNECTIONS = 4096, LENGTH = 4096 };

struct job {
    int fd;
    bool good;
    struct plan plan;
};

static struct queue {
    pthread_mutex_t lock;
    pthread_cond_t filled;
    unsigned head, tail;
    struct job jobs[LENGTH];
} todo = {.lock = PTHREAD_MUTEX_INITIALIZER, .filled = PTHREAD_COND_INITIALIZER},
  done = {.lock = PTHREAD_MUTEX_INITIALIZER, .filled = PTHREAD_COND_INITIALIZER};

/* One queue without a lock of libc's, for `spin` */
static struct {
    volatile int lock;
    unsigned head, tail;
    struct job jobs[LENGTH];
} spin;

static int wake, poll_fd;
static struct connection {
    size_t len;
    char buffer[STORM_HEAD];
} * connections[CONNECTIONS];

static void put(struct queue *q, const struct job *job)
{
    pthread_mutex_lock(&q->lock);
    q->jobs[q->tail++ % LENGTH] = *job;
    pthread_cond_signal(&q->filled);
    pthread_mutex_unlock(&q->lock);
}

static bool get(struct queue *q, struct job *job, bool wait)
{
    pthread_mutex_lock(&q->lock);
    while (wait && q->head == q->tail)
        pthread_cond_wait(&q->filled, &q->lock);
    bool got = q->head != q->tail;
    if (got)
        *job = q->jobs[q->head++ % LENGTH];
    pthread_mutex_unlock(&q->lock);
    return got;
}

static void spin_lock(void)
{
    while (__sync_lock_test_and_set(&spin.lock, 1))
        sched_yield();
}

static bool spin_get(struct job *job)
{
    spin_lock();
    bool got = spin.head != spin.tail;
    if (got)
        *job = spin.jobs[spin.head++ % LENGTH];
    __sync_lock_release(&spin.lock);
    return got;
}

static void spin_put(const struct job *job)
{
    spin_lock();
    spin.jobs[spin.tail++ % LENGTH] = *job;
    __sync_lock_release(&spin.lock);
}

/* The reading thread takes the connection back: it waits for the next request, or closes. */
static void finish(int fd, bool keep)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLONESHOT, .data.fd = fd};
    if (keep)
        epoll_ctl(poll_fd, EPOLL_CTL_MOD, fd, &event);
    else
        close(fd);
}

static void work(struct job *job)
{
    job->good = true;
    for (int n = 0; n < job->plan.calls && job->good; n++) {
        usleep(storm_delay_us(&job->plan));
        job->good = storm_call(&job->plan, n);
    }
}

static void hand_back(const struct job *job)
{
    uint64_t one = 1;
    put(&done, job);
    while (write(wake, &one, sizeof one) < 0 && errno == EINTR)
        continue;
}

static void answer(const struct job *job)
{
    finish(job->fd, storm_answer(job->fd, &job->plan, job->good));
}

static void *worker(void *arg)
{
    struct job job, next;
    bool have = false;
    (void)arg;
    for (;;) {
        if (!have)
            get(&todo, &job, true);
        have = false;
        work(&job);
        if (strcmp(job.plan.kind, "back") == 0) {
            hand_back(&job);
        } else if (strcmp(job.plan.kind, "ahead") == 0) {
            have = get(&todo, &next, false);
            answer(&job);
            if (have)
                job = next;
        } else {
            answer(&job);
        }
    }
    return NULL;
}

static void *spinner(void *arg)
{
    struct job job;
    (void)arg;
    for (;;) {
        while (!spin_get(&job))
            usleep(1000);
        work(&job);
        hand_back(&job);
    }
    return NULL;
}

static void readable(int fd)
{
    struct connection *c = connections[fd];
    ssize_t n = recv(fd, c->buffer + c->len, STORM_HEAD - 1 - c->len, 0);
    if (n <= 0) {
        close(fd);
        return;
    }
    c->len += (size_t)n;
    c->buffer[c->len] = '\0';
    if (storm_message(c->buffer, c->len) == 0) {
        finish(fd, true);
        return;
    }
    struct job job = {.fd = fd};
    c->len = 0;
    if (!storm_plan(c->buffer, &job.plan))
        close(fd);
    else if (strcmp(job.plan.kind, "spin") == 0)
        spin_put(&job);
    else
        put(&todo, &job);
}

static void take(int listener)
{
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0)
        return;
    struct epoll_event event = {.events = EPOLLIN | EPOLLONESHOT, .data.fd = fd};
    if (connections[fd] == NULL)
        connections[fd] = malloc(sizeof **connections);
    connections[fd]->len = 0;
    storm_nodelay(fd);
    epoll_ctl(poll_fd, EPOLL_CTL_ADD, fd, &event);
}

int main(int argc, char **argv)
{
    if (argc != 2)
        return 2;
    int listener = storm_listen(argv[1], SOCK_NONBLOCK);
    poll_fd = epoll_create1(EPOLL_CLOEXEC);
    wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, events[64];
    epoll_ctl(poll_fd, EPOLL_CTL_ADD, listener, &event);
    event.data.fd = wake;
    epoll_ctl(poll_fd, EPOLL_CTL_ADD, wake, &event);
    for (int i = 0; i < WORKERS; i++) {
        pthread_t thread;
        pthread_create(&thread, NULL, worker, NULL);
        pthread_create(&thread, NULL, spinner, NULL);
    }
    for (;;) {
        int n = epoll_wait(poll_fd, events, 64, -1);
        for (int i = 0; i < n; i++) {
            struct job job;
            uint64_t count;
            if (events[i].data.fd == listener) {
                take(listener);
            } else if (events[i].data.fd == wake) {
                if (read(wake, &count, sizeof count) == sizeof count)
                    while (get(&done, &job, false))
                        answer(&job);
            } else {
                readable(events[i].data.fd);
            }
        }
    }
}
