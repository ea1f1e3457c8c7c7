/* The hello's parser: what a real library sends, and everything that it would never send. */
#include "ingest/hello.h"
#include "ring_producer.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static uint8_t bytes[OTSHIM_HELLO_MAX_BYTES + 64];

/* Parses an exact-size heap copy, so that ASan sees a byte read too far. */
static enum hello_result parse(struct hello *hello, size_t len)
{
    const char *why = NULL;
    void *copy = malloc(len > 0 ? len : 1);
    enum hello_result result;

    memcpy(copy, bytes, len);
    result = hello_parse(hello, copy, len, &why);
    free(copy);
    assert_true(result != HELLO_BAD || why != NULL);
    return result;
}

static void set_total(size_t len)
{
    uint32_t total = (uint32_t)len;

    memcpy(bytes + offsetof(struct otshim_hello, total_bytes), &total, sizeof total);
}

static void test_good(void **state)
{
    struct hello hello;

    (void)state;
    assert_int_equal(parse(&hello, producer_hello(bytes)), HELLO_OK);
    assert_string_equal(hello.executable, "/usr/bin/test");
    assert_string_equal(hello.service_name, "shop");
    assert_string_equal(hello.resource_attributes, ""); /* not said */
    assert_string_equal(hello.library_version, "");
    assert_int_equal(hello.cmdline_len, 12);
    assert_memory_equal(hello.cmdline, "test\0--flag", 12);
    assert_int_equal(hello.head.pid, getpid());
    hello_free(&hello);
}

static void test_header_alone(void **state)
{
    struct hello hello;

    (void)state;
    producer_hello(bytes);
    set_total(sizeof(struct otshim_hello));
    assert_int_equal(parse(&hello, sizeof(struct otshim_hello)), HELLO_OK);
    assert_string_equal(hello.executable, "");
    hello_free(&hello);
}

/* Cut after any byte, with a length that says so and with one that does not: never more than refused. Cuts between items are hellos. */
static void test_cut_anywhere(void **state)
{
    size_t len = producer_hello(bytes);
    struct hello hello;
    unsigned good = 0;

    (void)state;
    for (size_t cut = 0; cut < len; cut++) {
        enum hello_result result;

        producer_hello(bytes);
        assert_int_equal(parse(&hello, cut), HELLO_BAD);
        if (cut < sizeof(struct otshim_hello))
            continue;
        set_total(cut);
        result = parse(&hello, cut);
        if (result == HELLO_OK) {
            good++;
            hello_free(&hello);
        }
    }
    /* After the header and each of the first two items; and where only padding was cut: 3 bytes of the executable's, 0 of others'. */
    assert_in_range(good, 3, 10);
}

static void test_other_version(void **state)
{
    struct hello hello;
    uint32_t version = OTSHIM_ABI_VERSION + 1;

    (void)state;
    producer_hello(bytes);
    memcpy(bytes + offsetof(struct otshim_hello, abi_version), &version, sizeof version);
    assert_int_equal(parse(&hello, 12), HELLO_VERSION); /* a later one may look different behind the version */
    assert_int_equal(parse(&hello, 300), HELLO_VERSION);
    assert_int_equal(hello.head.abi_version, version);
}

static void test_not_a_hello(void **state)
{
    struct hello hello;

    (void)state;
    memset(bytes, 'x', sizeof bytes);
    for (size_t len = 0; len < 200; len++)
        assert_int_equal(parse(&hello, len), HELLO_BAD);
}

static void test_too_long(void **state)
{
    struct hello hello;

    (void)state;
    producer_hello(bytes);
    set_total(OTSHIM_HELLO_MAX_BYTES + 4);
    assert_int_equal(parse(&hello, OTSHIM_HELLO_MAX_BYTES + 4), HELLO_BAD);
}

static size_t with_item(uint16_t key, const void *text, size_t len)
{
    size_t at = producer_hello(bytes);

    at = producer_item(bytes, at, key, text, len);
    set_total(at);
    return at;
}

static void test_item_limits(void **state)
{
    static char text[OTSHIM_CMDLINE_MAX + 8];
    struct hello hello;

    (void)state;
    memset(text, 'a', sizeof text);
    assert_int_equal(parse(&hello, with_item(OTSHIM_HELLO_CMDLINE, text, OTSHIM_CMDLINE_MAX)), HELLO_OK);
    assert_int_equal(hello.cmdline_len, OTSHIM_CMDLINE_MAX);
    hello_free(&hello);
    assert_int_equal(parse(&hello, with_item(OTSHIM_HELLO_CMDLINE, text, OTSHIM_CMDLINE_MAX + 1)), HELLO_BAD);
    assert_int_equal(parse(&hello, with_item(OTSHIM_HELLO_RESOURCE_ATTRS, text, OTSHIM_ENV_MAX)), HELLO_OK);
    hello_free(&hello);
    assert_int_equal(parse(&hello, with_item(OTSHIM_HELLO_RESOURCE_ATTRS, text, OTSHIM_ENV_MAX + 1)), HELLO_BAD);
    /* An item that says it is longer than the message. */
    size_t len = with_item(OTSHIM_HELLO_EXE, text, 8);
    uint16_t lie = 9;
    memcpy(bytes + len - 8 - 2, &lie, 2);
    assert_int_equal(parse(&hello, len), HELLO_BAD);
}

static void test_unknown_keys_and_repeats(void **state)
{
    struct hello hello;

    (void)state;
    assert_int_equal(parse(&hello, with_item(999, "whatever", 8)), HELLO_OK);
    hello_free(&hello);
    assert_int_equal(parse(&hello, with_item(OTSHIM_HELLO_SERVICE_NAME, "second", 6)), HELLO_OK);
    assert_string_equal(hello.service_name, "second");
    hello_free(&hello);
    assert_int_equal(parse(&hello, with_item(OTSHIM_HELLO_SERVICE_NAME, "nul\0inside", 10)), HELLO_OK);
    assert_string_equal(hello.service_name, "nul");
    hello_free(&hello);
}

static void test_notes(void **state)
{
    char note[400];
    struct hello hello;

    (void)state;
    memset(note, 'n', sizeof note);
    assert_int_equal(parse(&hello, with_item(OTSHIM_HELLO_RUNTIME_NOTE, note, sizeof note)), HELLO_OK);
    assert_int_equal(strlen(hello.note), sizeof hello.note - 1);
    assert_int_equal(hello.notes, 1);
    hello_free(&hello);
}

static void test_impossible_times(void **state)
{
    uint64_t never = UINT64_MAX;
    struct hello hello;
    size_t len;

    (void)state;
    len = producer_hello(bytes);
    memcpy(bytes + offsetof(struct otshim_hello, anchor_unix_ns), &never, sizeof never);
    assert_int_equal(parse(&hello, len), HELLO_BAD);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),         cmocka_unit_test(test_header_alone),
        cmocka_unit_test(test_cut_anywhere), cmocka_unit_test(test_other_version),
        cmocka_unit_test(test_not_a_hello),  cmocka_unit_test(test_too_long),
        cmocka_unit_test(test_item_limits),  cmocka_unit_test(test_unknown_keys_and_repeats),
        cmocka_unit_test(test_notes),        cmocka_unit_test(test_impossible_times),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
