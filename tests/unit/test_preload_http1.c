/* test_preload_http1.c - what the HTTP/1 parser says about real and about bad exchanges, and that it says the same at every cut. */
#include "proto_events.h"

extern const struct proto_ops http1_ops;

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

/* A step of an exchange: > or < and the bytes, or what else happens. Bytes may not hold NULs. */
struct exchange {
    const char *name;
    const char *steps[8]; /* ">..." request bytes, "<..." response bytes, "eof<", "skip<N" */
    const char *events;
};

static const struct exchange exchanges[] = {
    {"get",
     {">GET /x?y=1 HTTP/1.1\r\nHost: a:8080\r\nUser-Agent: curl/7.88\r\nAccept: */*\r\n\r\n",
      "<HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"},
     ">BEGIN@0 METHOD='GET' TARGET='/x?y=1' HOST='a:8080' USER_AGENT='curl/7.88' HEAD@73 1.1 END@73 body=0 <BEGIN@0 HEAD@38 1.1 "
     "200 END@41 body=3"},
    {"every field, any case",
     {">POST http://h/ HTTP/1.1\r\nhost:h\r\nFORWARDED: for=1\r\nX-Forwarded-For: 1, 2\r\nx-forwarded-proto:https\r\nTraceparent: "
      "00-1\r\n"
      "TRACEstate: a=1\r\ntracestate: b=2\r\nUpgrade: h2c\r\ncontent-length: 2\r\n\r\nok"},
     ">BEGIN@0 METHOD='POST' TARGET='http://h/' HOST='h' FORWARDED='for=1' X_FORWARDED_FOR='1, 2' X_FORWARDED_PROTO='https' "
     "TRACEPARENT='00-1' TRACESTATE='a=1' TRACESTATE='b=2' UPGRADE='h2c' HEAD@187 1.1 END@189 body=2"},
    {"names that only resemble",
     {">GET / HTTP/1.0\r\nHosts: a\r\nX-Host: b\r\nHos: c\r\nHost : d\r\nUser_Agent: e\r\nno colon\r\nX-Content-Length: 7\r\n: "
      "f\r\n\r\n"},
     ">BEGIN@0 METHOD='GET' TARGET='/' HEAD@108 1.0 END@108 body=0"},
    {"keep-alive",
     {">GET /1 HTTP/1.1\r\n\r\n", "<HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", ">GET /2 HTTP/1.1\r\n\r\n",
      "<HTTP/1.1 404 Not Found\r\nContent-Length: 1\r\n\r\nx"},
     ">BEGIN@0 METHOD='GET' TARGET='/1' HEAD@19 1.1 END@19 body=0 <BEGIN@0 HEAD@38 1.1 200 END@38 body=0 >BEGIN@19 METHOD='GET' "
     "TARGET='/2' HEAD@38 1.1 END@38 body=0 <BEGIN@38 HEAD@83 1.1 404 END@84 body=1"},
    {"pipelining; HEAD has no body",
     {">HEAD /1 HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\n\r\n",
      "<HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab"},
     ">BEGIN@0 METHOD='HEAD' TARGET='/1' HEAD@20 1.1 END@20 body=0 >BEGIN@20 METHOD='GET' TARGET='/2' HEAD@39 1.1 END@39 body=0 "
     "<BEGIN@0 HEAD@38 1.1 200 END@38 body=0 <BEGIN@38 HEAD@76 1.1 200 END@78 body=2"},
    {"chunks, extensions, trailers",
     {">POST / HTTP/1.1\r\nTransfer-Encoding: gzip , Chunked\r\nContent-Length: 5\r\n\r\n4;a=\"b\"\r\nabcd\r\n0A "
      "\r\n0123456789\r\n0\r\nHost: no\r\n\r\n",
      "<HTTP/1.1 200 OK\ntransfer-encoding:chunked\n\n1\nx\n000\n\n"},
     ">BEGIN@0 METHOD='POST' TARGET='/' HEAD@73 1.1 END@120 body=14 <BEGIN@0 HEAD@43 1.1 200 END@52 body=1"},
    {"interim responses",
     {">POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n", "<HTTP/1.1 100 Continue\r\n\r\n", ">ab",
      "<HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n"},
     ">BEGIN@0 METHOD='POST' TARGET='/' HEAD@60 1.1 <BEGIN@0 HEAD@25 1.1 100 END@25 body=0 interim >END@62 body=2 <BEGIN@25 "
     "HEAD@62 1.1 103 END@62 body=0 interim <BEGIN@62 HEAD@89 1.1 204 END@89 body=0"},
    {"not modified",
     {">GET / HTTP/1.1\r\n\r\n", "<HTTP/1.1 304 Not Modified\r\nContent-Length: 100\r\n\r\n"},
     ">BEGIN@0 METHOD='GET' TARGET='/' HEAD@18 1.1 END@18 body=0 <BEGIN@0 HEAD@50 1.1 304 END@50 body=0"},
    {"upgrade",
     {">GET /ws HTTP/1.1\r\nUpgrade: websocket\r\n\r\n",
      "<HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\x81\x05hello", ">\x81\x01x"},
     ">BEGIN@0 METHOD='GET' TARGET='/ws' UPGRADE='websocket' HEAD@40 1.1 END@40 body=0 <BEGIN@0 UPGRADE='websocket' HEAD@56 1.1 "
     "101 SWITCH@56"},
    {"upgrade refused",
     {">GET /ws HTTP/1.1\r\nUpgrade: websocket\r\n\r\n", "<HTTP/1.1 426 No\r\nContent-Length: 0\r\n\r\n"},
     ">BEGIN@0 METHOD='GET' TARGET='/ws' UPGRADE='websocket' HEAD@40 1.1 END@40 body=0 <BEGIN@0 HEAD@38 1.1 426 END@38 body=0"},
    {"connect",
     {">CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n\x16\x03\x01", "<HTTP/1.1 200 Established\r\n\r\n\x16\x03\x03", ">\x16"},
     ">BEGIN@0 METHOD='CONNECT' TARGET='h:443' HOST='h:443' HEAD@39 1.1 END@39 body=0 <BEGIN@0 HEAD@28 1.1 200 SWITCH@28"},
    {"connect refused, then another request",
     {">CONNECT h:443 HTTP/1.1\r\n\r\n", "<HTTP/1.1 407 Auth\r\nContent-Length: 0\r\n\r\n", ">GET / HTTP/1.1\r\n\r\n"},
     ">BEGIN@0 METHOD='CONNECT' TARGET='h:443' HEAD@26 1.1 END@26 body=0 <BEGIN@0 HEAD@40 1.1 407 END@40 body=0 >BEGIN@26 "
     "METHOD='GET' TARGET='/' HEAD@44 1.1 END@44 body=0"},
    {"connect refused, but the client spoke on",
     {">CONNECT h:443 HTTP/1.1\r\n\r\n\x16", "<HTTP/1.1 407 Auth\r\nContent-Length: 0\r\n\r\n"},
     ">BEGIN@0 METHOD='CONNECT' TARGET='h:443' HEAD@26 1.1 END@26 body=0 <BEGIN@0 HEAD@40 1.1 407 LOST"},
    {"until the connection closes",
     {">GET / HTTP/1.0\r\n\r\n", "<HTTP/1.0 200 OK\r\n\r\nhello", "skip<1000000", "eof<"},
     ">BEGIN@0 METHOD='GET' TARGET='/' HEAD@18 1.0 END@18 body=0 <BEGIN@0 HEAD@19 1.0 200 END@1000024 body=1000005"},
    {"another coding runs until close",
     {">GET / HTTP/1.1\r\n\r\n", "<HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\nContent-Length: 1\r\n\r\nhello", "eof<"},
     ">BEGIN@0 METHOD='GET' TARGET='/' HEAD@18 1.1 END@18 body=0 <BEGIN@0 HEAD@72 1.1 200 END@77 body=5"},
    {"identity is no coding",
     {">GET / HTTP/1.1\r\n\r\n", "<HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\nContent-Length: 1\r\n\r\nh"},
     ">BEGIN@0 METHOD='GET' TARGET='/' HEAD@18 1.1 END@18 body=0 <BEGIN@0 HEAD@67 1.1 200 END@68 body=1"},
    {"sendfile",
     {">GET / HTTP/1.1\r\n\r\n", "<HTTP/1.1 200 OK\r\nContent-Length: 4000000000\r\n\r\n", "skip<3999999999", "<x"},
     ">BEGIN@0 METHOD='GET' TARGET='/' HEAD@18 1.1 END@18 body=0 <BEGIN@0 HEAD@47 1.1 200 END@4000000047 body=4000000000"},
    {"sendfile beyond the content",
     {">GET / HTTP/1.1\r\n\r\n", "<HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n", "skip<5"},
     ">BEGIN@0 METHOD='GET' TARGET='/' HEAD@18 1.1 END@18 body=0 <BEGIN@0 HEAD@38 1.1 200 LOST"},
    {"bare LF, folded lines, empty lines before a request, blanks around",
     {">\r\n\nGET / HTTP/1.1 \nHost:\r\n a\n\tb \r\nUser-Agent: \t x y \r\n z\r\n\r\n",
      "<HTTP/1.1 200\r\nContent-Length:\r\n 1\r\n\r\nx"},
     ">BEGIN@3 METHOD='GET' TARGET='/' HOST='a b ' USER_AGENT='x y  z' HEAD@60 1.1 END@60 body=0 <BEGIN@0 HEAD@37 1.1 200 END@38 "
     "body=1"},
    {"CR inside a value",
     {">GET / HTTP/1.1\r\nHost: a\rb\r\r\n\r\n"},
     ">BEGIN@0 METHOD='GET' TARGET='/' HOST='a\\x0db\\x0d' HEAD@30 1.1 END@30 body=0"},
    {"empty values",
     {">GET / HTTP/1.1\r\nHost:\r\nUser-Agent: \r\nUpgrade:\n\r\n"},
     ">BEGIN@0 METHOD='GET' TARGET='/' HOST='' USER_AGENT='' UPGRADE='' HEAD@48 1.1 END@48 body=0"},
    {"asterisk and unknown method",
     {">M-SEARCH * HTTP/1.1\r\n\r\n"},
     ">BEGIN@0 METHOD='M-SEARCH' TARGET='*' HEAD@23 1.1 END@23 body=0"},
    {"the same length twice",
     {">POST / HTTP/1.1\r\nContent-Length: 2\r\nContent-Length: 2, 02\r\n\r\nab"},
     ">BEGIN@0 METHOD='POST' TARGET='/' HEAD@61 1.1 END@63 body=2"},
    {"refused before the request was complete",
     {">POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nabc", "<HTTP/1.1 413 No\r\nContent-Length: 0\r\n\r\n"},
     ">BEGIN@0 METHOD='POST' TARGET='/' HEAD@38 1.1 <BEGIN@0 HEAD@38 1.1 413 END@38 body=0"},
};

