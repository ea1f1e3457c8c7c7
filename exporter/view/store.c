/* store.c - the last N traces in memory.
 *
 * Traces are found by id in a hash table with chains and kept in a list by their last change: the one that nothing was added to
 * for longest leaves first. Two more bounds stand above N, because a trace can be large: STORE_SPANS_PER_TRACE, and the bytes of
 * all spans together. What a trace could not keep is counted in it and shown.
 *
 * The root and the extent of a trace are worked out when somebody looks, not when a span arrives: looking is rare. */
#include "view/store.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#define STORE_BYTES_MAX (192ull << 20)
#define SPAN_OVERHEAD_BYTES 512u /* what a small span takes in memory beyond its encoded size, measured roughly */

struct entry {
    struct stored_trace trace; /* first: a pointer to it is a pointer to the entry */
    struct entry *chain;
    struct entry *older, *newer;
    size_t capacity;
    uint64_t bytes;
    bool root_is_known;
};

struct store {
    struct entry **buckets;
    size_t bucket_mask;
    struct entry *newest, *oldest;
    size_t count, max;
    uint64_t bytes;
    uint64_t sequence;
    bool settles_receipts;
};

static uint64_t monotonic_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
}

static uint64_t realtime_us(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    return (uint64_t)ts.tv_sec * 1000000ull + (uint64_t)ts.tv_nsec / 1000u;
}

/* Trace ids are random in their right half (W3C 2.3), but a caller may send any: mixed, so that a peer who numbers them does no harm. */
static size_t bucket_of(const struct store *store, const uint8_t id[16])
{
    uint64_t a, b;
    memcpy(&a, id, 8);
    memcpy(&b, id + 8, 8);
    a ^= b * 0x9e3779b97f4a7c15ull;
    a ^= a >> 29;
    a *= 0xbf58476d1ce4e5b9ull;
    return (size_t)(a ^ a >> 32) & store->bucket_mask;
}

struct store *store_new(size_t max_traces)
{
    struct store *store = calloc(1, sizeof(*store));
    size_t buckets = 64;
    if (store == NULL)
        return NULL;
    store->max = max_traces > 0 ? max_traces : 1;
    /* From the clock and not from 0: a poller's "since" stays behind that of a successor of ours (2^53 lies 285 years from 1970, and
     * no exporter takes a million spans a second for long). */
    store->sequence = realtime_us();
    while (buckets < store->max && buckets < (1u << 22))
        buckets *= 2;
    store->bucket_mask = buckets - 1;
    store->buckets = calloc(buckets, sizeof(struct entry *));
    if (store->buckets == NULL) {
        free(store);
        return NULL;
    }
    return store;
}

static void list_unlink(struct store *store, struct entry *entry)
{
    if (entry->newer != NULL)
        entry->newer->older = entry->older;
    else
        store->newest = entry->older;
    if (entry->older != NULL)
        entry->older->newer = entry->newer;
    else
        store->oldest = entry->newer;
    entry->newer = entry->older = NULL;
}

static void list_push(struct store *store, struct entry *entry)
{
    entry->older = store->newest;
    entry->newer = NULL;
    if (store->newest != NULL)
        store->newest->newer = entry;
    else
        store->oldest = entry;
    store->newest = entry;
}

static void entry_remove(struct store *store, struct entry *entry)
{
    struct entry **link = &store->buckets[bucket_of(store, entry->trace.trace_id)];
    while (*link != entry)
        link = &(*link)->chain;
    *link = entry->chain;
    list_unlink(store, entry);
    for (size_t i = 0; i < entry->trace.span_count; i++)
        span_unref(entry->trace.spans[i]);
    free(entry->trace.spans);
    store->bytes -= entry->bytes;
    store->count--;
    free(entry);
}

void store_free(struct store *store)
{
    if (store == NULL)
        return;
    for (struct entry *entry = store->oldest, *next; entry != NULL; entry = next) {
        next = entry->newer;
        entry_remove(store, entry);
    }
    free(store->buckets);
    free(store);
}

static struct entry *entry_find(const struct store *store, const uint8_t id[16])
{
    struct entry *entry = store->buckets[bucket_of(store, id)];
    while (entry != NULL && memcmp(entry->trace.trace_id, id, 16) != 0)
        entry = entry->chain;
    return entry;
}

static struct entry *entry_add(struct store *store, const uint8_t id[16])
{
    struct entry *entry = calloc(1, sizeof(*entry));
    if (entry == NULL)
        return NULL;
    memcpy(entry->trace.trace_id, id, 16);
    struct entry **bucket = &store->buckets[bucket_of(store, id)];
    entry->chain = *bucket;
    *bucket = entry;
    list_push(store, entry);
    store->count++;
    return entry;
}

static bool entry_grow(struct entry *entry)
{
    if (entry->trace.span_count < entry->capacity)
        return true;
    size_t capacity = entry->capacity > 0 ? entry->capacity * 2 : 4;
    struct span **spans = realloc(entry->trace.spans, capacity * sizeof(*spans));
    if (spans == NULL)
        return false;
    entry->trace.spans = spans;
    entry->capacity = capacity;
    return true;
}

