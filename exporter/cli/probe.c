/* probe.c - is somebody listening on an exporter's socket: see probe.h. */
#include "cli/probe.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int probe_socket(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(address.sun_path))
        return -ENAMETOOLONG;
    memcpy(address.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    /* EAGAIN: its backlog is full, so there is one. */
    int result = connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0 || errno == EAGAIN ? 0 : -errno;
    close(fd);
    return result;
}
