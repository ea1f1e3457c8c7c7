/* names.c - which name did the program ask for to get this address?
 *
 * Two tables, made at the first look-up that found something.
 *
 * Names. An address may stand behind many names (127.0.0.1, a load balancer), and a connect() shows the address only. The answer is, in this
 * order: the name by which this very thread last got the address; the name by which any thread got it, if it was only ever one; nothing. A
 * wrong name would be worse. For an address with one name there is one entry, with thread 0. When a second name turns up, that entry
 * becomes `ambiguous`, the thread that made it gets an entry of its own, and so does from then on every thread that asks.
 * The table is a hash of sets of NAMES_WAYS entries, the one not touched for longest is replaced. Each set is a sequence lock: `seq` is
 * odd while a writer is in it (one compare-and-swap; a writer that meets another gives up after some tries and marks the set
 * `doubtful`: what it wanted to say might have been "ambiguous"), a reader whose sequence changed knows nothing. Content is relaxed
 * atomic words: a torn copy is thrown away, but reading it is no data race.
 *
 * Waiting look-ups. A resolver thread works for nobody (curl, Node.js: the look-up runs in a helper thread, the connect elsewhere), so its
 * span has no parent yet. It waits in one of NAMES_WAITING slots until a connect to one of its addresses takes it (names_adopt). What nobody
 * takes is written as a root: when its slot is needed, when it got too old, at exit. A slot belongs to whoever moved its state to BUSY. */
#include "conn/names.h"
#include "base/config.h"
#include "base/raw.h"
#include "conn/conn.h"
#include "span/span.h"
#include <netinet/in.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

#define NAMES_SETS 128u
#define NAMES_WAYS 8u
#define NAMES_WAITING 64u
#define NAMES_TRIES 64

struct name {
    uint8_t bytes[16];
    uint8_t family; /* as in struct otshim_addr; 0: no entry */
    uint8_t ambiguous;
    uint16_t len;
    uint32_t thread; /* 0: of all threads */
    uint32_t maker;  /* thread 0: who wrote it */
    uint32_t used;   /* the set's clock */
    char text[OTSHIM_NAME_MAX];
};
#define NAME_WORDS (sizeof(struct name) / sizeof(uint64_t))
_Static_assert(sizeof(struct name) % sizeof(uint64_t) == 0, "copied by words");

struct name_set {
    _Atomic uint32_t seq;
    _Atomic uint32_t doubtful;
    _Atomic uint32_t clock;
    uint32_t reserved;
    _Atomic uint64_t entries[NAMES_WAYS][NAME_WORDS];
};

enum waiting_state { WAITING_FREE = 0, WAITING_BUSY = 1, WAITING_READY = 2 };
struct waiting {
    _Atomic uint32_t state;
    struct names_lookup lookup;
};

static _Atomic(struct name_set *) sets;
static _Atomic(struct waiting *) waiting;

/* Thread ids are used again; these are not. */
static _Atomic uint32_t threads;
static OTSHIM_TLS uint32_t thread_tag;

static uint32_t my_tag(void)
{
    if (thread_tag == 0)
        thread_tag = atomic_fetch_add_explicit(&threads, 1, memory_order_relaxed) + 1;
    return thread_tag;
}

/* ---- memory ------------------------------------------------------------------------------------------------------------------- */

static void *map(size_t len)
{
    long p = raw_syscall6(SYS_mmap, 0, (long)len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return raw_failed(p) ? NULL : (void *)p;
}

static struct name_set *sets_made(void)
{
    struct name_set *have = atomic_load_explicit(&sets, memory_order_acquire);
    if (have != NULL)
        return have;
    struct name_set *made = map(NAMES_SETS * sizeof(*made));
    if (made == NULL || atomic_compare_exchange_strong(&sets, &have, made))
        return made;
    raw_syscall2(SYS_munmap, (long)made, (long)(NAMES_SETS * sizeof(*made)));
    return have;
}

static struct waiting *waiting_made(void)
{
    struct waiting *have = atomic_load_explicit(&waiting, memory_order_acquire);
    if (have != NULL)
        return have;
    const size_t len = NAMES_WAITING * sizeof(*have);
    struct waiting *made = map(len);
    if (made == NULL)
        return NULL;
    raw_syscall3(SYS_madvise, (long)made, (long)len, 18 /* MADV_WIPEONFORK, Linux 4.14 */);
    if (atomic_compare_exchange_strong(&waiting, &have, made))
        return made;
    raw_syscall2(SYS_munmap, (long)made, (long)len);
    return have;
}

/* ---- addresses ----------------------------------------------------------------------------------------------------------------- */

/* An IPv4 address in IPv6 clothes is the same address. Port and scope do not matter here. */
static bool addr_set(struct otshim_addr *out, int family, const void *bytes)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    memset(out, 0, sizeof(*out));
    if (family == AF_INET || (family == AF_INET6 && memcmp(bytes, mapped, 12) == 0)) {
        out->family = 4;
        memcpy(out->bytes, (const uint8_t *)bytes + (family == AF_INET ? 0 : 12), 4);
    } else if (family == AF_INET6) {
        out->family = 6;
        memcpy(out->bytes, bytes, 16);
    }
    return out->family != 0;
}

