/* intern.h - short texts that many connections share: host names and Unix socket paths.
 *
 * A process talks to few names, over many connections; a handle of two bytes in each connection beats a copy of 255. Texts are never
 * forgotten; when the table is full, further texts get no handle and their spans go without. Lock-free, async-signal-safe. */
#ifndef OTSHIM_INTERN_H
#define OTSHIM_INTERN_H

#include <stddef.h>
#include <stdint.h>

#define INTERN_TEXT_MAX 255u
#define INTERN_SLOTS 1024u

/* A handle, 0 if there is no room (or len is 0, or above INTERN_TEXT_MAX). */
uint16_t intern_put(const char *text, size_t len);
/* The text (not terminated), NULL for handle 0. */
const char *intern_get(uint16_t handle, size_t *len);

#endif
