/* python.h - CPython's own answer to "for whom does this run?": a context variable of ours.
 *
 * asyncio gives every task and every callback a copy of the context (PEP 567) of the code that made it, and threads that work for a
 * coroutine (asyncio.to_thread, the thread pool of Starlette) run in a copy of its context. So a value that is put into the context in which
 * a request's task is made is found wherever work for that request is done - at any concurrency, and after its response.
 *
 * What the value is. An immutable bytes object with a struct python_value: the request's whole context, so that reading it needs no table
 * and no lock - the context's tree (a HAMT, whose nodes never change) keeps it alive, and only the thread itself can change which
 * context it is in. Or a connection (context/runtime.h), where the task was made before the request came. Or "for nobody".
 *
 * How it is read (walk.c): at each outbound exchange, at its send, without the GIL and without a Python call but for the look at
 * the thread's state: two loads to the tree, at most seven down it.
 *
 * How it gets in (pending.c, value.c). Not at the recv() of a request: the context of the moment is that of the reader callback, or of the
 * whole server. What was read is kept as pending and put into each *copy* of the context that is made (interpose/python.c stands in
 * PyContext_CopyCurrent; the GIL is held there):
 *
 *   asyncio's own loop  in copies of the very context in which recv() or accept() was called, or of one without a value that was entered out of
 *                       it, until the thread waits for events or reads on
 *   uvloop              recv() is libuv's and all connections of a server share a context: in any copy, until the libuv callback ends;
 *                       and the connection, where uvloop asks for its addresses, which it does right before connection_made()
 *   neither             in copies made by a thread that works for a request by rule 2 or 3
 *   greenlets           each has a context: set there and then, at the recv() (the one case that takes the GIL)
 *
 * A task that was made with its connection is at the request that is being answered there - if it waited for that one: a later request
 * that is read counts only if its bytes woke somebody, for the task may have gone on with the one before after the response (pending.c).
 *
 * Work that changes threads, where contexts do not go along: given.c.
 *
 * What a thread's own read says (rule 2) is worth nothing where many tasks share the thread: there the answer without a value is "nobody".
 *
 * Offsets in the interpreter's structures are found and tested at run time (python_setup). If that fails, or on a version not known
 * to fit, nothing is ever set, such threads work for nobody, and one line goes to the exporter's log. */
#ifndef OTSHIM_CONTEXT_PYTHON_H
#define OTSHIM_CONTEXT_PYTHON_H

#include "context/runtime.h"

typedef struct python_object PyObject; /* opaque: this tree knows no Python header */

/* The C API as far as we use it; the same from 3.8 to 3.14. Found by name in the loaded objects (interpose/python.c). Optional: NULL where
 * the version does not have it. */
