/* write.c - SSL_write with a traceparent put in, over real OpenSSL: is the program told what it would be told without us, and does the peer get
 * exactly the program's bytes (and one header line in the head, if the library is there)?
 *
 *   write EXPECT     EXPECT: 0 no traceparent may arrive, 1 exactly one a request
 *
 * A client with a small send buffer, non-blocking or blocking, sends requests of several sizes in every mode that changes the rules of SSL_write; the
 * server, a thread, reads slowly. The client calls again as the manual asks: with the same buffer, or with a copy of it elsewhere where
 * SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER allows it. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define REQUESTS 3
#define LINE_MARK "\r\ntraceparent: 00-"
#define LINE_LEN (sizeof "traceparent: 00-" - 1 + 32 + 1 + 16 + 1 + 2 + 2)

static int failures;
static const char *case_name;

static void fail(const char *what)
{
    printf("FAIL %s: %s\n", case_name, what);
    failures++;
}

struct peer {
    int listener;
    SSL_CTX *ctx;
    char *got;
    size_t got_len, room;
    bool slow;
};

static void *serve(void *arg)
{
    struct peer *peer = arg;
    int fd = accept(peer->listener, NULL, NULL);
    SSL *ssl = SSL_new(peer->ctx);
    SSL_set_fd(ssl, fd);
    peer->got_len = 0;
    if (SSL_accept(ssl) == 1) {
        for (int r; (r = SSL_read(ssl, peer->got + peer->got_len, (int)(peer->room - peer->got_len))) > 0;) {
            peer->got_len += (size_t)r;
            if (peer->slow)
                usleep(200);
        }
    }
    SSL_free(ssl);
    close(fd);
    return NULL;
}

static SSL_CTX *server_ctx(const char *certificate, const char *key)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    if (SSL_CTX_use_certificate_chain_file(ctx, certificate) != 1 || SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1)
        exit(2);
    SSL_CTX_set_num_tickets(ctx, 0); /* unread ones would make the client's close a reset */
    return ctx;
}

/* One logical write by the manual's rules. Returns how many times it had to be called again. */
static unsigned write_all(SSL *ssl, const char *bytes, size_t len, long mode, bool ex)
{
    unsigned again = 0;
    size_t sent = 0;
    while (sent < len) {
        char *elsewhere = NULL;
        const char *from = bytes + sent;
        if ((mode & SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER) && again % 2 == 1) {
            elsewhere = malloc(len - sent);
            memcpy(elsewhere, from, len - sent);
            from = elsewhere;
        }
        size_t done = 0;
        int ret;
        errno = 0;
        if (ex) {
            ret = SSL_write_ex(ssl, from, len - sent, &done);
        } else {
            ret = SSL_write(ssl, from, (int)(len - sent));
            done = ret > 0 ? (size_t)ret : 0;
        }
        free(elsewhere);
        if (ret > 0) {
            if (done > len - sent)
                fail("more bytes taken than were given");
            if (!(mode & SSL_MODE_ENABLE_PARTIAL_WRITE) && done != len - sent)
                fail("a part taken without SSL_MODE_ENABLE_PARTIAL_WRITE");
            sent += done;
            continue;
        }
        int why = SSL_get_error(ssl, ret);
        if (why != SSL_ERROR_WANT_WRITE && why != SSL_ERROR_WANT_READ) {
            char text[200];
            snprintf(text, sizeof text, "SSL_write failed: error %d, %s", why, ERR_reason_error_string(ERR_peek_last_error()));
            fail(text);
            break;
        }
        if (ERR_peek_error() != 0)
            fail("something in the error queue");
        if (errno != EAGAIN)
            fail("errno is not what write() left");
        again++;
        struct pollfd p = {.fd = SSL_get_fd(ssl), .events = why == SSL_ERROR_WANT_WRITE ? POLLOUT : POLLIN};
        poll(&p, 1, 1000);
    }
    return again;
}

static char *request(size_t head, size_t body, size_t *len)
{
    char *text = malloc(head + body + 200);
    int n = sprintf(text, "POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: %zu\r\nX-Fill: ", body);
    for (size_t i = 0; i < head; i++)
        text[n++] = (char)('a' + i % 26);
    n += sprintf(text + n, "\r\n\r\n");
    for (size_t i = 0; i < body; i++)
        text[(size_t)n + i] = (char)(i * 7 + i / 256);
    *len = (size_t)n + body;
    return text;
}

