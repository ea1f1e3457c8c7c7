/* leaf.c - the end of every call: answers GET /.../ID/...?ms=N after a random part of N milliseconds with the path, and writes one line for
 * each request that it has answered to a file: the path, a blank, the traceparent that came with it or "-". It is not watched itself.
 *
 *   leaf PORT FILE
 *
 * One thread, epoll; what waits for its time is looked through at each turn, which is fine for some hundreds of connections. */
#include "storm.h"
#include <fcntl.h>
#include <sys/epoll.h>

enum { CONNECTIONS = 4096 };

static struct connection {
    size_t len;
    uint64_t due_us; /* 0: no request is waiting */
    char buffer[STORM_HEAD];
} * connections[CONNECTIONS];

static int waiting[CONNECTIONS];
static int waiting_count;
static FILE *out;

static void drop(int fd)
{
    for (int i = 0; i < waiting_count; i++)
        if (waiting[i] == fd)
            waiting[i--] = waiting[--waiting_count];
    free(connections[fd]);
    connections[fd] = NULL;
    close(fd);
}

static bool keeps(const char *head)
{
    if (strstr(head, "HTTP/1.0\r\n") != NULL)
        return strcasestr(head, "\r\nConnection: keep-alive") != NULL;
    return strcasestr(head, "\r\nConnection: close") == NULL;
}

/* A whole request lies in the buffer, and none is waiting? Then this one is. (A second one on a connection waits for the answer to the first.) */
static void take_up(int fd)
{
    struct connection *c = connections[fd];
    c->buffer[c->len] = '\0';
    if (c->due_us != 0 || strstr(c->buffer, "\r\n\r\n") == NULL)
        return;
    struct plan plan = {.ms = storm_number(c->buffer, "ms=")};
    c->due_us = storm_now_us() + storm_delay_us(&plan);
    waiting[waiting_count++] = fd;
}

static void answer(int fd)
{
    struct connection *c = connections[fd];
    char path[256] = "?", parent[64] = "-", response[512];
    char *end = strstr(c->buffer, "\r\n\r\n") + 4;
    sscanf(c->buffer, "%*s %255[^? ]", path);
    const char *field = strcasestr(c->buffer, "\r\ntraceparent:");
    if (field != NULL && field < end)
        sscanf(field + 14, " %63[^\r\n ]", parent);
    fprintf(out, "%s %s\n", path, parent);
    char next = *end;
    *end = '\0';
    bool keep = keeps(c->buffer);
    *end = next;
    int len = snprintf(response, sizeof response, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\nConnection: %s\r\n\r\n%s\n",
                       strlen(path) + 1, keep ? "keep-alive" : "close", path);
    c->due_us = 0;
    c->len -= (size_t)(end - c->buffer);
    memmove(c->buffer, end, c->len);
    if (!storm_write(fd, response, (size_t)len) || !keep)
        drop(fd);
    else
        take_up(fd);
}

static void readable(int fd)
{
    struct connection *c = connections[fd];
    ssize_t n = recv(fd, c->buffer + c->len, STORM_HEAD - 1 - c->len, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0) {
        drop(fd);
        return;
    }
    c->len += (size_t)n;
    take_up(fd);
}

static int answer_what_is_due(void)
{
    uint64_t now = storm_now_us(), next = UINT64_MAX;
    for (int i = 0; i < waiting_count; i++) {
        int fd = waiting[i];
        uint64_t due = connections[fd]->due_us;
        if (due > now) {
            next = due < next ? due : next;
            continue;
        }
        waiting[i--] = waiting[--waiting_count];
        answer(fd);
    }
    fflush(out);
    return waiting_count == 0 ? -1 : (int)((next - now) / 1000u) + 1;
}

static void take(int listener, int poll)
{
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
        struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
        if (fd >= CONNECTIONS || (connections[fd] = calloc(1, sizeof **connections)) == NULL) {
            close(fd);
            continue;
        }
        storm_nodelay(fd);
        epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event);
    }
}

int main(int argc, char **argv)
{
    if (argc != 3 || (out = fopen(argv[2], "w")) == NULL)
        return 2;
    int listener = storm_listen(argv[1], SOCK_NONBLOCK);
    int poll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, events[256];
    epoll_ctl(poll, EPOLL_CTL_ADD, listener, &event);
    for (int timeout = -1;; timeout = answer_what_is_due()) {
        int n = epoll_wait(poll, events, 256, timeout);
        for (int i = 0; i < n; i++) {
            if (events[i].data.fd == listener)
                take(listener, poll);
            else if (connections[events[i].data.fd] != NULL)
                readable(events[i].data.fd);
        }
    }
}
