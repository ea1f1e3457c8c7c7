/* log.c - see log.h.
 *
 * The descriptor may be a file, a terminal, a pipe or a journal's socket. We do not set O_NONBLOCK on it: standard error is shared with
 * whoever started us. poll() before the write has the same effect for a pipe, where POLLOUT means that PIPE_BUF bytes fit, and no line is
 * longer than that. After one stall we do not wait again until a line got through, so that a stuck reader costs 100 ms once and not a
 * second per ten lines. */
#include "log.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LOG_LINE_MAX 2048
#define LOG_WAIT_MS 100

_Static_assert(LOG_LINE_MAX <= PIPE_BUF, "a line is one atomic write to a pipe");

static struct {
    char path[PATH_MAX]; /* "": stderr */
    int fd;
    enum log_level level;
    bool stalled;
    uint64_t lost;
    pthread_mutex_t lock; /* the web view's threads log as well */
} the_log = {.fd = STDERR_FILENO, .level = LOG_LEVEL_INFO, .lock = PTHREAD_MUTEX_INITIALIZER};

static int log_open_file(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0644);
    return fd < 0 ? -errno : fd;
}

int log_open(const char *path, enum log_level level)
{
    int fd = STDERR_FILENO;

    if (path != NULL) {
        if (strlen(path) >= sizeof the_log.path)
            return -ENAMETOOLONG;
        fd = log_open_file(path);
        if (fd < 0)
            return fd;
    }
    pthread_mutex_lock(&the_log.lock);
    if (the_log.fd != STDERR_FILENO)
        close(the_log.fd);
    the_log.fd = fd;
    the_log.level = level;
    the_log.stalled = false;
    snprintf(the_log.path, sizeof the_log.path, "%s", path != NULL ? path : "");
    pthread_mutex_unlock(&the_log.lock);
    return 0;
}

void log_reopen(void)
{
    int fd;

    if (the_log.path[0] == '\0')
        return;
    fd = log_open_file(the_log.path);
    if (fd < 0) { /* keep the old file: a log in the wrong place beats none */
        log_line(LOG_LEVEL_ERROR, "cannot reopen the log file %s: %s; going on with the old one", the_log.path, strerror(-fd));
        return;
    }
    pthread_mutex_lock(&the_log.lock);
    close(the_log.fd);
    the_log.fd = fd;
    the_log.stalled = false;
    pthread_mutex_unlock(&the_log.lock);
}

static int log_prefix(char *out, size_t size, enum log_level level)
{
    static const char *const names[] = {"error", "info", "debug"};
    struct timespec now;
    struct tm tm;
    char date[32];

    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", &tm);
    return snprintf(out, size, "%s.%03ldZ %s ", date, now.tv_nsec / 1000000, names[level]);
}

/* Text from traced processes must not draw on a terminal or forge a second line. Bytes above 0x7f are left: UTF-8. */
static void log_clean(char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
            text[i] = '?';
}

static bool log_write(const char *line, size_t len)
{
    struct pollfd pollfd = {.fd = the_log.fd, .events = POLLOUT};
    ssize_t n;

    if (poll(&pollfd, 1, the_log.stalled ? 0 : LOG_WAIT_MS) <= 0 || (pollfd.revents & POLLOUT) == 0) {
        the_log.stalled = true;
        return false;
    }
    do
        n = write(the_log.fd, line, len);
    while (n < 0 && errno == EINTR);
    the_log.stalled = n < 0;
    return n >= 0;
}

static void log_put(enum log_level level, const char *format, va_list args, uint64_t left_out)
{
    char line[LOG_LINE_MAX];
    size_t len = (size_t)log_prefix(line, sizeof line, level), room;
    size_t start = len;
    int n, saved = errno;

    room = sizeof line - 64 - len; /* 64: what may be appended below */
    n = vsnprintf(line + len, room, format, args);
    if (n > 0)
        len += (size_t)n < room ? (size_t)n : room - 1;
    log_clean(line + start, len - start);
    if (left_out > 0)
        len += (size_t)snprintf(line + len, 64, " (%llu more like this)", (unsigned long long)left_out);
    line[len++] = '\n';

    pthread_mutex_lock(&the_log.lock);
    if (the_log.lost > 0) {
        char missing[128];
        int missing_len = log_prefix(missing, sizeof missing, LOG_LEVEL_ERROR);
        missing_len += snprintf(missing + missing_len, sizeof missing - (size_t)missing_len,
                                "%llu log lines are missing here: nobody was reading them\n", (unsigned long long)the_log.lost);
        if (log_write(missing, (size_t)missing_len))
            the_log.lost = 0;
    }
    if (!log_write(line, len))
        the_log.lost++;
    pthread_mutex_unlock(&the_log.lock);
    errno = saved;
}

void log_line(enum log_level level, const char *format, ...)
{
    va_list args;

    if (level > the_log.level)
        return;
    va_start(args, format);
    log_put(level, format, args, 0);
    va_end(args);
}

void log_limited(struct log_limit *limit, enum log_level level, const char *format, ...)
{
    struct timespec now;
    uint64_t now_ns, left_out;
    va_list args;

    if (level > the_log.level)
        return;
    clock_gettime(CLOCK_MONOTONIC, &now);
    now_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    if (now_ns < limit->next_ns) {
        limit->left_out++;
        return;
    }
    limit->next_ns = now_ns + limit->every_s * 1000000000ull;
    left_out = limit->left_out;
    limit->left_out = 0;
    va_start(args, format);
    log_put(level, format, args, left_out);
    va_end(args);
}
