/* python.c - the places in which CPython's modules are watched (why: context/python/python.h).
 *
 * Where the interpreter is one static executable (Debian's) its own definitions come before any preloaded ones, so nothing is exported for
 * this: the import slots of the few modules that matter are pointed at us (slots.h), found anew when objects have been loaded since.
 *
 *     _asyncio, _contextvars, uvloop   PyContext_CopyCurrent    a task or callback gets its context
 *     uvloop                           PyContext_Exit           one of the loop's callbacks is through
 *                                      PyGILState_Ensure, _Release     around each callback of libuv
 *                                      PyEval_SaveThread, _RestoreThread   around uv_run()
 *     uvloop, libuv.so                 getpeername, getsockname    asked right before a protocol's connection_made()
 *
 * uvloop does not write at once what a transport is given, unless the protocol set the high-water mark to 0, but from its loop, where the
 * context is nobody's. So the methods write and writelines of its UVStream get a wrapper that notes for whom the bytes are: by way of the
 * type's dictionary, as an assignment in Python would do for a class that is not built in.
 *
 * A Python that is loaded into a process after it began to listen is not seen; nor are modules that were linked into the interpreter. */
#include "interpose/python.h"
#include "conn/flow.h"
#include "context/python/frames.h"
#include "context/python/python.h"
#include "interpose/lookup.h"
#include "interpose/python_methods.h"
#include "interpose/slots.h"
#include "interpose/wrap.h"
#include "span/span.h"
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>

/* ---- what the slots lead to ------------------------------------------------------------------------------------------------------------ */

static PyObject *copy_current(bool task)
{
    PyObject *copy = python_api.ContextCopy();
    if (OTSHIM_LIKELY(copy != NULL))
        python_copied(copy, task);
    return copy;
}

static PyObject *asyncio_copy_current(void)
{
    return copy_current(true);
}

static PyObject *module_copy_current(void)
{
    return copy_current(false);
}

static void uvstream_wrap(void);

static int uv_ensure(void)
{
    python_uv_callback(true);
    int state = python_api.Ensure();
    uvstream_wrap();
    return state;
}

static void uv_release(int state)
{
    python_uv_callback(false);
    python_api.Release(state);
}

static void *uv_save_thread(void)
{
    void *thread = python_api.SaveThread();
    python_uv_runs(true);
    return thread;
}

static void uv_restore_thread(void *thread)
{
    python_uv_runs(false);
    python_api.RestoreThread(thread);
}

static int uv_context_exit(PyObject *context)
{
    python_uv_handle_done();
    return python_api.ContextExit(context);
}

static void uv_touches(int fd)
{
    int error = errno;
    struct runtime_ref conn;
    conn_runtime(fd, &conn);
    python_uv_touched(&conn);
    errno = error;
}

static int uv_getpeername(int fd, struct sockaddr *addr, socklen_t *len)
{
    uv_touches(fd);
    return getpeername(fd, addr, len);
}

static int uv_getsockname(int fd, struct sockaddr *addr, socklen_t *len)
{
    uv_touches(fd);
    return getsockname(fd, addr, len);
}

/* ---- UVStream.write and .writelines ------------------------------------------------------------------------------------------------------ */

struct method {
    const char *name;
    PyObject *(*call)(PyObject *self, PyObject *args, PyObject *keywords);
    int flags;
    const char *doc;
};
#define METHOD_ANY_ARGUMENTS (1 | 2) /* METH_VARARGS | METH_KEYWORDS */
#define TYPE_DICT 264                /* tp_dict, in the types of 3.8 to 3.14 */

static PyObject *plain_write, *plain_writelines;

/* Which descriptor is it? -1: closed by now, or not to be learned. */
static int uvstream_fd(PyObject *stream)
{
    PyObject *type, *value, *traceback, *number = NULL;
    python_api.ErrFetch(&type, &value, &traceback);
    PyObject *sock = python_api.CallMethod(stream, "get_extra_info", "s", "socket");
    if (sock != NULL)
        number = python_api.CallMethod(sock, "fileno", NULL);
    int fd = number != NULL ? (int)python_api.LongAsLong(number) : -1;
    if (number != NULL)
        python_api.DecRef(number);
    if (sock != NULL)
        python_api.DecRef(sock);
    python_api.ErrRestore(type, value, traceback);
    return fd;
}

/* To ask takes a microsecond, at each write. A stream has one connection all its life, and closes it before its own end: as long as the
 * connection that it was found to have is the same one still, so is the stream at this address. With the GIL. */