/* What is no HTTP/1, or cannot be framed for sure. */
static const char *const bad[] = {
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "GET /\r\n",
    "GET / HTTP/1.1x\r\n\r\n",
    "GET / HTTP/0.9\r\n\r\n",
    "GET  HTTP/1.1\r\n\r\n",
    "GET /a b HTTP/1.1\r\n\r\n",
    "G(T / HTTP/1.1\r\n\r\n",
    "THISMETHODISLONGERTHANTHIRTYTWOBYTES / HTTP/1.1\r\n\r\n",
    "\x16\x03\x01\x02",
    "GET / HTTP/1.1\r\n\rX",
    "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    "POST / HTTP/1.1\r\nContent-Length: +1\r\n\r\n",
    "POST / HTTP/1.1\r\nContent-Length: 1 2\r\n\r\n",
    "POST / HTTP/1.1\r\nContent-Length: 0x1\r\n\r\n",
    "POST / HTTP/1.1\r\nContent-Length:\r\n\r\n",
    "POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
    "POST / HTTP/1.1\r\nContent-Length : 1\r\n\r\n",
    "POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n",
    "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
    "POST / HTTP/1.1\r\nTransfer-Encoding: chunked, xchunked\r\n\r\n",
    "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
    "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
    "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
    "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
    "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n\r\n",
    "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n11111111111111111\r\n",
};

