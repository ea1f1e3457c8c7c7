/* draft.c - see draft.h. */
#include "trace/draft.h"
#include "otlp/utf8.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void draft_reset(struct draft *draft)
{
    draft->attribute_count = draft->event_count = draft->item_count = draft->text_len = 0;
}

/* ---- text ---------------------------------------------------------------------------------------------------------------------- */

static bool plain(const char *bytes, size_t len)
{
    return utf8_valid(bytes, len) && memchr(bytes, '\0', len) == NULL;
}

const char *draft_text(struct draft *draft, const void *bytes, size_t len)
{
    const char *from = bytes;
    char *start = draft->text + draft->text_len, *to = start;
    size_t room = sizeof draft->text - draft->text_len;
    if (len == 0 || room <= DRAFT_VALUE_MAX)
        return "";
    if (len <= DRAFT_VALUE_MAX && plain(from, len)) {
        memcpy(to, from, len);
        to += len;
        len = 0;
    }
    while (len > 0) {
        size_t n = *from != '\0' ? utf8_sequence(from, len) : 0;
        size_t out = n > 0 ? n : 3;
        if ((size_t)(to - start) + out > DRAFT_VALUE_MAX)
            break;
        memcpy(to, n > 0 ? from : "\xef\xbf\xbd", out); /* U+FFFD for what is no character */
        to += out;
        from += n > 0 ? n : 1;
        len -= n > 0 ? n : 1;
    }
    *to++ = '\0';
    draft->text_len += (size_t)(to - start);
    return start;
}

const char *draft_format(struct draft *draft, const char *format, ...)
{
    char buffer[3 * DRAFT_VALUE_MAX];
    va_list ap;
    va_start(ap, format);
    int n = vsnprintf(buffer, sizeof buffer, format, ap);
    va_end(ap);
    return draft_text(draft, buffer, n < 0 ? 0 : (size_t)n < sizeof buffer ? (size_t)n : sizeof buffer - 1);
}

/* ---- attributes and events -------------------------------------------------------------------------------------------------------- */

static struct attribute *add(struct draft *draft, const char *key, enum value_type type)
{
    if (draft->attribute_count == DRAFT_ATTRIBUTES)
        return NULL;
    struct attribute *attribute = &draft->attributes[draft->attribute_count++];
    *attribute = (struct attribute){.key = key, .type = type};
    return attribute;
}

void draft_string(struct draft *draft, const char *key, const char *value)
{
    struct attribute *attribute = value != NULL && *value != '\0' ? add(draft, key, VALUE_STRING) : NULL;
    if (attribute != NULL)
        attribute->value.string = value;
}

void draft_integer(struct draft *draft, const char *key, int64_t value)
{
    struct attribute *attribute = add(draft, key, VALUE_INT);
    if (attribute != NULL)
        attribute->value.integer = value;
}

void draft_boolean(struct draft *draft, const char *key, bool value)
{
    struct attribute *attribute = add(draft, key, VALUE_BOOL);
    if (attribute != NULL)
        attribute->value.boolean = value;
}

void draft_item(struct draft *draft, const char *value)
{
    if (draft->item_count < DRAFT_ITEMS)
        draft->items[draft->item_count++] = value;
}

void draft_list(struct draft *draft, const char *key)
{
    size_t first = 0;
    for (size_t i = 0; i < draft->attribute_count; i++)
        if (draft->attributes[i].type == VALUE_STRINGS)
            first += draft->attributes[i].value.strings.count;
    struct attribute *attribute = draft->item_count > first ? add(draft, key, VALUE_STRINGS) : NULL;
    if (attribute == NULL)
        return;
    attribute->value.strings.items = &draft->items[first];
    attribute->value.strings.count = draft->item_count - first;
}

void draft_event(struct draft *draft, const char *name, uint64_t time_unix_ns, const char *key, const char *value)
{
    if (draft->event_count == DRAFT_EVENTS)
        return;
    struct attribute *attribute = &draft->event_attributes[draft->event_count];
    *attribute = (struct attribute){.key = key, .type = VALUE_STRING, .value.string = value};
    draft->events[draft->event_count++] =
        (struct span_event){.name = name, .time_unix_ns = time_unix_ns, .attributes = attribute, .attribute_count = key != NULL};
}

void draft_set(struct draft *draft, const char *key, const char *value)
{
    for (size_t i = 0; i < draft->attribute_count; i++) {
        struct attribute *attribute = &draft->attributes[i];
        if (strcmp(attribute->key, key) == 0) {
            attribute->type = VALUE_STRING;
            attribute->value.string = value;
            return;
        }
    }
    draft_string(draft, key, value);
}

