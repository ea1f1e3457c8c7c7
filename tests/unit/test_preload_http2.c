/* test_preload_http2.c - the HTTP/2 parser beside libnghttp2: two of its sessions talk to each other, and what the parser says of the bytes between them
 * must be what they were asked to send. And what no library sends: made-up frames, broken blocks. */
#include "proto/http2.h"
#include "proto_events.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <nghttp2/nghttp2.h>

/* ---- what the parser said, by stream ------------------------------------------------------------------------------------------------------------------ */

#define STREAMS 600

struct said {
    char text[PROTO_FIELDS][4096];
    unsigned begun[2], heads[2], ended[2], interim, reset;
    uint16_t status;
    uint64_t body[2];
};

static struct said *said;
static bool lost;

static void sink(void *arg, const struct proto_event *event)
{
    (void)arg;
    if (event->type == PROTO_LOST) {
        lost = true;
        return;
    }
    assert_true(event->stream / 2 < STREAMS);
    struct said *s = &said[event->stream / 2];
    switch (event->type) {
    case PROTO_BEGIN: s->begun[event->dir]++; break;
    case PROTO_FIELD:
        if (s->text[event->field][0] != '\0')
            strcat(s->text[event->field], ",");
        strncat(s->text[event->field], event->bytes, event->len);
        break;
    case PROTO_HEAD:
        s->heads[event->dir]++;
        if (event->dir == PROTO_RESPONSE)
            s->status = event->status;
        break;
    case PROTO_END:
        s->ended[event->dir]++;
        s->body[event->dir] = event->body_bytes;
        break;
    case PROTO_RESET: s->reset++; break;
    default: fail();
    }
}

/* ---- two sessions ---------------------------------------------------------------------------------------------------------------------------------------- */

static unsigned seed;

static unsigned roll(unsigned below)
{
    seed = seed * 1103515245u + 12345u;
    return (seed >> 8) % below;
}

struct end {
    nghttp2_session *session;
    enum proto_dir dir; /* of what it sends */
};

static struct http2 *parser;
static size_t body_left[2][STREAMS * 2];

static ssize_t read_body(nghttp2_session *session, int32_t stream, uint8_t *buf, size_t length, uint32_t *flags,
                         nghttp2_data_source *source, void *user)
{
    (void)session, (void)source;
    struct end *end = user;
    size_t *left = &body_left[end->dir][stream];
    size_t n = *left < length ? *left : length;
    n = n > 1 ? 1 + roll((unsigned)n) : n;
    memset(buf, 'b', n);
    *left -= n;
    if (*left == 0)
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    return (ssize_t)n;
}

static ssize_t pad(nghttp2_session *session, const nghttp2_frame *frame, size_t max, void *user)
{
    (void)session, (void)user;
    size_t room = max - frame->hd.length;
    return (ssize_t)(frame->hd.length + (roll(3) == 0 && room > 0 ? roll((unsigned)(room < 200 ? room : 200)) : 0));
}

static int no_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t name_len,
                     const uint8_t *value, size_t value_len, uint8_t flags, void *user)
{
    (void)session, (void)frame, (void)name, (void)name_len, (void)value, (void)value_len, (void)flags, (void)user;
    return 0;
}

/* All that one has to say goes to the other, through the parser, cut at random. */
static bool pump(struct end *from, struct end *to)
{
    const uint8_t *bytes;
    bool any = false;
    for (ssize_t n; (n = nghttp2_session_mem_send(from->session, &bytes)) > 0; any = true) {
        for (size_t at = 0; at < (size_t)n;) {
            size_t piece = 1 + roll(roll(2) ? 7 : 5000);
            piece = piece < (size_t)n - at ? piece : (size_t)n - at;
            char *copy = malloc(piece);
            memcpy(copy, bytes + at, piece);
            http2_ops.feed(parser, from->dir, copy, piece, sink, NULL);
            free(copy);
            at += piece;
        }
        assert_int_equal(nghttp2_session_mem_recv(to->session, bytes, (size_t)n), n);
    }
    return any;
}

