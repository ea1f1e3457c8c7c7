/* The connections that a runtime refers to, and the answer of the CPython adapter in a process without Python. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "context/python/python.h"
#include "context/runtime.h"
#include <string.h>

static struct ctx context(uint8_t n)
{
    struct ctx ctx;
    memset(&ctx, 0, sizeof ctx);
    memset(ctx.trace_id, n, sizeof ctx.trace_id);
    memset(ctx.span_id, n, sizeof ctx.span_id);
    ctx.rule = OTSHIM_PARENT_THREAD;
    ctx.has_parent = true;
    return ctx;
}

static void a_connection_has_the_request_that_was_set(void **state)
{
    (void)state;
    struct runtime_conn *conn = runtime_conn_new();
    struct runtime_ref ref = runtime_ref(conn);
    struct ctx first = context(1), second = context(2), got;
    assert_false(runtime_conn_get(&ref, &got));
    runtime_conn_set(conn, &first);
    assert_true(runtime_conn_get(&ref, &got));
    assert_memory_equal(&got, &first, sizeof got);
    runtime_conn_begin(conn, false); /* the next one's first byte */
    assert_false(runtime_conn_get(&ref, &got));
    runtime_conn_set(conn, &second);
    assert_true(runtime_conn_get(&ref, &got));
    assert_memory_equal(&got, &second, sizeof got);
    runtime_conn_set(conn, NULL);
    assert_false(runtime_conn_get(&ref, &got));
    runtime_conn_free(conn);
}

static void pipelined_requests_are_nobodys_until_the_connection_was_at_rest(void **state)
{
    (void)state;
    struct runtime_conn *conn = runtime_conn_new();
    struct runtime_ref ref = runtime_ref(conn);
    struct ctx ctx = context(1), got;
    runtime_conn_begin(conn, false);
    runtime_conn_set(conn, &ctx);
    assert_false(runtime_conn_pipelined(&ref));
    runtime_conn_begin(conn, true);
    runtime_conn_set(conn, &ctx); /* the one that is left, once the first was answered */
    assert_true(runtime_conn_pipelined(&ref));
    assert_false(runtime_conn_get(&ref, &got));
    runtime_conn_begin(conn, false);
    runtime_conn_set(conn, &ctx);
    assert_true(runtime_conn_get(&ref, &got));
    runtime_conn_free(conn);
}

static void a_reference_outlives_its_connection_harmlessly(void **state)
{
    (void)state;
    struct runtime_conn *conn = runtime_conn_new();
    struct runtime_ref old = runtime_ref(conn), none = runtime_ref(NULL);
    struct ctx ctx = context(1), got;
    runtime_conn_free(conn);
    struct runtime_conn *again = runtime_conn_new();
    assert_ptr_equal(again, conn); /* the same memory */
    runtime_conn_begin(again, true);
    assert_false(runtime_conn_pipelined(&old));
    runtime_conn_begin(again, false);
    runtime_conn_set(again, &ctx);
    assert_false(runtime_conn_get(&old, &got));
    struct runtime_ref now = runtime_ref(again);
    assert_true(runtime_conn_get(&now, &got));
    assert_false(runtime_conn_get(&none, &got));
    assert_false(runtime_conn_pipelined(&none));
    runtime_conn_free(again);
}

static void a_later_request_must_have_been_waited_for(void **state)
{
    (void)state;
    struct runtime_conn *conn = runtime_conn_new();
    struct runtime_ref ref = runtime_ref(conn), none = runtime_ref(NULL);
    assert_int_equal(runtime_conn_turn(&none), RUNTIME_TURN_UNKNOWN);
    assert_int_equal(runtime_conn_turn(&ref), RUNTIME_TURN_NONE_YET);
    runtime_conn_begin(conn, false);
    assert_int_equal(runtime_conn_turn(&ref), RUNTIME_TURN_TAKEN);
    for (int i = 0; i < 3; i++) {
        runtime_conn_begin(conn, false);
        assert_int_equal(runtime_conn_turn(&ref), RUNTIME_TURN_UNKNOWN);
        runtime_conn_take(&ref);
        assert_int_equal(runtime_conn_turn(&ref), RUNTIME_TURN_TAKEN);
    }
    runtime_conn_free(conn);
    assert_int_equal(runtime_conn_turn(&ref), RUNTIME_TURN_UNKNOWN);
    assert_ptr_equal(runtime_conn_new(), conn);
    runtime_conn_begin(conn, false);
    runtime_conn_begin(conn, false);
    runtime_conn_take(&ref); /* of the connection that is gone */
    assert_int_equal(runtime_conn_turn(&(struct runtime_ref){conn, conn->generation}), RUNTIME_TURN_UNKNOWN);
    runtime_conn_free(conn);
}

static void a_process_without_python_is_not_asked(void **state)
{
    (void)state;
    struct ctx ctx = context(3), got;
    assert_int_equal(python_current(&got), -1);
    assert_null(runtime_listening());
    ctx_enter(&ctx);
    assert_true(ctx_current(&got));
    assert_memory_equal(got.span_id, ctx.span_id, sizeof got.span_id);
    ctx_clear();
    assert_false(ctx_current(&got));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_connection_has_the_request_that_was_set),
        cmocka_unit_test(pipelined_requests_are_nobodys_until_the_connection_was_at_rest),
        cmocka_unit_test(a_reference_outlives_its_connection_harmlessly),
        cmocka_unit_test(a_later_request_must_have_been_waited_for),
        cmocka_unit_test(a_process_without_python_is_not_asked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
