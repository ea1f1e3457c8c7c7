/* matrix.c - every call that moves bytes, over sockets, sizes, flags and failures: prints each result and errno.
 *
 * Run twice, bare and with the library preloaded: the two outputs must be the same, byte for byte. Nothing in here is random, and nothing
 * printed depends on timing or on numbers that the kernel chooses. What a server receives is printed without the traceparent line that the
 * library may have added (and that is the only thing taken away).
 *
 * usage: matrix tcp4|tcp6|unix */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

/* Calls that the kernel refuses are the point of this file. */
#pragma GCC diagnostic ignored "-Wnonnull"
#pragma GCC diagnostic ignored "-Wrestrict"
#pragma GCC diagnostic ignored "-Wstringop-overread"
#pragma GCC diagnostic ignored "-Wstringop-overflow"

ssize_t __read_chk(int, void *, size_t, size_t) __attribute__((weak));
ssize_t __recv_chk(int, void *, size_t, size_t, int) __attribute__((weak));
ssize_t __recvfrom_chk(int, void *, size_t, size_t, int, struct sockaddr *, socklen_t *) __attribute__((weak));

static int family;
static char unix_path[100];
static int server = -1, client = -1; /* the two ends of the connection at hand */

#define BIG 65536
static char out[2 * BIG], in[4 * BIG];

static void say(const char *what, long detail, ssize_t result)
{
    int e = errno;
    printf("%s %ld: %zd %s\n", what, detail, result, result < 0 ? strerrorname_np(e) : "");
}
#define SAY(what, detail, call)                                                                                                    \
    do {                                                                                                                           \
        errno = 0;                                                                                                                 \
        ssize_t result_ = (call);                                                                                                  \
        say(what, (long)(detail), result_);                                                                                        \
        if (result_ >= 0 && errno != 0)                                                                                            \
            printf("  errno changed by a success: %d\n", errno);                                                                   \
    } while (0)

/* ---- sockets ---------------------------------------------------------------------------------------------------------------------------- */

static socklen_t address(struct sockaddr_storage *a, int port)
{
    memset(a, 0, sizeof *a);
    if (family == AF_INET) {
        struct sockaddr_in *v4 = (void *)a;
        *v4 = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
        return sizeof *v4;
    }
    if (family == AF_INET6) {
        struct sockaddr_in6 *v6 = (void *)a;
        *v6 = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port), .sin6_addr = in6addr_loopback};
        return sizeof *v6;
    }
    struct sockaddr_un *un = (void *)a;
    un->sun_family = AF_UNIX;
    strcpy(un->sun_path, unix_path);
    return sizeof *un;
}

static int listener(struct sockaddr_storage *a, socklen_t *len)
{
    int fd = socket(family, SOCK_STREAM, 0);
    *len = address(a, 0);
    unlink(unix_path);
    if (bind(fd, (void *)a, *len) != 0 || listen(fd, 64) != 0) {
        perror("listener");
        exit(2);
    }
    if (family != AF_UNIX)
        getsockname(fd, (void *)a, len);
    return fd;
}

