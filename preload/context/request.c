/* request.c - see request.h.
 *
 * A request's state is one word, changed by compare-and-swap, because its response may be written, and its calls may end, on other threads
 * than the one that read it:
 *
 *     bits 63..32 generation    bits 31..8 calls in flight    bit 2 answered    bit 1 complete    bit 0 live
 *
 * Whether it is open follows from the word; the change of the word that makes it open or closed also moves the workload's count.
 *
 * Workloads are found by the address of the thread's local storage, which no two living threads share; a dead thread's is taken over by the
 * next thread at that address, with what it left open. After fork the child's thread has a new one. */
#include "context/request.h"
#include "base/base.h"
#include "base/raw.h"
#include <string.h>
#include <sys/mman.h>

#define LIVE 1u
#define COMPLETE 2u
#define ANSWERED 4u
#define CALL 0x100u
#define CALLS 0xffffff00u
#define GENERATION_SHIFT 32
#define TASK_SHIFT 32

enum manner {
    SERVER,  /* open until its response begins */
    PROXY,   /* ... and not while a call is in flight */
    RUNTIME, /* open until its response has ended */
    WORKER   /* as SERVER; a thread works for one until it takes up the next */
};
static enum manner manner = SERVER;

static const struct {
    const char *program; /* with * at its end: what begins so ("php-fpm8.2") */
    enum manner manner;
} manners[] = {
    {"nginx", PROXY},    {"openresty", PROXY}, {"angie", PROXY}, {"haproxy", PROXY},   {"node", RUNTIME},
    {"nodejs", RUNTIME}, {"deno", RUNTIME},    {"bun", RUNTIME}, {"php-fpm*", WORKER}, {"php-cgi*", WORKER},
};

static bool is_program(const char *program, const char *pattern)
{
    size_t len = strcspn(pattern, "*");
    return strncmp(program, pattern, len) == 0 && (pattern[len] == '*' || program[len] == '\0');
}

void request_init(const char *program)
{
    for (size_t i = 0; i < sizeof manners / sizeof *manners; i++)
        if (is_program(program, manners[i].program))
            manner = manners[i].manner;
}

bool request_outlives_response(void)
{
    return manner == WORKER;
}

static bool is_open(uint64_t state)
{
    if ((state & (LIVE | COMPLETE)) != (LIVE | COMPLETE))
        return false;
    if (manner == RUNTIME)
        return true;
    return (state & ANSWERED) == 0 && (manner != PROXY || (state & CALLS) == 0);
}

/* ---- workloads ------------------------------------------------------------------------------------------------------------------ */

#define WORKLOADS 65536u /* threads at once; 1 MiB, of which only what is used is touched */
static _Atomic(struct workload *) workloads;
/* For threads beyond the table: never certain. */
static struct workload crowded = {.open = UINT32_MAX / 2};

static OTSHIM_TLS struct workload *mine;
static OTSHIM_TLS uint32_t mine_generation;

