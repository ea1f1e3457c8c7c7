/* value.c - puts a value into a context. With the GIL; see python.h.
 *
 * A call of the API may find an exception pending (a hook can be reached while one is on its way) and may leave one behind: both are kept
 * from the program. Nothing here runs Python code: contexts, variables and bytes are built-in types, and no value of ours refers to
 * anything that could have a finalizer. */
#include "base/base.h"
#include "context/python/python.h"
#include <errno.h>
#include <string.h>

struct python_api python_api;
_Atomic bool python_present;

static PyObject *variable; /* for good: written once, with the GIL */

bool python_usable(void)
{
    const void *thread = python_thread();
    if (thread == NULL)
        return false;
    /* Until 3.11 the thread's own state is one of the main interpreter, whichever is running. */
    const void *running = python_api.ThreadState();
    if (running != thread)
        return false;
    return python_api.InterpreterOf == NULL || python_api.InterpreterOf((void *)running) == python_api.MainInterpreter();
}

static void make_variable(void)
{
    PyObject *var = python_api.VarNew("otshim.request", NULL);
    const char *why = var != NULL ? python_calibrate(var) : "no memory";
    runtime_report("CPython", python_api.GetVersion(), why);
    variable = var;
    atomic_store_explicit(&python_walk_state, why == NULL ? PYTHON_WALK_READY : PYTHON_WALK_FAILED, memory_order_release);
}

bool python_setup(void)
{
    if (OTSHIM_UNLIKELY(atomic_load_explicit(&python_walk_state, memory_order_acquire) == PYTHON_WALK_OFF)) {
        PyObject *type, *value, *traceback;
        int error = errno;
        python_api.ErrFetch(&type, &value, &traceback);
        make_variable();
        python_api.ErrRestore(type, value, traceback);
        errno = error;
    }
    return atomic_load_explicit(&python_walk_state, memory_order_acquire) == PYTHON_WALK_READY;
}

void python_set(PyObject *context, const struct python_value *value)
{
    PyObject *type, *error_value, *traceback, *token = NULL;
    int error = errno;
    python_api.ErrFetch(&type, &error_value, &traceback);
    struct python_value stamped = *value;
    stamped.fork_generation = otshim_fork_generation;
    PyObject *bytes = python_api.BytesNew((const char *)&stamped, sizeof stamped);
    if (bytes != NULL && (context == NULL || python_api.ContextEnter(context) == 0)) {
        token = python_api.VarSet(variable, bytes);
        if (context != NULL)
            python_api.ContextExit(context);
    }
    if (token != NULL)
        python_api.DecRef(token);
    if (bytes != NULL)
        python_api.DecRef(bytes);
    python_api.ErrRestore(type, error_value, traceback); /* and what our calls may have left is dropped */
    errno = error;
}
