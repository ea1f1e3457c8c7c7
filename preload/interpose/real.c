/* real.c - finding the functions we stand in front of: all in one go, in the constructor.
 *
 * No call pays for it later, least of all one in a signal handler. A call that comes before our constructor (another library's
 * constructor runs first) pays for all of them. */
#include "interpose/real.h"
#include "interpose/lookup.h"

struct real real;

static void resolve_one(void *slot, const char *name)
{
    void *address = lookup_next(name);
    if (address != NULL)
        __atomic_store_n((void **)slot, address, __ATOMIC_RELEASE);
}

void real_resolve(void)
{
#define SYMBOL(family, ret, name, params) resolve_one(&real.name, #name);
#include "interpose/symbols.def"
#undef SYMBOL
}
