/* hooks.c - what the rewritten methods call. See jvm.h.
 *
 * A tag is one word of 64 bits, the object's for our tool interface alone:
 *
 *     bits 2..0 what it is    bits 12..3 how often it is queued    bits 63..13 number of the context (keep.c), 0: for nobody
 *
 *     or, of a virtual thread, the address of its place (a multiple of 16) with the bits for that.
 *
 * All of this runs on threads of Java, called from Java code: never in a signal handler, never twice at once on a thread. The thread-local state
 * is the carrier's where a virtual thread runs; what of it is the virtual thread's comes and goes with its mounting. */
#include "base/pool.h"
#include "base/raw.h"
#include "context/jvm/jvm.h"
#include "context/request.h"

enum tag_kind {
    TAG_NONE,
    TAG_QUEUED,   /* given to a pool, maybe more than once */
    TAG_MADE,     /* a FutureTask, not given to anybody yet */
    TAG_STAGE,    /* a ForkJoinTask, a stage of a CompletableFuture: for good */
    TAG_CONFLICT, /* queued for several requests */
    TAG_THREAD    /* a virtual thread */
};
#define TAG_KIND 7u
#define TAG_ONCE 8u
#define TAG_COUNT 0x1ff8u
#define TAG_NUMBER_SHIFT 13

struct jvm_tags jvm_tags;
_Atomic bool jvm_unwatched;
void (*jvm_write_later)(int fd, const struct ctx *ctx);

/* Where a virtual thread's context is while it is not mounted. */
struct place {
    _Atomic uint64_t context; /* a number of keep.c */
};
static struct pool places = POOL_INIT(sizeof(struct place), 64, 1u << 20);

#define DEPTH 16u

static OTSHIM_TLS struct {
    uint64_t before[DEPTH]; /* contexts that come back when what is nested in them ends */
    uint32_t depth;
    uint32_t base; /* .depth when the virtual thread was mounted */
    bool began;    /* a pool's thread has just entered its task's context */
    bool selects;
    struct place *mounted, *unmounted;
} mine;

int jvm_current(struct ctx *out)
{
    (void)out;
    return OTSHIM_UNLIKELY(mine.selects || atomic_load_explicit(&jvm_unwatched, memory_order_relaxed)) ? 0 : -1;
}

/* ---- contexts ------------------------------------------------------------------------------------------------------------------------- */

/* What a task made now is for. */
static uint64_t context_now(void)
{
    struct ctx ctx;
    if (!ctx_current(&ctx))
        return 0;
    ctx.rule = OTSHIM_PARENT_HANDOVER;
    return keep_put(&ctx);
}

/* What the thread is in, as it is. */
static uint64_t context_save(void)
{
    struct ctx ctx;
    return ctx_peek(&ctx) ? keep_put(&ctx) : 0;
}

static void context_enter(uint64_t number)
{
    struct ctx ctx;
    if (keep_get(number, &ctx))
        ctx_enter(&ctx);
    else
        ctx_clear();
}

/* ---- tags ------------------------------------------------------------------------------------------------------------------------------- */

static uint64_t tag_get(jvm_object object)
{
    int64_t tag;
    return object != NULL && jvm_tags.get(jvm_tags.env, object, &tag) == 0 ? (uint64_t)tag : TAG_NONE;
}

static void tag_set(jvm_object object, uint64_t tag)
{
    jvm_tags.set(jvm_tags.env, object, (int64_t)tag);
}

static uint64_t tag_make(enum tag_kind kind, unsigned times, uint64_t number)
{
    return number << TAG_NUMBER_SHIFT | times * TAG_ONCE | kind;
}

/* Between get and set of a tag that several threads may change. The holder may be held up in there by a pause of the virtual machine, in
 * which its waiters have nothing else to do either, or by a debugger that stops this one thread, and then nobody waits for longer than a
 * twentieth of a second: the object is left as it is. */
static _Atomic bool tags_taken;

static bool tags_lock(void)
{
    for (unsigned i = 0; atomic_exchange_explicit(&tags_taken, true, memory_order_acquire); i++) {
        const struct timespec nap = {0, 100000};
        if (i == 100 + 500)
            return false;
        if (i >= 100)
            raw_syscall3(SYS_nanosleep, (long)&nap, 0, 0);
    }
    return true;
}

