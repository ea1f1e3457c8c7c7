/* load.h - see load.c. */
#ifndef OTSHIM_LOAD_H
#define OTSHIM_LOAD_H

#include <stdatomic.h>
#include <stdint.h>

/* How often the program has called dlopen: whoever looks at what is loaded need not look again while this stands still. It counts before the call: what it
 * loads may be there only some looks later. */
extern _Atomic uint32_t load_calls;

#endif
