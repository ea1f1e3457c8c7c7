/* What an adapter finds out about its runtime reaches the exporter: before there is a ring and after, in each ring that follows, in a forked
 * child, once; and what is not exact is said in one line of the log. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/config.h"
#include "context/runtime.h"
#include "ring_consumer.h"
#include "span/span.h"
#include <errno.h>
#include <sys/wait.h>

#define SECOND 1000000000ull

static struct taker taker;

static void write_span(uint64_t end_ns)
{
    struct otshim_span_rec rec = {.start_ns = end_ns - 1000, .end_ns = end_ns, .kind = OTSHIM_SPAN_SERVER, .span_id = {1}};
    span_write(&rec, NULL, 0);
}

struct lines {
    unsigned count;
    char last[512];
};

static void keep_line(void *arg, const struct otshim_rec *head, const uint8_t *payload, size_t len)
{
    struct lines *lines = arg;
    struct otshim_attr attr;
    if (head->type != OTSHIM_RECORD_LOG)
        return;
    lines->count++;
    memcpy(&attr, payload + sizeof(struct otshim_log_rec), sizeof attr);
    assert_int_equal(attr.key, OTSHIM_ATTR_ERROR_TEXT);
    assert_in_range(attr.len, 1, len);
    snprintf(lines->last, sizeof lines->last, "%.*s", (int)attr.len,
             (const char *)payload + sizeof(struct otshim_log_rec) + sizeof attr);
}

static struct lines read_lines(struct otshim_shm *shm)
{
    struct lines lines = {0};
    struct consumer consumer;
    consumer_open(&consumer, shm);
    consumer_read(&consumer, 1000, false, keep_line, &lines);
    return lines;
}

static void assert_runtime(const struct otshim_shm *shm, unsigned i, const char *name, const char *version, const char *why_not)
{
    assert_int_equal(atomic_load(&shm->runtimes[i].state), OTSHIM_RUNTIME_THERE);
    assert_string_equal(shm->runtimes[i].name, name);
    assert_string_equal(shm->runtimes[i].version, version);
    assert_string_equal(shm->runtimes[i].why_not, why_not);
}

static void in_a_child(uint64_t now)
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        span_after_fork();
        write_span(now);
        _exit(0);
    }
    struct otshim_shm *shm = taker_accept(&taker, 5000);
    assert_non_null(shm);
    assert_int_equal(waitpid(child, NULL, 0), child); /* it draws after its hello */
    assert_runtime(shm, 0, "CPython", "3.99.1", "this version is not known");
    assert_runtime(shm, 1, "Node.js", "v20.1.0", "");
    assert_int_equal(read_lines(shm).count, 0); /* the parent has said it */
}

static void what_is_known_of_runtimes_is_in_every_ring(void **state)
{
    (void)state;
    uint64_t now = now_ns();
    errno = 4711;
    runtime_report("CPython", "3.99.1 (main, Nov  1 2026) [GCC]", "this version is not known");
    runtime_report("CPython", "3.99.1 (main, Nov  1 2026) [GCC]", "this version is not known");
    assert_int_equal(errno, 4711);
    taker_bind(&taker);
    write_span(now);
    struct otshim_shm *shm = taker_accept(&taker, 2000);
    assert_non_null(shm);
    assert_runtime(shm, 0, "CPython", "3.99.1", "this version is not known");
    assert_int_equal(atomic_load(&shm->runtimes[1].state), OTSHIM_RUNTIME_FREE);
    struct lines lines = read_lines(shm);
    assert_int_equal(lines.count, 1);
    assert_string_equal(lines.last,
                        "CPython 3.99.1: its own contexts are not read: this version is not known; calls made on threads that "
                        "many requests share will have no parent");

    runtime_report("Node.js", "v20.1.0", NULL); /* at once where the ring is there, and no line */
    assert_runtime(shm, 1, "Node.js", "v20.1.0", "");
    assert_int_equal(read_lines(shm).count, 0);
    in_a_child(now);

    write_span(now + 100 * SECOND); /* no heartbeat since: another ring for the next exporter */
    struct otshim_shm *next = taker_accept(&taker, 2000);
    assert_non_null(next);
    assert_runtime(next, 0, "CPython", "3.99.1", "this version is not known");
    assert_runtime(next, 1, "Node.js", "v20.1.0", "");

    runtime_report("Node.js", "v20.1.0", "its agent did not start"); /* it has changed: the later entry holds */
    assert_runtime(next, 2, "Node.js", "v20.1.0", "its agent did not start");
    assert_int_equal(read_lines(next).count, 1);
}

static void what_does_not_fit_is_cut(void **state)
{
    (void)state;
    char text[600];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    for (int i = 0; i < 2 * OTSHIM_RUNTIMES; i++) {
        text[0] = (char)('a' + i);
        runtime_report(text, text, text);
        runtime_report(text, text, text);
    }
    write_span(now_ns() + 200 * SECOND);
    struct otshim_shm *shm = taker_accept(&taker, 2000);
    assert_non_null(shm);
    for (int i = 3; i < OTSHIM_RUNTIMES; i++) {
        assert_int_equal(atomic_load(&shm->runtimes[i].state), OTSHIM_RUNTIME_THERE);
        assert_int_equal(shm->runtimes[i].name[0], 'a' + i - 3);
        assert_int_equal(strnlen(shm->runtimes[i].name, sizeof shm->runtimes[i].name), sizeof shm->runtimes[i].name - 1);
        assert_int_equal(strnlen(shm->runtimes[i].why_not, sizeof shm->runtimes[i].why_not), sizeof shm->runtimes[i].why_not - 1);
    }
    assert_int_equal(read_lines(shm).count, OTSHIM_RUNTIMES - 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_known_of_runtimes_is_in_every_ring),
        cmocka_unit_test(what_does_not_fit_is_cut),
    };
    taker_make_place(&taker);
    config.ring_bytes = 4u << 20;
    config.socket_path_set = true;
    snprintf(config.socket_path, sizeof config.socket_path, "%s", taker.path);
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    taker_close(&taker);
    rmdir(taker.dir);
    return failed;
}
