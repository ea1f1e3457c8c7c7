/* test_preload_fastcgi.c - what the FastCGI parser says about made-up and recorded exchanges, and that it says the same at every cut. */
#include "proto_events.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

extern const struct proto_ops fastcgi_ops;

/* A record, or several bytes of none (type 0). In the content \\376 stands for a NUL; that of
 * BEGIN_REQUEST and END_REQUEST is made here. */
struct record {
    char dir; /* > or <; 0 ends the list */
    uint8_t type;
    uint16_t id;
    const char *content;
    uint8_t padding;
};

enum { BEGIN = 1, ABORT, END, PARAMS, STDIN, STDOUT, STDERR, DATA, GET_VALUES, VALUES, UNKNOWN };

/* Content of BEGIN_REQUEST: role and flags; kept connections unless it says "closed". */
#define RESPONDER "responder"
#define CLOSED "closed"
#define AUTHORIZER "authorizer"
#define FILTER "filter"

struct exchange {
    const char *name;
    struct record records[16];
    const char *events;
};

#define GET "\016\003REQUEST_METHODGET"
#define URI "\013\004REQUEST_URI/x?y"

static const struct exchange exchanges[] = {
    {"get",
     {{'>', BEGIN, 1, CLOSED, 0},
      {'>', PARAMS, 1, GET URI "\011\003HTTP_HOSTa:1\016\376CONTENT_LENGTH", 5},
      {'>', PARAMS, 1, "", 0},
      {'>', STDIN, 1, "", 0},
      {'<', STDOUT, 1, "Content-type: text/html\r\n\r\nhello", 0},
      {'<', END, 1, "", 0}},
     ">BEGIN@0 METHOD='GET' TARGET='/x?y' HOST='a:1' HEAD@103 1.0 id=1 END@111 body=0 <BEGIN@0 HEAD@35 1.0 200 END@56 body=5 last"},
    {"content ends where its length says; the end of STDIN is nobody's",
     {{'>', BEGIN, 259, RESPONDER, 0},
      {'>', PARAMS, 259, GET "\016\001CONTENT_LENGTH5", 0},
      {'>', PARAMS, 259, "", 8},
      {'>', STDIN, 259, "abc", 5},
      {'>', STDIN, 259, "de", 6},
      {'<', STDOUT, 259, "Status: 404 Not Found\n\nx", 0},
      {'<', STDOUT, 259, "", 0},
      {'<', END, 259, "", 0},
      {'>', STDIN, 259, "", 0}},
     ">BEGIN@0 METHOD='GET' HEAD@76 1.0 id=259 END@108 body=5 <BEGIN@0 HEAD@31 1.0 404 END@56 body=1"},
    {"no content at all",
     {{'>', BEGIN, 1, RESPONDER, 0},
      {'>', PARAMS, 1, "\016\001CONTENT_LENGTH0", 0},
      {'>', PARAMS, 1, "", 0},
      {'>', STDIN, 1, "", 0}},
     ">BEGIN@0 HEAD@49 1.0 id=1 END@49 body=0"},
    {"a length that is none",
     {{'>', BEGIN, 1, RESPONDER, 0},
      {'>', PARAMS, 1, "\016\002CONTENT_LENGTH1x", 0},
      {'>', PARAMS, 1, "", 0},
      {'>', STDIN, 1, "ab", 0},
      {'>', STDIN, 1, "", 0}},
     ">BEGIN@0 HEAD@50 1.0 id=1 END@68 body=2"},
    {"pairs take no notice of records",
     {{'>', BEGIN, 1, RESPONDER, 1},
      {'>', PARAMS, 1, "\016", 1},
      {'>', PARAMS, 1, "\003REQUEST_MET", 2},
      {'>', PARAMS, 1, "HODP", 3},
      {'>', PARAMS, 1, "UT", 4},
      {'>', PARAMS, 1, "", 5}},
     ">BEGIN@0 METHOD='PUT' HEAD@91 1.0 id=1"},
    {"every variable; the later one counts",
     {{'>', BEGIN, 1, RESPONDER, 0},
      {'>', PARAMS, 1,
       "\013\002SCRIPT_NAME/"
       "s\014\003QUERY_STRINGa=b\013\001SERVER_NAME_\013\001SERVER_NAMEn\013\007REMOTE_ADDR1.2.3.4\016\005REQUEST_"
       "SCHEMEhttps",
       0},
      {'>', PARAMS, 1,
       "\017\001HTTP_USER_AGENTu\016\001HTTP_FORWARDEDf\024\001HTTP_X_FORWARDED_FORg\026\001HTTP_X_FORWARDED_PROTOh\020\001HTTP_"
       "TRACEPARENTi\017\001HTTP_TRACESTATEj\020\001HTTP_TRACEPARENTk",
       0},
      {'>', PARAMS, 1, "\020\001HTTP_TRACEPARENX1\021\001HTTP_TRACEPARENTT2\001\001X3\005\001HTTP_4", 0},
      {'>', PARAMS, 1, "", 0}},
     ">BEGIN@0 SCRIPT_NAME='/s' QUERY_STRING='a=b' SERVER_NAME='n' REMOTE_ADDR='1.2.3.4' SCHEME='https' USER_AGENT='u' "
     "FORWARDED='f' X_FORWARDED_FOR='g' X_FORWARDED_PROTO='h' TRACEPARENT='i' TRACESTATE='j' TRACEPARENT='k' HEAD@339 1.0 id=1"},
    {"header lines in pieces, a redirect",
     {{'>', BEGIN, 1, RESPONDER, 0},
      {'>', PARAMS, 1, "", 0},
      {'<', STDOUT, 1, "Locat", 0},
      {'<', STDOUT, 1, "ion: /x\r", 0},
      {'<', STDERR, 1, "oh", 6},
      {'<', STDOUT, 1, "\n\r", 0},
      {'<', STDOUT, 1, "\nbody", 0},
      {'<', END, 1, "", 3}},
     ">BEGIN@0 HEAD@24 1.0 id=1 <BEGIN@0 ERROR_TEXT='oh' HEAD@64 1.0 302 END@87 body=4"},
    {"statuses that are none, and one",
     {{'>', BEGIN, 1, RESPONDER, 0},
      {'>', PARAMS, 1, "", 0},
      {'<', STDOUT, 1, "X-Status: 999\nStatus: 20\nStatus: 2000\nStatus\nStatuses: 404\nSTATUS:\t 503\nlocation : x\n\n", 0},
      {'<', END, 1, "", 0}},
     ">BEGIN@0 HEAD@24 1.0 id=1 <BEGIN@0 HEAD@94 1.0 503 END@110 body=0"},
    {"no response but its end; two requests on a connection",
     {{'>', BEGIN, 1, RESPONDER, 0},
      {'>', PARAMS, 1, "", 0},
      {'>', STDIN, 1, "", 0},
      {'<', END, 1, "", 0},
      {'>', BEGIN, 1, RESPONDER, 0},
      {'>', PARAMS, 1, "", 0},
      {'>', STDIN, 1, "", 0},
      {'<', STDOUT, 1, "\n", 0},
      {'<', END, 1, "", 0}},
     ">BEGIN@0 HEAD@24 1.0 id=1 END@32 body=0 <BEGIN@0 END@16 body=0 >BEGIN@32 HEAD@56 1.0 id=1 END@64 body=0 <BEGIN@16 HEAD@25 "
     "1.0 200 END@41 body=0"},
    {"answered before it was over, and not gone on with",
     {{'>', BEGIN, 1, RESPONDER, 0},
      {'>', PARAMS, 1, "", 0},
      {'>', STDIN, 1, "abc", 0},
      {'<', STDOUT, 1, "Status: 413\n\n", 0},
      {'<', END, 1, "", 0},
      {'>', BEGIN, 2, RESPONDER, 0},
      {'>', STDIN, 1, "late", 0},
      {'>', PARAMS, 2, "", 0}},
     ">BEGIN@0 HEAD@24 1.0 id=1 <BEGIN@0 HEAD@21 1.0 413 END@37 body=0 >END@35 body=3 >BEGIN@35 HEAD@71 1.0 id=2"},
    {"aborted", {{'>', BEGIN, 1, RESPONDER, 0}, {'>', ABORT, 1, "", 0}, {'<', END, 1, "", 0}}, ">BEGIN@0 <BEGIN@0 END@16 body=0"},
    {"management",
     {{'>', GET_VALUES, 0, "\017\001FCGI_MPXS_CONNSx", 7},
      {'<', VALUES, 0, "\017\001FCGI_MPXS_CONNS0", 6},
      {'>', 77, 0, "what", 0},
      {'<', UNKNOWN, 0, "Mxxxxxxx", 0},
      {'>', BEGIN, 1, RESPONDER, 0}},
     ">BEGIN@45"},
    {"authorizer: no content",
     {{'>', BEGIN, 1, AUTHORIZER, 0}, {'>', PARAMS, 1, "", 0}, {'<', STDOUT, 1, "\n", 0}, {'<', END, 1, "", 0}},
     ">BEGIN@0 HEAD@24 1.0 id=1 END@24 body=0 <BEGIN@0 HEAD@9 1.0 200 END@25 body=0"},
    {"filter: STDIN, then DATA",
     {{'>', BEGIN, 1, FILTER, 0},
      {'>', PARAMS, 1, "", 0},
      {'>', STDIN, 1, "ab", 0},
      {'>', STDIN, 1, "", 0},
      {'>', DATA, 1, "cde", 0},
      {'>', DATA, 1, "", 0}},
     ">BEGIN@0 HEAD@24 1.0 id=1 END@61 body=5"},
    /* what is given up */
    {"multiplexed", {{'>', BEGIN, 1, RESPONDER, 0}, {'>', BEGIN, 2, RESPONDER, 0}}, ">BEGIN@0 LOST"},
    {"an answer to another request", {{'>', BEGIN, 1, RESPONDER, 0}, {'<', STDOUT, 2, "x", 0}}, ">BEGIN@0 <LOST"},
    {"an answer to none", {{'<', STDOUT, 1, "x", 0}}, "<LOST"},
    {"PARAMS after PARAMS",
     {{'>', BEGIN, 1, RESPONDER, 0}, {'>', PARAMS, 1, "", 0}, {'>', PARAMS, 1, "", 0}},
     ">BEGIN@0 HEAD@24 1.0 id=1 LOST"},
    {"PARAMS ends in a name",
     {{'>', BEGIN, 1, RESPONDER, 0}, {'>', PARAMS, 1, "\002\001a", 0}, {'>', PARAMS, 1, "", 0}},
     ">BEGIN@0 LOST"},
    {"PARAMS ends in a length",
     {{'>', BEGIN, 1, RESPONDER, 0}, {'>', PARAMS, 1, "\377", 0}, {'>', PARAMS, 1, "", 0}},
     ">BEGIN@0 LOST"},
    {"content before PARAMS is over", {{'>', BEGIN, 1, RESPONDER, 0}, {'>', STDIN, 1, "a", 0}}, ">BEGIN@0 LOST"},
    {"a record of a type for the other direction", {{'>', BEGIN, 1, RESPONDER, 0}, {'>', STDOUT, 1, "a", 0}}, ">BEGIN@0 LOST"},
    {"request 0", {{'>', BEGIN, 0, RESPONDER, 0}}, ">LOST"},
    {"not FastCGI", {{'>', 0, 0, "GET / HTTP/1.1\r\n\r\n", 0}}, ">LOST"},
};

