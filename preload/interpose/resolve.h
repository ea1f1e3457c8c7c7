/* resolve.h - which names are looked up at all. */
#ifndef OTSHIM_INTERPOSE_RESOLVE_H
#define OTSHIM_INTERPOSE_RESOLVE_H

#include <stdbool.h>

/* Is it an address written as a number? "1.2.3.4" in all the ways of inet_aton, "::1", "fe80::1%eth0". */
bool resolve_is_number(const char *name);

#endif