static struct events whole, cut;

/* Feeds the exchange; a piece ends at absolute positions (of all fed bytes) a and b, and at every multiple of `each` (0: none). */
static void play(struct events *e, const struct exchange *x, size_t a, size_t b, size_t each)
{
    events_init(e, &http1_ops);
    size_t at = 0;
    for (size_t i = 0; i < 8 && x->steps[i] != NULL; i++) {
        const char *step = x->steps[i];
        if (strncmp(step, "eof", 3) == 0) {
            events_eof(e, PROTO_RESPONSE);
        } else if (strncmp(step, "skip", 4) == 0) {
            events_skip(e, PROTO_RESPONSE, strtoull(step + 5, NULL, 10));
        } else {
            size_t len = strlen(step + 1), from = 0;
            for (size_t to = 1; to <= len; to++)
                if (to == len || at + to == a || at + to == b || (each && to % each == 0)) {
                    events_feed(e, *step == '>' ? PROTO_REQUEST : PROTO_RESPONSE, step + 1 + from, to - from);
                    from = to;
                }
            at += len;
        }
    }
}

static void same_at_every_cut(const struct exchange *x)
{
    size_t total = 0;
    for (size_t i = 0; i < 8 && x->steps[i] != NULL; i++)
        total += strlen(x->steps[i]);
    for (size_t a = 0; a <= total; a++)
        for (size_t b = a; b <= total; b += total > 120 ? 7 : 1) {
            play(&cut, x, a, b, 0);
            if (strcmp(cut.out, whole.out) != 0 || cut.violation != NULL)
                fail_msg("%s, cut at %zu and %zu: %s\n%s", x->name, a, b, cut.violation ? cut.violation : "other events", cut.out);
        }
    for (size_t each = 1; each < 5; each++) {
        play(&cut, x, 0, 0, each);
        assert_string_equal(cut.out, whole.out);
        assert_null(cut.violation);
    }
}

