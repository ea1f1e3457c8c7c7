/* keep.c - see jvm.h. A place is taken by swapping its number for a mark; it counts again when the context is there and the new number. */
#include "base/raw.h"
#include "context/jvm/jvm.h"
#include <stdatomic.h>
#include <sys/mman.h>

#define CHANGING (1ull << 63)

struct kept {
    _Atomic uint64_t number;
    struct ctx ctx;
};

static _Atomic(struct kept *) ring;
static _Atomic uint64_t last;

static struct kept *ring_map(void)
{
    struct kept *here = atomic_load_explicit(&ring, memory_order_acquire);
    if (OTSHIM_LIKELY(here != NULL))
        return here;
    const long size = (long)(KEEP_SLOTS * sizeof *here);
    long made = raw_syscall6(SYS_mmap, 0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (raw_failed(made))
        return NULL;
    if (atomic_compare_exchange_strong(&ring, &here, (struct kept *)made))
        return (struct kept *)made;
    raw_syscall3(SYS_munmap, made, size, 0);
    return here;
}

static bool same(const struct ctx *a, const struct ctx *b)
{
    return ctx_same_request(a, b) && a->trace_flags == b->trace_flags && a->rule == b->rule && a->has_parent == b->has_parent &&
           a->request == b->request && a->request_generation == b->request_generation && a->tracestate == b->tracestate;
}

uint64_t keep_put(const struct ctx *ctx)
{
    /* The thread's last two, one of each sort (what it is in, what it hands over): most are asked for again and again. */
    static OTSHIM_TLS struct {
        volatile uint64_t number;
        struct ctx ctx;
    } mine[2];
    const unsigned which = ctx->rule == OTSHIM_PARENT_HANDOVER;
    const uint64_t known = mine[which].number;
    if (known != 0 && same(&mine[which].ctx, ctx) && mine[which].number == known &&
        atomic_load_explicit(&last, memory_order_relaxed) - known < KEEP_SLOTS / 2)
        return known;
    struct kept *table = ring_map();
    if (table == NULL)
        return 0;
    const uint64_t number = atomic_fetch_add_explicit(&last, 1, memory_order_relaxed) + 1;
    struct kept *place = &table[number % KEEP_SLOTS];
    uint64_t before = atomic_load_explicit(&place->number, memory_order_relaxed);
    if ((before & CHANGING) ||
        !atomic_compare_exchange_strong_explicit(&place->number, &before, CHANGING, memory_order_acq_rel, memory_order_relaxed))
        return 0; /* whoever was interrupted there while a whole round went by */
    atomic_thread_fence(memory_order_seq_cst);
    place->ctx = *ctx;
    atomic_store_explicit(&place->number, number, memory_order_release);
    mine[which].number = 0;
    atomic_signal_fence(memory_order_seq_cst);
    mine[which].ctx = *ctx;
    atomic_signal_fence(memory_order_seq_cst);
    mine[which].number = number;
    return number;
}

bool keep_get(uint64_t number, struct ctx *out)
{
    struct kept *table = atomic_load_explicit(&ring, memory_order_acquire);
    if (number == 0 || table == NULL)
        return false;
    struct kept *place = &table[number % KEEP_SLOTS];
    if (atomic_load_explicit(&place->number, memory_order_acquire) != number)
        return false;
    *out = place->ctx;
    atomic_thread_fence(memory_order_seq_cst);
    return atomic_load_explicit(&place->number, memory_order_relaxed) == number;
}
