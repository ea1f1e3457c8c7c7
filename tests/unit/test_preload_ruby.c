/* test_preload_ruby.c - for whom does a worker thread of Puma work, by the connection that it has in hand? */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "context/ruby.h"
#include <string.h>

static struct ctx make(uint8_t n)
{
    struct ctx ctx = {.rule = OTSHIM_PARENT_THREAD, .has_parent = 1};
    memset(ctx.trace_id, n, sizeof ctx.trace_id);
    memset(ctx.span_id, n, sizeof ctx.span_id);
    return ctx;
}

static void expect(uint8_t n, uint8_t rule)
{
    struct ctx now;
    assert_true(ctx_current(&now));
    assert_int_equal(now.span_id[0], n);
    assert_int_equal(now.rule, rule);
}

static void *in_a_thread(void *test)
{
    ((void (*)(void))(uintptr_t)test)();
    return NULL;
}

/* Each in a thread of its own: that a thread is one of Puma's is never forgotten. */
static void run(void (*test)(void))
{
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, in_a_thread, (void *)(uintptr_t)test), 0);
    pthread_join(thread, NULL);
}

static void hand_over(void)
{
    struct runtime_conn *conn = runtime_conn_new();
    struct runtime_ref ref = runtime_ref(conn), none = {NULL, 0};
    struct ctx first = make(1), second = make(2), read_last = make(3), now;
    assert_int_equal(ruby_current(&now), -1);
    ctx_enter(&read_last);
    expect(3, OTSHIM_PARENT_THREAD);
    runtime_conn_set(conn, &first);
    ruby_takes(&ref);
    expect(1, OTSHIM_PARENT_RUNTIME); /* whatever the thread has read */
    runtime_conn_begin(conn, false);
    assert_int_equal(ruby_current(&now), 0);
    runtime_conn_set(conn, &second); /* the next one on the same connection */
    expect(2, OTSHIM_PARENT_RUNTIME);
    ruby_rests();
    assert_int_equal(ruby_current(&now), 0);
    assert_false(ctx_current(&now));
    ruby_takes(&none); /* not watched */
    assert_false(ctx_current(&now));
    ruby_takes(&ref);
    runtime_conn_free(conn); /* closed, and its memory used for another */
    struct runtime_conn *other = runtime_conn_new();
    assert_ptr_equal(other, conn);
    runtime_conn_set(other, &first);
    assert_false(ctx_current(&now));
    runtime_conn_free(other);
}

/* Unicorn, WEBrick: what the thread reads while it serves. */
static void serve_what_is_read(void)
{
    struct runtime_conn *conn = runtime_conn_new();
    struct runtime_ref ref = runtime_ref(conn), none = {NULL, 0};
    struct ctx first = make(1), second = make(2), now;
    ruby_listener.received(&ref, &first); /* by a thread that serves nothing */
    assert_int_equal(ruby_current(&now), -1);
    ruby_serves();
    assert_int_equal(ruby_current(&now), 0);
    ruby_listener.received(&ref, NULL); /* half a head */
    assert_int_equal(ruby_current(&now), 0);
    runtime_conn_set(conn, &first);
    ruby_listener.received(&ref, &first);
    expect(1, OTSHIM_PARENT_RUNTIME);
    ruby_listener.idle(); /* a poll, a call's answer */
    expect(1, OTSHIM_PARENT_RUNTIME);
    runtime_conn_begin(conn, false);
    assert_int_equal(ruby_current(&now), 0);
    runtime_conn_set(conn, &second);
    ruby_listener.received(&ref, &second);
    expect(2, OTSHIM_PARENT_RUNTIME);
    runtime_conn_free(conn); /* closed, and still at work: rack.after_reply */
    struct runtime_conn *other = runtime_conn_new();
    runtime_conn_set(other, &first);
    expect(2, OTSHIM_PARENT_RUNTIME);
    ruby_listener.received(&none, &first); /* one that was accepted before anybody asked for connections */
    assert_int_equal(ruby_current(&now), 0);
    ruby_rests();
    assert_int_equal(ruby_current(&now), 0);
    runtime_conn_free(other);
}

/* What in_child() of init.c does. */
static void fork_here(void)
{
    ctx_after_fork();
    otshim_fork_generation++;
}

static void fork_of_a_handler(void)
{
    struct runtime_conn *conn = runtime_conn_new();
    struct runtime_ref ref = runtime_ref(conn);
    struct ctx first = make(1), now;
    runtime_conn_set(conn, &first);
    ruby_takes(&ref);
    ctx_hands_over(); /* as Puma does: what was *read* counts until the next lock only */
    fork_here();
    assert_int_equal(ruby_current(&now), -1);
    expect(1, OTSHIM_PARENT_INHERITED);
    ctx_waited(); /* a lock: Ruby's own, which every child takes */
    expect(1, OTSHIM_PARENT_INHERITED);
    assert_int_equal(ctx_inherited, CTX_BY_FORK); /* ends where it is given other work */
    runtime_conn_free(conn);
}

static void fork_between_requests(void)
{
    struct runtime_ref none = {NULL, 0};
    struct ctx read_last = make(3), now;
    ctx_enter(&read_last);
    ruby_takes(&none);
    fork_here();
    assert_false(ctx_current(&now));
}

static void a_worker_works_for_the_connection_in_its_hand(void **state)
{
    (void)state;
    run(hand_over);
}

static void a_server_that_reads_where_it_answers(void **state)
{
    (void)state;
    run(serve_what_is_read);
}

static void a_child_goes_on_with_the_request_of_its_handler(void **state)
{
    (void)state;
    run(fork_of_a_handler);
    run(fork_between_requests);
}

static void threads_that_move(void)
{
    struct ctx read_last = make(3), now;
    ctx_enter(&read_last);
    expect(3, OTSHIM_PARENT_THREAD);
    ruby_threads_move();
    assert_int_equal(ruby_current(&now), 0);
    assert_false(ctx_current(&now));
}

/* The last one: there is no way back. */
static void what_a_thread_has_read_says_nothing_where_threads_move(void **state)
{
    (void)state;
    run(threads_that_move);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_worker_works_for_the_connection_in_its_hand),
        cmocka_unit_test(a_server_that_reads_where_it_answers),
        cmocka_unit_test(a_child_goes_on_with_the_request_of_its_handler),
        cmocka_unit_test(what_a_thread_has_read_says_nothing_where_threads_move),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