static bool addr_of(struct otshim_addr *out, const struct sockaddr *addr)
{
    if (addr != NULL && addr->sa_family == AF_INET)
        return addr_set(out, AF_INET, &((const struct sockaddr_in *)(const void *)addr)->sin_addr);
    if (addr != NULL && addr->sa_family == AF_INET6)
        return addr_set(out, AF_INET6, &((const struct sockaddr_in6 *)(const void *)addr)->sin6_addr);
    return false;
}

static bool addr_same(const struct otshim_addr *a, uint8_t family, const uint8_t bytes[16])
{
    return a->family == family && memcmp(a->bytes, bytes, 16) == 0;
}

void names_answer(struct names_lookup *l, int family, const void *bytes)
{
    struct otshim_addr addr;
    if (l->nanswers >= NAMES_ANSWERS || !addr_set(&addr, family, bytes))
        return;
    for (unsigned i = 0; i < l->nanswers; i++)
        if (addr_same(&addr, l->answers[i].family, l->answers[i].bytes))
            return;
    l->answers[l->nanswers++] = addr;
}

/* ---- the table of names ---------------------------------------------------------------------------------------------------------- */

static struct name_set *set_of(struct name_set *base, const struct otshim_addr *addr, uint32_t thread)
{
    uint32_t hash = 2166136261u ^ thread * 0x9e3779b1u; /* FNV-1a */
    for (unsigned i = 0; i < 16; i++)
        hash = (hash ^ addr->bytes[i]) * 16777619u;
    return &base[(hash ^ hash >> 16) % NAMES_SETS];
}

static void entry_load(struct name *out, _Atomic uint64_t words[NAME_WORDS])
{
    uint64_t copy[NAME_WORDS] = {0};
    for (size_t i = 0; i < NAME_WORDS; i++)
        copy[i] = atomic_load_explicit(&words[i], memory_order_relaxed);
    memcpy(out, copy, sizeof(*out));
}

static void entry_store(_Atomic uint64_t words[NAME_WORDS], const struct name *in)
{
    uint64_t copy[NAME_WORDS];
    memcpy(copy, in, sizeof(copy));
    for (size_t i = 0; i < NAME_WORDS; i++)
        atomic_store_explicit(&words[i], copy[i], memory_order_relaxed);
}

/* Tries are bounded: the writer in there may be the thread that we, a signal handler, interrupted. */
static bool set_enter(struct name_set *set)
{
    for (int i = 0; i < NAMES_TRIES; i++) {
        uint32_t seq = atomic_load_explicit(&set->seq, memory_order_relaxed);
        if ((seq & 1u) == 0 &&
            atomic_compare_exchange_weak_explicit(&set->seq, &seq, seq + 1, memory_order_acquire, memory_order_relaxed)) {
            atomic_thread_fence(memory_order_release); /* readers: no content of ours before the odd sequence */
            return true;
        }
    }
    atomic_store_explicit(&set->doubtful, 1, memory_order_release);
    return false;
}

static void set_leave(struct name_set *set)
{
    atomic_fetch_add_explicit(&set->seq, 1, memory_order_release); /* pairs with set_find's acquire loads */
}

/* The way of (address, thread), or the one to be replaced. Writers only. */
static unsigned set_way(struct name_set *set, const struct otshim_addr *addr, uint32_t thread, struct name *old)
{
    unsigned victim = 0;
    uint32_t oldest = 0, now = atomic_load_explicit(&set->clock, memory_order_relaxed);
    for (unsigned way = 0; way < NAMES_WAYS; way++) {
        struct name entry;
        entry_load(&entry, set->entries[way]);
        if (entry.thread == thread && addr_same(addr, entry.family, entry.bytes)) {
            *old = entry;
            return way;
        }
        uint32_t age = entry.family == 0 ? UINT32_MAX : now - entry.used;
        if (age > oldest) {
            oldest = age;
            victim = way;
        }
    }
    memset(old, 0, sizeof(*old));
    return victim;
}

enum put_mode { PUT_ANYWAY, PUT_IF_THERE };

/* Writes the entry of (address, thread). Returns whether the address is ambiguous now (thread 0 only), and in *displaced the other name that
 * stood here before (family 0: none). */
