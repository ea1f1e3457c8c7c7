/* inject.c - a client that cuts its requests at every byte, over every call that sends, into sockets that take little at a time.
 *
 * usage: inject [fastcgi-]tcp|unix|tcp-partial|unix-partial|tcp-short|unix-short
 *
 * It starts a sink (this program again, with OTEL_SDK_DISABLED=true, so that it reads what was on the wire) and tells it over a pipe what it is
 * going to send. The sink checks that each request head has the traceparent lines (records, in FastCGI) that the case says, each directly before the empty one, and
 * that everything else is the program's bytes, unchanged. The client checks that the results of its calls add up to exactly its own bytes.
 *
 * The short modes want short.so preloaded behind the library: a kernel that takes a given number of bytes and then nothing for a while. */
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX_BYTES (1 << 20)

/* What the client tells the sink before each connection. */
struct announcement {
    uint32_t bytes;   /* of the program's, all requests together; they follow */
    int32_t injected; /* how many traceparent lines must be there; -1: at most one a head */
    uint32_t
        read_now; /* read at most so many bytes at a time, slowly, so that the sender's buffer is full most of the time; 0: all */
    uint32_t heads;
};

struct said {
    int lines; /* traceparent lines that were there */
    char why[252];
};

static int announce_fd, verdict_fd; /* the client's ends */

static void die(const char *what)
{
    perror(what);
    exit(2);
}

/* ---- the sink ------------------------------------------------------------------------------------------------------------------------------- */

static void read_fully(int fd, void *buf, size_t len)
{
    for (size_t have = 0; have < len;) {
        ssize_t r = read(fd, (char *)buf + have, len - have);
        if (r <= 0)
            exit(r == 0 && have == 0 ? 0 : 3);
        have += (size_t)r;
    }
}

/* What the requests are made of, by protocol. */
static const char http_request[] = "POST /a/b?c=d HTTP/1.1\r\nHost: example.test\r\nX-T: t\r\nContent-Length: 5\r\n\r\nhello";
static const char fastcgi_request[] = "\1\1\0\7\0\10\0\0\0\1\1\0\0\0\0\0" /* BEGIN_REQUEST */
                                      "\1\4\0\7\0\45\3\0\16\4REQUEST_METHODPOST\16\1CONTENT_LENGTH5~~~"
                                      "\1\4\0\7\0\0\0\0"         /* the end of PARAMS */
                                      "\1\5\0\7\0\5\3\0hello~~~" /* STDIN */
                                      "\1\5\0\7\0\0\0\0";
static bool fastcgi;
static const char *request = http_request;
static size_t request_len = sizeof http_request - 1;
static size_t head_len = sizeof http_request - 1 - 5;
static size_t empty_len = 2; /* of the empty line, before which ours goes in, unless a call ended inside it */
static size_t line_len = 13 + 55 + 2;

static void speak_fastcgi(void)
{
    fastcgi = true;
    request = fastcgi_request;
    request_len = sizeof fastcgi_request - 1;
    head_len = request_len - 16 - 8;
    empty_len = 8;
    line_len = 8 + 2 + 16 + 55;
}

/* Does a call that ends here end inside the empty line? */
static bool parts(size_t end)
{
    return end < head_len && end > head_len - empty_len;
}

static bool hex(const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!strchr("0123456789abcdef", p[i]) || p[i] == '\0')
            return false;
    return true;
}

static bool traceparent_at(const char *p)
{
    return memcmp(p, "00-", 3) == 0 && hex(p + 3, 32) && p[35] == '-' && hex(p + 36, 16) && p[52] == '-' && hex(p + 53, 2);
}

static size_t record_at(const char *p, const char *end)
{
    static const char begin[] = "\1\4\0\7\0I\0\0\20\67HTTP_TRACEPARENT";
    if (end - p < (ptrdiff_t)line_len || memcmp(p, begin, sizeof begin - 1) != 0 || !traceparent_at(p + sizeof begin - 1))
        return 0;
    return line_len;
}

/* Length of a traceparent line (and a tracestate line behind it) that stands here; 0: none. */
static size_t line_at(const char *p, const char *end)
{
    if (fastcgi)
        return record_at(p, end);
    if (end - p < (ptrdiff_t)line_len || memcmp(p, "traceparent: ", 13) != 0 || !traceparent_at(p + 13) ||
        memcmp(p + 68, "\r\n", 2) != 0)
        return 0;
    size_t len = line_len;
    if (end - p > (ptrdiff_t)len + 12 && memcmp(p + len, "tracestate: ", 12) == 0) {
        const char *eol = memmem(p + len, (size_t)(end - p) - len, "\r\n", 2);
        if (eol != NULL)
            len = (size_t)(eol + 2 - p);
    }
    return len;
}

