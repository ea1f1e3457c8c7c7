/* pool.h - objects of one size from memory of our own.
 *
 * The host's malloc is not ours to call (it may be in the very call that a signal interrupted), so state that must live longer than a
 * call comes from here. Memory is mapped in chunks, each twice the size of the one before, and never given back: an object's address
 * stays an object of this pool for ever, so that a stale pointer may be looked at and recognised (type-stable memory).
 *
 * Free objects form a stack whose top is one 64-bit word, index and tag: the tag makes every pop and push leave a different word, so
 * that a thread which was interrupted between reading the top and swapping it cannot mistake a re-used object for the one it saw (ABA).
 * The link of a free object is kept in front of the object, not in it: what a stale reader sees in there is untouched.
 *
 * Async-signal-safe, lock-free, errno preserved. After fork the child has a copy of everything, like any private memory. */
#ifndef OTSHIM_POOL_H
#define OTSHIM_POOL_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define POOL_CHUNKS 16

struct pool {
    uint32_t object_bytes;  /* set by the initialiser: rounded up to 16 in here */
    uint32_t first_objects; /* in the first chunk; a power of two */
    uint32_t max_objects;   /* no more than this, ever */
    _Atomic uint32_t made;  /* indices handed out for the first time so far */
    _Atomic uint64_t top;   /* tag << 32 | index + 1; low half 0: empty */
    _Atomic(uint8_t *) chunks[POOL_CHUNKS];
};

/* static struct pool conns = POOL_INIT(sizeof(struct conn), 64, 65536); */
#define POOL_INIT(bytes, first, max)                                                                                               \
    {                                                                                                                              \
        .object_bytes = (bytes), .first_objects = (first), .max_objects = (max)                                                    \
    }

/* Zeroed the first time an object is handed out, as it was put back afterwards. Aligned to 16. NULL: max_objects, or no memory. */
void *pool_get(struct pool *pool);
void pool_put(struct pool *pool, void *object);

#endif