#define NV(n, v)                                                                                                                   \
    (nghttp2_nv)                                                                                                                   \
    {                                                                                                                              \
        (uint8_t *)(uintptr_t)(n), (uint8_t *)(uintptr_t)(v), strlen(n), strlen(v), NGHTTP2_NV_FLAG_NONE                           \
    }

static char paths[STREAMS][2500], agents[STREAMS][64];

static void make_texts(unsigned i)
{
    static const char alphabet[] = "abcdefghijklmnopqrstuvwxyz0123456789-_.~%/ABCXYZ!@";
    size_t len = 1 + roll(roll(20) == 0 ? 2400 : 60);
    paths[i][0] = '/';
    for (size_t k = 1; k < len; k++)
        paths[i][k] = alphabet[roll(sizeof alphabet - 1)];
    paths[i][len] = '\0';
    snprintf(agents[i], sizeof agents[i], "agent/%u", roll(9));
}

static void submit(struct end *client, unsigned i, size_t body)
{
    char fill_name[40], fill[300];
    make_texts(i);
    snprintf(fill_name, sizeof fill_name, "x-fill-%u", roll(30));
    memset(fill, 'f', sizeof fill);
    fill[roll(sizeof fill)] = '\0';
    fill[sizeof fill - 1] = '\0';
    nghttp2_nv nv[] = {NV(":method", body ? "POST" : "GET"),
                       NV(":scheme", "https"),
                       NV(":authority", "example.test"),
                       NV(":path", paths[i]),
                       NV("user-agent", agents[i]),
                       NV("accept", "*/*"),
                       NV(fill_name, fill),
                       NV("cookie", fill)};
    nv[roll(2) ? 7 : 6].flags = NGHTTP2_NV_FLAG_NO_INDEX;
    nghttp2_data_provider data = {.read_callback = read_body};
    int32_t id = 1 + 2 * (int32_t)i;
    body_left[PROTO_REQUEST][id] = body;
    assert_int_equal(nghttp2_submit_request(client->session, NULL, nv, sizeof nv / sizeof *nv, body ? &data : NULL, NULL), id);
}

static int answer(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    (void)user;
    static const char *const statuses[] = {"200", "404", "503", "204"};
    if (!(frame->hd.flags & NGHTTP2_FLAG_END_STREAM) || (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA))
        return 0;
    unsigned i = (unsigned)frame->hd.stream_id / 2;
    if (i % 11 == 5) {
        nghttp2_nv early = NV(":status", "103");
        assert_int_equal(nghttp2_submit_headers(session, 0, frame->hd.stream_id, NULL, &early, 1, NULL), 0);
    }
    nghttp2_nv nv[] = {NV(":status", statuses[i % 4]), NV("server", agents[i]), NV("content-type", "text/plain")};
    nghttp2_data_provider data = {.read_callback = read_body};
    body_left[PROTO_RESPONSE][frame->hd.stream_id] = i % 4 == 3 ? 0 : 1 + (i * 37) % 20000;
    return nghttp2_submit_response(session, frame->hd.stream_id, nv, 3, i % 4 == 3 ? NULL : &data);
}

static void sessions(struct end *client, struct end *server, uint32_t table)
{
    nghttp2_session_callbacks *callbacks;
    nghttp2_session_callbacks_new(&callbacks);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, no_header);
    nghttp2_session_callbacks_set_select_padding_callback(callbacks, pad);
    nghttp2_session_client_new(&client->session, callbacks, client);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, answer);
    nghttp2_session_server_new(&server->session, callbacks, server);
    nghttp2_session_callbacks_del(callbacks);
    nghttp2_settings_entry settings[] = {{NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, 100},
                                         {NGHTTP2_SETTINGS_HEADER_TABLE_SIZE, table},
                                         {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 1 << 24}};
    nghttp2_submit_settings(client->session, 0, settings, 3);
    nghttp2_submit_settings(server->session, 0, settings, 3);
    nghttp2_session_set_local_window_size(client->session, 0, 0, 1 << 28);
    nghttp2_session_set_local_window_size(server->session, 0, 0, 1 << 28);
}