/* NULL, or what is wrong. */
static const char *compare(const char *want, size_t want_len, const char *got, size_t got_len, const struct announcement *a,
                           int *count)
{
    static char why[200];
    size_t w = 0, g = 0;
    int lines = 0;
    while (g < got_len) {
        if (w < want_len && got[g] == want[w]) {
            /* the program's own header may begin with a t as well */
            if (line_at(got + g, got + got_len) == 0 || (!fastcgi && memcmp(want + w, "traceparent", 11) == 0)) {
                w++;
                g++;
                continue;
            }
        }
        size_t len = line_at(got + g, got + got_len);
        if (len == 0) {
            snprintf(why, sizeof why, "byte %zu differs (received %zu of %zu)", w, got_len, want_len);
            return why;
        }
        if (fastcgi ? memcmp(want + w, "\1\4\0\7\0\0", 6) != 0 : want[w] != '\n' && memcmp(want + w, "\r\n", 2) != 0) {
            snprintf(why, sizeof why, "a line in the wrong place, before byte %zu", w);
            return why;
        }
        *count = ++lines;
        g += len;
    }
    if (w != want_len) {
        snprintf(why, sizeof why, "%zu bytes of %zu arrived", w, want_len);
        return why;
    }
    if (a->injected >= 0 ? lines != a->injected : lines > (int)a->heads) {
        snprintf(why, sizeof why, "%d lines, expected %d", lines, a->injected);
        return why;
    }
    return NULL;
}

static char want[MAX_BYTES], got[2 * MAX_BYTES];

static void sink(int listener, int announcements, int verdicts)
{
    for (;;) {
        struct announcement a;
        read_fully(announcements, &a, sizeof a);
        read_fully(announcements, want, a.bytes);
        int fd = accept(listener, NULL, NULL);
        size_t have = 0;
        for (;;) {
            if (a.read_now > 0)
                usleep(50);
            size_t room = a.read_now > 0 ? a.read_now : sizeof got - have;
            ssize_t r = read(fd, got + have, room);
            if (r <= 0)
                break;
            have += (size_t)r;
        }
        struct said said = {0, ""};
        const char *why = compare(want, a.bytes, got, have, &a, &said.lines);
        if (why != NULL) {
            snprintf(said.why, sizeof said.why, "%s", why);
            fprintf(stderr, "--- %s\n%.*s\n---\n", why, (int)(have < 700 ? have : 700), got);
        }
        if (write(verdicts, &said, sizeof said) != sizeof said)
            exit(3);
        close(fd);
    }
}

/* ---- the client ----------------------------------------------------------------------------------------------------------------------------- */

static struct sockaddr_storage address;
static socklen_t address_len;
static char unix_path[100];
static int small_buffer; /* SO_SNDBUF, 0: as it is */
static bool nonblocking;

static int dial(void)
{
    int fd = socket(address.ss_family, SOCK_STREAM, 0);
    int one = 1;
    if (connect(fd, (void *)&address, address_len) != 0)
        die("connect");
    if (address.ss_family == AF_INET)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (small_buffer > 0)
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &small_buffer, sizeof small_buffer);
    if (nonblocking)
        fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

enum { WRITE, WRITEV, SEND, SENDTO, SENDMSG, SENDMMSG, WAYS };
static const char *way_name[] = {"write", "writev", "send", "sendto", "sendmsg", "sendmmsg"};

static ssize_t send_by(int way, int fd, const char *buf, size_t len)
{
    struct iovec iov[3] = {
        {(void *)buf, len / 3}, {(void *)(buf + len / 3), len / 3}, {(void *)(buf + len / 3 * 2), len - len / 3 * 2}};
    struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 3};
    switch (way) {
    case WRITE: return write(fd, buf, len);
    case WRITEV: return writev(fd, iov, 3);
    case SEND: return send(fd, buf, len, MSG_NOSIGNAL);
    case SENDTO: return sendto(fd, buf, len, 0, NULL, 0);
    case SENDMSG: return sendmsg(fd, &msg, MSG_NOSIGNAL);
    default: {
        struct mmsghdr mm[2] = {{.msg_hdr = {.msg_iov = iov, .msg_iovlen = 2}}, {.msg_hdr = {.msg_iov = iov + 2, .msg_iovlen = 1}}};
        int r = sendmmsg(fd, mm, 2, 0);
        ssize_t sum = 0;
        for (int i = 0; i < r; i++)
            sum += mm[i].msg_len;
        return r < 0 ? r : sum;
    }
    }
}