#define PYTHON_API(X)                                                                                                              \
    X(int, IsInitialized, "Py_IsInitialized", (void))                                                                              \
    X(const char *, GetVersion, "Py_GetVersion", (void))                                                                           \
    X(void *, ThisThreadState, "PyGILState_GetThisThreadState", (void))                                                            \
    X(int, Ensure, "PyGILState_Ensure", (void))                                                                                    \
    X(void, Release, "PyGILState_Release", (int))                                                                                  \
    X(void *, ThreadState, "PyThreadState_Get", (void))                                                                            \
    X(void *, SaveThread, "PyEval_SaveThread", (void))                                                                             \
    X(void, RestoreThread, "PyEval_RestoreThread", (void *))                                                                       \
    X(void *, MainInterpreter, "PyInterpreterState_Main", (void))                                                                  \
    X(void, IncRef, "Py_IncRef", (PyObject *))                                                                                     \
    X(void, DecRef, "Py_DecRef", (PyObject *))                                                                                     \
    X(PyObject *, TypeOf, "PyObject_Type", (PyObject *))                                                                           \
    X(long, Hash, "PyObject_Hash", (PyObject *))                                                                                   \
    X(PyObject *, BytesNew, "PyBytes_FromStringAndSize", (const char *, long))                                                     \
    X(char *, BytesAsString, "PyBytes_AsString", (PyObject *))                                                                     \
    X(PyObject *, ContextNew, "PyContext_New", (void))                                                                             \
    X(PyObject *, ContextCopy, "PyContext_CopyCurrent", (void))                                                                    \
    X(int, ContextEnter, "PyContext_Enter", (PyObject *))                                                                          \
    X(int, ContextExit, "PyContext_Exit", (PyObject *))                                                                            \
    X(PyObject *, VarNew, "PyContextVar_New", (const char *, PyObject *))                                                          \
    X(PyObject *, VarSet, "PyContextVar_Set", (PyObject *, PyObject *))                                                            \
    X(void, ErrFetch, "PyErr_Fetch", (PyObject **, PyObject **, PyObject **))                                                      \
    X(void, ErrRestore, "PyErr_Restore", (PyObject *, PyObject *, PyObject *))                                                     \
    X(PyObject *, ModuleDict, "PyImport_GetModuleDict", (void))                                                                    \
    X(PyObject *, DictGet, "PyDict_GetItemString", (PyObject *, const char *))                                                     \
    X(int, DictSet, "PyDict_SetItemString", (PyObject *, const char *, PyObject *))                                                \
    X(PyObject *, GetAttr, "PyObject_GetAttrString", (PyObject *, const char *))                                                   \
    X(PyObject *, CallMethod, "PyObject_CallMethod", (PyObject *, const char *, const char *, ...))                                \
    X(PyObject *, CallObjects, "PyObject_CallFunctionObjArgs", (PyObject *, ...))                                                  \
    X(long, TupleSize, "PyTuple_Size", (PyObject *))                                                                               \
    X(PyObject *, TupleItem, "PyTuple_GetItem", (PyObject *, long))                                                                \
    X(PyObject *, Call, "PyObject_Call", (PyObject *, PyObject *, PyObject *))                                                     \
    X(PyObject *, NewMethod, "PyDescr_NewMethod", (PyObject *, void *))                                                            \
    X(void, TypeModified, "PyType_Modified", (PyObject *))                                                                         \
    X(long, LongAsLong, "PyLong_AsLong", (PyObject *))                                                                             \
    X(const char *, AsUtf8, "PyUnicode_AsUTF8", (PyObject *))                                                                      \
    X(PyObject *, EvalFrame, "PyEval_GetFrame", (void))
#define PYTHON_API_OPTIONAL(X)                                                                                                     \
    X(void *, InterpreterOf, "PyThreadState_GetInterpreter", (void *)) /* 3.9 */                                                   \
    X(int, SetAttr, "PyObject_SetAttrString", (PyObject *, const char *, PyObject *))                                              \
    X(void *, InterpreterHead, "PyInterpreterState_Head", (void))                                                                  \
    X(int, IsFinalizing, "Py_IsFinalizing", (void))        /* 3.13 */                                                              \
    X(int, IsFinalizingBefore, "_Py_IsFinalizing", (void)) /* until 3.12 */

struct python_api {
#define X(ret, name, symbol, params) ret(*name) params;
    PYTHON_API(X) PYTHON_API_OPTIONAL(X)
#undef X
};
extern struct python_api python_api; /* complete before python_present is raised */
extern _Atomic bool python_present;

/* ---- what runs: pending.c ------------------------------------------------------------------------------------------------------------- */
int python_current(struct ctx *out); /* see struct ctx_runtime */
/* Greenlets are about: the thread's context changes under its feet. */
void python_has_greenlets(void);
extern const struct runtime_listener python_listener;

/* ---- for the functions that we stand in front of (interpose/python.c), on the thread that calls them ---------------------------------- */
/* With the GIL: a copy of the current context was made. task: for an asyncio task. */
void python_copied(PyObject *copy, bool task);
void python_future_done(void);        /* with the GIL: a future of asyncio is given its result */
void python_uv_runs(bool runs);       /* uvloop gave up, or took back, the GIL around uv_run() */
void python_uv_callback(bool begins); /* libuv calls uvloop */
void python_uv_handle_done(void);     /* one of the loop's callbacks is through */
void python_uv_touched(const struct runtime_ref *conn);

