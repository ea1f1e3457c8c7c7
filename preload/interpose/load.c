/* load.c - libraries that are loaded to bind past us: dlopen with RTLD_DEEPBIND.
 *
 * With that flag a library and its dependencies look names up among themselves, libc included, before the rest of the process; a
 * preloaded library is the rest. PHP loads its extensions so: its curl module, and the libcurl that comes with it, would call
 * libc's connect() and send() directly. Dropping the flag would be easy and would change which of two equal names a library gets - not ours
 * to decide. So the library is loaded exactly as asked, and afterwards those of its import slots that name a function of our table are
 * pointed at us, as if the dynamic linker had found us first.
 *
 * Only slots that still hold libc's function, or nothing resolved yet (an address in the object itself: its PLT), are touched, and
 * only in objects that this very call added. All other calls of dlopen are passed on by a tail call: glibc takes the caller, whose RUNPATH and
 * namespace count, from the return address. A call with RTLD_DEEPBIND returns to us instead; where the caller's RUNPATH could matter (a
 * name without a slash, or with $ORIGIN) it is passed on by a tail call too, and that library is not seen. */
#include "interpose/load.h"
#include "interpose/python_methods.h"
#include "interpose/quiet.h"
#include "interpose/slots.h"
#include "interpose/wrap.h"
#include <dlfcn.h>
#include <link.h>
#include <string.h>

#ifndef RTLD_DEEPBIND
#define RTLD_DEEPBIND 8 /* glibc; musl ignores it */
#endif

/* Our definition of each symbol of the table, as the dynamic linker sees it. */
#define SYMBOL(family, ret, name, params) extern const char ours_##name[] __asm__(#name);
#include "interpose/symbols.def"
#undef SYMBOL

struct walk {
    size_t known; /* objects that were there before */
    size_t seen;
    const struct slot_redirect *table;
    size_t count;
};

static int count_object(struct dl_phdr_info *info, size_t size, void *arg)
{
    (void)info, (void)size;
    (*(size_t *)arg)++;
    return 0;
}

static int redirect_object(struct dl_phdr_info *info, size_t size, void *arg)
{
    (void)size;
    struct walk *walk = arg;
    if (walk->seen++ >= walk->known)
        slots_redirect(info, walk->table, walk->count);
    return 0;
}

static __attribute__((noinline)) void *load_deeply(const char *file, int mode)
{
    size_t known = 0;
    dl_iterate_phdr(count_object, &known);
    void *handle = REAL(dlopen)(file, mode);
    if (handle == NULL)
        return NULL;
    int error = errno;
    const struct slot_redirect table[] = {
#define SYMBOL(family, ret, name, params) {#name, ours_##name, (const void *)real.name},
#include "interpose/symbols.def"
#undef SYMBOL
    };
    /* Objects are listed in the order they were loaded: the new ones come last. */
    dl_iterate_phdr(redirect_object, &(struct walk){.known = known, .table = table, .count = sizeof table / sizeof *table});
    errno = error;
    return handle;
}

_Atomic uint32_t load_calls;

/* Sibling calls are made at any level of optimisation, for the return address's sake. */
__attribute__((optimize("O2"))) WRAP(void *, dlopen, (const char *file, int mode))
{
    atomic_fetch_add_explicit(&load_calls, 1, memory_order_relaxed);
    if (OTSHIM_UNLIKELY((mode & RTLD_DEEPBIND) && file != NULL && strchr(file, '/') != NULL && strchr(file, '$') == NULL) &&
        otshim_active)
        return load_deeply(file, mode);
    if (OTSHIM_LIKELY(otshim_active))
        python_methods_loading(file);
    return REAL(dlopen)(file, mode);
}