static void talk(unsigned with_seed, uint32_t table)
{
    struct end client = {.dir = PROTO_REQUEST}, server = {.dir = PROTO_RESPONSE};
    seed = with_seed;
    lost = false;
    parser = calloc(1, sizeof *parser);
    said = calloc(STREAMS, sizeof *said);
    http2_ops.init(parser);
    sessions(&client, &server, table);
    size_t bodies[STREAMS];
    for (unsigned i = 0; i < STREAMS; i++) {
        bodies[i] = roll(3) == 0 ? 1 + roll(30000) : 0;
        submit(&client, i, bodies[i]);
        if (roll(4) == 0)
            while (pump(&client, &server) | pump(&server, &client))
                ;
    }
    while (pump(&client, &server) | pump(&server, &client))
        ;
    assert_false(lost);
    for (unsigned i = 0; i < STREAMS; i++) {
        const struct said *s = &said[i];
        assert_string_equal(s->text[PROTO_METHOD], bodies[i] ? "POST" : "GET");
        assert_int_equal(strlen(s->text[PROTO_TARGET]), strlen(paths[i]) < HPACK_VALUE_MAX ? strlen(paths[i]) : HPACK_VALUE_MAX);
        assert_memory_equal(s->text[PROTO_TARGET], paths[i], strlen(s->text[PROTO_TARGET]));
        assert_string_equal(s->text[PROTO_HOST], "example.test");
        assert_string_equal(s->text[PROTO_USER_AGENT], agents[i]);
        assert_int_equal(s->body[PROTO_REQUEST], bodies[i]);
        assert_int_equal(s->body[PROTO_RESPONSE], i % 4 == 3 ? 0 : 1 + (i * 37) % 20000);
        static const int statuses[] = {200, 404, 503, 204};
        assert_int_equal(s->status, statuses[i % 4]);
        for (int dir = 0; dir < 2; dir++)
            assert_true(s->heads[dir] == 1 && s->ended[dir] == 1 && s->begun[dir] >= 1);
    }
    for (unsigned i = 0; i < HTTP2_STREAMS; i++)
        assert_int_equal(parser->stream[i].id, 0);
    nghttp2_session_del(client.session);
    nghttp2_session_del(server.session);
    free(parser);
    free(said);
}

static void test_beside_nghttp2(void **state)
{
    (void)state;
    static const uint32_t tables[] = {4096, 0, 128, 16384, 1000};
    for (unsigned i = 0; i < 20; i++)
        talk(i + 1, tables[i % 5]);
}

/* A larger table than is kept: lost, and nothing false. */
static void test_table_too_large(void **state)
{
    (void)state;
    struct hpack *h = calloc(1, sizeof *h);
    hpack_init(h);
    hpack_allow(h, 65536);
    /* 5.1: 65536 with a prefix of 5 bits */
    assert_false(hpack_feed(h, "\x3f\xe1\xff\x03", 4, true, NULL, NULL));
    free(h);
}

/* ---- HPACK beside nghttp2's own decoder: any bytes --------------------------------------------------------------------------------------------------------- */

struct fields {
    char text[20000];
    size_t len;
};

static void hpack_said(void *arg, enum hpack_name name, const char *value, size_t len, bool cut)
{
    struct fields *f = arg;
    if (name == HPACK_OTHER || cut || f->len + len + 8 > sizeof f->text)
        return;
    f->len += (size_t)snprintf(f->text + f->len, 8, "%d=", (int)name);
    memcpy(f->text + f->len, value, len);
    f->len += len;
    f->text[f->len++] = ';';
}

static enum hpack_name known(const char *name, size_t len)
{
    static const char *const names[] = {
        ":method",     ":scheme",    ":authority",   ":path",       ":status",         ":protocol",
        "host",        "user-agent", "content-type", "forwarded",   "x-forwarded-for", "x-forwarded-proto",
        "traceparent", "tracestate", "grpc-status",  "grpc-message"};
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
        if (strlen(names[i]) == len && memcmp(names[i], name, len) == 0)
            return (enum hpack_name)(i + 1);
    return HPACK_OTHER;
}

