/* python_gevent.c - a greenlet that is spawned for a request belongs to it (what for: context/python/given.c).
 *
 *     _gevent_cgreenlet      Greenlet: start, start_later        a greenlet is spawned; gevent's threads are greenlets, too
 *     _gevent_cqueue         Queue, Channel: get, get_nowait     something is taken from a queue
 *     _gevent_c_semaphore    Semaphore: acquire, wait, __enter__ a lock is taken: all of gevent's are made of it
 *     _gevent_cevent         Event: wait; AsyncResult: get       it is waited for others
 *
 * A greenlet has a context of its own, and a new one has none. Before it runs it is given one that has nothing in it but our variable. The modules
 * are looked at anew at each start until all of them are there; a greenlet is given nothing before that. Nothing is seen of a gevent that was built without
 * its compiled modules. */
#include "interpose/python_methods.h"
#include <errno.h>
#include <stddef.h>
#include <string.h>

#define ARGUMENTS METHOD_ARGUMENTS
#define PASSED_ON METHOD_PASSED_ON
#define TYPE_NAME 24

static method_function plain_start, plain_start_later, plain_get, plain_get_nowait, plain_channel_get, plain_acquire,
    plain_semaphore_wait, plain_enter, plain_event_wait, plain_result_get;
static bool complete; /* with the GIL, as all of this */

/* ---- where it ends -------------------------------------------------------------------------------------------------------------------------- */

#define TAKES(function)                                                                                                            \
    static void *function(ARGUMENTS)                                                                                               \
    {                                                                                                                              \
        method_takes();                                                                                                            \
        return plain_##function(PASSED_ON);                                                                                        \
    }
TAKES(get)
TAKES(get_nowait)
TAKES(channel_get)
TAKES(acquire)
TAKES(semaphore_wait)
TAKES(enter)
TAKES(event_wait)
TAKES(result_get)

/* ---- where it begins -------------------------------------------------------------------------------------------------------------------------- */

static bool exchange_all(void);

static bool has_no_context(PyObject *greenlet)
{
    PyObject *context = python_api.GetAttr(greenlet, "gr_context");
    if (context == NULL)
        return false;
    PyObject *type = python_api.TypeOf(context);
    bool none = type != NULL && strcmp(*(const char **)((char *)type + TYPE_NAME), "NoneType") == 0;
    if (type != NULL)
        python_api.DecRef(type);
    python_api.DecRef(context);
    return none;
}

static void spawned(PyObject *greenlet)
{
    struct ctx ctx;
    if (!python_usable() || !python_setup() || python_api.SetAttr == NULL || python_current(&ctx) != 1)
        return;
    PyObject *type, *value, *traceback;
    int error = errno;
    python_api.ErrFetch(&type, &value, &traceback);
    if ((complete || (complete = exchange_all())) && has_no_context(greenlet)) {
        PyObject *context = python_api.ContextNew();
        if (context != NULL) {
            python_spawned(context, &ctx);
            python_api.SetAttr(greenlet, "gr_context", context);
            python_api.DecRef(context);
        }
    }
    python_api.ErrRestore(type, value, traceback);
    errno = error;
}

static void *start(ARGUMENTS)
{
    spawned(a);
    return plain_start(PASSED_ON);
}

static void *start_later(ARGUMENTS)
{
    spawned(a);
    return plain_start_later(PASSED_ON);
}

/* ---- finding them --------------------------------------------------------------------------------------------------------------------------------- */

static const struct {
    const char *module, *type, *method;
    method_function ours, *plain;
} methods[] = {
    {"gevent._gevent_cqueue", "Queue", "get", get, &plain_get},
    {"gevent._gevent_cqueue", "Queue", "get_nowait", get_nowait, &plain_get_nowait},
    {"gevent._gevent_cqueue", "Channel", "get", channel_get, &plain_channel_get},
    {"gevent._gevent_c_semaphore", "Semaphore", "acquire", acquire, &plain_acquire},
    {"gevent._gevent_c_semaphore", "Semaphore", "wait", semaphore_wait, &plain_semaphore_wait},
    {"gevent._gevent_c_semaphore", "Semaphore", "__enter__", enter, &plain_enter},
    {"gevent._gevent_cevent", "Event", "wait", event_wait, &plain_event_wait},
    {"gevent._gevent_cevent", "AsyncResult", "get", result_get, &plain_result_get},
};

static bool exchange_one(const char *name, const char *type_name, const char *method, method_function ours, method_function *plain)
{
    PyObject *module = python_api.DictGet(python_api.ModuleDict(), name);
    PyObject *type = module != NULL ? python_api.GetAttr(module, type_name) : NULL;
    bool done = method_exchange(type, method, ours, plain, 0);
    if (type != NULL)
        python_api.DecRef(type);
    return done;
}

static bool exchange_all(void)
{
    bool all = true;
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++)
        all &= exchange_one(methods[i].module, methods[i].type, methods[i].method, methods[i].ours, methods[i].plain);
    return all;
}

void python_gevent_look(void)
{
    if (exchange_one("gevent._gevent_cgreenlet", "Greenlet", "start", start, &plain_start))
        exchange_one("gevent._gevent_cgreenlet", "Greenlet", "start_later", start_later, &plain_start_later);
}
