/* given.c - work that was given to a thread: by the request that started it, or by the one that submitted a job. See python.h.
 *
 * A thread that was started for a request works for it as long as it goes its own way. From the moment when it may have taken up what somebody
 * else has left for it, it works for nobody. Where that is cannot be seen in the locks alone, as it is for other programs (interpose/thread.c):
 * a Python thread takes locks all the time, in logging, in imports, in the pool from which an HTTP client takes its connection. So it is
 * asked whose code takes the lock:
 *
 *   * the thread's own function is library code: a pool's worker, somebody's monitor or flusher. Nobody's from the start. (Library: the
 *     standard one, and what lies in site-packages or dist-packages.)
 *   * the program's own code takes a lock, waits on a condition, an event or a semaphore, or takes something from a queue or a deque: nobody's from
 *     then on. Starting and joining threads does not count, nor does putting something into a queue.
 *   * library code does: what it takes there is a connection, or its own affair.
 *
 * A job of concurrent.futures' thread pools is the submitter's, whatever thread it runs on, from when the thread took it from the pool's queue to
 * when it takes the next. The queue hands over objects: which request one was put in for is kept here, by its address, while it is in the
 * queue, which keeps it alive. Each is put once and taken once; what comes to be at the same address later is put anew, and overwrites. A job
 * that takes things from another queue, or waits on a condition or an event, becomes nobody's as a thread would; plain locks are let pass:
 * a job has been handed over already.
 *
 * A greenlet that gevent spawns is like a thread; what it was given is in its context (python_gevent.c), and its function is looked at each time.
 *
 * The table of jobs is used with the GIL alone. What was given is the thread's own; .kind is cleared first and set last, for the sake of
 * signal handlers. */
#include "base/base.h"
#include "base/raw.h"
#include "context/python/python.h"
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

static OTSHIM_TLS struct {
    bool judged; /* the thread's function is the program's own */
    uint32_t fork_generation;
    struct ctx ctx;
} mine;

static void give(uint8_t kind, const struct ctx *ctx, uint8_t rule)
{
    runtime_given = 0;
    atomic_signal_fence(memory_order_seq_cst);
    mine.judged = false;
    mine.fork_generation = otshim_fork_generation;
    mine.ctx = *ctx;
    mine.ctx.rule = rule;
    atomic_signal_fence(memory_order_seq_cst);
    runtime_given = kind;
}

static void end(void)
{
    runtime_given = 0;
}

void python_given_end(void)
{
    if (runtime_given != PYTHON_GIVEN_GREENLETS) /* those are told apart by their contexts */
        end();
}

/* ---- whose code is it? ------------------------------------------------------------------------------------------------------------------ */

enum code { PROGRAM, LIBRARY, GEVENT, THREADING, QUEUE, EXECUTOR };

static char library[512]; /* the standard one's directory, with its last slash; written once, with the GIL */
static size_t library_len;

bool python_given_library(const char *threading_file)
{
    const char *slash = strrchr(threading_file, '/');
    const size_t len = slash != NULL ? (size_t)(slash + 1 - threading_file) : 0;
    if (len == 0 || len > sizeof library || strcmp(slash, "/threading.py") != 0)
        return false;
    memcpy(library, threading_file, len);
    library_len = len;
    return true;
}

static bool is(struct python_text text, const char *expected)
{
    return text.len == strlen(expected) && memcmp(text.bytes, expected, text.len) == 0;
}

static enum code code_of(const void *frame)
{
    struct python_text file = python_stack_file(frame);
    if (library_len == 0 || file.len < library_len || memcmp(file.bytes, library, library_len) != 0) {
        if (memmem(file.bytes, file.len, "-packages/gevent/", 17) != NULL)
            return GEVENT;
        bool others = memmem(file.bytes, file.len, "/site-packages/", 15) != NULL ||
                      memmem(file.bytes, file.len, "/dist-packages/", 15) != NULL ||
                      (file.len > 8 && memcmp(file.bytes, "<frozen ", 8) == 0);
        return others ? LIBRARY : PROGRAM;
    }
    if (file.len > library_len + 21 && memcmp(file.bytes + library_len, "site-packages/gevent/", 21) == 0)
        return GEVENT;
    file.bytes += library_len;
    file.len -= library_len;
    if (is(file, "threading.py"))
        return THREADING;
    if (is(file, "queue.py"))
        return QUEUE;
    return is(file, "concurrent/futures/thread.py") ? EXECUTOR : LIBRARY;
}