static struct events whole, cut;

/* The bytes of a record. */
static size_t encode(const struct record *record, char *out)
{
    char content[65536];
    size_t len = strlen(record->content);
    for (size_t i = 0; i < len; i++)
        content[i] = record->content[i] == '\376' ? '\0' : record->content[i]; /* a NUL cannot stand in the text */
    if (record->type == 0) {
        memcpy(out, content, len);
        return len;
    }
    if (record->type == BEGIN || record->type == END) {
        memset(content, 0, 8);
        len = 8;
        if (record->type == BEGIN) {
            content[1] = strcmp(record->content, AUTHORIZER) == 0 ? 2 : strcmp(record->content, FILTER) == 0 ? 3 : 1;
            content[2] = strcmp(record->content, CLOSED) != 0;
        }
    }
    const unsigned char header[8] = {1,
                                     record->type,
                                     (unsigned char)(record->id >> 8),
                                     (unsigned char)record->id,
                                     (unsigned char)(len >> 8),
                                     (unsigned char)len,
                                     record->padding,
                                     0};
    memcpy(out, header, 8);
    memcpy(out + 8, content, len);
    memset(out + 8 + len, '~', record->padding);
    return 8 + len + record->padding;
}

static void play(struct events *e, const struct record *records, size_t piece, size_t first)
{
    static char bytes[70000];
    events_init(e, &fastcgi_ops);
    for (; records->dir != 0; records++) {
        enum proto_dir dir = records->dir == '<' ? PROTO_RESPONSE : PROTO_REQUEST;
        size_t len = encode(records, bytes);
        for (size_t at = 0; at < len;) {
            size_t n = at == 0 && first > 0 ? first : piece;
            n = n < len - at ? n : len - at;
            events_feed(e, dir, bytes + at, n);
            at += n;
        }
    }
}

