/* elf_file.h - one executable or library on disk, and what lies at an offset in it: by libdwfl.
 *
 * Loaded once at its own link-time addresses, whatever process it was met in. */
#ifndef OTSHIM_EXPORTER_ELF_FILE_H
#define OTSHIM_EXPORTER_ELF_FILE_H

#include <stdbool.h>
#include <stdint.h>

#define ELF_FILE_FRAMES 4 /* functions inlined into each other at one address */

struct elf_file;

/* Takes over fd. NULL: no ELF file that has code. path is for separate debug information and for nothing else. */
struct elf_file *elf_file_open(int fd, const char *path);
void elf_file_close(struct elf_file *file);

struct elf_frame {
    char function[256]; /* "" unknown */
    char source[512];   /* "" unknown */
    int line;
};

/* What lies at this offset of the file: innermost (inlined) function first. Returns the number of frames, 0: unknown. *address: the link-time
 * address, as in a disassembly (0: the offset is in no segment). */
int elf_file_lookup(struct elf_file *file, uint64_t offset, struct elf_frame frames[ELF_FILE_FRAMES], uint64_t *address);

#endif
