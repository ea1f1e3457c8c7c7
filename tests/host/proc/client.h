/* client.h - what the programs of this directory share: asking the origin which traceparent it sees, and being in a request. */
#ifndef CLIENT_H
#define CLIENT_H

#include <arpa/inet.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define TRACE "4bf92f3577b34da6a3ce929d0e0e4736"

static inline int client_port(void)
{
    const char *port = getenv("ORIGIN_PORT");
    return port != NULL ? atoi(port) : 0;
}

static inline int client_connect(int port)
{
    struct sockaddr_in addr = {
        .sin_family = AF_INET, .sin_port = htons((unsigned short)port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0)
        return fd;
    perror("connect");
    exit(3);
}

/* One exchange on fd; answer: the traceparent that arrived, or "-". False when the connection is broken. */
static inline bool client_exchange(int fd, char answer[128])
{
    static const char request[] = "GET / HTTP/1.1\r\nHost: origin\r\n\r\n";
    char in[1024];
    size_t n = 0;
    if (send(fd, request, sizeof(request) - 1, MSG_NOSIGNAL) != (ssize_t)sizeof(request) - 1)
        return false;
    for (;;) {
        ssize_t got = recv(fd, in + n, sizeof(in) - 1 - n, 0);
        if (got <= 0)
            return false;
        n += (size_t)got;
        in[n] = '\0';
        char *body = strstr(in, "\r\n\r\n"), *length = strstr(in, "Content-Length: ");
        if (body == NULL || length == NULL || strlen(body + 4) < (size_t)atoi(length + 16))
            continue;
        snprintf(answer, 128, "%.*s", atoi(length + 16), body + 4);
        return true;
    }
}

/* A connection for one exchange. */
static inline void client_ask(char answer[128])
{
    int fd = client_connect(client_port());
    if (!client_exchange(fd, answer))
        strcpy(answer, "broken");
    close(fd);
}

/* What the origin saw, in words that do not depend on ids: "ours", "other", "none". */
static inline const char *client_parent(void)
{
    char answer[128];
    client_ask(answer);
    if (strcmp(answer, "broken") == 0)
        return "broken";
    if (answer[0] == '-')
        return "none";
    return strstr(answer, TRACE) != NULL ? "ours" : "other";
}

/* ---- being in a request: an inbound connection of this process that has just been read from ------------------------------------- */
struct inbound {
    int listener, client, fd;
};

static inline struct inbound inbound_begin(void)
{
    static const char request[] = "GET /in HTTP/1.1\r\nHost: here\r\ntraceparent: 00-" TRACE "-00f067aa0ba902b7-01\r\n\r\n";
    struct inbound in;
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof(addr);
    char buf[256];
    in.listener = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(in.listener, (struct sockaddr *)&addr, len) != 0 || listen(in.listener, 8) != 0 ||
        getsockname(in.listener, (struct sockaddr *)&addr, &len) != 0)
        exit(3);
    in.client = client_connect(ntohs(addr.sin_port));
    if (send(in.client, request, sizeof(request) - 1, 0) != (ssize_t)sizeof(request) - 1)
        exit(3);
    in.fd = accept(in.listener, NULL, NULL);
    if (recv(in.fd, buf, sizeof(buf), 0) != (ssize_t)sizeof(request) - 1)
        exit(3);
    return in;
}

static inline void inbound_end(struct inbound *in)
{
    static const char response[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    if (send(in->fd, response, sizeof(response) - 1, MSG_NOSIGNAL) < 0)
        exit(3);
    close(in->fd);
    close(in->client);
    close(in->listener);
}

#endif
