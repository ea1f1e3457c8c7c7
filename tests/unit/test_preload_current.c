/* test_preload_current.c - one thread's context: enter, leave, clear, inherit, wait, the environment, and signals in the middle of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "context/request.h"
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/time.h>
#include <unistd.h>

static struct ctx make(uint8_t n)
{
    struct ctx ctx = {.trace_flags = n, .rule = OTSHIM_PARENT_THREAD, .has_parent = 1};
    memset(ctx.trace_id, n, sizeof(ctx.trace_id));
    memset(ctx.span_id, n, sizeof(ctx.span_id));
    return ctx;
}

static void expect(uint8_t n, uint8_t rule)
{
    struct ctx now;
    assert_true(ctx_current(&now));
    assert_int_equal(now.span_id[0], n);
    assert_int_equal(now.rule, rule);
}

static void expect_nobody(void)
{
    struct ctx now;
    assert_false(ctx_current(&now));
}

static void test_enter_and_leave(void **state)
{
    (void)state;
    struct ctx one = make(1), two = make(2);
    expect_nobody();
    ctx_enter(&one);
    expect(1, OTSHIM_PARENT_THREAD);
    ctx_enter(&two);
    expect(2, OTSHIM_PARENT_THREAD);
    ctx_leave(one.span_id); /* not the current one */
    expect(2, OTSHIM_PARENT_THREAD);
    ctx_waited(); /* nor inherited */
    expect(2, OTSHIM_PARENT_THREAD);
    ctx_leave(two.span_id);
    expect_nobody();
    ctx_leave(two.span_id);
    ctx_enter(&one);
    ctx_clear();
    expect_nobody();
}

/* A thread that has read several requests: what was read last counts only while no other one could be taken up. */
static struct ctx read_request(struct request *request, uint8_t n)
{
    struct ctx ctx = make(n);
    request_begin(request, &ctx, NULL);
    request_complete(request);
    ctx_enter(&ctx);
    return ctx;
}

static void test_open_requests(void **state)
{
    (void)state;
    static struct request a, b;
    struct ctx one = read_request(&a, 1);
    expect(1, OTSHIM_PARENT_THREAD);
    struct ctx two = read_request(&b, 2);
    expect_nobody();
    ctx_clear(); /* a wait does not help: the other one may have waited for something else */
    ctx_enter(&two);
    expect_nobody();
    request_call_begin(&one); /* only a proxy does nothing for a request whose call is in flight */
    expect_nobody();
    request_call_end(&one);
    request_answered(&a);
    expect(2, OTSHIM_PARENT_THREAD);
    request_end(&a);
    request_end(&a);
    expect(2, OTSHIM_PARENT_THREAD);
    one = read_request(&a, 3); /* the same object, another request */
    expect_nobody();
    request_end(&b);
    request_call_begin(&two); /* a reference to what is gone */
    request_call_end(&two);
    ctx_enter(&one);
    expect(3, OTSHIM_PARENT_THREAD);
    request_end(&a);
    ctx_clear();
}

static void test_open_requests_of_a_proxy(void **state)
{
    (void)state;
    static struct request a, b;
    request_init("nginx");
    struct ctx one = read_request(&a, 1);
    request_call_begin(&one);
    struct ctx two = read_request(&b, 2);
    expect(2, OTSHIM_PARENT_THREAD);
    request_call_begin(&two);
    request_call_end(&one); /* its response was read: it may act now */
    expect_nobody();
    ctx_enter(&one);
    expect(1, OTSHIM_PARENT_THREAD);
    request_answered(&a);
    ctx_enter(&two);
    expect(2, OTSHIM_PARENT_THREAD);
    request_end(&a);
    request_end(&b);
    request_call_end(&two);
    ctx_clear();
}

static void test_open_requests_of_a_runtime(void **state)
{
    (void)state;
    static struct request a, b;
    request_init("node");
    read_request(&a, 1);
    request_answered(&a); /* it streams, and calls in between */
    read_request(&b, 2);
    expect_nobody();
    request_end(&a);
    expect(2, OTSHIM_PARENT_THREAD);
    request_end(&b);
    ctx_clear();
}

/* A pool's thread that reads requests and gives them away: what it read in an earlier task is not what it takes up, if its runtime says when a task ends. */
static void test_tasks_that_are_told(void **state)
{
    (void)state;
    static struct request a, b, c;
    struct ctx now;
    request_init("java");
    ctx_task(true);
    read_request(&a, 1);
    expect(1, OTSHIM_PARENT_THREAD);
    ctx_task(true);
    read_request(&b, 2); /* while the first is still open */
    expect(2, OTSHIM_PARENT_THREAD);
    request_end(&a); /* elsewhere: it was not counted here */
    expect(2, OTSHIM_PARENT_THREAD);
    read_request(&c, 3); /* two in one task */
    expect_nobody();
    assert_true(ctx_peek(&now));
    assert_int_equal(now.span_id[0], 3);
    request_end(&b);
    expect(3, OTSHIM_PARENT_THREAD);
    request_end(&c);
    ctx_task(false);
    ctx_clear();
    assert_false(ctx_peek(&now));
}