static void pair(void)
{
    struct sockaddr_storage a;
    socklen_t len;
    int l = listener(&a, &len);
    client = socket(family, SOCK_STREAM, 0);
    if (connect(client, (void *)&a, len) != 0 || (server = accept(l, NULL, NULL)) < 0) {
        perror("pair");
        exit(2);
    }
    close(l);
    int one = 1;
    if (family != AF_UNIX) {
        setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        setsockopt(server, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    }
}

static void unpair(void)
{
    close(client);
    close(server);
}

static void settle(void) /* loopback delivers at once, but FIN and RST are seen a moment later on a loaded machine */
{
    usleep(1000);
}

/* ---- the calls ------------------------------------------------------------------------------------------------------------------------------ */

enum { WRITE, WRITEV, SEND, SENDTO, SENDMSG, SENDMMSG, WRITERS };
static const char *writer_name[] = {"write", "writev", "send", "sendto", "sendmsg", "sendmmsg"};
enum { READ, READV, RECV, RECVFROM, RECVMSG, RECVMMSG, READ_CHK, RECV_CHK, RECVFROM_CHK, READERS };
static const char *reader_name[] = {"read",     "readv",    "recv",     "recvfrom",    "recvmsg",
                                    "recvmmsg", "read_chk", "recv_chk", "recvfrom_chk"};

static void split(struct iovec iov[3], char *buf, size_t len)
{
    iov[0] = (struct iovec){buf, len / 3};
    iov[1] = (struct iovec){buf + len / 3, len / 3};
    iov[2] = (struct iovec){buf + 2 * (len / 3), len - 2 * (len / 3)};
}

static ssize_t do_write(int how, int fd, const char *buf, size_t len, int flags)
{
    struct iovec iov[3];
    split(iov, (char *)buf, len);
    struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 3};
    switch (how) {
    case WRITE: return write(fd, buf, len);
    case WRITEV: return writev(fd, iov, 3);
    case SEND: return send(fd, buf, len, flags);
    case SENDTO: return sendto(fd, buf, len, flags, NULL, 0);
    case SENDMSG: return sendmsg(fd, &msg, flags);
    default: {
        struct mmsghdr mm[2] = {{.msg_hdr = {.msg_iov = iov, .msg_iovlen = 1}, .msg_len = 7},
                                {.msg_hdr = {.msg_iov = iov + 1, .msg_iovlen = 2}, .msg_len = 7}};
        int r = sendmmsg(fd, mm, 2, flags);
        if (r >= 0)
            printf("  lengths %u %u\n", mm[0].msg_len, mm[1].msg_len);
        ssize_t sum = 0;
        for (int i = 0; i < r; i++)
            sum += mm[i].msg_len;
        return r < 0 ? r : sum;
    }
    }
}

static ssize_t do_read(int how, int fd, char *buf, size_t len, int flags)
{
    struct iovec iov[3];
    split(iov, buf, len);
    struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 3};
    struct sockaddr_storage a;
    socklen_t alen = sizeof a;
    switch (how) {
    case READ: return read(fd, buf, len);
    case READV: return readv(fd, iov, 3);
    case RECV: return recv(fd, buf, len, flags);
    case RECVFROM: return recvfrom(fd, buf, len, flags, (void *)&a, &alen);
    case RECVMSG: return recvmsg(fd, &msg, flags);
    case RECVMMSG: {
        struct mmsghdr mm[2] = {{.msg_hdr = {.msg_iov = iov, .msg_iovlen = 1}}, {.msg_hdr = {.msg_iov = iov + 1, .msg_iovlen = 2}}};
        int r = recvmmsg(fd, mm, 2, flags | MSG_DONTWAIT, NULL);
        ssize_t sum = 0;
        for (int i = 0; i < r; i++)
            sum += mm[i].msg_len;
        return r < 0 ? r : sum;
    }
    case READ_CHK: return __read_chk ? __read_chk(fd, buf, len, len) : read(fd, buf, len);
    case RECV_CHK: return __recv_chk ? __recv_chk(fd, buf, len, len, flags) : recv(fd, buf, len, flags);
    default:
        return __recvfrom_chk ? __recvfrom_chk(fd, buf, len, len, flags, (void *)&a, &alen)
                              : recvfrom(fd, buf, len, flags, (void *)&a, &alen);
    }
}

static unsigned checksum(const char *p, size_t n)
{
    unsigned h = 2166136261u;
    for (size_t i = 0; i < n; i++)
        h = (h ^ (unsigned char)p[i]) * 16777619u;
    return h;
}

