/* test_preload_classfile.c - calls put into the methods of Java classes. The classes are made here, byte by byte, one method each; and one is javac's. */
#include "context/jvm/classfile.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define HELPER "a/Helper"

struct bytes {
    uint8_t at[200000];
    size_t len;
};

static void put(struct bytes *b, uint32_t value, unsigned n)
{
    for (unsigned i = n; i-- > 0;)
        b->at[b->len++] = (uint8_t)(value >> 8 * i);
}

static void put_utf8(struct bytes *b, const char *text)
{
    put(b, 1, 1), put(b, (uint32_t)strlen(text), 2);
    memcpy(b->at + b->len, text, strlen(text));
    b->len += strlen(text);
}

enum { NAME_LINES = 9, NAME_FRAMES = 8, NAME_CODE = 7, CALLED = 12, POOL = 13 };

/* A class with method m()V of this code; rest: what follows it in the attribute (handlers, attributes); NULL: none. */
static void make(struct bytes *b, const uint8_t *code, size_t len, const uint8_t *rest, size_t rest_len)
{
    static const uint8_t nothing[4];
    b->len = 0;
    put(b, 0xcafebabe, 4), put(b, 0, 2), put(b, 61, 2), put(b, POOL, 2);
    put_utf8(b, "T"), put(b, 7, 1), put(b, 1, 2);
    put_utf8(b, "java/lang/Object"), put(b, 7, 1), put(b, 3, 2);
    put_utf8(b, "m"), put_utf8(b, "()V"), put_utf8(b, "Code"), put_utf8(b, "StackMapTable"), put_utf8(b, "LineNumberTable");
    put_utf8(b, "called"), put(b, 12, 1), put(b, 10, 2), put(b, 6, 2);
    put(b, 10, 1), put(b, 2, 2), put(b, 11, 2);
    put(b, 0x21, 2), put(b, 2, 2), put(b, 4, 2), put(b, 0, 2), put(b, 0, 2);
    put(b, 1, 2);
    put(b, 1, 2), put(b, 5, 2), put(b, 6, 2), put(b, 1, 2);
    if (rest == NULL)
        rest = nothing, rest_len = sizeof nothing;
    put(b, NAME_CODE, 2), put(b, (uint32_t)(8 + len + rest_len), 4);
    put(b, 3, 2), put(b, 1, 2), put(b, (uint32_t)len, 4);
    memcpy(b->at + b->len, code, len), b->len += len;
    memcpy(b->at + b->len, rest, rest_len), b->len += rest_len;
    put(b, 0, 2);
}

static struct bytes in, out;

static size_t rewrite(const struct classfile_edit *edits, size_t count)
{
    uint8_t *exact = malloc(in.len); /* so that valgrind and the like see a byte beyond it */
    memcpy(exact, in.at, in.len);
    out.len = classfile_rewrite(exact, in.len, HELPER, edits, count, out.at, sizeof out.at);
    free(exact);
    return out.len;
}

/* The code of the method in `out`, up to the end of the attribute. The pool grew by 4 + 3 n constants. */
static const uint8_t *code_out(size_t *len, const uint8_t **rest)
{
    /* Nothing precedes it that could look like this: max_stack 4, max_locals 1. */
    static const uint8_t head[] = {0, 4, 0, 1};
    const uint8_t *at = out.at + out.len;
    while (memcmp(--at, head, sizeof head) != 0)
        assert_true(at > out.at);
    *len = (size_t)at[6] << 8 | at[7];
    *rest = at + 8 + *len;
    return at + 8;
}

#define EDIT(where, argument)                                                                                                      \
    {                                                                                                                              \
        "m", "()V", CLASSFILE_##where, CLASSFILE_##argument, "called", "hook"                                                      \
    }
#define METHODREF (POOL + 6) /* of the first edit */

static void assert_code(const uint8_t *expected, size_t len)
{
    size_t have;
    const uint8_t *rest, *code = code_out(&have, &rest);
    assert_int_equal(have, len);
    assert_memory_equal(code, expected, len);
}

static void test_entry_and_returns(void **unused)
{
    (void)unused;
    static const uint8_t code[] = {0x2a, 0xc6, 0, 4, 0xb1, 0xb1}; /* aload_0; ifnull to the second return */
    make(&in, code, sizeof code, NULL, 0);
    static const struct classfile_edit entry[] = {EDIT(ENTRY, LOCAL_0)};
    assert_true(rewrite(entry, 1) != 0);
    static const uint8_t with_entry[] = {0x2a, 0xb8, 0, METHODREF, 0x2a, 0xc6, 0, 4, 0xb1, 0xb1};
    assert_code(with_entry, sizeof with_entry);
    static const struct classfile_edit returns[] = {EDIT(RETURNS, NOTHING)};
    assert_true(rewrite(returns, 1) != 0);
    /* the branch to the second return goes to the call before it */
    static const uint8_t with_returns[] = {0x2a, 0xc6, 0, 8, 0, 0xb8, 0, METHODREF, 0xb1, 0, 0xb8, 0, METHODREF, 0xb1};
    assert_code(with_returns, sizeof with_returns);
}

