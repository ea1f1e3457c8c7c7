/* lookup.h - the next definition of a symbol after us, in the version that programs get by default.
 *
 * What dlsym(RTLD_NEXT) would do, without its side effects: a symbol that is missing leaves an error behind that the program's own
 * dlerror() would then report, needs libdl before glibc 2.34, gives the wrong version of two before 2.36 (glibc bug 14932), and does not see
 * a libpthread that came in late by dlopen (before 2.34), although its users reach us first. */
#ifndef OTSHIM_LOOKUP_H
#define OTSHIM_LOOKUP_H

#include <stddef.h>

struct lookup_item {
    const char *name;
    const char *version; /* NULL: the default one. versions.def has those that must be named */
    void *found;
};

/* Fills .found of the items where it is NULL; what no object after us defines stays NULL. Takes the dynamic linker's lock
 * (dl_iterate_phdr), allocates nothing. Not async-signal-safe. */
void lookup_next(struct lookup_item *items, size_t n);

/* The same in all loaded objects, the program first; and what is not there stays NULL without another word. */
void lookup_any(struct lookup_item *items, size_t n);

/* The same in one object. */
struct dl_phdr_info;
void lookup_object(const struct dl_phdr_info *info, struct lookup_item *items, size_t n);

/* The version that versions.def names for a symbol, else NULL. */
const char *lookup_version(const char *name);

#endif
