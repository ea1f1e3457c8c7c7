/* test_preload_resp.c - what the parser of Redis' protocol says about made-up and recorded exchanges, and that it says the same at every cut. */
#include "proto_events.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

extern const struct proto_ops resp_ops;

struct exchange {
    const char *name;
    const char *pieces[12]; /* the first character is the direction */
    const char *events;
};

#define PING ">*1\r\n$4\r\nPING\r\n"
#define PING_PING PING "*1\r\n$4\r\nPING\r\n"
#define PINGS_2 PINGS ">BEGIN@14 METHOD='PING' ARGUMENTS='0' DB='0' HEAD@28 0.0 END@28 body=0 "
#define PINGS ">BEGIN@0 METHOD='PING' ARGUMENTS='0' DB='0' HEAD@14 0.0 END@14 body=0 "

static const struct exchange exchanges[] = {
    {"a value and its key",
     {">*3\r\n$3\r\nSET\r\n$3\r\na:1\r\n$6\r\nsecret\r\n", "<+OK\r\n"},
     ">BEGIN@0 METHOD='SET' ARGUMENTS='2' DB='0' KEY='a:1' HEAD@34 0.0 END@34 body=0 <BEGIN@0 HEAD@5 0.0 ok END@5 body=0"},
    {"a pipeline",
     {PING "*2\r\n$3\r\nget\r\n$0\r\n\r\n", "<+PONG\r\n$-1\r\n"},
     PINGS ">BEGIN@14 METHOD='get' ARGUMENTS='1' DB='0' KEY='' HEAD@33 0.0 END@33 body=0 "
           "<BEGIN@0 HEAD@7 0.0 ok END@7 body=0 <BEGIN@7 HEAD@12 0.0 ok END@12 body=0"},
    {"subcommands",
     {">*3\r\n$6\r\nCONFIG\r\n$3\r\nGET\r\n$1\r\n*\r\n", ">*3\r\n$6\r\nOBJECT\r\n$4\r\nFREQ\r\n$1\r\nk\r\n",
      ">*2\r\n$6\r\nCLIENT\r\n$2\r\nx!\r\n", ">*1\r\n$7\r\nCOMMAND\r\n"},
     ">BEGIN@0 METHOD='CONFIG GET' ARGUMENTS='1' DB='0' HEAD@32 0.0 END@32 body=0 "
     ">BEGIN@32 METHOD='OBJECT FREQ' ARGUMENTS='1' DB='0' KEY='k' HEAD@65 0.0 END@65 body=0 "
     ">BEGIN@65 METHOD='CLIENT' ARGUMENTS='0' DB='0' HEAD@89 0.0 END@89 body=0 "
     ">BEGIN@89 METHOD='COMMAND' ARGUMENTS='0' DB='0' HEAD@106 0.0 END@106 body=0"},
    {"nothing of a password",
     {">*2\r\n$4\r\nAUTH\r\n$2\r\npw\r\n", ">*4\r\n$6\r\nconfig\r\n$3\r\nset\r\n$11\r\nrequirepass\r\n$2\r\npw\r\n",
      ">*3\r\n$3\r\nACL\r\n$7\r\nSETUSER\r\n$2\r\npw\r\n"},
     ">BEGIN@0 METHOD='AUTH' DB='0' HEAD@22 0.0 END@22 body=0 "
     ">BEGIN@22 METHOD='config set' DB='0' HEAD@73 0.0 END@73 body=0 "
     ">BEGIN@73 METHOD='ACL SETUSER' DB='0' HEAD@107 0.0 END@107 body=0"},
    {"an unknown command has no key, what is none no name",
     {">*2\r\n$6\r\nSECRET\r\n$1\r\na\r\n", ">*2\r\n$4\r\na b!\r\n$1\r\na\r\n",
      ">*1\r\n$40\r\n0123456789012345678901234567890123456789\r\n"},
     ">BEGIN@0 METHOD='SECRET' ARGUMENTS='1' DB='0' HEAD@23 0.0 END@23 body=0 >BEGIN@23 DB='0' HEAD@44 0.0 END@44 body=0 "
     ">BEGIN@44 DB='0' HEAD@95 0.0 END@95 body=0"},
    {"the database",
     {">*2\r\n$6\r\nSELECT\r\n$2\r\n12\r\n", "<+OK\r\n", PING, "<+PONG\r\n", ">*2\r\n$6\r\nSELECT\r\n$2\r\n99\r\n",
      "<-ERR DB index is out of range\r\n", ">*1\r\n$4\r\nQUIT\r\n", ">*1\r\n$5\r\nRESET\r\n", PING},
     ">BEGIN@0 METHOD='SELECT' ARGUMENTS='1' DB='0' HEAD@24 0.0 END@24 body=0 <BEGIN@0 HEAD@5 0.0 ok END@5 body=0 "
     ">BEGIN@24 METHOD='PING' ARGUMENTS='0' DB='12' HEAD@38 0.0 END@38 body=0 <BEGIN@5 HEAD@12 0.0 ok END@12 body=0 "
     ">BEGIN@38 METHOD='SELECT' ARGUMENTS='1' DB='12' HEAD@62 0.0 END@62 body=0 "
     "<BEGIN@12 ERROR_TEXT='ERR DB index is out of range' HEAD@43 0.0 failed END@43 body=0 "
     ">BEGIN@62 METHOD='QUIT' ARGUMENTS='0' DB='12' HEAD@76 0.0 END@76 body=0 "
     ">BEGIN@76 METHOD='RESET' ARGUMENTS='0' DB='12' HEAD@91 0.0 END@91 body=0 "
     ">BEGIN@91 METHOD='PING' ARGUMENTS='0' DB='0' HEAD@105 0.0 END@105 body=0"},
    {"a database chosen in a transaction is not known",
     {">*1\r\n$5\r\nMULTI\r\n*2\r\n$6\r\nSELECT\r\n$1\r\n3\r\n"
      "*1\r\n$4\r\nEXEC\r\n*1\r\n$4\r\nPING\r\n"},
     ">BEGIN@0 METHOD='MULTI' ARGUMENTS='0' DB='0' HEAD@15 0.0 END@15 body=0 "
     ">BEGIN@15 METHOD='SELECT' ARGUMENTS='1' DB='0' HEAD@38 0.0 END@38 body=0 "
     ">BEGIN@38 METHOD='EXEC' ARGUMENTS='0' HEAD@52 0.0 END@52 body=0 >BEGIN@52 METHOD='PING' ARGUMENTS='0' HEAD@66 0.0 END@66 "
     "body=0"},
    {"what the server repeats of a command is not in the text",
     {PING_PING, "<-ERR unknown command 'x', with args beginning with: 'secret' \r\n!12\r\nSYNTAX \"sec\"\r\n"},
     PINGS_2 "<BEGIN@0 ERROR_TEXT='ERR unknown command ' HEAD@63 0.0 failed END@63 body=0 "
             "<BEGIN@63 HEAD@68 0.0 failed ERROR_TEXT='SYNTAX ' END@82 body=0"},
    {"a line of words",
     {PING, ">\r\n  SET k secret\r\nconfig set requirepass pw\n", "<+PONG\r\n"},
     PINGS ">BEGIN@18 METHOD='SET' DB='0' HEAD@32 0.0 END@32 body=0 >BEGIN@32 METHOD='config' DB='0' HEAD@58 0.0 END@58 body=0 "
           "<BEGIN@0 HEAD@7 0.0 ok END@7 body=0"},
    {"values in values",
     {PING, "<*3\r\n*2\r\n:1\r\n$1\r\n\n\r\n%1\r\n+k\r\n~2\r\n#t\r\n,1.5\r\n*-1\r\n"},
     PINGS "<BEGIN@0 HEAD@4 0.0 ok END@46 body=0"},
    {"empty ones and nulls", {PING, "<*4\r\n*0\r\n%0\r\n$0\r\n\r\n_\r\n"}, PINGS "<BEGIN@0 HEAD@4 0.0 ok END@21 body=0"},
    {"the rest of RESP3",
     {PING, "<|1\r\n+ttl\r\n:9\r\n*2\r\n|1\r\n+a\r\n*1\r\n:1\r\n(3492890328409238509324850943850943825024385\r\n=7\r\ntxt:abc\r\n"},
     PINGS "<BEGIN@14 HEAD@18 0.0 ok END@93 body=0"},
    {"streamed",
     {PING_PING, "<$?\r\n;4\r\nabcd\r\n;1\r\n\n\r\n;0\r\n*?\r\n:1\r\n%?\r\n+k\r\n:2\r\n.\r\n.\r\n"},
     PINGS_2 "<BEGIN@0 HEAD@4 0.0 ok END@25 body=0 <BEGIN@25 HEAD@29 0.0 ok END@51 body=0"},
    {"push messages are no replies",
     {PING, "<>2\r\n+invalidate\r\n*1\r\n$1\r\nk\r\n+PO", "<NG\r\n>1\r\n+x\r\n"},
     PINGS "<BEGIN@28 HEAD@35 0.0 ok END@35 body=0"},
    {"subscribed: the replies end",
     {">*2\r\n$9\r\nSUBSCRIBE\r\n$1\r\nc\r\n", "<*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n"},
     ">BEGIN@0 METHOD='SUBSCRIBE' ARGUMENTS='1' DB='0' HEAD@26 0.0 END@26 body=0 <BEGIN@0 SWITCH@0"},
    {"subscribed, RESP3; replies before it count",
     {PING "*2\r\n$9\r\nSUBSCRIBE\r\n$1\r\nc\r\n", "<>1\r\n+x\r\n+PONG\r\n>3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n"},
     PINGS ">BEGIN@14 METHOD='SUBSCRIBE' ARGUMENTS='1' DB='0' HEAD@40 0.0 END@40 body=0 "
           "<BEGIN@8 HEAD@15 0.0 ok END@15 body=0 <BEGIN@15 SWITCH@15"},
    {"not subscribed: it goes on",
     {">*1\r\n$7\r\nMONITOR\r\n"
      "*1\r\n$4\r\nPING\r\n",
      "<-NOPERM this user\r\n+PONG\r\n"},
     ">BEGIN@0 METHOD='MONITOR' ARGUMENTS='0' DB='0' HEAD@17 0.0 END@17 body=0 "
     ">BEGIN@17 METHOD='PING' ARGUMENTS='0' DB='0' HEAD@31 0.0 END@31 body=0 "
     "<BEGIN@0 ERROR_TEXT='NOPERM this user' HEAD@19 0.0 failed END@19 body=0 <BEGIN@19 HEAD@26 0.0 ok END@26 body=0"},
    {"no more replies at all",
     {">*3\r\n$6\r\nCLIENT\r\n$5\r\nREPLY\r\n$3\r\nOFF\r\n"},
     ">BEGIN@0 METHOD='CLIENT REPLY' ARGUMENTS='1' DB='0' HEAD@36 0.0 SWITCH@36"},
    /* what is given up */
    {"a reply to nothing", {PING, "<+PONG\r\n+PONG\r\n"}, PINGS "<BEGIN@0 HEAD@7 0.0 ok END@7 body=0 LOST"},
    {"no value", {PING, "<HTTP/1.1 200 OK\r\n"}, PINGS "<LOST"},
    {"no length", {PING, "<$x\r\n"}, PINGS "<BEGIN@0 LOST"},
    {"a length of more than 18 digits", {PING, "<$1234567890123456789\r\n"}, PINGS "<BEGIN@0 LOST"},
    {"a length that is negative", {PING, "<*-2\r\n"}, PINGS "<BEGIN@0 LOST"},
    {"a string that does not end", {PING, "<$1\r\nab\r\n"}, PINGS "<BEGIN@0 HEAD@4 0.0 ok LOST"},
    {"an end of nothing", {PING, "<.\r\n"}, PINGS "<LOST"},
    {"a command of nothing", {">*0\r\n"}, ">BEGIN@0 LOST"},
    {"a command that is none", {PING, ">\x01\r\n"}, PINGS "LOST"},
    {"an argument that is a number", {">*1\r\n:1\r\n"}, ">BEGIN@0 LOST"},
    {"an argument that does not end", {">*1\r\n$4\r\nPINGS\r\n"}, ">BEGIN@0 LOST"},
};

