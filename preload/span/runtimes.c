/* runtimes.c - what the adapters to runtimes found out, in plain memory, and its picture in the ring (ring.h).
 *
 * An adapter may know before there is a ring; rings are replaced; and a forked child goes on with what its parent found out. So the facts are
 * kept here and drawn into each ring after it was published, and a new fact is drawn after it was kept: one of the two sees the other. An
 * entry is written once by whoever turns its state from FREE to WRITTEN, here and in the ring, so nobody waits for anybody; an entry whose
 * writer was stopped in the middle (a fork in another thread) stays unread. */
#include "span/handover.h"
#include "span/identity.h"
#include "span/span.h"
#include <string.h>

static struct otshim_runtime facts[OTSHIM_RUNTIMES];

static bool claim(struct otshim_runtime *entry)
{
    uint32_t nobody = OTSHIM_RUNTIME_FREE;
    return atomic_compare_exchange_strong(&entry->state, &nobody, OTSHIM_RUNTIME_WRITTEN);
}

static bool is_there(const struct otshim_runtime *entry)
{
    return atomic_load_explicit(&entry->state, memory_order_acquire) == OTSHIM_RUNTIME_THERE;
}

void runtimes_draw(struct ring *ring)
{
    for (unsigned i = 0; i < OTSHIM_RUNTIMES; i++) {
        struct otshim_runtime *entry = &ring->shm->runtimes[i];
        if (!is_there(&facts[i]) || !claim(entry))
            continue;
        memcpy(entry->name, facts[i].name, sizeof entry->name);
        memcpy(entry->version, facts[i].version, sizeof entry->version);
        memcpy(entry->why_not, facts[i].why_not, sizeof entry->why_not);
        atomic_store_explicit(&entry->state, OTSHIM_RUNTIME_THERE, memory_order_release);
    }
}

/* The rest of the entry is zero. */
static void put(char *to, size_t room, const char *text)
{
    const size_t len = text != NULL ? strlen(text) : 0;
    if (len != 0)
        memcpy(to, text, len < room ? len : room - 1);
}

static bool says(const char *kept, size_t room, const char *text)
{
    return strncmp(kept, text != NULL ? text : "", room - 1) == 0;
}

/* Is that what the last entry of this name says? */
static bool is_known(const char *name, const char *version, const char *why_not)
{
    for (unsigned i = OTSHIM_RUNTIMES; i-- > 0;)
        if (is_there(&facts[i]) && says(facts[i].name, sizeof facts[i].name, name))
            return says(facts[i].version, sizeof facts[i].version, version) &&
                   says(facts[i].why_not, sizeof facts[i].why_not, why_not);
    return false;
}

bool span_runtime(const char *name, const char *version, const char *why_not)
{
    if (is_known(name, version, why_not))
        return false;
    for (unsigned i = 0; i < OTSHIM_RUNTIMES; i++) {
        if (!claim(&facts[i]))
            continue;
        put(facts[i].name, sizeof facts[i].name, name);
        put(facts[i].version, sizeof facts[i].version, version);
        put(facts[i].why_not, sizeof facts[i].why_not, why_not);
        atomic_store(&facts[i].state, OTSHIM_RUNTIME_THERE);
        struct ring *ring = identity_enter(&identity.current);
        if (ring != NULL) {
            runtimes_draw(ring);
            identity_leave(ring);
        }
        return true;
    }
    return false;
}