static void test_exchanges(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < sizeof exchanges / sizeof exchanges[0]; i++) {
        play(&whole, &exchanges[i], 0, 0, 0);
        if (strcmp(whole.out, exchanges[i].events) != 0)
            fail_msg("%s:\n     got %s\nexpected %s", exchanges[i].name, whole.out, exchanges[i].events);
        assert_null(whole.violation);
        same_at_every_cut(&exchanges[i]);
    }
}

static void test_bad(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char step[256];
        snprintf(step, sizeof step, ">%s", bad[i]);
        struct exchange x = {.name = bad[i], .steps = {step}};
        play(&whole, &x, 0, 0, 0);
        if (!whole.over || strstr(whole.out, "LOST") == NULL)
            fail_msg("taken for good: %s: %s", bad[i], whole.out);
        same_at_every_cut(&x);
    }
}

static void test_bad_responses(void **unused)
{
    (void)unused;
    static const char *const responses[] = {"<HTTP/1.1 2x0 OK\r\n",
                                            "<HTTP/1.1 099 OK\r\n",
                                            "<HTTP/1.1 2000 OK\r\n",
                                            "<HTTP/2 200\r\n",
                                            "<HTTP/1.1  200\r\n",
                                            "<ICY 200 OK\r\n",
                                            "<hello"};
    for (size_t i = 0; i < sizeof responses / sizeof responses[0]; i++) {
        struct exchange x = {.name = responses[i], .steps = {">GET / HTTP/1.1\r\n\r\n", responses[i]}};
        play(&whole, &x, 0, 0, 0);
        assert_non_null(strstr(whole.out, "LOST"));
        same_at_every_cut(&x);
    }
    struct exchange early = {.name = "to no request", .steps = {"<HTTP/1.1 408 Request Timeout\r\n\r\n"}};
    play(&whole, &early, 0, 0, 0);
    assert_string_equal(whole.out, "<LOST");
}

