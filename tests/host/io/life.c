/* life.c - what happens to descriptors in the life of a program: closed behind our back and used again, closed all at once, twenty thousand
 * of them, duplicated in chains, shared with a child, read and written by two threads, cancelled in, and signalled in all the time.
 *
 * usage: life CASE; exits 0, or 1 with a line that says what went wrong. Both ends of the connections are in this process unless said otherwise. With
 * the library preloaded LIFE_TRACED=1 asks for more: each request head must then carry one traceparent line. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static bool traced;
static _Atomic int lines_missing;
static bool may_miss; /* a few lines: a request that meets its connection busy goes as it is */

#define CHECK(x)                                                                                                                   \
    do {                                                                                                                           \
        if (!(x)) {                                                                                                                \
            printf("line %d: %s (errno %d)\n", __LINE__, #x, errno);                                                               \
            exit(1);                                                                                                               \
        }                                                                                                                          \
    } while (0)

static const char request[] = "GET /path HTTP/1.1\r\nHost: life.test\r\n\r\n";
static const char response[] = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
#define REQUEST (sizeof request - 1)
#define RESPONSE (sizeof response - 1)
#define LINE 70

static int listener(struct sockaddr_in *a)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    socklen_t len = sizeof *a;
    *a = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    CHECK(bind(fd, (void *)a, len) == 0 && listen(fd, 4096) == 0 && getsockname(fd, (void *)a, &len) == 0);
    return fd;
}

static void pair(int *client, int *server)
{
    struct sockaddr_in a;
    int l = listener(&a), one = 1;
    *client = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(connect(*client, (void *)&a, sizeof a) == 0);
    CHECK((*server = accept(l, NULL, NULL)) >= 0);
    setsockopt(*client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    close(l);
}

static int strip(char *head, size_t *len)
{
    int lines = 0;
    char *at;
    while ((at = memmem(head, *len, "traceparent: 00-", 16)) != NULL && (size_t)(head + *len - at) >= LINE) {
        memmove(at, at + LINE, (size_t)(head + *len - (at + LINE)));
        *len -= LINE;
        lines++;
    }
    return lines;
}

/* One request head as the server sees it. *id: the trace id in it. */
static void expect_request(int fd, char id[33])
{
    char buf[1000];
    size_t have = 0;
    while (have < 4 || memcmp(buf + have - 4, "\r\n\r\n", 4) != 0) {
        ssize_t r = read(fd, buf + have, 1); /* by single bytes: pipelined requests stay apart */
        if (r < 0 && errno == EINTR)
            continue;
        CHECK(r == 1);
        have++;
        CHECK(have < sizeof buf);
    }
    char *at = memmem(buf, have, "traceparent: 00-", 16);
    if (id != NULL)
        snprintf(id, 33, "%.32s", at ? at + 16 : "");
    int lines = strip(buf, &have);
    CHECK(have == REQUEST && memcmp(buf, request, REQUEST) == 0);
    if (traced && may_miss && lines == 0)
        lines_missing++;
    else
        CHECK(lines == (traced ? 1 : 0));
}

static void expect_response(int fd)
{
    char buf[RESPONSE];
    size_t have = 0;
    while (have < RESPONSE) {
        ssize_t r = recv(fd, buf + have, RESPONSE - have, 0);
        if (r < 0 && errno == EINTR)
            continue;
        CHECK(r > 0);
        have += (size_t)r;
    }
    CHECK(memcmp(buf, response, RESPONSE) == 0);
}

static void put(int fd, const char *bytes, size_t len)
{
    for (size_t sent = 0; sent < len;) {
        ssize_t r = send(fd, bytes + sent, len - sent, MSG_NOSIGNAL);
        if (r < 0 && errno == EINTR)
            continue;
        CHECK(r > 0 && (size_t)r <= len - sent);
        sent += (size_t)r;
    }
}

static void exchange(int client, int server)
{
    put(client, request, REQUEST);
    expect_request(server, NULL);
    put(server, response, RESPONSE);
    expect_response(client);
}

/* ---- the cases -------------------------------------------------------------------------------------------------------------------------------- */

/* Closed by a system call of the program's own, and the number given to a file: it must get exactly the program's bytes. */
static void reuse(void)
{
    for (int way = 0; way < 5; way++) {
        int client, server, pipes[2];
        char name[] = "/tmp/otshim-life-XXXXXX", buf[200];
        pair(&client, &server);
        exchange(client, server);
        int file = mkstemp(name);
        unlink(name);
        CHECK(syscall(SYS_dup3, file, client, 0) == client);
        struct iovec iov[2] = {{(void *)request, 10}, {(void *)(request + 10), REQUEST - 10}};
        if (way == 0)
            CHECK(write(client, request, REQUEST) == (ssize_t)REQUEST);
        if (way == 1)
            CHECK(writev(client, iov, 2) == (ssize_t)REQUEST);
        if (way == 2) /* the same error as for any file */
            CHECK(send(client, request, REQUEST, 0) < 0 && errno == ENOTSOCK &&
                  write(client, request, REQUEST) == (ssize_t)REQUEST);
        if (way == 3) {
            struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2};
            CHECK(sendmsg(client, &msg, 0) < 0 && errno == ENOTSOCK && write(client, request, REQUEST) == (ssize_t)REQUEST);
        }
        if (way == 4) {
            struct mmsghdr mm = {.msg_hdr = {.msg_iov = iov, .msg_iovlen = 2}};
            CHECK(sendmmsg(client, &mm, 1, 0) < 0 && errno == ENOTSOCK && write(client, request, REQUEST) == (ssize_t)REQUEST);
        }
        CHECK(lseek(client, 0, SEEK_SET) == 0);
        CHECK(read(client, buf, sizeof buf) == (ssize_t)REQUEST && memcmp(buf, request, REQUEST) == 0);
        CHECK(read(client, buf, sizeof buf) == 0);
        /* and the other end: a pipe where an inbound connection was */
        CHECK(pipe(pipes) == 0 && syscall(SYS_dup3, pipes[0], server, 0) == server);
        CHECK(write(pipes[1], request, REQUEST) == (ssize_t)REQUEST);
        CHECK(read(server, buf, sizeof buf) == (ssize_t)REQUEST && memcmp(buf, request, REQUEST) == 0);
        close(pipes[0]);
        close(pipes[1]);
        close(client);
        close(server);
        close(file);
    }
    /* ... and to another connection of ours, which must then be watched as itself */
    int a, b, c, d;
    pair(&a, &b);
    put(a, "POST / HTTP/1.1\r\nContent-Length: 100\r\n\r\n", 40); /* in the middle of something */
    pair(&c, &d);
    int moved = (int)syscall(SYS_dup3, c, a, 0);
    CHECK(moved == a);
    put(moved, request, REQUEST); /* the connection of c, under a number that stood for another one: no line, but no harm */
    bool lines = traced;
    traced = false;
    expect_request(d, NULL);
    traced = lines;
    close(moved);
    close(c);
    close(b);
    close(d);
    pair(&a, &b);
    exchange(a, b);
}

