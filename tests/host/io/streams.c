/* streams.c - HTTP/2 requests on a socket that takes little at a time (short.so): at every length at which the kernel may stop, with write, writev and
 * send, the peer - libnghttp2's server in this same process - must read each request whole, with the header fields that were sent and at most one
 * traceparent; and the program must be told of exactly its own bytes.
 *
 *     streams EXPECT      how many of the requests carry a traceparent when nothing is cut: 0 without the library, 1 all of them */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <nghttp2/nghttp2.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define REQUESTS 3

static void (*short_limit)(long);
static int failures;

struct got {
    unsigned requests, parents, bad;
};

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t name_len,
                     const uint8_t *value, size_t value_len, uint8_t flags, void *user)
{
    struct got *got = user;
    (void)session, (void)flags;
    char expected[40];
    if (name_len == 5 && memcmp(name, ":path", 5) == 0) {
        snprintf(expected, sizeof expected, "/request/%d", frame->hd.stream_id);
        got->bad += value_len != strlen(expected) || memcmp(value, expected, value_len) != 0;
    }
    if (name_len == 11 && memcmp(name, "traceparent", 11) == 0) {
        got->parents++;
        got->bad += value_len != 55;
    }
    return 0;
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    (void)session;
    struct got *got = user;
    if (frame->hd.type == NGHTTP2_HEADERS)
        got->requests++;
    return 0;
}

static size_t make_requests(char *out, size_t room)
{
    nghttp2_session *client;
    nghttp2_session_callbacks *callbacks;
    nghttp2_session_callbacks_new(&callbacks);
    nghttp2_session_client_new(&client, callbacks, NULL);
    nghttp2_session_callbacks_del(callbacks);
    nghttp2_submit_settings(client, 0, NULL, 0);
    size_t len = 0;
    for (int i = 0; i < REQUESTS; i++) {
        char path[40];
        snprintf(path, sizeof path, "/request/%d", 1 + 2 * i);
#define NV(n, v) {(uint8_t *)n, (uint8_t *)(v), sizeof(n) - 1, strlen(v), NGHTTP2_NV_FLAG_NONE}
        nghttp2_nv nv[] = {NV(":method", "GET"), NV(":scheme", "http"), NV(":authority", "h"), NV(":path", path),
                           NV("x-more", "something to say")};
        nghttp2_submit_request(client, NULL, nv, 5, NULL, NULL);
        const uint8_t *bytes;
        for (ssize_t n; (n = nghttp2_session_mem_send(client, &bytes)) > 0; len += (size_t)n)
            if (len + (size_t)n <= room)
                memcpy(out + len, bytes, (size_t)n);
    }
    nghttp2_session_del(client);
    return len;
}

static ssize_t send_by(int way, int fd, const char *bytes, size_t len)
{
    struct iovec iov[3] = {
        {(char *)bytes, len / 3}, {(char *)bytes + len / 3, len / 3}, {(char *)bytes + 2 * (len / 3), len - 2 * (len / 3)}};
    switch (way) {
    case 0: return write(fd, bytes, len);
    case 1: return writev(fd, iov, 3);
    default: return send(fd, bytes, len, 0);
    }
}

/* All bytes, in calls of at most `piece`; the first of them is cut at `limit`. */
static bool send_all(int way, int fd, const char *bytes, size_t len, size_t piece, long limit)
{
    size_t sent = 0;
    short_limit(limit);
    for (int idle = 0; sent < len && idle < 1000;) {
        size_t want = len - sent < piece ? len - sent : piece;
        ssize_t n = send_by(way, fd, bytes + sent, want);
        if (n < 0 && errno != EAGAIN)
            return false;
        if (n > (ssize_t)want)
            return false;
        idle = n <= 0 ? idle + 1 : 0;
        sent += n > 0 ? (size_t)n : 0;
    }
    short_limit(-1);
    return sent == len;
}

static void run(int way, size_t piece, long limit, const char *bytes, size_t len, unsigned expect)
{
    static const char *const ways[] = {"write", "writev", "send"};
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t at_len = sizeof at;
    int listener = socket(AF_INET, SOCK_STREAM, 0), fd = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (struct sockaddr *)&at, sizeof at) != 0 || listen(listener, 1) != 0 ||
        getsockname(listener, (struct sockaddr *)&at, &at_len) != 0 || connect(fd, (struct sockaddr *)&at, at_len) != 0)
        exit(2);
    int peer = accept(listener, NULL, NULL);
    close(listener);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    bool sent = send_all(way, fd, bytes, len, piece, limit);
    shutdown(fd, SHUT_WR);

    struct got got = {0};
    nghttp2_session *server;
    nghttp2_session_callbacks *callbacks;
    nghttp2_session_callbacks_new(&callbacks);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    nghttp2_session_server_new(&server, callbacks, &got);
    nghttp2_session_callbacks_del(callbacks);
    char buf[8192];
    bool whole = true;
    for (ssize_t n; (n = read(peer, buf, sizeof buf)) > 0;)
        whole = whole && nghttp2_session_mem_recv(server, (uint8_t *)buf, (size_t)n) == n;
    nghttp2_session_del(server);
    close(peer);
    close(fd);
    bool uncut = limit < 0 && piece >= len;
    unsigned most = expect * REQUESTS;
    if (sent && whole && got.requests == REQUESTS && got.bad == 0 && (uncut ? got.parents == most : got.parents <= most))
        return;
    printf("FAIL http2-%s, pieces of %zu, cut at %ld: %s, %u requests, %u traceparents, %u bad\n", ways[way], piece, limit,
           !sent   ? "the calls do not add up"
           : whole ? "read"
                   : "the peer could not read it",
           got.requests, got.parents, got.bad);
    failures++;
}

int main(int argc, char **argv)
{
    static char bytes[16384];
    unsigned expect = argc > 1 ? (unsigned)atoi(argv[1]) : 0;
    short_limit = (void (*)(long))dlsym(RTLD_DEFAULT, "short_limit");
    if (short_limit == NULL)
        return 2;
    size_t len = make_requests(bytes, sizeof bytes);
    for (int way = 0; way < 3; way++) {
        int before = failures;
        run(way, len, -1, bytes, len, expect);
        for (long limit = 0; limit < (long)len + 250; limit++)
            run(way, len, limit, bytes, len, expect);
        for (size_t piece = 1; piece < len; piece++)
            run(way, piece, -1, bytes, len, expect);
        for (size_t piece = 20; piece < len; piece += 7)
            for (long limit = 0; limit < (long)piece + 80; limit += 3)
                run(way, piece, limit, bytes, len, expect);
        if (failures == before)
            printf("ok http2-%s cut everywhere%s\n", (const char *[]){"write", "writev", "send"}[way],
                   expect ? ", with traceparents" : "");
    }
    return failures != 0;
}
