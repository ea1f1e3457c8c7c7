/* lookup.c - reads the symbol tables of the loaded objects.
 *
 * dl_iterate_phdr lists the objects in load order, which is the order in which symbols are searched: the program, preloaded libraries,
 * then their dependencies. All that come after ourselves are asked in turn, each for all symbols still missing, by its GNU hash table
 * (DT_GNU_HASH: Bloom filter, buckets, chains that end in a set low bit) or, if it has none, the System V one (DT_HASH).
 *
 * Versions: .gnu.version has one index per symbol; bit 15 marks a definition that is not the default; the index leads to a name in
 * .gnu.version_d. Index 1 is "no version", which satisfies everyone: another preloaded library. */
#include "interpose/lookup.h"
#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

struct object {
    ElfW(Addr) base;
    const ElfW(Sym) * symbols;
    const char *strings;
    const uint32_t *gnu_hash;
    const uint32_t *sysv_hash;
    const ElfW(Half) * versions;
    const ElfW(Verdef) * verdef;
    size_t nverdef;
};

struct walk {
    struct lookup_item *items;
    size_t n;
    bool after_us;
};

const char *lookup_version(const char *name)
{
    static const struct {
        const char *name, *version;
    } table[] = {
#define VERSIONED(symbol, version) {#symbol, #version},
#include "interpose/versions.def"
#undef VERSIONED
        {NULL, NULL}};
    for (size_t i = 0; table[i].name != NULL; i++)
        if (strcmp(table[i].name, name) == 0)
            return table[i].version;
    return NULL;
}

/* glibc adds the load address to the pointers of a writable dynamic section, musl and read-only sections keep offsets. */
static const void *at(ElfW(Addr) base, ElfW(Addr) value)
{
    return (const void *)(value < base ? base + value : value);
}

static bool object_read(struct object *o, ElfW(Addr) base, const ElfW(Dyn) * dyn)
{
    *o = (struct object){.base = base};
    for (; dyn->d_tag != DT_NULL; dyn++) {
        switch (dyn->d_tag) {
        case DT_SYMTAB: o->symbols = at(base, dyn->d_un.d_ptr); break;
        case DT_STRTAB: o->strings = at(base, dyn->d_un.d_ptr); break;
        case DT_GNU_HASH: o->gnu_hash = at(base, dyn->d_un.d_ptr); break;
        case DT_HASH: o->sysv_hash = at(base, dyn->d_un.d_ptr); break;
        case DT_VERSYM: o->versions = at(base, dyn->d_un.d_ptr); break;
        case DT_VERDEF: o->verdef = at(base, dyn->d_un.d_ptr); break;
        case DT_VERDEFNUM: o->nverdef = dyn->d_un.d_val; break;
        default: break;
        }
    }
    return o->symbols != NULL && o->strings != NULL && (o->gnu_hash != NULL || o->sysv_hash != NULL);
}

static bool version_is(const struct object *o, unsigned index, const char *wanted)
{
    const ElfW(Verdef) *def = o->verdef;
    for (size_t i = 0; def != NULL && i < o->nverdef; i++) {
        const ElfW(Verdaux) *aux = (const void *)((const char *)def + def->vd_aux);
        if ((def->vd_ndx & 0x7fffu) == index)
            return strcmp(o->strings + aux->vda_name, wanted) == 0;
        if (def->vd_next == 0)
            break;
        def = (const void *)((const char *)def + def->vd_next);
    }
    return false;
}

/* An indirect function (STT_GNU_IFUNC) would have to be asked which one it is; libc has none among ours. */
static bool symbol_fits(const struct object *o, uint32_t i, const struct lookup_item *item)
{
    const ElfW(Sym) *sym = &o->symbols[i];
    unsigned type = sym->st_info & 0xfu;
    if (sym->st_shndx == SHN_UNDEF || sym->st_value == 0 || (type != STT_FUNC && type != STT_NOTYPE) ||
        strcmp(o->strings + sym->st_name, item->name) != 0)
        return false;
    if (o->versions == NULL)
        return true;
    unsigned version = o->versions[i], index = version & 0x7fffu;
    if (index == 0)
        return false; /* local */
    if (index == 1)
        return true;
    return item->version != NULL && o->verdef != NULL ? version_is(o, index, item->version) : (version & 0x8000u) == 0;
}

