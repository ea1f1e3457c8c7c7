/* stack.c - which Python code is the calling thread in? Without the GIL, without a reference taken: see python.h.
 *
 * A thread's frames are changed by that thread alone, and while it is inside a call of ours it changes none; a frame keeps its code alive, and
 * a code its names. What is read here:
 *
 *                        3.8 to 3.10                 3.11                           3.12                     3.13
 *     the newest frame   state: frame                state: cframe, and there       state: cframe, and there state: current_frame
 *     a frame's code     f_code                      f_code                         f_code                   f_executable
 *     the next older     f_back                      previous                       previous                 previous
 *
 * From 3.12 on there are frames of the C stack's own among them (owner 3), which are none of Python. Whatever is no code object is passed over:
 * 3.13 has None there. The layout is that of the version; that it is so here is tested once, against the C API's own answers for the stack of
 * that moment. A file name that is not ASCII is read as other bytes, but never beyond them. */
#include "base/base.h"
#include "context/python/python.h"
#include <stdatomic.h>
#include <string.h>

#define OWNER_C_STACK 3
#define FRAMES_MAX 4096
#define FRAMES_COMPARED 8
#define DIRECT UINT16_MAX
#define OLDEST_KNOWN 8
#define NEWEST_KNOWN 13
#define TYPE 8
#define TEXT_LENGTH 16
#define COROUTINE (0x80 | 0x100 | 0x200) /* CO_COROUTINE, CO_ITERABLE_COROUTINE, CO_ASYNC_GENERATOR */

static const struct frames {
    unsigned minor;                               /* from this version on */
    uint16_t newest, through, code, older, owner; /* through: in what .newest leads to, or DIRECT. owner: 0: there is none */
    uint16_t flags, file, name;                   /* in the code */
    uint16_t text;                                /* in an ASCII string; its length is at 16 in all versions */
} known_layouts[] = {
    {13, 72, DIRECT, 0, 8, 70, 48, 112, 120, 40},
    {12, 56, 0, 0, 8, 70, 48, 112, 120, 40},
    {11, 56, 8, 32, 48, 0, 48, 112, 120, 48},
    {8, 24, DIRECT, 32, 24, 0, 36, 104, 112, 48},
};
static const struct frames *layout; /* written once, with the GIL, before any hook asks */
static const void *code_type;
static _Atomic bool ready;

static inline const void *load(const void *object, size_t at)
{
    return __atomic_load_n((void *const *)((const char *)object + at), __ATOMIC_RELAXED);
}

/* The frame itself, or the next older one, that is one of Python code. */
static const void *python_frame(const struct frames *of, const void *frame)
{
    for (unsigned i = 0; frame != NULL && i < FRAMES_MAX; i++, frame = load(frame, of->older)) {
        if (of->owner != 0 && *((const uint8_t *)frame + of->owner) == OWNER_C_STACK)
            continue;
        const void *code = load(frame, of->code);
        if (code != NULL && load(code, TYPE) == code_type)
            return frame;
    }
    return NULL;
}

static const void *newest(const struct frames *of, const void *thread)
{
    const void *at = load(thread, of->newest);
    if (at != NULL && of->through != DIRECT)
        at = load(at, of->through);
    return python_frame(of, at);
}

bool python_stack_ready(void)
{
    return atomic_load_explicit(&ready, memory_order_acquire);
}

const void *python_stack_newest(const void *thread)
{
    return python_stack_ready() ? newest(layout, thread) : NULL;
}

const void *python_stack_older(const void *frame)
{
    return python_frame(layout, load(frame, layout->older));
}

static struct python_text text_of(const struct frames *of, const void *string)
{
    const size_t len = (size_t)load(string, TEXT_LENGTH);
    return (struct python_text){(const char *)string + of->text, len < 4096 ? len : 0};
}

struct python_text python_stack_file(const void *frame)
{
    return text_of(layout, load(load(frame, layout->code), layout->file));
}

struct python_text python_stack_name(const void *frame)
{
    return text_of(layout, load(load(frame, layout->code), layout->name));
}

static int flags_of(const struct frames *of, const void *code)
{
    int flags;
    memcpy(&flags, (const char *)code + of->flags, sizeof flags);
    return flags;
}