static struct events whole, cut;

static void play(struct events *e, const char *const *pieces, size_t piece, size_t first)
{
    events_init(e, &resp_ops);
    for (; *pieces != NULL; pieces++) {
        enum proto_dir dir = (*pieces)[0] == '<' ? PROTO_RESPONSE : PROTO_REQUEST;
        const char *bytes = *pieces + 1;
        size_t len = strlen(bytes);
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
    play(&cut, exchange->pieces, piece, first);
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
        for (size_t first = 1; first < 120; first++)
            check(&exchanges[i], SIZE_MAX / 2, first);
    }
}

/* A large argument is content: the head comes before it, so that it need not be looked at before it is sent. It may also go by unseen. */
static void test_content(void **unused)
{
    (void)unused;
    static const char command[] = "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$16384\r\n";
    events_init(&whole, &resp_ops);
    events_feed(&whole, PROTO_REQUEST, command, sizeof command - 1);
    assert_string_equal(whole.out, ">BEGIN@0 METHOD='SET' ARGUMENTS='2' DB='0' KEY='k' HEAD@28 0.0");
    events_skip(&whole, PROTO_REQUEST, 16383);
    events_feed(&whole, PROTO_REQUEST, "x\r\n", 3);
    assert_string_equal(whole.out, ">BEGIN@0 METHOD='SET' ARGUMENTS='2' DB='0' KEY='k' HEAD@28 0.0 END@16414 body=0");
    events_skip(&whole, PROTO_REQUEST, 1);
    assert_non_null(strstr(whole.out, "LOST"));
}

