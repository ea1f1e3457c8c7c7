/* test_preload_turn.c - the turns of an event loop: in which of them the request that was read may still be the one that is worked on. Each clause of
 * context/turn.h has a case here that fails without it; with real descriptors: tests/host/proc/turns.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "context/context.h"
#include "context/turn.h"
#include <pthread.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define FOR_EVER (-1)
#define MS 1000000ll

static const uint8_t mine[8] = {1}, other[8] = {2};

/* A loop whose timeouts are known to be computed, on a thread and in a process of which nothing is known. */
static int fresh(void **state)
{
    (void)state;
    memset(&turn_mine, 0, sizeof turn_mine);
    turn_after_fork();
    turn_manner = TURN_COMPUTES;
    turn_timerfd = false;
    return 0;
}

static void in_thread(void *(*run)(void *))
{
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, run, NULL), 0);
    pthread_join(thread, NULL);
}

static void a_worker_has_no_turns(void **state)
{
    (void)state;
    assert_true(turn_certain());
    turn_stranger();
    turn_about(mine);
    turn_about(other);
    assert_true(turn_certain());
    turn_begin(2, FOR_EVER);
    assert_false(turn_certain());
    turn_worker();
    assert_true(turn_certain());
}

static void one_event(void **state)
{
    (void)state;
    turn_begin(1, FOR_EVER);
    assert_true(turn_certain());
    turn_begin(2, FOR_EVER);
    assert_false(turn_certain());
    turn_begin(0, FOR_EVER);
    assert_false(turn_certain());
    turn_begin(-1, FOR_EVER);
    assert_false(turn_certain());
    turn_begin(1, FOR_EVER);
    assert_true(turn_certain());
    turn_manner = TURN_PROMPT;
    turn_begin(2, FOR_EVER);
    assert_true(turn_certain());
    turn_begin(0, FOR_EVER);
    assert_false(turn_certain());
}

static void no_timer(void **state)
{
    (void)state;
    turn_begin(1, FOR_EVER);
    turn_begin(1, 0);
    assert_false(turn_certain());
    turn_begin(1, 1); /* less than is lost in rounding */
    assert_false(turn_certain());
    turn_begin(1, 5000 * MS);
    assert_true(turn_certain());
    uint64_t since = turn_mine.returned_ns;
    turn_begin(1, 40 * MS);
    assert_true(turn_certain());
    assert_int_equal(turn_mine.due_ns, since + 38 * MS); /* the clock and the timeout are rounded */
    usleep(41000);
    assert_false(turn_certain());
    turn_begin(1, 40 * MS); /* counted from the return of the wait before, which is 40 ms ago */
    assert_false(turn_certain());
    turn_begin(1, 40 * MS);
    assert_true(turn_certain());
}

/* libevent's precise timers are not in its timeouts. */
static void timers_that_are_descriptors(void **state)
{
    (void)state;
    turn_begin(1, FOR_EVER);
    turn_timerfd = true;
    assert_false(turn_certain());
    turn_manner = TURN_EVENTS; /* libev, libuv */
    assert_true(turn_certain());
    turn_manner = TURN_UNKNOWN; /* a loop of the program's own acts on such a descriptor's event */
    assert_true(turn_certain());
}

/* The first wait's timeout may have been computed at any time since the start of the process. */
static void the_first_wait(void **state)
{
    (void)state;
    turn_init("server");
    turn_manner = TURN_COMPUTES;
    usleep(31000);
    turn_begin(1, 30 * MS);
    assert_false(turn_certain());
    fresh(NULL);
    turn_begin(1, 60000 * MS);
    assert_true(turn_certain());
}

static void timeouts_are_believed_that_change(void **state)
{
    (void)state;
    turn_manner = TURN_UNKNOWN;
    for (int i = 0; i < 8; i++) {
        turn_begin(1, 5000 * MS); /* a tick */
        assert_false(turn_certain());
    }
    for (int i = 1; i <= 4; i++)
        turn_begin(1, (5000 - i) * MS);
    assert_true(turn_certain());
    turn_begin(1, FOR_EVER);
    assert_true(turn_certain());
    usleep(20000);
    turn_begin(1, 5000 * MS);
    assert_true(turn_certain());
    turn_begin(1, 5000 * MS); /* the same again, though the wait was cut short 20 ms after the one before */
    assert_false(turn_certain());
    turn_begin(1, FOR_EVER);
    assert_true(turn_certain());
}

static void *turns(void *arg)
{
    turn_begin(1, FOR_EVER);
    return arg;
}