/* The oldest code of the thread, or greenlet, that is not threading's: whose is it? THREADING while there is none. */
static enum code oldest_code(void)
{
    enum code oldest = THREADING;
    for (const void *frame = python_stack_newest(python_thread()); frame != NULL; frame = python_stack_older(frame)) {
        enum code code = code_of(frame);
        if (code != THREADING)
            oldest = code;
    }
    return oldest;
}

static void judge_thread(void)
{
    enum code oldest = oldest_code();
    if (oldest == PROGRAM)
        mine.judged = true;
    else if (oldest != THREADING)
        end();
}

bool python_given_now(struct ctx *out)
{
    if (OTSHIM_LIKELY(runtime_given == PYTHON_GIVEN_NOTHING))
        return false;
    if (mine.fork_generation != otshim_fork_generation && runtime_given != PYTHON_GIVEN_GREENLETS)
        end();
    if (runtime_given == PYTHON_GIVEN_THREAD && !mine.judged)
        judge_thread();
    *out = mine.ctx;
    return runtime_given == PYTHON_GIVEN_JOB || (runtime_given == PYTHON_GIVEN_THREAD && mine.judged);
}

/* ---- greenlets ---------------------------------------------------------------------------------------------------------------------------- */

/* The value in the context of a greenlet that was started for a request has this rule, as what it was given has for a thread. */
#define SPAWNED OTSHIM_PARENT_INHERITED

void python_spawned(PyObject *context, const struct ctx *ctx)
{
    struct python_value value = {.kind = PYTHON_REQUEST, .ctx = *ctx};
    value.ctx.rule = SPAWNED;
    python_set(context, &value);
    if (runtime_given == PYTHON_GIVEN_NOTHING)
        runtime_given = PYTHON_GIVEN_GREENLETS;
}

static bool is_spawned(void)
{
    struct python_value value;
    const void *thread = python_thread();
    return thread != NULL && python_read(thread, &value) && value.kind == PYTHON_REQUEST && value.ctx.rule == SPAWNED;
}

bool python_given_holds(const struct python_value *value)
{
    return value->ctx.rule != SPAWNED || oldest_code() == PROGRAM;
}

/* ---- where it ends ------------------------------------------------------------------------------------------------------------------------- */

