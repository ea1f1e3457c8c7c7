/* test_preload_tracestate.c - texts that are kept by a handle, and found or lost, but never another's. */
#include "context/context.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char *get(uint32_t handle)
{
    static char out[OTSHIM_TRACESTATE_MAX + 1];
    out[tracestate_get(handle, out, OTSHIM_TRACESTATE_MAX)] = '\0';
    return out;
}

static const char *kept(const char *text)
{
    return get(tracestate_put(text, strlen(text)));
}

static void test_texts(void **unused)
{
    (void)unused;
    assert_string_equal(get(0), "");
    assert_string_equal(get(12345), "");
    assert_string_equal(kept("a=1,b=2"), "a=1,b=2");
    assert_string_equal(kept("  a=1 , b=2\t,"), "a=1 , b=2");
    assert_string_equal(kept(" , ,"), "");
    assert_string_equal(kept("a=1\r\nX: y"), "");
    assert_string_equal(kept("a=\xc3\xa4"), "");
    assert_string_equal(kept("a=\x7f"), "");
    uint32_t first = tracestate_put("first=1", 7), second = tracestate_put("second=2", 8);
    assert_string_equal(get(first), "first=1");
    assert_string_equal(get(second), "second=2");
    char small[4];
    assert_int_equal(tracestate_get(first, small, sizeof small), 0);
}

static void test_long(void **unused)
{
    (void)unused;
    char text[1200], expected[600];
    memset(text, 'x', sizeof text);
    memcpy(text, "a=", 2);
    text[512] = '\0';
    assert_string_equal(kept(text), text); /* just fits */
    memset(text, 'x', sizeof text);
    text[1100] = '\0';
    assert_string_equal(kept(text), ""); /* one member, too long */
    text[100] = text[512] = ',';         /* the first 512 bytes are whole members */
    memcpy(expected, text, 512);
    expected[512] = '\0';
    assert_string_equal(kept(text), expected);
    text[512] = 'x';
    expected[100] = '\0';
    assert_string_equal(kept(text), expected);
}

static void test_used_again(void **unused)
{
    (void)unused;
    uint32_t old = tracestate_put("old=1", 5);
    for (unsigned i = 0; i < TRACESTATE_SLOTS - 1; i++)
        tracestate_put("new=1", 5);
    assert_string_equal(get(old), "old=1");
    tracestate_put("new=1", 5);
    assert_string_equal(get(old), "");
}

/* Writers lap each other and the readers: a text that is found is the one that was put. */
static void *hammer(void *arg)
{
    unsigned seed = (unsigned)(uintptr_t)arg;
    size_t wrong = 0;
    for (int i = 0; i < 40000; i++) {
        char text[OTSHIM_TRACESTATE_MAX], out[OTSHIM_TRACESTATE_MAX];
        size_t len = 1 + (size_t)rand_r(&seed) % OTSHIM_TRACESTATE_MAX;
        memset(text, 'a' + (int)((uintptr_t)arg % 26), len);
        uint32_t handle = tracestate_put(text, len);
        for (int j = 0; j < 2; j++) {
            size_t got = tracestate_get(handle, out, sizeof out);
            wrong += got != 0 && (got != len || memcmp(out, text, len) != 0);
        }
        /* somebody else's: whole, or nothing */
        size_t got = tracestate_get(handle - (unsigned)rand_r(&seed) % (2 * TRACESTATE_SLOTS), out, sizeof out);
        for (size_t k = 1; k < got; k++)
            wrong += out[k] != out[0];
    }
    return (void *)wrong;
}

static void test_threads(void **unused)
{
    (void)unused;
    pthread_t threads[4];
    for (uintptr_t i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, hammer, (void *)(i + 1));
    for (int i = 0; i < 4; i++) {
        void *wrong;
        pthread_join(threads[i], &wrong);
        assert_null(wrong);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_threads), /* first: it takes any text of one letter for right */
        cmocka_unit_test(test_texts),
        cmocka_unit_test(test_long),
        cmocka_unit_test(test_used_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
