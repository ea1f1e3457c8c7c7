/* thread_server.c - HTTP/1.1 with a thread for each connection, in plain C: the simplest server that there is, and the leaf of most
 * golden traces.
 *
 *   thread_server PORT
 *
 *   /fetch/ID?url=URL[&url=URL...]  calls each URL with a blocking socket and answers with what came back; 502 if one fails
 *   /slow/ID?ms=N                   answers after N milliseconds
 *   /status/ID?code=N               answers N
 *   /cut/ID                         promises 1,000 bytes, sends 10, closes
 *   /headers/ID                     answers with the head of the request, as it came
 *   anything else                   answers "ok PATH"
 *
 * Connections are kept alive unless the request says otherwise. */
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define HEAD_MAX 16384
#define BODY_MAX 65536

struct request {
    char head[HEAD_MAX]; /* as it came, terminated */
    size_t used;         /* bytes in head: there may be some of the next request */
    char *path;          /* without the query */
    char *query;         /* "" if none */
};

static int send_all(int fd, const char *bytes, size_t len)
{
    while (len > 0) {
        ssize_t n = send(fd, bytes, len, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return -1;
        bytes += n;
        len -= (size_t)n;
    }
    return 0;
}

static int unhex(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : (c | 0x20) >= 'a' && (c | 0x20) <= 'f' ? (c | 0x20) - 'a' + 10 : -1;
}

/* Copies the percent-encoded value at `in`, up to the next '&', to `out`. */
static void url_decode(const char *in, char *out, size_t out_size)
{
    size_t n = 0;
    while (*in != '\0' && *in != '&' && n + 1 < out_size) {
        if (*in == '%' && unhex(in[1]) >= 0 && unhex(in[2]) >= 0) {
            out[n++] = (char)(unhex(in[1]) << 4 | unhex(in[2]));
            in += 3;
        } else {
            out[n++] = *in++;
        }
    }
    out[n] = '\0';
}

/* The value of the next parameter `name` at or after `query`, NULL if there is none. */
static const char *parameter(const char *query, const char *name)
{
    size_t len = strlen(name);
    for (const char *at = query; at != NULL && *at != '\0';) {
        if (strncmp(at, name, len) == 0 && at[len] == '=')
            return at + len + 1;
        at = strchr(at, '&');
        if (at != NULL)
            at++;
    }
    return NULL;
}

static int dial(const char *host, const char *port)
{
    struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM}, *found = NULL;
    if (getaddrinfo(host, port, &hints, &found) != 0)
        return -1;
    int fd = socket(found->ai_family, found->ai_socktype | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, found->ai_addr, found->ai_addrlen) != 0) {
        close(fd);
        fd = -1;
    }
    freeaddrinfo(found);
    return fd;
}

/* GET url by a connection of its own; appends the answer's body to `body`. 0, or -1 if there was no whole answer. */
int call_upstream(const char *url, char *body, size_t *body_len)
{
    char host[256], port[8] = "80", request[4096], answer[BODY_MAX];
    const char *path;
    if (sscanf(url, "http://%255[^:/]:%7[0-9]", host, port) < 1 || (path = strchr(url + 7, '/')) == NULL)
        return -1;
    int fd = dial(host, port);
    if (fd < 0)
        return -1;
    int len = snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\nHost: %s:%s\r\nConnection: close\r\n\r\n", path, host, port);
    size_t used = 0;
    ssize_t n = send_all(fd, request, (size_t)len);
    while (n >= 0 && used + 1 < sizeof(answer)) {
        n = recv(fd, answer + used, sizeof(answer) - 1 - used, 0);
        if (n == 0 || (n < 0 && errno != EINTR))
            break;
        used += n > 0 ? (size_t)n : 0;
    }
    close(fd);
    answer[used] = '\0';
    const char *head_end = strstr(answer, "\r\n\r\n");
    const char *promised = strcasestr(answer, "\r\nContent-Length:");
    if (head_end == NULL)
        return -1;
    size_t got = used - (size_t)(head_end + 4 - answer);
    if (promised != NULL && promised < head_end && got < strtoul(promised + 17, NULL, 10))
        return -1;
    if (got > BODY_MAX - 1 - *body_len)
        got = BODY_MAX - 1 - *body_len;
    memcpy(body + *body_len, head_end + 4, got);
    *body_len += got;
    return 0;
}

