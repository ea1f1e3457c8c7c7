/* inherit.c - a thread starts with its creator's request and keeps it until its first wait on something that a pool's queue is made of. */
#define _GNU_SOURCE
#include "client.h"
#include <linux/futex.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;

static void *asks(void *arg)
{
    const char *how = arg;
    struct timespec soon;
    int word = 1;
    sem_t sem;
    sem_init(&sem, 0, 0);
    clock_gettime(CLOCK_REALTIME, &soon);
    printf("child, before it waits: %s\n", client_parent());
    if (strcmp(how, "cond") == 0) {
        pthread_mutex_lock(&mutex);
        pthread_cond_timedwait(&cond, &mutex, &soon);
        pthread_mutex_unlock(&mutex);
    } else if (strcmp(how, "sem") == 0) {
        sem_timedwait(&sem, &soon);
    } else if (strcmp(how, "sem, posted") == 0) {
        sem_post(&sem);
        sem_wait(&sem);
    } else if (strcmp(how, "futex") == 0) {
        syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
    } else if (strcmp(how, "futex wake") == 0) {
        syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    }
    printf("child, after %s: %s\n", how, client_parent());
    return NULL;
}

static void run(const char *how)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, asks, (void *)(uintptr_t)how) == 0)
        pthread_join(thread, NULL);
}

static void *creates(void *arg)
{
    run(arg);
    return NULL;
}

int main(void)
{
    struct inbound in = inbound_begin();
    printf("here: %s\n", client_parent());
    run("cond");
    run("sem");
    run("sem, posted");
    run("futex");
    run("futex wake");
    pthread_t thread;
    pthread_create(&thread, NULL, creates, (void *)(uintptr_t) "nothing, created by a child");
    pthread_join(thread, NULL);
    printf("here, still: %s\n", client_parent());
    inbound_end(&in);
    printf("here, after the response: %s\n", client_parent());
    run("nothing, with nothing to inherit");
    return 0;
}