static void store_keep(struct store *store, struct span *span)
{
    struct entry *entry = entry_find(store, span->trace_id);
    if (entry == NULL)
        entry = entry_add(store, span->trace_id);
    if (entry == NULL)
        return;
    list_unlink(store, entry);
    list_push(store, entry);

    uint64_t bytes = span->size_hint + SPAN_OVERHEAD_BYTES;
    struct entry *oldest = store->oldest;
    while (oldest != NULL && oldest != entry && (store->count > store->max || store->bytes + bytes > STORE_BYTES_MAX)) {
        struct entry *next = oldest->newer;
        entry_remove(store, oldest);
        oldest = next;
    }

    struct stored_trace *trace = &entry->trace;
    trace->changed_mono_ns = monotonic_ns();
    trace->sequence = ++store->sequence;
    trace->has_error |= span->status == SPAN_STATUS_ERROR;
    if (trace->span_count >= STORE_SPANS_PER_TRACE || store->bytes + bytes > STORE_BYTES_MAX || !entry_grow(entry)) {
        trace->spans_left_out++;
        return;
    }
    if (trace->span_count == 0 || span->start_unix_ns < trace->start_unix_ns)
        trace->start_unix_ns = span->start_unix_ns;
    if (trace->span_count == 0 || span->end_unix_ns > trace->end_unix_ns)
        trace->end_unix_ns = span->end_unix_ns;
    trace->spans[trace->span_count++] = span_ref(span);
    entry->bytes += bytes;
    store->bytes += bytes;
    entry->root_is_known = false;
}

static void sink_span(void *self, struct span *span)
{
    struct store *store = self;
    /* An unsampled trace was asked not to be kept. */
    if (span->sampled)
        store_keep(store, span);
    if (store->settles_receipts && span->receipt != NULL)
        receipt_settle(span->receipt);
}

struct span_sink store_sink(struct store *store, bool settles_receipts)
{
    store->settles_receipts = settles_receipts;
    return (struct span_sink){.span = sink_span, .self = store};
}

static int compare_ids(const void *a, const void *b)
{
    return memcmp(*(const uint8_t *const *)a, *(const uint8_t *const *)b, 8);
}

/* The earliest span without a parent; where there is none, the earliest whose parent is not among the spans kept; where there is none
 * either (a ring of parents: only hostile spans make one), the earliest. */
static const struct span *find_root(const struct stored_trace *trace)
{
    const struct span *root = NULL, *orphan = NULL, *earliest = NULL;
    for (size_t i = 0; i < trace->span_count; i++) {
        const struct span *span = trace->spans[i];
        if (!span->has_parent && (root == NULL || span->start_unix_ns < root->start_unix_ns))
            root = span;
        if (earliest == NULL || span->start_unix_ns < earliest->start_unix_ns)
            earliest = span;
    }
    if (root != NULL || trace->span_count == 0)
        return root;
    const uint8_t **ids = malloc(trace->span_count * sizeof(*ids));
    if (ids == NULL)
        return earliest;
    for (size_t i = 0; i < trace->span_count; i++)
        ids[i] = trace->spans[i]->span_id;
    qsort(ids, trace->span_count, sizeof(*ids), compare_ids);
    for (size_t i = 0; i < trace->span_count; i++) {
        const struct span *span = trace->spans[i];
        const uint8_t *wanted = span->parent_id;
        if (orphan != NULL && span->start_unix_ns >= orphan->start_unix_ns)
            continue;
        if (bsearch(&wanted, ids, trace->span_count, sizeof(*ids), compare_ids) == NULL)
            orphan = span;
    }
    free(ids);
    return orphan != NULL ? orphan : earliest;
}

static const struct stored_trace *settled_view(struct entry *entry)
{
    if (!entry->root_is_known) {
        entry->trace.root = find_root(&entry->trace);
        entry->root_is_known = true;
    }
    return &entry->trace;
}

const struct stored_trace *store_find(const struct store *store, const uint8_t trace_id[16])
{
    struct entry *entry = entry_find(store, trace_id);
    return entry != NULL && entry->trace.span_count > 0 ? settled_view(entry) : NULL;
}

static bool matches(const struct stored_trace *trace, const struct store_filter *filter)
{
    if (trace->span_count == 0 || trace->sequence <= filter->since_sequence || (filter->errors_only && !trace->has_error) ||
        (trace->end_unix_ns > trace->start_unix_ns ? trace->end_unix_ns - trace->start_unix_ns : 0) < filter->min_duration_ns)
        return false;
    if (filter->service == NULL)
        return true;
    for (size_t i = 0; i < trace->span_count; i++)
        if (strcmp(trace->spans[i]->resource->service_name, filter->service) == 0)
            return true;
    return false;
}

static int newest_first(const void *a, const void *b)
{
    const struct entry *left = *(struct entry *const *)a, *right = *(struct entry *const *)b;
    if (left->trace.start_unix_ns != right->trace.start_unix_ns)
        return left->trace.start_unix_ns < right->trace.start_unix_ns ? 1 : -1;
    return left->trace.sequence < right->trace.sequence ? 1 : left->trace.sequence > right->trace.sequence ? -1 : 0;
}

void store_each(const struct store *store, const struct store_filter *filter,
                void (*visit)(void *arg, const struct stored_trace *trace), void *arg)
{
    struct entry **found = malloc((store->count > 0 ? store->count : 1) * sizeof(*found));
    size_t count = 0;
    if (found == NULL)
        return;
    /* The list is by last change: everything after the first that is too old is older still. */
    for (struct entry *entry = store->newest; entry != NULL && entry->trace.sequence > filter->since_sequence; entry = entry->older)
        if (matches(&entry->trace, filter))
            found[count++] = entry;
    qsort(found, count, sizeof(*found), newest_first);
    if (filter->limit > 0 && count > filter->limit)
        count = filter->limit;
    for (size_t i = 0; i < count; i++)
        visit(arg, settled_view(found[i]));
    free(found);
}

uint64_t store_sequence(const struct store *store)
{
    return store->sequence;
}
