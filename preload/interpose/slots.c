/* slots.c - reads an object's relocations and stores into the slots that they name. See slots.h. */
#include "interpose/slots.h"
#include "base/raw.h"
#include <elf.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#if defined(__x86_64__)
#define SLOT_FUNCTION R_X86_64_JUMP_SLOT
#define SLOT_ADDRESS R_X86_64_GLOB_DAT
#elif defined(__aarch64__)
#define SLOT_FUNCTION R_AARCH64_JUMP_SLOT
#define SLOT_ADDRESS R_AARCH64_GLOB_DAT
#endif

static const struct slot_redirect *find_redirect(const struct slot_redirect *table, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(table[i].name, name) == 0)
            return &table[i];
    return NULL;
}

/* What an object's program header and dynamic section say, as far as it is needed here. */
struct imports {
    ElfW(Addr) base, low, high; /* of its segments */
    ElfW(Addr) relro, relro_end;
    const ElfW(Sym) * symbols;
    const char *strings;
    const ElfW(Rela) * function_slots, *other_slots;
    size_t function_bytes, other_bytes;
};

static const void *dynamic_address(ElfW(Addr) base, ElfW(Addr) value)
{
    return (const void *)(value < base ? base + value : value);
}

static bool imports_read(struct imports *in, const struct dl_phdr_info *info)
{
    const ElfW(Dyn) *dyn = NULL;
    *in = (struct imports){.base = info->dlpi_addr, .low = UINTPTR_MAX};
    for (unsigned i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *phdr = &info->dlpi_phdr[i];
        ElfW(Addr) start = info->dlpi_addr + phdr->p_vaddr, end = start + phdr->p_memsz;
        if (phdr->p_type == PT_DYNAMIC)
            dyn = (const void *)start;
        if (phdr->p_type == PT_GNU_RELRO) {
            in->relro = start;
            in->relro_end = end;
        }
        if (phdr->p_type == PT_LOAD) {
            in->low = start < in->low ? start : in->low;
            in->high = end > in->high ? end : in->high;
        }
    }
    for (; dyn != NULL && dyn->d_tag != DT_NULL; dyn++) {
        switch (dyn->d_tag) {
        case DT_SYMTAB: in->symbols = dynamic_address(in->base, dyn->d_un.d_ptr); break;
        case DT_STRTAB: in->strings = dynamic_address(in->base, dyn->d_un.d_ptr); break;
        case DT_JMPREL: in->function_slots = dynamic_address(in->base, dyn->d_un.d_ptr); break;
        case DT_PLTRELSZ: in->function_bytes = dyn->d_un.d_val; break;
        case DT_RELA: in->other_slots = dynamic_address(in->base, dyn->d_un.d_ptr); break;
        case DT_RELASZ: in->other_bytes = dyn->d_un.d_val; break;
        default: break;
        }
    }
    return in->symbols != NULL && in->strings != NULL && in->base != 0;
}

/* The pages that were made read-only after relocation are opened for the one store and closed again. */
static void slot_store(const struct imports *in, const void **slot, const void *value)
{
    ElfW(Addr) address = (ElfW(Addr))slot, page = address & ~(ElfW(Addr))0xfff;
    bool closed = address >= in->relro && address < in->relro_end;
    if (closed && raw_failed(raw_syscall3(SYS_mprotect, (long)page, 0x1000, PROT_READ | PROT_WRITE)))
        return;
    __atomic_store_n(slot, value, __ATOMIC_RELEASE);
    if (closed)
        raw_syscall3(SYS_mprotect, (long)page, 0x1000, PROT_READ);
}

static void redirect_slots(const struct imports *in, const ElfW(Rela) * slots, size_t bytes, const struct slot_redirect *table,
                           size_t count)
{
    for (size_t i = 0; slots != NULL && i < bytes / sizeof *slots; i++) {
        unsigned type = (unsigned)ELF64_R_TYPE(slots[i].r_info);
        const ElfW(Sym) *symbol = &in->symbols[ELF64_R_SYM(slots[i].r_info)];
        if ((type != SLOT_FUNCTION && type != SLOT_ADDRESS) || symbol->st_shndx != SHN_UNDEF)
            continue;
        const struct slot_redirect *to = find_redirect(table, count, in->strings + symbol->st_name);
        const void **slot = (const void **)(in->base + slots[i].r_offset);
        if (to == NULL || to->theirs == NULL) /* there is no such function: a weak reference stays empty */
            continue;
        ElfW(Addr) now = (ElfW(Addr))__atomic_load_n(slot, __ATOMIC_ACQUIRE);
        bool unresolved = type == SLOT_FUNCTION && now >= in->low && now < in->high;
        if ((const void *)now == to->theirs || unresolved)
            slot_store(in, slot, to->ours);
    }
}

void slots_redirect(const struct dl_phdr_info *info, const struct slot_redirect *table, size_t count)
{
    struct imports in;
    if (!imports_read(&in, info))
        return;
    redirect_slots(&in, in.function_slots, in.function_bytes, table, count);
    redirect_slots(&in, in.other_slots, in.other_bytes, table, count);
}

const char *slots_needed(const struct dl_phdr_info *info, const char *prefix)
{
    struct imports in;
    const ElfW(Dyn) *dyn = NULL;
    if (!imports_read(&in, info))
        return NULL;
    for (unsigned i = 0; i < info->dlpi_phnum; i++)
        if (info->dlpi_phdr[i].p_type == PT_DYNAMIC)
            dyn = (const void *)(info->dlpi_addr + info->dlpi_phdr[i].p_vaddr);
    for (; dyn != NULL && dyn->d_tag != DT_NULL; dyn++)
        if (dyn->d_tag == DT_NEEDED && strncmp(in.strings + dyn->d_un.d_val, prefix, strlen(prefix)) == 0)
            return in.strings + dyn->d_un.d_val;
    return NULL;
}
