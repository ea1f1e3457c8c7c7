/* storm.h - what the storm's C servers share: the plan that a request carries, and the text of requests and responses.
 *
 *   GET /KIND/ID?calls=2&ms=3     call the leaf (port in the environment, LEAF_PORT) so many times, as /ID/0?ms=3, /ID/1?ms=3, ...; sleep
 *                                 between 0 and ms milliseconds before each call
 *
 * Everything fits in one buffer: these servers meet no other client than the storm. */
#ifndef STORM_H
#define STORM_H

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { STORM_HEAD = 2048 };

struct plan {
    char kind[16];
    char id[24];
    int calls;
    int ms;
    bool keep; /* the client keeps the connection */
};

static inline int storm_number(const char *head, const char *name)
{
    const char *line_end = strstr(head, "\r\n");
    const char *at = strstr(head, name);
    return at != NULL && at < line_end ? atoi(at + strlen(name)) : 0;
}

/* A whole head, ended by a zero byte. */
static inline bool storm_plan(const char *head, struct plan *plan)
{
    memset(plan, 0, sizeof *plan);
    if (sscanf(head, "GET /%15[^/]/%23[^? ]", plan->kind, plan->id) != 2)
        return false;
    plan->calls = storm_number(head, "calls=");
    plan->ms = storm_number(head, "ms=");
    plan->keep = strcasestr(head, "\r\nConnection: close") == NULL && strstr(head, "HTTP/1.0\r\n") == NULL;
    return true;
}

static inline int storm_request(char *out, size_t size, const struct plan *plan, int number, bool keep)
{
    return snprintf(out, size, "GET /%s/%d?ms=%d HTTP/1.1\r\nHost: leaf\r\nConnection: %s\r\n\r\n", plan->id, number, plan->ms,
                    keep ? "keep-alive" : "close");
}

static inline int storm_response(char *out, size_t size, const struct plan *plan, bool good)
{
    return snprintf(out, size, "HTTP/1.1 %s\r\nContent-Length: %zu\r\nConnection: %s\r\n\r\n%s\n",
                    good ? "200 OK" : "502 Bad Gateway", strlen(plan->id) + 1, plan->keep ? "keep-alive" : "close", plan->id);
}

/* The length of a message that is complete in the buffer (with its zero byte at len), or 0. */
static inline size_t storm_message(const char *buffer, size_t len)
{
    const char *head_end = strstr(buffer, "\r\n\r\n");
    if (head_end == NULL)
        return 0;
    const char *field = strcasestr(buffer, "\r\nContent-Length:");
    size_t body = field != NULL && field < head_end ? strtoul(field + 17, NULL, 10) : 0;
    size_t whole = (size_t)(head_end - buffer) + 4 + body;
    return whole <= len ? whole : 0;
}

static inline uint32_t storm_random(void)
{
    static _Thread_local uint32_t state;
    if (state == 0)
        state = (uint32_t)(uintptr_t)&state ^ (uint32_t)time(NULL) ^ 0x9e3779b9u;
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    return state;
}

static inline uint64_t storm_now_us(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000u + (uint64_t)ts.tv_nsec / 1000u;
}

static inline uint32_t storm_delay_us(const struct plan *plan)
{
    return plan->ms > 0 ? storm_random() % ((uint32_t)plan->ms * 1000u) : 0;
}

static inline struct sockaddr_in storm_address(int port)
{
    return (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
}

static inline struct sockaddr_in storm_leaf(void)
{
    return storm_address(atoi(getenv("LEAF_PORT")));
}

static inline int storm_listen(const char *port, int flags)
{
    struct sockaddr_in at = storm_address(atoi(port));
    int one = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof at) != 0 || listen(fd, 511) != 0) {
        perror("listen");
        exit(1);
    }
    return fd;
}

static inline void storm_nodelay(int fd)
{
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

/* ---- blocking ------------------------------------------------------------------------------------------------------------------------ */

/* Reads one message into the buffer of STORM_HEAD bytes; its length, or 0 at the end. */
static inline size_t storm_read(int fd, char *buffer)
{
    size_t len = 0, whole = 0;
    while (whole == 0 && len < STORM_HEAD - 1) {
        ssize_t n = recv(fd, buffer + len, STORM_HEAD - 1 - len, 0);
        if (n <= 0)
            return 0;
        len += (size_t)n;
        buffer[len] = '\0';
        whole = storm_message(buffer, len);
    }
    return whole;
}

static inline bool storm_write(int fd, const char *bytes, size_t len)
{
    while (len > 0) {
        ssize_t n = send(fd, bytes, len, MSG_NOSIGNAL);
        if (n <= 0)
            return false;
        bytes += n;
        len -= (size_t)n;
    }
    return true;
}

static inline int storm_connect(void)
{
    struct sockaddr_in at = storm_leaf();
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&at, sizeof at) != 0) {
        close(fd);
        return -1;
    }
    storm_nodelay(fd);
    return fd;
}

/* One call on an open connection. */
static inline bool storm_exchange(int fd, const struct plan *plan, int number, bool keep)
{
    char buffer[STORM_HEAD];
    int len = storm_request(buffer, sizeof buffer, plan, number, keep);
    return storm_write(fd, buffer, (size_t)len) && storm_read(fd, buffer) > 0 && strstr(buffer, " 200 ") != NULL &&
           strstr(buffer, plan->id) != NULL;
}

static inline bool storm_call(const struct plan *plan, int number)
{
    int fd = storm_connect();
    bool good = fd >= 0 && storm_exchange(fd, plan, number, false);
    if (fd >= 0)
        close(fd);
    return good;
}

static inline bool storm_answer(int fd, const struct plan *plan, bool good)
{
    char buffer[STORM_HEAD];
    int len = storm_response(buffer, sizeof buffer, plan, good);
    return storm_write(fd, buffer, (size_t)len) && plan->keep;
}

#endif
