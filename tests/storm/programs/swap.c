/* swap.c - a pool of threads that wait for connections together (one epoll set). Argument: the port.
 *
 *   own    the thread that has read a request works on it
 *   swap   it puts the request into a common queue and takes the oldest that is there: often another one */
#include "storm.h"
#include <pthread.h>
#include <sys/epoll.h>

enum { WORKERS = 8, CONNECTIONS = 4096, LENGTH = 4096 };

struct job {
    int fd;
    struct plan plan;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned head, tail;
static struct job jobs[LENGTH];
static int poll_fd, listener;
static struct connection {
    size_t len;
    char buffer[STORM_HEAD];
} * connections[CONNECTIONS];

/* The oldest job, after this one has been put behind the others - unless it is the only one: then it waits for company. */
static bool swap(struct job *job)
{
    pthread_mutex_lock(&lock);
    jobs[tail++ % LENGTH] = *job;
    bool got = tail - head > 1;
    if (got)
        *job = jobs[head++ % LENGTH];
    pthread_mutex_unlock(&lock);
    return got;
}

static bool leftover(struct job *job)
{
    pthread_mutex_lock(&lock);
    bool got = tail != head;
    if (got)
        *job = jobs[head++ % LENGTH];
    pthread_mutex_unlock(&lock);
    return got;
}

static void work(struct job *job)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLONESHOT, .data.fd = job->fd};
    bool good = true;
    for (int n = 0; n < job->plan.calls && good; n++) {
        usleep(storm_delay_us(&job->plan));
        good = storm_call(&job->plan, n);
    }
    if (storm_answer(job->fd, &job->plan, good))
        epoll_ctl(poll_fd, EPOLL_CTL_MOD, job->fd, &event);
    else
        close(job->fd);
}

static void readable(int fd)
{
    struct connection *c = connections[fd];
    struct epoll_event event = {.events = EPOLLIN | EPOLLONESHOT, .data.fd = fd};
    struct job job = {.fd = fd};
    ssize_t n = recv(fd, c->buffer + c->len, STORM_HEAD - 1 - c->len, 0);
    if (n <= 0) {
        close(fd);
        return;
    }
    c->len += (size_t)n;
    c->buffer[c->len] = '\0';
    if (storm_message(c->buffer, c->len) == 0) {
        epoll_ctl(poll_fd, EPOLL_CTL_MOD, fd, &event);
        return;
    }
    c->len = 0;
    if (!storm_plan(c->buffer, &job.plan))
        close(fd);
    else if (strcmp(job.plan.kind, "own") == 0 || swap(&job))
        work(&job);
}

static void take(void)
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

static void *worker(void *arg)
{
    struct epoll_event event;
    struct job job;
    (void)arg;
    for (;;) {
        int n = epoll_wait(poll_fd, &event, 1, 5);
        if (n == 0 && leftover(&job))
            work(&job);
        else if (n == 1 && event.data.fd == listener)
            take();
        else if (n == 1)
            readable(event.data.fd);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    if (argc != 2)
        return 2;
    listener = storm_listen(argv[1], SOCK_NONBLOCK);
    poll_fd = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener};
    epoll_ctl(poll_fd, EPOLL_CTL_ADD, listener, &event);
    for (int i = 1; i < WORKERS; i++) {
        pthread_t thread;
        pthread_create(&thread, NULL, worker, NULL);
    }
    worker(NULL);
}
