/* inflight.c - the picture of what is in flight, for an exporter that may have to finish it.
 *
 * Whose slot is it? is decided in private memory: inflight_owner[i] holds the span id of the span that has slot i, 0 when it is free. The
 * slot in the shared ring is only a picture of it: nothing there (an exporter that writes nonsense, a ring that was replaced) can give a
 * slot to two spans or lose one. Handle = index + 1, so it stays good when the ring changes.
 *
 * A picture is a sequence lock (ring.h): odd while its owner writes it, even and never twice the same otherwise. The numbers start from
 * the span id, which is random.
 *
 * When a ring is replaced (handover.c), the pictures of spans begun in the old one have to appear in the new one, while their owners may
 * be ending them. `moves` is odd as long as that goes on.
 *   - The mover copies slot i only if its span still owns it, and looks again after the copy: if not, it takes the copy back.
 *   - The owner clears the picture, gives up ownership, and, if there was a move at any time of this, clears once more, in the previous
 *     and in the current ring, until no other move has begun meanwhile.
 * Ownership and picture are both accessed with sequential consistency: either the mover sees that the span has ended, or the owner sees the
 * copy. All clearing is by compare-and-swap on the state that was read together with the span id, so nobody clears a successor's picture.
 * A slot whose picture is not free is not drawn over, so a new owner that meets the mover's copy tries another slot. */
#include "base/base.h"
#include "span/handover.h"
#include "span/identity.h"
#include "span/span.h"
#include <string.h>

#define STATE_STEP 2u

static uint64_t key_of(const uint8_t span_id[8])
{
    uint64_t key;
    memcpy(&key, span_id, sizeof(key));
    return key;
}

/* Even, not 0; the low bits count the owner's changes. */
static uint64_t first_state(uint64_t key)
{
    const uint64_t state = key & ~0xffull;
    return state != 0 ? state : 0x100;
}

static size_t copy_cut(char *to, size_t room, const char *from, size_t len)
{
    if (from == NULL)
        return 0;
    if (len > room)
        len = room;
    memcpy(to, from, len);
    return len;
}

/* ---- claiming ------------------------------------------------------------------------------------------------------------------------ */

/* Where this thread looks first: the slot that it gave up last, whose picture is still in its cache. Threads start apart from each other. */
static OTSHIM_TLS uint32_t hint, hint_is_set;
#define THREAD_DISTANCE 16u

/* A free index at or after the hint, or -1. */
static int claim(uint64_t key, uint32_t tid)
{
    const uint32_t first = hint_is_set ? hint : tid * THREAD_DISTANCE;
    for (uint32_t i = 0; i < OTSHIM_INFLIGHT_SLOTS; i++) {
        const uint32_t index = (first + i) % OTSHIM_INFLIGHT_SLOTS;
        uint64_t nobody = 0;
        if (atomic_load_explicit(&identity.inflight_owner[index], memory_order_relaxed) == 0 &&
            atomic_compare_exchange_strong(&identity.inflight_owner[index], &nobody, key))
            return (int)index;
    }
    return -1;
}

/* False: the span does not own it (it is the parent's, of before a fork). */
static bool disclaim(uint32_t index, uint64_t key)
{
    if (!atomic_compare_exchange_strong(&identity.inflight_owner[index], &key, 0))
        return false;
    hint = index;
    hint_is_set = 1;
    return true;
}

/* ---- drawing ------------------------------------------------------------------------------------------------------------------------- */

/* What is only known with the head: an inbound traceparent puts the span into its caller's trace. */
static void draw_head(struct otshim_inflight *slot, const struct otshim_span_rec *rec, const struct inflight_names *names)
{
    memcpy(slot->trace_id, rec->trace_id, sizeof(slot->trace_id));
    memcpy(slot->parent_id, rec->parent_id, sizeof(slot->parent_id));
    slot->protocol = rec->protocol;
    slot->trace_flags = rec->trace_flags;
    slot->parent_rule = rec->parent_rule;
    slot->method_len = (uint8_t)copy_cut(slot->method, sizeof(slot->method), names->method, names->method_len);
    slot->target_len = (uint8_t)copy_cut(slot->target, sizeof(slot->target), names->target, names->target_len);
    slot->host_len = (uint8_t)copy_cut(slot->host, sizeof(slot->host), names->host, names->host_len);
}

static bool draw(struct otshim_inflight *slot, const struct otshim_span_rec *rec, const struct inflight_names *names, uint64_t key,
                 uint32_t tid)
{
    uint64_t state = 0;
    const uint64_t first = first_state(key);
    if (!atomic_compare_exchange_strong(&slot->state, &state, first + 1))
        return false;
    atomic_thread_fence(memory_order_release); /* the odd state before the contents */
    slot->start_ns = rec->start_ns;
    memcpy(slot->span_id, rec->span_id, sizeof(slot->span_id));
    slot->tid = tid;
    slot->kind = rec->kind;
    slot->peer = rec->peer;
    slot->local = rec->local;
    draw_head(slot, rec, names);
    atomic_store(&slot->state, first + STATE_STEP);
    return true;
}

