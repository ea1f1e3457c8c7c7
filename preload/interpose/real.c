/* real.c - finding the functions we stand in front of.
 *
 * dlsym(RTLD_NEXT) once a symbol, all of them in one go: the loader's lookups are warm then, and no call pays for it later, least of all
 * one in a signal handler. Measured in the constructor: about 0.5 us a symbol. dlsym is the one function of libdl that old
 * glibc keeps outside libc.so.6; it is weakly versioned GLIBC_2.2.5 there and in libc itself since 2.34. */
#include "interpose/real.h"
#include <dlfcn.h>

struct real real;

/* A POSIX system converts the void pointer of dlsym to a function pointer; ISO C wants the detour by memory. */
static void resolve_one(void *slot, const char *name)
{
    void *address = dlsym(RTLD_NEXT, name);
    if (address != NULL)
        __atomic_store_n((void **)slot, address, __ATOMIC_RELEASE);
}

void real_resolve(void)
{
#define SYMBOL(family, ret, name, params) resolve_one(&real.name, #name);
#include "interpose/symbols.def"
#undef SYMBOL
}