const char *draft_get(const struct draft *draft, const char *key)
{
    for (size_t i = 0; i < draft->attribute_count; i++)
        if (draft->attributes[i].type == VALUE_STRING && strcmp(draft->attributes[i].key, key) == 0)
            return draft->attributes[i].value.string;
    return NULL;
}

/* ---- one block ------------------------------------------------------------------------------------------------------------------------ */

/* The block: the struct, attributes, events, their attributes, list items, text. All but the text are multiples of 8 bytes. */
struct layout {
    const struct draft *draft;
    struct attribute *attributes;
    struct span_event *events;
    struct attribute *event_attributes;
    const char **items;
    char *text;
};

static size_t block_bytes(const struct draft *draft, size_t head)
{
    return head + draft->attribute_count * sizeof(struct attribute) +
           draft->event_count * (sizeof(struct span_event) + sizeof(struct attribute)) + draft->item_count * sizeof(char *) +
           draft->text_len;
}

static struct layout layout_of(const struct draft *draft, void *block, size_t head)
{
    struct layout l = {.draft = draft};
    char *at = (char *)block + head;
    l.attributes = (struct attribute *)at;
    at += draft->attribute_count * sizeof *l.attributes;
    l.events = (struct span_event *)at;
    at += draft->event_count * sizeof *l.events;
    l.event_attributes = (struct attribute *)at;
    at += draft->event_count * sizeof *l.event_attributes;
    l.items = (const char **)at;
    at += draft->item_count * sizeof *l.items;
    l.text = at;
    return l;
}

/* A pointer into the draft's text becomes one into the block's; static text stays. */
static const char *carry(const struct layout *l, const char *text)
{
    uintptr_t at = (uintptr_t)text, base = (uintptr_t)l->draft->text;
    return at >= base && at < base + l->draft->text_len ? l->text + (at - base) : text;
}

static void carry_attributes(const struct layout *l, struct attribute *to, const struct attribute *from, size_t count)
{
    if (count > 0)
        memcpy(to, from, count * sizeof *to);
    for (size_t i = 0; i < count; i++) {
        to[i].key = carry(l, to[i].key);
        if (to[i].type == VALUE_STRING)
            to[i].value.string = carry(l, to[i].value.string);
        else if (to[i].type == VALUE_STRINGS)
            to[i].value.strings.items = l->items + (to[i].value.strings.items - l->draft->items);
    }
}

static void carry_all(const struct layout *l)
{
    const struct draft *draft = l->draft;
    memcpy(l->text, draft->text, draft->text_len);
    carry_attributes(l, l->attributes, draft->attributes, draft->attribute_count);
    carry_attributes(l, l->event_attributes, draft->event_attributes, draft->event_count);
    for (size_t i = 0; i < draft->item_count; i++)
        l->items[i] = carry(l, draft->items[i]);
    for (size_t i = 0; i < draft->event_count; i++) {
        l->events[i] = draft->events[i];
        l->events[i].name = carry(l, draft->events[i].name);
        l->events[i].attributes = &l->event_attributes[i];
    }
}

static void *block_new(const struct draft *draft, size_t head, struct layout *l)
{
    void *block = malloc(block_bytes(draft, head));
    if (block == NULL)
        return NULL;
    *l = layout_of(draft, block, head);
    carry_all(l);
    return block;
}

_Static_assert(sizeof(struct span) % 8 == 0 && sizeof(struct resource) % 8 == 0, "what follows is aligned");

struct span *draft_span(const struct draft *draft, const struct span *proto)
{
    struct layout l;
    struct span *span = block_new(draft, sizeof *span, &l);
    if (span == NULL)
        return NULL;
    *span = *proto;
    span->refs = 1;
    span->name = carry(&l, proto->name);
    span->trace_state = carry(&l, proto->trace_state);
    span->status_message = carry(&l, proto->status_message);
    span->attributes = l.attributes;
    span->attribute_count = draft->attribute_count;
    span->events = l.events;
    span->event_count = draft->event_count;
    return span;
}

struct resource *draft_resource(const struct draft *draft, const struct resource *proto)
{
    struct layout l;
    struct resource *resource = block_new(draft, sizeof *resource, &l);
    if (resource == NULL)
        return NULL;
    *resource = *proto;
    resource->refs = 1;
    resource->service_name = carry(&l, proto->service_name);
    resource->attributes = l.attributes;
    resource->attribute_count = draft->attribute_count;
    return resource;
}
