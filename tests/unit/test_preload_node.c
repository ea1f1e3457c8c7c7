/* test_preload_node.c - whose a thread of Node's says it is, and whose a name that another thread looks up. */
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_current),    cmocka_unit_test(test_no_adapter), cmocka_unit_test(test_one_owner),
        cmocka_unit_test(test_two_owners), cmocka_unit_test(test_no_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