/* Everything up to the end of the stream, or until nothing more comes; without added lines. */
static void drain(const char *what, int fd)
{
    size_t have = 0;
    struct pollfd p = {.fd = fd, .events = POLLIN};
    while (poll(&p, 1, 1) > 0 && have < sizeof in) {
        ssize_t r = recv(fd, in + have, sizeof in - have, MSG_DONTWAIT);
        if (r <= 0)
            break;
        have += (size_t)r;
    }
    char *line;
    while ((line = memmem(in, have, "traceparent: 00-", 16)) != NULL) {
        char *end = memmem(line, have - (size_t)(line - in), "\r\n", 2);
        if (end == NULL)
            break;
        memmove(line, end + 2, have - (size_t)(end + 2 - in));
        have -= (size_t)(end + 2 - line);
    }
    printf("%s received %zu %08x\n", what, have, checksum(in, have));
}

/* ---- the matrix ---------------------------------------------------------------------------------------------------------------------------- */

static const size_t sizes[] = {0, 1, 2, 3, 100, 4096, BIG};
#define SIZES (sizeof sizes / sizeof *sizes)

/* What goes out: noise, an HTTP request with content, a response. */
static void fill(int kind, size_t len)
{
    static const char *head[] = {"", "POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: 200000\r\n\r\n",
                                 "HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n"};
    for (size_t i = 0; i < len; i++)
        out[i] = (char)('a' + i * 7 % 23);
    size_t n = strlen(head[kind]);
    memcpy(out, head[kind], n < len ? n : len);
}

