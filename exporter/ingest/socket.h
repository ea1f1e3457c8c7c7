/* socket.h - the exporter's place in the file system: one listening socket, held by one exporter. */
#ifndef OTSHIM_INGEST_SOCKET_H
#define OTSHIM_INGEST_SOCKET_H

#include <stddef.h>
#include <sys/stat.h>
#include <sys/un.h>

struct ingest_socket {
    int fd;      /* listening, non-blocking, SOCK_SEQPACKET */
    int lock_fd; /* flock'ed for our life */
    struct sockaddr_un address;
    char lock_path[sizeof((struct sockaddr_un *)0)->sun_path + 8];
    ino_t inode; /* of the socket file: it is removed only if it is still ours */
};

/* 0; or -errno with one line in why: the thing, the cause, the remedy. -EADDRINUSE: another exporter holds it, named by pid. */
int socket_open(struct ingest_socket *s, const char *path, mode_t mode, char *why, size_t why_size);
void socket_close(struct ingest_socket *s);

#endif