/* The parser must not see twice what MSG_PEEK shows, or it would be out of step and the next request without its line. */
static void peek(void)
{
    int client, server;
    char buf[4000];
    pair(&client, &server);
    for (int i = 0; i < 50; i++) {
        put(client, request, REQUEST);
        CHECK(recv(server, buf, sizeof buf, MSG_PEEK) > 0);
        CHECK(recv(server, buf, 7, MSG_PEEK) == 7);
        expect_request(server, NULL);
        put(server, response, RESPONSE);
        struct iovec iov = {buf, sizeof buf};
        struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
        CHECK(recvmsg(client, &msg, MSG_PEEK) == (ssize_t)RESPONSE);
        CHECK(recvfrom(client, buf, 20, MSG_PEEK, NULL, NULL) == 20);
        expect_response(client);
        /* content thrown away unseen (tcp(7), MSG_TRUNC) */
        exchange(client, server);
        put(client, request, REQUEST);
        expect_request(server, NULL);
        put(server, response, RESPONSE);
        CHECK(recv(client, buf, RESPONSE - 5, MSG_WAITALL) == (ssize_t)RESPONSE - 5);
        CHECK(recv(client, NULL, 5, MSG_TRUNC | MSG_WAITALL) == 5);
    }
}

/* Whose request? What is read inbound must be what the outbound call carries. */
static void causality(void)
{
    int client, server, out, out_server;
    char inbound[33], outbound[33];
    if (!traced)
        return;
    pair(&client, &server);
    pair(&out, &out_server); /* by nobody: used by the requests below */
    for (int i = 0; i < 20; i++) {
        put(client, request, REQUEST);
        expect_request(server, inbound);
        put(out, request, REQUEST);
        /* the other server is this same thread: it takes up the new request, in the same trace */
        expect_request(out_server, outbound);
        CHECK(strcmp(inbound, outbound) == 0 && strlen(inbound) == 32);
        put(out_server, response, RESPONSE);
        expect_response(out); /* back to the request that the call was made for */
        put(out, request, REQUEST);
        expect_request(out_server, outbound);
        CHECK(strcmp(inbound, outbound) == 0);
        put(out_server, response, RESPONSE);
        expect_response(out);
        put(server, response, RESPONSE);
        put(out, request, REQUEST); /* the response is written: nobody's */
        expect_request(out_server, outbound);
        CHECK(strcmp(inbound, outbound) != 0);
        put(out_server, response, RESPONSE);
        expect_response(out);
        expect_response(client);
    }
}

