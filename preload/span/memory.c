/* memory.c - see memory.h for the idea; here is also what the kernel needs to be asked before a memfd is safe to use.
 *
 * - RLIMIT_FSIZE applies to ftruncate() on a memfd, and exceeding it raises SIGXFSZ, which would kill the program that we are a guest of.
 *   So the limit is read first.
 * - Pages of a memfd are accounted one by one when they are first touched. Under strict overcommit (vm.overcommit_memory=2) the kernel
 *   may then refuse, and the refusal is a SIGBUS. There the pages are allocated at once by fallocate(), which can fail politely.
 * - vm.memfd_noexec=2 refuses memfds that are not made with MFD_NOEXEC_SEAL; kernels before 6.3 refuse the flag. */
#include "span/memory.h"
#include "base/raw.h"
#include "span/hello.h"
#include "span/identity.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>

#ifndef MFD_CLOEXEC
#define MFD_CLOEXEC 1u
#define MFD_ALLOW_SEALING 2u
#endif
#define OTSHIM_MFD_NOEXEC_SEAL 8u
#ifndef F_ADD_SEALS
#define F_ADD_SEALS 1033
#endif
#define OTSHIM_SEALS 7 /* F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW */

struct slot {
    struct ring ring; /* first: a ring's address is its slot's */
    void *base;       /* NULL: nothing mapped yet */
    size_t bytes;
    _Atomic uint32_t owner; /* generation (identity.h) that uses it; 0: free */
};

/* Plain memory, inherited by a child, which finds its parent's slots in here and takes them over. */
static struct slot slots[MEMORY_SLOTS];

/* A slot that nobody is in. One that belongs to an ancestor is free as well: its threads do not exist here, whatever its count says -
 * except this one, if it forked inside a write from a signal handler that has not returned yet. */
static struct slot *claim(uint32_t generation)
{
    for (unsigned i = 0; i < MEMORY_SLOTS; i++) {
        struct slot *slot = &slots[i];
        uint32_t owner = atomic_load(&slot->owner);
        const bool inherited = owner != 0 && owner != generation;
        if (owner == generation || (inherited && identity_thread.depth != 0))
            continue;
        if (!inherited && atomic_load(&slot->ring.active) != 0)
            continue;
        if (!atomic_compare_exchange_strong(&slot->owner, &owner, generation))
            continue;
        if (inherited)
            atomic_store(&slot->ring.active, 0);
        return slot;
    }
    return NULL;
}

static int map(struct slot *slot, int memfd, size_t bytes)
{
    int flags = MAP_NORESERVE | (memfd >= 0 ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS);
    void *at = slot->bytes == bytes ? slot->base : NULL; /* the size is fixed at start; only tests change it */
    if (at != NULL)
        flags |= MAP_FIXED;
    long base = raw_syscall6(SYS_mmap, (long)at, (long)bytes, PROT_READ | PROT_WRITE, flags, memfd, 0);
    if (raw_failed(base)) {
        slot->base = NULL; /* MAP_FIXED may have unmapped what was there before it failed */
        return (int)base;
    }
    slot->base = (void *)base;
    slot->bytes = bytes;
    return 0;
}

struct ring *memory_make(int memfd, uint64_t data_bytes)
{
    struct slot *slot = claim(identity_begin());
    if (slot == NULL)
        return NULL;
    if (map(slot, memfd, ring_total_bytes(data_bytes)) != 0) {
        atomic_store(&slot->owner, 0);
        return NULL;
    }
    ring_format(&slot->ring, slot->base, data_bytes);
    return &slot->ring;
}

void memory_drop(struct ring *ring)
{
    struct slot *slot = (struct slot *)(void *)ring;
    map(slot, -1, slot->bytes);
    atomic_store(&slot->owner, 0);
}

static bool overcommit_is_strict(void)
{
    char mode = '0';
    long fd = raw_syscall4(SYS_openat, AT_FDCWD, (long)"/proc/sys/vm/overcommit_memory", O_RDONLY | O_CLOEXEC, 0);
    if (fd < 0)
        return false;
    raw_syscall3(SYS_read, fd, (long)&mode, 1);
    raw_syscall1(SYS_close, fd);
    return mode == '2';
}

int memory_memfd(uint64_t data_bytes)
{
    const long bytes = (long)ring_total_bytes(data_bytes);
    struct {
        uint64_t soft, hard;
    } limit;
    long result = raw_syscall4(SYS_prlimit64, 0, RLIMIT_FSIZE, 0, (long)&limit);
    if (raw_failed(result) || limit.soft < (uint64_t)bytes)
        return -EFBIG;

    long fd = raw_syscall2(SYS_memfd_create, (long)"otshim", MFD_CLOEXEC | MFD_ALLOW_SEALING | OTSHIM_MFD_NOEXEC_SEAL);
    if (fd == -EINVAL)
        fd = raw_syscall2(SYS_memfd_create, (long)"otshim", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (raw_failed(fd))
        return (int)fd;
    fd = hello_out_of_the_way((int)fd);
    result = raw_syscall2(SYS_ftruncate, fd, bytes);
    if (!raw_failed(result) && overcommit_is_strict())
        result = raw_syscall4(SYS_fallocate, fd, 0, 0, bytes);
    if (!raw_failed(result))
        result = raw_syscall3(SYS_fcntl, fd, F_ADD_SEALS, OTSHIM_SEALS);
    if (raw_failed(result)) {
        hello_close((int)fd);
        return (int)result;
    }
    return (int)fd;
}
