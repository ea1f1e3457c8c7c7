/* walk.c - reads our variable out of the thread's context, without the GIL. See python.h.
 *
 * tstate->context is written by its own thread alone, and whatever hangs below an entered context does not change:
 * PyContextVar_Set makes a new tree and swaps one pointer. What is read here (CPython 3.8 to 3.14, offsets for the usual 16-byte object head):
 *
 *     PyThreadState   context         calibrated
 *     PyContext       ctx_prev        16: the context out of which it was entered
 *                     ctx_vars        24: the tree
 *     PyHamtObject    h_root          16
 *     bitmap node     b_bitmap        24 (32 bits), then pairs from 32: key and value; or no key, and the node below
 *     array node      a_array[32]     16
 *     collision node  ob_size         16, then pairs from 32
 *
 * Each level eats five bits of the variable's hash. The kinds of nodes are told apart by their types' names, once, in the test. */
#include "base/base.h"
#include "context/python/python.h"
#include <string.h>

enum { HEAD = 16, TYPE = 8, TYPE_NAME = 24, PREVIOUS = 16, TREE = 24, ROOT = 16, BITMAP = 24, PAIRS = 32, ARRAY = 16, SIZE = 16 };
#define LEVELS 8
#define NESTED_MAX 8
#define STATE_BYTES 440 /* how much of the thread's state is searched; the smallest there is, is larger */

_Atomic uint8_t python_walk_state;

static struct {
    const void *var;
    uint32_t hash;
    size_t context_at; /* in the thread's state; 0: not known */
    size_t bytes_at;   /* the bytes of a bytes object */
    bool nests;        /* PREVIOUS is right */
} layout;

static inline void *load(const void *object, size_t at)
{
    return __atomic_load_n((void *const *)((const char *)object + at), __ATOMIC_RELAXED);
}

static const char *type_name(const void *object)
{
    return load(load(object, TYPE), TYPE_NAME);
}

static bool finalizing(void)
{
    if (python_api.IsFinalizing != NULL)
        return python_api.IsFinalizing();
    return python_api.IsFinalizingBefore != NULL && python_api.IsFinalizingBefore();
}

void *python_thread(void)
{
    if (!python_api.IsInitialized() || finalizing())
        return NULL;
    return python_api.ThisThreadState();
}

void *python_context_of(const void *thread)
{
    return layout.context_at != 0 ? load(thread, layout.context_at) : NULL;
}

bool python_context_within(const void *thread, const void *outer)
{
    const void *context = layout.nests ? python_context_of(thread) : NULL;
    for (unsigned i = 0; context != NULL && i < NESTED_MAX; i++) {
        if (context == outer)
            return true;
        context = load(context, PREVIOUS);
    }
    return false;
}

static const void *find_pair(const void *node, size_t pairs, bool *found)
{
    *found = false;
    for (size_t i = 0; i < pairs; i++)
        if (load(node, PAIRS + 16 * i) == layout.var)
            *found = true, node = load(node, PAIRS + 16 * i + 8), pairs = 0;
    return node;
}

/* The variable's value; NULL: not set. */
static const void *find(const void *node)
{
    for (unsigned level = 0; node != NULL && level < LEVELS; level++) {
        const uint32_t five = layout.hash >> (5 * level < 32 ? 5 * level : 31) & 31;
        const char *name = type_name(node);
        if (name == NULL || strncmp(name, "hamt_", 5) != 0)
            return NULL;
        if (name[5] == 'a') {
            node = load(node, ARRAY + 8 * five);
        } else if (name[5] == 'b') {
            uint32_t bitmap;
            memcpy(&bitmap, (const char *)node + BITMAP, sizeof bitmap);
            if (!(bitmap & 1u << five))
                return NULL;
            size_t at = PAIRS + 16 * (size_t)__builtin_popcount(bitmap & ((1u << five) - 1));
            const void *key = load(node, at);
            if (key != NULL)
                return key == layout.var ? load(node, at + 8) : NULL;
            node = load(node, at + 8);
        } else {
            bool found;
            const void *value = find_pair(node, (size_t)load(node, SIZE) / 2, &found);
            return found ? value : NULL;
        }
    }
    return NULL;
}

static bool read_value(const void *thread, struct python_value *out)
{
    const void *context = python_context_of(thread);
    const void *tree = context != NULL ? load(context, TREE) : NULL;
    const void *value = tree != NULL ? find(load(tree, ROOT)) : NULL;
    if (value == NULL || (size_t)load(value, SIZE) != sizeof *out)
        return false;
    memcpy(out, (const char *)value + layout.bytes_at, sizeof *out);
    return true;
}

bool python_read(const void *thread, struct python_value *out)
{
    return atomic_load_explicit(&python_walk_state, memory_order_acquire) == PYTHON_WALK_READY && read_value(thread, out) &&
           out->fork_generation == otshim_fork_generation;
}

/* ---- calibration ------------------------------------------------------------------------------------------------------------------- */

