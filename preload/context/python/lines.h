/* lines.h - from an instruction to its line, by the tables that CPython's compiler leaves behind. Pure functions over bytes.
 *
 * https://github.com/python/cpython: Objects/lnotab_notes.txt (3.8 to 3.10), Objects/locations.md (3.11 on). */
#ifndef OTSHIM_CONTEXT_PYTHON_LINES_H
#define OTSHIM_CONTEXT_PYTHON_LINES_H

#include <stddef.h>
#include <stdint.h>

/* minor: of the version, 8 to 14. instruction: in bytes from the first one; before that: the line of the function itself. 0: not known (the
 * instruction has no line, or the table ends before it). */
uint32_t lines_of(unsigned minor, const uint8_t *table, size_t len, uint32_t first_line, int32_t instruction);

#endif
