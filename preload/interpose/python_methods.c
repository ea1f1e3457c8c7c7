/* python_methods.c - CPython's built-in methods where work changes threads (what for: context/python/given.c).
 *
 *     _thread   start_new_thread, start_joinable_thread   a thread is started
 *               lock, RLock: acquire, __enter__           a lock is taken
 *     _collections   deque: pop, popleft                something is taken from what may be a queue
 *     _asyncio  Future: set_result                      somebody is woken (context/python/pending.c)
 *     _queue    SimpleQueue: put                          a job of concurrent.futures is handed over
 *               SimpleQueue: get, get_nowait              ... is taken; or it is another queue
 *
 * A built-in function or method is an object that leads to a PyMethodDef, a static structure of its module with the C function in it. That pointer is
 * exchanged for one of ours, which does its part and calls the function that was there: whatever the program looks at - the method object, its name,
 * its signature, a traceback - is what it was. How the function takes its arguments differs from version to version; none has more than six, in
 * registers, so ours take six and pass on six, unseen.
 *
 * All of this is done with the GIL, on which it must be waited once: when the first connection is accepted, by the thread that accepts it (it gave the
 * GIL up for that and will want it back anyway). _queue may be imported later, often in the very request that first submits a job: its
 * loading is noticed in dlopen, and the next lock that any code takes looks for it. */
#include "interpose/python_methods.h"
#include "base/base.h"
#include "context/python/python.h"
#include "context/runtime.h"
#include "span/span.h"
#include <errno.h>
#include <link.h>
#include <stdatomic.h>
#include <string.h>

#define ARGUMENTS METHOD_ARGUMENTS
#define PASSED_ON METHOD_PASSED_ON

struct method_def {
    const char *name;
    method_function function;
    int flags;
    const char *doc;
};
#define FAST_KEYWORDS 0x82 /* METH_FASTCALL | METH_KEYWORDS: (self, arguments, how many, their names) */

#define TYPE 8
#define TYPE_NAME 24

/* Written before the function is exchanged, with the GIL, and never again. */
static method_function plain_start, plain_start_joinable, plain_lock_acquire, plain_lock_acquire_lock, plain_lock_enter,
    plain_rlock_acquire, plain_rlock_enter, plain_pop, plain_popleft, plain_set_result, plain_put, plain_get, plain_get_nowait;

static _Atomic bool installed; /* or given up */
static _Atomic bool queue_due; /* _queue is being imported */

static void look_for_queue(void);

/* ---- what the methods lead to -------------------------------------------------------------------------------------------------------------- */

void method_takes(void)
{
    if (OTSHIM_UNLIKELY(runtime_given != PYTHON_GIVEN_NOTHING) && python_usable())
        python_given_takes();
}

static inline void locks(void)
{
    method_takes();
    if (OTSHIM_UNLIKELY(atomic_load_explicit(&queue_due, memory_order_relaxed)))
        look_for_queue();
}

static void *lock_acquire(ARGUMENTS)
{
    locks();
    return plain_lock_acquire(PASSED_ON);
}

static void *lock_acquire_lock(ARGUMENTS)
{
    locks();
    return plain_lock_acquire_lock(PASSED_ON);
}

static void *lock_enter(ARGUMENTS)
{
    locks();
    return plain_lock_enter(PASSED_ON);
}

static void *rlock_acquire(ARGUMENTS)
{
    locks();
    return plain_rlock_acquire(PASSED_ON);
}

static void *rlock_enter(ARGUMENTS)
{
    locks();
    return plain_rlock_enter(PASSED_ON);
}

static void *deque_pop(ARGUMENTS)
{
    method_takes();
    return plain_pop(PASSED_ON);
}

static void *deque_popleft(ARGUMENTS)
{
    method_takes();
    return plain_popleft(PASSED_ON);
}

static void *start(ARGUMENTS)
{
    runtime_starts_thread = python_usable();
    void *result = plain_start(PASSED_ON);
    runtime_starts_thread = false;
    return result;
}

static void *start_joinable(ARGUMENTS)
{
    runtime_starts_thread = python_usable();
    void *result = plain_start_joinable(PASSED_ON);
    runtime_starts_thread = false;
    return result;
}

static void *set_result(ARGUMENTS)
{
    python_future_done();
    return plain_set_result(PASSED_ON);
}