static bool put(struct name_set *base, const struct otshim_addr *addr, uint32_t thread, uint32_t maker, const char *text,
                size_t len, enum put_mode mode, struct name *displaced)
{
    struct name_set *set = set_of(base, addr, thread);
    displaced->family = 0;
    if (!set_enter(set))
        return true;
    struct name old, entry = {.family = addr->family, .thread = thread, .maker = maker, .len = (uint16_t)len};
    unsigned way = set_way(set, addr, thread, &old);
    bool other = old.family != 0 && (old.len != len || memcmp(old.text, text, len) != 0);
    if (mode == PUT_ANYWAY || old.family != 0) {
        memcpy(entry.bytes, addr->bytes, 16);
        memcpy(entry.text, text, len);
        entry.used = atomic_fetch_add_explicit(&set->clock, 1, memory_order_relaxed) + 1;
        entry.ambiguous = thread == 0 && (old.ambiguous || other);
        entry_store(set->entries[way], &entry);
    }
    set_leave(set);
    if (other)
        *displaced = old;
    return entry.ambiguous;
}

static void learn(struct name_set *base, const struct otshim_addr *addr, const char *text, size_t len)
{
    uint32_t me = my_tag();
    struct name before, ignored;
    bool ambiguous = put(base, addr, 0, me, text, len, PUT_ANYWAY, &before);
    if (ambiguous && before.family != 0 && !before.ambiguous && before.maker != me)
        put(base, addr, before.maker, before.maker, before.text, before.len, PUT_ANYWAY, &ignored);
    put(base, addr, me, me, text, len, ambiguous ? PUT_ANYWAY : PUT_IF_THERE, &ignored);
}

/* False: not there, or a writer came in between. */
static bool set_find(struct name_set *set, const struct otshim_addr *addr, uint32_t thread, struct name *out)
{
    uint32_t seq = atomic_load_explicit(&set->seq, memory_order_acquire);
    if (seq & 1u)
        return false;
    for (unsigned way = 0; way < NAMES_WAYS; way++) {
        entry_load(out, set->entries[way]);
        if (out->thread != thread || !addr_same(addr, out->family, out->bytes))
            continue;
        atomic_thread_fence(memory_order_acquire);
        return atomic_load_explicit(&set->seq, memory_order_relaxed) == seq;
    }
    return false;
}

size_t names_find(const struct sockaddr *addr, char *out, size_t out_size)
{
    struct name_set *base = atomic_load_explicit(&sets, memory_order_acquire);
    struct otshim_addr key;
    struct name name;
    if (base == NULL || !addr_of(&key, addr))
        return 0;
    struct name_set *shared = set_of(base, &key, 0);
    if (!set_find(set_of(base, &key, my_tag()), &key, my_tag(), &name) &&
        (!set_find(shared, &key, 0, &name) || name.ambiguous || atomic_load_explicit(&shared->doubtful, memory_order_acquire)))
        return 0;
    size_t len = name.len < out_size ? name.len : out_size;
    memcpy(out, name.text, len);
    return len;
}

/* ---- spans ------------------------------------------------------------------------------------------------------------------------ */

void names_write(const struct names_lookup *l, const struct ctx *parent, const struct call_site *site)
{
    struct otshim_span_rec rec = {
        .kind = OTSHIM_SPAN_DNS,
        .start_ns = l->start_ns,
        .end_ns = l->end_ns,
        .end = l->error != 0 ? OTSHIM_END_FAILED : OTSHIM_END_COMPLETE,
        .error = l->error,
    };
    if (parent != NULL) {
        memcpy(rec.trace_id, parent->trace_id, sizeof(rec.trace_id));
        if (parent->has_parent)
            memcpy(rec.parent_id, parent->span_id, sizeof(rec.parent_id));
        rec.parent_rule = parent->rule;
    } else {
        ids_trace(rec.trace_id);
    }
    ids_span(rec.span_id);
    rec.trace_flags = sampler_decide(&config.sampler, parent, rec.trace_id);
    struct span_attr attrs[2 + CALL_SITE_ATTRS] = {
        {OTSHIM_ATTR_DNS_QUESTION, l->name_len, l->name},
        {OTSHIM_ATTR_DNS_ANSWER, (uint16_t)(l->nanswers * sizeof(l->answers[0])), l->answers},
    };
    span_write(&rec, attrs, 2 + call_site_attrs(site, attrs + 2));
}

static bool slot_take(struct waiting *slot)
{
    uint32_t ready = WAITING_READY;
    return atomic_load_explicit(&slot->state, memory_order_relaxed) == WAITING_READY &&
           atomic_compare_exchange_strong_explicit(&slot->state, &ready, WAITING_BUSY, memory_order_acquire, memory_order_relaxed);
}

static void slot_put(struct waiting *slot, enum waiting_state state)
{
    atomic_store_explicit(&slot->state, state, memory_order_release); /* pairs with slot_take's acquire */
}