static void test_before_a_call(void **unused)
{
    (void)unused;
    static const uint8_t code[] = {0x2a, 0xb6, 0, CALLED, 0xa7, 0xff, 0xfc}; /* aload_0; invokevirtual; goto 0 */
    make(&in, code, sizeof code, NULL, 0);
    static const struct classfile_edit before[] = {EDIT(BEFORE_CALL, TOP)};
    assert_true(rewrite(before, 1) != 0);
    static const uint8_t expected[] = {0x2a, 0x59, 0xb8, 0, METHODREF, 0xb6, 0, CALLED, 0xa7, 0xff, 0xf8};
    assert_code(expected, sizeof expected);
    static const struct classfile_edit other[] = {{"m", NULL, CLASSFILE_BEFORE_CALL, CLASSFILE_TOP, "other", "hook"}};
    assert_int_equal(rewrite(other, 1), 0);
    /* A method whose beginning is the head of a loop is not entered once. */
    static const struct classfile_edit entry[] = {EDIT(ENTRY, NOTHING)};
    assert_int_equal(rewrite(entry, 1), 0);
}

static void test_switches(void **unused)
{
    (void)unused;
    static const uint8_t table[] = {0x1a, 0xaa, 0, 0, 0, 0, 0, 24, 0, 0, 0, 7, 0, 0, 0, 8, 0, 0, 0, 23, 0, 0, 0, 24, 0xb1, 0xb1};
    make(&in, table, sizeof table, NULL, 0);
    static const struct classfile_edit returns[] = {EDIT(RETURNS, NOTHING)};
    assert_true(rewrite(returns, 1) != 0);
    static const uint8_t moved[] = {0x1a, 0xaa, 0,  0, 0, 0, 0,  28, 0,    0, 0,         7,    0, 0,    0, 8,         0,
                                    0,    0,    23, 0, 0, 0, 28, 0,  0xb8, 0, METHODREF, 0xb1, 0, 0xb8, 0, METHODREF, 0xb1};
    assert_code(moved, sizeof moved);
    static const uint8_t lookup[] = {0x1a, 0xab, 0, 0, 0, 0, 0, 19, 0, 0, 0, 1, 0xff, 0, 0, 0, 0, 0, 0, 20, 0xb1, 0xb1};
    make(&in, lookup, sizeof lookup, NULL, 0);
    static const struct classfile_edit both[] = {EDIT(ENTRY, LOCAL_0), EDIT(RETURNS, NOTHING)};
    assert_true(rewrite(both, 2) != 0);
    static const uint8_t looked[] = {0x2a, 0xb8, 0, METHODREF, 0x1a, 0xab,          0,    0, 0,    0, 0,
                                     19,   0,    0, 0,         1,    0xff,          0,    0, 0,    0, 0,
                                     0,    24,   0, 0xb8,      0,    METHODREF + 3, 0xb1, 0, 0xb8, 0, METHODREF + 3,
                                     0xb1};
    assert_code(looked, sizeof looked);
}

static void test_frames_lines_and_handlers(void **unused)
{
    (void)unused;
    /* new T; dup; ifnull 11; nop...; two frames: one 63 behind, one with an object that is not initialised yet */
    uint8_t code[80] = {0xbb, 0, 2, 0x57, 0xb1};
    code[79] = 0xb1;
    static const uint8_t rest[] = {
        0, 1,           0, 0, 0, 5,  0, 79, 0,  2,                                 /* handler: 0 to 5, at 79 */
        0, 2,                                                                      /* attributes */
        0, NAME_FRAMES, 0, 0, 0, 13, 0, 2,  63, 255, 0, 14, 0, 1,  8, 0,  0, 0, 0, /* same at 63, full at 78 */
        0, NAME_LINES,  0, 0, 0, 10, 0, 2,  0,  0,   0, 17, 0, 79, 0, 18,          /* 0: 17, 79: 18 */
    };
    make(&in, code, sizeof code, rest, sizeof rest);
    static const struct classfile_edit both[] = {EDIT(ENTRY, LOCAL_0), EDIT(RETURNS, NOTHING)};
    assert_true(rewrite(both, 2) != 0);
    size_t len;
    const uint8_t *have;
    code_out(&len, &have);
    assert_int_equal(len, sizeof code + 12);
    static const uint8_t expected[] = {
        0,  1, 0, 0, 0, 13, 0, 87, 0, 2,          0, 2, 0, NAME_FRAMES, 0, 0, 0, 15, 0, 2,  251, 0,  71, 255, 0,
        14, 0, 1, 8, 0, 4,  0, 0,  0, NAME_LINES, 0, 0, 0, 10,          0, 2, 0, 0,  0, 17, 0,   87, 0,  18,
    };
    assert_memory_equal(have, expected, sizeof expected);
}

