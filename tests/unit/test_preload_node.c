/* test_preload_node.c - whose a thread of Node's says it is, and whose a name that another thread looks up; where in the program
 * a call was made, as JavaScript has put it into memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "context/node/node.h"
#include <string.h>

static struct node_slot slot;

/* What JavaScript does around a native call. 0: nobody. */
static void work_for(uint8_t whom)
{
    memset(&slot, 0, sizeof slot);
    node_slot = &slot;
    memset(slot.now.trace_id, whom, sizeof slot.now.trace_id);
    memset(slot.now.span_id, whom, sizeof slot.now.span_id);
    slot.valid = whom != 0;
}

static void note(const char *name, uint8_t whom)
{
    work_for(whom);
    node_lookup_note(name, strlen(name));
    slot.valid = 0;
}

#define EXPECT_OWNED(name, whom)                                                                                                   \
    do {                                                                                                                           \
        struct ctx owner_;                                                                                                         \
        assert_int_equal(node_lookup_take(name, strlen(name), &owner_), NODE_LOOKUP_OWNED);                                        \
        assert_int_equal(owner_.span_id[0], whom);                                                                                 \
    } while (0)
#define EXPECT(name, what)                                                                                                         \
    do {                                                                                                                           \
        struct ctx owner_;                                                                                                         \
        assert_int_equal(node_lookup_take(name, strlen(name), &owner_), what);                                                     \
    } while (0)

static void test_current(void **state)
{
    (void)state;
    struct ctx ctx;
    node_slot = NULL;
    assert_int_equal(node_current(&ctx), -1);
    node_slot = &node_slot_nobody;
    assert_int_equal(node_current(&ctx), 0);
    work_for(0);
    assert_int_equal(node_current(&ctx), 0);
    work_for(7);
    assert_int_equal(node_current(&ctx), 1);
    assert_int_equal(ctx.span_id[0], 7);
}

static void test_no_adapter(void **state)
{
    (void)state;
    note("before", 1);
    EXPECT("before", NODE_LOOKUP_NOT_OURS);
    node_lookups_noted(true);
    EXPECT("before", NODE_LOOKUP_NOT_OURS);
}

static void test_one_owner(void **state)
{
    (void)state;
    note("one", 1);
    note("two", 2);
    note("one", 1);
    note("nobodys", 0);
    EXPECT_OWNED("two", 2);
    EXPECT("two", NODE_LOOKUP_NOT_OURS);
    EXPECT_OWNED("one", 1);
    EXPECT_OWNED("one", 1);
    EXPECT("one", NODE_LOOKUP_NOT_OURS);
    EXPECT("nobodys", NODE_LOOKUP_NOT_OURS);
    note("one", 3);
    EXPECT_OWNED("one", 3);
}

/* Which of two look-ups of a name a thread has got is not known, not even for the last that is left. */
static void test_two_owners(void **state)
{
    (void)state;
    note("shared", 1);
    note("shared", 2);
    EXPECT("shared", NODE_LOOKUP_UNKNOWN);
    EXPECT("shared", NODE_LOOKUP_UNKNOWN);
    note("shared", 2);
    EXPECT_OWNED("shared", 2);
    note("shared", 0);
    note("shared", 2);
    EXPECT("shared", NODE_LOOKUP_UNKNOWN);
    EXPECT("shared", NODE_LOOKUP_UNKNOWN);
}

static void test_no_room(void **state)
{
    (void)state;
    char name[8] = "nameAA";
    for (int i = 0; i < 64; i++) {
        name[4] = (char)('A' + i / 8);
        name[5] = (char)('A' + i % 8);
        note(name, 1);
    }
    name[4] = name[5] = 'A';
    EXPECT_OWNED(name, 1);
    note("one", 1);
    note("more", 1); /* not noted: from here on nobody can say whether a look-up is somebody's */
    EXPECT("one", NODE_LOOKUP_UNKNOWN);
    EXPECT("another", NODE_LOOKUP_UNKNOWN);
}

/* What JavaScript has in words when it makes a call. */
static void make_call(uint32_t destination, const char *stack, const char *function, const char *file, uint32_t line)
{
    struct node_site *site = &slot.site;
    work_for(1);
    site->line = line;
    site->stack_len = (uint32_t)strlen(stack);
    site->function_len = (uint32_t)strlen(function);
    site->file_len = (uint32_t)strlen(file);
    strcat(strcat(strcpy(site->text, stack), function), file);
    site->destination = destination;
}

static uint64_t kept[RUNTIME_SITE_BYTES / 8];
static struct runtime_site_words words;

static bool words_of_kept(void)
{
    memset(&words, 0, sizeof words);
    return node_site_words(kept, &words);
}

static void test_site(void **state)
{
    (void)state;
    make_call(5, "    at f (/a.js:3:1)", "f", "/a.js", 3);
    assert_true(node_site_keep(kept));
    make_call(6, "    at g (/b.js:4:1)", "g", "/b.js", 4); /* the next one */
    assert_int_equal(slot.heat[0], 0);
    assert_true(words_of_kept());
    assert_memory_equal(words.stack, "    at f (/a.js:3:1)", words.stack_len);
    assert_memory_equal(words.function, "f", words.function_len);
    assert_memory_equal(words.file, "/a.js", words.file_len);
    assert_int_equal(words.stack_len, 20);
    assert_int_equal(words.function_len, 1);
    assert_int_equal(words.file_len, 5);
    assert_int_equal(words.line, 3);
}

/* The first slow call says nothing, and makes its destination hot. */
static void test_site_heat(void **state)
{
    (void)state;
    make_call(NODE_DESTINATIONS, "", "", "", 0);
    assert_true(node_site_keep(kept));
    assert_false(words_of_kept());
    assert_int_not_equal(slot.heat[0], 0);
    assert_int_equal(slot.heat[NODE_DESTINATIONS], NODE_HOT_CALLS);
    assert_int_equal(slot.heat[1], 0);
}

static void test_site_none(void **state)
{
    (void)state;
    node_slot = NULL;
    assert_false(node_site_keep(kept));
    node_slot = &node_slot_nobody;
    assert_false(node_site_keep(kept));
    make_call(0, "", "", "", 0);
    assert_false(node_site_keep(kept));
    make_call(NODE_DESTINATIONS + 1, "", "", "", 0);
    assert_false(node_site_keep(kept));
    make_call(1, "", "", "", 0);
    slot.site.stack_len = NODE_SITE_TEXT;
    assert_true(node_site_keep(kept));
    slot.site.file_len = 1; /* more than there can be */
    assert_false(node_site_keep(kept));
    slot.site.stack_len = UINT32_MAX;
    assert_false(node_site_keep(kept));
}

static void test_site_long_names(void **state)
{
    (void)state;
    char name[OTSHIM_CODE_FUNCTION_MAX + 2];
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    make_call(1, "    at x", name, "/a.js", 1);
    assert_true(node_site_keep(kept));
    assert_true(words_of_kept());
    assert_int_equal(words.function_len, 0);
    assert_memory_equal(words.file, "/a.js", words.file_len);
    assert_int_equal(words.file_len, 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_current),    cmocka_unit_test(test_no_adapter), cmocka_unit_test(test_one_owner),
        cmocka_unit_test(test_two_owners), cmocka_unit_test(test_no_room),    cmocka_unit_test(test_site),
        cmocka_unit_test(test_site_heat),  cmocka_unit_test(test_site_none),  cmocka_unit_test(test_site_long_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