/* Head and body in one system call. */
static int respond(int fd, int status, const char *body, size_t len)
{
    char head[256];
    int head_len = snprintf(head, sizeof(head), "HTTP/1.1 %d %s\r\nContent-Length: %zu\r\nContent-Type: text/plain\r\n\r\n", status,
                            status < 400 ? "OK" : "Error", len);
    struct iovec parts[] = {{.iov_base = head, .iov_len = (size_t)head_len}, {.iov_base = (char *)body, .iov_len = len}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    ssize_t n = sendmsg(fd, &message, MSG_NOSIGNAL);
    if (n < head_len)
        return -1;
    return send_all(fd, body + (n - head_len), len - (size_t)(n - head_len));
}

static int handle_fetch(int fd, const struct request *request)
{
    char *body = calloc(1, BODY_MAX), url[4096];
    size_t len = 0;
    int status = 200;
    for (const char *at = parameter(request->query, "url"); at != NULL; at = parameter(at, "url")) {
        url_decode(at, url, sizeof(url));
        if (call_upstream(url, body, &len) != 0)
            status = 502;
    }
    int result = respond(fd, status, body, len);
    free(body);
    return result;
}

static long number(const struct request *request, const char *name, long otherwise)
{
    const char *value = parameter(request->query, name);
    return value != NULL ? strtol(value, NULL, 10) : otherwise;
}

/* 0: the connection may go on. */
static int handle(int fd, const struct request *request)
{
    char body[HEAD_MAX + 64];
    if (strncmp(request->path, "/fetch", 6) == 0)
        return handle_fetch(fd, request);
    if (strncmp(request->path, "/cut", 4) == 0) {
        static const char cut[] = "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nonly these";
        send_all(fd, cut, sizeof(cut) - 1);
        return -1;
    }
    if (strncmp(request->path, "/slow", 5) == 0) {
        long ms = number(request, "ms", 200);
        struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
        nanosleep(&pause, NULL);
    }
    int status = strncmp(request->path, "/status", 7) == 0 ? (int)number(request, "code", 500) : 200;
    int len = snprintf(body, sizeof(body), "ok %s\n", request->path);
    return respond(fd, status, body, (size_t)len);
}

/* Reads up to the end of a head; 1 if there is a whole one, 0 at the end of the stream. */
static int read_head(int fd, struct request *request, size_t *head_len)
{
    for (;;) {
        request->head[request->used] = '\0';
        const char *end = strstr(request->head, "\r\n\r\n");
        if (end != NULL) {
            *head_len = (size_t)(end + 4 - request->head);
            return 1;
        }
        ssize_t n = recv(fd, request->head + request->used, HEAD_MAX - 1 - request->used, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return 0;
        request->used += (size_t)n;
    }
}

/* One request of the connection; 0: there may be another. */
static int serve_one(int fd, struct request *request)
{
    size_t head_len;
    if (!read_head(fd, request, &head_len))
        return -1;
    char saved[HEAD_MAX];
    memcpy(saved, request->head, head_len);
    saved[head_len] = '\0';
    bool close_after = strcasestr(saved, "\r\nConnection: close") != NULL || strstr(saved, " HTTP/1.0\r\n") != NULL;
    char *target = strchr(saved, ' ');
    char *end = target != NULL ? strchr(target + 1, ' ') : NULL;
    if (end == NULL)
        return -1;
    int result;
    if (strncmp(target + 1, "/headers", 8) == 0) {
        result = respond(fd, 200, saved, head_len);
    } else {
        *end = '\0';
        request->path = target + 1;
        char *question = strchr(request->path, '?');
        if (question != NULL)
            *question = '\0';
        request->query = question != NULL ? question + 1 : (char[]){""};
        result = handle(fd, request);
    }
    memmove(request->head, request->head + head_len, request->used - head_len);
    request->used -= head_len;
    return result != 0 || close_after ? -1 : 0;
}

static void *serve(void *arg)
{
    int fd = (int)(intptr_t)arg, one = 1;
    struct request *request = calloc(1, sizeof(*request));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    while (serve_one(fd, request) == 0)
        ;
    free(request);
    close(fd);
    return NULL;
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: thread_server PORT\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[1]))};
    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(listener, (struct sockaddr *)&addr, sizeof(addr)) != 0 || listen(listener, 256) != 0) {
        perror("thread_server");
        return 1;
    }
    pthread_attr_t detached;
    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        pthread_t thread;
        if (fd >= 0 && pthread_create(&thread, &detached, serve, (void *)(intptr_t)fd) != 0)
            close(fd);
    }
}