static struct workload *workloads_map(void)
{
    struct workload *table = atomic_load_explicit(&workloads, memory_order_acquire);
    if (OTSHIM_LIKELY(table != NULL))
        return table;
    long made = raw_syscall6(SYS_mmap, 0, WORKLOADS * sizeof *table, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (raw_failed(made))
        return NULL;
    if (!atomic_compare_exchange_strong(&workloads, &table, (struct workload *)made)) {
        raw_syscall3(SYS_munmap, made, WORKLOADS * sizeof *table, 0);
        return table;
    }
    return (struct workload *)made;
}

static struct workload *find_workload(void)
{
    struct workload *table = workloads_map();
    uint64_t self = (uint64_t)(uintptr_t)&mine ^ (uint64_t)otshim_fork_generation << 48;
    uint64_t hash = self * 0x9e3779b97f4a7c15ull >> 40;
    for (unsigned i = 0; table != NULL && i < 256; i++) {
        struct workload *at = &table[(hash + i) % WORKLOADS];
        uint64_t thread = atomic_load_explicit(&at->thread, memory_order_relaxed);
        if (thread == self || (thread == 0 && (atomic_compare_exchange_strong(&at->thread, &thread, self) || thread == self)))
            return at;
    }
    return &crowded;
}

/* NULL: this thread has read no request yet. */
static inline struct workload *known_workload(void)
{
    return OTSHIM_LIKELY(mine_generation == otshim_fork_generation) ? mine : NULL;
}

static struct workload *workload(void)
{
    if (OTSHIM_UNLIKELY(known_workload() == NULL)) {
        mine = find_workload();
        mine_generation = otshim_fork_generation;
    }
    return mine;
}

/* ---- requests ---------------------------------------------------------------------------------------------------------------------- */

/* A request that was read in an earlier task of the thread is not counted any more. */
static void change(struct request *request, uint64_t before, uint64_t after)
{
    struct workload *of = request->workload;
    bool was = is_open(before), is = is_open(after);
    if (was == is || of == NULL)
        return;
    uint64_t open = atomic_load_explicit(&of->open, memory_order_relaxed);
    while (open >> TASK_SHIFT == request->task &&
           !atomic_compare_exchange_weak_explicit(&of->open, &open, is ? open + 1 : open - 1, memory_order_relaxed,
                                                  memory_order_relaxed))
        ;
}

/* Sets and clears bits of a live request's state. */
static void mark(struct request *request, uint64_t set, uint64_t clear)
{
    uint64_t before = atomic_load_explicit(&request->state, memory_order_acquire), after;
    do {
        if ((before & LIVE) == 0)
            return;
        after = (before | set) & ~clear;
        if (after == before)
            return;
    } while (!atomic_compare_exchange_weak_explicit(&request->state, &before, after, memory_order_acq_rel, memory_order_acquire));
    change(request, before, after);
}

void request_begin(struct request *request, struct ctx *ctx, const uint8_t from[8])
{
    uint64_t generation = (atomic_load_explicit(&request->state, memory_order_relaxed) >> GENERATION_SHIFT) + 1;
    uint64_t span_id = 0;
    if (from != NULL)
        memcpy(&span_id, from, sizeof span_id);
    atomic_store_explicit(&request->from, span_id, memory_order_relaxed);
    request->workload = NULL;
    ctx->request = request;
    ctx->request_generation = (uint32_t)generation;
    atomic_store_explicit(&request->state, generation << GENERATION_SHIFT | LIVE, memory_order_release);
}

void request_complete(struct request *request)
{
    request->workload = workload();
    request->task = (uint32_t)(atomic_load_explicit(&request->workload->open, memory_order_relaxed) >> TASK_SHIFT);
    mark(request, COMPLETE, 0);
}

void request_answered(struct request *request)
{
    mark(request, ANSWERED, 0);
}

bool request_is_from_elsewhere(const struct request *request)
{
    return request->workload != NULL && request->workload != known_workload();
}

void request_end(struct request *request)
{
    mark(request, 0, LIVE);
}

/* ---- calls ------------------------------------------------------------------------------------------------------------------------- */

static bool is_reference(const struct ctx *ctx, uint64_t state)
{
    return (state & LIVE) && (uint32_t)(state >> GENERATION_SHIFT) == ctx->request_generation;
}

static void call(const struct ctx *ctx, bool begins)
{
    struct request *request = ctx->request;
    if (request == NULL)
        return;
    uint64_t before = atomic_load_explicit(&request->state, memory_order_acquire), after;
    do {
        if (!is_reference(ctx, before) || (before & CALLS) == (begins ? CALLS : 0))
            return;
        after = begins ? before + CALL : before - CALL;
    } while (!atomic_compare_exchange_weak_explicit(&request->state, &before, after, memory_order_acq_rel, memory_order_acquire));
    change(request, before, after);
}

void request_call_begin(const struct ctx *ctx)
{
    call(ctx, true);
}

void request_call_end(const struct ctx *ctx)
{
    call(ctx, false);
}

/* The generation is looked at after it, too: the object may be another request's by then. */
bool request_came_from(const struct ctx *ctx, const struct ctx *traceparent)
{
    uint64_t span_id;
    memcpy(&span_id, traceparent->span_id, sizeof span_id);
    return ctx->request != NULL && memcmp(ctx->trace_id, traceparent->trace_id, sizeof ctx->trace_id) == 0 &&
           atomic_load_explicit(&ctx->request->from, memory_order_acquire) == span_id &&
           is_reference(ctx, atomic_load_explicit(&ctx->request->state, memory_order_acquire));
}

bool request_none_open(void)
{
    const struct workload *here = known_workload();
    return here == NULL || atomic_load_explicit(&here->open, memory_order_relaxed) == 0;
}

bool request_is_certain(const struct ctx *ctx)
{
    struct workload *here = known_workload();
    if (here == NULL)
        return true;
    uint64_t word = atomic_load_explicit(&here->open, memory_order_relaxed);
    uint32_t open = (uint32_t)word, task = (uint32_t)(word >> TASK_SHIFT);
    struct request *request = ctx->request;
    if (request == NULL)
        return open == 0;
    uint64_t state = atomic_load_explicit(&request->state, memory_order_acquire);
    bool own = is_reference(ctx, state) && request->workload == here && request->task == task && is_open(state);
    return open == (own ? 1 : 0);
}

void request_new_task(void)
{
    struct workload *here = known_workload();
    if (here == NULL || here == &crowded)
        return;
    uint64_t open = atomic_load_explicit(&here->open, memory_order_relaxed);
    while ((uint32_t)open != 0 &&
           !atomic_compare_exchange_weak_explicit(&here->open, &open, ((open >> TASK_SHIFT) + 1) << TASK_SHIFT,
                                                  memory_order_relaxed, memory_order_relaxed))
        ;
}
