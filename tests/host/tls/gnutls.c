/* gnutls.c - gnutls_record_send with a traceparent put in, over real GnuTLS: is the program told what it would be told without us, and does the peer get
 * exactly the program's bytes (and one header line in the head, if the library is there)?
 *
 *   gnutls EXPECT CERTIFICATE KEY     EXPECT: 0 no traceparent may arrive, 1 exactly one a request, where nothing is corked
 *
 * A client with a small send buffer, non-blocking or blocking, sends requests of several sizes; the server, a thread, reads slowly. After "again" the
 * client calls once more with the same arguments, or with NULL and 0, as the manual allows. Corked, all of a request is collected first, and
 * gnutls_record_uncork must say how many bytes that were. */
#include <fcntl.h>
#include <gnutls/gnutls.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define REQUESTS 3
#define LINE_MARK "\r\ntraceparent: 00-"
#define LINE_LEN (sizeof "traceparent: 00-" - 1 + 32 + 1 + 16 + 1 + 2 + 2)

enum repeat { SAME, NAMELESS };

struct test {
    size_t head, body;
    bool blocking, split, corked, padded;
    enum repeat repeat;
};

static int failures;
static char name[200];

static void fail(const char *what)
{
    printf("FAIL %s: %s\n", name, what);
    failures++;
}

struct peer {
    int listener;
    gnutls_certificate_credentials_t credentials;
    char *got;
    size_t got_len, room;
    bool slow;
};

static gnutls_session_t session_new(unsigned flags, gnutls_certificate_credentials_t credentials, int fd)
{
    gnutls_session_t session;
    gnutls_init(&session, flags);
    gnutls_set_default_priority(session);
    gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, credentials);
    gnutls_transport_set_int(session, fd);
    return session;
}

static bool shake_hands(gnutls_session_t session)
{
    int result;
    while ((result = gnutls_handshake(session)) < 0 && !gnutls_error_is_fatal(result))
        ;
    return result == 0;
}

static void *serve(void *arg)
{
    struct peer *peer = arg;
    int fd = accept(peer->listener, NULL, NULL);
    gnutls_session_t session = session_new(GNUTLS_SERVER | GNUTLS_NO_TICKETS, peer->credentials, fd);
    peer->got_len = 0;
    if (shake_hands(session)) {
        for (ssize_t r; (r = gnutls_record_recv(session, peer->got + peer->got_len, peer->room - peer->got_len)) > 0;) {
            peer->got_len += (size_t)r;
            if (peer->slow)
                usleep(200);
        }
    }
    gnutls_deinit(session);
    close(fd);
    return NULL;
}

static ssize_t send_some(gnutls_session_t session, const char *bytes, size_t len, bool padded)
{
    return padded ? gnutls_record_send2(session, bytes, len, len != 0 ? 64 : 0, 0) : gnutls_record_send(session, bytes, len);
}

static void wait_writable(gnutls_session_t session)
{
    struct pollfd p = {.fd = gnutls_transport_get_int(session), .events = POLLOUT};
    if (gnutls_record_get_direction(session) != 1)
        fail("the library does not want to write");
    poll(&p, 1, 1000);
}

/* One logical write by the manual's rules. Returns how many times it had to be called again. */
static unsigned write_all(gnutls_session_t session, const char *bytes, size_t len, const struct test *test)
{
    unsigned again = 0;
    bool repeated = false;
    const size_t most = test->corked ? SIZE_MAX : gnutls_record_get_max_size(session);
    for (size_t sent = 0; sent < len;) {
        bool named = !repeated || test->repeat == SAME;
        ssize_t ret = send_some(session, named ? bytes + sent : NULL, named ? len - sent : 0, test->padded);
        repeated = ret == GNUTLS_E_AGAIN || ret == GNUTLS_E_INTERRUPTED;
        if (repeated) {
            again++;
            wait_writable(session);
            continue;
        }
        if (ret <= 0) {
            fail(gnutls_strerror((int)ret));
            break;
        }
        if ((size_t)ret != (len - sent < most ? len - sent : most))
            fail("another number of bytes was taken than a record holds");
        sent += (size_t)ret;
    }
    return again;
}

