/* lookups.c - for whom does a thread of libuv's pool look this name up?
 *
 * dns.lookup() leaves the work to a thread of libuv's pool, by nothing but a copy of the name. So where JavaScript asks for a look-up, name and
 * owner are noted, and the thread that finds itself looking up that name takes the note. Two look-ups of one name that are under way at the
 * same moment are told apart by nobody: while all of them are one owner's each is his, and else none is anybody's until they are all over.
 *
 * The table is small, and locked for a few dozen instructions. Who does not get the lock, or no room, cannot say any more for whom look-ups are:
 * from then on nobody does. */
#include "base/base.h"
#include "base/raw.h"
#include "context/node/node.h"
#include <stdatomic.h>
#include <string.h>

#define NAMES 64u
#define TRIES 1000u

enum { OFF, NOTED, LOST };
static _Atomic int state;

static _Atomic uint32_t locked;
static struct note {
    uint32_t pending; /* 0: free */
    bool mixed, owned;
    uint16_t len;
    char name[OTSHIM_NAME_MAX];
    struct ctx owner;
} notes[NAMES];

static bool lock(void)
{
    for (unsigned i = 0; i < TRIES; i++) {
        uint32_t no = 0;
        if (atomic_compare_exchange_strong_explicit(&locked, &no, otshim_fork_generation + 1, memory_order_acquire,
                                                    memory_order_relaxed))
            return true;
        if (i > TRIES / 2)
            raw_syscall1(SYS_sched_yield, 0);
    }
    return false;
}

static void unlock(void)
{
    atomic_store_explicit(&locked, 0, memory_order_release);
}

static struct note *find(const char *name, size_t len)
{
    for (unsigned i = 0; i < NAMES; i++)
        if (notes[i].pending != 0 && notes[i].len == len && memcmp(notes[i].name, name, len) == 0)
            return &notes[i];
    return NULL;
}

static bool note(const char *name, size_t len, const struct ctx *owner)
{
    struct note *at = find(name, len);
    if (at != NULL) {
        at->mixed |= at->owned != (owner != NULL) || (owner != NULL && !ctx_same_request(&at->owner, owner));
        at->pending++;
        return true;
    }
    for (unsigned i = 0; i < NAMES; i++) {
        if (notes[i].pending != 0)
            continue;
        notes[i] = (struct note){.pending = 1, .owned = owner != NULL, .len = (uint16_t)len};
        memcpy(notes[i].name, name, len);
        if (owner != NULL)
            notes[i].owner = *owner;
        return true;
    }
    return false;
}

void node_lookups_noted(bool all)
{
    int off = OFF;
    if (!all)
        atomic_store(&state, LOST);
    else
        atomic_compare_exchange_strong(&state, &off, NOTED);
}

void node_lookup_note(const char *name, size_t len)
{
    struct ctx owner;
    if (atomic_load(&state) != NOTED)
        return;
    bool done = false;
    if (len <= OTSHIM_NAME_MAX && lock()) {
        done = note(name, len, node_current(&owner) == 1 ? &owner : NULL);
        unlock();
    }
    if (!done)
        atomic_store(&state, LOST);
}

enum node_lookup node_lookup_take(const char *name, size_t len, struct ctx *owner)
{
    int now = atomic_load_explicit(&state, memory_order_acquire);
    if (OTSHIM_LIKELY(now == OFF))
        return NODE_LOOKUP_NOT_OURS;
    if (now == LOST || !lock()) {
        atomic_store(&state, LOST);
        return NODE_LOOKUP_UNKNOWN;
    }
    enum node_lookup answer = NODE_LOOKUP_NOT_OURS;
    struct note *at = find(name, len);
    if (at != NULL) {
        at->pending--;
        answer = at->mixed ? NODE_LOOKUP_UNKNOWN : at->owned ? NODE_LOOKUP_OWNED : NODE_LOOKUP_NOT_OURS;
        *owner = at->owner;
    }
    unlock();
    return answer;
}
