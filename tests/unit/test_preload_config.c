/* test_preload_config.c - the environment: every variable right, wrong, empty and too long; the globs of OTSHIM_EXCLUDE. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/config.h"
#include <otshim/limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool load(const char *exe, const char *a, const char *b)
{
    char *envp[] = {(char *)(uintptr_t) "PATH=/bin", (char *)(uintptr_t)a, (char *)(uintptr_t)b, NULL};
    memset(&config, 0, sizeof(config));
    return config_load(envp, exe);
}

static void test_defaults(void **state)
{
    (void)state;
    assert_false(load("gunicorn", NULL, NULL));
    assert_int_equal(config.ring_bytes, OTSHIM_RING_DEFAULT_BYTES);
    assert_false(config.socket_path_set);
    assert_true(config.propagate_w3c);
    assert_int_equal(config.stack_threshold_ns, 100000000);
    assert_int_equal(config.log_level, 0);
    assert_string_equal(config.service_name, "");
    struct ctx parent = {.trace_flags = 1, .has_parent = 1};
    const uint8_t trace_id[16] = {1};
    assert_int_equal(sampler_decide(&config.sampler, &parent, trace_id) & 1, 1);
    assert_int_equal(sampler_decide(&config.sampler, NULL, trace_id) & 1, 1);
    memset(&config, 0, sizeof(config));
    assert_false(config_load(NULL, NULL));
}

static void test_disabled(void **state)
{
    (void)state;
    assert_true(load("nginx", "OTEL_SDK_DISABLED=true", NULL));
    assert_true(load("nginx", "OTEL_SDK_DISABLED=TRUE", NULL));
    assert_false(load("nginx", "OTEL_SDK_DISABLED=1", NULL)); /* the specification: only "true" is true */
    assert_false(load("nginx", "OTEL_SDK_DISABLED=", NULL));
    assert_false(load("nginx", "OTEL_SDK_DISABLED=truer", NULL));
    assert_false(load("nginx", "XOTEL_SDK_DISABLED=true", NULL));
    /* What an excluded shell starts must still find the library. */
    assert_true(load("bash", "LD_PRELOAD=/opt/libotshim.so", NULL));
    assert_string_equal(config.preload, "/opt/libotshim.so");
}

static void test_exclude(void **state)
{
    (void)state;
    static const char *const out[] = {"sh", "bash", "ls", "systemd", "systemd-journald", "gcc-12", "vim.basic", "x86_64"};
    for (size_t i = 0; i < 7; i++)
        assert_true(load(out[i], NULL, NULL));
    static const char *const in[] = {"nginx",   "python3.11", "curl",    "wget", "node", "java", "shx",
                                     "bashful", "gunicorn",   "apache2", "php",  "ruby", ""};
    for (size_t i = 0; i < sizeof(in) / sizeof(*in); i++)
        assert_false(load(in[i], NULL, NULL));
    assert_false(load("bash", "OTSHIM_EXCLUDE=", NULL)); /* empty: nobody */
    assert_false(load("bash", "OTSHIM_EXCLUDE=zsh", NULL));
    assert_true(load("worker-7", "OTSHIM_EXCLUDE=a,b:work*-?", NULL));
    assert_true(load("worker-7", "OTSHIM_EXCLUDE=*", NULL));
    assert_true(load("worker-7", "OTSHIM_EXCLUDE=x, *o*k*7 ,y", NULL));
    assert_false(load("worker-7", "OTSHIM_EXCLUDE=worker,worker-?7,*-8,?", NULL));
    assert_false(load("worker-7", "OTSHIM_EXCLUDE=,,::", NULL));
    char hard[300] = "OTSHIM_EXCLUDE=";
    for (int i = 0; i < 100; i++)
        strcat(hard, "*a");
    strcat(hard, "*b");
    assert_false(load("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", hard, NULL));
}

