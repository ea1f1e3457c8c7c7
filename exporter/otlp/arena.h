/* arena.h - memory that is used for one batch and given back as a whole: the protobuf-c tree has thousands of small nodes that all die
 * together. Allocation never fails half-way in a caller's hands: a failure is remembered, and asked for once at the end. */
#ifndef OTSHIM_EXPORTER_OTLP_ARENA_H
#define OTSHIM_EXPORTER_OTLP_ARENA_H

#include <stdbool.h>
#include <stddef.h>

struct arena_chunk;

struct arena {
    struct arena_chunk *chunks; /* newest first */
    bool failed;                /* some arena_alloc returned NULL */
};

/* Zeroed, aligned for any object; NULL when memory is short (and arena->failed is set). size may be 0. */
void *arena_alloc(struct arena *arena, size_t size);
/* count objects of `size` bytes, overflow checked. */
void *arena_array(struct arena *arena, size_t count, size_t size);
void arena_free(struct arena *arena);

#endif