/* True if nghttp2 takes the block. */
static bool inflate(nghttp2_hd_inflater *inflater, const char *bytes, size_t len, struct fields *out)
{
    const uint8_t *at = (const uint8_t *)bytes;
    for (;;) {
        nghttp2_nv nv;
        int flags = 0;
        ssize_t n = nghttp2_hd_inflate_hd2(inflater, &nv, &flags, at, len, 1);
        if (n < 0)
            return false;
        at += n;
        len -= (size_t)n;
        if (flags & NGHTTP2_HD_INFLATE_EMIT)
            hpack_said(out, known((const char *)nv.name, nv.namelen), (const char *)nv.value, nv.valuelen,
                       nv.valuelen > HPACK_VALUE_MAX);
        if (flags & NGHTTP2_HD_INFLATE_FINAL) {
            nghttp2_hd_inflate_end_headers(inflater);
            return len == 0;
        }
        if ((flags & NGHTTP2_HD_INFLATE_EMIT) == 0 && len == 0)
            return false;
    }
}

/* Blocks that an encoder made, some of them with a byte changed: both take them or both refuse them, and read the same. */
static void test_hpack_beside_nghttp2(void **state)
{
    (void)state;
    unsigned taken = 0, refused = 0;
    for (unsigned round = 0; round < 3000; round++) {
        nghttp2_hd_deflater *deflater;
        nghttp2_hd_inflater *inflater;
        struct hpack *h = calloc(1, sizeof *h);
        seed = round + 1;
        hpack_init(h);
        nghttp2_hd_deflate_new(&deflater, 4096);
        nghttp2_hd_inflate_new(&inflater);
        for (unsigned block = 0; block < 6; block++) {
            char values[6][400];
            uint8_t bytes[4096];
            static const char *const keys[] = {":path", "user-agent", "x-other", "grpc-message", ":authority", "tracestate"};
            nghttp2_nv nv[6];
            for (unsigned i = 0; i < 6; i++) {
                size_t len = roll(roll(4) == 0 ? 390 : 20);
                for (size_t k = 0; k < len; k++)
                    values[i][k] = (char)(roll(5) == 0 ? 1 + roll(255) : 'a' + roll(26));
                values[i][len] = '\0';
                const char *key = keys[roll(6)];
                nv[i] = NV(key, values[i]);
            }
            if (roll(5) == 0)
                nghttp2_hd_deflate_change_table_size(deflater, roll(4096));
            ssize_t n = nghttp2_hd_deflate_hd(deflater, bytes, sizeof bytes, nv, 6);
            assert_true(n > 0);
            bool broken = roll(6) == 0;
            if (broken)
                bytes[roll((unsigned)n)] ^= (uint8_t)(1u << roll(8));
            static struct fields ours, theirs;
            ours.len = theirs.len = 0;
            bool good = true;
            for (size_t at = 0; good && at < (size_t)n;) {
                size_t piece = 1 + roll(30);
                piece = piece < (size_t)n - at ? piece : (size_t)n - at;
                good = hpack_feed(h, (const char *)bytes + at, piece, at + piece == (size_t)n, hpack_said, &ours);
                at += piece;
            }
            bool theirs_good = inflate(inflater, (const char *)bytes, (size_t)n, &theirs);
            if (good != theirs_good) {
                /* nghttp2 refuses names and values that HTTP forbids; HPACK itself does not. */
                assert_true(good && !theirs_good && broken);
                break;
            }
            (good ? &taken : &refused)[0]++;
            if (!good)
                break;
            assert_int_equal(ours.len, theirs.len);
            assert_memory_equal(ours.text, theirs.text, ours.len);
        }
        free(h);
        nghttp2_hd_deflate_del(deflater);
        nghttp2_hd_inflate_del(inflater);
    }
    print_message("    %u blocks read alike, %u refused by both\n", taken, refused);
    assert_true(taken > 10000 && refused > 50);
}

/* ---- made-up frames -------------------------------------------------------------------------------------------------------------------------------------------- */

