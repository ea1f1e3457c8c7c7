/* hooks.c - what the rewritten methods call. See jvm.h.
 *
 * A tag is one word of 64 bits, the object's for our tool interface alone: what it is in the low three, above them the number of the context
 * (keep.c), 0: for nobody. Or, of a virtual thread, the address of its place, a multiple of 16.
 *
 * All of this runs on threads of Java, called from Java code: never in a signal handler, never twice at once on a thread. The thread-local state
 * is the carrier's where a virtual thread runs; what of it is the virtual thread's comes and goes with its mounting. */
#include "base/pool.h"
#include "base/raw.h"
#include "context/jvm/jvm.h"
#include "context/request.h"

enum tag_kind {
    TAG_NONE,
    TAG_MADE,   /* a FutureTask, not given to anybody yet */
    TAG_QUEUED, /* given to a pool */
    TAG_USED,   /* it has run, or was given again before it had: whoever gives it once more need not be whom it works for */
    TAG_STAGE,  /* a ForkJoinTask, a stage of a CompletableFuture: for good */
    TAG_THREAD  /* a virtual thread */
};
#define TAG_KIND 7u
#define TAG_NUMBER_SHIFT 3

struct jvm_tags jvm_tags;
_Atomic bool jvm_unwatched;
void (*jvm_hand_over)(int fd, const struct ctx *ctx, bool unsent);

/* Where a virtual thread's context is while it is not mounted. One carrier at a time has it; from one to the next it goes by way of the scheduler,
 * which orders their writes. */
#define PLACE_DEPTH 6u
struct place {
    uint64_t context; /* a number of keep.c */
    uint32_t depth;   /* of what it is nested in, as far as there is room: the innermost first */
    uint64_t before[PLACE_DEPTH];
};
static struct pool places = POOL_INIT(sizeof(struct place), 64, 1u << 20);

#define DEPTH 16u

