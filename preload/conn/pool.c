/* pool.c - see pool.h. */
#include "conn/pool.h"
#include <sys/mman.h>

static struct pool_link *link_of(const struct pool *pool, void *object)
{
    return (struct pool_link *)((char *)object + pool->link_offset);
}

void *pool_at(struct pool *pool, uint32_t index)
{
    uint32_t chunk = index / POOL_CHUNK;
    if (chunk >= POOL_CHUNKS_MAX)
        return NULL;
    char *base = atomic_load_explicit(&pool->chunks[chunk], memory_order_acquire);
    return base != NULL ? base + (size_t)(index % POOL_CHUNK) * pool->object_bytes : NULL;
}

/* Two threads may map the same chunk; the one that comes second gives its mapping back. */
static char *chunk_ensure(struct pool *pool, uint32_t chunk)
{
    char *base = atomic_load_explicit(&pool->chunks[chunk], memory_order_acquire);
    if (base != NULL)
        return base;
    size_t bytes = (size_t)pool->object_bytes * POOL_CHUNK;
    char *made = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (made == MAP_FAILED)
        return NULL;
    if (atomic_compare_exchange_strong_explicit(&pool->chunks[chunk], &base, made, memory_order_acq_rel, memory_order_acquire))
        return made;
    munmap(made, bytes);
    return base;
}

static void *take_fresh(struct pool *pool)
{
    uint32_t index = atomic_load_explicit(&pool->fresh, memory_order_relaxed);
    do {
        if (index >= pool->limit || index / POOL_CHUNK >= POOL_CHUNKS_MAX || chunk_ensure(pool, index / POOL_CHUNK) == NULL)
            return NULL;
    } while (!atomic_compare_exchange_weak_explicit(&pool->fresh, &index, index + 1, memory_order_relaxed, memory_order_relaxed));
    void *object = pool_at(pool, index);
    link_of(pool, object)->index = index;
    return object;
}

void *pool_get(struct pool *pool)
{
    uint64_t head = atomic_load_explicit(&pool->head, memory_order_acquire);
    while ((uint32_t)head != 0) {
        void *object = pool_at(pool, (uint32_t)head - 1);
        /* May be overtaken here and read the link of an object in use: harmless, the tag then fails the exchange. */
        uint32_t next = atomic_load_explicit(&link_of(pool, object)->next, memory_order_relaxed);
        uint64_t want = ((head >> 32) + 1) << 32 | next;
        if (atomic_compare_exchange_weak_explicit(&pool->head, &head, want, memory_order_acq_rel, memory_order_acquire))
            return object;
    }
    return take_fresh(pool);
}

void pool_put(struct pool *pool, void *object)
{
    struct pool_link *link = link_of(pool, object);
    uint64_t head = atomic_load_explicit(&pool->head, memory_order_relaxed);
    uint64_t want;
    do {
        atomic_store_explicit(&link->next, (uint32_t)head, memory_order_relaxed);
        want = ((head >> 32) + 1) << 32 | (link->index + 1);
    } while (!atomic_compare_exchange_weak_explicit(&pool->head, &head, want, memory_order_release, memory_order_relaxed));
}
