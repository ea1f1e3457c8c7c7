/* elf_file.c - see elf_file.h. */
#include "trace/elf_file.h"

#include <dwarf.h>
#include <elfutils/libdw.h>
#include <elfutils/libdwfl.h>
#include <gelf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SEGMENTS 16

struct segment {
    uint64_t offset, address, bytes;
};

struct elf_file {
    Dwfl *dwfl;
    Dwfl_Module *module;
    Elf *elf; /* the module's, once it has asked for it */
    int fd;
    char *path;
    struct segment segments[SEGMENTS]; /* executable ones */
    size_t segment_count;
};

/* ---- libdwfl asks for the files ------------------------------------------------------------------------------------------------- */

/* Handed over already open for read(2): libdwfl would map it. */
static int find_elf(Dwfl_Module *module, void **userdata, const char *name, Dwarf_Addr base, char **file_name, Elf **elf)
{
    struct elf_file *file = *userdata;
    (void)module, (void)name, (void)base;
    if (file == NULL || file->elf == NULL)
        return -1;
    int fd = file->fd;
    *elf = file->elf;
    *file_name = strdup(file->path);
    file->elf = NULL;
    file->fd = -1;
    return fd;
}

/* By build id, below /usr/lib/debug only: not beside the file, where its owner can put what he likes. */
static int find_debuginfo(Dwfl_Module *module, void **userdata, const char *name, Dwarf_Addr base, const char *file_name,
                          const char *debuglink, GElf_Word crc, char **debuginfo_name)
{
    (void)file_name, (void)debuglink, (void)crc;
    (void)name, (void)base, (void)userdata;
    return dwfl_build_id_find_debuginfo(module, NULL, NULL, 0, NULL, NULL, 0, debuginfo_name);
}

static char debug_directories[] = "/usr/lib/debug", *debug_path = debug_directories;

static const Dwfl_Callbacks callbacks = {
    .find_elf = find_elf,
    .find_debuginfo = find_debuginfo,
    .debuginfo_path = &debug_path,
};

/* ---- open, close ------------------------------------------------------------------------------------------------------------------ */

/* The span of all segments in *low and *high; the executable ones are kept. */
static bool read_segments(struct elf_file *file, uint64_t *low, uint64_t *high)
{
    size_t count;
    *low = UINT64_MAX;
    *high = 0;
    if (elf_kind(file->elf) != ELF_K_ELF || elf_getphdrnum(file->elf, &count) != 0)
        return false;
    for (size_t i = 0; i < count && i < 1024; i++) {
        GElf_Phdr memory, *header = gelf_getphdr(file->elf, (int)i, &memory);
        if (header == NULL || header->p_type != PT_LOAD || header->p_vaddr + header->p_memsz < header->p_vaddr)
            continue;
        uint64_t page = header->p_align > 1 ? header->p_align - 1 : 0;
        *low = header->p_vaddr - (header->p_vaddr & page) < *low ? header->p_vaddr - (header->p_vaddr & page) : *low;
        *high = header->p_vaddr + header->p_memsz > *high ? header->p_vaddr + header->p_memsz : *high;
        if ((header->p_flags & PF_X) && file->segment_count < SEGMENTS)
            file->segments[file->segment_count++] = (struct segment){header->p_offset, header->p_vaddr, header->p_filesz};
    }
    return file->segment_count > 0 && *low < *high;
}

static bool report(struct elf_file *file)
{
    uint64_t low, high;
    void **userdata;
    if (!read_segments(file, &low, &high))
        return false;
    file->dwfl = dwfl_begin(&callbacks);
    if (file->dwfl == NULL)
        return false;
    dwfl_report_begin(file->dwfl);
    file->module = dwfl_report_module(file->dwfl, "m", low, high);
    if (dwfl_report_end(file->dwfl, NULL, NULL) != 0 || file->module == NULL)
        return false;
    dwfl_module_info(file->module, &userdata, NULL, NULL, NULL, NULL, NULL, NULL);
    *userdata = file;
    return true;
}