/* Clears the picture if it is this span's. */
static void clear(struct ring *ring, uint32_t index, const uint8_t span_id[8])
{
    struct otshim_inflight *slot = &ring_inflight(ring)[index];
    uint64_t state = atomic_load(&slot->state);
    while (state != 0 && (state & 1) == 0 && memcmp(slot->span_id, span_id, 8) == 0)
        if (atomic_compare_exchange_strong(&slot->state, &state, 0))
            return;
}

uint32_t inflight_begin(const struct otshim_span_rec *rec, const struct inflight_names *names)
{
    const uint64_t key = key_of(rec->span_id);
    const uint32_t tid = identity_tid();
    struct ring *ring = identity_enter(&identity.current);
    /* The first request of a process has no ring yet; it is made now, for its picture. */
    if (ring == NULL && span_first_ring(rec->start_ns))
        ring = identity_enter(&identity.current);
    if (ring == NULL || key == 0)
        return 0;
    uint32_t handle = 0;
    for (int attempt = 0; attempt < 4 && handle == 0; attempt++) {
        const int index = claim(key, tid);
        if (index < 0)
            break;
        if (draw(&ring_inflight(ring)[index], rec, names, key, tid))
            handle = (uint32_t)index + 1;
        else if (disclaim((uint32_t)index, key))
            hint = (uint32_t)index + 1; /* the mover's copy is in it */
    }
    if (handle == 0)
        ring_count(ring, OTSHIM_COUNT_INFLIGHT_FULL, 1);
    identity_leave(ring);
    return handle;
}

void inflight_name(uint32_t handle, const struct otshim_span_rec *rec, const struct inflight_names *names)
{
    const uint32_t index = handle - 1;
    if (index >= OTSHIM_INFLIGHT_SLOTS || atomic_load(&identity.inflight_owner[index]) != key_of(rec->span_id))
        return;
    struct ring *ring = identity_enter(&identity.current);
    if (ring == NULL)
        return;
    struct otshim_inflight *slot = &ring_inflight(ring)[index];
    uint64_t state = atomic_load(&slot->state);
    /* Not there: it has not been moved to this ring yet, and stays nameless. It is a picture. */
    if (state != 0 && (state & 1) == 0 && memcmp(slot->span_id, rec->span_id, 8) == 0 &&
        atomic_compare_exchange_strong(&slot->state, &state, state + 1)) {
        atomic_thread_fence(memory_order_release);
        draw_head(slot, rec, names);
        atomic_store(&slot->state, state + STATE_STEP);
    }
    identity_leave(ring);
}

static void clear_everywhere(uint32_t index, const uint8_t span_id[8])
{
    struct ring *ring = identity_enter(&identity.previous);
    if (ring != NULL) {
        clear(ring, index, span_id);
        identity_leave(ring);
    }
    ring = identity_enter(&identity.current);
    if (ring != NULL) {
        clear(ring, index, span_id);
        identity_leave(ring);
    }
}

void inflight_end(uint32_t handle, const uint8_t span_id[8])
{
    const uint32_t index = handle - 1;
    const uint64_t key = key_of(span_id);
    if (index >= OTSHIM_INFLIGHT_SLOTS || key == 0 || atomic_load(&identity.inflight_owner[index]) != key)
        return;
    uint32_t moves = atomic_load(&identity.moves);
    bool moving = (moves & 1) != 0;
    clear_everywhere(index, span_id);
    if (!disclaim(index, key))
        return;
    for (;;) {
        const uint32_t now = atomic_load(&identity.moves);
        if (now == moves && !moving)
            return;
        moves = now;
        moving = false;
        clear_everywhere(index, span_id);
    }
}

/* ---- moving to another ring ------------------------------------------------------------------------------------------------------------- */

static void move_slot(const struct otshim_inflight *from, struct otshim_inflight *to, _Atomic uint64_t *owner)
{
    const uint64_t state = atomic_load(&from->state);
    if (state == 0 || (state & 1) != 0)
        return;
    const uint64_t key = key_of(from->span_id);
    uint64_t empty = 0;
    if (key == 0 || atomic_load(owner) != key || !atomic_compare_exchange_strong(&to->state, &empty, state + 1))
        return;
    atomic_thread_fence(memory_order_release);
    memcpy((uint8_t *)to + sizeof(to->state), (const uint8_t *)from + sizeof(from->state), sizeof(*to) - sizeof(to->state));
    uint64_t drawn = state + STATE_STEP;
    atomic_store(&to->state, drawn);
    if (atomic_load(owner) != key) /* it ended meanwhile, and may have met the odd state */
        atomic_compare_exchange_strong(&to->state, &drawn, 0);
}

void inflight_move(const struct ring *from, const struct ring *to)
{
    for (uint32_t i = 0; i < OTSHIM_INFLIGHT_SLOTS; i++)
        if (atomic_load_explicit(&identity.inflight_owner[i], memory_order_relaxed) != 0)
            move_slot(&ring_inflight(from)[i], &ring_inflight(to)[i], &identity.inflight_owner[i]);
}
