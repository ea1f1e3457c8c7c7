/* forest.c - a trace as a tree, from OTLP/JSON: see forest.h.
 *
 * In steps over one array: read the spans; find each parent by a sorted index of ids; cut rings of parents; take clock skew out from
 * the top down; link siblings in order of start. Nothing recurses: a chain may be as deep as the trace is long. */
#include "view/forest.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- values ------------------------------------------------------------------------------------------------------------------ */

const char *forest_value(const json_t *value, char *buffer, size_t buffer_size)
{
    const json_t *item;
    if ((item = json_object_get(value, "stringValue")) != NULL)
        return json_string_value(item);
    if ((item = json_object_get(value, "intValue")) != NULL) {
        /* OTLP/JSON writes 64-bit integers as decimal strings, readers accept both. */
        if (json_is_string(item))
            return json_string_value(item);
        snprintf(buffer, buffer_size, "%" JSON_INTEGER_FORMAT, json_integer_value(item));
        return buffer;
    }
    if ((item = json_object_get(value, "boolValue")) != NULL)
        return json_is_true(item) ? "true" : "false";
    if ((item = json_object_get(value, "doubleValue")) != NULL) {
        snprintf(buffer, buffer_size, "%g", json_number_value(item));
        return buffer;
    }
    if ((item = json_object_get(json_object_get(value, "arrayValue"), "values")) != NULL) {
        size_t used = 0, index;
        json_t *element;
        char small[32];
        buffer[0] = 0;
        json_array_foreach(item, index, element)
        {
            const char *text = json_object_get(element, "arrayValue") == NULL ? forest_value(element, small, sizeof(small)) : NULL;
            int len = snprintf(buffer + used, buffer_size - used, "%s%s", index > 0 ? ", " : "", text != NULL ? text : "?");
            if (len < 0 || (size_t)len >= buffer_size - used)
                break;
            used += (size_t)len;
        }
        return buffer;
    }
    return NULL;
}

const char *forest_attribute(const json_t *attributes, const char *key)
{
    static char buffers[4][256];
    static unsigned next;
    size_t index;
    json_t *attribute;
    json_array_foreach(attributes, index, attribute)
    {
        const char *name = json_string_value(json_object_get(attribute, "key"));
        if (name != NULL && strcmp(name, key) == 0)
            return forest_value(json_object_get(attribute, "value"), buffers[next++ % 4], sizeof(buffers[0]));
    }
    return NULL;
}

static uint64_t number_of(const json_t *value)
{
    if (json_is_integer(value))
        return json_integer_value(value) > 0 ? (uint64_t)json_integer_value(value) : 0;
    const char *text = json_string_value(value);
    return text != NULL && text[0] != '-' ? strtoull(text, NULL, 10) : 0;
}

/* An enum is written as its number (OTLP/JSON) or, by other writers, as its name. */
static bool enum_is(const json_t *value, json_int_t number, const char *name)
{
    const char *text = json_string_value(value);
    return text != NULL ? strcmp(text, name) == 0 : json_integer_value(value) == number;
}

static bool id_of(const json_t *value, uint8_t id[8])
{
    const char *text = json_string_value(value);
    if (text == NULL || strlen(text) != 16)
        return false;
    uint8_t any = 0;
    for (int i = 0; i < 8; i++) {
        char digits[3] = {text[2 * i], text[2 * i + 1], 0}, *end;
        id[i] = (uint8_t)strtoul(digits, &end, 16);
        if (*end != 0)
            return false;
        any |= id[i];
    }
    return any != 0;
}

/* ---- reading ----------------------------------------------------------------------------------------------------------------- */

static void read_span(struct forest *forest, const json_t *json, const json_t *resource, const char *service)
{
    struct forest_span *span = &forest->spans[forest->count];
    const json_t *status = json_object_get(json, "status");
    const char *name = json_string_value(json_object_get(json, "name")),
               *trace_id = json_string_value(json_object_get(json, "traceId"));
    const char *message = json_string_value(json_object_get(status, "message"));

    if (!json_is_object(json) || !id_of(json_object_get(json, "spanId"), span->span_id))
        return;
    span->has_parent = id_of(json_object_get(json, "parentSpanId"), span->parent_id);
    span->is_server = enum_is(json_object_get(json, "kind"), 2, "SPAN_KIND_SERVER");
    span->is_error = enum_is(json_object_get(status, "code"), 2, "STATUS_CODE_ERROR");
    span->name = name != NULL ? name : "";
    span->service = service;
    span->status_message = message != NULL ? message : "";
    span->attributes = json_object_get(json, "attributes");
    span->events = json_object_get(json, "events");
    span->resource = resource;
    span->start_ns = number_of(json_object_get(json, "startTimeUnixNano"));
    span->end_ns = number_of(json_object_get(json, "endTimeUnixNano"));
    if (span->start_ns > INT64_MAX)
        span->start_ns = INT64_MAX;
    if (span->end_ns > INT64_MAX)
        span->end_ns = INT64_MAX;
    if (span->end_ns < span->start_ns)
        span->end_ns = span->start_ns;
    span->parent = span->first_child = span->next_sibling = -1;
    span->subtree = 1;
    if (trace_id != NULL && forest->trace_id[0] == 0)
        snprintf(forest->trace_id, sizeof(forest->trace_id), "%s", trace_id);
    forest->errors += span->is_error;
    forest->count++;
}

