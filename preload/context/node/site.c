/* site.c - keeps where in the program a call of Node's is made; and says to JavaScript which destinations are worth it. See node.h.
 *
 * When a call has proved slow there is nobody to ask: its answer is read by libuv, outside of JavaScript, or by another thread. So what is kept is the
 * text itself, which sites.js had ready; and if it had none, the number of the destination, which gets hot now. */
#include "base/base.h"
#include "context/node/node.h"
#include <stdatomic.h>
#include <string.h>

struct kept {
    struct node_slot *slot; /* type-stable: if its thread is gone, and another has it, that one notes some calls in vain */
    uint32_t destination, line;
    uint16_t stack_len, function_len, file_len;
    char text[NODE_SITE_TEXT];
};
_Static_assert(sizeof(struct kept) <= RUNTIME_SITE_BYTES, "is kept there");

/* As node_current: written by this thread, which is inside of a native function. */
bool node_site_keep(void *where)
{
    struct node_slot *slot = node_slot;
    if (slot == NULL)
        return false;
    const struct node_site *site = &slot->site;
    const uint32_t destination = atomic_load_explicit(&site->destination, memory_order_acquire);
    if (destination == 0 || destination > NODE_DESTINATIONS || site->stack_len > NODE_SITE_TEXT ||
        site->function_len > NODE_SITE_TEXT || site->file_len > NODE_SITE_TEXT)
        return false;
    struct kept *kept = where;
    const size_t len = (size_t)site->stack_len + site->function_len + site->file_len;
    if (len > NODE_SITE_TEXT)
        return false;
    kept->slot = slot;
    kept->destination = destination;
    kept->line = site->line;
    kept->stack_len = (uint16_t)site->stack_len;
    kept->function_len = (uint16_t)site->function_len;
    kept->file_len = (uint16_t)site->file_len;
    memcpy(kept->text, site->text, len);
    return true;
}

/* A name that is too long is not told: half of one is another's, perhaps. */
static uint16_t copy(char *to, size_t room, const char *from, size_t len)
{
    if (len > room)
        return 0;
    memcpy(to, from, len);
    return (uint16_t)len;
}

bool node_site_words(const void *where, struct runtime_site_words *words)
{
    const struct kept *kept = where;
    atomic_store_explicit(&kept->slot->heat[kept->destination], NODE_HOT_CALLS, memory_order_relaxed);
    atomic_store_explicit(&kept->slot->heat[0], 1, memory_order_release);
    if (kept->stack_len == 0)
        return false;
    const char *function = kept->text + kept->stack_len, *file = function + kept->function_len;
    words->stack_len = copy(words->stack, sizeof words->stack, kept->text, kept->stack_len);
    words->function_len = copy(words->function, sizeof words->function, function, kept->function_len);
    words->file_len = copy(words->file, sizeof words->file, file, kept->file_len);
    words->line = kept->line;
    return true;
}