unsigned python_minor(void)
{
    const char *version = python_api.GetVersion(); /* "3.11.2 (main, ...) [GCC ...]"; "free-threading build" is in it */
    if (strncmp(version, "3.", 2) != 0 || strstr(version, "free-threading") != NULL)
        return 0;
    unsigned minor = 0;
    for (version += 2; *version >= '0' && *version <= '9' && minor < 100; version++)
        minor = minor * 10 + (unsigned)(*version - '0');
    return minor >= 8 && minor <= 14 ? minor : 0;
}

static const char *unknown(void)
{
    if (python_minor() != 0)
        return NULL;
    return strstr(python_api.GetVersion(), "free-threading") != NULL ? "it is a free-threaded build"
                                                                     : "this version of Python is not known";
}

static bool is_usual_object(PyObject *object)
{
    PyObject *type = python_api.TypeOf(object);
    if (type == NULL)
        return false;
    bool usual = load(object, TYPE) == type;
    python_api.DecRef(type);
    return usual;
}

/* The one word of the thread's state that is the context while it is entered and is not afterwards. */
static size_t find_context(const void *thread, PyObject *context)
{
    size_t found[8], count = 0, at = 0, changed = 0;
    if (python_api.ContextEnter(context) != 0)
        return 0;
    for (size_t i = 0; i < STATE_BYTES && count < 8; i += 8)
        if (load(thread, i) == context)
            found[count++] = i;
    if (python_api.ContextExit(context) != 0)
        return 0;
    for (size_t i = 0; i < count; i++)
        if (load(thread, found[i]) != context)
            at = found[i], changed++;
    return changed == 1 ? at : 0;
}

static bool find_nesting(PyObject *outer)
{
    PyObject *inner = python_api.ContextNew();
    bool found = false;
    if (inner != NULL && python_api.ContextEnter(outer) == 0) {
        if (python_api.ContextEnter(inner) == 0) {
            found = load(inner, PREVIOUS) == outer;
            python_api.ContextExit(inner);
        }
        python_api.ContextExit(outer);
    }
    if (inner != NULL)
        python_api.DecRef(inner);
    return found;
}

static bool set_new(PyObject *var, const void *bytes, size_t len)
{
    PyObject *value = python_api.BytesNew(bytes, (long)len);
    PyObject *token = value != NULL ? python_api.VarSet(var, value) : NULL;
    if (value != NULL)
        python_api.DecRef(value);
    if (token != NULL)
        python_api.DecRef(token);
    return token != NULL;
}

/* In a context that is entered: ours among more and more others, changed now and then, as the tree grows through all its shapes. */
static const char *test_reading(const void *thread, PyObject *var)
{
    struct python_value value = {.kind = PYTHON_REQUEST}, got;
    if (read_value(thread, &got))
        return "an empty context is not read as empty";
    for (uint32_t i = 0; i < 300; i++) {
        PyObject *other = python_api.VarNew("otshim.test", NULL);
        bool made = other != NULL && set_new(other, "", 0);
        if (other != NULL)
            python_api.DecRef(other);
        if (i % 7 == 3) {
            value.conn.generation = i;
            made &= set_new(var, &value, sizeof value);
        }
        if (!made)
            return "no memory";
        if (read_value(thread, &got) != (i >= 3) ||
            (i >= 3 && (got.kind != value.kind || got.conn.generation != value.conn.generation)))
            return "a context is not read as it was written";
    }
    return NULL;
}

const char *python_calibrate(PyObject *var)
{
    const void *thread = python_thread();
    if (thread == NULL || thread != python_api.ThreadState())
        return "it was asked for outside the main interpreter";
    const char *why = unknown();
    if (why != NULL)
        return why;
    PyObject *context = python_api.ContextNew(), *bytes = python_api.BytesNew("x", 1);
    if (context == NULL || bytes == NULL)
        why = "no memory";
    if (why == NULL && (!is_usual_object(context) || !is_usual_object(bytes) || !is_usual_object(var)))
        why = "objects are laid out in an unusual way";
    if (why == NULL) {
        long hash = python_api.Hash(var);
        int32_t folded = (int32_t)((uint64_t)hash & 0xffffffffu) ^ (int32_t)((uint64_t)hash >> 32);
        layout.hash = (uint32_t)(folded == -1 ? -2 : folded); /* as hamt.c does */
        layout.var = var;
        layout.bytes_at = (size_t)(python_api.BytesAsString(bytes) - (char *)bytes);
        layout.context_at = find_context(thread, context);
        if (layout.context_at == 0)
            why = "the thread's context is not found";
        else
            layout.nests = find_nesting(context);
    }
    if (why == NULL && python_api.ContextEnter(context) == 0) {
        why = test_reading(thread, var);
        python_api.ContextExit(context);
    }
    if (context != NULL)
        python_api.DecRef(context);
    if (bytes != NULL)
        python_api.DecRef(bytes);
    if (why != NULL)
        layout.context_at = 0;
    return why;
}