static size_t spans_in(const json_t *document)
{
    size_t count = 0, i, j;
    json_t *resource_spans, *scope_spans;
    json_array_foreach(json_object_get(document, "resourceSpans"), i, resource_spans)
    {
        json_array_foreach(json_object_get(resource_spans, "scopeSpans"), j, scope_spans) count +=
            json_array_size(json_object_get(scope_spans, "spans"));
    }
    return count;
}

static void read_all(struct forest *forest)
{
    size_t i, j, k;
    json_t *resource_spans, *scope_spans, *span;
    json_array_foreach(json_object_get(forest->document, "resourceSpans"), i, resource_spans)
    {
        const json_t *resource = json_object_get(json_object_get(resource_spans, "resource"), "attributes");
        const char *service = forest_attribute(resource, "service.name");
        json_array_foreach(json_object_get(resource_spans, "scopeSpans"), j, scope_spans)
        {
            json_array_foreach(json_object_get(scope_spans, "spans"), k, span)
            {
                if (forest->count < FOREST_SPANS_MAX)
                    read_span(forest, span, resource, service != NULL ? service : "unknown_service");
            }
        }
    }
}

/* ---- the tree ---------------------------------------------------------------------------------------------------------------- */

/* qsort has no argument for its comparison. The command line has one thread. */
static const struct forest_span *sorting;

static int by_id(const void *a, const void *b)
{
    int left = *(const int *)a, right = *(const int *)b;
    int order = memcmp(sorting[left].span_id, sorting[right].span_id, 8);
    return order != 0 ? order : left - right;
}

static int by_depth(const void *a, const void *b)
{
    int left = *(const int *)a, right = *(const int *)b;
    int order = sorting[left].depth - sorting[right].depth;
    return order != 0 ? order : left - right;
}

/* Latest first, for linking from the back; the longer of two that start together comes first in the list. */
static int by_start_down(const void *a, const void *b)
{
    const struct forest_span *left = &sorting[*(const int *)a], *right = &sorting[*(const int *)b];
    if (left->start_ns != right->start_ns)
        return left->start_ns < right->start_ns ? 1 : -1;
    if (left->end_ns != right->end_ns)
        return left->end_ns > right->end_ns ? 1 : -1;
    return *(const int *)b - *(const int *)a;
}

static void sort_order(struct forest *forest, int *order, int (*compare)(const void *, const void *))
{
    for (int i = 0; i < forest->count; i++)
        order[i] = i;
    sorting = forest->spans;
    qsort(order, (size_t)forest->count, sizeof(*order), compare);
}