static void close_all(void)
{
    for (int way = 0; way < 4; way++) {
        int client, server, kept[2];
        pair(&client, &server);
        exchange(client, server);
        put(client, request, REQUEST); /* in the middle */
        if (way == 0)
            for (int fd = 3; fd < 1024; fd++)
                close(fd);
        if (way == 1)
            CHECK(close_range(3, ~0u, 0) == 0);
        if (way == 2)
            closefrom(3);
        if (way == 3)
            CHECK(syscall(SYS_close_range, 3, ~0u, 0) == 0);
        CHECK(fcntl(client, F_GETFD) < 0 && errno == EBADF);
        CHECK(pipe(kept) == 0);
        CHECK(write(kept[1], request, REQUEST) == (ssize_t)REQUEST);
        pair(&client, &server);
        exchange(client, server);
        exchange(client, server);
        close(client);
        close(server);
    }
}

static void many(void)
{
    enum { MOST = 10000 };
    static int client[MOST], server[MOST];
    struct rlimit limit;
    CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    if (limit.rlim_max < 2 * MOST + 100) { /* takes CAP_SYS_RESOURCE */
        struct rlimit more = {2 * MOST + 100, 2 * MOST + 100};
        if (setrlimit(RLIMIT_NOFILE, &more) == 0)
            limit = more;
    }
    limit.rlim_cur = limit.rlim_max;
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    const int PAIRS = limit.rlim_cur < 2 * MOST + 100 ? (int)(limit.rlim_cur - 100) / 2 : MOST;
    struct sockaddr_in a;
    int l = listener(&a);
    for (int i = 0; i < PAIRS; i++) {
        client[i] = socket(AF_INET, SOCK_STREAM, 0);
        CHECK(connect(client[i], (void *)&a, sizeof a) == 0);
        CHECK((server[i] = accept(l, NULL, NULL)) >= 0);
    }
    for (int i = 0; i < PAIRS; i++)
        put(client[i], request, REQUEST); /* all in flight at once */
    for (int i = 0; i < PAIRS; i++)
        expect_request(server[i], NULL);
    for (int i = 0; i < PAIRS; i++) {
        put(server[i], response, RESPONSE);
        expect_response(client[i]);
    }
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    printf("%d descriptors, %ld KiB\n", 2 * PAIRS, usage.ru_maxrss);
    for (int i = 0; i < PAIRS; i++) {
        close(client[i]);
        close(server[i]);
    }
}