static unsigned uncork(gnutls_session_t session, size_t len)
{
    unsigned again = 0;
    if (gnutls_record_check_corked(session) != len)
        fail("another number of bytes is corked than was sent");
    int ret;
    size_t before = len;
    while ((ret = gnutls_record_uncork(session, 0)) == GNUTLS_E_AGAIN) {
        again++;
        before = gnutls_record_check_corked(session);
        wait_writable(session);
    }
    if (ret < 0 || (size_t)ret != before)
        fail("uncorked another number of bytes than was corked");
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

static void check(struct peer *peer, const char *bytes, size_t len, unsigned expect)
{
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
}

static unsigned send_requests(gnutls_session_t session, const char *bytes, size_t len, const struct test *test)
{
    unsigned again = 0;
    for (int i = 0; i < REQUESTS; i++) {
        size_t first = test->split ? len / 3 : len;
        if (test->corked)
            gnutls_record_cork(session);
        again += write_all(session, bytes, first, test);
        if (test->split)
            again += write_all(session, bytes + first, len - first, test);
        if (test->corked)
            again += uncork(session, len);
    }
    return again;
}

static void run(struct peer *peer, const struct sockaddr_in *to, const struct test *test, unsigned expect)
{
    snprintf(name, sizeof name, "gnutls-send%s-%zu+%zu%s%s%s%s", test->padded ? "2" : "", test->head, test->body,
             test->repeat == NAMELESS ? "-nameless" : "", test->blocking ? "-blocking" : "", test->split ? "-split" : "",
             test->corked ? "-corked" : "");
    int before = failures;
    size_t len;
    char *bytes = request(test->head, test->body, &len);
    pthread_t thread;
    peer->slow = !test->blocking;
    pthread_create(&thread, NULL, serve, peer);

    int fd = socket(AF_INET, SOCK_STREAM, 0), small = 4096;
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
    if (connect(fd, (const struct sockaddr *)to, sizeof *to) != 0)
        exit(2);
    gnutls_certificate_credentials_t credentials;
    gnutls_certificate_allocate_credentials(&credentials);
    gnutls_session_t session = session_new(GNUTLS_CLIENT, credentials, fd);
    if (!shake_hands(session))
        exit(2);
    if (!test->blocking)
        fcntl(fd, F_SETFL, O_NONBLOCK);
    unsigned again = send_requests(session, bytes, len, test);
    fcntl(fd, F_SETFL, 0);
    gnutls_bye(session, GNUTLS_SHUT_WR);
    gnutls_deinit(session);
    gnutls_certificate_free_credentials(credentials);
    shutdown(fd, SHUT_WR);
    char rest[100];
    while (read(fd, rest, sizeof rest) > 0)
        ;
    close(fd);
    pthread_join(thread, NULL);
    check(peer, bytes, len, test->corked || test->padded ? 0 : expect);
    free(bytes);
    if (!test->blocking && len > 100000 && again == 0)
        fail("no call had to be repeated: nothing is shown");
    if (failures == before)
        printf("ok %s (%u calls had to be repeated)\n", name, again);
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    unsigned expect = (unsigned)atoi(argv[1]);
    signal(SIGPIPE, SIG_IGN);
    struct peer peer = {.room = 16 << 20};
    peer.got = malloc(peer.room);
    gnutls_certificate_allocate_credentials(&peer.credentials);
    if (gnutls_certificate_set_x509_key_file(peer.credentials, argv[2], argv[3], GNUTLS_X509_FMT_PEM) < 0)
        return 2;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof at;
    peer.listener = socket(AF_INET, SOCK_STREAM, 0);
    int small = 4096;
    setsockopt(peer.listener, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    if (bind(peer.listener, (struct sockaddr *)&at, sizeof at) != 0 || listen(peer.listener, 8) != 0 ||
        getsockname(peer.listener, (struct sockaddr *)&at, &len) != 0)
        return 2;
    /* 16280: the line does not fit into the record that the request fits into */
    static const size_t sizes[][2] = {{10, 0}, {1000, 5000}, {100, 16384}, {200, 300000}, {15000, 3000}, {16280, 0}};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
        for (unsigned bits = 0; bits < 32; bits++) {
            struct test test = {.head = sizes[s][0],
                                .body = sizes[s][1],
                                .blocking = bits & 1,
                                .split = bits & 2,
                                .corked = bits & 4,
                                .repeat = bits & 8 ? NAMELESS : SAME,
                                .padded = bits & 16};
            /* content and padding must fit into a record together */
            if (!(test.padded && (test.corked || test.head + test.body > 10000)) && !(test.blocking && test.repeat == NAMELESS))
                run(&peer, &at, &test, expect);
        }
    return failures != 0;
}
