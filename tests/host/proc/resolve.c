/* resolve.c - getaddrinfo and its elders: every result printed, to be compared with the bare run. */
#define _GNU_SOURCE
#include "client.h"
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>

static void print_host(const char *function, const char *name, const struct hostent *h, int error)
{
    char text[INET6_ADDRSTRLEN];
    printf("%s(%s): %s %d", function, name, h != NULL ? h->h_name : "-", h != NULL ? 0 : error);
    for (char **a = h != NULL ? h->h_addr_list : NULL; a != NULL && *a != NULL; a++)
        printf(" %s", inet_ntop(h->h_addrtype, *a, text, sizeof(text)));
    puts("");
}

static void lookup(const char *node, const char *service, int family, int flags)
{
    struct addrinfo hints = {.ai_family = family, .ai_flags = flags, .ai_socktype = SOCK_STREAM}, *res = NULL;
    char host[NI_MAXHOST], serv[NI_MAXSERV];
    errno = 0;
    int error = getaddrinfo(node, service, &hints, &res);
    printf("getaddrinfo(%s, %s, %d, %x): %d", node ? node : "NULL", service ? service : "NULL", family, (unsigned)flags, error);
    for (struct addrinfo *a = error == 0 ? res : NULL; a != NULL; a = a->ai_next) {
        getnameinfo(a->ai_addr, a->ai_addrlen, host, sizeof(host), serv, sizeof(serv), NI_NUMERICHOST | NI_NUMERICSERV);
        printf(" %s/%s%s", host, serv, a->ai_canonname ? a->ai_canonname : "");
    }
    puts("");
    if (error == 0)
        freeaddrinfo(res);
}

static void host(const char *name)
{
    struct hostent ret, *h;
    char buf[4096];
    int error = 0;
    h = gethostbyname(name);
    print_host("gethostbyname", name, h, h_errno);
    h = gethostbyname2(name, AF_INET6);
    print_host("gethostbyname2", name, h, h_errno);
    int rc = gethostbyname_r(name, &ret, buf, sizeof(buf), &h, &error);
    print_host("gethostbyname_r", name, rc == 0 ? h : NULL, error);
    rc = gethostbyname_r(name, &ret, buf, 8, &h, &error);
    printf("gethostbyname_r, small buffer: %d %d\n", rc, rc == ERANGE ? 0 : error);
    rc = gethostbyname2_r(name, AF_INET, &ret, buf, sizeof(buf), &h, &error);
    print_host("gethostbyname2_r", name, rc == 0 ? h : NULL, error);
}

/* libcurl without its resolver thread leaves gethostbyname by siglongjmp. The thread must not be blind after that. With an argument,
 * "libc" is a library (leaves.c) whose gethostbyname calls this. */
static jmp_buf out;
extern void leave(void);
void leave(void)
{
    longjmp(out, 1);
}

static void left_by_longjmp(void)
{
    struct inbound in = inbound_begin();
    for (int i = 0; i < 3; i++) {
        if (setjmp(out) == 0)
            gethostbyname("some-name");
        poll(NULL, 0, 0); /* as an event loop does; where the stack is higher than the look-up was */
        printf("left, after that: %s\n", client_parent());
    }
    inbound_end(&in);
}

static void *in_thread(void *arg)
{
    for (int i = 0; i < 50; i++) {
        struct addrinfo *res;
        if (getaddrinfo("localhost", NULL, NULL, &res) == 0)
            freeaddrinfo(res);
    }
    return arg;
}

int main(int argc, char **argv)
{
    (void)argv;
    if (argc > 1) {
        left_by_longjmp();
        return 0;
    }
    const char *nodes[] = {"localhost", "127.0.0.1", "127.1", "0x7f000001", "::1", "fe80::1%lo", "", "::ffff:127.0.0.1", NULL};
    const int families[] = {AF_UNSPEC, AF_INET, AF_INET6}, flags[] = {0, AI_PASSIVE, AI_NUMERICHOST, AI_CANONNAME, 0x7fffffff};
    for (size_t i = 0; i < sizeof(nodes) / sizeof(nodes[0]); i++)
        for (size_t f = 0; f < 3; f++)
            for (size_t k = 0; k < 5; k++) {
                lookup(nodes[i], "80", families[f], flags[k]);
                lookup(nodes[i], NULL, families[f], flags[k]);
            }
    /* A question to a name server: what it answers, if there is one, is its affair. */
    struct addrinfo *none = NULL;
    printf("no such host: %d\n", getaddrinfo("no-such-host.invalid", "80", NULL, &none) != 0);
    for (size_t i = 0; nodes[i] != NULL; i++)
        host(nodes[i]);
    pthread_t threads[8];
    for (int i = 0; i < 8; i++)
        pthread_create(&threads[i], NULL, in_thread, NULL);
    for (int i = 0; i < 8; i++)
        pthread_join(threads[i], NULL);
    return 0;
}