/* Nor does it matter in a task that others answer what this one has read; outside of one it ends with the next lock. */
static void *tasks_where_requests_are_handed_over(void *unused)
{
    struct ctx one = make(1), two = make(2);
    ctx_hands_over();
    ctx_task(true);
    ctx_enter(&one);
    ctx_waited();
    expect(1, OTSHIM_PARENT_THREAD);
    ctx_task(false);
    ctx_clear();
    ctx_enter(&two);
    ctx_waited();
    expect_nobody();
    ctx_after_fork(); /* forgets that any thread hands over */
    return unused;
}

/* One request at a time, until the next is taken up. */
static void test_workers(void **state)
{
    (void)state;
    static const char *const workers[] = {"php-fpm", "php-fpm8.2", "php-cgi8.2"}, *const others[] = {"php8.2", "php-fp", "nginx"};
    for (size_t i = 0; i < 3; i++) {
        request_init(others[i]);
        assert_false(request_outlives_response());
    }
    for (size_t i = 0; i < 3; i++) {
        request_init("nginx");
        request_init(workers[i]);
        assert_true(request_outlives_response());
    }
}

/* Is a traceparent the one that came with the request? */
static void test_came_from(void **state)
{
    (void)state;
    static struct request a;
    struct ctx caller = make(1), ours = make(2), other = make(3);
    memcpy(ours.trace_id, caller.trace_id, sizeof ours.trace_id);
    assert_false(request_came_from(&ours, &caller)); /* of no request */
    request_begin(&a, &ours, caller.span_id);
    assert_true(request_came_from(&ours, &caller));
    assert_false(request_came_from(&ours, &other));
    memcpy(other.span_id, caller.span_id, sizeof other.span_id);
    assert_false(request_came_from(&ours, &other)); /* the same span id in another trace */
    struct ctx before = ours;
    request_end(&a);
    assert_false(request_came_from(&ours, &caller));
    request_begin(&a, &ours, NULL); /* the same object, another request */
    assert_false(request_came_from(&ours, &caller));
    assert_false(request_came_from(&before, &caller));
    request_end(&a);
}

/* Each thread has its own; one that only reads responses has none. */
static void *answer_elsewhere(void *arg)
{
    static struct request c;
    read_request(&c, 7);
    expect(7, OTSHIM_PARENT_THREAD);
    request_end(&c);
    request_answered(arg);
    return NULL;
}

static void test_open_requests_of_threads(void **state)
{
    (void)state;
    static struct request a, b;
    pthread_t thread;
    read_request(&a, 1);
    read_request(&b, 2);
    expect_nobody();
    assert_int_equal(pthread_create(&thread, NULL, answer_elsewhere, &a), 0);
    pthread_join(thread, NULL);
    expect(2, OTSHIM_PARENT_THREAD);
    request_end(&a);
    request_end(&b);
    ctx_clear();
}

/* What does not count in the parent does not in the child, where the other requests are nobody's any more. */
static void test_an_uncertain_context_ends_with_fork(void **state)
{
    (void)state;
    static struct request a, b;
    read_request(&a, 1);
    read_request(&b, 2);
    expect_nobody();
    ctx_after_fork();
    request_end(&a);
    expect_nobody();
    request_end(&b);
    ctx_clear();
}

/* The thread that reads is not the one that answers: what was read may be exchanged for something else wherever a lock is taken. */
static void *answer_for_another(void *arg)
{
    struct request *request = arg;
    assert_true(request_is_from_elsewhere(request));
    ctx_hands_over();
    return NULL;
}

static void test_hand_over_and_tasks(void **state)
{
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, tasks_where_requests_are_handed_over, NULL), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    *state = NULL;
}

static void test_hand_over(void **state)
{
    (void)state;
    static struct request a, b;
    pthread_t thread;
    read_request(&a, 1);
    assert_false(request_is_from_elsewhere(&a));
    ctx_waited();
    expect(1, OTSHIM_PARENT_THREAD);
    pthread_create(&thread, NULL, answer_for_another, &a);
    pthread_join(thread, NULL);
    request_end(&a);
    read_request(&b, 2);
    expect(2, OTSHIM_PARENT_THREAD);
    ctx_waited();
    expect_nobody();
    request_end(&b);
    ctx_after_fork(); /* the child has one thread */
    read_request(&a, 3);
    ctx_waited();
    expect(3, OTSHIM_PARENT_THREAD);
    request_end(&a);
    ctx_clear();
}

static void test_inherit(void **state)
{
    (void)state;
    struct ctx one = make(1), two = make(2);
    ctx_inherit(&one);
    expect(1, OTSHIM_PARENT_INHERITED);
    ctx_waited();
    expect_nobody();
    ctx_inherit(&one);
    ctx_enter(&two); /* a context of its own replaces the inherited one for good */
    ctx_waited();
    expect(2, OTSHIM_PARENT_THREAD);
    ctx_clear();
}