static void check(const struct exchange *exchange, size_t piece, size_t first)
{
    play(&cut, exchange->records, piece, first);
    if (cut.violation != NULL || strcmp(cut.out, exchange->events) != 0)
        fail_msg("%s (%zu, %zu): %s\n  got      %s\n  expected %s", exchange->name, piece, first,
                 cut.violation ? cut.violation : "", cut.out, exchange->events);
}

static void test_exchanges(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < sizeof exchanges / sizeof *exchanges; i++) {
        check(&exchanges[i], SIZE_MAX / 2, 0);
        for (size_t piece = 1; piece < 12; piece++)
            check(&exchanges[i], piece, 0);
        for (size_t first = 1; first < 140; first++)
            check(&exchanges[i], SIZE_MAX / 2, first);
    }
}

/* ---- recorded ------------------------------------------------------------------------------------------------------------------------- */

#define CORPUS "tests/fuzz/corpus/fuzz_preload_fastcgi/"

struct recording {
    struct {
        enum proto_dir dir;
        const char *bytes;
        size_t len;
    } block[4096];
    size_t blocks;
    char bytes[1 << 20];
};

/* As the fuzzer reads it. */
static void load(struct recording *r, const char *name)
{
    char path[512];
    snprintf(path, sizeof path, CORPUS "%s", name);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    size_t size = fread(r->bytes, 1, sizeof r->bytes, f);
    fclose(f);
    r->blocks = 0;
    for (size_t at = 1; at + 2 <= size;) {
        const unsigned char *head = (unsigned char *)r->bytes + at;
        size_t len = (size_t)head[1] * ((head[0] >> 1 & 3) == 0 ? 4 : 1);
        len = len < size - at - 2 ? len : size - at - 2;
        if ((head[0] >> 1 & 3) < 2) {
            r->block[r->blocks].dir = (enum proto_dir)(head[0] & 1);
            r->block[r->blocks].bytes = r->bytes + at + 2;
            r->block[r->blocks++].len = len;
            at += len;
        }
        at += 2;
    }
}

