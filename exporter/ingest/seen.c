/* seen.c - see seen.h. A plain ring of ids. Questions come in the order in which the ids were added (moving keeps it), so the place after
 * the last answer is looked at first, and a whole search is rare. */
#include "ingest/seen.h"
#include <otshim/record.h>
#include <stdlib.h>
#include <string.h>

struct seen *seen_new(uint64_t ring_bytes)
{
    size_t size = (size_t)(ring_bytes / (sizeof(struct otshim_rec) + sizeof(struct otshim_span_rec)));
    struct seen *seen = calloc(1, sizeof *seen + size * sizeof seen->ids[0]);

    if (seen == NULL)
        return NULL;
    seen->refs = 1;
    seen->size = size;
    return seen;
}

struct seen *seen_ref(struct seen *seen)
{
    seen->refs++;
    return seen;
}

void seen_unref(struct seen *seen)
{
    if (seen != NULL && --seen->refs == 0)
        free(seen);
}

static uint64_t seen_id(const uint8_t span_id[8])
{
    uint64_t id;

    memcpy(&id, span_id, sizeof id);
    return id;
}

void seen_add(struct seen *seen, const uint8_t span_id[8])
{
    seen->ids[seen->next] = seen_id(span_id);
    seen->next = seen->next + 1 < seen->size ? seen->next + 1 : 0;
}

bool seen_has(struct seen *seen, const uint8_t span_id[8])
{
    uint64_t id = seen_id(span_id);

    for (size_t n = 0, i = seen->cursor; n < seen->size; n++) {
        size_t after = i + 1 < seen->size ? i + 1 : 0;

        if (seen->ids[i] == id) {
            seen->cursor = after;
            return true;
        }
        i = after;
    }
    return false;
}
