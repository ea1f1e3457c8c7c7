/* Lines of instructions, by the tables that each version's compiler makes: the same as Python says. And by tables that are cut or garbage. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "context/python/lines.h"
#include "python_tables.h"
#include <stdlib.h>
#include <string.h>

struct version {
    unsigned minor;
    const uint8_t *table;
    size_t len;
    const struct run *runs;
    size_t count;
    int32_t end;
};
#define VERSION(minor)                                                                                                             \
    {                                                                                                                              \
        minor, table_##minor, sizeof table_##minor, runs_##minor, sizeof runs_##minor / sizeof *runs_##minor, END_##minor          \
    }
static const struct version versions[] = {VERSION(8), VERSION(9), VERSION(10), VERSION(11), VERSION(12), VERSION(13), VERSION(14)};
#define VERSIONS (sizeof versions / sizeof *versions)

static void each_instruction_has_the_line_that_python_says(void **state)
{
    (void)state;
    for (size_t v = 0; v < VERSIONS; v++) {
        const struct version *version = &versions[v];
        size_t run = 0;
        for (int32_t at = 0; at < version->end; at += 2) {
            while (run + 1 < version->count && version->runs[run + 1].at <= at)
                run++;
            const uint32_t line = lines_of(version->minor, version->table, version->len, 1, at);
            if (line != version->runs[run].line)
                fail_msg("3.%u, instruction %d: line %u, not %u", version->minor, at, line, version->runs[run].line);
        }
        assert_true(version->count > 20);
    }
}

static void before_its_first_instruction_a_function_is_where_it_begins(void **state)
{
    (void)state;
    for (size_t v = 0; v < VERSIONS; v++)
        assert_int_equal(lines_of(versions[v].minor, versions[v].table, versions[v].len, 77, -2), 77);
}

/* Nothing is read beyond the end (the tables lie at the end of an allocation: run it under valgrind or ASan), and what is not known is 0. */
static void a_table_that_is_cut_is_not_read_beyond(void **state)
{
    (void)state;
    for (size_t v = 0; v < VERSIONS; v++) {
        const struct version *version = &versions[v];
        for (size_t len = 0; len < version->len; len++) {
            uint8_t *cut = malloc(len + 1);
            memcpy(cut, version->table, len);
            lines_of(version->minor, cut, len, 1, version->end - 2);
            if (version->minor >= 10)
                assert_int_equal(lines_of(version->minor, cut, len, 1, 1 << 30), 0);
            free(cut);
        }
    }
}

static void garbage_gives_some_line_or_none(void **state)
{
    (void)state;
    uint8_t table[257];
    uint32_t seed = 1;
    for (int round = 0; round < 20000; round++) {
        for (size_t i = 0; i < sizeof table; i++)
            table[i] = (uint8_t)((seed = seed * 1664525u + 1013904223u) >> 24);
        const uint32_t line = lines_of(8 + (unsigned)round % 6, table, sizeof table, seed, (int32_t)(seed >> 20));
        assert_true(line <= INT32_MAX);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_instruction_has_the_line_that_python_says),
        cmocka_unit_test(before_its_first_instruction_a_function_is_where_it_begins),
        cmocka_unit_test(a_table_that_is_cut_is_not_read_beyond),
        cmocka_unit_test(garbage_gives_some_line_or_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