static bool uvstream_watch(PyObject *stream, struct watch *watch)
{
    static struct {
        PyObject *stream;
        struct watch watch;
    } known[256];
    const size_t at = (uint64_t)(uintptr_t)stream * 0x9e3779b97f4a7c15ull >> 56;
    if (known[at].stream != stream || !watch_holds(&known[at].watch)) {
        known[at].stream = NULL;
        const int fd = uvstream_fd(stream);
        if (fd < 0 || !watch_begin(&known[at].watch, fd))
            return false;
        known[at].stream = stream;
    }
    *watch = known[at].watch;
    return true;
}

static void uvstream_note(PyObject *stream)
{
    if (!otshim_active || !python_usable())
        return;
    int error = errno;
    struct watch watch;
    struct ctx ctx;
    if (uvstream_watch(stream, &watch) && watch.conn->role == CONN_OUTBOUND)
        conn_write_later(watch.fd, python_current(&ctx) == 1 ? &ctx : NULL);
    errno = error;
}

/* With the arguments as they came, keywords included: what the method makes of them is its own affair. */
static PyObject *call_plain(PyObject *method, PyObject *stream, PyObject *args, PyObject *keywords)
{
    if (OTSHIM_LIKELY(keywords == NULL && python_api.TupleSize(args) == 1))
        return python_api.CallObjects(method, stream, python_api.TupleItem(args, 0), NULL);
    PyObject *bound = python_api.CallMethod(method, "__get__", "O", stream);
    if (bound == NULL)
        return NULL;
    PyObject *result = python_api.Call(bound, args, keywords);
    python_api.DecRef(bound);
    return result;
}

static PyObject *uvstream_write(PyObject *stream, PyObject *args, PyObject *keywords)
{
    uvstream_note(stream);
    return call_plain(plain_write, stream, args, keywords);
}

static PyObject *uvstream_writelines(PyObject *stream, PyObject *args, PyObject *keywords)
{
    uvstream_note(stream);
    return call_plain(plain_writelines, stream, args, keywords);
}

static void replace_methods(PyObject *type, PyObject *dict)
{
    static struct method write = {"write", uvstream_write, METHOD_ANY_ARGUMENTS, NULL};
    static struct method writelines = {"writelines", uvstream_writelines, METHOD_ANY_ARGUMENTS, NULL};
    PyObject *old_write = python_api.DictGet(dict, "write"), *old_writelines = python_api.DictGet(dict, "writelines");
    PyObject *new_write = python_api.NewMethod(type, &write), *new_writelines = python_api.NewMethod(type, &writelines);
    if (old_write == NULL || old_writelines == NULL || new_write == NULL || new_writelines == NULL)
        return;
    python_api.IncRef(old_write); /* for good: there is no way back */
    python_api.IncRef(old_writelines);
    plain_write = old_write;
    plain_writelines = old_writelines;
    if (python_api.DictSet(dict, "write", new_write) == 0)
        python_api.DictSet(dict, "writelines", new_writelines);
    python_api.TypeModified(type);
}

/* Once, with the GIL, in a callback of uvloop: its module is complete by then. */
static void uvstream_wrap(void)
{
    static _Atomic bool done;
    if (OTSHIM_LIKELY(atomic_load_explicit(&done, memory_order_relaxed)) || !python_usable() || !python_setup())
        return;
    atomic_store_explicit(&done, true, memory_order_relaxed);
    PyObject *error_type, *value, *traceback;
    int error = errno;
    python_api.ErrFetch(&error_type, &value, &traceback);
    PyObject *module = python_api.DictGet(python_api.ModuleDict(), "uvloop.loop");
    PyObject *type = module != NULL ? python_api.GetAttr(module, "UVStream") : NULL;
    if (type != NULL) {
        PyObject *dict = *(PyObject **)((char *)type + TYPE_DICT);
        if (dict != NULL)
            replace_methods(type, dict);
        python_api.DecRef(type);
    }
    python_api.ErrRestore(error_type, value, traceback);
    errno = error;
}

/* ---- finding them ------------------------------------------------------------------------------------------------------------------------ */

/* A Python all the same: one that is too old to have contexts, or was stripped of what nobody else asked for. */
static void report_lacking(const char *version, const char *symbol)
{
    char why[80] = "its C API lacks ";
    strncat(why, symbol, sizeof why - strlen(why) - 1);
    runtime_report("CPython", version, why);
}

