/* pending.c - what a thread has just read, and what it is working for. See python.h.
 *
 * A signal handler of the thread may read and write sockets, and so end up in here in the middle of a change: .kind is cleared first and
 * set last. */
#include "base/base.h"
#include "context/python/frames.h"
#include "context/python/python.h"
#include <errno.h>
#include <stdatomic.h>
#include <string.h>

static _Atomic bool greenlets;

static OTSHIM_TLS struct {
    volatile uint8_t kind;    /* enum python_kind; 0: nothing pending */
    uint32_t fork_generation; /* in which the next three were so: a child goes its own way */
    bool task_made;           /* this thread has made asyncio tasks: it runs an event loop */
    bool uv_runs;             /* in uv_run() of uvloop */
    uint8_t uv_depth;         /* in callbacks of it */
    const void *context;      /* in which it was read; NULL: libuv read it */
    struct runtime_ref conn;
    struct ctx ctx;
    struct runtime_ref touched; /* a connection that uvloop has just asked for its addresses */
    struct runtime_ref fed;     /* from which bytes of a request were read last, in .fed_context (NULL: by libuv) */
    const void *fed_context;
    bool unclear; /* a later request of a connection was read, and nobody is known to have waited for it */
} mine;

void python_has_greenlets(void)
{
    atomic_store_explicit(&greenlets, true, memory_order_relaxed);
}

static inline bool in_greenlets(void)
{
    return OTSHIM_UNLIKELY(atomic_load_explicit(&greenlets, memory_order_relaxed)) && !mine.task_made && !mine.uv_runs;
}

static void forget_parent(void)
{
    mine.fork_generation = otshim_fork_generation;
    mine.kind = 0;
    mine.task_made = mine.uv_runs = false;
    mine.uv_depth = 0;
}

static inline bool in_event_loop(void)
{
    if (OTSHIM_UNLIKELY(mine.fork_generation != otshim_fork_generation))
        forget_parent();
    return mine.task_made || mine.uv_runs;
}

static inline bool multiplexed(void)
{
    return in_event_loop() || atomic_load_explicit(&greenlets, memory_order_relaxed);
}

/* ---- what came ----------------------------------------------------------------------------------------------------------------------- */

static void clear(void)
{
    mine.kind = 0;
    mine.fed.conn = NULL;
    atomic_signal_fence(memory_order_seq_cst);
}

static void pend(uint8_t kind, const void *context, const struct runtime_ref *conn, const struct ctx *ctx)
{
    clear();
    mine.context = context;
    mine.conn = *conn;
    if (ctx != NULL)
        mine.ctx = *ctx;
    mine.ctx.rule = OTSHIM_PARENT_RUNTIME;
    atomic_signal_fence(memory_order_seq_cst);
    mine.kind = kind;
}

static void accepted(const struct runtime_ref *conn)
{
    const void *thread;
    clear();
    python_given_end(); /* it serves others */
    if (mine.uv_runs && mine.uv_depth == 0)
        return; /* libuv's: its context is the server's */
    if (conn->conn == NULL || (thread = python_thread()) == NULL)
        return;
    const void *context = python_context_of(thread);
    if (context != NULL)
        pend(PYTHON_CONN, context, conn, NULL);
}

static void feed(const struct runtime_ref *conn, const void *context)
{
    mine.unclear |= runtime_conn_turn(conn) == RUNTIME_TURN_UNKNOWN;
    mine.fed_context = context;
    mine.fed = *conn;
}

/* The greenlet that reads a request works for it from now on. The GIL was given up for the recv() and will be wanted again right after. */
static void greenlet_received(const struct runtime_ref *conn, const struct ctx *ctx)
{
    if (ctx == NULL || python_thread() == NULL)
        return;
    struct python_value value = {.kind = PYTHON_REQUEST, .conn = *conn, .ctx = *ctx};
    value.ctx.rule = OTSHIM_PARENT_RUNTIME;
    int state = python_api.Ensure();
    if (python_usable() && python_setup())
        python_set(NULL, &value);
    python_api.Release(state);
}

static void received(const struct runtime_ref *conn, const struct ctx *ctx)
{
    clear();
    python_given_end();
    if (mine.uv_runs && mine.uv_depth == 0) {
        if (ctx != NULL)
            pend(PYTHON_REQUEST, NULL, conn, ctx);
        feed(conn, NULL);
        return;
    }
    if (in_greenlets()) {
        greenlet_received(conn, ctx);
        return;
    }
    const void *thread = python_thread();
    const void *context = thread != NULL ? python_context_of(thread) : NULL;
    if (context == NULL)
        return;
    if (ctx != NULL)
        pend(PYTHON_REQUEST, context, conn, ctx);
    feed(conn, context);
    if (in_event_loop() && python_stack_in_coroutine(thread))
        runtime_conn_take(conn); /* a task that reads for itself */
}

const struct runtime_listener python_listener = {
    .accepted = accepted,
    .received = received,
    .idle = clear,
    .started = python_given_start,
    .read_unwatched = python_given_read,
};

/* Is what is pending meant for what runs now? */
static inline bool pending_for(const void *thread)
{
    if (mine.kind == 0)
        return false;
    if (mine.context == NULL)
        return mine.uv_depth > 0;
    return mine.context == python_context_of(thread);
}