struct elf_file *elf_file_open(int fd, const char *path)
{
    struct elf_file *file = calloc(1, sizeof *file);
    if (file == NULL) {
        close(fd);
        return NULL;
    }
    elf_version(EV_CURRENT);
    file->fd = fd;
    file->path = strdup(path);
    file->elf = elf_begin(fd, ELF_C_READ, NULL);
    if (file->path == NULL || file->elf == NULL || !report(file)) {
        elf_file_close(file);
        return NULL;
    }
    return file;
}

void elf_file_close(struct elf_file *file)
{
    if (file->dwfl != NULL)
        dwfl_end(file->dwfl);
    if (file->elf != NULL)
        elf_end(file->elf);
    if (file->fd >= 0)
        close(file->fd);
    free(file->path);
    free(file);
}

/* ---- what lies there? --------------------------------------------------------------------------------------------------------------- */

static void copy(char *out, size_t size, const char *text)
{
    snprintf(out, size, "%s", text != NULL ? text : "");
}

static void source_line(struct elf_file *file, Dwarf_Addr address, struct elf_frame *frame)
{
    Dwfl_Line *line = dwfl_module_getsrc(file->module, address);
    int number = 0;
    const char *source = line != NULL ? dwfl_lineinfo(line, NULL, &number, NULL, NULL, NULL) : NULL;
    copy(frame->source, sizeof frame->source, source);
    frame->line = source != NULL ? number : 0;
}

/* Where the function of this DIE was inlined: the place in the frame around it. */
static void call_place(Dwarf_Die *unit, Dwarf_Die *inlined, struct elf_frame *frame)
{
    Dwarf_Attribute attribute;
    Dwarf_Word number;
    Dwarf_Files *files;
    size_t count;
    if (dwarf_formudata(dwarf_attr(inlined, DW_AT_call_file, &attribute), &number) == 0 &&
        dwarf_getsrcfiles(unit, &files, &count) == 0 && number < count)
        copy(frame->source, sizeof frame->source, dwarf_filesrc(files, number, NULL, NULL));
    if (dwarf_formudata(dwarf_attr(inlined, DW_AT_call_line, &attribute), &number) == 0 && number < 1u << 30)
        frame->line = (int)number;
}

/* Functions by debug information, the innermost first; 0 without. frames[0] has its source already. */
static int functions(struct elf_file *file, Dwarf_Addr address, struct elf_frame frames[ELF_FILE_FRAMES])
{
    Dwarf_Addr bias;
    Dwarf_Die *unit = dwfl_module_addrdie(file->module, address, &bias), *scopes = NULL, *nest = NULL;
    int depth = 0, count = unit != NULL ? dwarf_getscopes(unit, address - bias, &scopes) : 0;
    if (count > 0) /* the scopes around the innermost as they lie in the code, not as they stand in the source */
        count = dwarf_getscopes_die(&scopes[0], &nest);
    for (int i = 0; i < count && depth < ELF_FILE_FRAMES; i++) {
        int tag = dwarf_tag(&nest[i]);
        if (tag != DW_TAG_subprogram && tag != DW_TAG_inlined_subroutine)
            continue;
        copy(frames[depth].function, sizeof frames[depth].function, dwarf_diename(&nest[i]));
        depth++;
        if (tag == DW_TAG_subprogram)
            break;
        if (depth < ELF_FILE_FRAMES) {
            frames[depth] = (struct elf_frame){0};
            call_place(unit, &nest[i], &frames[depth]);
        }
    }
    free(scopes);
    free(nest);
    return depth;
}

int elf_file_lookup(struct elf_file *file, uint64_t offset, struct elf_frame frames[ELF_FILE_FRAMES], uint64_t *address)
{
    const struct segment *segment = NULL;
    *address = 0;
    for (size_t i = 0; i < file->segment_count; i++)
        if (offset >= file->segments[i].offset && offset - file->segments[i].offset < file->segments[i].bytes)
            segment = &file->segments[i];
    if (segment == NULL)
        return 0;
    *address = offset - segment->offset + segment->address;
    frames[0] = (struct elf_frame){0};
    source_line(file, *address, &frames[0]);
    int count = functions(file, *address, frames);
    if (count > 0 && frames[0].function[0] != '\0')
        return count;
    copy(frames[0].function, sizeof frames[0].function, dwfl_module_addrname(file->module, *address));
    return frames[0].function[0] != '\0' || frames[0].source[0] != '\0';
}