/* All of it, as a careful program does; from a new copy each time, because a program may move its buffer between attempts. */
static size_t ends[16]; /* how much had been taken after each call */
static unsigned ends_count;

static const char *send_all(int way, int fd, const char *bytes, size_t len)
{
    static char why[200];
    for (size_t sent = 0; sent < len;) {
        char *copy = malloc(len - sent);
        memcpy(copy, bytes + sent, len - sent);
        ssize_t r = send_by(way, fd, copy, len - sent);
        int e = errno;
        memset(copy, '#', len - sent);
        free(copy);
        if (r < 0 && e == EAGAIN) {
            poll(&(struct pollfd){.fd = fd, .events = POLLOUT}, 1, 1000);
            continue;
        }
        if (r < 0 && e == EINTR)
            continue;
        if (r <= 0 || (size_t)r > len - sent) {
            snprintf(why, sizeof why, "%s: %zd of %zu, %s", way_name[way], r, len - sent, r < 0 ? strerror(e) : "");
            return why;
        }
        sent += (size_t)r;
        if (ends_count < 16)
            ends[ends_count++] = sent;
    }
    return NULL;
}

static unsigned long cases;
static int lines_seen; /* by the sink, on the last connection */

static void announce(const char *bytes, size_t len, int injected, int heads, int read_now)
{
    struct announcement a = {(uint32_t)len, injected, (uint32_t)read_now, (uint32_t)heads};
    if (write(announce_fd, &a, sizeof a) != sizeof a || write(announce_fd, bytes, len) != (ssize_t)len)
        die("announce");
}

/* Ends the connection and hears what the sink says. */
static void verdict(int fd, const char *name, const char *why, size_t a, size_t b)
{
    struct said said;
    close(fd);
    read_fully(verdict_fd, &said, sizeof said);
    cases++;
    lines_seen = said.lines;
    if (why != NULL || said.why[0] != '\0') {
        printf("FAIL %s (cut %zu, %zu): %s %s\n", name, a, b, why ? why : "", said.why);
        exit(1);
    }
}

/* In two writes, and in three. The line is missing only where a part of the empty line was sent. */
static void cuts(void)
{
    size_t len = request_len;
    for (int way = 0; way < WAYS; way++)
        for (size_t a = 1; a <= len; a++)
            for (size_t b = a; b <= len; b += b == a || b > len - 8 ? 1 : 7) {
                bool between = parts(a) || parts(b);
                const size_t from[4] = {0, a, b, len};
                for (int i = 0; i < 3; i++) /* two messages, which are two writes */
                    if ((way + i) % WAYS == SENDMMSG && parts(from[i] + (from[i + 1] - from[i]) / 3 * 2))
                        between = true;
                announce(request, len, between ? 0 : 1, 1, 0);
                int fd = dial();
                const char *why = send_all(way, fd, request, a);
                if (why == NULL)
                    why = send_all((way + 1) % WAYS, fd, request + a, b - a);
                if (why == NULL)
                    why = send_all((way + 2) % WAYS, fd, request + b, len - b);
                verdict(fd, way_name[way], why, a, b);
            }
}

/* The socket is full, up to a byte in our line, at every byte. A prelude of content fills the buffers; how far the kernel then gets is its
 * affair, so the request is moved along byte by byte. */
static void partial(void)
{
    static char bytes[MAX_BYTES];
    nonblocking = true;
    for (int way = 0; way < WAYS; way++)
        for (size_t pad = 0; pad < 160; pad += 3) {
            size_t content = 30000 + pad;
            int n = sprintf(bytes, "PUT /x HTTP/1.1\r\nHost: h\r\nContent-Length: %zu\r\n\r\n", content);
            memset(bytes + n, 'c', content);
            size_t len = (size_t)n + content;
            int heads = 1;
            while (len < 45000) {
                len += (size_t)sprintf(bytes + len, "GET /%d HTTP/1.1\r\nHost: h\r\n\r\n", heads);
                heads++;
            }
            announce(bytes, len, -1, heads, 12000 + (int)(pad * 37 % 500));
            small_buffer = 2304 + (int)pad;
            int fd = dial();
            /* one request a call, as a client that does not wait for responses would: every head can carry its line */
            const char *why = send_all(way, fd, bytes, (size_t)n + content);
            for (char *at = bytes + n + content; why == NULL && at < bytes + len;) {
                char *end = (char *)memmem(at, (size_t)(bytes + len - at), "\r\n\r\n", 4) + 4;
                why = send_all(way, fd, at, (size_t)(end - at));
                at = end;
            }
            verdict(fd, way_name[way], why, pad, 0);
        }
    nonblocking = false;
    small_buffer = 0;
}

