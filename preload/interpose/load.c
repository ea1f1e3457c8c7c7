/* load.c - libraries that are loaded to bind past us: dlopen with RTLD_DEEPBIND.
 *
 * With that flag a library and its dependencies look names up among themselves, libc included, before the rest of the process; a
 * preloaded library is the rest. PHP loads its extensions so: its curl module, and the libcurl that comes with it, would call
 * libc's connect() and send() directly. Dropping the flag would be easy and would change which of two equal names a library gets - not ours
 * to decide. So the library is loaded exactly as asked, and afterwards those of its import slots that name a function of our table are
 * pointed at us, as if the dynamic linker had found us first.
 *
 * Only slots that still hold libc's function, or nothing resolved yet (an address in the object itself: its PLT), are touched, and
 * only in objects that this very call added. All other calls of dlopen are passed on by a tail call: glibc takes the caller, whose RUNPATH and
 * namespace count, from the return address. A call with RTLD_DEEPBIND returns to us instead; where the caller's RUNPATH could matter (a
 * name without a slash, or with $ORIGIN) it is passed on by a tail call too, and that library is not seen. */
#include "base/raw.h"
#include "interpose/quiet.h"
#include "interpose/wrap.h"
#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <string.h>
#include <sys/mman.h>

#ifndef RTLD_DEEPBIND
#define RTLD_DEEPBIND 8 /* glibc; musl ignores it */
#endif

#if defined(__x86_64__)
#define SLOT_FUNCTION R_X86_64_JUMP_SLOT
#define SLOT_ADDRESS R_X86_64_GLOB_DAT
#elif defined(__aarch64__)
#define SLOT_FUNCTION R_AARCH64_JUMP_SLOT
#define SLOT_ADDRESS R_AARCH64_GLOB_DAT
#endif

/* Our definition of each symbol of the table, as the dynamic linker sees it. */
#define SYMBOL(family, ret, name, params) extern const char ours_##name[] __asm__(#name);
#include "interpose/symbols.def"
#undef SYMBOL

struct redirect {
    const char *name;
    const void *ours;
    const void *libc;
};

static const struct redirect *find_redirect(const struct redirect *table, size_t count, const char *name)
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

static void redirect_slots(const struct imports *in, const ElfW(Rela) * slots, size_t bytes, const struct redirect *table,
                           size_t count)
{
    for (size_t i = 0; slots != NULL && i < bytes / sizeof *slots; i++) {
        unsigned type = (unsigned)ELF64_R_TYPE(slots[i].r_info);
        const ElfW(Sym) *symbol = &in->symbols[ELF64_R_SYM(slots[i].r_info)];
        if ((type != SLOT_FUNCTION && type != SLOT_ADDRESS) || symbol->st_shndx != SHN_UNDEF)
            continue;
        const struct redirect *to = find_redirect(table, count, in->strings + symbol->st_name);
        const void **slot = (const void **)(in->base + slots[i].r_offset);
        if (to == NULL)
            continue;
        ElfW(Addr) now = (ElfW(Addr))__atomic_load_n(slot, __ATOMIC_ACQUIRE);
        bool unresolved = type == SLOT_FUNCTION && now >= in->low && now < in->high;
        if ((const void *)now == to->libc || unresolved)
            slot_store(in, slot, to->ours);
    }
}

struct walk {
    size_t known; /* objects that were there before */
    size_t seen;
    const struct redirect *table;
    size_t count;
};

static int count_object(struct dl_phdr_info *info, size_t size, void *arg)
{
    (void)info, (void)size;
    (*(size_t *)arg)++;
    return 0;
}

static int redirect_object(struct dl_phdr_info *info, size_t size, void *arg)
{
    (void)size;
    struct walk *walk = arg;
    struct imports in;
    if (walk->seen++ < walk->known || !imports_read(&in, info))
        return 0;
    redirect_slots(&in, in.function_slots, in.function_bytes, walk->table, walk->count);
    redirect_slots(&in, in.other_slots, in.other_bytes, walk->table, walk->count);
    return 0;
}

static __attribute__((noinline)) void *load_deeply(const char *file, int mode)
{
    size_t known = 0;
    dl_iterate_phdr(count_object, &known);
    void *handle = REAL(dlopen)(file, mode);
    if (handle == NULL)
        return NULL;
    int error = errno;
    const struct redirect table[] = {
#define SYMBOL(family, ret, name, params) {#name, ours_##name, (const void *)real.name},
#include "interpose/symbols.def"
#undef SYMBOL
    };
    /* Objects are listed in the order they were loaded: the new ones come last. */
    dl_iterate_phdr(redirect_object, &(struct walk){.known = known, .table = table, .count = sizeof table / sizeof *table});
    errno = error;
    return handle;
}

/* Sibling calls are made at any level of optimisation, for the return address's sake. */
__attribute__((optimize("O2"))) WRAP(void *, dlopen, (const char *file, int mode))
{
    if (OTSHIM_UNLIKELY((mode & RTLD_DEEPBIND) && file != NULL && strchr(file, '/') != NULL && strchr(file, '$') == NULL) &&
        otshim_active)
        return load_deeply(file, mode);
    return REAL(dlopen)(file, mode);
}
