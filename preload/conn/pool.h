/* pool.h - objects of one size from our own mmap'ed memory: type-stable, lock-free, async-signal-safe.
 *
 * An object, once made, stays an object of its type for ever: freeing puts it on a list, and its memory is never given back. A pointer that
 * went stale may therefore be looked at (its generation tells). Memory grows by chunks of POOL_CHUNK objects, up to a limit.
 *
 * The free list is a stack of indices; the word that heads it carries a tag that changes with every push and pop, so that a pop that was
 * overtaken (ABA) fails its compare-and-swap. A process may fork in the middle of any of this: the worst the child sees is one object lost. */
#ifndef OTSHIM_POOL_H
#define OTSHIM_POOL_H

#include "base/base.h"
#include <stdatomic.h>

#define POOL_CHUNK 64u
#define POOL_CHUNKS_MAX 4096u

/* A member of every pooled object. */
struct pool_link {
    _Atomic uint32_t next; /* index + 1 of the next free object, 0: last */
    uint32_t index;
};

struct pool {
    uint32_t object_bytes; /* multiple of 64 */
    uint32_t link_offset;
    uint32_t limit;            /* objects */
    _Atomic uint64_t head;     /* tag << 32 | index + 1 */
    _Atomic uint32_t fresh;    /* indices below it have been handed out at least once */
    _Atomic(char *) chunks[POOL_CHUNKS_MAX];
};

#define POOL_INIT(type, member, max)                                                                                              \
    {                                                                                                                             \
        .object_bytes = (sizeof(type) + 63u) & ~63u, .link_offset = offsetof(type, member), .limit = (max)                        \
    }

/* NULL when the limit is reached or the kernel gives no memory. Fresh objects are zero; used ones are as they were left. May change errno. */
void *pool_get(struct pool *pool);
void pool_put(struct pool *pool, void *object);
/* The object of this index, NULL if there never was one. */
void *pool_at(struct pool *pool, uint32_t index);

#endif