static void test_buffer_size(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t bytes;
    } cases[] = {{"1", 65536},
                 {"65536", 65536},
                 {"65537", 131072},
                 {"128k", 131072},
                 {"129K", 262144},
                 {"3M", 4194304},
                 {"8m", 8388608},
                 {"256M", 268435456},
                 {"257M", 268435456},
                 {"999999999M", 268435456},
                 {"", 4194304},
                 {"0", 65536},
                 {"-1", 4194304},
                 {"4MB", 4194304},
                 {"4 M", 4194304},
                 {"k", 4194304},
                 {"8G", 4194304},
                 {"0x10000", 4194304},
                 {"99999999999999999999999", 4194304}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        char entry[80];
        snprintf(entry, sizeof(entry), "OTSHIM_BUFFER_SIZE=%s", cases[i].text);
        load("x", entry, NULL);
        if (config.ring_bytes != cases[i].bytes)
            fail_msg("%s gives %llu", entry, (unsigned long long)config.ring_bytes);
    }
}

static void test_socket(void **state)
{
    (void)state;
    char longest[200] = "OTSHIM_SOCKET=/";
    load("x", "OTSHIM_SOCKET=/run/a.sock", NULL);
    assert_true(config.socket_path_set);
    assert_string_equal(config.socket_path, "/run/a.sock");
    memset(longest + 15, 'a', 106);
    load("x", longest, NULL);
    assert_int_equal(strlen(config.socket_path), 107);
    memset(longest + 15, 'a', 107);
    load("x", longest, NULL);
    assert_true(config.socket_path_set); /* no other place either */
    assert_string_equal(config.socket_path, "");
    load("x", "OTSHIM_SOCKET=", "XDG_RUNTIME_DIR=/run/user/7");
    assert_false(config.socket_path_set);
    assert_string_equal(config.xdg_runtime_dir, "/run/user/7");
}

static void test_others(void **state)
{
    (void)state;
    load("x", "OTEL_PROPAGATORS=b3,TraceContext", "OTSHIM_STACK_THRESHOLD=0");
    assert_true(config.propagate_w3c);
    assert_int_equal(config.stack_threshold_ns, 0);
    load("x", "OTEL_PROPAGATORS=none", "OTSHIM_STACK_THRESHOLD=off");
    assert_false(config.propagate_w3c);
    assert_true(config.stack_threshold_ns == UINT64_MAX);
    load("x", "OTSHIM_LOG=info", "OTSHIM_STACK_THRESHOLD=2500");
    assert_int_equal(config.log_level, 2);
    assert_true(config.stack_threshold_ns == 2500000000ull);
    load("x", "OTSHIM_LOG=3", "OTSHIM_STACK_THRESHOLD=fast");
    assert_int_equal(config.log_level, 3);
    assert_int_equal(config.stack_threshold_ns, 100000000);
    load("x", "OTEL_SERVICE_NAME=first", "OTEL_SERVICE_NAME=second");
    assert_string_equal(config.service_name, "first");
    load("x", "OTEL_TRACES_SAMPLER=always_off", NULL);
    const uint8_t trace_id[16] = {1};
    assert_int_equal(sampler_decide(&config.sampler, NULL, trace_id) & 1, 0);
}

static void test_long_texts(void **state)
{
    (void)state;
    char *attrs = calloc(1, 6000);
    strcpy(attrs, "OTEL_RESOURCE_ATTRIBUTES=a=b,c=");
    memset(attrs + strlen(attrs), 'x', 5000);
    load("x", attrs, NULL);
    assert_string_equal(config.resource_attributes, "a=b"); /* no half attribute */
    char *preload = calloc(1, 1000);
    strcpy(preload, "LD_PRELOAD=/");
    memset(preload + strlen(preload), 'y', 600);
    char *name = calloc(1, 1000);
    strcpy(name, "OTEL_SERVICE_NAME=");
    memset(name + strlen(name), 'n', 600);
    load("x", preload, name);
    assert_string_equal(config.preload, "");
    assert_int_equal(strlen(config.service_name), 255);
    free(attrs);
    free(preload);
    free(name);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),    cmocka_unit_test(test_disabled), cmocka_unit_test(test_exclude),
        cmocka_unit_test(test_buffer_size), cmocka_unit_test(test_socket),   cmocka_unit_test(test_others),
        cmocka_unit_test(test_long_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