static void replay(struct events *e, const struct recording *r, size_t piece, size_t cut_block, size_t cut_at)
{
    events_init(e, &fastcgi_ops);
    for (size_t b = 0; b < r->blocks; b++)
        for (size_t at = 0; at < r->block[b].len;) {
            size_t n = b == cut_block && at == 0 ? cut_at : piece;
            n = n < r->block[b].len - at ? n : r->block[b].len - at;
            events_feed(e, r->block[b].dir, r->block[b].bytes + at, n);
            at += n;
        }
}

static size_t count(const char *text, const char *what)
{
    size_t n = 0;
    for (; (text = strstr(text, what)) != NULL; text++)
        n++;
    return n;
}

/* What nginx, Apache, PHP-FPM and fcgiwrap said to each other (tests/fuzz/record_fastcgi.py): each is followed to its end. */
static void test_recorded(void **unused)
{
    (void)unused;
    static struct recording r;
    DIR *dir = opendir(CORPUS);
    assert_non_null(dir);
    size_t recordings = 0;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        if (strncmp(entry->d_name, "recorded-", 9) != 0)
            continue;
        recordings++;
        load(&r, entry->d_name);
        replay(&whole, &r, SIZE_MAX / 2, SIZE_MAX, 0);
        if (whole.violation != NULL || strstr(whole.out, "LOST") != NULL || count(whole.out, "BEGIN@") < 2 ||
            count(whole.out, "BEGIN@") != count(whole.out, "END@") || strstr(whole.out, "METHOD='") == NULL)
            fail_msg("%s: %s\n%s", entry->d_name, whole.violation ? whole.violation : "", whole.out);
        size_t step = whole.fed[0] + whole.fed[1] > 20000 ? 97 : 1;
        for (size_t b = 0; b < r.blocks; b++)
            for (size_t at = 1; at < r.block[b].len; at += step) {
                replay(&cut, &r, SIZE_MAX / 2, b, at);
                if (cut.violation != NULL || strcmp(cut.out, whole.out) != 0)
                    fail_msg("%s, cut at %zu of block %zu: %s\n%s\n%s", entry->d_name, at, b, cut.violation ? cut.violation : "",
                             cut.out, whole.out);
            }
        replay(&cut, &r, 1, SIZE_MAX, 0);
        assert_null(cut.violation);
        assert_string_equal(cut.out, whole.out);
    }
    closedir(dir);
    assert_true(recordings >= 5);
}

