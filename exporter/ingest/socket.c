/* socket.c - see socket.h.
 *
 * Who holds the socket is decided by flock() on PATH.lock, which the kernel releases with its holder: two exporters started together
 * cannot both win, and a killed one leaves nothing that blocks its successor. Only the holder of the lock looks at the socket file,
 * removes a stale one and binds. The lock file is unlinked by its holder at the end; an opener that then locks the unlinked file notices by
 * comparing inodes and starts again. It is 0600, so that no other user can hold it to keep us out. */
#include "ingest/socket.h"
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <unistd.h>

#define SOCKET_BACKLOG 1024

static int socket_why(int error, char *why, size_t why_size, const char *format, ...) __attribute__((format(printf, 4, 5)));
static int socket_why(int error, char *why, size_t why_size, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(why, why_size, format, args);
    va_end(args);
    return error;
}

/* The directory of the socket: made if it is missing, and not one in which another user could put a socket of theirs. */
static int socket_directory(const char *path, char *why, size_t why_size)
{
    char directory[sizeof((struct sockaddr_un *)0)->sun_path];
    const char *slash = strrchr(path, '/');
    struct stat st;

    snprintf(directory, sizeof directory, "%.*s",
             slash == NULL   ? 1
             : slash == path ? 1
                             : (int)(slash - path),
             slash == NULL ? "." : path);
    if (mkdir(directory, 0755) == 0) {
        if (chmod(directory, 0755) != 0) /* whatever the umask is: others must be able to reach the socket */
            return socket_why(-errno, why, why_size, "cannot open the directory %s to other users: %s", directory, strerror(errno));
        return 0;
    }
    if (errno == ENOENT)
        return socket_why(
            -ENOENT, why, why_size,
            "cannot make the directory %s for the socket: its parent does not exist; create it or set OTSHIM_SOCKET to a path "
            "in a directory that exists",
            directory);
    if (errno != EEXIST && stat(directory, &st) != 0)
        return socket_why(
            -EACCES, why, why_size,
            "cannot make the directory %s for the socket: permission denied or read-only; run the exporter as a user who may, or "
            "set OTSHIM_SOCKET to a path in a directory of yours",
            directory);
    if (stat(directory, &st) != 0 || !S_ISDIR(st.st_mode))
        return socket_why(-ENOTDIR, why, why_size,
                          "%s, where the socket should be, is no directory; remove it or set OTSHIM_SOCKET", directory);
    if (geteuid() != 0 && st.st_uid != 0 && st.st_uid != geteuid())
        return socket_why(
            -EPERM, why, why_size,
            "the directory %s belongs to another user (uid %u), who could put a socket of their own there; set OTSHIM_SOCKET to "
            "a path in a directory of yours",
            directory, (unsigned)st.st_uid);
    return 0;
}

/* Is anybody listening? 1: yes, *pid is theirs (0 if not visible from here, -1 if it cannot be told); 0: nobody; -errno: cannot tell. The connection sends nothing
 * and is closed at once. */
static int socket_probe(const struct sockaddr_un *address, pid_t *pid)
{
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), result;
    struct ucred peer = {0};
    socklen_t len = sizeof peer;

    *pid = 0;
    if (fd < 0)
        return -errno;
    if (connect(fd, (const struct sockaddr *)address, sizeof *address) == 0) {
        result = 1; /* SO_PEERCRED of a client's socket: who called listen() */
        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0)
            *pid = peer.pid;
    } else if (errno == EAGAIN || errno == EPROTOTYPE) { /* a full backlog; a socket of another type, and somebody's */
        result = 1;
        *pid = -1;
    } else if (errno == ECONNREFUSED || errno == ENOENT) {
        result = 0;
    } else {
        result = -errno;
    }
    close(fd);
    return result;
}

static int socket_held(const struct ingest_socket *s, int lock_fd, char *why, size_t why_size)
{
    const char *path = s->address.sun_path;
    char text[32] = "";
    pid_t pid = 0;

    /* The holder may be between its lock and its listen(): then its pid is in the lock file. One in another pid namespace has no pid here,
     * and the one in the file is its own. */
    if (socket_probe(&s->address, &pid) == 1 && pid == 0)
        return socket_why(
            -EADDRINUSE, why, why_size,
            "an exporter in another container (another pid namespace) already holds %s; stop it, or set OTSHIM_SOCKET to another "
            "path for this one",
            path);
    if (pid <= 0 && lock_fd >= 0 && pread(lock_fd, text, sizeof text - 1, 0) > 0)
        pid = (pid_t)strtol(text, NULL, 10);
    if (pid > 0)
        return socket_why(-EADDRINUSE, why, why_size,
                          "another exporter (pid %d) already holds %s; stop it, or set OTSHIM_SOCKET to another path for this one",
                          (int)pid, path);
    return socket_why(-EADDRINUSE, why, why_size,
                      "another exporter already holds %s; stop it, or set OTSHIM_SOCKET to another path for this one", path);
}