static void writes(bool from_client, int kind)
{
    static const int flags[] = {0, MSG_NOSIGNAL, MSG_DONTWAIT, MSG_MORE, MSG_EOR, MSG_OOB};
    for (int how = 0; how < WRITERS; how++)
        for (size_t f = 0; f < sizeof flags / sizeof *flags; f++)
            for (size_t s = 0; s < SIZES; s++) {
                if (flags[f] == MSG_OOB && sizes[s] > 100)
                    continue;
                pair();
                int from = from_client ? client : server, to = from_client ? server : client;
                int room = 4 * BIG;
                setsockopt(from, SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
                setsockopt(to, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
                fill(kind, sizes[s]);
                printf("%s %s kind %d flags %d\n", writer_name[how], from_client ? "client" : "server", kind, flags[f]);
                SAY("one", sizes[s], do_write(how, from, out, sizes[s], flags[f]));
                SAY("two", 10, do_write(how, from, out, 10, 0));
                drain("peer", to);
                unpair();
                if (how == WRITE || how == WRITEV) {
                    f = sizeof flags; /* no flags */
                    break;
                }
            }
}

static void reads(bool by_client)
{
    static const int flags[] = {0, MSG_PEEK, MSG_DONTWAIT, MSG_WAITALL, MSG_TRUNC, MSG_PEEK | MSG_TRUNC, MSG_OOB, MSG_ERRQUEUE};
    for (int how = 0; how < READERS; how++)
        for (size_t f = 0; f < sizeof flags / sizeof *flags; f++)
            for (size_t s = 0; s < SIZES; s++) {
                pair();
                int by = by_client ? client : server, from = by_client ? server : client;
                fill(by_client ? 2 : 0, BIG);
                SAY("fill", 300, send(from, out, 300, 0));
                settle();
                printf("%s %s flags %d\n", reader_name[how], by_client ? "client" : "server", flags[f]);
                size_t want = sizes[s];
                if (flags[f] == MSG_WAITALL && want > 300)
                    want = 300;
                memset(in, 0, BIG);
                SAY("one", want, do_read(how, by, in, want, flags[f]));
                printf("  %08x\n", checksum(in, BIG));
                SAY("two", 10, do_read(how, by, in, 10, MSG_DONTWAIT));
                drain("rest", by);
                close(from);
                settle();
                SAY("eof", 10, do_read(how, by, in, 10, 0));
                SAY("eof 0", 0, do_read(how, by, in, 0, 0));
                close(by);
                if (how == READ || how == READV || how == READ_CHK) {
                    f = sizeof flags;
                    break;
                }
            }
}

static void bad_descriptors(void)
{
    int pipes[2], file = open("/dev/zero", O_RDWR), closed = dup(0), epipe[2];
    if (pipe(pipes) != 0 || pipe(epipe) != 0)
        exit(2);
    fcntl(pipes[0], F_SETFL, O_NONBLOCK);
    close(closed);
    close(epipe[0]);
    struct {
        const char *name;
        int fd;
    } bad[] = {{"-1", -1},           {"closed", closed},    {"max", 1 << 20},
               {"huge", 0x7fffffff}, {"pipe in", pipes[0]}, {"pipe out", pipes[1]},
               {"epipe", epipe[1]},  {"zero", file}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        printf("descriptor %s\n", bad[i].name);
        for (int how = 0; how < WRITERS; how++)
            SAY(writer_name[how], 5, do_write(how, bad[i].fd, out, 5, 0));
        for (int how = 0; how < READERS; how++)
            SAY(reader_name[how], 3, do_read(how, bad[i].fd, in, 3, 0));
        struct sockaddr_storage a;
        socklen_t len = address(&a, 1);
        SAY("connect", 0, connect(bad[i].fd, (void *)&a, len));
        SAY("bind", 0, bind(bad[i].fd, (void *)&a, len));
        SAY("listen", 0, listen(bad[i].fd, 1));
        SAY("accept", 0, accept(bad[i].fd, NULL, NULL));
        SAY("accept4", 0, accept4(bad[i].fd, NULL, NULL, SOCK_CLOEXEC));
        SAY("shutdown", 0, shutdown(bad[i].fd, SHUT_RDWR));
        int v;
        len = sizeof v;
        SAY("getsockopt", 0, getsockopt(bad[i].fd, SOL_SOCKET, SO_ERROR, &v, &len));
        SAY("sendfile", 0, sendfile(bad[i].fd, file, NULL, 10));
        SAY("fcntl", 0, fcntl(bad[i].fd, F_GETFD));
        if (i < 4) {
            SAY("dup", 0, dup(bad[i].fd));
            SAY("dup2", 0, dup2(bad[i].fd, 77));
            SAY("dup3", 0, dup3(bad[i].fd, 77, 0));
            SAY("dupfd", 0, fcntl(bad[i].fd, F_DUPFD, 50));
            SAY("close", 0, close(bad[i].fd));
        }
    }
    close(file);
    close(pipes[0]);
    close(pipes[1]);
    close(epipe[1]);
}

static void faults(bool by_client)
{
    char *hole = mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    strcpy(hole + 4096 - 18, "GET / HTTP/1.1\r\n"); /* the request line, and then the hole in the middle of the head */
    munmap(hole + 4096, 4096);
    struct {
        const char *name;
        char *p;
    } bad[] = {
        {"null", NULL}, {"one", (char *)1}, {"minus one", (char *)-1}, {"hole", hole + 4096}, {"into hole", hole + 4096 - 18}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        printf("fault %s by %s\n", bad[i].name, by_client ? "client" : "server");
        for (int how = 0; how < WRITERS; how++) {
            pair();
            int fd = by_client ? client : server;
            SAY(writer_name[how], 100, do_write(how, fd, bad[i].p, 100, MSG_NOSIGNAL));
            SAY(writer_name[how], 5, do_write(how, fd, "GET /", 5, MSG_NOSIGNAL));
            unpair();
        }
        for (int how = 0; how < READERS; how++) {
            pair();
            SAY("fill", 50, send(by_client ? server : client, out, 50, 0));
            settle();
            if (how < READ_CHK || i < 3)
                SAY(reader_name[how], 100, do_read(how, by_client ? client : server, bad[i].p, 100, 0));
            unpair();
        }
    }
    pair();
    int fd = by_client ? client : server;
    struct iovec iov = {out, (size_t)-1};
    struct iovec many[1100];
    for (int i = 0; i < 1100; i++)
        many[i] = (struct iovec){out, 1};
    SAY("writev bad array", 0, writev(fd, (void *)8, 2));
    SAY("writev hole array", 0, writev(fd, (void *)(hole + 4096), 2));
    SAY("writev count", -1, writev(fd, &iov, -1));
    SAY("writev length", 0, writev(fd, &iov, 1));
    SAY("writev zero", 0, writev(fd, &iov, 0));
    SAY("writev many", 1100, writev(fd, many, 1100));
    SAY("writev 1024", 1024, writev(fd, many, 1024));
    SAY("readv count", -1, readv(fd, &iov, -1));
    SAY("readv length", 0, readv(fd, &iov, 1));
    SAY("readv zero", 0, readv(fd, &iov, 0));
    SAY("sendmsg null", 0, sendmsg(fd, NULL, 0));
    SAY("sendmsg hole", 0, sendmsg(fd, (void *)(hole + 4096), 0));
    SAY("recvmsg null", 0, recvmsg(fd, NULL, MSG_DONTWAIT));
    SAY("sendmmsg null", 0, sendmmsg(fd, NULL, 1, 0));
    SAY("sendmmsg none", 0, sendmmsg(fd, NULL, 0, 0));
    struct msghdr msg = {.msg_iov = many, .msg_iovlen = 1100};
    SAY("sendmsg many", 0, sendmsg(fd, &msg, 0));
    msg.msg_iovlen = 0;
    SAY("sendmsg empty", 0, sendmsg(fd, &msg, 0));
    SAY("accept fault", 0, accept(fd, (void *)1, (void *)1));
    SAY("send flags", 0, send(fd, out, 5, 0x100000));
    SAY("write length", 0, write(fd, out, (size_t)-1 >> 1));
    unpair();
    munmap(hole, 4096);
    munmap(hole + 8192, 4096);
}

static void alarm_handler(int sig)
{
    (void)sig;
}

static void endings(bool by_client)
{
    for (int how = 0; how < WRITERS + READERS; how++) {
        bool is_write = how < WRITERS;
        const char *name = is_write ? writer_name[how] : reader_name[how - WRITERS];
#define CALL(fd, n) (is_write ? do_write(how, fd, out, n, 0) : do_read(how - WRITERS, fd, in, n, 0))
        printf("endings %s by %s\n", name, by_client ? "client" : "server");
        fill(by_client ? 1 : 2, BIG);

        pair(); /* the peer closes */
        int me = by_client ? client : server, peer = by_client ? server : client;
        close(peer);
        settle();
        SAY("peer closed", 10, CALL(me, 10));
        settle();
        SAY("again", 10, CALL(me, 10));
        SAY("again", 10, CALL(me, 10));
        close(me);

        pair(); /* the peer resets */
        me = by_client ? client : server, peer = by_client ? server : client;
        struct linger hard = {1, 0};
        setsockopt(peer, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
        do_write(WRITE, me, out, 100, 0);
        settle();
        close(peer);
        settle();
        SAY("reset", 10, CALL(me, 10));
        SAY("again", 10, CALL(me, 10));
        close(me);

        pair(); /* we shut down */
        me = by_client ? client : server;
        SAY("shutdown", 1, shutdown(me, SHUT_WR));
        if (is_write)
            SAY("after", 10, CALL(me, 10));
        SAY("shutdown", 2, shutdown(me, SHUT_RDWR));
        SAY("after", 10, CALL(me, 10));
        SAY("shutdown", 2, shutdown(me, 99));
        unpair();

        pair(); /* would block */
        me = by_client ? client : server, peer = by_client ? server : client;
        fcntl(me, F_SETFL, O_NONBLOCK);
        if (is_write) {
            ssize_t r, sum = 0, count = 0;
            while ((r = CALL(me, BIG)) > 0) {
                sum += r;
                count++;
            }
            printf("filled %d, then %s\n", sum > 0, strerrorname_np(errno));
            (void)count;
        }
        SAY("would block", 10, CALL(me, 10));
        SAY("would block", 0, CALL(me, 0));
        /* interrupted: a blocking call without SA_RESTART */
        fcntl(me, F_SETFL, 0);
        if (how != WRITERS + RECVMMSG) {
            struct itimerval soon = {.it_value = {0, 20000}, .it_interval = {0, 20000}};
            setitimer(ITIMER_REAL, &soon, NULL);
            SAY("interrupted", 10, CALL(me, 10));
            soon = (struct itimerval){0};
            setitimer(ITIMER_REAL, &soon, NULL);
        }
        struct timeval limit = {0, 20000};
        setsockopt(me, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
        setsockopt(me, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
        SAY("timed out", 10, CALL(me, 10));
        unpair();
    }
}

static void connects(void)
{
    struct sockaddr_storage a, b;
    socklen_t len, blen;
    int l = listener(&a, &len);
    int fd = socket(family, SOCK_STREAM, 0);
    SAY("not connected: write", 5, write(fd, out, 5));
    SAY("not connected: send", 5, send(fd, out, 5, MSG_NOSIGNAL));
    SAY("not connected: read", 5, read(fd, in, 5));
    SAY("connect fault", 0, connect(fd, (void *)1, len));
    SAY("connect null", 0, connect(fd, NULL, len));
    SAY("connect short", 0, connect(fd, (void *)&a, 1));
    SAY("connect long", 0, connect(fd, (void *)&a, 4096));
    SAY("connect", 0, connect(fd, (void *)&a, len));
    SAY("connect again", 0, connect(fd, (void *)&a, len));
    int v = 7;
    socklen_t vlen = sizeof v;
    SAY("so_error", 0, getsockopt(fd, SOL_SOCKET, SO_ERROR, &v, &vlen));
    SAY("so_error fault", 0, getsockopt(fd, SOL_SOCKET, SO_ERROR, (void *)1, &vlen));
    SAY("so_error no length", 0, getsockopt(fd, SOL_SOCKET, SO_ERROR, &v, NULL));
    vlen = 2;
    SAY("so_error short", vlen, getsockopt(fd, SOL_SOCKET, SO_ERROR, &v, &vlen));
    blen = 3;
    memset(&b, 0x55, sizeof b);
    int s = accept4(l, (void *)&b, &blen, SOCK_NONBLOCK | SOCK_CLOEXEC);
    memset(&b, 0, 3); /* the family and half of a port that the kernel chose */
    printf("accept4 short: %d, length %d, %08x, flags %d %d\n", s >= 0, (int)blen, checksum((char *)&b, sizeof b),
           fcntl(s, F_GETFD), fcntl(s, F_GETFL) & O_NONBLOCK);
    SAY("read nothing", 5, read(s, in, 5));
    close(s);
    close(fd);
    fcntl(l, F_SETFL, O_NONBLOCK);
    SAY("accept none", 0, accept(l, NULL, NULL));
    SAY("accept4 flags", 0, accept4(l, NULL, NULL, 0x40));
    fd = socket(family, SOCK_STREAM, 0);
    SAY("connect", 0, connect(fd, (void *)&a, len));
    blen = (socklen_t)-1;
    SAY("accept negative", 0, accept(l, (void *)&b, &blen));
    SAY("accept no length", 0, accept(l, (void *)&b, NULL));
    close(fd);
    close(l);
    fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK, 0);
    unlink(unix_path);
    int r = connect(fd, (void *)&a, len); /* nobody listens any more */
    printf("refused: %d %s\n", r, r < 0 && errno == EINPROGRESS ? "later" : strerrorname_np(errno));
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    if (errno == EINPROGRESS)
        printf("poll %d revents %x\n", poll(&p, 1, 1000), (unsigned)p.revents);
    vlen = sizeof v;
    SAY("so_error", getsockopt(fd, SOL_SOCKET, SO_ERROR, &v, &vlen), v);
    SAY("write", 5, write(fd, out, 5));
    close(fd);
    fd = socket(family, SOCK_DGRAM, 0);
    SAY("datagram connect", 0, connect(fd, (void *)&a, len) == 0 || errno == ENOENT ? 0 : -1);
    close(fd);
    SAY("socket", 0, socket(family, 99, 0));
    SAY("socket", 0, socket(9999, SOCK_STREAM, 0));
}

static void descriptors(bool by_client)
{
    char name[] = "/tmp/otshim-matrix-XXXXXX";
    int file = mkstemp(name), pipes[2];
    fill(0, BIG);
    if (write(file, out, 5000) != 5000 || pipe(pipes) != 0)
        exit(2);
    unlink(name);
    pair();
    int me = by_client ? client : server, peer = by_client ? server : client;
    off_t at = 100;
    SAY("sendfile", 1000, sendfile(me, file, &at, 1000));
    SAY("offset", 0, at);
    SAY("sendfile", 0, sendfile(me, file, &at, 0));
    SAY("sendfile fault", 10, sendfile(me, file, (void *)1, 10));
    SAY("sendfile64", 10, sendfile64(me, file, NULL, 10));
    SAY("into pipe", 100, write(pipes[1], out, 100));
    SAY("splice out", 100, splice(pipes[0], NULL, me, NULL, 100, 0));
    drain("peer", peer);
    SAY("send", 500, send(peer, out, 500, 0));
    settle();
    SAY("splice in", 200, splice(me, NULL, pipes[1], NULL, 200, 0));
    SAY("splice nothing", 0, splice(me, NULL, pipes[1], NULL, 0, 0));
    SAY("splice bad", 0, splice(me, NULL, file, NULL, 100, 0));
    SAY("read", 1000, read(me, in, 1000));
    int two = dup(me);
    SAY("dup write", 10, write(two, out, 10));
    SAY("dup2 same", 0, dup2(two, two) == two);
    SAY("dup3 same", 0, dup3(two, two, 0));
    SAY("dup2", 0, dup2(file, two) == two);
    SAY("now a file", 10, write(two, out, 10));
    SAY("still a socket", 10, write(me, out, 10));
    int high = fcntl(me, F_DUPFD_CLOEXEC, 400);
    SAY("dupfd", 0, high >= 400 ? fcntl(high, F_GETFD) : -1);
    close(me);
    SAY("closed", 10, write(me, out, 10));
    SAY("the other", 10, write(high, out, 10));
    SAY("close_range flags", 0, close_range((unsigned)high, (unsigned)high, 64));
    SAY("close_range order", 0, close_range((unsigned)high, 3, 0));
    SAY("close_range cloexec", 0, close_range((unsigned)high, (unsigned)high, 4));
    SAY("the other", 10, write(high, out, 10));
    drain("peer", peer);
    SAY("close_range", 0, close_range((unsigned)high, (unsigned)high + 50, 0));
    SAY("gone", 10, write(high, out, 10));
    SAY("eof", 10, read(peer, in, 10));
    FILE *f = fdopen(peer, "r+");
    SAY("fclose", 0, fclose(f));
    SAY("gone", 10, write(peer, out, 10));
    SAY("setfl", 0, fcntl(file, F_SETFL, O_APPEND));
    SAY("lock", 0, fcntl(file, F_SETLK, &(struct flock){.l_type = F_WRLCK, .l_whence = SEEK_SET}));
    close(two);
    close(file);
    close(pipes[0]);
    close(pipes[1]);
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "tcp4";
    family = !strcmp(name, "tcp6") ? AF_INET6 : !strcmp(name, "unix") ? AF_UNIX : AF_INET;
    snprintf(unix_path, sizeof unix_path, "/tmp/otshim-matrix-%d.sock", (int)getpid());
    setvbuf(stdout, NULL, _IOFBF, 1 << 20);
    signal(SIGPIPE, SIG_IGN);
    struct sigaction act = {.sa_handler = alarm_handler};
    sigaction(SIGALRM, &act, NULL);
    for (int by_client = 0; by_client < 2; by_client++) {
        for (int kind = 0; kind < 3; kind++)
            writes(by_client, kind);
        reads(by_client);
        faults(by_client);
        endings(by_client);
        descriptors(by_client);
    }
    bad_descriptors();
    connects();
    unlink(unix_path);
    return 0;
}
