/* uuid.h - name-based UUIDs (RFC 9562, version 5): the same name gives the same UUID. */
#ifndef OTSHIM_EXPORTER_UUID_H
#define OTSHIM_EXPORTER_UUID_H

#include <stddef.h>
#include <stdint.h>

#define UUID_TEXT 37 /* with NUL */

void uuid_v5(const uint8_t name_space[16], const void *name, size_t len, char out[UUID_TEXT]);

/* For the test. */
void uuid_sha1(const void *data, size_t len, uint8_t digest[20]);

#endif