/* The program starts threads, waits for their end, or tells others of something: it takes nothing. */
static bool takes_nothing(struct python_text outermost)
{
    static const char *const names[] = {"start",        "join",           "is_alive", "enumerate",
                                        "active_count", "current_thread", "set",      "release"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (is(outermost, names[i]))
            return true;
    return false;
}

/* Is the program's own code about to take something? waited: only by waiting for others, or from a queue, not by a mere lock. */
static bool program_takes(bool waited)
{
    struct python_text name = {"", 0};
    const void *frame = python_stack_newest(python_thread());
    bool waits = false, takes = false, queue = false;
    for (enum code code; frame != NULL && ((code = code_of(frame)) == THREADING || code == GEVENT);
         frame = python_stack_older(frame)) {
        name = python_stack_name(frame);
        waits |= is(name, "wait");
    }
    const bool threading = name.len != 0;
    for (; frame != NULL && code_of(frame) == QUEUE; frame = python_stack_older(frame)) {
        queue = true;
        name = python_stack_name(frame);
        takes |= name.len >= 3 && memcmp(name.bytes, "get", 3) == 0;
    }
    if (frame == NULL || code_of(frame) != PROGRAM)
        return false;
    if (queue ? !takes : threading && takes_nothing(name))
        return false;
    return queue || waits || !waited;
}

void python_given_takes(void)
{
    if (runtime_given == PYTHON_GIVEN_GREENLETS) {
        if (is_spawned() && program_takes(false))
            python_set(NULL, &(struct python_value){.kind = PYTHON_NOBODY});
    } else if (program_takes(runtime_given == PYTHON_GIVEN_JOB)) {
        end();
    }
}

/* What a child process says is an answer; anything else may be work: of multiprocessing's queues and pools, or of the program's own pipes. */
void python_given_read(void)
{
    if (python_stack_is_within(python_thread(), "/subprocess.py", NULL))
        return;
    if (runtime_given != PYTHON_GIVEN_GREENLETS) {
        end();
    } else if (is_spawned()) { /* the GIL was given up for the read, and will be wanted again */
        int state = python_api.Ensure();
        if (python_usable())
            python_set(NULL, &(struct python_value){.kind = PYTHON_NOBODY});
        python_api.Release(state);
    }
}

/* ---- jobs ------------------------------------------------------------------------------------------------------------------------------------ */

#define JOBS 65536u /* in all queues at once; what is beyond stays without a request */
#define WINDOW 8u   /* where an object may be, from the place that its address gives */

static struct job {
    const void *item; /* NULL: free */
    uint32_t fork_generation, age;
    struct ctx ctx;
} * jobs;
static uint32_t youngest;
uint32_t python_jobs;

static inline struct job *window_of(const void *item)
{
    return &jobs[((uint64_t)(uintptr_t)item * 0x9e3779b97f4a7c15ull >> 32) % (JOBS - WINDOW)];
}

static struct job *job_find(const void *item)
{
    struct job *window = jobs != NULL ? window_of(item) : NULL;
    for (unsigned i = 0; window != NULL && i < WINDOW; i++)
        if (window[i].item == item)
            return &window[i];
    return NULL;
}

/* Its own place if it has one, a free one, or that of the job which has waited the longest. */
static struct job *job_place(const void *item)
{
    if (jobs == NULL) {
        long made = raw_syscall6(SYS_mmap, 0, JOBS * sizeof *jobs, PROT_READ | PROT_WRITE,
                                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (raw_failed(made))
            return NULL;
        jobs = (struct job *)made;
    }
    struct job *place = job_find(item), *window = window_of(item);
    if (place != NULL)
        return place;
    place = window;
    for (unsigned i = 0; i < WINDOW && place->item != NULL; i++)
        if (window[i].item == NULL || youngest - window[i].age > youngest - place->age)
            place = &window[i];
    return place;
}

void python_job_put(const void *item)
{
    struct ctx ctx;
    struct job *job;
    if (!ctx_current(&ctx)) {
        if ((job = job_find(item)) != NULL) { /* of an object that was at this address before */
            job->item = NULL;
            python_jobs--;
        }
    } else if ((job = job_place(item)) != NULL) {
        python_jobs += job->item == NULL;
        *job = (struct job){item, otshim_fork_generation, youngest++, ctx};
    }
}

void python_job_taken(const void *item)
{
    const void *frame = python_stack_newest(python_thread());
    const enum code taker = frame != NULL ? code_of(frame) : LIBRARY;
    struct job *job = job_find(item);
    struct job found = {0};
    if (job != NULL) {
        found = *job;
        job->item = NULL;
        python_jobs--;
    }
    if (taker == EXECUTOR && is(python_stack_name(frame), "_worker")) {
        runtime_given = 0;
        if (job != NULL && found.fork_generation == otshim_fork_generation)
            give(PYTHON_GIVEN_JOB, &found.ctx, OTSHIM_PARENT_HANDOVER);
    } else if (taker == PROGRAM) {
        runtime_given = 0;
    }
}

void python_given_start(const struct ctx *ctx)
{
    give(PYTHON_GIVEN_THREAD, ctx, OTSHIM_PARENT_INHERITED);
}
