/* proc.c - see proc.h. */
#include "ingest/proc.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434 /* the same number on every architecture */
#endif

static ssize_t proc_read(const char *path, char *out, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC), error;
    ssize_t n;

    if (fd < 0)
        return -errno;
    n = read(fd, out, size - 1);
    error = errno;
    close(fd);
    if (n < 0)
        return -error;
    out[n] = '\0';
    return n;
}

int proc_stat(pid_t pid, pid_t tid, struct proc_stat *out)
{
    char path[64], text[1024], *at;
    ssize_t n;

    if (tid == 0)
        snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    else
        snprintf(path, sizeof path, "/proc/%d/task/%d/stat", (int)pid, (int)tid);
    n = proc_read(path, text, sizeof text);
    if (n < 0)
        return (int)n;
    /* Field 2 is the command in parentheses, which may itself hold parentheses and spaces: fields are counted from the last one. */
    at = strrchr(text, ')');
    if (at == NULL || at[1] != ' ' || at[2] == '\0')
        return -EPROTO;
    out->state = at[2];
    at += 2;
    for (int field = 3; field < 22; field++) {
        at = strchr(at, ' ');
        if (at == NULL)
            return -EPROTO;
        at++;
    }
    out->start_ticks = strtoull(at, NULL, 10);
    return 0;
}

void proc_executable(pid_t pid, char *out, size_t size)
{
    char path[64];
    ssize_t n;

    snprintf(path, sizeof path, "/proc/%d/exe", (int)pid);
    n = pid > 0 ? readlink(path, out, size - 1) : -1;
    out[n > 0 ? n : 0] = '\0';
}

uint64_t proc_now_ticks(void)
{
    struct timespec ts;
    long hz = sysconf(_SC_CLK_TCK);

    clock_gettime(CLOCK_BOOTTIME, &ts);
    return (uint64_t)ts.tv_sec * (uint64_t)hz + (uint64_t)ts.tv_nsec / (1000000000u / (uint64_t)hz);
}

int proc_peer_pidfd(int connection)
{
    int fd = -1;
    socklen_t len = sizeof fd;

    if (getsockopt(connection, SOL_SOCKET, SO_PEERPIDFD, &fd, &len) != 0)
        return errno == EINVAL ? -ESRCH : -errno; /* EINVAL: a reaped peer, on kernels before 6.16 */
    return fd;
}

int proc_pidfd_open(pid_t pid)
{
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);

    return fd < 0 ? -errno : fd;
}
