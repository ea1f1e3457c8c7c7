/* intern.c - an open-addressed hash table that only grows.
 *
 * A slot is free (0), being filled (1) or full (2). Who finds it free claims it by compare-and-swap, fills it, and publishes it with a release
 * store; who meets a slot being filled goes on to the next one: the same text may then live twice, which costs a slot and nothing else. */
#include "conn/intern.h"
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

struct slot {
    _Atomic uint8_t state;
    uint8_t len;
    char text[INTERN_TEXT_MAX];
};

static _Atomic(struct slot *) slots;

/* Looked for in at most this many places: a full table must not cost a connect a thousand comparisons. */
#define PROBES 16u

static struct slot *slots_ensure(void)
{
    struct slot *have = atomic_load_explicit(&slots, memory_order_acquire);
    if (have != NULL)
        return have;
    size_t bytes = sizeof(struct slot) * INTERN_SLOTS;
    struct slot *made = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (made == MAP_FAILED)
        return NULL;
    if (atomic_compare_exchange_strong_explicit(&slots, &have, made, memory_order_acq_rel, memory_order_acquire))
        return made;
    munmap(made, bytes);
    return have;
}

static uint32_t hash(const char *text, size_t len)
{
    uint32_t h = 2166136261u; /* FNV-1a */
    for (size_t i = 0; i < len; i++)
        h = (h ^ (uint8_t)text[i]) * 16777619u;
    return h ^ h >> 15;
}

uint16_t intern_put(const char *text, size_t len)
{
    struct slot *table;
    if (len == 0 || len > INTERN_TEXT_MAX || (table = slots_ensure()) == NULL)
        return 0;
    uint32_t at = hash(text, len);
    for (uint32_t probe = 0; probe < PROBES; probe++) {
        uint32_t index = (at + probe) % INTERN_SLOTS;
        struct slot *slot = &table[index];
        uint8_t state = atomic_load_explicit(&slot->state, memory_order_acquire);
        if (state == 0 &&
            atomic_compare_exchange_strong_explicit(&slot->state, &state, 1, memory_order_acquire, memory_order_acquire)) {
            slot->len = (uint8_t)len;
            memcpy(slot->text, text, len);
            atomic_store_explicit(&slot->state, 2, memory_order_release); /* pairs with the acquire loads here and in intern_get */
            return (uint16_t)(index + 1);
        }
        if (state == 2 && slot->len == len && memcmp(slot->text, text, len) == 0)
            return (uint16_t)(index + 1);
    }
    return 0;
}

const char *intern_get(uint16_t handle, size_t *len)
{
    struct slot *table = atomic_load_explicit(&slots, memory_order_acquire);
    *len = 0;
    if (handle == 0 || table == NULL || handle > INTERN_SLOTS)
        return NULL;
    struct slot *slot = &table[handle - 1];
    if (atomic_load_explicit(&slot->state, memory_order_acquire) != 2)
        return NULL;
    *len = slot->len;
    return slot->text;
}
