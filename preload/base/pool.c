/* pool.c - see pool.h for the idea. */
#include "base/pool.h"
#include "base/base.h"
#include "base/raw.h"
#include <sys/mman.h>

/* In front of each object. */
struct pool_link {
    uint32_t index;
    _Atomic uint32_t next; /* index + 1 of the next free object; 0: none */
    uint64_t pad;
};
_Static_assert(sizeof(struct pool_link) == 16, "objects stay aligned to 16");

static size_t stride(const struct pool *pool)
{
    return sizeof(struct pool_link) + ((pool->object_bytes + 15u) & ~15u);
}

/* Chunk k holds first_objects << k objects, so the objects before it are first_objects * (2^k - 1). */
static void place(const struct pool *pool, uint32_t index, unsigned *chunk, uint32_t *at)
{
    uint32_t scaled = index / pool->first_objects + 1;
    *chunk = 31u - (unsigned)__builtin_clz(scaled);
    *at = index - pool->first_objects * ((1u << *chunk) - 1u);
}

static struct pool_link *link_of(struct pool *pool, uint32_t index)
{
    unsigned chunk;
    uint32_t at;
    place(pool, index, &chunk, &at);
    return (struct pool_link *)(void *)(atomic_load_explicit(&pool->chunks[chunk], memory_order_acquire) +
                                        (size_t)at * stride(pool));
}

static bool map_chunk(struct pool *pool, unsigned chunk)
{
    if (chunk >= POOL_CHUNKS)
        return false;
    if (atomic_load_explicit(&pool->chunks[chunk], memory_order_acquire) != NULL)
        return true;
    size_t bytes = ((size_t)pool->first_objects << chunk) * stride(pool);
    long base = raw_syscall6(SYS_mmap, 0, (long)bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (raw_failed(base))
        return false;
    uint8_t *expected = NULL;
    if (!atomic_compare_exchange_strong(&pool->chunks[chunk], &expected, (uint8_t *)base))
        raw_syscall2(SYS_munmap, base, (long)bytes); /* another thread was first */
    return true;
}

static void *make(struct pool *pool)
{
    uint32_t index = atomic_load_explicit(&pool->made, memory_order_relaxed);
    do {
        unsigned chunk;
        uint32_t at;
        if (index >= pool->max_objects)
            return NULL;
        place(pool, index, &chunk, &at);
        if (!map_chunk(pool, chunk))
            return NULL;
    } while (!atomic_compare_exchange_weak(&pool->made, &index, index + 1));
    struct pool_link *link = link_of(pool, index);
    link->index = index;
    return link + 1;
}

void *pool_get(struct pool *pool)
{
    uint64_t top = atomic_load_explicit(&pool->top, memory_order_acquire);
    while ((uint32_t)top != 0) {
        struct pool_link *link = link_of(pool, (uint32_t)top - 1);
        uint64_t next = ((top >> 32) + 1) << 32 | atomic_load_explicit(&link->next, memory_order_relaxed);
        if (atomic_compare_exchange_weak_explicit(&pool->top, &top, next, memory_order_acquire, memory_order_acquire))
            return link + 1;
    }
    return make(pool);
}

void pool_put(struct pool *pool, void *object)
{
    struct pool_link *link = (struct pool_link *)object - 1;
    uint64_t top = atomic_load_explicit(&pool->top, memory_order_relaxed);
    uint64_t next;
    do {
        atomic_store_explicit(&link->next, (uint32_t)top, memory_order_relaxed);
        next = ((top >> 32) + 1) << 32 | (link->index + 1);
    } while (!atomic_compare_exchange_weak_explicit(&pool->top, &top, next, memory_order_release, memory_order_relaxed));
}
