/* utf8.h - the last look at text before it leaves: one string that is not UTF-8 makes a protobuf reader refuse the whole batch. */
#ifndef OTSHIM_EXPORTER_OTLP_UTF8_H
#define OTSHIM_EXPORTER_OTLP_UTF8_H

#include "otlp/arena.h"
#include <stdbool.h>
#include <stddef.h>

/* Length of the well-formed sequence at text (RFC 3629 section 4; left >= 1 bytes), 0 if there is none. */
size_t utf8_sequence(const char *text, size_t left);

/* Well-formed as RFC 3629 has it: shortest forms only, no surrogates, nothing above U+10FFFF. */
bool utf8_valid(const char *text, size_t len);

/* text itself where it is valid (the rule), else a copy with U+FFFD for each byte that is not. NULL becomes "". NULL only when
 * memory is short. */
const char *utf8_clean(struct arena *arena, const char *text);

#endif