/* By its class, concurrent.futures.thread's. One of that name of somebody else's does no harm: only that module's worker is given what was kept. */
static inline bool is_job(const void *item)
{
    return strcmp(*(const char **)(*(char **)((char *)item + TYPE) + TYPE_NAME), "_WorkItem") == 0;
}

static void *queue_put(ARGUMENTS)
{
    if ((intptr_t)c > 0 && is_job(*(void **)b) && python_usable())
        python_job_put(*(void **)b);
    return plain_put(PASSED_ON);
}

static void *taken(void *item)
{
    if (item != NULL && (OTSHIM_UNLIKELY(runtime_given) || OTSHIM_UNLIKELY(python_jobs != 0)) && python_usable())
        python_job_taken(item);
    return item;
}

static void *queue_get(ARGUMENTS)
{
    return taken(plain_get(PASSED_ON));
}

static void *queue_get_nowait(ARGUMENTS)
{
    return taken(plain_get_nowait(PASSED_ON));
}

/* ---- exchanging them --------------------------------------------------------------------------------------------------------------------------- */

#define FUNCTION_DEF 16 /* PyCFunctionObject.m_ml */
#define METHOD_DEF 40   /* PyMethodDescrObject.d_method; both the same from 3.8 to 3.13 */

struct place {
    ElfW(Addr) address;
    bool writable;
};

static int find_segment(struct dl_phdr_info *info, size_t size, void *arg)
{
    (void)size;
    struct place *place = arg;
    bool in = false, closed = false;
    for (unsigned i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *phdr = &info->dlpi_phdr[i];
        if (place->address - (info->dlpi_addr + phdr->p_vaddr) >= phdr->p_memsz)
            continue;
        in |= phdr->p_type == PT_LOAD && (phdr->p_flags & PF_W);
        closed |= phdr->p_type == PT_GNU_RELRO;
    }
    place->writable = in && !closed;
    return in;
}

static bool is_writable(const void *address)
{
    struct place place = {(ElfW(Addr))address, false};
    dl_iterate_phdr(find_segment, &place);
    return place.writable;
}

/* The definition behind a built-in function of a module, or a method of a type; NULL: it is none. */
static struct method_def *definition(PyObject *owner, const char *name)
{
    PyObject *object = python_api.GetAttr(owner, name);
    if (object == NULL)
        return NULL;
    const char *kind = *(const char **)(*(char **)((char *)object + TYPE) + TYPE_NAME);
    struct method_def *def = NULL;
    if (strcmp(kind, "method_descriptor") == 0)
        def = *(struct method_def **)((char *)object + METHOD_DEF);
    else if (strcmp(kind, "builtin_function_or_method") == 0 || strstr(kind, "cython_function_or_method") != NULL)
        def = *(struct method_def **)((char *)object + FUNCTION_DEF);
    python_api.DecRef(object); /* its owner keeps it */
    return def != NULL && is_writable(def) && strcmp(def->name, name) == 0 ? def : NULL;
}

bool method_exchange(PyObject *owner, const char *name, method_function ours, method_function *plain, int flags)
{
    struct method_def *def = owner != NULL ? definition(owner, name) : NULL;
    if (def == NULL || (flags != 0 && def->flags != flags))
        return false;
    if (def->function == ours)
        return true;
    *plain = def->function;
    __atomic_store_n(&def->function, ours, __ATOMIC_RELEASE);
    return true;
}

static const char *exchange_threads(void)
{
    PyObject *module = python_api.DictGet(python_api.ModuleDict(), "_thread");
    PyObject *collections = python_api.DictGet(python_api.ModuleDict(), "_collections");
    if (module == NULL || collections == NULL)
        return "there is no module _thread or _collections";
    PyObject *lock = python_api.GetAttr(module, "LockType"), *rlock = python_api.GetAttr(module, "RLock"),
             *deque = python_api.GetAttr(collections, "deque");
    /* First where what was given ends, then where it is given. */
    bool all = method_exchange(deque, "pop", deque_pop, &plain_pop, 0) &&
               method_exchange(deque, "popleft", deque_popleft, &plain_popleft, 0);
    /* gevent has put its own in their place: nobody starts a thread of the system by them (python_gevent.c). */
    bool replaced = definition(module, "start_new_thread") == NULL;
    all &= replaced || (method_exchange(lock, "acquire", lock_acquire, &plain_lock_acquire, 0) &&
                        method_exchange(lock, "acquire_lock", lock_acquire_lock, &plain_lock_acquire_lock, 0) &&
                        method_exchange(lock, "__enter__", lock_enter, &plain_lock_enter, 0) &&
                        method_exchange(rlock, "acquire", rlock_acquire, &plain_rlock_acquire, 0) &&
                        method_exchange(rlock, "__enter__", rlock_enter, &plain_rlock_enter, 0));
    if (all && !replaced && method_exchange(module, "start_new_thread", start, &plain_start, 0))
        method_exchange(module, "start_joinable_thread", start_joinable, &plain_start_joinable, 0); /* 3.13 */
    if (lock != NULL)
        python_api.DecRef(lock);
    if (rlock != NULL)
        python_api.DecRef(rlock);
    if (deque != NULL)
        python_api.DecRef(deque);
    return all ? NULL : "the methods of locks and deques are not found";
}