/* ---- beyond single records ---------------------------------------------------------------------------------------------------------------- */

static void put_record(struct events *e, enum proto_dir dir, uint8_t type, const char *content, size_t len)
{
    const char header[8] = {1, (char)type, 0, 1, (char)(len >> 8), (char)len, 0, 0};
    events_feed(e, dir, header, 8);
    if (len > 0)
        events_feed(e, dir, content, len);
}

/* PARAMS of 300 kB, of which one value is 200 kB: lengths of four bytes, values over several records, and bounded state. */
static void test_large_params(void **unused)
{
    (void)unused;
    static char pairs[300000];
    char *p = pairs;
    const uint32_t lens[2] = {200000, 90000};
    for (int i = 0; i < 2; i++) {
        const unsigned char head[] = {11, (unsigned char)(0x80 | lens[i] >> 24), (unsigned char)(lens[i] >> 16),
                                      (unsigned char)(lens[i] >> 8), (unsigned char)lens[i]};
        memcpy(p, head, 5);
        memcpy(p + 5, i == 0 ? "HTTP_COOKIE" : "REQUEST_URI", 11);
        memset(p + 16, 'a' + i, lens[i]);
        p += 16 + lens[i];
    }
    events_init(&whole, &fastcgi_ops);
    put_record(&whole, PROTO_REQUEST, BEGIN, "\0\1\0\0\0\0\0\0", 8);
    for (char *at = pairs; at < p; at += 60001)
        put_record(&whole, PROTO_REQUEST, PARAMS, at, p - at < 60001 ? (size_t)(p - at) : 60001);
    put_record(&whole, PROTO_REQUEST, PARAMS, "", 0);
    assert_null(whole.violation);
    assert_non_null(strstr(whole.out, "TARGET='bbbb"));
}

static void test_skipped(void **unused)
{
    (void)unused;
    events_init(&whole, &fastcgi_ops);
    put_record(&whole, PROTO_REQUEST, BEGIN, "\0\1\0\0\0\0\0\0", 8);
    put_record(&whole, PROTO_REQUEST, PARAMS, "", 0);
    events_feed(&whole, PROTO_REQUEST, "\1\5\0\1\200\0\10\0", 8); /* 32768 bytes and 8 of padding, by sendfile */
    events_skip(&whole, PROTO_REQUEST, 32767);
    events_skip(&whole, PROTO_REQUEST, 9);
    put_record(&whole, PROTO_REQUEST, STDIN, "", 0);
    events_feed(&whole, PROTO_RESPONSE, "\1\6\0\1\0\12\0\0\n\n", 10);
    events_skip(&whole, PROTO_RESPONSE, 8);
    put_record(&whole, PROTO_RESPONSE, END, "\0\0\0\0\0\0\0\0", 8);
    assert_null(whole.violation);
    assert_string_equal(whole.out, ">BEGIN@0 HEAD@24 1.0 id=1 END@32816 body=32768 <BEGIN@0 HEAD@9 1.0 200 END@34 body=9 last");
    put_record(&whole, PROTO_REQUEST, BEGIN, "\0\1\0\0\0\0\0\0", 8);
    events_skip(&whole, PROTO_REQUEST, 8);
    assert_non_null(strstr(whole.out, "LOST"));
}

