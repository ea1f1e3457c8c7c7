/* The log: one whole line an event whatever the text, a reader that stopped reading, reopening, repeated events. */
#include "log.h"
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static char path[64], text[65536];

static int setup(void **state)
{
    (void)state;
    snprintf(path, sizeof path, "/tmp/otshim-log-XXXXXX");
    close(mkstemp(path));
    return log_open(path, LOG_LEVEL_INFO);
}

static int teardown(void **state)
{
    (void)state;
    log_open(NULL, LOG_LEVEL_INFO);
    return unlink(path);
}

static const char *read_back(void)
{
    int fd = open(path, O_RDONLY);
    ssize_t n = read(fd, text, sizeof text - 1);

    close(fd);
    text[n > 0 ? n : 0] = '\0';
    return text;
}

static unsigned lines(const char *s)
{
    unsigned count = 0;

    for (; *s != '\0'; s++)
        count += *s == '\n';
    return count;
}

static void test_line(void **state)
{
    int year, month, day, hour, minute, second, ms, end = 0;

    (void)state;
    log_line(LOG_LEVEL_INFO, "hello %d", 42);
    log_line(LOG_LEVEL_DEBUG, "not asked for");
    read_back();
    assert_int_equal(
        sscanf(text, "%4d-%2d-%2dT%2d:%2d:%2d.%3dZ info hello 42\n%n", &year, &month, &day, &hour, &minute, &second, &ms, &end), 7);
    assert_int_equal(end, strlen(text));
}

static void test_text_of_others(void **state)
{
    (void)state;
    errno = 77;
    log_line(LOG_LEVEL_ERROR, "%s", "a\nforged line\r\x1b[2J\x7f d\xc3\xbc");
    assert_int_equal(errno, 77);
    assert_int_equal(lines(read_back()), 1);
    assert_non_null(strstr(text, "error a?forged line??[2J? d\xc3\xbc\n"));
}

static void test_long_text(void **state)
{
    static char longer[8192];

    (void)state;
    memset(longer, 'x', sizeof longer - 1);
    log_line(LOG_LEVEL_INFO, "%s", longer);
    log_line(LOG_LEVEL_INFO, "next");
    assert_int_equal(lines(read_back()), 2);
    assert_true(strlen(text) < 4096);
}

static void test_reopen(void **state)
{
    char moved[80];

    (void)state;
    log_line(LOG_LEVEL_INFO, "one");
    snprintf(moved, sizeof moved, "%s.1", path);
    assert_int_equal(rename(path, moved), 0);
    log_line(LOG_LEVEL_INFO, "two"); /* still to the old file */
    log_reopen();
    log_line(LOG_LEVEL_INFO, "three");
    assert_int_equal(lines(read_back()), 1);
    assert_non_null(strstr(text, "three"));
    unlink(moved);
    assert_int_equal(log_open("/no/such/directory/log", LOG_LEVEL_INFO), -ENOENT);
}

static void test_repeated(void **state)
{
    struct log_limit limit = {.every_s = 1};

    (void)state;
    for (int i = 0; i < 42; i++)
        log_limited(&limit, LOG_LEVEL_INFO, "again %d", i);
    assert_int_equal(lines(read_back()), 1);
    usleep(1050000);
    log_limited(&limit, LOG_LEVEL_INFO, "again");
    assert_int_equal(lines(read_back()), 2);
    assert_non_null(strstr(text, "again (41 more like this)\n"));
}

/* Standard error is a pipe that nobody reads: a short wait once, lines are given up and counted, and later ones say so. */
static void test_nobody_reads(void **state)
{
    int pipes[2], saved = dup(STDERR_FILENO);
    struct timespec before, after;
    static char drain[1 << 20];
    ssize_t n;

    (void)state;
    assert_int_equal(pipe(pipes), 0);
    fcntl(pipes[1], F_SETPIPE_SZ, 16384);
    dup2(pipes[1], STDERR_FILENO);
    log_open(NULL, LOG_LEVEL_INFO);
    clock_gettime(CLOCK_MONOTONIC, &before);
    for (int i = 0; i < 1000; i++)
        log_line(LOG_LEVEL_INFO, "a line of some length, number %d", i);
    clock_gettime(CLOCK_MONOTONIC, &after);
    assert_true(after.tv_sec - before.tv_sec <= 2);
    n = read(pipes[0], drain, sizeof drain);
    assert_true(n > 0);
    log_line(LOG_LEVEL_INFO, "read again");
    n = read(pipes[0], drain, sizeof drain - 1);
    dup2(saved, STDERR_FILENO);
    assert_true(n > 0);
    drain[n] = '\0';
    assert_non_null(strstr(drain, "log lines are missing here"));
    assert_non_null(strstr(drain, "read again"));
    close(saved);
    close(pipes[0]);
    close(pipes[1]);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_line),   TEST(test_text_of_others), TEST(test_long_text),
        TEST(test_reopen), TEST(test_repeated),       TEST(test_nobody_reads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