/* Without it the requests of a connection after the first have no calls of the task that was made with the connection. */
static void exchange_asyncio(void)
{
    PyObject *module = python_api.DictGet(python_api.ModuleDict(), "_asyncio");
    PyObject *type = module != NULL ? python_api.GetAttr(module, "Future") : NULL;
    if (type == NULL)
        return;
    method_exchange(type, "set_result", set_result, &plain_set_result, 0);
    python_api.DecRef(type);
}

/* False: not imported yet. */
static bool exchange_queue(void)
{
    PyObject *module = python_api.DictGet(python_api.ModuleDict(), "_queue");
    PyObject *type = module != NULL ? python_api.GetAttr(module, "SimpleQueue") : NULL;
    if (type == NULL)
        return false;
    if (method_exchange(type, "get", queue_get, &plain_get, 0) &&
        method_exchange(type, "get_nowait", queue_get_nowait, &plain_get_nowait, 0))
        method_exchange(type, "put", queue_put, &plain_put, FAST_KEYWORDS);
    python_api.DecRef(type);
    return true;
}

/* ---- when -------------------------------------------------------------------------------------------------------------------------------------- */

/* With the GIL. */
static void look_for_queue(void)
{
    PyObject *type, *value, *traceback;
    if (!python_usable())
        return;
    int error = errno;
    python_api.ErrFetch(&type, &value, &traceback);
    if (exchange_queue())
        atomic_store_explicit(&queue_due, false, memory_order_relaxed);
    python_api.ErrRestore(type, value, traceback);
    errno = error;
}

/* The file as code objects name it. */
static bool find_library(void)
{
    static const char *const path[] = {"Thread", "start", "__code__", "co_filename"};
    PyObject *at = python_api.DictGet(python_api.ModuleDict(), "threading");
    if (at == NULL)
        return false;
    python_api.IncRef(at);
    for (size_t i = 0; at != NULL && i < sizeof path / sizeof *path; i++) {
        PyObject *next = python_api.GetAttr(at, path[i]);
        python_api.DecRef(at);
        at = next;
    }
    const char *file = at != NULL ? python_api.AsUtf8(at) : NULL;
    bool found = file != NULL && python_given_library(file);
    if (at != NULL)
        python_api.DecRef(at);
    return found;
}

static void say_failed(const char *why)
{
    char text[256] = "CPython: what threads and thread pools do for a request will have no parent: ";
    size_t len = strlen(text), more = strlen(why), room = sizeof text - 1 - len;
    memcpy(text + len, why, more < room ? more : room);
    span_log(13, text);
}

static void install(void)
{
    PyObject *type, *value, *traceback;
    if (!python_usable() || !python_setup()) /* which has said why */
        return;
    python_api.ErrFetch(&type, &value, &traceback);
    exchange_asyncio();
    const char *why = python_stack_calibrate(python_minor());
    if (why == NULL && !find_library())
        why = "where the standard library lies cannot be said";
    if (why == NULL)
        why = exchange_threads();
    if (why == NULL)
        exchange_queue();
    if (why == NULL)
        python_gevent_look();
    else
        say_failed(why);
    python_api.ErrRestore(type, value, traceback);
}

void python_methods_look(void)
{
    if (OTSHIM_LIKELY(atomic_load_explicit(&installed, memory_order_relaxed)) || python_thread() == NULL ||
        atomic_exchange_explicit(&installed, true, memory_order_relaxed))
        return;
    int error = errno, state = python_api.Ensure();
    install();
    python_api.Release(state);
    errno = error;
}

void python_methods_loading(const char *file)
{
    if (file != NULL && strstr(file, "/_queue.") != NULL && atomic_load_explicit(&installed, memory_order_relaxed))
        atomic_store_explicit(&queue_due, true, memory_order_relaxed);
}