/* A kernel that takes exactly `limit` bytes of a call, then refuses twice, then takes one byte, then everything: stops at each byte of a head with
 * its line, and of a request whose head was begun by an earlier call (nothing of the program's stands before our line then). */
static void shorts(void)
{
    void (*limit)(long first) = (void (*)(long))dlsym(RTLD_DEFAULT, "short_limit");
    if (limit == NULL) {
        printf("FAIL short.so is not preloaded\n");
        exit(1);
    }
    size_t len = request_len;
    nonblocking = true;
    for (int way = 0; way < WAYS; way++)
        for (size_t first = 0; first <= head_len - empty_len; first += first == 0 ? head_len - empty_len - 10 : 1)
            for (size_t stop = 0; stop <= len - first + line_len; stop++) {
                announce(request, len, -1, 1, 0);
                int fd = dial();
                ends_count = 0;
                const char *why = first > 0 ? send_all(SEND, fd, request, first) : NULL;
                limit((long)stop);
                if (why == NULL)
                    why = send_all(way, fd, request + first, len - first);
                limit(-1);
                verdict(fd, way_name[way], why, first, stop);
                /* the one excuse for no line: a call ended inside the empty line (two messages are two calls) */
                bool parted = way == SENDMMSG;
                for (unsigned i = 0; i < ends_count; i++)
                    parted |= parts(ends[i] + (i > 0 || first == 0 ? first : 0));
                if (lines_seen != 1 && !parted) {
                    printf("FAIL %s (%zu, stopped at %zu): %d lines\n", way_name[way], first, stop, lines_seen);
                    exit(1);
                }
            }
    /* what comes after a debt goes by another way: sendfile */
    char name[] = "/tmp/otshim-inject-XXXXXX";
    int file = mkstemp(name);
    unlink(name);
    if (write(file, request, len) != (ssize_t)len)
        die("file");
    for (size_t stop = head_len - 10; stop < head_len + line_len; stop++) {
        announce(request, len, -1, 1, 0);
        int fd = dial();
        const char *why = NULL;
        limit((long)stop);
        ssize_t r = send(fd, request, len, 0);
        off_t at = r > 0 ? r : 0;
        while (why == NULL && at < (off_t)len) {
            ssize_t more = sendfile(fd, file, &at, len - (size_t)at);
            if (more < 0 && errno != EAGAIN)
                why = "sendfile";
        }
        limit(-1);
        verdict(fd, "sendfile behind a debt", why, stop, 0);
    }
    nonblocking = false;
}

/* Many heads in one call. */
static void pipelined(void)
{
    char bytes[4000];
    for (int heads = 1; heads <= 6; heads++) {
        size_t len = 0;
        for (int i = 0; i < heads; i++)
            len += (size_t)sprintf(bytes + len, "GET /%d HTTP/1.1\r\nHost: h\r\nUser-Agent: t/1\r\n\r\n", i);
        for (int way = 0; way < WAYS; way++) {
            /* sendmmsg sends message by message, and may cut a head in its empty line */
            announce(bytes, len, way == SENDMMSG ? -1 : heads < 4 ? heads : 4, heads, 0);
            int fd = dial();
            const char *why = send_all(way, fd, bytes, len);
            verdict(fd, way_name[way], why, (size_t)heads, 0);
        }
    }
}

