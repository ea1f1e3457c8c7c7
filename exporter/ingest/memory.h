/* memory.h - the memfd of a traced process: is it what ring.h describes, and can it be mapped without danger?
 *
 * Dangers: a file that shrinks under the mapping (SIGBUS), offsets that point outside it, a layout that changes between check and use. So
 * the file must be sealed, and the layout is copied once, checked as a copy, and never read from the shared page again. */
#ifndef OTSHIM_INGEST_MEMORY_H
#define OTSHIM_INGEST_MEMORY_H

#include <otshim/ring.h>
#include <stddef.h>
#include <sys/types.h>

struct memory {
    struct otshim_shm *shm; /* the mapping */
    size_t bytes;           /* of the mapping */
    const struct otshim_inflight *inflight;
    unsigned inflight_slots;
    const uint8_t *data;
    uint64_t data_bytes;
    dev_t device; /* which memfd it is: a process may hand the same one over twice */
    ino_t inode;
};

/* Which file is behind fd: device and inode only. 0 or -errno. */
int memory_identify(struct memory *memory, int fd);
/* Checks and maps. 0; or -errno, with the reason (static text) in *why. The caller keeps fd. */
int memory_map(struct memory *memory, int fd, const char **why);
void memory_unmap(struct memory *memory);

/* The layout check alone: `layout` is a private copy of the first bytes of a memory of `bytes` bytes. NULL, or what is wrong. */
const char *memory_check_layout(const struct otshim_shm *layout, uint64_t bytes);

#endif