/* What arrived, without our lines; how many of them there were. */
static unsigned strip(char *got, size_t *len)
{
    unsigned lines = 0;
    for (size_t i = 0; i + 2 + LINE_LEN <= *len; i++) {
        if (memcmp(got + i, LINE_MARK, sizeof LINE_MARK - 1) != 0)
            continue;
        memmove(got + i + 2, got + i + 2 + LINE_LEN, *len - i - 2 - LINE_LEN);
        *len -= LINE_LEN;
        lines++;
    }
    return lines;
}

static void run(struct peer *peer, const struct sockaddr_in *to, size_t head, size_t body, long mode, bool ex, bool blocking,
                bool split, unsigned expect)
{
    static char name[200];
    snprintf(name, sizeof name, "ssl-write-%s-%zu+%zu%s%s%s%s", ex ? "ex" : "plain", head, body,
             mode & SSL_MODE_ENABLE_PARTIAL_WRITE ? "-partial" : "", mode & SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER ? "-moving" : "",
             blocking ? "-blocking" : "", split ? "-split" : "");
    case_name = name;
    int before = failures;
    size_t len;
    char *bytes = request(head, body, &len);
    pthread_t thread;
    peer->slow = !blocking;
    pthread_create(&thread, NULL, serve, peer);

    int fd = socket(AF_INET, SOCK_STREAM, 0), small = 4096;
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
    if (connect(fd, (const struct sockaddr *)to, sizeof *to) != 0)
        exit(2);
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    SSL *ssl = SSL_new(ctx);
    SSL_set_mode(ssl, mode);
    SSL_set_fd(ssl, fd);
    if (SSL_connect(ssl) != 1)
        exit(2);
    if (!blocking)
        fcntl(fd, F_SETFL, O_NONBLOCK);
    unsigned again = 0;
    for (int i = 0; i < REQUESTS; i++) {
        size_t first = split ? len / 3 : len;
        again += write_all(ssl, bytes, first, mode, ex);
        if (split)
            again += write_all(ssl, bytes + first, len - first, mode, ex);
    }
    fcntl(fd, F_SETFL, 0);
    SSL_shutdown(ssl);
    SSL_free(ssl);
    SSL_CTX_free(ctx);
    shutdown(fd, SHUT_WR);
    char rest[100];
    while (read(fd, rest, sizeof rest) > 0)
        ;
    close(fd);
    pthread_join(thread, NULL);

    unsigned lines = strip(peer->got, &peer->got_len);
    if (lines != expect * REQUESTS) {
        char text[100];
        snprintf(text, sizeof text, "%u traceparent lines, expected %u", lines, expect * REQUESTS);
        fail(text);
    }
    bool same = peer->got_len == REQUESTS * len;
    for (int i = 0; same && i < REQUESTS; i++)
        same = memcmp(peer->got + (size_t)i * len, bytes, len) == 0;
    if (!same)
        fail("the peer got other bytes than the program wrote");
    free(bytes);
    if (failures == before)
        printf("ok %s (%u calls had to be repeated)\n", name, again);
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    unsigned expect = (unsigned)atoi(argv[1]);
    signal(SIGPIPE, SIG_IGN);
    struct peer peer = {.room = 16 << 20, .ctx = server_ctx(argv[2], argv[3])};
    peer.got = malloc(peer.room);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof at;
    peer.listener = socket(AF_INET, SOCK_STREAM, 0);
    int small = 4096;
    setsockopt(peer.listener, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    if (bind(peer.listener, (struct sockaddr *)&at, sizeof at) != 0 || listen(peer.listener, 8) != 0 ||
        getsockname(peer.listener, (struct sockaddr *)&at, &len) != 0)
        return 2;
    static const long modes[] = {0, SSL_MODE_ENABLE_PARTIAL_WRITE, SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER,
                                 SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER};
    static const size_t sizes[][2] = {{10, 0}, {1000, 5000}, {100, 16384}, {200, 300000}, {15000, 3000}};
    for (size_t m = 0; m < sizeof modes / sizeof *modes; m++)
        for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
            for (int ex = 0; ex < 2; ex++)
                for (int blocking = 0; blocking < 2; blocking++)
                    for (int split = 0; split < 2; split++)
                        run(&peer, &at, sizes[s][0], sizes[s][1], modes[m], ex, blocking, split, expect);
    return failures != 0;
}
