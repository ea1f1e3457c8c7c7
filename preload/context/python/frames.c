/* frames.c - keeps the frames of a call at its begin. See frames.h.
 *
 * What belongs to the call. A task is stepped by its event loop, and below its frames lie those of the loop and of whatever started that:
 * the last line of main.py, for all calls alike. A coroutine is awaited by another one (or a generator); the one that a plain function steps is a
 * task's root, and the walk ends there. Callbacks that are no coroutines are run by asyncio.Handle._run (words.c ends there) or by uvloop, whose
 * frames are none: there it ends at the frame that was the innermost when libuv began to run. */
#include "context/python/frames.h"
#include "base/base.h"
#include "context/python/python.h"
#include "span/span.h"
#include <stdatomic.h>
#include <string.h>

#define IN_A_COROUTINE (CODE_COROUTINE | CODE_ITERABLE_COROUTINE | CODE_ASYNC_GENERATOR)
#define MANY_FRAMES 400u /* of which few are Python's own: a bound, should there be a ring */

/* x86-64 and aarch64 have the same. Of the headers cpython/{code,frameobject,unicodeobject}.h and internal/pycore_frame.h. */
static const struct frames_layout layouts[] = {
    {8, 24, -1, 24, 32, 104, 1, -1, 36, 40, 104, 112, 0, 120, 48, 176, 48, 72},
    {9, 24, -1, 24, 32, 104, 1, -1, 36, 40, 104, 112, 0, 120, 48, 176, 48, 72},
    {10, 24, -1, 24, 32, 96, 2, -1, 36, 40, 104, 112, 0, 120, 48, 176, 48, 72},
    {11, 56, 8, 48, 32, 56, 0, -1, 48, 72, 112, 120, 128, 136, 184, 184, 48, 72},
    {12, 56, 0, 8, 0, 56, 0, 70, 48, 68, 112, 120, 128, 136, 192, 192, 40, 56},
    {13, 72, -1, 8, 0, 56, 0, 70, 48, 68, 112, 120, 128, 136, 200, 200, 40, 56},
    {14, 72, -1, 8, 0, 56, 0, 74, 48, 68, 112, 120, 128, 136, 208, 208, 40, 56},
};

static struct frames_layout layout;
static _Atomic uint8_t state; /* of the layout */
enum { OFF, UNTESTED, TESTING, READY };

static OTSHIM_TLS const void *loop_frame; /* in which this thread's libuv runs; NULL: it does not */

static inline const void *pointer_at(const void *object, size_t at)
{
    return __atomic_load_n((void *const *)(const void *)((const char *)object + at), __ATOMIC_RELAXED);
}

static inline uint32_t word_at(const void *object, size_t at)
{
    uint32_t word;
    memcpy(&word, (const char *)object + at, sizeof word);
    return word;
}

static inline const void *top_of(const void *thread)
{
    const void *top = pointer_at(thread, layout.thread_top);
    return top != NULL && layout.indirect_top >= 0 ? pointer_at(top, (size_t)layout.indirect_top) : top;
}

static inline bool is_python(const void *frame)
{
    return layout.owner < 0 || ((const char *)frame)[layout.owner] < OWNED_BY_INTERPRETER;
}

static inline int32_t instruction_of(const void *frame, const void *code)
{
    if (layout.unit != 0)
        return (int32_t)word_at(frame, layout.instruction) * layout.unit;
    const intptr_t at = (const char *)pointer_at(frame, layout.instruction) - ((const char *)code + layout.instructions);
    return at > INT32_MAX ? INT32_MAX : at < -1 ? -1 : (int32_t)at;
}