bool python_stack_in_coroutine(const void *thread)
{
    for (const void *frame = python_stack_newest(thread); frame != NULL; frame = python_stack_older(frame))
        if (flags_of(layout, load(frame, layout->code)) & COROUTINE)
            return true;
    return false;
}

static bool ends_with(struct python_text text, const char *end, size_t len)
{
    return text.len >= len && memcmp(text.bytes + text.len - len, end, len) == 0;
}

bool python_stack_is_within(const void *thread, const char *file_end, const char *name)
{
    const size_t len = name != NULL ? strlen(name) : 0;
    for (const void *frame = python_stack_newest(thread); frame != NULL; frame = python_stack_older(frame)) {
        struct python_text text = python_stack_name(frame);
        if ((name == NULL || (text.len == len && memcmp(text.bytes, name, len) == 0)) &&
            ends_with(python_stack_file(frame), file_end, strlen(file_end)))
            return true;
    }
    return false;
}

/* ---- is it so? ----------------------------------------------------------------------------------------------------------------------- */

static bool is_text(const struct frames *of, const void *object, const char *expected)
{
    const struct python_text text = text_of(of, object);
    return text.len == strlen(expected) && memcmp(text.bytes, expected, text.len) == 0;
}

/* The attribute of a code object is the very object that we find in it, and reads as what the C API makes of it. */
static bool attribute_fits(const struct frames *of, PyObject *code, const char *name, size_t at)
{
    PyObject *value = python_api.GetAttr(code, name);
    const char *text = value != NULL ? python_api.AsUtf8(value) : NULL;
    bool fits = text != NULL && load(code, at) == value && (is_text(of, value, text) || strlen(text) >= 4096);
    if (value != NULL)
        python_api.DecRef(value);
    return fits;
}

static const char *compare_one(const struct frames *of, PyObject *code, const void *ours)
{
    if (ours == NULL || load(ours, of->code) != code)
        return "the frames of Python code are not found";
    if (!attribute_fits(of, code, "co_filename", of->file) || !attribute_fits(of, code, "co_name", of->name))
        return "the names of Python code are not found";
    PyObject *flags = python_api.GetAttr(code, "co_flags");
    bool fit = flags != NULL && python_api.LongAsLong(flags) == flags_of(of, code);
    if (flags != NULL)
        python_api.DecRef(flags);
    return fit ? NULL : "the flags of Python code are not found";
}

/* The newest frames of this thread's stack, by both ways; or all, where there are fewer. */
static const char *compare(const struct frames *of, const void *thread)
{
    PyObject *frame = python_api.EvalFrame();
    const void *ours = NULL;
    const char *why = frame == NULL ? "no Python code was running" : NULL;
    if (frame != NULL)
        python_api.IncRef(frame);
    for (unsigned i = 0; why == NULL && frame != NULL && i < FRAMES_COMPARED; i++) {
        PyObject *code = python_api.GetAttr(frame, "f_code"), *back = NULL;
        if (i == 0 && code != NULL) {
            code_type = load(code, TYPE);
            ours = newest(of, thread);
        }
        if (code != NULL) {
            why = compare_one(of, code, ours);
            back = python_api.GetAttr(frame, "f_back");
            python_api.DecRef(code);
        } else if (i == 0 || ours != NULL) { /* past the oldest: f_back was None */
            why = "the end of the stack is not found";
        }
        if (why == NULL && code != NULL)
            ours = python_frame(of, load(ours, of->older));
        python_api.DecRef(frame);
        frame = back;
    }
    if (frame != NULL)
        python_api.DecRef(frame);
    return why;
}

const char *python_stack_calibrate(unsigned minor)
{
    if (minor < OLDEST_KNOWN || minor > NEWEST_KNOWN)
        return "the frames of this version are not known";
    const void *thread = python_thread();
    const struct frames *of = known_layouts;
    if (thread == NULL || !frames_fit(thread))
        return "its frames are not where this version has them";
    while (minor < of->minor)
        of++;
    layout = of;
    const char *why = compare(of, thread);
    if (why == NULL)
        atomic_store_explicit(&ready, true, memory_order_release);
    return why;
}