static void tags_unlock(void)
{
    atomic_store_explicit(&tags_taken, false, memory_order_release);
}

static bool same_request(uint64_t a, uint64_t b)
{
    struct ctx x, y;
    if (a == b)
        return true;
    return a != 0 && b != 0 && keep_get(a, &x) && keep_get(b, &y) && ctx_same_request(&x, &y);
}

/* Given once more: with which tag does the object go on? */
static uint64_t tag_given(uint64_t tag, uint64_t number)
{
    switch ((enum tag_kind)(tag & TAG_KIND)) {
    case TAG_NONE: return tag_make(TAG_QUEUED, 1, number);
    case TAG_MADE: return tag_make(TAG_QUEUED, 1, tag >> TAG_NUMBER_SHIFT);
    case TAG_QUEUED:
    case TAG_CONFLICT:
        if ((tag & TAG_COUNT) == TAG_COUNT)
            return tag_make(TAG_CONFLICT, TAG_COUNT / TAG_ONCE, 0); /* lost count: for good */
        if ((tag & TAG_KIND) == TAG_QUEUED && same_request(tag >> TAG_NUMBER_SHIFT, number))
            return tag + TAG_ONCE;
        return tag_make(TAG_CONFLICT, (unsigned)((tag & TAG_COUNT) / TAG_ONCE) + 1, 0);
    default: return tag;
    }
}

/* One of its runs begins: what is left of the tag. */
static uint64_t tag_begun(uint64_t tag)
{
    switch ((enum tag_kind)(tag & TAG_KIND)) {
    case TAG_MADE: return TAG_NONE;
    case TAG_QUEUED:
    case TAG_CONFLICT:
        if ((tag & TAG_COUNT) == TAG_COUNT)
            return tag;
        return (tag & TAG_COUNT) == TAG_ONCE ? TAG_NONE : tag - TAG_ONCE;
    default: return tag;
    }
}

/* Takes one run from the object's tag: the number of the context that it is for. *queued: it had been given or made. */
static uint64_t tag_take(jvm_object task, bool *queued)
{
    *queued = false;
    if (!tags_lock())
        return 0;
    uint64_t tag = tag_get(task), left = tag_begun(tag);
    if (left != tag)
        tag_set(task, left);
    tags_unlock();
    const enum tag_kind kind = (enum tag_kind)(tag & TAG_KIND);
    *queued = kind == TAG_QUEUED || kind == TAG_MADE || kind == TAG_CONFLICT;
    return kind == TAG_QUEUED || kind == TAG_MADE || kind == TAG_STAGE ? tag >> TAG_NUMBER_SHIFT : 0;
}

/* ---- pools: ThreadPoolExecutor ------------------------------------------------------------------------------------------------------------- */

void jvm_given(void *env, jvm_object helper, jvm_object task)
{
    (void)env, (void)helper;
    const uint64_t number = context_now();
    if (task == NULL || !tags_lock())
        return;
    uint64_t tag = tag_get(task), given = tag_given(tag, number);
    if (given != tag)
        tag_set(task, given);
    tags_unlock();
}

void jvm_begins(void *env, jvm_object helper, jvm_object task)
{
    (void)env, (void)helper;
    const uint64_t number = tag_take(task, &mine.began);
    request_new_task();
    context_enter(number);
}

void jvm_ends(void *env, jvm_object helper)
{
    (void)env, (void)helper;
    mine.depth = mine.base;
    mine.began = false;
    ctx_clear();
    request_new_task();
}

/* ---- nested ------------------------------------------------------------------------------------------------------------------------------- */

static void push(void)
{
    const uint64_t before = context_save();
    if (before == 0 && mine.depth == mine.base)
        request_new_task();
    if (mine.depth < DEPTH)
        mine.before[mine.depth] = before;
    mine.depth++;
}

void jvm_returns(void *env, jvm_object helper)
{
    (void)env, (void)helper;
    uint64_t before = 0;
    if (mine.depth > mine.base && --mine.depth < DEPTH)
        before = mine.before[mine.depth];
    context_enter(before);
}

void jvm_stageMade(void *env, jvm_object helper, jvm_object stage)
{
    (void)env, (void)helper;
    const uint64_t number = context_now();
    if (number != 0)
        tag_set(stage, tag_make(TAG_STAGE, 0, number));
}

