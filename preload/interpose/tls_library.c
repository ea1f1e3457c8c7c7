/* tls_library.c - see tls_library.h.
 *
 * Several libraries of one kind in a process are kept apart: each has a set of wrappers of its own, so that a wrapper knows whom to call. An
 * object belongs to the library that its DT_NEEDED names; where there is only one, to that. */
#include "interpose/tls_library.h"
#include "base/base.h"
#include "interpose/load.h"
#include "interpose/lookup.h"
#include "interpose/slots.h"
#include "span/span.h"
#include <errno.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

static const struct tls_room *const rooms[] = {&openssl_room, &gnutls_room};
#define ROOMS (sizeof rooms / sizeof *rooms)

static struct library {
    ElfW(Addr) base; /* where it is loaded; 0: none */
    const char *soname;
} libraries[ROOMS][TLS_LIBRARIES];

static const char *file_name(const char *path)
{
    const char *slash = path != NULL ? strrchr(path, '/') : NULL;
    return slash != NULL ? slash + 1 : path != NULL ? path : "";
}

static bool is_of(const struct tls_room *room, const struct dl_phdr_info *info)
{
    return strncmp(file_name(info->dlpi_name), room->file, strlen(room->file)) == 0;
}

/* All that is needed is there, in this one object. */
static bool read_functions(const struct tls_room *room, const struct dl_phdr_info *info, void **functions)
{
    struct lookup_item items[TLS_FUNCTIONS];
    bool complete = true;
    for (size_t i = 0; i < room->count; i++)
        items[i] = (struct lookup_item){room->functions[i].name, NULL, NULL};
    lookup_object(info, items, room->count);
    for (size_t i = 0; i < room->count; i++) {
        functions[i] = items[i].found;
        complete = complete && (functions[i] != NULL || room->functions[i].optional);
    }
    return complete;
}

static void look_at(unsigned r, const struct dl_phdr_info *info)
{
    void *functions[TLS_FUNCTIONS];
    struct library *of = libraries[r], *free_one = NULL;
    for (unsigned n = 0; n < rooms[r]->sets; n++) {
        if (of[n].base == info->dlpi_addr && of[n].base != 0)
            return;
        if (of[n].base == 0 && free_one == NULL)
            free_one = &of[n];
    }
    if (!read_functions(rooms[r], info, functions)) {
        span_log(9, rooms[r]->unknown);
    } else if (free_one == NULL) {
        span_log(9, rooms[r]->too_many);
    } else {
        rooms[r]->found((unsigned)(free_one - of), functions);
        free_one->soname = file_name(info->dlpi_name);
        free_one->base = info->dlpi_addr;
    }
}

static int find_library(struct dl_phdr_info *info, size_t size, void *arg)
{
    (void)size, (void)arg;
    for (unsigned r = 0; r < ROOMS; r++)
        if (is_of(rooms[r], info))
            look_at(r, info);
    return 0;
}

static int redirect_object(struct dl_phdr_info *info, size_t size, void *arg)
{
    (void)size, (void)arg;
    for (unsigned r = 0; r < ROOMS; r++) {
        const struct library *of = libraries[r];
        const char *needed = of[0].base != 0 && !is_of(rooms[r], info) ? slots_needed(info, rooms[r]->file) : NULL;
        for (unsigned n = 0; needed != NULL && n < rooms[r]->sets; n++)
            if (of[n].base != 0 && (strcmp(file_name(needed), of[n].soname) == 0 || of[1].base == 0)) {
                rooms[r]->redirect(info, n);
                break;
            }
    }
    return 0;
}

static void redirect_all(void)
{
    bool any = false;
    for (unsigned r = 0; r < ROOMS; r++) {
        if (libraries[r][0].base == 0)
            continue;
        any = true;
        if (rooms[r]->look != NULL)
            rooms[r]->look();
    }
    if (any)
        dl_iterate_phdr(redirect_object, NULL);
}

/* A library that is being loaded at this moment is found by one of the next looks. */
#define LOOKS_A_CALL 16u

void tls_library_look(void)
{
    static _Atomic uint32_t calls_seen = UINT32_MAX, looks_left;
    static _Atomic bool looking;
    uint32_t calls = atomic_load_explicit(&load_calls, memory_order_relaxed);
    if (OTSHIM_LIKELY(calls == atomic_load_explicit(&calls_seen, memory_order_relaxed) &&
                      atomic_load_explicit(&looks_left, memory_order_relaxed) == 0))
        return;
    if (atomic_exchange_explicit(&looking, true, memory_order_acquire))
        return;
    int error = errno;
    uint32_t left = calls != atomic_load_explicit(&calls_seen, memory_order_relaxed)
                        ? LOOKS_A_CALL
                        : atomic_load_explicit(&looks_left, memory_order_relaxed);
    dl_iterate_phdr(find_library, NULL);
    redirect_all();
    atomic_store_explicit(&calls_seen, calls, memory_order_relaxed);
    atomic_store_explicit(&looks_left, left - (left > 0), memory_order_relaxed);
    atomic_store_explicit(&looking, false, memory_order_release);
    errno = error;
}