static int socket_lock(struct ingest_socket *s, char *why, size_t why_size)
{
    for (int i = 0; i < 100; i++) {
        int fd = open(s->lock_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600), error = errno;
        struct stat ours, there;
        char text[32];
        pid_t pid;

        if (fd < 0) {
            if (error == EACCES && socket_probe(&s->address, &pid) == 1)
                return socket_held(s, -1, why, why_size);
            return socket_why(
                -error, why, why_size,
                "cannot create %s: %s; run the exporter as a user who may write there, or set OTSHIM_SOCKET to another path",
                s->lock_path, strerror(error));
        }
        if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
            error = socket_held(s, fd, why, why_size);
            close(fd);
            return error;
        }
        if (fstat(fd, &ours) == 0 && lstat(s->lock_path, &there) == 0 && ours.st_ino == there.st_ino &&
            ours.st_dev == there.st_dev) {
            int n = snprintf(text, sizeof text, "%d\n", (int)getpid());

            if (ftruncate(fd, 0) != 0 || pwrite(fd, text, (size_t)n, 0) != n) {
                /* a full disk: the pid is only a courtesy to the next one */
            }
            s->lock_fd = fd;
            return 0;
        }
        close(fd); /* its last holder unlinked it just now */
    }
    return socket_why(-EBUSY, why, why_size, "%s keeps being replaced by somebody; set OTSHIM_SOCKET to another path",
                      s->lock_path);
}

/* Makes the path free: nothing there, or a socket that nobody listens on any more. */
static int socket_clear(const struct ingest_socket *s, char *why, size_t why_size)
{
    const char *path = s->address.sun_path;
    struct stat st;
    pid_t pid;
    int listening;

    if (lstat(path, &st) != 0)
        return errno == ENOENT ? 0 : socket_why(-errno, why, why_size, "cannot look at %s: %s", path, strerror(errno));
    if (!S_ISSOCK(st.st_mode))
        return socket_why(-EEXIST, why, why_size, "%s exists and is no socket; remove it or set OTSHIM_SOCKET to another path",
                          path);
    listening = socket_probe(&s->address, &pid);
    if (listening == 1)
        return socket_held(s, -1, why, why_size);
    if (listening < 0)
        return socket_why(listening, why, why_size,
                          "cannot find out whether somebody listens on %s: %s; set OTSHIM_SOCKET to another path", path,
                          strerror(-listening));
    if (unlink(path) != 0 && errno != ENOENT)
        return socket_why(-errno, why, why_size,
                          "cannot replace the stale socket %s: %s; remove it or set OTSHIM_SOCKET to another path", path,
                          strerror(errno));
    return 0;
}

static int socket_listen(struct ingest_socket *s, mode_t mode, char *why, size_t why_size)
{
    const char *path = s->address.sun_path;
    struct stat st;
    mode_t umask_before;
    int error = 0;

    s->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (s->fd < 0)
        return socket_why(-errno, why, why_size, "cannot make a socket: %s", strerror(errno));
    /* The umask makes the file's mode; between bind and listen nobody can connect, so a chmod after it opens no window either. */
    umask_before = umask(~mode & 0777);
    if (bind(s->fd, (const struct sockaddr *)&s->address, sizeof s->address) != 0)
        error = -errno;
    umask(umask_before);
    if (error == 0 && lstat(path, &st) == 0)
        s->inode = st.st_ino;
    if (error == 0 && chmod(path, mode) != 0)
        error = -errno;
    if (error == 0 && listen(s->fd, SOCKET_BACKLOG) != 0)
        error = -errno;
    if (error != 0)
        return socket_why(error, why, why_size, "cannot listen on %s: %s; set OTSHIM_SOCKET to another path", path,
                          strerror(-error));
    return 0;
}

int socket_open(struct ingest_socket *s, const char *path, mode_t mode, char *why, size_t why_size)
{
    int error;

    *s = (struct ingest_socket){.fd = -1, .lock_fd = -1, .address.sun_family = AF_UNIX};
    if (path == NULL || path[0] == '\0')
        return socket_why(-EINVAL, why, why_size, "no path for the socket is given; set OTSHIM_SOCKET");
    if (strlen(path) >= sizeof s->address.sun_path)
        return socket_why(
            -ENAMETOOLONG, why, why_size,
            "the path of the socket is too long (%zu bytes, a Unix socket's can have %zu): %s; set OTSHIM_SOCKET to a shorter one",
            strlen(path), sizeof s->address.sun_path - 1, path);
    memcpy(s->address.sun_path, path, strlen(path) + 1);
    snprintf(s->lock_path, sizeof s->lock_path, "%s.lock", path);
    error = socket_directory(path, why, why_size);
    if (error == 0)
        error = socket_lock(s, why, why_size);
    if (error == 0)
        error = socket_clear(s, why, why_size);
    if (error == 0)
        error = socket_listen(s, mode, why, why_size);
    if (error != 0)
        socket_close(s);
    return error;
}

void socket_close(struct ingest_socket *s)
{
    struct stat st;

    if (s->fd >= 0) {
        if (s->inode != 0 && lstat(s->address.sun_path, &st) == 0 && st.st_ino == s->inode)
            unlink(s->address.sun_path);
        close(s->fd);
    }
    if (s->lock_fd >= 0) {
        unlink(s->lock_path);
        close(s->lock_fd);
    }
    s->fd = s->lock_fd = -1;
}