static int find_by_id(const struct forest *forest, const int *order, const uint8_t id[8])
{
    int low = 0, high = forest->count;
    while (low < high) {
        int middle = low + (high - low) / 2;
        if (memcmp(forest->spans[order[middle]].span_id, id, 8) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low < forest->count && memcmp(forest->spans[order[low]].span_id, id, 8) == 0 ? order[low] : -1;
}

/* Depths by walking up to the first span whose depth is known and down the path again: each span is passed twice. A walk that meets
 * its own path has found a ring; it is cut there. */
static void find_depths(struct forest *forest, int *path)
{
    enum { UNKNOWN = -1, ON_PATH = -2 };
    for (int i = 0; i < forest->count; i++)
        forest->spans[i].depth = UNKNOWN;
    for (int i = 0; i < forest->count; i++) {
        int len = 0, at = i;
        while (at >= 0 && forest->spans[at].depth == UNKNOWN) {
            forest->spans[at].depth = ON_PATH;
            path[len++] = at;
            at = forest->spans[at].parent;
        }
        if (at >= 0 && forest->spans[at].depth == ON_PATH)
            at = forest->spans[path[len - 1]].parent = -1;
        int depth = at >= 0 ? forest->spans[at].depth : -1;
        while (len > 0)
            forest->spans[path[--len]].depth = ++depth;
    }
}

/* Two hosts, two clocks. A server cannot have begun before the call that it answers, nor after its end: where it seems so, its whole
 * subtree is moved so that the time on the wire is shared evenly, as Jaeger's clock skew adjuster does. Only between processes. */
static void remove_skew(struct forest *forest, const int *order, int64_t *shift)
{
    for (int i = 0; i < forest->count; i++) {
        struct forest_span *span = &forest->spans[order[i]];
        if (span->parent < 0)
            continue;
        const struct forest_span *parent = &forest->spans[span->parent];
        shift[order[i]] = shift[span->parent];
        int64_t start = (int64_t)span->start_ns + shift[order[i]], length = (int64_t)(span->end_ns - span->start_ns);
        int64_t parent_start = (int64_t)parent->start_ns, parent_length = (int64_t)(parent->end_ns - parent->start_ns);
        if (span->is_server && span->resource != parent->resource && (start < parent_start || start > (int64_t)parent->end_ns)) {
            int64_t wanted = parent_start + (length < parent_length ? (parent_length - length) / 2 : 0);
            shift[order[i]] += wanted - start;
            start = wanted;
        }
        span->start_ns = start > 0 ? (uint64_t)start : 0;
        span->end_ns = span->start_ns + (uint64_t)length;
    }
}

static void link_all(struct forest *forest, const int *order)
{
    forest->first_root = forest->first_orphan = -1;
    for (int i = 0; i < forest->count; i++) {
        struct forest_span *span = &forest->spans[order[i]];
        int *first = span->parent >= 0  ? &forest->spans[span->parent].first_child
                     : span->has_parent ? &forest->first_orphan
                                        : &forest->first_root;
        span->next_sibling = *first;
        *first = order[i];
        if (i == 0 || span->start_ns < forest->start_ns)
            forest->start_ns = span->start_ns;
        if (span->end_ns > forest->end_ns)
            forest->end_ns = span->end_ns;
    }
}

static bool build(struct forest *forest)
{
    size_t count = (size_t)forest->count;
    int *order = malloc(count * sizeof(*order)), *path = malloc(count * sizeof(*path));
    int64_t *shift = calloc(count, sizeof(*shift));
    bool done = order != NULL && path != NULL && shift != NULL;
    if (done) {
        sort_order(forest, order, by_id);
        for (int i = 0; i < forest->count; i++)
            if (forest->spans[i].has_parent)
                forest->spans[i].parent = find_by_id(forest, order, forest->spans[i].parent_id);
        find_depths(forest, path);
        sort_order(forest, order, by_depth);
        remove_skew(forest, order, shift);
        for (int i = forest->count - 1; i >= 0; i--)
            if (forest->spans[order[i]].parent >= 0)
                forest->spans[forest->spans[order[i]].parent].subtree += forest->spans[order[i]].subtree;
        sort_order(forest, order, by_start_down);
        link_all(forest, order);
    }
    free(order);
    free(path);
    free(shift);
    return done;
}

static void count_services(struct forest *forest)
{
    for (int i = 0; i < forest->count; i++) {
        bool seen = false;
        /* Spans of a process come together: comparing with the one before settles nearly all. */
        for (int j = i - 1; j >= 0 && !seen && j > i - 1000; j--)
            seen = strcmp(forest->spans[j].service, forest->spans[i].service) == 0;
        forest->services += !seen;
    }
}

struct forest *forest_of(json_t *document, char *why, size_t why_size)
{
    size_t count = spans_in(document);
    struct forest *forest = NULL;
    if (!json_is_object(document) || json_object_get(document, "resourceSpans") == NULL || count == 0) {
        snprintf(why, why_size, "the answer is no trace in OTLP/JSON (it has no spans)");
        return NULL;
    }
    if (count > FOREST_SPANS_MAX)
        count = FOREST_SPANS_MAX;
    forest = calloc(1, sizeof(*forest));
    if (forest != NULL)
        forest->spans = calloc(count, sizeof(*forest->spans));
    if (forest == NULL || forest->spans == NULL) {
        snprintf(why, why_size, "out of memory for a trace of %zu spans", count);
        forest_free(forest);
        return NULL;
    }
    forest->document = json_incref(document);
    forest->left_out = number_of(json_object_get(document, "spansLeftOut"));
    read_all(forest);
    if (forest->count == 0 || !build(forest)) {
        snprintf(why, why_size, "the answer is no trace in OTLP/JSON (no span in it is valid)");
        forest_free(forest);
        return NULL;
    }
    count_services(forest);
    return forest;
}

void forest_free(struct forest *forest)
{
    if (forest == NULL)
        return;
    json_decref(forest->document);
    free(forest->spans);
    free(forest);
}
