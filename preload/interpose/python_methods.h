/* python_methods.h - the built-in methods of CPython's own modules that we stand in front of. */
#ifndef OTSHIM_INTERPOSE_PYTHON_METHODS_H
#define OTSHIM_INTERPOSE_PYTHON_METHODS_H

/* In a process that has Python, on a thread that may have a thread state and does not hold the GIL, or does: takes it, the first time, for some
 * microseconds. errno preserved; not async-signal-safe. */
void python_methods_look(void);

/* A library is about to be loaded. Async-signal-safe. */
void python_methods_loading(const char *file);

#endif