/* ---- value.c: with the GIL. Python's pending exception and the caller's errno are preserved. ------------------------------------------------ */
enum python_kind { PYTHON_NOBODY = 1, PYTHON_REQUEST = 2, PYTHON_CONN = 3 };

struct python_value {
    uint32_t kind; /* enum python_kind */
    uint32_t
        fork_generation; /* filled in by python_set. A forked worker's context still has its parent's value: of no meaning there */
    struct runtime_ref conn;
    struct ctx ctx; /* PYTHON_REQUEST */
};

/* May Python be called? Not before its start, not when it ends, not in a sub-interpreter (its objects are not ours to share). */
bool python_usable(void);
bool python_setup(void); /* makes the variable and calibrates, the first time. False: never sets anything */
void python_set(PyObject *context, const struct python_value *value); /* context NULL: the current one */

/* ---- walk.c: without the GIL ------------------------------------------------------------------------------------------------------------- */
enum python_walk { PYTHON_WALK_OFF, PYTHON_WALK_READY, PYTHON_WALK_FAILED };
extern _Atomic uint8_t python_walk_state; /* enum python_walk */

/* The calling thread's state; NULL: it has none, or the interpreter ends. */
void *python_thread(void);
void *python_context_of(const void *thread); /* NULL while not calibrated */
/* Is that context the thread's, or one of those out of which it was entered? Those are entered, too, and so are alive. */
bool python_context_within(const void *thread, const void *outer);
bool python_read(const void *thread, struct python_value *out);
/* With the GIL, in value.c's hands: finds the offsets for this variable, tests them. NULL, or why not. */
const char *python_calibrate(PyObject *var);
unsigned python_minor(void); /* of the version; 0: not one that is known */

/* ---- stack.c: which code runs. Of the calling thread, without the GIL; nothing that is returned here outlives the call that the thread is in. - */
struct python_text {
    const char *bytes; /* not terminated */
    size_t len;
};
const void *python_stack_newest(const void *thread); /* its newest frame; NULL: none, or not known how to look */
const void *python_stack_older(const void *frame);   /* NULL: it was the oldest */
struct python_text python_stack_file(const void *frame);
struct python_text python_stack_name(const void *frame);
bool python_stack_in_coroutine(const void *thread); /* does a coroutine run? */
bool python_stack_is_within(const void *thread, const char *file_end,
                            const char *name); /* does this function (NULL: any of the file) run? */
bool python_stack_ready(void);
/* frames.c: the layout of this version fits the stack of the calling thread. Tested by the first who asks, without touching memory that may not
 * be there: before anybody follows a pointer by it. */
bool frames_fit(const void *thread);
/* With the GIL, while Python code runs. NULL, or why not. */
const char *python_stack_calibrate(unsigned minor);

/* ---- given.c: work that was given to this thread ------------------------------------------------------------------------------------------ */
/* what runtime_given (context/runtime.h) says here */
enum python_given {
    PYTHON_GIVEN_NOTHING,
    PYTHON_GIVEN_THREAD,
    PYTHON_GIVEN_JOB,
    PYTHON_GIVEN_GREENLETS /* to some of the thread's greenlets, by their contexts */
};
bool python_given_library(const char *threading_file); /* where the standard library lies; false: not to be said */
void python_given_start(const struct ctx *ctx);        /* this thread was started for ctx */
bool python_given_now(struct ctx *out);
void python_given_takes(void); /* with something given: the code that runs takes a lock, or the end of a deque */
void python_given_read(void);  /* ... has read from a pipe or the like */
void python_given_end(void);
void python_spawned(PyObject *context,
                    const struct ctx *ctx); /* with the GIL: a greenlet that will run in this context was started for ctx */
bool python_given_holds(const struct python_value *value); /* ... and is a greenlet of the program's own */
/* With the GIL: a job was put into the queue of a thread pool; something was taken from a queue. */
void python_job_put(const void *item);
void python_job_taken(const void *item); /* only needed if something is given, or there are jobs */
extern uint32_t python_jobs;             /* how many are known to be in queues */

#endif
