/* tracestate.c - the tracestate texts that are still to be passed on.
 *
 * A context is a small value that is copied everywhere and never freed, so the up to 512 bytes of its tracestate cannot be in it. They lie
 * in a ring of slots; the handle in the context is the number of the put, whose low bits are the slot. The slot says by that number whose
 * text it holds, so that a handle whose slot was used again finds nothing: lost, and counted.
 *
 * A slot is a sequence lock with a number for a sequence. Writer: swaps the number of the text that was there for WRITING (one
 * compare-and-swap: it owns the slot), writes the words relaxed, stores its own number release. Reader: loads the number acquire, reads the
 * words relaxed, fence acquire, loads the number again; equal means that no writer came between. A writer that never comes back (its
 * thread was in here at a fork, or a handler longjmp'ed away) leaves one slot in WRITING for good: the next put that hits it takes
 * the slot after it. */
#include "base/raw.h"
#include "context/context.h"
#include "span/span.h"

#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

#define WRITING 0xffffffffu
#define WORDS (OTSHIM_TRACESTATE_MAX / 8)

struct slot {
    _Atomic uint32_t number; /* of the put whose text this is; 0: none yet */
    _Atomic uint32_t len;
    _Atomic uint64_t words[WORDS];
};

static _Atomic(struct slot *) table;
static _Atomic uint32_t put_count;

_Static_assert((TRACESTATE_SLOTS & (TRACESTATE_SLOTS - 1)) == 0, "the low bits of a number are its slot");

/* Mapped at the first put: most programs never see a tracestate. Two threads may both map; one wins. */
static struct slot *table_get(void)
{
    struct slot *slots = atomic_load_explicit(&table, memory_order_acquire);
    if (slots != NULL)
        return slots;
    const size_t bytes = TRACESTATE_SLOTS * sizeof(struct slot);
    long mapped =
        raw_syscall6(SYS_mmap, 0, (long)bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (raw_failed(mapped))
        return NULL;
    if (atomic_compare_exchange_strong(&table, &slots, (struct slot *)mapped))
        return (struct slot *)mapped;
    raw_syscall2(SYS_munmap, mapped, (long)bytes);
    return slots;
}

/* What may stand in a header line: it is written into one again. */
static bool printable(const char *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (((unsigned char)bytes[i] < 0x20 && bytes[i] != 0x09) || (unsigned char)bytes[i] > 0x7e)
            return false;
    return true;
}

static bool is_edge(char c)
{
    return c == ' ' || c == '\t' || c == ',';
}

/* Without what surrounds it, and cut to whole list members. */
static size_t bounded(const char **bytes, size_t len)
{
    const char *p = *bytes;
    while (len > 0 && is_edge(p[0]))
        p++, len--;
    if (len > OTSHIM_TRACESTATE_MAX) {
        len = OTSHIM_TRACESTATE_MAX + 1; /* a comma just behind the bound is good */
        while (len > 0 && p[len - 1] != ',')
            len--;
    }
    while (len > 0 && is_edge(p[len - 1]))
        len--;
    *bytes = p;
    return len;
}

/* A slot for this thread to write, in WRITING; *number is the handle to be. */
static struct slot *claim(struct slot *slots, uint32_t *number)
{
    for (int tries = 0; tries < 4; tries++) {
        *number = atomic_fetch_add_explicit(&put_count, 1, memory_order_relaxed) + 1;
        if (*number == 0 || *number == WRITING)
            continue;
        struct slot *slot = &slots[*number % TRACESTATE_SLOTS];
        uint32_t old = atomic_load_explicit(&slot->number, memory_order_relaxed);
        if (old != WRITING &&
            atomic_compare_exchange_strong_explicit(&slot->number, &old, WRITING, memory_order_acquire, memory_order_relaxed))
            return slot;
    }
    return NULL;
}

uint32_t tracestate_put(const char *bytes, size_t len)
{
    len = bounded(&bytes, len);
    if (len == 0 || !printable(bytes, len))
        return 0;
    struct slot *slots = table_get();
    uint32_t number;
    struct slot *slot = slots != NULL ? claim(slots, &number) : NULL;
    if (slot == NULL) {
        span_count(OTSHIM_COUNT_TRACESTATE_LOST);
        return 0;
    }
    atomic_thread_fence(memory_order_release); /* WRITING is seen before any of the words: pairs with the reader's fence */
    for (size_t i = 0; i * 8 < len; i++) {
        uint64_t word = 0;
        memcpy(&word, bytes + i * 8, len - i * 8 < 8 ? len - i * 8 : 8);
        atomic_store_explicit(&slot->words[i], word, memory_order_relaxed);
    }
    atomic_store_explicit(&slot->len, (uint32_t)len, memory_order_relaxed);
    atomic_store_explicit(&slot->number, number, memory_order_release);
    return number;
}

size_t tracestate_get(uint32_t handle, char *out, size_t out_size)
{
    struct slot *slots = atomic_load_explicit(&table, memory_order_acquire);
    if (handle == 0 || slots == NULL)
        return 0;
    struct slot *slot = &slots[handle % TRACESTATE_SLOTS];
    uint64_t words[WORDS];
    size_t len = 0;
    bool mine = atomic_load_explicit(&slot->number, memory_order_acquire) == handle;
    if (mine) {
        len = atomic_load_explicit(&slot->len, memory_order_relaxed);
        for (size_t i = 0; i * 8 < len && i < WORDS; i++)
            words[i] = atomic_load_explicit(&slot->words[i], memory_order_relaxed);
        atomic_thread_fence(memory_order_acquire);
        mine = atomic_load_explicit(&slot->number, memory_order_relaxed) == handle;
    }
    if (!mine || len > sizeof words || len > out_size) {
        span_count(OTSHIM_COUNT_TRACESTATE_LOST);
        return 0;
    }
    memcpy(out, words, len);
    return len;
}
