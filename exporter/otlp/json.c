/* json.c - spans as OTLP/JSON: the same tree as encode.c's, in jansson. Text is cleaned first: jansson refuses what is not UTF-8. */
#include "otlp/json.h"
#include "otlp/encode.h"
#include "otlp/utf8.h"
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static json_t *text(const char *string)
{
    struct arena arena = {0};
    const char *clean = utf8_clean(&arena, string);
    json_t *json = clean ? json_string_nocheck(clean) : NULL;
    arena_free(&arena);
    return json;
}

static json_t *hex(const uint8_t *id, size_t len)
{
    static const char digits[] = "0123456789abcdef";
    char out[32];
    for (size_t i = 0; i < len && i < sizeof(out) / 2; i++) {
        out[2 * i] = digits[id[i] >> 4];
        out[2 * i + 1] = digits[id[i] & 15];
    }
    return json_stringn_nocheck(out, len * 2);
}

/* 64-bit integers are strings: a JSON number is a double to most readers. */
static json_t *decimal(uint64_t number)
{
    return json_sprintf("%" PRIu64, number);
}

static json_t *strings(const struct attribute *attribute)
{
    json_t *values = json_array();
    for (size_t i = 0; i < attribute->value.strings.count; i++)
        json_array_append_new(values, json_pack("{s:o}", "stringValue", text(attribute->value.strings.items[i])));
    return json_pack("{s:{s:o}}", "arrayValue", "values", values);
}

static json_t *any_value(const struct attribute *attribute)
{
    switch (attribute->type) {
    case VALUE_STRING: return json_pack("{s:o}", "stringValue", text(attribute->value.string));
    case VALUE_INT: return json_pack("{s:o}", "intValue", json_sprintf("%" PRId64, attribute->value.integer));
    case VALUE_BOOL: return json_pack("{s:b}", "boolValue", attribute->value.boolean);
    case VALUE_DOUBLE: {
        /* JSON has no such numbers; protobuf's JSON has these strings for them. */
        double d = attribute->value.number;
        json_t *number = isnan(d) ? json_string("NaN") : isinf(d) ? json_string(d > 0 ? "Infinity" : "-Infinity") : json_real(d);
        return json_pack("{s:o}", "doubleValue", number);
    }
    case VALUE_STRINGS: return strings(attribute);
    }
    return json_object();
}

static json_t *key_values(const struct attribute *attributes, size_t n)
{
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(list, json_pack("{s:o, s:o}", "key", text(attributes[i].key), "value", any_value(&attributes[i])));
    return list;
}

static json_t *events(const struct span *span)
{
    json_t *list = json_array();
    for (size_t i = 0; i < span->event_count; i++) {
        const struct span_event *event = &span->events[i];
        json_array_append_new(list,
                              json_pack("{s:o, s:o, s:o}", "timeUnixNano", decimal(event->time_unix_ns), "name", text(event->name),
                                        "attributes", key_values(event->attributes, event->attribute_count)));
    }
    return list;
}

static json_t *one_span(const struct span *span)
{
    static const uint8_t no_id[8];
    json_t *json = json_object();
    json_object_set_new(json, "traceId", hex(span->trace_id, sizeof(span->trace_id)));
    json_object_set_new(json, "spanId", hex(span->span_id, sizeof(span->span_id)));
    if (span->has_parent && memcmp(span->parent_id, no_id, sizeof(no_id)) != 0)
        json_object_set_new(json, "parentSpanId", hex(span->parent_id, sizeof(span->parent_id)));
    if (span->trace_state && span->trace_state[0])
        json_object_set_new(json, "traceState", text(span->trace_state));
    json_object_set_new(json, "flags", json_integer(otlp_span_flags(span)));
    json_object_set_new(json, "name", text(span->name));
    json_object_set_new(json, "kind", json_integer(span->kind));
    json_object_set_new(json, "startTimeUnixNano", decimal(span->start_unix_ns));
    json_object_set_new(json, "endTimeUnixNano", decimal(span->end_unix_ns));
    json_object_set_new(json, "attributes", key_values(span->attributes, span->attribute_count));
    if (span->event_count)
        json_object_set_new(json, "events", events(span));
    json_t *status = json_object();
    if (span->status != SPAN_STATUS_UNSET)
        json_object_set_new(status, "code", json_integer(span->status));
    if (span->status_message && span->status_message[0])
        json_object_set_new(status, "message", text(span->status_message));
    json_object_set_new(json, "status", status);
    return json;
}

static json_t *new_group(const struct resource *resource, json_t *spans)
{
    json_t *attributes = resource ? key_values(resource->attributes, resource->attribute_count) : json_array();
    return json_pack("{s:{s:o}, s:[{s:{s:s, s:s}, s:O}]}", "resource", "attributes", attributes, "scopeSpans", "scope", "name",
                     OTLP_SCOPE_NAME, "version", OTSHIM_VERSION, "spans", spans);
}

json_t *otlp_json_value(struct span *const *spans, size_t n)
{
    struct group {
        const struct resource *resource;
        json_t *spans;
    } *groups = calloc(n ? n : 1, sizeof(*groups));
    json_t *list = json_array();
    if (!groups || !list) {
        free(groups);
        json_decref(list);
        return NULL;
    }
    size_t count = 0, last = 0;
    for (size_t i = 0; i < n; i++) {
        const struct resource *resource = spans[i]->resource;
        /* A trace has few resources, and neighbours mostly share one. */
        size_t g = count && groups[last].resource == resource ? last : 0;
        while (g < count && groups[g].resource != resource)
            g++;
        if (g == count) {
            groups[g].resource = resource;
            groups[g].spans = json_array();
            json_array_append_new(list, new_group(resource, groups[g].spans));
            count++;
        }
        last = g;
        json_array_append_new(groups[g].spans, one_span(spans[i]));
    }
    for (size_t g = 0; g < count; g++)
        json_decref(groups[g].spans);
    free(groups);
    return json_pack("{s:o}", "resourceSpans", list);
}

char *otlp_json(struct span *const *spans, size_t n)
{
    json_t *value = otlp_json_value(spans, n);
    char *out = value ? json_dumps(value, JSON_COMPACT) : NULL;
    json_decref(value);
    return out;
}
