/* python_methods.h - the built-in methods of CPython's own modules that we stand in front of. */
#ifndef OTSHIM_INTERPOSE_PYTHON_METHODS_H
#define OTSHIM_INTERPOSE_PYTHON_METHODS_H

#include "context/python/python.h"
#include <stdbool.h>

/* In a process that has Python, on a thread that may have a thread state and does not hold the GIL, or does: takes it, the first time, for some
 * microseconds. errno preserved; not async-signal-safe. */
void python_methods_look(void);

/* A library is about to be loaded. Async-signal-safe. */
void python_methods_loading(const char *file);

/* ---- for python_methods.c and python_gevent.c: with the GIL, Python's pending exception kept by the caller ---------------------------------- */

#define METHOD_ARGUMENTS void *a, void *b, void *c, void *d, void *e, void *f
#define METHOD_PASSED_ON a, b, c, d, e, f
typedef void *(*method_function)(METHOD_ARGUMENTS);

/* The function of owner's method goes to *plain, ours takes its place. flags: what PyMethodDef must say, 0: anything. False: there is no such
 * built-in (or Cython's) function, or it cannot be written to. Once more for the same one does nothing. owner may be NULL. */
bool method_exchange(PyObject *owner, const char *name, method_function ours, method_function *plain, int flags);
void method_takes(void); /* the code that runs is about to take something, a lock or from a queue */

/* ---- python_gevent.c ------------------------------------------------------------------------------------------------------------------------ */
void python_gevent_look(void); /* at gevent's modules, as far as they are imported */

#endif
