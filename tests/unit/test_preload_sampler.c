/* test_preload_sampler.c - OTEL_TRACES_SAMPLER and what it decides. */
#include "context/context.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static struct sampler parse(const char *name, const char *arg, int expected)
{
    struct sampler s;
    const char *why = NULL;
    assert_int_equal(sampler_parse(&s, name, arg, &why), expected);
    assert_true((why != NULL) == (expected != 0));
    return s;
}

/* What the sampler says of: no parent, a sampled parent, one that is not. */
static void decides(struct sampler s, int root, int sampled, int unsampled)
{
    uint8_t trace_id[16] = {0};
    memset(trace_id + 9, 0x7f, 7); /* just below the middle: a ratio of 0.6 takes it, 0.4 does not */
    struct ctx yes = {.has_parent = 1, .trace_flags = 1}, no = {.has_parent = 1, .trace_flags = 0}, none = {.trace_flags = 1};
    assert_int_equal(sampler_decide(&s, NULL, trace_id), root);
    assert_int_equal(sampler_decide(&s, &none, trace_id), root);
    assert_int_equal(sampler_decide(&s, &yes, trace_id), sampled);
    assert_int_equal(sampler_decide(&s, &no, trace_id), unsampled);
}

static void test_names(void **unused)
{
    (void)unused;
    decides(parse(NULL, NULL, 0), 1, 1, 0);
    decides(parse("", "0.5", 0), 1, 1, 0);
    decides(parse("parentbased_always_on", NULL, 0), 1, 1, 0);
    decides(parse("parentbased_always_off", NULL, 0), 0, 1, 0);
    decides(parse("parentbased_traceidratio", "0.6", 0), 1, 1, 0);
    decides(parse("parentbased_traceidratio", "0.4", 0), 0, 1, 0);
    decides(parse("always_on", NULL, 0), 1, 1, 1);
    decides(parse("ALWAYS_OFF", NULL, 0), 0, 0, 0);
    decides(parse("traceidratio", "0.6", 0), 1, 1, 1);
    decides(parse("traceidratio", "0.4", 0), 0, 0, 0);
    decides(parse("jaeger_remote", NULL, -EINVAL), 1, 1, 0);
    decides(parse("always_on ", NULL, -EINVAL), 1, 1, 0);
}

static void test_arguments(void **unused)
{
    (void)unused;
    const uint64_t all = 1ull << 56;
    static const struct {
        const char *arg;
        double ratio;
    } good[] = {{NULL, 1},  {"", 1},       {"1", 1},   {"1.0", 1},   {"0", 0},
                {"0.0", 0}, {"0.25", .25}, {".5", .5}, {"5e-1", .5}, {"2.5E-01", .25}};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        uint64_t expected = (uint64_t)((1 - good[i].ratio) * (double)all), got = parse("traceidratio", good[i].arg, 0).threshold;
        assert_in_range(got, expected > 16 ? expected - 16 : 0, expected + 16);
    }
    static const char *const bad[] = {"x", "-1", "1.01", "0,5", "0.5x", "1e", ".", "nan", "1e999999999999", " 0.5"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(parse("traceidratio", bad[i], -EINVAL).threshold, 0);
}

/* A trace that a small ratio takes is taken by every larger one; and the share is about right. */
static void test_share(void **unused)
{
    (void)unused;
    struct sampler tenth = parse("traceidratio", "0.1", 0), half = parse("traceidratio", "0.5", 0);
    int count = 0;
    for (int i = 0; i < 100000; i++) {
        uint8_t trace_id[16];
        ids_trace(trace_id);
        int taken = sampler_decide(&tenth, NULL, trace_id);
        count += taken;
        if (taken)
            assert_int_equal(sampler_decide(&half, NULL, trace_id), 1);
    }
    assert_in_range(count, 9500, 10500);
    uint8_t least[16] = {[9] = 0, [8] = 0xff}, most[16];
    memset(most, 0xff, 16);
    struct sampler never = parse("traceidratio", "0", 0), always = parse("traceidratio", "1", 0);
    assert_int_equal(sampler_decide(&never, NULL, most), 0);
    assert_int_equal(sampler_decide(&always, NULL, least), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_names), cmocka_unit_test(test_arguments),
                                       cmocka_unit_test(test_share)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