/* ---- what is put in ------------------------------------------------------------------------------------------------------------------------ */

static void test_inject(void **unused)
{
    (void)unused;
    static const char parent[] = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    char state[OTSHIM_TRACESTATE_MAX], out[1024];
    memset(state, 's', sizeof state);
    static const size_t lens[] = {0, 1, 127, 128, 300, 512};
    for (size_t i = 0; i < sizeof lens / sizeof *lens; i++) {
        const struct proto_carried carried = {
            .stream = 259, .parent = parent, .parent_len = sizeof parent - 1, .state = state, .state_len = lens[i]};
        size_t len = fastcgi_ops.inject(&carried, out, sizeof out);
        assert_true(len > 0);
        events_init(&whole, &fastcgi_ops);
        events_feed(&whole, PROTO_REQUEST, "\1\1\1\3\0\10\0\0\0\1\0\0\0\0\0\0", 16);
        events_feed(&whole, PROTO_REQUEST, out, len);
        events_feed(&whole, PROTO_REQUEST, "\1\4\1\3\0\0\0\0", 8);
        assert_null(whole.violation);
        char expected[1024];
        snprintf(expected, sizeof expected, ">BEGIN@0 TRACEPARENT='%s'%s%.*s%s HEAD@%zu 1.0 id=259", parent,
                 lens[i] > 0 ? " TRACESTATE='" : "", (int)lens[i], state, lens[i] > 0 ? "'" : "", 24 + len);
        assert_string_equal(whole.out, expected);
        for (size_t room = 0; room < len; room++) {
            memset(out, '#', sizeof out);
            size_t less = fastcgi_ops.inject(&carried, out, room);
            assert_true(less == 0 || less == 81); /* without the state */
            assert_true(out[room] == '#');
        }
    }
}

static void test_detect(void **unused)
{
    (void)unused;
    static const struct {
        const char *bytes;
        size_t len;
        enum proto_match match;
    } cases[] = {
        {"", 0, PROTO_MAYBE},
        {"\1", 1, PROTO_MAYBE},
        {"\1\1\0\1\0\10\0\0", 8, PROTO_MAYBE},
        {"\1\1\0\1\0\10\0\0\0\1\0", 11, PROTO_YES},
        {"\1\1\7\7\0\10\7\7\0\3\1", 11, PROTO_YES},
        {"\1\1\0\1\0\10\0\0\0\4\0", 11, PROTO_NO},
        {"\1\1\0\1\0\10\0\0\0\1\2", 11, PROTO_NO},
        {"\1\1\0\1\0\11", 6, PROTO_NO},
        {"\1\2", 2, PROTO_NO},
        {"\1\11\0\0\0\21\7\0", 8, PROTO_MAYBE},
        {"\1\11\0\0\0\21\7\0\17\0FCGI_", 15, PROTO_YES},
        {"\1\11\0\0\0\21\7\0\17\0FCGX_", 15, PROTO_NO},
        {"G", 1, PROTO_NO},
        {"\x16\x03\x01", 3, PROTO_NO},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(fastcgi_ops.detect(PROTO_REQUEST, cases[i].bytes, cases[i].len), cases[i].match);
        assert_int_equal(fastcgi_ops.detect(PROTO_RESPONSE, cases[i].bytes, cases[i].len), PROTO_NO);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exchanges), cmocka_unit_test(test_recorded), cmocka_unit_test(test_large_params),
        cmocka_unit_test(test_skipped),   cmocka_unit_test(test_inject),   cmocka_unit_test(test_detect),
    };
    return cmocka_run_group_tests_name("preload_fastcgi", tests, NULL, NULL);
}
