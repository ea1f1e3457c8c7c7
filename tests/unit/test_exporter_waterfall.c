/* test_exporter_waterfall.c - a trace in the terminal: the picture, and everything that hostile or broken input could make of it. */
#include "view/text.h"
#include "view/waterfall.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---- text -------------------------------------------------------------------------------------------------------------------- */

static void clean_is(const char *text, size_t columns, bool utf8, const char *expected)
{
    char out[256];
    text_clean(out, sizeof(out), text, columns, utf8);
    assert_string_equal(out, expected);
}

static void text_that_drives_terminals(void **state)
{
    (void)state;
    clean_is("\x1b[2J\x1b]0;title\x07", SIZE_MAX, true, "\\x1b[2J\\x1b]0;title\\x07");
    clean_is("a\r\nb\tc\x7f", SIZE_MAX, true, "a\\r\\nb\\tc\\x7f");
    clean_is("\xc2\x9b"
             "31m",
             SIZE_MAX, true, "\\u{9b}31m");                                      /* CSI as one C1 character */
    clean_is("evil\xe2\x80\xaegnp.exe", SIZE_MAX, true, "evil\\u{202e}gnp.exe"); /* right-to-left override */
    clean_is("zero\xe2\x80\x8bwidth\xef\xbb\xbf", SIZE_MAX, true, "zero\\u{200b}width\\u{feff}");
    clean_is("\xff\xfe\xc3", SIZE_MAX, true, "\\xff\\xfe\\xc3");
    clean_is("\xc0\xaf\xed\xa0\x80", SIZE_MAX, true, "\\xc0\\xaf\\xed\\xa0\\x80"); /* overlong, surrogate */
    clean_is("gr\xc3\xbc\xc3\x9f", SIZE_MAX, true, "gr\xc3\xbc\xc3\x9f");
    clean_is("gr\xc3\xbc\xc3\x9f", SIZE_MAX, false, "gr\\u{fc}\\u{df}");
}

static void text_is_cut_by_columns(void **state)
{
    (void)state;
    char out[16];
    clean_is("abcdef", 6, true, "abcdef");
    clean_is("abcdefg", 6, true, "abcde\xe2\x80\xa6");
    clean_is("abcdefg", 6, false, "abcde~");
    clean_is("\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e", 5, true, "\xe6\x97\xa5\xe6\x9c\xac\xe2\x80\xa6"); /* two columns each */
    clean_is("abc", 1, true, "\xe2\x80\xa6");
    clean_is("abc", 0, true, "");
    /* an escape is never cut in the middle */
    clean_is("abc\x1b", 6, true, "abc\xe2\x80\xa6");
    /* the buffer is the limit */
    assert_true(text_clean(out, sizeof(out), "abcdefghijklmnopqrstuvwxyz", SIZE_MAX, true) <= 15);
    assert_true(strlen(out) < sizeof(out));
    /* a tower of accents stays on its line */
    assert_int_equal(text_clean(out, sizeof(out), "e\xcc\x81\xcc\x81\xcc\x81\xcc\x81\xcc\x81\xcc\x81", SIZE_MAX, true), 1);
    assert_int_equal(strlen(out), 5);
}

static void duration_is(uint64_t ns, const char *expected)
{
    char out[32];
    text_duration(out, sizeof(out), ns, true);
    assert_string_equal(out, expected);
}

static void durations(void **state)
{
    (void)state;
    uint64_t ns;
    duration_is(0, "0 ns");
    duration_is(999, "999 ns");
    duration_is(1000, "1.00 \xc2\xb5s");
    duration_is(12345, "12.3 \xc2\xb5s");
    duration_is(999600, "1.00 ms");
    duration_is(123456789, "123 ms");
    duration_is(1240000000, "1.24 s");
    duration_is(59990000000ull, "60.0 s");
    duration_is(125000000000ull, "2 min 5 s");
    duration_is(11520000000000ull, "3 h 12 min");
    duration_is(UINT64_MAX, "5124095 h 34 min");
    assert_int_equal(text_parse_duration("100ms", &ns), 0);
    assert_int_equal(ns, 100000000);
    assert_int_equal(text_parse_duration("1.5s", &ns), 0);
    assert_int_equal(ns, 1500000000);
    assert_int_equal(text_parse_duration("80", &ns), 0);
    assert_int_equal(ns, 80000000);
    assert_true(text_parse_duration("", &ns) < 0);
    assert_true(text_parse_duration("-1s", &ns) < 0);
    assert_true(text_parse_duration("fast", &ns) < 0);
    assert_true(text_parse_duration("1e300h", &ns) < 0);
    assert_true(text_parse_duration("nan", &ns) < 0);
}