static OTSHIM_TLS struct {
    uint64_t before[DEPTH]; /* contexts that come back when what is nested in them ends */
    uint32_t tagged;        /* by bit: what is nested there has a tag that is of no use when it has run */
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

/* By that very rule, too: ctx_enter() leaves a thread that is in the request already as it is. */
static void context_enter(uint64_t number)
{
    struct ctx ctx, now;
    const bool known = keep_get(number, &ctx);
    if (!known || !ctx_peek(&now) || now.rule != ctx.rule)
        ctx_clear();
    if (known)
        ctx_enter(&ctx);
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

static uint64_t tag_make(enum tag_kind kind, uint64_t number)
{
    return number << TAG_NUMBER_SHIFT | kind;
}

/* Between get and set of the tag of an object that several threads may give to pools at once. The holder may be held up in there by a pause of the virtual machine, in
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

/* A tag costs the virtual machine some 70 bytes until it collects the object. What was given for nobody, which may be millions of tasks between
 * two collections, is therefore remembered as used a limited number of times only: such objects are few, and made early. */
#define USED_FOR_NOBODY 65536u
static bool remember_used(uint64_t number)
{
    static _Atomic uint32_t remembered;
    return number != 0 || (atomic_load_explicit(&remembered, memory_order_relaxed) < USED_FOR_NOBODY &&
                           atomic_fetch_add_explicit(&remembered, 1, memory_order_relaxed) < USED_FOR_NOBODY);
}

/* Takes the one run from a task's tag: the number of the context that it is for. *queued: it had been given or made. */
static uint64_t tag_take(jvm_object task, bool *queued)
{
    const uint64_t tag = tag_get(task);
    const enum tag_kind kind = (enum tag_kind)(tag & TAG_KIND);
    *queued = kind == TAG_QUEUED || kind == TAG_MADE;
    if (*queued)
        tag_set(task, remember_used(tag >> TAG_NUMBER_SHIFT) ? TAG_USED : TAG_NONE);
    return *queued || kind == TAG_STAGE ? tag >> TAG_NUMBER_SHIFT : 0;
}

/* ---- pools: ThreadPoolExecutor ------------------------------------------------------------------------------------------------------------- */

void jvm_given(void *env, jvm_object helper, jvm_object task)
{
    (void)env, (void)helper;
    const uint64_t number = context_now();
    if (task == NULL || !tags_lock())
        return;
    const uint64_t tag = tag_get(task);
    switch ((enum tag_kind)(tag & TAG_KIND)) {
    case TAG_NONE: tag_set(task, tag_make(TAG_QUEUED, number)); break;
    case TAG_MADE: tag_set(task, tag_make(TAG_QUEUED, tag >> TAG_NUMBER_SHIFT)); break;
    case TAG_QUEUED: tag_set(task, TAG_USED); break;
    default: break;
    }
    tags_unlock();
}

void jvm_begins(void *env, jvm_object helper, jvm_object task)
{
    (void)env, (void)helper;
    const uint64_t number = tag_take(task, &mine.began);
    ctx_task(true);
    context_enter(number);
}

void jvm_ends(void *env, jvm_object helper)
{
    (void)env, (void)helper;
    mine.depth = mine.base;
    mine.began = false;
    ctx_clear();
    ctx_task(false);
}

/* ---- nested ------------------------------------------------------------------------------------------------------------------------------- */

static void push(void)
{
    const uint64_t before = context_save();
    if (before == 0 && mine.depth == mine.base)
        request_new_task();
    if (mine.depth < DEPTH) {
        mine.before[mine.depth] = before;
        mine.tagged &= ~(1u << mine.depth);
    }
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
        tag_set(stage, tag_make(TAG_STAGE, number));
}

void jvm_stageRuns(void *env, jvm_object helper, jvm_object stage)
{
    (void)env, (void)helper;
    push();
    const uint64_t tag = tag_get(stage);
    const bool known = (tag & TAG_KIND) == TAG_STAGE;
    if (known && mine.depth <= DEPTH)
        mine.tagged |= 1u << (mine.depth - 1);
    context_enter(known ? tag >> TAG_NUMBER_SHIFT : 0);
}

/* The end of doExec(), which runs once: a computation in many thousand tasks does not leave as many tags behind. */
void jvm_stageRan(void *env, jvm_object helper, jvm_object stage)
{
    if (mine.depth > mine.base && mine.depth <= DEPTH && (mine.tagged >> (mine.depth - 1) & 1u))
        tag_set(stage, TAG_NONE);
    jvm_returns(env, helper);
}

/* FutureTask: made by submit(), and by those who hand it over themselves. */
void jvm_taskMade(void *env, jvm_object helper, jvm_object task)
{
    (void)env, (void)helper;
    const uint64_t number = context_now();
    if (number != 0)
        tag_set(task, tag_make(TAG_MADE, number));
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

static void hand_over(void *env, jvm_object exchange, bool unsent)
{
    const int fd = jvm_descriptor_of(env, exchange);
    struct ctx ctx;
    if (fd < 0)
        return;
    const bool known = ctx_current(&ctx);
    ctx.rule = OTSHIM_PARENT_HANDOVER;
    jvm_hand_over(fd, known ? &ctx : NULL, unsent);
}

/* HttpClient is about to send on a connection that it has: from this thread, from another, from its selector's. */
void jvm_sends(void *env, jvm_object helper, jvm_object exchange)
{
    (void)helper;
    hand_over(env, exchange, false);
}

/* It has begun to make a connection to send on, or it has sent already. */
void jvm_connects(void *env, jvm_object helper, jvm_object exchange)
{
    (void)helper;
    hand_over(env, exchange, true);
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
        place->context = number;
}

void jvm_mounts(void *env, jvm_object helper, jvm_object thread)
{
    (void)env, (void)helper;
    struct place *place = place_of(thread, true);
    mine.mounted = place;
    mine.base = mine.depth;
    mine.began = false;
    ctx_task(true);
    for (uint32_t i = place != NULL ? place->depth : 0; i-- > 0;) {
        if (mine.depth < DEPTH) {
            mine.before[mine.depth] = place->before[i];
            mine.tagged &= ~(1u << mine.depth);
        }
        mine.depth++;
    }
    context_enter(place != NULL ? place->context : 0);
}

static void place_keep(struct place *place)
{
    struct ctx ctx;
    place->context = ctx_current(&ctx) ? context_save() : 0; /* what is not certain now will be no better later */
    place->depth = 0;
    while (place->depth < PLACE_DEPTH && mine.depth > mine.base) {
        mine.depth--;
        place->before[place->depth++] = mine.depth < DEPTH ? mine.before[mine.depth] : 0;
    }
}

void jvm_unmounts(void *env, jvm_object helper)
{
    (void)env, (void)helper;
    if (mine.mounted != NULL)
        place_keep(mine.mounted);
    mine.unmounted = mine.mounted;
    mine.mounted = NULL;
    mine.depth = mine.base;
    mine.base = 0;
    mine.began = false;
    ctx_clear();
    ctx_task(false);
}

void jvm_terminates(void *env, jvm_object helper)
{
    (void)env, (void)helper;
    if (mine.unmounted != NULL) {
        *mine.unmounted = (struct place){0};
        pool_put(&places, mine.unmounted);
    }
    mine.unmounted = NULL;
}