void jvm_stageRuns(void *env, jvm_object helper, jvm_object stage)
{
    (void)env, (void)helper;
    push();
    const uint64_t tag = tag_get(stage);
    context_enter((tag & TAG_KIND) == TAG_STAGE ? tag >> TAG_NUMBER_SHIFT : 0);
}

/* FutureTask: made by submit(), and by those who hand it over themselves. */
void jvm_taskMade(void *env, jvm_object helper, jvm_object task)
{
    (void)env, (void)helper;
    const uint64_t number = context_now();
    if (number != 0)
        tag_set(task, tag_make(TAG_MADE, 0, number));
}

/* In a pool's thread its context has been entered already, and the tag is used up. */
void jvm_taskRuns(void *env, jvm_object helper, jvm_object task)
{
    (void)env, (void)helper;
    push();
    const bool entered = mine.began;
    mine.began = false;
    bool queued;
    if (!entered)
        context_enter(tag_take(task, &queued));
}

/* A task that takes things from a queue works for whoever put them there. What was handed to it ends, therefore. */
void jvm_takes(void *env, jvm_object helper)
{
    (void)env, (void)helper;
    struct ctx ctx;
    if (ctx_peek(&ctx) && ctx.rule == OTSHIM_PARENT_HANDOVER)
        ctx_clear();
}

/* HttpClient is about to send on a connection that it has: from this thread, from another, from its selector's. */
void jvm_sends(void *env, jvm_object helper, jvm_object exchange)
{
    (void)helper;
    const int fd = jvm_descriptor_of(env, exchange);
    struct ctx ctx;
    if (fd < 0)
        return;
    const bool known = ctx_current(&ctx);
    ctx.rule = OTSHIM_PARENT_HANDOVER;
    jvm_write_later(fd, known ? &ctx : NULL);
}

void jvm_selects(void *env, jvm_object helper)
{
    (void)env, (void)helper;
    mine.selects = true;
}

/* ---- virtual threads ------------------------------------------------------------------------------------------------------------------------
 * Not at the mounting itself, which is a transition in which the virtual machine wants no tool to ask anything: before it, and after. */

static struct place *place_of(jvm_object thread, bool make)
{
    const uint64_t tag = tag_get(thread);
    if ((tag & TAG_KIND) == TAG_THREAD)
        return (struct place *)(uintptr_t)(tag & ~(uint64_t)TAG_KIND);
    struct place *place = make ? pool_get(&places) : NULL;
    if (place != NULL)
        tag_set(thread, (uint64_t)(uintptr_t)place | TAG_THREAD);
    return place;
}

void jvm_starts(void *env, jvm_object helper, jvm_object thread)
{
    (void)env, (void)helper;
    const uint64_t number = context_now();
    struct place *place = number != 0 ? place_of(thread, true) : NULL;
    if (place != NULL)
        atomic_store_explicit(&place->context, number, memory_order_release);
}

void jvm_mounts(void *env, jvm_object helper, jvm_object thread)
{
    (void)env, (void)helper;
    mine.mounted = place_of(thread, true);
    mine.base = mine.depth;
    mine.began = false;
    request_new_task();
    context_enter(mine.mounted != NULL ? atomic_load_explicit(&mine.mounted->context, memory_order_acquire) : 0);
}

/* What is not certain now will be no better later. */
void jvm_unmounts(void *env, jvm_object helper)
{
    (void)env, (void)helper;
    struct ctx ctx;
    if (mine.mounted != NULL)
        atomic_store_explicit(&mine.mounted->context, ctx_current(&ctx) ? context_save() : 0, memory_order_release);
    mine.unmounted = mine.mounted;
    mine.mounted = NULL;
    mine.depth = mine.base;
    mine.base = 0;
    mine.began = false;
    ctx_clear();
    request_new_task();
}

void jvm_terminates(void *env, jvm_object helper)
{
    (void)env, (void)helper;
    if (mine.unmounted != NULL) {
        atomic_store_explicit(&mine.unmounted->context, 0, memory_order_relaxed);
        pool_put(&places, mine.unmounted);
    }
    mine.unmounted = NULL;
}