/* The bounds fall on the same byte, whole or byte by byte. */
static void test_bounds(void **unused)
{
    (void)unused;
    static char huge[400000], lines[8000];
    int n = sprintf(huge, "GET / HTTP/1.1\r\nX: ");
    memset(huge + n, 'x', 262144 - (size_t)n - 4);
    strcpy(huge + 262140, "\r\n\r\n");
    events_init(&whole, &http1_ops);
    events_feed(&whole, PROTO_REQUEST, huge, 262144);
    assert_non_null(strstr(whole.out, "END@262144"));
    huge[262140] = 'x';
    strcpy(huge + 262141, "\r\n\r\n");
    for (size_t each = 1; each < 300000; each *= 97) {
        events_init(&whole, &http1_ops);
        for (size_t at = 0; at < 262145; at += each)
            events_feed(&whole, PROTO_REQUEST, huge + at, 262145 - at < each ? 262145 - at : each);
        assert_non_null(strstr(whole.out, "LOST"));
    }
    for (int count = 999; count <= 1000; count++) {
        char *p = lines + sprintf(lines, "GET / HTTP/1.1\r\n");
        for (int i = 0; i < count; i++)
            p += sprintf(p, "a:b\r\n");
        strcpy(p, "\r\n");
        events_init(&whole, &http1_ops);
        events_feed(&whole, PROTO_REQUEST, lines, strlen(lines));
        assert_true((strstr(whole.out, "LOST") != NULL) == (count == 1000));
    }
}

static void test_pipeline_bound(void **unused)
{
    (void)unused;
    static const char request[] = "GET / HTTP/1.1\r\n\r\n";
    events_init(&whole, &http1_ops);
    for (int i = 0; i < 64; i++)
        events_feed(&whole, PROTO_REQUEST, request, sizeof request - 1);
    assert_false(whole.over);
    events_feed(&whole, PROTO_REQUEST, request, sizeof request - 1);
    assert_true(whole.over);
}

/* A copy of the state is a parser of its own: the writer looks ahead with it. */
static void test_copy(void **unused)
{
    (void)unused;
    events_init(&whole, &http1_ops);
    events_feed(&whole, PROTO_REQUEST, "GET / HTTP/1.1\r\nHo", 18);
    memcpy(&cut, &whole, sizeof whole);
    events_feed(&cut, PROTO_REQUEST, "st: b\r\n\r\n", 9);
    events_feed(&whole, PROTO_REQUEST, "st: a\r\n\r\n", 9);
    assert_non_null(strstr(cut.out, "HOST='b' HEAD@27"));
    assert_non_null(strstr(whole.out, "HOST='a' HEAD@27"));
    assert_true(whole.insert_here);
}

static void test_insert_at(void **unused)
{
    (void)unused;
    static const char request[] = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    for (size_t at = 1; at < sizeof request - 1; at++) {
        events_init(&whole, &http1_ops);
        events_feed(&whole, PROTO_REQUEST, request, at);
        events_feed(&whole, PROTO_REQUEST, request + at, sizeof request - 1 - at);
        assert_int_equal(whole.insert_at, 25);
        assert_int_equal(whole.insert_here, at <= 25);
    }
}