static bool find_api(void)
{
    enum {
#define X(ret, name, symbol, params) AT_##name,
        PYTHON_API(X) NEEDED,
        BEFORE_OPTIONAL = NEEDED - 1,
        PYTHON_API_OPTIONAL(X) ALL
#undef X
    };
    struct lookup_item items[] = {
#define X(ret, name, symbol, params) {symbol, NULL, NULL},
        PYTHON_API(X) PYTHON_API_OPTIONAL(X)
#undef X
    };
    lookup_any(items, sizeof items / sizeof *items);
    for (unsigned i = 0; i < NEEDED; i++)
        if (items[i].found == NULL) {
            if (items[AT_GetVersion].found != NULL)
                report_lacking(((const char *(*)(void))items[AT_GetVersion].found)(), items[i].name);
            return false;
        }
#define X(ret, name, symbol, params) python_api.name = (ret(*) params)items[AT_##name].found;
    PYTHON_API(X)
    PYTHON_API_OPTIONAL(X)
#undef X
    return true;
}

static int redirect_module(struct dl_phdr_info *info, size_t size, void *arg)
{
    (void)size, (void)arg;
    const char *path = info->dlpi_name != NULL ? info->dlpi_name : "";
    const struct slot_redirect asyncio[] = {
        {"PyContext_CopyCurrent", (const void *)asyncio_copy_current, (const void *)python_api.ContextCopy},
    };
    const struct slot_redirect contextvars[] = {
        {"PyContext_CopyCurrent", (const void *)module_copy_current, (const void *)python_api.ContextCopy},
    };
    const struct slot_redirect uvloop[] = {
        {"PyContext_CopyCurrent", (const void *)module_copy_current, (const void *)python_api.ContextCopy},
        {"PyContext_Exit", (const void *)uv_context_exit, (const void *)python_api.ContextExit},
        {"PyGILState_Ensure", (const void *)uv_ensure, (const void *)python_api.Ensure},
        {"PyGILState_Release", (const void *)uv_release, (const void *)python_api.Release},
        {"PyEval_SaveThread", (const void *)uv_save_thread, (const void *)python_api.SaveThread},
        {"PyEval_RestoreThread", (const void *)uv_restore_thread, (const void *)python_api.RestoreThread},
        {"getpeername", (const void *)uv_getpeername, (const void *)getpeername},
        {"getsockname", (const void *)uv_getsockname, (const void *)getsockname},
    };
#define REDIRECT(table) slots_redirect(info, table, sizeof table / sizeof *table)
    if (strstr(path, "/_asyncio.") != NULL)
        REDIRECT(asyncio);
    else if (strstr(path, "/_contextvars.") != NULL)
        REDIRECT(contextvars);
    else if (strstr(path, "/uvloop/loop.") != NULL || strstr(path, "/libuv.so") != NULL)
        REDIRECT(uvloop);
    else if (strstr(path, "/greenlet/_greenlet.") != NULL)
        python_has_greenlets();
#undef REDIRECT
    return 0;
}

static int count_loads(struct dl_phdr_info *info, size_t size, void *arg)
{
    if (size >= offsetof(struct dl_phdr_info, dlpi_subs))
        *(unsigned long long *)arg = info->dlpi_adds;
    return 1;
}

void python_look_once(void)
{
    static _Atomic bool looked;
    if (OTSHIM_UNLIKELY(!atomic_load_explicit(&looked, memory_order_relaxed)) && !atomic_exchange(&looked, true) &&
        !atomic_load_explicit(&python_present, memory_order_relaxed))
        python_look(true);
}

void python_look(bool listening)
{
    static _Atomic unsigned long long looked_at; /* dlpi_adds then; 0: never */
    static _Atomic bool absent;
    if (!listening && OTSHIM_LIKELY(atomic_load_explicit(&absent, memory_order_relaxed)))
        return;
    int error = errno;
    unsigned long long loads = 0, before = atomic_load_explicit(&looked_at, memory_order_acquire);
    dl_iterate_phdr(count_loads, &loads);
    if (loads != before && atomic_compare_exchange_strong(&looked_at, &before, loads)) {
        bool present = atomic_load_explicit(&python_present, memory_order_acquire);
        if (!present && find_api()) {
            atomic_store_explicit(&python_present, present = true, memory_order_release);
            frames_init(python_api.GetVersion());
            atomic_store_explicit(&runtime_listener, &python_listener, memory_order_release);
        }
        atomic_store_explicit(&absent, !present, memory_order_relaxed);
        if (present)
            dl_iterate_phdr(redirect_module, NULL);
    }
    if (!listening && atomic_load_explicit(&python_present, memory_order_acquire))
        python_methods_look();
    errno = error;
}