/* Values in each other up to a bound. */
static void test_depth(void **unused)
{
    (void)unused;
    for (int depth = 12; depth <= 13; depth++) {
        events_init(&whole, &resp_ops);
        events_feed(&whole, PROTO_REQUEST, PING + 1, sizeof PING - 2);
        for (int i = 0; i < depth; i++)
            events_feed(&whole, PROTO_RESPONSE, "*1\r\n", 4);
        events_feed(&whole, PROTO_RESPONSE, ":1\r\n", 4);
        assert_non_null(strstr(whole.out, depth == 12 ? "END@52" : "LOST"));
        assert_null(whole.violation);
    }
}

/* Every command that there is a key of is found, in any case: the table is in order. */
static void test_keys(void **unused)
{
    (void)unused;
    static const char *const with[] = {"APPEND",
                                       "get",
                                       "GEOSEARCHSTORE",
                                       "HGETDEL",
                                       "ZUNIONSTORE",
                                       "zrank",
                                       "SET",
                                       "Hset",
                                       "LPUSH",
                                       "XADD",
                                       "DEL",
                                       "MSET",
                                       "EXPIRETIME",
                                       "SDIFF",
                                       "ZSCORE",
                                       "PUBLISH",
                                       "WATCH",
                                       "SORT_RO",
                                       "PEXPIRETIME",
                                       "ZREVRANGEBYSCORE",
                                       "ZREMRANGEBYSCORE",
                                       "XAUTOCLAIM",
                                       "SDIFFSTORE",
                                       "HINCRBYFLOAT"};
    static const char *const without[] = {"EVAL", "ECHO", "PING",  "XREAD",       "SCAN", "KEYS",
                                          "GE",   "GETT", "FCALL", "SCRIPT LOAD", "A",    "ZZ"};
    char bytes[128];
    for (size_t i = 0; i < sizeof with / sizeof *with + sizeof without / sizeof *without; i++) {
        bool keyed = i < sizeof with / sizeof *with;
        const char *name = keyed ? with[i] : without[i - sizeof with / sizeof *with];
        int len = snprintf(bytes, sizeof bytes, "*3\r\n$%zu\r\n%s\r\n$1\r\nK\r\n$1\r\nV\r\n", strlen(name), name);
        events_init(&whole, &resp_ops);
        events_feed(&whole, PROTO_REQUEST, bytes, (size_t)len);
        if ((strstr(whole.out, "KEY='K'") != NULL) != keyed)
            fail_msg("%s: %s", name, whole.out);
        assert_null(strstr(whole.out, "'V"));
    }
}

