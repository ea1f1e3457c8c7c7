/* origin.c - an HTTP/1.1 server that is never traced: answers each request with the traceparent it came with, or "-".
 *
 * Prints its port, then serves (one thread a connection, keep-alive) until its standard input ends. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void *serve(void *arg)
{
    int fd = (int)(intptr_t)arg;
    char head[8192];
    size_t n = 0;
    for (;;) {
        ssize_t got = read(fd, head + n, sizeof(head) - 1 - n);
        if (got <= 0)
            break;
        n += (size_t)got;
        head[n] = '\0';
        char *end = strstr(head, "\r\n\r\n");
        if (end == NULL)
            continue;
        char *line = strcasestr(head, "\r\ntraceparent:");
        char body[128] = "-";
        if (line != NULL && line < end)
            sscanf(line + 14, " %100[0-9a-f-]", body);
        char out[512];
        int len = snprintf(out, sizeof(out), "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n%s", strlen(body), body);
        if (write(fd, out, (size_t)len) != len)
            break;
        n = 0;
    }
    close(fd);
    return NULL;
}

static void *accept_all(void *arg)
{
    int listener = (int)(intptr_t)arg;
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        pthread_t thread;
        if (fd >= 0 && pthread_create(&thread, NULL, serve, (void *)(intptr_t)fd) == 0)
            pthread_detach(thread);
        else if (fd >= 0)
            close(fd);
    }
    return NULL;
}

int main(void)
{
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(addr);
    pthread_t thread;
    if (bind(listener, (struct sockaddr *)&addr, len) != 0 || listen(listener, 1024) != 0 ||
        getsockname(listener, (struct sockaddr *)&addr, &len) != 0 ||
        pthread_create(&thread, NULL, accept_all, (void *)(intptr_t)listener) != 0)
        return 1;
    printf("%d\n", ntohs(addr.sin_port));
    fflush(stdout);
    char c;
    while (read(0, &c, 1) > 0)
        ;
    return 0;
}
