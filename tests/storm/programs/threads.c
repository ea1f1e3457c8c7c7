/* threads.c - a thread for each connection; calls by blocking sockets. Argument: the port.
 *
 *   close   a connection for each call
 *   pool    connections of a common pool: opened for one request, used for others
 *   child   a new thread for each call */
#include "storm.h"
#include <pthread.h>

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

static bool work(const struct plan *plan)
{
    bool good = true;
    for (int n = 0; n < plan->calls && good; n++) {
        usleep(storm_delay_us(plan));
        if (strcmp(plan->kind, "pool") == 0)
            good = pooled_call(plan, n);
        else if (strcmp(plan->kind, "child") == 0)
            good = child_call(plan, n);
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
