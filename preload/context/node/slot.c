/* slot.c - for whom does this thread of Node's work? See node.h. */
#include "base/base.h"
#include "base/pool.h"
#include "context/node/node.h"
#include <stdatomic.h>
#include <string.h>

OTSHIM_TLS struct node_slot *volatile node_slot;
struct node_slot node_slot_nobody;

static struct pool slots = POOL_INIT(sizeof(struct node_slot), 8, 4096);

struct node_slot *node_slot_new(void)
{
    struct node_slot *slot = pool_get(&slots);
    if (slot != NULL)
        memset(slot, 0, sizeof *slot);
    return slot;
}

void node_slot_free(struct node_slot *slot)
{
    pool_put(&slots, slot);
}

/* Written by this very thread, and valid only while it is inside of a native function: a signal handler finds it whole or not valid. */
int node_current(struct ctx *out)
{
    struct node_slot *slot = node_slot;
    if (OTSHIM_LIKELY(slot == NULL))
        return -1;
    if (atomic_load_explicit(&slot->valid, memory_order_acquire) != 1)
        return 0;
    *out = slot->now;
    return 1;
}
