/* encode.c - struct span to protobuf.
 *
 * A request is a tree: resource → scope → span → attribute. Spans arrive in the order in which they ended, from any number of
 * processes; they are sorted by resource (a pointer: equal resources are one object), keeping their order within each. The nodes of
 * protobuf-c's tree point straight into the spans and live in an arena until the bytes are packed. */
#include "otlp/encode.h"
#include "otlp/arena.h"
#include "otlp/otlp.pb-c.h"
#include "otlp/utf8.h"
#include <stdlib.h>
#include <string.h>

static const uint8_t no_id[8];

/* protobuf-c's fields are char * without const; it only reads them. */
static char *text(struct arena *arena, const char *string)
{
    return (char *)utf8_clean(arena, string);
}

static void any_value(struct arena *arena, Otlp__AnyValue *any, const struct attribute *attribute)
{
    otlp__any_value__init(any);
    switch (attribute->type) {
    case VALUE_STRING:
        any->value_case = OTLP__ANY_VALUE__VALUE_STRING_VALUE;
        any->string_value = text(arena, attribute->value.string);
        return;
    case VALUE_INT:
        any->value_case = OTLP__ANY_VALUE__VALUE_INT_VALUE;
        any->int_value = attribute->value.integer;
        return;
    case VALUE_BOOL:
        any->value_case = OTLP__ANY_VALUE__VALUE_BOOL_VALUE;
        any->bool_value = attribute->value.boolean;
        return;
    case VALUE_DOUBLE:
        any->value_case = OTLP__ANY_VALUE__VALUE_DOUBLE_VALUE;
        any->double_value = attribute->value.number;
        return;
    case VALUE_STRINGS: break;
    }
    size_t n = attribute->value.strings.count;
    Otlp__ArrayValue *array = arena_alloc(arena, sizeof(*array));
    Otlp__AnyValue *items = arena_array(arena, n, sizeof(*items)), **pointers = arena_array(arena, n, sizeof(*pointers));
    if (!array || !items || !pointers)
        return;
    otlp__array_value__init(array);
    for (size_t i = 0; i < n; i++) {
        otlp__any_value__init(&items[i]);
        items[i].value_case = OTLP__ANY_VALUE__VALUE_STRING_VALUE;
        items[i].string_value = text(arena, attribute->value.strings.items[i]);
        pointers[i] = &items[i];
    }
    array->n_values = n;
    array->values = pointers;
    any->value_case = OTLP__ANY_VALUE__VALUE_ARRAY_VALUE;
    any->array_value = array;
}

/* Returns the list, with *count set; the count stays 0 when memory is short. */
static Otlp__KeyValue **key_values(struct arena *arena, const struct attribute *attributes, size_t n, size_t *count)
{
    struct pair {
        Otlp__KeyValue key_value;
        Otlp__AnyValue any;
    } *pairs = arena_array(arena, n, sizeof(*pairs));
    Otlp__KeyValue **list = arena_array(arena, n, sizeof(*list));
    *count = 0;
    if (!pairs || !list)
        return NULL;
    for (size_t i = 0; i < n; i++) {
        otlp__key_value__init(&pairs[i].key_value);
        pairs[i].key_value.key = text(arena, attributes[i].key);
        any_value(arena, &pairs[i].any, &attributes[i]);
        pairs[i].key_value.value = &pairs[i].any;
        list[i] = &pairs[i].key_value;
    }
    *count = n;
    return list;
}

static Otlp__SpanEvent **events(struct arena *arena, const struct span *span, size_t *count)
{
    size_t n = span->event_count;
    Otlp__SpanEvent *items = arena_array(arena, n, sizeof(*items)), **list = arena_array(arena, n, sizeof(*list));
    *count = 0;
    if (!items || !list)
        return NULL;
    for (size_t i = 0; i < n; i++) {
        const struct span_event *event = &span->events[i];
        otlp__span_event__init(&items[i]);
        items[i].time_unix_nano = event->time_unix_ns;
        items[i].name = text(arena, event->name);
        items[i].attributes = key_values(arena, event->attributes, event->attribute_count, &items[i].n_attributes);
        list[i] = &items[i];
    }
    *count = n;
    return list;
}

static ProtobufCBinaryData bytes(const uint8_t *data, size_t len)
{
    return (ProtobufCBinaryData){.len = len, .data = (uint8_t *)data};
}

