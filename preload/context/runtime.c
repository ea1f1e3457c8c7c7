/* runtime.c - the adapters, and connections as they know them. See runtime.h.
 *
 * A context is copied out of a connection by a thread that holds no lock: the copy counts only if .change was even and the same before and
 * after it, and the generation is still the wanted one. */
#include "context/runtime.h"
#include "base/pool.h"
#include "context/jvm/jvm.h"
#include "context/node/node.h"
#include "context/python/frames.h"
#include "context/python/python.h"
#include "context/ruby.h"
#include "span/span.h"
#include <string.h>

const struct ctx_runtime ctx_runtimes[] = {
    {.name = "cpython", .current = python_current, .site_keep = frames_keep, .site_words = frames_site_words},
    {.name = "ruby", .current = ruby_current},
    {.name = "node", .current = node_current, .site_keep = node_site_keep, .site_words = node_site_words},
    {.name = "jvm", .current = jvm_current},
    {.name = NULL},
};

_Atomic(const struct runtime_listener *) runtime_listener;
OTSHIM_TLS bool runtime_starts_thread;
OTSHIM_TLS volatile uint8_t runtime_given;

static char *append(char *at, const char *end, const char *text)
{
    while (*text != '\0' && at < end)
        *at++ = *text++;
    return at;
}

void runtime_report(const char *name, const char *version, const char *why_not)
{
    char text[384], number[40];
    size_t len = strcspn(version, " \t\n");
    len = len < sizeof number - 1 ? len : sizeof number - 1;
    memcpy(number, version, len);
    number[len] = '\0';
    if (!span_runtime(name, number, why_not) || why_not == NULL)
        return;
    const char *end = text + sizeof text - 1;
    char *at = append(text, end, name);
    at = append(append(at, end, len != 0 ? " " : ""), end, number);
    at = append(append(at, end, ": its own contexts are not read: "), end, why_not);
    *append(at, end, "; calls made on threads that many requests share will have no parent") = '\0';
    span_log(13, text);
}

static struct pool conns = POOL_INIT(sizeof(struct runtime_conn), 32, 256u * 1024u);

struct runtime_conn *runtime_conn_new(void)
{
    struct runtime_conn *conn = pool_get(&conns);
    if (conn == NULL)
        return NULL;
    runtime_conn_begin(conn, false);
    atomic_store_explicit(&conn->requests, 0, memory_order_relaxed);
    return conn;
}

void runtime_conn_free(struct runtime_conn *conn)
{
    atomic_fetch_add_explicit(&conn->generation, 1, memory_order_acq_rel);
    pool_put(&conns, conn);
}

void runtime_conn_begin(struct runtime_conn *conn, bool pipelined)
{
    runtime_conn_set(conn, NULL);
    atomic_store_explicit(&conn->pipelined, pipelined, memory_order_release);
    uint8_t requests = atomic_load_explicit(&conn->requests, memory_order_relaxed);
    atomic_store_explicit(&conn->taken, requests == 0, memory_order_relaxed);
    atomic_store_explicit(&conn->requests, requests < 2 ? requests + 1 : 2, memory_order_release);
}

static bool is_current(const struct runtime_ref *ref)
{
    return atomic_load_explicit(&ref->conn->generation, memory_order_relaxed) == ref->generation;
}

void runtime_conn_take(const struct runtime_ref *ref)
{
    if (ref->conn != NULL && is_current(ref))
        atomic_store_explicit(&ref->conn->taken, 1, memory_order_relaxed);
}

enum runtime_turn runtime_conn_turn(const struct runtime_ref *ref)
{
    if (ref->conn == NULL || !is_current(ref))
        return RUNTIME_TURN_UNKNOWN;
    if (atomic_load_explicit(&ref->conn->requests, memory_order_acquire) == 0)
        return RUNTIME_TURN_NONE_YET;
    return atomic_load_explicit(&ref->conn->taken, memory_order_relaxed) ? RUNTIME_TURN_TAKEN : RUNTIME_TURN_UNKNOWN;
}

void runtime_conn_set(struct runtime_conn *conn, const struct ctx *ctx)
{
    if (ctx == NULL) {
        atomic_store_explicit(&conn->known, 0, memory_order_release);
        return;
    }
    uint32_t change = atomic_load_explicit(&conn->change, memory_order_relaxed) | 1u;
    atomic_store_explicit(&conn->change, change, memory_order_relaxed);
    atomic_thread_fence(memory_order_seq_cst); /* odd before the first byte changes */
    conn->ctx = *ctx;
    atomic_store_explicit(&conn->change, change + 1, memory_order_release);
    atomic_store_explicit(&conn->known, 1, memory_order_release);
}

bool runtime_conn_get(const struct runtime_ref *ref, struct ctx *out)
{
    const struct runtime_conn *conn = ref->conn;
    if (conn == NULL || !atomic_load_explicit(&conn->known, memory_order_acquire) || runtime_conn_pipelined(ref))
        return false;
    uint32_t change = atomic_load_explicit(&conn->change, memory_order_acquire);
    if (change & 1u)
        return false; /* a signal handler in the middle of the change, or one of another thread: for nobody, then */
    *out = conn->ctx;
    atomic_thread_fence(memory_order_seq_cst); /* the bytes before the number */
    return atomic_load_explicit(&conn->change, memory_order_relaxed) == change &&
           atomic_load_explicit(&conn->generation, memory_order_relaxed) == ref->generation;
}

bool runtime_conn_pipelined(const struct runtime_ref *ref)
{
    return ref->conn != NULL && atomic_load_explicit(&ref->conn->pipelined, memory_order_acquire) && is_current(ref);
}