/* A worker that was started inside a request is given work of others by a pipe or a socket; a file tells nothing. */
static void test_given_contexts_end_at_a_pipe(void **state)
{
    (void)state;
    struct ctx one = make(1);
    int ends[2], file = open("/proc/self/exe", O_RDONLY), event = eventfd(1, 0);
    assert_int_equal(pipe(ends), 0);

    ctx_inherit(&one);
    ctx_read_unwatched(file);
    expect(1, OTSHIM_PARENT_INHERITED);
    ctx_read_unwatched(-1);
    expect(1, OTSHIM_PARENT_INHERITED);
    ctx_read_unwatched(ends[0]);
    expect_nobody();
    ctx_inherit(&one);
    ctx_read_unwatched(event);
    expect_nobody();

    ctx_enter(&one); /* by reading: in the child of a fork it was given */
    assert_int_equal(ctx_inherited, 0);
    ctx_after_fork();
    ctx_waited(); /* every Python child takes a lock */
    expect(1, OTSHIM_PARENT_THREAD);
    assert_int_not_equal(ctx_inherited, 0);
    ctx_read_unwatched(ends[0]);
    expect_nobody();
    ctx_after_fork();
    assert_int_equal(ctx_inherited, 0);

    ctx_init_environ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", NULL);
    int in = dup(0);
    assert_int_equal(dup2(ends[0], 0), 0);
    ctx_read_unwatched(0); /* a filter reads its own request's data there */
    expect(0xb7, OTSHIM_PARENT_ENVIRON);
    dup2(in, 0);
    ctx_read_unwatched(ends[0]);
    expect_nobody();
    close(in), close(file), close(event), close(ends[0]), close(ends[1]);
}

static void *other_thread(void *arg)
{
    struct ctx now;
    (void)arg;
    return (void *)(uintptr_t)ctx_current(&now);
}

static void test_threads_are_apart(void **state)
{
    (void)state;
    struct ctx one = make(1);
    pthread_t thread;
    void *had;
    ctx_enter(&one);
    pthread_create(&thread, NULL, other_thread, NULL);
    pthread_join(thread, &had);
    assert_null(had);
    expect(1, OTSHIM_PARENT_THREAD);
    ctx_clear();
}

static void test_environ(void **state)
{
    (void)state;
    struct ctx now;
    ctx_init_environ(NULL, NULL);
    ctx_init_environ("", "a=b");
    ctx_init_environ("00-00000000000000000000000000000000-b7ad6b7169203331-01", NULL);
    ctx_init_environ("nonsense", NULL);
    expect_nobody();
    ctx_init_environ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "a=b");
    assert_true(ctx_current(&now));
    assert_int_equal(now.rule, OTSHIM_PARENT_ENVIRON);
    assert_int_equal(now.span_id[0], 0xb7);
    assert_int_equal(now.trace_flags, 1);
    char text[16];
    assert_int_equal(tracestate_get(now.tracestate, text, sizeof(text)), 3);
    ctx_waited(); /* the environment's is no inherited one: the program as a whole works for that request */
    assert_true(ctx_current(&now));
    ctx_clear();
}

/* A handler that changes the context in the middle of a change or a look: never a mixture. */
static volatile sig_atomic_t fired;

static void on_signal(int sig)
{
    (void)sig;
    struct ctx three = make((uint8_t)(3 + fired % 100));
    fired++;
    ctx_enter(&three);
}

static void test_signals(void **state)
{
    (void)state;
    struct sigaction action = {.sa_handler = on_signal};
    const struct itimerval fast = {{0, 50}, {0, 50}}, never = {{0, 0}, {0, 0}};
    struct ctx one = make(200), two = make(201), now;
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &fast, NULL);
    for (long i = 0; fired < 3000 && i < 200000000; i++) {
        ctx_enter(i & 1 ? &one : &two);
        if (!ctx_current(&now))
            fail_msg("lost");
        const struct ctx whole = make(now.span_id[0]);
        if (memcmp(&whole, &now, sizeof(now)) != 0)
            fail_msg("a mixture of two contexts");
    }
    setitimer(ITIMER_REAL, &never, NULL);
    ctx_clear();
    assert_true(fired > 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_enter_and_leave),
        cmocka_unit_test(test_open_requests),
        cmocka_unit_test(test_open_requests_of_threads),
        cmocka_unit_test(test_an_uncertain_context_ends_with_fork),
        cmocka_unit_test(test_hand_over),
        cmocka_unit_test(test_hand_over_and_tasks),
        cmocka_unit_test(test_inherit),
        cmocka_unit_test(test_threads_are_apart),
        cmocka_unit_test(test_given_contexts_end_at_a_pipe),
        cmocka_unit_test(test_environ),
        cmocka_unit_test(test_signals),
        cmocka_unit_test(test_open_requests_of_a_proxy),
        cmocka_unit_test(test_open_requests_of_a_runtime),
        cmocka_unit_test(test_tasks_that_are_told),
        cmocka_unit_test(test_workers),
        cmocka_unit_test(test_came_from),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