static void encode_span(struct arena *arena, Otlp__Span *out, const struct span *span)
{
    otlp__span__init(out);
    out->trace_id = bytes(span->trace_id, sizeof(span->trace_id));
    out->span_id = bytes(span->span_id, sizeof(span->span_id));
    bool has_parent = span->has_parent && memcmp(span->parent_id, no_id, sizeof(no_id)) != 0;
    if (has_parent)
        out->parent_span_id = bytes(span->parent_id, sizeof(span->parent_id));
    out->trace_state = text(arena, span->trace_state);
    out->name = text(arena, span->name);
    out->kind = (Otlp__SpanKind)span->kind;
    out->start_time_unix_nano = span->start_unix_ns;
    out->end_time_unix_nano = span->end_unix_ns;
    out->attributes = key_values(arena, span->attributes, span->attribute_count, &out->n_attributes);
    out->events = events(arena, span, &out->n_events);
    out->flags = otlp_span_flags(span);
    if (span->status == SPAN_STATUS_UNSET)
        return;
    Otlp__Status *status = arena_alloc(arena, sizeof(*status));
    if (!status)
        return;
    otlp__status__init(status);
    status->code = (Otlp__StatusCode)span->status;
    status->message = text(arena, span->status_message);
    out->status = status;
}

uint32_t otlp_span_flags(const struct span *span)
{
    bool remote = span->has_parent && span->parent_is_remote;
    return (span->trace_flags & 0xffu) | OTLP_FLAG_HAS_IS_REMOTE | (remote ? OTLP_FLAG_IS_REMOTE : 0);
}

struct placed {
    const struct span *span;
    size_t index;
};

static int by_resource(const void *a, const void *b)
{
    const struct placed *x = a, *y = b;
    uintptr_t rx = (uintptr_t)x->span->resource, ry = (uintptr_t)y->span->resource;
    if (rx != ry)
        return rx < ry ? -1 : 1;
    return x->index < y->index ? -1 : 1;
}

/* One process's spans. NULL when memory is short. */
static Otlp__ResourceSpans *resource_spans(struct arena *arena, const struct placed *placed, size_t n)
{
    struct group {
        Otlp__ResourceSpans resource_spans;
        Otlp__Resource resource;
        Otlp__ScopeSpans scope_spans, *scope_list[1];
        Otlp__InstrumentationScope scope;
    } *group = arena_alloc(arena, sizeof(*group));
    Otlp__Span *items = arena_array(arena, n, sizeof(*items)), **list = arena_array(arena, n, sizeof(*list));
    if (!group || !items || !list)
        return NULL;
    otlp__resource_spans__init(&group->resource_spans);
    otlp__resource__init(&group->resource);
    otlp__scope_spans__init(&group->scope_spans);
    otlp__instrumentation_scope__init(&group->scope);
    const struct resource *resource = placed[0].span->resource;
    if (resource) {
        Otlp__Resource *out = &group->resource;
        out->attributes = key_values(arena, resource->attributes, resource->attribute_count, &out->n_attributes);
    }
    group->scope.name = (char *)OTLP_SCOPE_NAME;
    group->scope.version = (char *)OTSHIM_VERSION;
    for (size_t i = 0; i < n; i++) {
        encode_span(arena, &items[i], placed[i].span);
        list[i] = &items[i];
    }
    group->scope_spans.scope = &group->scope;
    group->scope_spans.n_spans = n;
    group->scope_spans.spans = list;
    group->scope_list[0] = &group->scope_spans;
    group->resource_spans.resource = &group->resource;
    group->resource_spans.n_scope_spans = 1;
    group->resource_spans.scope_spans = group->scope_list;
    return &group->resource_spans;
}

static void build(struct arena *arena, Otlp__ExportTraceServiceRequest *request, struct span *const *spans, size_t n)
{
    struct placed *placed = arena_array(arena, n, sizeof(*placed));
    Otlp__ResourceSpans **list = arena_array(arena, n, sizeof(Otlp__ResourceSpans *));
    if (!placed || !list)
        return;
    for (size_t i = 0; i < n; i++)
        placed[i] = (struct placed){.span = spans[i], .index = i};
    qsort(placed, n, sizeof(*placed), by_resource);
    for (size_t from = 0, to; from < n; from = to) {
        for (to = from + 1; to < n && placed[to].span->resource == placed[from].span->resource; to++)
            ;
        list[request->n_resource_spans++] = resource_spans(arena, placed + from, to - from);
    }
    request->resource_spans = list;
}

uint8_t *otlp_encode(struct span *const *spans, size_t n, size_t headroom, size_t *len)
{
    struct arena arena = {0};
    Otlp__ExportTraceServiceRequest request = OTLP__EXPORT_TRACE_SERVICE_REQUEST__INIT;
    uint8_t *out = NULL;
    build(&arena, &request, spans, n);
    if (!arena.failed) {
        *len = headroom + otlp__export_trace_service_request__get_packed_size(&request);
        out = malloc(*len ? *len : 1);
        if (out)
            otlp__export_trace_service_request__pack(&request, out + headroom);
    }
    arena_free(&arena);
    return out;
}
