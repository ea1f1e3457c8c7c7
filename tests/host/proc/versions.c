/* versions.c - which definition the dynamic linker gives to a reference, by its version. One argument: also try the functions. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static void where(const char *name, const void *address)
{
    Dl_info info;
    const char *slash = dladdr(address, &info) ? strrchr(info.dli_fname, '/') : NULL;
    /* Before 2.34 these are libpthread's. */
    printf("%s %s\n", name, slash == NULL ? "?" : strncmp(slash, "/libpthread", 11) == 0 ? "libc.so.6" : slash + 1);
}

#ifdef __x86_64__
/* Before 2.3.2 a condition variable was one pointer, to memory that the first use allocates. */
int old_cond_signal(void *);
int old_cond_timedwait(void *, pthread_mutex_t *, const struct timespec *);
int old_cond_wait(void *, pthread_mutex_t *);
int old_posix_spawn(pid_t *, const char *, const void *, const void *, char *const[], char *const[]);
__asm__(".symver old_cond_wait, pthread_cond_wait@GLIBC_2.2.5");
__asm__(".symver old_cond_timedwait, pthread_cond_timedwait@GLIBC_2.2.5");
__asm__(".symver old_cond_signal, pthread_cond_signal@GLIBC_2.2.5");
__asm__(".symver old_posix_spawn, posix_spawn@GLIBC_2.2.5");
int old_create(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
__asm__(".symver old_create, pthread_create@GLIBC_2.2.5");

struct guarded {
    void *cond;
    char after[64];
};

static void old_ones(void)
{
    struct guarded g;
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    struct timespec past = {0, 0};
    memset(&g, 0, sizeof(g));
    memset(g.after, 0x5a, sizeof(g.after));
    pthread_mutex_lock(&mutex);
    int result = old_cond_timedwait(&g.cond, &mutex, &past);
    old_cond_signal(&g.cond);
    int intact = 1;
    for (size_t i = 0; i < sizeof(g.after); i++)
        intact &= g.after[i] == 0x5a;
    printf("old pthread_cond_timedwait: %s, memory behind it %s\n", result == ETIMEDOUT ? "ETIMEDOUT" : "?",
           intact ? "intact" : "overwritten");
    /* The old posix_spawn gives a file that is no program to the shell. */
    FILE *f = fopen("/tmp/otshim-versions-script", "w");
    fprintf(f, "exit 7\n");
    fclose(f);
    chmod("/tmp/otshim-versions-script", 0755);
    char *argv[] = {(char *)"s", NULL};
    pid_t pid;
    int status = 0, error = old_posix_spawn(&pid, "/tmp/otshim-versions-script", NULL, NULL, argv, environ);
    if (error == 0)
        waitpid(pid, &status, 0);
    printf("old posix_spawn of a script: %d, status %d\n", error, WEXITSTATUS(status));
    error = posix_spawn(&pid, "/tmp/otshim-versions-script", NULL, NULL, argv, environ);
    printf("posix_spawn of a script: %d\n", error);
    unlink("/tmp/otshim-versions-script");
}
#endif

int main(int argc, char **argv)
{
    (void)argv;
    if (argc > 1) {
#ifdef __x86_64__
        old_ones();
#endif
        pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
        pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
        struct timespec past = {0, 0};
        sem_t sem;
        sem_init(&sem, 0, 0);
        pthread_mutex_lock(&mutex);
        printf("%d\n", pthread_cond_timedwait(&cond, &mutex, &past));
        printf("%d\n", pthread_cond_clockwait(&cond, &mutex, CLOCK_MONOTONIC, &past));
        int r = sem_timedwait(&sem, &past);
        printf("%d %d\n", r, errno);
        r = sem_clockwait(&sem, CLOCK_MONOTONIC, &past);
        printf("%d %d\n", r, errno);
        return 0;
    }
    where("pthread_cond_wait", (void *)pthread_cond_wait);
    where("dlsym pthread_cond_wait", dlsym(RTLD_DEFAULT, "pthread_cond_wait"));
    where("posix_spawn", (void *)posix_spawn);
    where("pthread_create", (void *)pthread_create);
    where("sem_wait", (void *)sem_wait);
    where("read", (void *)read);
#ifdef __x86_64__
    where("pthread_cond_wait of GLIBC_2.2.5", (void *)old_cond_wait);
    where("pthread_cond_timedwait of GLIBC_2.2.5", (void *)old_cond_timedwait);
    where("posix_spawn of GLIBC_2.2.5", (void *)old_posix_spawn);
    where("pthread_create of GLIBC_2.2.5", (void *)old_create);
#endif
    /* What we asked the linker for must leave no message behind. */
    const char *error = dlerror();
    printf("dlerror: %s\n", error ? error : "none");
    return 0;
}
