/* current.c - for whom does this thread work now?
 *
 * One context a thread, in thread-local storage. The rules that change it (context.h) are applied by the wrappers; here is only what they
 * mean for the state: enter replaces, leave and waited take back what is still the same, clear takes back all.
 *
 * A signal handler may do any of this in the middle of the same on its own thread. Each change has a number: a change or a look that finds
 * after its copy that the number is another one was interrupted, and is done again - so that no mixture of two contexts is ever kept or
 * seen. While one is being changed a handler sees none, which costs a parent and makes no wrong one. (One thread: compiler barriers are
 * enough.) */
#include "base/base.h"
#include "base/raw.h"
#include "context/request.h"
#include "context/runtime.h"
#include "context/turn.h"
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>

static OTSHIM_TLS struct {
    volatile uint32_t change;
    volatile uint8_t valid;
    struct ctx ctx;
} mine;

OTSHIM_TLS volatile uint8_t ctx_inherited;

static volatile bool hands_over; /* of the process; only ever set, but for the child of a fork */

void ctx_hands_over(void)
{
    if (!hands_over)
        hands_over = true;
}

static OTSHIM_TLS bool in_task; /* a runtime says when the thread turns to something else */

void ctx_task(bool begins)
{
    in_task = begins;
    request_new_task();
    turn_worker();
}

static void set(const struct ctx *ctx, bool inherited)
{
    uint32_t change;
    do {
        mine.valid = 0;
        mine.change = change = mine.change + 1;
        atomic_signal_fence(memory_order_seq_cst);
        mine.ctx = *ctx;
        ctx_inherited = inherited ? CTX_BY_THREAD : 0;
        if (OTSHIM_UNLIKELY(hands_over) && ctx->rule == OTSHIM_PARENT_THREAD && !in_task)
            ctx_inherited = CTX_BY_THREAD;
        atomic_signal_fence(memory_order_seq_cst);
    } while (mine.change != change);
    mine.valid = 1;
}

bool ctx_peek(struct ctx *out)
{
    uint32_t change;
    do {
        change = mine.change;
        if (!mine.valid)
            return false;
        atomic_signal_fence(memory_order_seq_cst);
        *out = mine.ctx;
        atomic_signal_fence(memory_order_seq_cst);
    } while (mine.change != change);
    return true;
}

bool ctx_current(struct ctx *out)
{
    for (const struct ctx_runtime *runtime = ctx_runtimes; runtime->current != NULL; runtime++) {
        const int answer = runtime->current(out);
        if (answer >= 0)
            return answer == 1;
    }
    return ctx_peek(out) && (out->rule != OTSHIM_PARENT_THREAD || (request_is_certain(out) && turn_certain()));
}

/* Enters what the thread is in already? Then nothing changes: an inherited context stays one that ends with the next wait. The
 * response of a call that an inherited context made brings back that context, not a better one. */
void ctx_enter(const struct ctx *ctx)
{
    if (mine.valid && ctx_same_request(&mine.ctx, ctx))
        return;
    set(ctx, ctx->rule == OTSHIM_PARENT_INHERITED);
}

void ctx_leave(const uint8_t span_id[8])
{
    if (mine.valid && memcmp(mine.ctx.span_id, span_id, sizeof(mine.ctx.span_id)) == 0)
        mine.valid = 0;
}

void ctx_clear(void)
{
    mine.valid = 0;
    runtime_idle();
}

void ctx_inherit(const struct ctx *ctx)
{
    struct ctx inherited = *ctx;
    inherited.rule = OTSHIM_PARENT_INHERITED;
    set(&inherited, true);
}

void ctx_waited(void)
{
    if (ctx_inherited & CTX_BY_THREAD)
        ctx_inherited = mine.valid = 0;
}

/* Regular files and devices are no way to be given work. An eventfd has no type. Standard input of a program that was started for a request
 * may be a pipe with that request's own data. */
void ctx_read_unwatched(int fd)
{
    struct stat st;
    if (raw_failed(raw_syscall3(SYS_fstat, fd, (long)&st, 0)))
        return;
    mode_t type = st.st_mode & S_IFMT;
    if (type != S_IFIFO && type != S_IFSOCK && type != 0)
        return;
    if (ctx_inherited && !(ctx_inherited == CTX_BY_ENVIRON && fd == 0))
        ctx_inherited = mine.valid = 0;
    const struct runtime_listener *listener = runtime_listening();
    if (runtime_given && listener != NULL && listener->read_unwatched != NULL)
        listener->read_unwatched();
}

/* The runtime is asked as if this were still the parent: it will not find its context again, or not know the child at all. */
void ctx_after_fork(void)
{
    struct ctx ctx;
    hands_over = false; /* nor does what is set here end at the child's first lock, if its runtime was certain of it */
    if (!ctx_current(&ctx)) {
        ctx_inherited = mine.valid = 0; /* what does not count here must not count there, where nobody else can be asked */
    } else if (ctx_is_of_runtime(&ctx)) {
        ctx.rule = OTSHIM_PARENT_INHERITED; /* not by what this thread has read: no turn of a loop ends it */
        set(&ctx, false);
    }
    if (mine.valid)
        ctx_inherited |= CTX_BY_FORK;
    turn_after_fork();
}

void ctx_init_environ(const char *traceparent, const char *tracestate)
{
    struct ctx ctx;
    if (traceparent == NULL || !traceparent_parse(traceparent, strlen(traceparent), &ctx))
        return;
    ctx.rule = OTSHIM_PARENT_ENVIRON;
    ctx.tracestate = tracestate != NULL && tracestate[0] != '\0' ? tracestate_put(tracestate, strlen(tracestate)) : 0;
    set(&ctx, false);
    ctx_inherited = CTX_BY_ENVIRON;
}