static const ElfW(Sym) * find_gnu(const struct object *o, const struct lookup_item *item)
{
    uint32_t hash = 5381;
    for (const char *c = item->name; *c != '\0'; c++)
        hash = hash * 33 + (unsigned char)*c;
    const uint32_t *table = o->gnu_hash;
    uint32_t nbuckets = table[0], first = table[1], nbloom = table[2], shift = table[3];
    const ElfW(Addr) *bloom = (const void *)(table + 4);
    const uint32_t *buckets = (const void *)(bloom + nbloom), *chain = buckets + nbuckets;
    const unsigned bits = 8 * sizeof(ElfW(Addr));
    if (nbuckets == 0 || nbloom == 0)
        return NULL;
    ElfW(Addr) word = bloom[hash / bits & (nbloom - 1)];
    if ((word >> hash % bits & word >> (hash >> shift) % bits & 1u) == 0)
        return NULL;
    uint32_t i = buckets[hash % nbuckets];
    if (i < first)
        return NULL;
    for (;; i++) {
        uint32_t h = chain[i - first];
        if ((h | 1u) == (hash | 1u) && symbol_fits(o, i, item))
            return &o->symbols[i];
        if (h & 1u)
            return NULL;
    }
}

static const ElfW(Sym) * find_sysv(const struct object *o, const struct lookup_item *item)
{
    uint32_t hash = 0;
    for (const char *c = item->name; *c != '\0'; c++) {
        hash = (hash << 4) + (unsigned char)*c;
        hash = (hash ^ (hash >> 24 & 0xf0u)) & 0x0fffffffu;
    }
    const uint32_t *table = o->sysv_hash;
    uint32_t nbuckets = table[0];
    if (nbuckets == 0)
        return NULL;
    for (uint32_t i = table[2 + hash % nbuckets]; i != STN_UNDEF; i = table[2 + nbuckets + i])
        if (symbol_fits(o, i, item))
            return &o->symbols[i];
    return NULL;
}

static bool contains(const struct dl_phdr_info *info, const void *address)
{
    for (unsigned i = 0; i < info->dlpi_phnum; i++) {
        ElfW(Addr) start = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
        if (info->dlpi_phdr[i].p_type == PT_LOAD && (ElfW(Addr))address - start < info->dlpi_phdr[i].p_memsz)
            return true;
    }
    return false;
}

static int visit(struct dl_phdr_info *info, size_t size, void *arg)
{
    (void)size;
    struct walk *walk = arg;
    if (!walk->after_us) {
        walk->after_us = contains(info, (const void *)&visit);
        return 0;
    }
    const ElfW(Dyn) *dyn = NULL;
    for (unsigned i = 0; i < info->dlpi_phnum; i++)
        if (info->dlpi_phdr[i].p_type == PT_DYNAMIC)
            dyn = (const void *)(info->dlpi_addr + info->dlpi_phdr[i].p_vaddr);
    struct object o;
    if (dyn == NULL || !object_read(&o, info->dlpi_addr, dyn))
        return 0;
    size_t missing = 0;
    for (size_t i = 0; i < walk->n; i++) {
        struct lookup_item *item = &walk->items[i];
        if (item->found != NULL)
            continue;
        const ElfW(Sym) *sym = o.gnu_hash != NULL ? find_gnu(&o, item) : find_sysv(&o, item);
        if (sym != NULL)
            item->found = (void *)(o.base + sym->st_value);
        else
            missing++;
    }
    return missing == 0;
}

void lookup_next(struct lookup_item *items, size_t n)
{
    struct walk walk = {.items = items, .n = n};
    dl_iterate_phdr(visit, &walk);
    /* Nothing at all: a loader that lays things out in a way we do not understand. Better the dynamic linker's own answer, with its
     * side effects, than a program without read(). */
    bool any = false;
    for (size_t i = 0; i < n; i++)
        any |= items[i].found != NULL;
    for (size_t i = 0; !any && i < n && dlsym != NULL; i++)
        items[i].found = dlsym(RTLD_NEXT, items[i].name);
}

void lookup_object(const struct dl_phdr_info *info, struct lookup_item *items, size_t n)
{
    struct walk walk = {.items = items, .n = n, .after_us = true};
    struct dl_phdr_info copy = *info;
    visit(&copy, sizeof copy, &walk);
}

void lookup_any(struct lookup_item *items, size_t n)
{
    struct walk walk = {.items = items, .n = n, .after_us = true};
    dl_iterate_phdr(visit, &walk);
}