static void one_loop(void **state)
{
    (void)state;
    turn_begin(1, FOR_EVER);
    in_thread(turns);
    assert_false(turn_certain());
    turn_begin(1, FOR_EVER);
    assert_false(turn_certain());
    turn_worker();
    assert_true(turn_certain());
    turn_begin(1, FOR_EVER);
    pid_t child = fork();
    if (child == 0) {
        turn_after_fork(); /* as the library's handler does */
        turn_begin(1, FOR_EVER);
        _exit(turn_certain() ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_false(turn_certain());
}

static struct turn *whose;

static void *gives(void *arg)
{
    turn_gives_work(whose);
    return arg;
}

static void nobody_gives_it_work(void **state)
{
    (void)state;
    struct turn another;
    whose = &another;
    turn_begin(1, FOR_EVER);
    turn_gives_work(NULL); /* its own */
    in_thread(gives);
    assert_true(turn_certain());
    turn_manner = TURN_EVENTS;
    whose = NULL;
    in_thread(gives);
    assert_true(turn_certain());
    turn_manner = TURN_COMPUTES;
    whose = &turn_mine;
    in_thread(gives);
    assert_false(turn_certain());
    fresh(NULL);
    turn_begin(1, FOR_EVER);
    whose = NULL;
    in_thread(gives);
    turn_begin(1, FOR_EVER);
    assert_false(turn_certain());
}

static void what_wakes_it(void **state)
{
    (void)state;
    turn_read_other(); /* a worker's */
    turn_begin(1, FOR_EVER);
    assert_true(turn_certain());
    turn_read_other();
    assert_false(turn_certain());
    turn_begin(1, FOR_EVER); /* it was a signal, or a timer */
    assert_true(turn_certain());
    turn_threads = true;
    turn_read_other();
    turn_begin(1, FOR_EVER);
    assert_false(turn_certain());
}

static void for_one_request(void **state)
{
    (void)state;
    turn_begin(1, FOR_EVER);
    turn_about(mine);
    turn_about(mine);
    assert_true(turn_certain());
    turn_about(other);
    assert_false(turn_certain());
    turn_about(mine);
    assert_false(turn_certain());
    turn_begin(1, FOR_EVER);
    turn_about(other);
    assert_true(turn_certain());
    turn_about(NULL);
    assert_false(turn_certain());
    turn_begin(1, FOR_EVER);
    turn_about(NULL);
    turn_about(mine);
    assert_false(turn_certain());
    turn_begin(1, FOR_EVER);
    turn_stranger();
    assert_false(turn_certain());
}

static void calls_in_line(void **state)
{
    (void)state;
    turn_begin(1, FOR_EVER);
    turn_answer(mine);
    assert_true(turn_certain());
    turn_unasked();
    assert_false(turn_certain());
    turn_begin(1, FOR_EVER);
    turn_about(mine);
    turn_answer(mine);
    assert_true(turn_certain());
}

static void only_what_was_read(void **state)
{
    (void)state;
    struct ctx ctx = {.rule = OTSHIM_PARENT_THREAD, .has_parent = 1, .span_id = {1}, .trace_id = {1}}, now;
    turn_begin(2, FOR_EVER);
    ctx_enter(&ctx);
    assert_false(ctx_current(&now));
    turn_begin(1, FOR_EVER);
    assert_true(ctx_current(&now));
    turn_begin(2, FOR_EVER);
    ctx_clear();
    ctx.rule = OTSHIM_PARENT_ENVIRON;
    ctx_enter(&ctx);
    assert_true(ctx_current(&now));
    ctx_clear();
}

static void manners(void **state)
{
    (void)state;
    static const struct {
        const char *program;
        enum turn_manner manner;
    } known[] = {{"server", TURN_EVENTS}, {"nginx", TURN_EXEMPT}, {"openresty", TURN_PROMPT}, {"haproxy", TURN_SHARES}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        turn_manner = TURN_UNKNOWN;
        turn_init(known[i].program);
        turn_library(TURN_EVENTS);
        assert_int_equal(turn_manner, known[i].manner);
    }
}

static void turns_have_numbers(void **state)
{
    (void)state;
    uint64_t before = turn_number();
    assert_int_not_equal(before, 0);
    assert_true(before == turn_number());
    turn_begin(1, FOR_EVER);
    assert_false(before == turn_number());
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup(name, fresh)
    const struct CMUnitTest tests[] = {
        CASE(a_worker_has_no_turns),
        CASE(one_event),
        CASE(no_timer),
        CASE(the_first_wait),
        CASE(timeouts_are_believed_that_change),
        CASE(one_loop),
        CASE(nobody_gives_it_work),
        CASE(what_wakes_it),
        CASE(for_one_request),
        CASE(calls_in_line),
        CASE(timers_that_are_descriptors),
        CASE(only_what_was_read),
        CASE(manners),
        CASE(turns_have_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
