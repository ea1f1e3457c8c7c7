/* identity.c - the pages that a fork wipes, and what is known once per thread. See identity.h. */
#include "span/identity.h"
#include "base/raw.h"
#include <string.h>
#include <sys/mman.h>

#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif

/* Whole pages of .bss: private anonymous memory, which is what MADV_WIPEONFORK asks for. */
alignas(IDENTITY_PAGE) union identity_pages identity_pages;

OTSHIM_TLS struct identity_thread identity_thread;

/* Not wiped: counts on through the generations of forked processes, so that no two in one line of descent have the same number. */
static _Atomic uint32_t generations;

uint32_t identity_begin(void)
{
    uint32_t generation = atomic_load(&identity.generation);
    if (generation != 0)
        return generation;
    raw_syscall3(SYS_madvise, (long)&identity_pages, (long)sizeof(identity_pages), MADV_WIPEONFORK);
    const uint32_t mine = atomic_fetch_add(&generations, 1) + 1;
    return atomic_compare_exchange_strong(&identity.generation, &generation, mine) ? mine : generation;
}

uint32_t identity_tid_slow(void)
{
    const uint32_t generation = identity_begin();
    identity_thread.tid = (uint32_t)raw_syscall0(SYS_gettid);
    identity_thread.generation = generation;
    return identity_thread.tid;
}

void identity_wipe(void)
{
    memset(&identity, 0, sizeof(identity));
}