/* ---- traces ------------------------------------------------------------------------------------------------------------------ */

#define MS 1000000ull
#define BASE 1764000000000000000ull

static json_t *attributes(const char *const *pairs)
{
    json_t *array = json_array();
    for (; pairs != NULL && pairs[0] != NULL; pairs += 2)
        json_array_append_new(array, json_pack("{s:s,s:{s:s}}", "key", pairs[0], "value", "stringValue", pairs[1]));
    return array;
}

static json_t *span(unsigned id, unsigned parent, int kind, uint64_t start_ms, uint64_t end_ms, const char *error,
                    const char *const *pairs)
{
    char span_id[24], parent_id[24], start[24], end[24];
    snprintf(span_id, sizeof(span_id), "%016x", id);
    snprintf(parent_id, sizeof(parent_id), "%016x", parent);
    snprintf(start, sizeof(start), "%llu", (unsigned long long)(BASE + start_ms * MS));
    snprintf(end, sizeof(end), "%llu", (unsigned long long)(BASE + end_ms * MS));
    json_t *json = json_pack("{s:s,s:s,s:s,s:s,s:i,s:s,s:s,s:o}", "traceId", "4bf92f3577b34da6a3ce929d0e0e4736", "spanId", span_id,
                             "parentSpanId", parent != 0 ? parent_id : "", "name", "GET", "kind", kind, "startTimeUnixNano", start,
                             "endTimeUnixNano", end, "attributes", attributes(pairs));
    if (error != NULL)
        json_object_set_new(json, "status", json_pack("{s:i,s:s}", "code", 2, "message", error));
    return json;
}

/* A document with one resource; add() puts spans into it, or another resource. */
static json_t *document_of(const char *service, json_t *spans)
{
    const char *pairs[] = {"service.name", service, NULL};
    return json_pack("{s:[{s:{s:o},s:[{s:o}]}]}", "resourceSpans", "resource", "attributes", attributes(pairs), "scopeSpans",
                     "spans", spans);
}

static void add_resource(json_t *document, const char *service, json_t *spans)
{
    json_t *other = document_of(service, spans);
    json_array_append(json_object_get(document, "resourceSpans"), json_array_get(json_object_get(other, "resourceSpans"), 0));
    json_decref(other);
}

static char *drawn(json_t *document, struct waterfall_options options)
{
    char why[256], *text = NULL;
    size_t len;
    struct forest *forest = forest_of(document, why, sizeof(why));
    assert_non_null(forest);
    FILE *out = open_memstream(&text, &len);
    waterfall_print(out, forest, &options);
    fclose(out);
    forest_free(forest);
    json_decref(document);
    return text;
}

static const struct waterfall_options plain = {.terminal = {.width = 80}};

/* The picture without its first line, which has the local time in it. */
static void drawn_is(json_t *document, struct waterfall_options options, const char *expected)
{
    char *text = drawn(document, options);
    assert_string_equal(strchr(text, '\n') + 1, expected);
    free(text);
}

#define PAIRS(...)                                                                                                                 \
    (const char *const[])                                                                                                          \
    {                                                                                                                              \
        __VA_ARGS__, NULL                                                                                                          \
    }
#define METHOD "http.request.method", "GET"
#define STATUS(code) "http.response.status_code", code

static json_t *chain(void)
{
    json_t *document = document_of(
        "app-a", json_pack("[o,o,o]",
                           span(4, 1, 3, 80, 90, "connection refused (ECONNREFUSED)",
                                PAIRS("server.address", "app-c", "server.port", "8003")),
                           span(1, 0, 2, 0, 100, NULL, PAIRS(METHOD, "url.path", "/chain", STATUS("200"))),
                           span(2, 1, 3, 10, 60, NULL, PAIRS(METHOD, "url.full", "http://app-b:8002/io", STATUS("200")))));
    add_resource(document, "app-b", json_pack("[o]", span(3, 2, 2, 20, 60, "", PAIRS(METHOD, "url.path", "/io", STATUS("500")))));
    return document;
}

