/* talk.c - a library whose one function makes one HTTP exchange with a port of this machine: loaded by load.c in several ways. */
#include <arpa/inet.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* The number of bytes of the response, -1 on failure. */
int talk(int port);
int talk(int port)
{
    static const char request[] = "GET /deep HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    char answer[4096];
    int total = 0, fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to) != 0)
        return -1;
    if (send(fd, request, sizeof request - 1, 0) != (ssize_t)sizeof request - 1)
        return -1;
    for (ssize_t n; (n = recv(fd, answer, sizeof answer, 0)) > 0;)
        total += (int)n;
    close(fd);
    return total;
}