#define PREFACE HTTP2_PREFACE
#define FRAME(len, type, flags, id) "\0\0" len type flags "\0\0\0" id
#define SIMPLE_GET "\x82\x84\x87\x41\x01h" /* GET / https, authority h */

struct made_up {
    const char *name;
    const char *bytes[2]; /* client, server */
    size_t len[2];
    const char *events;
};
#define BOTH(client, server)                                                                                                       \
    {client, server},                                                                                                              \
    {                                                                                                                              \
        sizeof(client) - 1, sizeof(server) - 1                                                                                     \
    }

static const struct made_up made_up[] = {
    {"get", BOTH(PREFACE FRAME("\x06", "\x01", "\x05", "\x01") SIMPLE_GET, FRAME("\x01", "\x01", "\x05", "\x01") "\x88"),
     ">1:BEGIN@33 1:METHOD='GET' 1:TARGET='/' 1:HOST='h' 1:HEAD@39 2.0 1:END@39 body=0 <1:BEGIN@9 1:HEAD@10 2.0 200 1:END@10 "
     "body=0"},
    {"two at once, answered in the other order",
     BOTH(PREFACE FRAME("\x06", "\x01", "\x05", "\x01") SIMPLE_GET FRAME("\x04", "\x01", "\x05", "\x03") "\x83\x85\x87\xbe",
          FRAME("\x01", "\x01", "\x05", "\x03") "\x8d" FRAME("\x01", "\x01", "\x04", "\x01") "\x88" FRAME("\x02", "\x00", "\x01",
                                                                                                          "\x01") "hi"),
     ">1:BEGIN@33 1:METHOD='GET' 1:TARGET='/' 1:HOST='h' 1:HEAD@39 2.0 1:END@39 body=0 >3:BEGIN@48 3:METHOD='POST' "
     "3:TARGET='/index.html' "
     "3:HOST='h' 3:HEAD@52 2.0 3:END@52 body=0 <3:BEGIN@9 3:HEAD@10 2.0 404 3:END@10 body=0 <1:BEGIN@19 1:HEAD@20 2.0 200 1:END@31 "
     "body=2"},
    {"padding, priority, CONTINUATION",
     BOTH(PREFACE FRAME("\x0a", "\x01", "\x29", "\x01") "\x02\0\0\0\0\x10\x82\x84\0\0" FRAME("\x04", "\x09", "\x04",
                                                                                             "\x01") "\x87\x41\x01h",
          ""),
     ">1:BEGIN@33 1:METHOD='GET' 1:TARGET='/' 1:HOST='h' 1:HEAD@56 2.0 1:END@56 body=0"},
    {"gRPC: trailers say how it went",
     BOTH(PREFACE FRAME("\x06", "\x01", "\x05", "\x01") SIMPLE_GET,
          FRAME("\x01", "\x01", "\x04", "\x01") "\x88" FRAME("\x0f", "\x01", "\x05", "\x01") "\x00\x0bgrpc-status\x01\x35"),
     ">1:BEGIN@33 1:METHOD='GET' 1:TARGET='/' 1:HOST='h' 1:HEAD@39 2.0 1:END@39 body=0 <1:BEGIN@9 1:HEAD@10 2.0 200 "
     "1:RPC_STATUS='5' 1:END@34 body=0"},
    {"reset", BOTH(PREFACE FRAME("\x06", "\x01", "\x05", "\x01") SIMPLE_GET, FRAME("\x04", "\x03", "\x00", "\x01") "\0\0\0\x08"),
     ">1:BEGIN@33 1:METHOD='GET' 1:TARGET='/' 1:HOST='h' 1:HEAD@39 2.0 1:END@39 body=0 <1:RESET@13 8"},
    {"a frame between those of a block",
     BOTH(PREFACE FRAME("\x02", "\x01", "\x01", "\x01") "\x82\x84" FRAME("\x00", "\x04", "\x00", "\x00"), ""),
     ">1:BEGIN@33 1:METHOD='GET' 1:TARGET='/' LOST"},
    {"more padding than there is", BOTH(PREFACE FRAME("\x02", "\x00", "\x08", "\x01") "\x05x", ""), ">LOST"},
    {"an index that nobody made", BOTH(PREFACE FRAME("\x01", "\x01", "\x05", "\x01") "\xff", ""), ">1:BEGIN@33 LOST"},
    {"a push promise is read for its table only",
     BOTH(PREFACE FRAME("\x06", "\x01", "\x05", "\x01") SIMPLE_GET,
          FRAME("\x08", "\x05", "\x04", "\x01") "\0\0\0\x02\x82\x84\x87\x81" FRAME("\x01", "\x01", "\x05", "\x01") "\x88"),
     ">1:BEGIN@33 1:METHOD='GET' 1:TARGET='/' 1:HOST='h' 1:HEAD@39 2.0 1:END@39 body=0 <1:BEGIN@26 1:HEAD@27 2.0 200 1:END@27 "
     "body=0"},
};