static void picture(void **state)
{
    (void)state;
    drawn_is(chain(), plain,
             "app-a  GET /chain                     200  ############################   100 ms\n"
             "app-a  |- GET http://app-b:8002/io    200    ###############             50.0 ms\n"
             "app-b  |  `- GET /io                x 500       ############             40.0 ms\n"
             "app-a  `- GET app-c:8003                x                        ###     10.0 ms\n"
             "             x connection refused (ECONNREFUSED)\n");
    struct waterfall_options unicode = plain;
    unicode.terminal.utf8 = true;
    char *text = drawn(chain(), unicode);
    assert_non_null(strstr(text, "\xe2\x94\x9c\xe2\x94\x80 GET http://app-b:8002/io"));
    assert_non_null(strstr(text, "\xe2\x9c\x97 500"));
    assert_non_null(strstr(text, "4 spans, 2 services, 2 errors"));
    assert_null(strchr(text, '\x1b'));
    free(text);
}

static void colors_only_when_asked(void **state)
{
    (void)state;
    struct waterfall_options colors = plain;
    colors.terminal.color = true;
    char *text = drawn(chain(), colors);
    assert_non_null(strstr(text, "\x1b[1;31m"));
    free(text);
}

/* Of two siblings the earlier comes first, whatever the order in the answer; of two that start together, the longer. */
static void siblings_by_start(void **state)
{
    (void)state;
    drawn_is(document_of("a", json_pack("[o,o,o,o]", span(3, 1, 3, 30, 40, NULL, PAIRS(METHOD, "url.full", "c")),
                                        span(5, 1, 3, 10, 15, NULL, PAIRS(METHOD, "url.full", "b2")),
                                        span(2, 1, 3, 10, 20, NULL, PAIRS(METHOD, "url.full", "b1")),
                                        span(1, 0, 2, 0, 40, NULL, PAIRS(METHOD, "url.path", "/")))),
             plain,
             "a  GET /        #######################################################  40.0 ms\n"
             "a  |- GET b1                 ###############                             10.0 ms\n"
             "a  |- GET b2                 ########                                    5.00 ms\n"
             "a  `- GET c                                              ##############  10.0 ms\n");
}

static void orphans(void **state)
{
    (void)state;
    char *text = drawn(document_of("a", json_pack("[o,o]", span(2, 99, 2, 10, 20, NULL, PAIRS(METHOD, "url.path", "/late")),
                                                  span(3, 2, 3, 11, 12, NULL, PAIRS(METHOD, "url.full", "x")))),
                       plain);
    assert_non_null(strstr(text, "   (parent span not seen here)\na  `- GET /late"));
    assert_non_null(strstr(text, "\na     `- GET x"));
    free(text);
}

/* Each is somebody's parent and nobody's root: cut somewhere, each shown once. */
static void rings_of_parents(void **state)
{
    (void)state;
    char *text = drawn(document_of("a", json_pack("[o,o,o,o]", span(1, 3, 2, 0, 9, NULL, NULL), span(2, 1, 2, 1, 8, NULL, NULL),
                                                  span(3, 2, 2, 2, 7, NULL, NULL), span(4, 4, 2, 3, 6, NULL, NULL))),
                       plain);
    int rows = 0;
    for (char *at = strstr(text, "\na  "); at != NULL; at = strstr(at + 1, "\na  "))
        rows++;
    assert_int_equal(rows, 4);
    free(text);
}

static void same_id_twice(void **state)
{
    (void)state;
    char *text = drawn(document_of("a", json_pack("[o,o,o]", span(1, 0, 2, 0, 9, NULL, NULL), span(1, 0, 2, 1, 8, NULL, NULL),
                                                  span(2, 1, 2, 2, 7, NULL, NULL))),
                       plain);
    assert_non_null(strstr(text, "3 spans"));
    free(text);
}

/* app-b's clock is 10 s behind: its span is shown inside the call that it answers, and what is under it moves along. */
static void clock_skew(void **state)
{
    (void)state;
    json_t *document =
        document_of("a", json_pack("[o]", span(1, 0, 3, 10000, 10100, NULL, PAIRS(METHOD, "url.full", "http://b/"))));
    add_resource(document, "b",
                 json_pack("[o,o]", span(2, 1, 2, 0, 80, NULL, PAIRS(METHOD, "url.path", "/")),
                           span(3, 2, 3, 40, 80, NULL, PAIRS(METHOD, "url.full", "x"))));
    drawn_is(document, plain,
             "a  GET http://b/    ###################################################   100 ms\n"
             "b  `- GET /              #########################################       80.0 ms\n"
             "b     `- GET x                               #####################       40.0 ms\n");
}