static void slot_write(struct waiting *slot)
{
    if (!slot_take(slot))
        return;
    names_write(&slot->lookup, NULL, NULL);
    slot_put(slot, WAITING_FREE);
}

/* Into a free slot, else into that of the look-up that has waited for longest. */
static void wait_for_connect(const struct names_lookup *l)
{
    struct waiting *slots = waiting_made(), *oldest = NULL;
    for (unsigned i = 0; slots != NULL && i < NAMES_WAITING; i++) {
        uint32_t state = WAITING_FREE;
        if (atomic_compare_exchange_strong_explicit(&slots[i].state, &state, WAITING_BUSY, memory_order_acquire,
                                                    memory_order_relaxed)) {
            slots[i].lookup = *l;
            slot_put(&slots[i], WAITING_READY);
            return;
        }
        /* Its time may be torn: the slot may change hands right now. Any choice is good enough. */
        if (state == WAITING_READY && (oldest == NULL || slots[i].lookup.end_ns < oldest->lookup.end_ns))
            oldest = &slots[i];
    }
    if (oldest == NULL || !slot_take(oldest)) {
        names_write(l, NULL, NULL);
        return;
    }
    names_write(&oldest->lookup, NULL, NULL);
    oldest->lookup = *l;
    slot_put(oldest, WAITING_READY);
}

static bool slot_has(const struct waiting *slot, const struct otshim_addr *addr)
{
    for (unsigned i = 0; i < slot->lookup.nanswers && i < NAMES_ANSWERS; i++)
        if (addr_same(addr, slot->lookup.answers[i].family, slot->lookup.answers[i].bytes))
            return true;
    return false;
}

bool names_adopt(const struct sockaddr *addr, struct names_lookup *out)
{
    struct waiting *slots = atomic_load_explicit(&waiting, memory_order_acquire), *best = NULL;
    struct otshim_addr key;
    uint64_t now = 0;
    if (slots == NULL || !addr_of(&key, addr))
        return false;
    for (unsigned i = 0; i < NAMES_WAITING; i++) {
        if (!slot_take(&slots[i]))
            continue;
        struct names_lookup *l = &slots[i].lookup;
        now = now != 0 ? now : now_ns();
        if (now > l->end_ns && now - l->end_ns > NAMES_ADOPT_NS) {
            names_write(l, NULL, NULL);
            slot_put(&slots[i], WAITING_FREE);
        } else if (slot_has(&slots[i], &key) && (best == NULL || l->end_ns > best->lookup.end_ns)) {
            if (best != NULL)
                slot_put(best, WAITING_READY);
            best = &slots[i]; /* stays BUSY: ours */
        } else {
            slot_put(&slots[i], WAITING_READY);
        }
    }
    if (best == NULL)
        return false;
    *out = best->lookup;
    slot_put(best, WAITING_FREE);
    return true;
}

void names_done(const struct names_lookup *l, const struct ctx *ctx, const struct call_site *site)
{
    struct name_set *base = l->error == 0 && l->nanswers > 0 ? sets_made() : NULL;
    for (unsigned i = 0; base != NULL && i < l->nanswers; i++)
        learn(base, &l->answers[i], l->name, l->name_len);
    if (ctx != NULL || l->error != 0 || l->nanswers == 0 || l->alone)
        names_write(l, ctx, site);
    else
        wait_for_connect(l);
}

void names_resolved(const char *name, const struct addrinfo *res, uint64_t start_ns, uint64_t end_ns)
{
    struct names_lookup l = {.start_ns = start_ns, .end_ns = end_ns};
    l.name_len = (uint16_t)strnlen(name, OTSHIM_NAME_MAX);
    memcpy(l.name, name, l.name_len);
    for (; res != NULL; res = res->ai_next) {
        struct otshim_addr addr;
        if (addr_of(&addr, res->ai_addr))
            names_answer(&l, addr.family == 4 ? AF_INET : AF_INET6, addr.bytes);
    }
    struct ctx ctx;
    bool working = ctx_current(&ctx);
    struct call_site site;
    call_site_none(&site);
    if (working && stack_wanted(end_ns - start_ns, false))
        call_site_here(&site);
    names_done(&l, working ? &ctx : NULL, &site);
    call_site_done(&site);
}

void names_flush(void)
{
    struct waiting *slots = atomic_load_explicit(&waiting, memory_order_acquire);
    for (unsigned i = 0; slots != NULL && i < NAMES_WAITING; i++)
        slot_write(&slots[i]);
}

void names_after_fork(void)
{
    struct waiting *slots = atomic_load_explicit(&waiting, memory_order_acquire);
    if (slots != NULL)
        memset((void *)slots, 0, NAMES_WAITING * sizeof(*slots));
}