static void test_detect(void **unused)
{
    (void)unused;
    static const struct {
        const char *bytes;
        enum proto_match match;
    } first[] = {{"", PROTO_MAYBE},
                 {"*", PROTO_MAYBE},
                 {"*1", PROTO_MAYBE},
                 {"*1\r", PROTO_MAYBE},
                 {"*1\r\n", PROTO_MAYBE},
                 {"*1\r\n$", PROTO_MAYBE},
                 {"*1\r\n$4\r", PROTO_MAYBE},
                 {"*1\r\n$4\r\n", PROTO_YES},
                 {"*10\r\n$14\r\nX", PROTO_YES},
                 {"*0\r\n", PROTO_NO},
                 {"*\r\n", PROTO_NO},
                 {"*-1\r\n", PROTO_NO},
                 {"*12345678901\r\n", PROTO_NO},
                 {"*1\n", PROTO_NO},
                 {"*1\r\n:1\r\n", PROTO_NO},
                 {"PING\r\n", PROTO_NO},
                 {"GET / HTTP/1.1\r\n", PROTO_NO}};
    for (size_t i = 0; i < sizeof first / sizeof *first; i++)
        if (resp_ops.detect(PROTO_REQUEST, first[i].bytes, strlen(first[i].bytes)) != first[i].match)
            fail_msg("%s", first[i].bytes);
    assert_int_equal(resp_ops.detect(PROTO_RESPONSE, "*1\r\n$4\r\n", 8), PROTO_NO);
}

