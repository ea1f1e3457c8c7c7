/* threads.c - a thread for each connection; calls by blocking sockets. Argument: the port.
 *
 *   close   a connection for each call
 *   pool    connections of a common pool: opened for one request, used for others
 *   child   a new thread for each call
 *   piped   each call by one of a few threads that the first request starts, and that are given their work by a pipe */
#include "storm.h"
#include <pthread.h>
#include <semaphore.h>

static pthread_mutex_t pool_lock = PTHREAD_MUTEX_INITIALIZER;
static int pool[256], pool_size;

static int pool_get(void)
{
    int fd = -1;
    pthread_mutex_lock(&pool_lock);
    if (pool_size > 0)
        fd = pool[--pool_size];
    pthread_mutex_unlock(&pool_lock);
    return fd >= 0 ? fd : storm_connect();
}

static void pool_put(int fd)
{
    pthread_mutex_lock(&pool_lock);
    if (pool_size < 256)
        pool[pool_size++] = fd, fd = -1;
    pthread_mutex_unlock(&pool_lock);
    if (fd >= 0)
        close(fd);
}

static bool pooled_call(const struct plan *plan, int number)
{
    int fd = pool_get();
    bool good = fd >= 0 && storm_exchange(fd, plan, number, true);
    if (good)
        pool_put(fd);
    else if (fd >= 0)
        close(fd);
    return good;
}

struct child {
    const struct plan *plan;
    int number;
    bool good;
};

static void *child_main(void *arg)
{
    struct child *child = arg;
    usleep(storm_delay_us(child->plan));
    child->good = storm_call(child->plan, child->number);
    return NULL;
}

static bool child_call(const struct plan *plan, int number)
{
    struct child child = {plan, number, false};
    pthread_t thread;
    if (pthread_create(&thread, NULL, child_main, &child) != 0)
        return false;
    pthread_join(thread, NULL);
    return child.good;
}

struct errand {
    const struct plan *plan;
    int number;
    bool good;
    sem_t done;
};

static int errands[2];

static void *errand_main(void *arg)
{
    struct errand *errand;
    (void)arg;
    while (read(errands[0], &errand, sizeof errand) == sizeof errand) {
        errand->good = storm_call(errand->plan, errand->number);
        sem_post(&errand->done);
    }
    return NULL;
}

static void errands_start(void)
{
    if (pipe(errands) != 0)
        exit(1);
    for (int i = 0; i < 4; i++) {
        pthread_t thread;
        pthread_create(&thread, NULL, errand_main, NULL);
    }
}

static bool piped_call(const struct plan *plan, int number)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    struct errand errand = {.plan = plan, .number = number}, *at = &errand;
    pthread_once(&once, errands_start);
    sem_init(&errand.done, 0, 0);
    if (write(errands[1], &at, sizeof at) != sizeof at)
        return false;
    while (sem_wait(&errand.done) != 0)
        continue;
    return errand.good;
}

static bool work(const struct plan *plan)
{
    bool good = true;
    for (int n = 0; n < plan->calls && good; n++) {
        usleep(storm_delay_us(plan));
        if (strcmp(plan->kind, "pool") == 0)
            good = pooled_call(plan, n);
        else if (strcmp(plan->kind, "child") == 0)
            good = child_call(plan, n);
        else if (strcmp(plan->kind, "piped") == 0)
            good = piped_call(plan, n);
        else
            good = storm_call(plan, n);
    }
    return good;
}

static void *serve(void *arg)
{
    int fd = (int)(intptr_t)arg;
    char head[STORM_HEAD];
    struct plan plan;
    while (storm_read(fd, head) > 0 && storm_plan(head, &plan) && storm_answer(fd, &plan, work(&plan)))
        continue;
    close(fd);
    return NULL;
}

int main(int argc, char **argv)
{
    if (argc != 2)
        return 2;
    int listener = storm_listen(argv[1], 0);
    pthread_attr_t detached;
    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    for (;;) {
        pthread_t thread;
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0)
            continue;
        storm_nodelay(fd);
        if (pthread_create(&thread, &detached, serve, (void *)(intptr_t)fd) != 0)
            close(fd);
    }
}
