/* real.c - finding the functions we stand in front of: all in one go, in the constructor.
 *
 * No call pays for it later, least of all one in a signal handler. A call that comes before our constructor (another library's
 * constructor runs first) pays for all of them. */
#include "interpose/real.h"
#include "interpose/lookup.h"

struct real real;

void real_resolve(void)
{
    struct lookup_item items[] = {
#define SYMBOL(family, ret, name, params) {#name, lookup_version(#name), NULL},
#include "interpose/symbols.def"
#undef SYMBOL
    };
    lookup_next(items, sizeof(items) / sizeof(items[0]));
    const struct lookup_item *item = items;
#define SYMBOL(family, ret, name, params)                                                                                          \
    if (item->found != NULL)                                                                                                       \
        __atomic_store_n((void **)&real.name, item->found, __ATOMIC_RELEASE);                                                      \
    item++;
#include "interpose/symbols.def"
#undef SYMBOL
}
