/* slots.h - the import slots of an object that binds past us.
 *
 * Where preloading does not put us first - a library loaded with RTLD_DEEPBIND, a symbol that the program itself defines - the slot through
 * which one object calls the function is pointed at us, after the dynamic linker has filled it. Only slots that hold the function that
 * is expected there, or nothing resolved yet (an address in the object itself: its PLT), are touched. */
#ifndef OTSHIM_SLOTS_H
#define OTSHIM_SLOTS_H

#include <link.h>
#include <stddef.h>

struct slot_redirect {
    const char *name;
    const void *ours;
    const void *theirs; /* what the slot holds now */
};

/* Inside dl_iterate_phdr. Not async-signal-safe. */
void slots_redirect(const struct dl_phdr_info *info, const struct slot_redirect *table, size_t count);

/* The first of its dependencies (DT_NEEDED) whose file name begins like this; NULL: none. */
const char *slots_needed(const struct dl_phdr_info *info, const char *prefix);

#endif