static void large_and_deep(void **state)
{
    (void)state;
    json_t *wide = json_array(), *deep = json_array();
    json_array_append_new(wide, span(1, 0, 2, 0, 1000, NULL, NULL));
    for (unsigned i = 2; i <= 463; i++)
        json_array_append_new(wide, span(i, 1, 3, i, i + 1, NULL, NULL));
    char *text = drawn(document_of("a", wide), plain);
    assert_non_null(strstr(text, "... 412 more spans"));
    free(text);
    for (unsigned i = 1; i <= 3000; i++)
        json_array_append_new(deep, span(i, i - 1, 3, i, 10000, NULL, NULL));
    text = drawn(document_of("a", deep), plain);
    assert_non_null(strstr(text, "\n... 2800 more spans\n"));
    assert_non_null(strstr(text, "\na  ..       "));
    for (char *line = text; *line != 0; line = strchr(line, '\n') + 1)
        assert_true(strcspn(line, "\n") <= 80);
    free(text);
}

static void hostile_names(void **state)
{
    (void)state;
    char *text = drawn(
        document_of("\x1b]0;owned\x07", json_pack("[o]", span(1, 0, 2, 0, 9, "bad\x1b[31m\nfake line",
                                                              PAIRS("http.request.method", "\x1b[2J", "url.path", "/\r\x1b[A")))),
        (struct waterfall_options){.terminal = {.width = 100, .utf8 = true}, .attributes = true});
    for (char *at = text; *at != 0; at++)
        assert_true((unsigned char)*at >= 0x20 || *at == '\n');
    assert_non_null(strstr(text, "\\x1b[2J"));
    free(text);
}

/* Whatever an exporter, or what pretends to be one, may answer. */
static void not_a_trace(void **state)
{
    (void)state;
    static const char *const answers[] = {
        "{}",
        "[]",
        "{\"resourceSpans\":3}",
        "{\"resourceSpans\":[]}",
        "{\"resourceSpans\":[{\"scopeSpans\":[{\"spans\":[]}]}]}",
        "{\"resourceSpans\":[{\"scopeSpans\":[{\"spans\":[1,null,{}]}]}]}",
        "{\"resourceSpans\":[{\"scopeSpans\":[{\"spans\":[{\"spanId\":\"zz\"},{\"spanId\":\"0000000000000000\"}]}]}]}"};
    char why[256];
    for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
        json_t *document = json_loads(answers[i], 0, NULL);
        assert_non_null(document);
        assert_null(forest_of(document, why, sizeof(why)));
        assert_true(why[0] != 0);
        json_decref(document);
    }
    /* The least that is one: no times, no name, wrong types everywhere. */
    json_t *document = json_loads(
        "{\"resourceSpans\":[null,{\"resource\":[],\"scopeSpans\":[{\"spans\":[{\"spanId\":\"00000000000000a1\","
        "\"startTimeUnixNano\":\"-5\",\"endTimeUnixNano\":99999999999999999999.0,\"kind\":\"x\",\"status\":7,"
        "\"attributes\":[{\"key\":5},{\"key\":\"http.request.method\",\"value\":{\"arrayValue\":{\"values\":[1]}}}]}]}]}]}",
        0, NULL);
    assert_non_null(document);
    char *text = drawn(document, (struct waterfall_options){.terminal = {.width = 40}, .attributes = true});
    assert_non_null(strstr(text, "1 span, 1 service"));
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_that_drives_terminals),
        cmocka_unit_test(text_is_cut_by_columns),
        cmocka_unit_test(durations),
        cmocka_unit_test(picture),
        cmocka_unit_test(colors_only_when_asked),
        cmocka_unit_test(siblings_by_start),
        cmocka_unit_test(orphans),
        cmocka_unit_test(rings_of_parents),
        cmocka_unit_test(same_id_twice),
        cmocka_unit_test(clock_skew),
        cmocka_unit_test(large_and_deep),
        cmocka_unit_test(hostile_names),
        cmocka_unit_test(not_a_trace),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