static void test_what_does_not_fit(void **unused)
{
    (void)unused;
    static uint8_t code[65536];
    static const struct classfile_edit returns[] = {EDIT(RETURNS, NOTHING)};
    memset(code, 0, sizeof code);
    code[0] = 0xc6, code[1] = 0x7f, code[2] = 0xfe; /* ifnull 32766, over a return */
    code[10] = code[32766] = 0xb1;
    make(&in, code, 32767, NULL, 0);
    assert_int_equal(rewrite(returns, 1), 0);
    code[2] = 0xf0;
    assert_true(rewrite(returns, 1) == 0); /* in.at is a copy: still the old one */
    code[32752] = 0;
    make(&in, code, 32767, NULL, 0);
    assert_true(rewrite(returns, 1) != 0);
    memset(code, 0, sizeof code);
    code[65534] = 0xb1; /* the longest method there may be */
    make(&in, code, 65535, NULL, 0);
    assert_int_equal(rewrite(returns, 1), 0);
    static const uint8_t beyond[] = {0xa7, 0, 9, 0xb1}, cut[] = {0xb1, 0xa7, 0}, jsr[] = {0xa8, 0, 3, 0xb1},
                         undefined[] = {0xb1, 0xfe};
    make(&in, beyond, sizeof beyond, NULL, 0);
    assert_int_equal(rewrite(returns, 1), 0);
    make(&in, cut, sizeof cut, NULL, 0);
    assert_int_equal(rewrite(returns, 1), 0);
    make(&in, jsr, sizeof jsr, NULL, 0);
    assert_int_equal(rewrite(returns, 1), 0);
    make(&in, undefined, sizeof undefined, NULL, 0);
    assert_int_equal(rewrite(returns, 1), 0);
}

static void read_seed(void)
{
    FILE *f = fopen("tests/fuzz/corpus/fuzz_preload_classfile/task", "rb");
    assert_non_null(f);
    in.len = fread(in.at, 1, sizeof in.at, f);
    fclose(f);
}

static const struct classfile_edit seed_edits[] = {
    {"execute", "(Ljava/lang/Runnable;)V", CLASSFILE_ENTRY, CLASSFILE_LOCAL_1, NULL, "given"},
    {"runWorker", NULL, CLASSFILE_BEFORE_CALL, CLASSFILE_TOP, "beforeExecute", "begins"},
    {"choose", NULL, CLASSFILE_RETURNS, CLASSFILE_NOTHING, NULL, "returns"},
};

static void test_a_compiled_class(void **unused)
{
    (void)unused;
    read_seed();
    size_t once = rewrite(seed_edits, 3);
    assert_true(once > 1000); /* without its tables of local variables it may be shorter */
    in = out;
    assert_true(rewrite(seed_edits, 3) > once);
}

static void test_cut_and_changed_anywhere(void **unused)
{
    (void)unused;
    read_seed();
    size_t len = in.len;
    for (in.len = 0; in.len < len; in.len++)
        assert_int_equal(rewrite(seed_edits, 3), 0);
    in.len = len;
    for (size_t i = 0; i < len; i++)
        for (int bit = 0; bit < 8; bit++) {
            in.at[i] ^= (uint8_t)(1 << bit);
            assert_true(rewrite(seed_edits, 3) < classfile_room(len));
            in.at[i] ^= (uint8_t)(1 << bit);
        }
    size_t made = rewrite(seed_edits, 3);
    for (size_t room = 0; room < made; room += 7)
        assert_int_equal(classfile_rewrite(in.at, in.len, HELPER, seed_edits, 3, out.at, room), 0);
}

static void test_helper(void **unused)
{
    (void)unused;
    static const char *const names[] = {"one", "two", "three"};
    static const uint8_t head[] = {0xca, 0xfe, 0xba, 0xbe, 0,   0,   0,   52,  0,   10, 1, 0,
                                   8,    'a',  '/',  'H',  'e', 'l', 'p', 'e', 'r', 7,  0, 1};
    size_t len = classfile_helper(HELPER, names, 2, 3, out.at, sizeof out.at);
    assert_true(len > sizeof head);
    assert_memory_equal(out.at, head, sizeof head);
    static const uint8_t methods[] = {0, 3, 1, 9, 0, 7, 0, 5, 0, 0, 1, 9, 0, 8, 0, 5, 0, 0, 1, 9, 0, 9, 0, 6, 0, 0, 0, 0};
    assert_memory_equal(out.at + len - sizeof methods, methods, sizeof methods);
    for (size_t room = 0; room < len; room++)
        assert_int_equal(classfile_helper(HELPER, names, 2, 3, out.at, room), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_entry_and_returns),
        cmocka_unit_test(test_before_a_call),
        cmocka_unit_test(test_switches),
        cmocka_unit_test(test_frames_lines_and_handlers),
        cmocka_unit_test(test_what_does_not_fit),
        cmocka_unit_test(test_a_compiled_class),
        cmocka_unit_test(test_cut_and_changed_anywhere),
        cmocka_unit_test(test_helper),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
