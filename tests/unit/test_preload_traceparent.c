/* test_preload_traceparent.c - traceparent as W3C Trace Context has it; and ids that are never twice the same. */
#include "context/context.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define TRACE "0af7651916cd43dd8448eb211c80319c"
#define SPAN "b7ad6b7169203331"

static void test_valid(void **unused)
{
    (void)unused;
    static const struct {
        const char *text;
        uint8_t flags;
    } cases[] = {
        {"00-" TRACE "-" SPAN "-01", 1},      {"00-" TRACE "-" SPAN "-00", 0},        {"00-" TRACE "-" SPAN "-03", 3},
        {"00-" TRACE "-" SPAN "-ff", 3},      {" \t00-" TRACE "-" SPAN "-01 \t ", 1}, {"01-" TRACE "-" SPAN "-01", 1},
        {"cc-" TRACE "-" SPAN "-01-what", 1}, {"fe-" TRACE "-" SPAN "-01-", 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct ctx ctx;
        memset(&ctx, 0xee, sizeof ctx);
        assert_true(traceparent_parse(cases[i].text, strlen(cases[i].text), &ctx));
        assert_int_equal(ctx.trace_flags, cases[i].flags);
        assert_int_equal(ctx.trace_id[0], 0x0a);
        assert_int_equal(ctx.trace_id[15], 0x9c);
        assert_int_equal(ctx.span_id[0], 0xb7);
        assert_int_equal(ctx.span_id[7], 0x31);
        assert_int_equal(ctx.rule, OTSHIM_PARENT_REMOTE);
        assert_int_equal(ctx.has_parent, 1);
        assert_int_equal(ctx.tracestate, 0);
    }
}

static void test_invalid(void **unused)
{
    (void)unused;
    static const char *const cases[] = {
        "",
        "00",
        "00-" TRACE "-" SPAN,
        "00-" TRACE "-" SPAN "-0",
        "00-" TRACE "-" SPAN "-01-",
        "00-" TRACE "-" SPAN "-01-extra",
        "00-" TRACE "-" SPAN "-010",
        "01-" TRACE "-" SPAN "-010",
        "ff-" TRACE "-" SPAN "-01",
        "0x-" TRACE "-" SPAN "-01",
        "00-00000000000000000000000000000000-" SPAN "-01",
        "00-" TRACE "-0000000000000000-01",
        "00-0AF7651916CD43DD8448EB211C80319C-" SPAN "-01",
        "00-" TRACE "-B7AD6B7169203331-01",
        "00-" TRACE "-" SPAN "-0G",
        "00-" TRACE "-" SPAN "-.1",
        "00_" TRACE "-" SPAN "-01",
        "00-" TRACE "_" SPAN "-01",
        "00-" TRACE "-" SPAN "_01",
        "00-" TRACE "-" SPAN "-01, 00-" TRACE "-" SPAN "-01",
        "00-ggf7651916cd43dd8448eb211c80319c-" SPAN "-01",
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct ctx ctx, before;
        memset(&before, 0xee, sizeof before);
        ctx = before;
        char *exact = malloc(strlen(cases[i]) + 1); /* a read past the end is then found */
        memcpy(exact, cases[i], strlen(cases[i]));
        if (traceparent_parse(exact, strlen(cases[i]), &ctx))
            fail_msg("taken for good: %s", cases[i]);
        assert_memory_equal(&ctx, &before, sizeof ctx);
        free(exact);
    }
}

static void test_round_trip(void **unused)
{
    (void)unused;
    struct ctx ctx = {.trace_flags = 1, .has_parent = 1}, back;
    ids_trace(ctx.trace_id);
    ids_span(ctx.span_id);
    char text[TRACEPARENT_LEN];
    traceparent_format(&ctx, text);
    assert_true(traceparent_parse(text, sizeof text, &back));
    assert_memory_equal(back.trace_id, ctx.trace_id, 16);
    assert_memory_equal(back.span_id, ctx.span_id, 8);
    assert_int_equal(back.trace_flags, 1);
}

static int compare(const void *a, const void *b)
{
    return memcmp(a, b, 8);
}

static void test_ids_differ(void **unused)
{
    (void)unused;
    enum { COUNT = 100000 };
    static uint8_t ids[COUNT][8];
    unsigned ones = 0;
    for (int i = 0; i < COUNT; i++) {
        ids_span(ids[i]);
        for (int b = 0; b < 8; b++)
            ones += (unsigned)__builtin_popcount(ids[i][b]);
    }
    assert_in_range(ones / (COUNT / 100), 3180, 3220); /* half of 64 bits */
    qsort(ids, COUNT, 8, compare);
    for (int i = 1; i < COUNT; i++)
        assert_memory_not_equal(ids[i - 1], ids[i], 8);
}

/* A child's ids are others than its parent's: after fork, of which init.c's handler tells, and after one that bypasses libc. */
static void test_ids_after_fork(void **unused)
{
    (void)unused;
    uint8_t warm[8];
    ids_span(warm);
    uint8_t(*shared)[8] = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    for (int raw = 0; raw < 2; raw++) {
        pid_t pid = raw ? (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL) : fork();
        if (pid == 0) {
            otshim_fork_generation += raw ? 0 : 1;
            ids_span(shared[0]);
            _exit(0);
        }
        ids_span(shared[1]);
        waitpid(pid, NULL, 0);
        assert_memory_not_equal(shared[0], shared[1], 8);
    }
    munmap(shared, 4096);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_valid),      cmocka_unit_test(test_invalid),        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_ids_differ), cmocka_unit_test(test_ids_after_fork),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
