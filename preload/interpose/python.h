/* python.h - the functions of CPython's C API, and of uvloop, that we stand in front of. */
#ifndef OTSHIM_INTERPOSE_PYTHON_H
#define OTSHIM_INTERPOSE_PYTHON_H

#include <stdbool.h>

/* Looks whether Python is among the loaded objects, and at its modules that have been loaded since. Called where a server starts to listen
 * (listening), and at each accept: there it costs one look at the number of loaded objects, and nothing but two loads in a process that had
 * no Python when it began to listen. errno preserved, not async-signal-safe. */
void python_look(bool listening);
/* For a program that only calls: at its first connect(), or look-up of a name. */
void python_look_once(void);

#endif