static void dup_chains(void)
{
    int client, server, chain[64];
    char c;
    pair(&client, &server);
    chain[0] = client;
    for (int i = 1; i < 64; i++) {
        chain[i] = i % 4 == 0   ? dup(chain[i - 1])
                   : i % 4 == 1 ? fcntl(chain[i - 1], F_DUPFD, 300)
                   : i % 4 == 2 ? fcntl(chain[i - 1], F_DUPFD_CLOEXEC, 10)
                                : dup3(chain[i - 1], 500 + i, O_CLOEXEC);
        CHECK(chain[i] >= 0);
    }
    for (int i = 0; i < 63; i++) {
        exchange(chain[i], server);
        /* a request begun on one descriptor and ended on another */
        put(chain[i], request, 12);
        put(chain[63], request + 12, REQUEST - 12);
        CHECK(close(chain[i]) == 0);
        expect_request(server, NULL);
        put(server, response, RESPONSE);
        expect_response(chain[63]);
    }
    CHECK(recv(server, &c, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN);
    int other = open("/dev/null", O_RDWR);
    CHECK(dup2(other, chain[63]) == chain[63]); /* closes the last one */
    CHECK(recv(server, &c, 1, 0) == 0);
    CHECK(write(chain[63], request, REQUEST) == (ssize_t)REQUEST);
}

static void forks(void)
{
    int client, server, status;
    pair(&client, &server);
    for (int i = 0; i < 30; i++) {
        put(client, request, REQUEST); /* in flight over the fork */
        pid_t pid = i % 2 ? fork() : (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
        CHECK(pid >= 0);
        if (pid == 0) { /* the child answers, like a CGI, and makes a request of its own */
            expect_request(server, NULL);
            put(server, response, RESPONSE);
            int c, s;
            pair(&c, &s);
            exchange(c, s);
            _exit(0);
        }
        CHECK(waitpid(pid, &status, 0) == pid && status == 0);
        expect_response(client);
        /* The request was read by the child: our side of the inbound connection must still be of use. */
        int c, s;
        pair(&c, &s);
        exchange(c, s);
        close(c);
        close(s);
    }
}

static int duplex_client, duplex_server;
static _Atomic int duplex_answered;
enum { DUPLEX = 20000 };

static void *duplex_reader(void *arg)
{
    (void)arg;
    for (int i = 0; i < DUPLEX; i++)
        expect_response(duplex_client), duplex_answered++;
    return NULL;
}

static void *duplex_responder(void *arg)
{
    (void)arg;
    for (int i = 0; i < DUPLEX; i++) {
        expect_request(duplex_server, NULL);
        put(duplex_server, response, RESPONSE);
    }
    return NULL;
}

/* One thread sends on a connection, another reads from it; no request waits for the response before it. */
static void duplex(void)
{
    pthread_t reader, responder;
    pair(&duplex_client, &duplex_server);
    may_miss = true;
    CHECK(pthread_create(&reader, NULL, duplex_reader, NULL) == 0 && pthread_create(&responder, NULL, duplex_responder, NULL) == 0);
    for (int i = 0; i < DUPLEX; i++) {
        put(duplex_client, request, REQUEST);
        while (i - duplex_answered > 30) /* below the depth of pipelining that is followed */
            usleep(50);
    }
    pthread_join(reader, NULL);
    pthread_join(responder, NULL);
    printf("%d of %d without a line\n", (int)lines_missing, DUPLEX);
    CHECK(lines_missing < DUPLEX / 20);
    may_miss = false;
    exchange(duplex_client, duplex_server); /* still in step */
}

static void *blocked_reader(void *arg)
{
    char c;
    int fd = *(int *)arg;
    read(fd, &c, 1);
    return NULL;
}

static void *blocked_writer(void *arg)
{
    static char bytes[1 << 22];
    int fd = *(int *)arg;
    memset(bytes, 'x', sizeof bytes);
    memcpy(bytes, "PUT / HTTP/1.1\r\nContent-Length: 9999999\r\n\r\n", 43);
    write(fd, bytes, sizeof bytes);
    return NULL;
}

static void cancel(void)
{
    for (int i = 0; i < 20; i++) {
        int client, server;
        void *result;
        pthread_t thread;
        pair(&client, &server);
        exchange(client, server);
        CHECK(pthread_create(&thread, NULL, blocked_reader, i % 2 ? &client : &server) == 0);
        usleep(2000);
        CHECK(pthread_cancel(thread) == 0 && pthread_join(thread, &result) == 0 && result == PTHREAD_CANCELED);
        exchange(client, server);
        CHECK(pthread_create(&thread, NULL, blocked_writer, &client) == 0);
        usleep(2000);
        CHECK(pthread_cancel(thread) == 0 && pthread_join(thread, &result) == 0 && result == PTHREAD_CANCELED);
        close(client);
        close(server);
    }
}

/* ---- a storm of signals, whose handler does I/O on a connection of its own ------------------------------------------------------------- */

static int storm_client, storm_server;
static volatile sig_atomic_t storms;

static void on_alarm(int sig)
{
    int saved = errno;
    (void)sig;
    exchange(storm_client, storm_server);
    int fd = dup(storm_client);
    close(fd);
    storms++;
    errno = saved;
}

static void storm(void)
{
    int client, server;
    char buf[300];
    pair(&client, &server);
    pair(&storm_client, &storm_server);
    struct sigaction act = {.sa_handler = on_alarm};
    sigaction(SIGALRM, &act, NULL);
    struct itimerval often = {{0, 1000}, {0, 1000}};
    setitimer(ITIMER_REAL, &often, NULL);
    time_t end = time(NULL) + 3;
    long rounds = 0;
    int file = open("/proc/self/exe", O_RDONLY);
    for (; time(NULL) < end; rounds++) {
        exchange(client, server);
        struct iovec iov[2] = {{(void *)request, 9}, {(void *)(request + 9), REQUEST - 9}};
        struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2};
        ssize_t r = rounds % 2 ? writev(client, iov, 2) : sendmsg(client, &msg, 0);
        CHECK(r == (ssize_t)REQUEST);
        expect_request(server, NULL);
        put(server, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", 40);
        off_t at = 0;
        for (ssize_t left = 100; left > 0; left -= r > 0 ? r : 0) {
            r = sendfile(server, file, &at, (size_t)left);
            CHECK(r > 0 || (r < 0 && errno == EINTR));
        }
        for (size_t have = 0; have < 140;) {
            r = rounds % 3 ? read(client, buf, 140 - have) : recv(client, buf, 140 - have, 0);
            CHECK(r > 0 || errno == EINTR);
            have += r > 0 ? (size_t)r : 0;
        }
        if (rounds % 50 == 0) { /* the life of descriptors, too */
            int c, s, d;
            struct sockaddr_in a;
            int l = listener(&a);
            c = socket(AF_INET, SOCK_STREAM, 0);
            if (connect(c, (void *)&a, sizeof a) != 0) { /* interrupted, it goes on by itself */
                CHECK(errno == EINTR);
                for (struct pollfd up = {.fd = c, .events = POLLOUT}; poll(&up, 1, 1000) < 0;)
                    CHECK(errno == EINTR);
            }
            while ((s = accept(l, NULL, NULL)) < 0)
                CHECK(errno == EINTR);
            d = dup(c);
            exchange(d, s);
            struct epoll_event ev = {.events = EPOLLIN};
            int ep = epoll_create1(0);
            epoll_ctl(ep, EPOLL_CTL_ADD, s, &ev);
            epoll_wait(ep, &ev, 1, 1);
            struct pollfd p = {.fd = s, .events = POLLIN};
            poll(&p, 1, 1);
            close(c);
            close(d);
            close(s);
            close(l);
            close(ep);
        }
    }
    setitimer(ITIMER_REAL, &(struct itimerval){0}, NULL);
    printf("%ld rounds, %d signals\n", rounds, (int)storms);
    CHECK(storms > 100 && rounds > 20);
    printf("%ld rounds, %d signals\n", rounds, (int)storms);
}

/* A handler that uses the very connection that the program is busy with: what comes is up to the program, but nothing hangs or breaks. */
static int shared_fd;

static void on_alarm_shared(int sig)
{
    int saved = errno;
    (void)sig;
    send(shared_fd, "x", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
    storms++;
    errno = saved;
}

static void shared(void)
{
    int client, server;
    static char buf[65536];
    pair(&client, &server);
    shared_fd = client;
    fcntl(server, F_SETFL, O_NONBLOCK);
    struct sigaction act = {.sa_handler = on_alarm_shared, .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &act, NULL);
    setitimer(ITIMER_REAL, &(struct itimerval){{0, 500}, {0, 500}}, NULL);
    time_t end = time(NULL) + 2;
    size_t sent = 0, got = 0, added = 0;
    while (time(NULL) < end) {
        put(client, request, REQUEST);
        sent += REQUEST;
        ssize_t r = read(server, buf, sizeof buf);
        if (r > 0) {
            size_t len = (size_t)r;
            added += (size_t)strip(buf, &len) * LINE;
            got += (size_t)r;
        }
    }
    setitimer(ITIMER_REAL, &(struct itimerval){0}, NULL);
    ssize_t r;
    shutdown(client, SHUT_WR);
    fcntl(server, F_SETFL, 0);
    while ((r = read(server, buf, sizeof buf)) > 0)
        got += (size_t)r;
    CHECK(got >= sent + (size_t)storms / 2 && storms > 50);
}

int main(int argc, char **argv)
{
    const struct {
        const char *name;
        void (*run)(void);
    } cases[] = {{"reuse", reuse},           {"peek", peek},   {"causality", causality}, {"close_all", close_all}, {"many", many},
                 {"dup_chains", dup_chains}, {"forks", forks}, {"duplex", duplex},       {"cancel", cancel},       {"storm", storm},
                 {"shared", shared}};
    traced = getenv("LIFE_TRACED") != NULL;
    signal(SIGPIPE, SIG_IGN);
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (argc > 1 && strcmp(argv[1], cases[i].name) == 0) {
            cases[i].run();
            return 0;
        }
    for (size_t i = 0; i < sizeof cases / sizeof *cases && argc == 1; i++)
        puts(cases[i].name);
    return argc == 1 ? 0 : 2;
}
