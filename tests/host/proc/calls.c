/* calls.c - syscall(), vfork() and the waits of threads under signals: results and errno, to be compared with the bare run. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

static void say(const char *what, long result, int error)
{
    printf("%s: %ld %d\n", what, result, error);
}
#define SAY(what, call)                                                                                                            \
    do {                                                                                                                           \
        errno = 0;                                                                                                                 \
        long result_ = (long)(call);                                                                                               \
        say(what, result_, errno);                                                                                                 \
    } while (0)

static void syscalls(void)
{
    int word = 1;
    struct timespec soon = {0, 1000000};
    SAY("getpid", syscall(SYS_getpid) == getpid());
    SAY("no such call", syscall(99999));
    SAY("negative", syscall(-1L));
    errno = 77;
    syscall(SYS_getuid);
    printf("errno untouched: %d\n", errno);
    char *p = (char *)syscall(SYS_mmap, NULL, 8192L, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0L);
    SAY("mmap, six arguments", p != MAP_FAILED);
    int fd = (int)syscall(SYS_openat, AT_FDCWD, "/etc/passwd", O_RDONLY, 0);
    char *q = (char *)syscall(SYS_mmap, NULL, 4096L, PROT_READ, MAP_PRIVATE, fd, 4096L);
    SAY("mmap, the sixth arrives", q != MAP_FAILED);
    SAY("mmap, wrong sixth", syscall(SYS_mmap, NULL, 4096L, PROT_READ, MAP_PRIVATE, fd, 1L));
    SAY("close", syscall(SYS_close, fd));
    SAY("close again", syscall(SYS_close, fd));
    SAY("close_range", syscall(436, 500, 600, 0));
    SAY("close_range, wrong way", syscall(436, 600, 500, 0));
    SAY("futex, value differs", syscall(SYS_futex, &word, FUTEX_WAIT, 0, NULL, NULL, 0));
    SAY("futex, time over", syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 1, &soon, NULL, 0));
    SAY("futex, bitset", syscall(SYS_futex, &word, FUTEX_WAIT_BITSET_PRIVATE, 1, &soon, NULL, FUTEX_BITSET_MATCH_ANY));
    SAY("futex, wake", syscall(SYS_futex, &word, FUTEX_WAKE, 1, NULL, NULL, 0));
    SAY("futex, bad pointer", syscall(SYS_futex, (void *)16, FUTEX_WAIT, 0, NULL, NULL, 0));
    long child = syscall(SYS_clone, (long)SIGCHLD, 0L, 0L, 0L, 0L);
    if (child == 0)
        _exit(5);
    int status = 0;
    waitpid((pid_t)child, &status, 0);
    printf("clone by syscall: %d\n", WEXITSTATUS(status));
}

/* The child overwrites all of the stack that it may, callee-saved registers and errno must be the parent's own after it. */
static __attribute__((noinline)) void scribble(void)
{
    volatile char stack[16384];
    for (size_t i = 0; i < sizeof(stack); i++)
        stack[i] = 0x5a;
}

static __attribute__((noinline)) long vforks(long a, long b, long c, long d, long e)
{
    long sum = 0;
    for (int i = 0; i < 200; i++) {
        pid_t pid = vfork();
        if (pid == 0) {
            scribble();
            pid_t inner = i % 3 == 0 ? vfork() : 0;
            if (inner == 0) {
                scribble();
                _exit(i % 7);
            }
            _exit(i % 5);
        }
        int status;
        waitpid(pid, &status, 0);
        sum += WEXITSTATUS(status) + a * b + c * d - e;
    }
    return sum;
}

static void *vfork_in_thread(void *arg)
{
    return (void *)vforks((long)arg, 3, 5, 7, 11);
}

/* A vfork child is killed while its own vfork child still runs: the parent must not take that one's state for its own. From the kill on,
 * two processes run on one stack, so the inner one may not touch it any more. */
#ifdef __x86_64__
static void killed_in_vfork(void)
{
    pid_t pid = vfork();
    if (pid == 0) {
        pid_t self = getpid();
        if (vfork() == 0)
            __asm__ volatile("syscall\n"
                             "movl %[exit], %%eax\n"
                             "xorl %%edi, %%edi\n"
                             "syscall\n"
                             :
                             : "a"(SYS_kill), "D"((long)self), "S"((long)SIGKILL), [exit] "i"(SYS_exit)
                             : "rcx", "r11", "memory");
        _exit(9);
    }
    int status;
    waitpid(pid, &status, 0);
    printf("killed in vfork: %s\n", WIFSIGNALED(status) ? "by signal" : "exited");
    printf("and after that: %ld\n", vforks(1, 2, 3, 4, 5));
}
#else
static void killed_in_vfork(void)
{
}
#endif

static void no_processes(void)
{
    /* A vfork that fails. The limit does not bind root: then it succeeds, with and without us. */
    pid_t pid = vfork();
    if (pid == 0)
        _exit(0);
    waitpid(pid, NULL, 0);
    printf("vfork: %s\n", pid > 0 ? "ok" : "failed");
}

/* ---- signals in the wrappers -------------------------------------------------------------------------------------------------------------- */
static volatile sig_atomic_t ticks;
static void tick(int signal)
{
    (void)signal;
    int saved = errno;
    int p[2];
    if (pipe(p) == 0) {
        char c = 0;
        if (write(p[1], &c, 1) == 1 && read(p[0], &c, 1) == 1)
            ticks++;
        syscall(SYS_close, p[0]);
        close(p[1]);
    }
    errno = saved;
}

static void under_signals(void)
{
    struct sigaction action = {.sa_handler = tick, .sa_flags = SA_RESTART};
    struct itimerval often = {{0, 300}, {0, 300}}, never = {{0, 0}, {0, 0}};
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &often, NULL);
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
    sem_t sem;
    sem_init(&sem, 0, 0);
    int wrong = 0;
    pthread_mutex_lock(&mutex);
    for (int i = 0; i < 300; i++) {
        struct timespec t;
        clock_gettime(CLOCK_REALTIME, &t);
        t.tv_nsec += 100000;
        if (t.tv_nsec >= 1000000000)
            t.tv_sec++, t.tv_nsec -= 1000000000;
        wrong += pthread_cond_timedwait(&cond, &mutex, &t) != ETIMEDOUT;
        int r = sem_timedwait(&sem, &t);
        wrong += r != -1 || (errno != ETIMEDOUT && errno != EINTR);
        sem_post(&sem);
        while (sem_wait(&sem) != 0)
            ;
        int word = 0;
        struct timespec none = {0, 1000};
        r = (int)syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, &none, NULL, 0);
        wrong += r != -1 || (errno != ETIMEDOUT && errno != EINTR);
        pid_t pid = i % 10 == 0 ? vfork() : fork();
        if (pid == 0)
            _exit(0);
        int status = 1;
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
            ;
        wrong += status != 0;
    }
    setitimer(ITIMER_REAL, &never, NULL);
    printf("under signals: %d wrong, %s\n", wrong, ticks > 0 ? "interrupted" : "never interrupted");
}

int main(void)
{
    setbuf(stdout, NULL);
    syscalls();
    printf("vforks: %ld\n", vforks(1, 2, 3, 4, 5));
    killed_in_vfork();
    no_processes();
    pthread_t threads[4];
    for (long i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, vfork_in_thread, (void *)i);
    for (int i = 0; i < 4; i++) {
        void *result;
        pthread_join(threads[i], &result);
        printf("vforks in thread %d: %ld\n", i, (long)result);
    }
    under_signals();
    return 0;
}