/* What must not carry a line of ours. */
static void untouched(void)
{
    static const char own[] =
        "GET / HTTP/1.1\r\nHost: h\r\nTraceParent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\r\n";
    static const char garbage[] = "GETX\r\n\r\n\x16\x03\x01traceparent\r\n\r\n";
    static const char broken[] = "GET / HTTP/1.1\r\nHost: h\r\nno colon here\r\nContent-Length: a\r\n\r\n";
    const struct {
        const char *name, *bytes;
        int lines;
    } all[] = {{"own header", own, 0}, {"not HTTP", garbage, 0}, {"broken", broken, -1}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        for (int way = 0; way < WAYS; way++) {
            size_t len = strlen(all[i].bytes);
            announce(all[i].bytes, len, all[i].lines, 1, 0);
            int fd = dial();
            verdict(fd, all[i].name, send_all(way, fd, all[i].bytes, len), (size_t)way, 0);
        }
    /* out-of-band data in the middle, a message with ancillary data, sendfile behind a head */
    char name[] = "/tmp/otshim-inject-XXXXXX";
    int file = mkstemp(name);
    unlink(name);
    if (write(file, "hello", 5) != 5)
        die("file");
    announce(request, request_len, 1, 1, 0);
    int fd = dial();
    const char *why = send_all(SEND, fd, request, head_len);
    off_t at = 0;
    if (why == NULL && sendfile(fd, file, &at, 5) != 5)
        why = "sendfile";
    verdict(fd, "sendfile", why, 0, 0);
}

static void many_pieces(void)
{
    struct iovec many[160];
    size_t pieces = 0, len = request_len;
    for (size_t i = 0; i < len; i += 1)
        many[pieces++] = (struct iovec){(void *)(request + i), 1};
    announce(request, len, pieces <= 62 ? 1 : 0, 1, 0);
    int fd = dial();
    verdict(fd, "many pieces", writev(fd, many, (int)pieces) == (ssize_t)len ? NULL : "short", pieces, 0);

    /* every byte a piece of its own, up to the bound: the empty line is in different pieces */
    for (size_t first = 1; first < len; first++) {
        pieces = 0;
        many[pieces++] = (struct iovec){(void *)request, first};
        size_t i = first;
        for (; i < len && pieces < 61; i++)
            many[pieces++] = (struct iovec){(void *)(request + i), 1};
        if (i < len)
            many[pieces++] = (struct iovec){(void *)(request + i), len - i};
        announce(request, len, 1, 1, 0);
        fd = dial();
        verdict(fd, "pieces", writev(fd, many, (int)pieces) == (ssize_t)len ? NULL : "short", first, 0);
    }
}

/* A head across the end of a page: it is looked at page by page. */
static void pages(void)
{
    static char area[3 * 4096] __attribute__((aligned(4096)));
    size_t len = request_len;
    for (size_t i = 0; i <= len; i++) {
        char *at = area + 4096 - i;
        memcpy(at, request, len);
        announce(request, len, 1, 1, 0);
        int fd = dial();
        verdict(fd, "page", write(fd, at, len) == (ssize_t)len ? NULL : "short", i, 0);
    }
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "tcp";
    if (strstr(argv[argc - 1], "fastcgi"))
        speak_fastcgi();
    if (argc == 6 && strcmp(mode, "--sink") == 0) {
        sink(atoi(argv[2]), atoi(argv[3]), atoi(argv[4]));
        return 0;
    }
    bool un = strstr(mode, "unix") != NULL;
    signal(SIGPIPE, SIG_IGN);
    int to[2], from[2];
    snprintf(unix_path, sizeof unix_path, "/tmp/otshim-inject-%d.sock", (int)getpid());
    unlink(unix_path);
    int listener = socket(un ? AF_UNIX : AF_INET, SOCK_STREAM, 0);
    struct sockaddr_un *sun = (void *)&address;
    struct sockaddr_in *sin = (void *)&address;
    if (un) {
        *sun = (struct sockaddr_un){.sun_family = AF_UNIX};
        strcpy(sun->sun_path, unix_path);
        address_len = sizeof *sun;
    } else {
        *sin = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
        address_len = sizeof *sin;
    }
    int small = 4096;
    if (strstr(mode, "partial"))
        setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    if (bind(listener, (void *)&address, address_len) != 0 || listen(listener, 16) != 0 || pipe(to) != 0 || pipe(from) != 0)
        die("listener");
    address_len = sizeof address;
    getsockname(listener, (void *)&address, &address_len);
    pid_t child = fork();
    if (child == 0) {
        char l[12], a[12], v[12];
        close(to[1]);
        close(from[0]);
        snprintf(l, sizeof l, "%d", listener);
        snprintf(a, sizeof a, "%d", to[0]);
        snprintf(v, sizeof v, "%d", from[1]);
        setenv("OTEL_SDK_DISABLED", "true", 1);
        execl("/proc/self/exe", "inject-sink", "--sink", l, a, v, mode, (char *)NULL);
        die("exec");
    }
    close(listener);
    close(to[0]);
    close(from[1]);
    announce_fd = to[1];
    verdict_fd = from[0];
    if (strstr(mode, "partial")) {
        partial();
    } else if (strstr(mode, "short")) {
        shorts();
    } else {
        pages();
        many_pieces();
        if (!fastcgi) {
            untouched();
            pipelined();
        }
        cuts();
    }
    close(announce_fd);
    waitpid(child, NULL, 0);
    unlink(unix_path);
    printf("%lu cases\n", cases);
    return 0;
}