static void test_made_up(void **state)
{
    (void)state;
    static struct events e;
    for (size_t i = 0; i < sizeof made_up / sizeof *made_up; i++) {
        for (size_t cut = 0; cut <= made_up[i].len[0]; cut++) {
            events_init(&e, &http2_ops);
            events_feed(&e, PROTO_REQUEST, made_up[i].bytes[0], cut);
            events_feed(&e, PROTO_REQUEST, made_up[i].bytes[0] + cut, made_up[i].len[0] - cut);
            for (size_t at = 0; !e.over && at < made_up[i].len[1]; at++)
                events_feed(&e, PROTO_RESPONSE, made_up[i].bytes[1] + at, 1);
            if (e.violation != NULL)
                print_message("%s, cut at %zu: %s\n", made_up[i].name, cut, e.violation);
            assert_null(e.violation);
            if (strcmp(e.out, made_up[i].events) != 0)
                print_message("%s, cut at %zu\n", made_up[i].name, cut);
            assert_string_equal(e.out, made_up[i].events);
        }
    }
}

static void test_detect(void **state)
{
    (void)state;
    static const char preface[] = HTTP2_PREFACE;
    for (size_t n = 0; n <= 24; n++)
        assert_int_equal(http2_ops.detect(PROTO_REQUEST, preface, n), n >= 16 ? PROTO_YES : PROTO_MAYBE);
    assert_int_equal(http2_ops.detect(PROTO_REQUEST, "PRIX", 4), PROTO_NO);
    assert_int_equal(http2_ops.detect(PROTO_RESPONSE, preface, 24), PROTO_NO);
    /* a server that speaks first */
    assert_int_equal(http2_ops.detect(PROTO_RESPONSE, "\0\0\x12\x04\0\0\0\0\0", 9), PROTO_YES);
    assert_int_equal(http2_ops.detect(PROTO_RESPONSE, "\0\0\x11\x04\0\0\0\0\0", 9), PROTO_NO);
    assert_int_equal(http2_ops.detect(PROTO_RESPONSE, "\0\0\x12\x04\0\0\0\0\x01", 9), PROTO_NO);
}

/* What goes in at insert_at, with the frame's length adjusted, is read by nghttp2 as one more field. */
static void test_inject(void **state)
{
    (void)state;
    char out[200];
    static const char parent[] = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    struct proto_carried carried = {.parent = parent, .parent_len = sizeof parent - 1, .state = "a=b", .state_len = 3};
    size_t len = http2_ops.inject(&carried, out, sizeof out);
    static struct fields f;
    f.len = 0;
    nghttp2_hd_inflater *inflater;
    nghttp2_hd_inflate_new(&inflater);
    assert_true(inflate(inflater, out, len, &f));
    f.text[f.len] = '\0';
    assert_string_equal(f.text, "13=00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01;14=a=b;");
    assert_int_equal(http2_ops.inject(&carried, out, 60), 0);
    nghttp2_hd_inflate_del(inflater);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_detect),          cmocka_unit_test(test_made_up),
        cmocka_unit_test(test_beside_nghttp2),  cmocka_unit_test(test_hpack_beside_nghttp2),
        cmocka_unit_test(test_table_too_large), cmocka_unit_test(test_inject),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