/* Tornado reads ahead, before its task for a connection waits for the next request, which it then finds in its own buffer. But that task does nothing
 * else than read (handlers have tasks of their own, made when their request has been read), and it gives itself the future that
 * it waits for. */
static void tornado_reads(const void *thread)
{
    struct python_value value;
    if (python_read(thread, &value) && value.kind == PYTHON_CONN && runtime_conn_turn(&value.conn) == RUNTIME_TURN_UNKNOWN &&
        python_stack_is_within(thread, "/tornado/http1connection.py", "_server_request_loop"))
        runtime_conn_take(&value.conn);
}

/* Whoever reads from this connection is woken by what came: it has waited for this request. Where nobody is woken, the task that was made with
 * the connection is still at something else. */
void python_future_done(void)
{
    const void *thread;
    if (OTSHIM_LIKELY(mine.fed.conn == NULL && !mine.unclear) || (thread = python_thread()) == NULL)
        return;
    if (mine.fed.conn != NULL && (mine.fed_context == NULL ? mine.uv_depth > 0 : mine.fed_context == python_context_of(thread)))
        runtime_conn_take(&mine.fed);
    else if (mine.unclear)
        tornado_reads(thread);
}

/* ---- uvloop ---------------------------------------------------------------------------------------------------------------------------- */

void python_uv_runs(bool runs)
{
    mine.uv_runs = runs;
    mine.uv_depth = 0;
    frames_event_loop(runs);
    python_uv_handle_done();
}

void python_uv_callback(bool begins)
{
    if (begins) {
        mine.uv_runs = true; /* also if we came when it was running already */
        if (mine.uv_depth == 0)
            frames_event_loop(true);
        mine.uv_depth++;
    } else {
        if (mine.uv_depth > 0)
            mine.uv_depth--;
        python_uv_handle_done();
    }
}

void python_uv_handle_done(void)
{
    clear();
    mine.touched.conn = NULL;
}

void python_uv_touched(const struct runtime_ref *conn)
{
    mine.touched = *conn;
}

/* ---- a context is copied ------------------------------------------------------------------------------------------------------------------ */

/* What the copy must hold; false: what it holds already. */
static bool value_for_copy(const void *thread, struct python_value *value)
{
    struct python_value now;
    bool has = python_read(thread, &now);
    *value = (struct python_value){.kind = PYTHON_NOBODY};
    /* uvicorn (0.36 and later) makes a request's task in an empty context of its own, which it enters for that out of the one that has read. */
    if (pending_for(thread) || (!has && mine.kind != 0 && mine.context != NULL && python_context_within(thread, mine.context))) {
        value->kind = mine.kind;
        value->conn = mine.conn;
        value->ctx = mine.ctx;
        return true;
    }
    if (has && now.kind == PYTHON_CONN) {
        /* Work that starts now is the present request's, also when the connection has gone on to the next. */
        const enum runtime_turn turn = runtime_conn_turn(&now.conn);
        if (turn == RUNTIME_TURN_TAKEN && runtime_conn_get(&now.conn, &value->ctx)) {
            value->conn = now.conn;
            value->kind = PYTHON_REQUEST;
        }
        return turn != RUNTIME_TURN_NONE_YET;
    }
    if (has)
        /* The next request of the connection may be taken up from the code of this one: nobody can tell. */
        return now.kind == PYTHON_REQUEST && runtime_conn_pipelined(&now.conn);
    if (mine.touched.conn != NULL && mine.uv_runs) {
        value->kind = PYTHON_CONN;
        value->conn = mine.touched;
        return true;
    }
    value->kind = PYTHON_REQUEST;
    if (multiplexed() || !ctx_current(&value->ctx))
        return false;
    value->ctx.rule = OTSHIM_PARENT_RUNTIME;
    return true;
}

void python_copied(PyObject *copy, bool task)
{
    struct python_value value;
    if (!python_usable())
        return;
    if (python_setup() && value_for_copy(python_thread(), &value))
        python_set(copy, &value);
    if (task)
        mine.task_made = true; /* after: the first task of a thread takes on what the thread works for */
}

/* ---- what runs now -------------------------------------------------------------------------------------------------------------------------- */

int python_current(struct ctx *out)
{
    struct python_value value;
    const void *thread;
    if (!atomic_load_explicit(&python_present, memory_order_acquire))
        return -1;
    int error = errno, answer;
    bool given = false;
    if ((thread = python_thread()) == NULL) {
        answer = -1;
    } else if (mine.kind != 0 && multiplexed() && pending_for(thread)) {
        answer = mine.kind == PYTHON_REQUEST;
        *out = mine.ctx;
    } else if (!python_read(thread, &value)) {
        /* Greenlets do not change that: what they run on is not a thread that Python's own modules start, once gevent has replaced them. */
        given = !in_event_loop() && python_given_now(out);
        answer = given ? 1 : multiplexed() ? 0 : -1;
    } else if (value.kind == PYTHON_CONN) {
        answer = runtime_conn_turn(&value.conn) == RUNTIME_TURN_TAKEN && runtime_conn_get(&value.conn, out);
    } else {
        answer = value.kind == PYTHON_REQUEST && python_given_holds(&value);
        *out = value.ctx;
    }
    if (answer == 1 && !given)
        out->rule =
            OTSHIM_PARENT_RUNTIME; /* whatever it was found by: a response read for it later says nothing about this thread */
    errno = error;
    return answer;
}