/* ---- recorded ------------------------------------------------------------------------------------------------------------------------- */

#define CORPUS "tests/fuzz/corpus/fuzz_preload_resp/"

/* As the fuzzer reads it (tests/fuzz/blocks.h), in pieces of `piece` bytes, the first block of at least cut_at bytes that begins behind `from` cut there. */
static void replay(struct events *e, const unsigned char *bytes, size_t size, size_t piece)
{
    events_init(e, &resp_ops);
    for (size_t at = 1; at + 2 <= size;) {
        size_t len = (size_t)bytes[at + 1] * ((bytes[at] >> 1 & 3) == 0 ? 4 : 1);
        const char *data = (const char *)bytes + at + 2;
        len = len < size - at - 2 ? len : size - at - 2;
        for (size_t i = 0; i < len; i += piece)
            events_feed(e, (enum proto_dir)(bytes[at] & 1), data + i, len - i < piece ? len - i : piece);
        at += len + 2;
    }
}

static size_t count(const char *text, const char *what)
{
    size_t n = 0;
    for (; (text = strstr(text, what)) != NULL; text++)
        n++;
    return n;
}

/* What redis-py, redis-cli and a server said to each other (tests/fuzz/record_redis.py): each is followed to its end. */
static void test_recorded(void **unused)
{
    (void)unused;
    static unsigned char bytes[1 << 20];
    DIR *dir = opendir(CORPUS);
    assert_non_null(dir);
    size_t recordings = 0;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        char path[512];
        if (strncmp(entry->d_name, "recorded-", 9) != 0)
            continue;
        recordings++;
        snprintf(path, sizeof path, CORPUS "%s", entry->d_name);
        FILE *f = fopen(path, "rb");
        assert_non_null(f);
        size_t size = fread(bytes, 1, sizeof bytes, f);
        fclose(f);
        replay(&whole, bytes, size, SIZE_MAX / 2);
        bool switches = strstr(whole.out, "SWITCH") != NULL;
        if (whole.violation != NULL || strstr(whole.out, "LOST") != NULL || strstr(whole.out, "SECRET") != NULL ||
            count(whole.out, "<BEGIN@") != count(whole.out, ">BEGIN@") || count(whole.out, "<BEGIN@") < 2 ||
            count(whole.out, "END@") != 2 * count(whole.out, ">BEGIN@") - (switches ? 1 : 0))
            fail_msg("%s: %s\n%s", entry->d_name, whole.violation ? whole.violation : "", whole.out);
        for (size_t piece = 1; piece < 70; piece++) {
            replay(&cut, bytes, size, piece);
            assert_null(cut.violation);
            assert_string_equal(cut.out, whole.out);
        }
    }
    closedir(dir);
    assert_true(recordings >= 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exchanges), cmocka_unit_test(test_content), cmocka_unit_test(test_depth),
        cmocka_unit_test(test_keys),      cmocka_unit_test(test_detect),  cmocka_unit_test(test_recorded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