static void test_detect(void **unused)
{
    (void)unused;
    static const struct {
        enum proto_dir dir;
        const char *bytes;
        enum proto_match match;
    } cases[] = {
        {PROTO_REQUEST, "", PROTO_MAYBE},
        {PROTO_REQUEST, "G", PROTO_MAYBE},
        {PROTO_REQUEST, "GET ", PROTO_MAYBE},
        {PROTO_REQUEST, "GET /", PROTO_YES},
        {PROTO_REQUEST, "GET /x HTTP/1.1\r\n", PROTO_YES},
        {PROTO_REQUEST, "\r\nGET /x HTTP/1.1\r\n", PROTO_YES},
        {PROTO_REQUEST, "GET http:/", PROTO_MAYBE},
        {PROTO_REQUEST, "GET http://", PROTO_YES},
        {PROTO_REQUEST, "OPTIONS * HTTP/1", PROTO_MAYBE},
        {PROTO_REQUEST, "OPTIONS * HTTP/1.1", PROTO_YES},
        {PROTO_REQUEST, "CONNECT h:443 HTTP/1.1\r\n", PROTO_YES},
        {PROTO_REQUEST, "PROPFIND /a HTTP/1.1\r\n", PROTO_YES},
        {PROTO_REQUEST, "PROPFIND /a", PROTO_MAYBE},
        {PROTO_REQUEST, "BASELINE-CONTROL", PROTO_MAYBE},
        {PROTO_REQUEST, "BASELINE-CONTROLX", PROTO_NO},
        {PROTO_REQUEST, "PRI * HTTP/2.0\r\n", PROTO_NO},
        {PROTO_REQUEST, "GET\r\n", PROTO_NO},
        {PROTO_REQUEST, "GET /key\r\n", PROTO_NO},
        {PROTO_REQUEST, "GET hello\r\n", PROTO_NO},
        {PROTO_REQUEST, "SET a b\r\n", PROTO_NO},
        {PROTO_REQUEST, "PING\r\n", PROTO_NO},
        {PROTO_REQUEST, "*1\r\n$4\r\nPING\r\n", PROTO_NO},
        {PROTO_REQUEST, "EHLO mail.example\r\n", PROTO_NO},
        {PROTO_REQUEST, "MAIL FROM:<a@b> SIZE=1\r\n", PROTO_NO},
        {PROTO_REQUEST, "CONNECT {\"verbose\":false}\r\n", PROTO_NO},
        {PROTO_REQUEST, "OPTIONS rtsp://h RTSP/1.0\r\n", PROTO_NO},
        {PROTO_REQUEST, "\x16\x03\x01", PROTO_NO},
        {PROTO_REQUEST, "\x03", PROTO_NO},
        {PROTO_RESPONSE, "HTTP/1.1 200", PROTO_YES},
        {PROTO_RESPONSE, "HTTP/", PROTO_MAYBE},
        {PROTO_RESPONSE, "HTTP/2 200", PROTO_NO},
        {PROTO_RESPONSE, "+PONG\r\n", PROTO_NO},
        {PROTO_RESPONSE, "220 mail.example ESMTP\r\n", PROTO_NO},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        if (http1_ops.detect(cases[i].dir, cases[i].bytes, strlen(cases[i].bytes)) != cases[i].match)
            fail_msg("detect(\"%s\") is not %d", cases[i].bytes, cases[i].match);
    assert_int_equal(http1_ops.detect(PROTO_REQUEST, "\0\0\0\x08\x04\xd2\x16\x2f", 8), PROTO_NO); /* PostgreSQL's SSLRequest */
}

/* However long the target is and wherever the bytes are cut: never "no", and "yes" as soon as the target has begun (a common method) or
 * the version is complete (any). A connection is given up for good on a "maybe" that does not fit what is kept of it. */
static void test_detect_at_every_length(void **unused)
{
    (void)unused;
    static const char *const methods[] = {"GET", "POST", "DELETE", "PROPFIND"};
    char line[300];
    for (size_t m = 0; m < sizeof methods / sizeof methods[0]; m++) {
        for (int target = 1; target < 120; target++) {
            int len = snprintf(line, sizeof line, "%s /%.*s HTTP/1.1\r\n", methods[m], target - 1,
                               "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
                               "aaaaaaaaaaaaaaaaaaaaaaaaaa");
            int sure = m < 3 ? (int)strlen(methods[m]) + 2 : len - 3;
            for (int given = 1; given <= len; given++) {
                enum proto_match match = http1_ops.detect(PROTO_REQUEST, line, (size_t)given);
                if (match != (given < sure ? PROTO_MAYBE : PROTO_YES))
                    fail_msg("detect(\"%.*s\") is %d", given, line, match);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exchanges),
        cmocka_unit_test(test_bad),
        cmocka_unit_test(test_bad_responses),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_pipeline_bound),
        cmocka_unit_test(test_copy),
        cmocka_unit_test(test_insert_at),
        cmocka_unit_test(test_detect),
        cmocka_unit_test(test_detect_at_every_length),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
