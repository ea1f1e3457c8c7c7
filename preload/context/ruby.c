/* ruby.c - which connection has this thread in hand? See ruby.h.
 *
 * Thread-local: in the Rubies that we know (interpose/ruby.c) a thread of the program is one of the system for all of its life. A signal
 * handler may ask in the middle of a change: what is changed is taken away first and given back last. */
#include "context/ruby.h"
#include "base/base.h"

static OTSHIM_TLS struct {
    volatile bool known;
    volatile bool reads;    /* ruby_serves: what is read here is what is served here */
    volatile bool has_last; /* .last is one */
    volatile uint32_t fork_generation;
    volatile uint32_t generation;
    struct runtime_conn *volatile conn;
    struct ctx last; /* the request that was read last on .conn, for when that is closed */
} hand;

static _Atomic bool threads_move;

/* Barriers for the compiler: one thread and its signal handlers. */
static void hold(const struct runtime_ref *conn)
{
    hand.conn = NULL;
    hand.has_last = false;
    atomic_signal_fence(memory_order_seq_cst);
    hand.generation = conn->generation;
    atomic_signal_fence(memory_order_seq_cst);
    hand.conn = conn->conn;
}

static void begin(const struct runtime_ref *conn, bool reads)
{
    hand.reads = false;
    hand.fork_generation = otshim_fork_generation;
    hold(conn);
    hand.reads = reads;
    hand.known = true;
}

void ruby_takes(const struct runtime_ref *conn)
{
    begin(conn, false);
}

void ruby_serves(void)
{
    static const struct runtime_ref none;
    begin(&none, true);
}

void ruby_rests(void)
{
    hand.reads = false;
    hand.has_last = false;
    hand.conn = NULL;
}

void ruby_threads_move(void)
{
    atomic_store_explicit(&threads_move, true, memory_order_relaxed);
}

/* A forked child has one thread, which serves nothing, whatever it was: see ctx_after_fork. */
static bool serves(void)
{
    return OTSHIM_UNLIKELY(hand.known) && hand.fork_generation == otshim_fork_generation;
}

int ruby_current(struct ctx *out)
{
    if (!serves())
        return OTSHIM_UNLIKELY(atomic_load_explicit(&threads_move, memory_order_relaxed)) ? 0 : -1;
    struct runtime_ref ref = {hand.conn, hand.generation};
    bool closed = ref.conn != NULL && atomic_load_explicit(&ref.conn->generation, memory_order_acquire) != ref.generation;
    if (closed && hand.has_last)
        *out = hand.last;
    else if (!runtime_conn_get(&ref, out))
        return 0;
    out->rule = OTSHIM_PARENT_RUNTIME;
    return 1;
}

static void accepted(const struct runtime_ref *conn)
{
    (void)conn; /* what is asked on it lies in the connection */
}

static void received(const struct runtime_ref *conn, const struct ctx *ctx)
{
    if (!serves() || !hand.reads)
        return;
    hold(conn);
    if (ctx == NULL)
        return;
    hand.last = *ctx;
    atomic_signal_fence(memory_order_seq_cst);
    hand.has_last = true;
}

static void idle(void)
{
}

const struct runtime_listener ruby_listener = {.accepted = accepted, .received = received, .idle = idle};