static void walk(const void *frame, struct frames *frames)
{
    const void *end = loop_frame;
    bool in_coroutine = false;
    frames->count = 0;
    for (unsigned i = 0; frame != NULL && frame != end && i < MANY_FRAMES && frames->count < FRAMES_MAX; i++) {
        const void *this = frame;
        frame = pointer_at(this, layout.back);
        if (!is_python(this))
            continue;
        const void *code = frames_untagged(pointer_at(this, layout.code));
        const uint32_t flags = word_at(code, layout.flags);
        if (in_coroutine && !(flags & (IN_A_COROUTINE | CODE_GENERATOR)))
            break;
        in_coroutine = (flags & IN_A_COROUTINE) != 0 || (in_coroutine && (flags & CODE_GENERATOR) != 0);
        const struct frames_code marks = {
            .file = pointer_at(code, layout.file),
            .name = pointer_at(code, layout.name),
            .table = pointer_at(code, layout.table),
            .first_line = word_at(code, layout.first_line),
        };
        frames->entry[frames->count++] = (struct frames_entry){code, instruction_of(this, code), frames_mark(&marks)};
    }
}

/* ---- the layout ------------------------------------------------------------------------------------------------------------------------- */

static void give_up(const char *why)
{
    char text[200] = "CPython: no call sites in its own terms: ";
    strncat(text, why, sizeof text - strlen(text) - 1);
    atomic_store_explicit(&runtime_has_sites, false, memory_order_release);
    atomic_store_explicit(&state, OFF, memory_order_release);
    span_log(9, text);
}

void frames_init(const char *version)
{
    unsigned minor = 0;
    if (strncmp(version, "3.", 2) == 0 && strstr(version, "free-threading") == NULL)
        for (version += 2; *version >= '0' && *version <= '9' && minor < 100; version++)
            minor = minor * 10 + (unsigned)(*version - '0');
    for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++) {
        if (layouts[i].minor != minor)
            continue;
        layout = layouts[i];
        atomic_store_explicit(&state, UNTESTED, memory_order_release);
        atomic_store_explicit(&runtime_has_sites, true, memory_order_release);
        return;
    }
    give_up("this version is not known");
}

/* One thread tests; the others' calls have no frames meanwhile. A stack without frames tells nothing: there are threads of C that have a
 * state of Python's. But not only such. */
#define EMPTY_STACKS 8
static void test(const void *thread)
{
    static _Atomic uint32_t empties;
    uint8_t untested = UNTESTED;
    if (!atomic_compare_exchange_strong(&state, &untested, TESTING))
        return;
    bool empty = false;
    const char *why = frames_test(&layout, thread, &empty);
    if (empty && why == NULL && atomic_fetch_add(&empties, 1) + 1 == EMPTY_STACKS)
        why = "its frames are not found";
    if (why == NULL)
        atomic_store_explicit(&state, empty ? UNTESTED : READY, memory_order_release);
    else
        give_up(why);
}

bool frames_fit(const void *thread)
{
    if (OTSHIM_LIKELY(atomic_load_explicit(&state, memory_order_acquire) == READY))
        return true;
    test(thread);
    return atomic_load_explicit(&state, memory_order_acquire) == READY;
}

/* ---- what the adapter offers ---------------------------------------------------------------------------------------------------------------- */

bool frames_keep(void *kept)
{
    if (atomic_load_explicit(&state, memory_order_relaxed) == OFF)
        return false;
    const void *thread = python_thread();
    if (thread == NULL || !frames_fit(thread))
        return false;
    struct frames *frames = kept;
    walk(top_of(thread), frames);
    return frames->count > 0;
}

/* Until 3.11 a thread's state, as we get it, is that of the main interpreter, whichever runs. The newest interpreter comes first. */
static bool sub_interpreters(void)
{
    return layout.minor <= 11 && python_api.InterpreterHead != NULL && python_api.InterpreterHead() != python_api.MainInterpreter();
}

bool frames_site_words(const void *kept, struct runtime_site_words *words)
{
    return !sub_interpreters() && frames_words(&layout, kept, words);
}

void frames_event_loop(bool runs)
{
    if (!runs)
        loop_frame = NULL;
    if (!runs || OTSHIM_LIKELY(loop_frame != NULL) || atomic_load_explicit(&state, memory_order_acquire) == OFF)
        return;
    const void *thread = python_thread();
    if (thread != NULL && frames_fit(thread))
        loop_frame = top_of(thread);
}
