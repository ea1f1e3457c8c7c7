/* ruby.c - which connection has this thread of Puma's in hand? See ruby.h.
 *
 * Thread-local: in the Rubies that we know (interpose/ruby.c) a thread of the program is one of the system for all of its life. A signal
 * handler may ask in the middle of a change: the connection is taken away first and set last. */
#include "context/ruby.h"
#include "base/base.h"

static OTSHIM_TLS struct {
    volatile bool known;
    volatile uint32_t fork_generation;
    volatile uint32_t generation;
    struct runtime_conn *volatile conn;
} hand;

void ruby_takes(const struct runtime_ref *conn)
{
    hand.conn = NULL;
    hand.fork_generation = otshim_fork_generation;
    hand.known = true;
    hand.generation = conn->generation;
    atomic_signal_fence(memory_order_seq_cst); /* not a reference of two halves */
    hand.conn = conn->conn;
}

void ruby_rests(void)
{
    hand.conn = NULL;
}

/* A forked child has one thread, which is no worker of Puma's, whatever it was: see ctx_after_fork. */
int ruby_current(struct ctx *out)
{
    if (OTSHIM_LIKELY(!hand.known) || hand.fork_generation != otshim_fork_generation)
        return -1;
    struct runtime_ref ref = {hand.conn, hand.generation};
    if (!runtime_conn_get(&ref, out))
        return 0;
    out->rule = OTSHIM_PARENT_RUNTIME;
    return 1;
}

/* Everything that is to be known lies in the connections. */
static void accepted(const struct runtime_ref *conn)
{
    (void)conn;
}

static void received(const struct runtime_ref *conn, const struct ctx *ctx)
{
    (void)conn, (void)ctx;
}

static void idle(void)
{
}

const struct runtime_listener ruby_listener = {.accepted = accepted, .received = received, .idle = idle};
