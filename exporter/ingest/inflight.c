/* inflight.c - see inflight.h.
 *
 * A slot is guarded like a seqlock: its state is odd while it is written and never the same twice. We load the state (acquire), copy the
 * slot, and believe the copy if the state is unchanged (after an acquire fence, so that the copying cannot move behind the second
 * load). A slot that is being written right now is tried a few times and then left out: it shows again at the next look. Of a process that
 * died in the middle of writing, that slot stays odd for ever, and is lost: what it says cannot be trusted. */
#include "ingest/inflight.h"
#include <otshim/record.h>
#include <string.h>

#define INFLIGHT_TRIES 3

static _Atomic uint64_t *inflight_state(const struct otshim_inflight *slot)
{
    return (_Atomic uint64_t *)(uintptr_t)&slot->state;
}

unsigned inflight_count(const struct memory *memory)
{
    unsigned count = 0;

    for (unsigned i = 0; i < memory->inflight_slots; i++)
        count += atomic_load_explicit(inflight_state(&memory->inflight[i]), memory_order_relaxed) != 0;
    return count;
}

static bool inflight_addr_valid(const struct otshim_addr *addr)
{
    return addr->family == 0 || addr->family == 1 || addr->family == 4 || addr->family == 6;
}

bool inflight_valid(const struct otshim_inflight *slot)
{
    static const uint8_t zero[16];

    return slot->kind >= OTSHIM_SPAN_SERVER && slot->kind <= OTSHIM_SPAN_KIND_LAST && slot->protocol <= OTSHIM_PROTOCOL_LAST &&
           slot->parent_rule <= OTSHIM_PARENT_OWN_HEADER && slot->method_len <= sizeof slot->method &&
           slot->target_len <= sizeof slot->target && slot->host_len <= sizeof slot->host && slot->start_ns < UINT64_MAX / 4 &&
           memcmp(slot->trace_id, zero, 16) != 0 && memcmp(slot->span_id, zero, 8) != 0 && inflight_addr_valid(&slot->peer) &&
           inflight_addr_valid(&slot->local);
}

static bool inflight_copy(const struct otshim_inflight *slot, struct otshim_inflight *copy)
{
    for (int i = 0; i < INFLIGHT_TRIES; i++) {
        uint64_t before = atomic_load_explicit(inflight_state(slot), memory_order_acquire);

        if (before == 0)
            return false;
        if ((before & 1) != 0)
            continue;
        memcpy(copy, slot, sizeof *copy);
        atomic_thread_fence(memory_order_acquire);
        if (atomic_load_explicit(inflight_state(slot), memory_order_relaxed) == before)
            return inflight_valid(copy);
    }
    return false;
}

unsigned inflight_each(const struct memory *memory, void (*visit)(void *arg, const struct otshim_inflight *slot), void *arg)
{
    unsigned count = 0;

    for (unsigned i = 0; i < memory->inflight_slots; i++) {
        struct otshim_inflight copy;

        if (inflight_copy(&memory->inflight[i], &copy)) {
            visit(arg, &copy);
            count++;
        }
    }
    return count;
}
