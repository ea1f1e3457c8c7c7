/* draft.h - attributes while they are being put together, in memory that is used again for the next span.
 *
 * Text goes into one scratch area, cleaned (valid UTF-8, no NUL) and cut to DRAFT_VALUE_MAX; when all is there, span or resource is made
 * as a single block that holds struct, attributes and text: one malloc and one free a span. */
#ifndef OTSHIM_EXPORTER_DRAFT_H
#define OTSHIM_EXPORTER_DRAFT_H

#include "trace/model.h"

#define DRAFT_VALUE_MAX 2048 /* what Tempo 3 keeps of a value (max_attribute_bytes) */
#define DRAFT_ATTRIBUTES 192 /* OTEL_RESOURCE_ATTRIBUTES may have many; a span has about thirty */
#define DRAFT_EVENTS 4
#define DRAFT_ITEMS 16 /* strings in lists */
#define DRAFT_TEXT (160 * 1024)

struct draft {
    struct attribute attributes[DRAFT_ATTRIBUTES];
    size_t attribute_count;
    struct span_event events[DRAFT_EVENTS]; /* at most one attribute each */
    struct attribute event_attributes[DRAFT_EVENTS];
    size_t event_count;
    const char *items[DRAFT_ITEMS];
    size_t item_count;
    size_t text_len;
    char text[DRAFT_TEXT];
};

void draft_reset(struct draft *draft);

/* A cleaned copy of any bytes, NUL-terminated, valid until the next reset; "" when the scratch area is full. */
const char *draft_text(struct draft *draft, const void *bytes, size_t len);
/* The same from a format. What it is given is cleaned too. */
const char *draft_format(struct draft *draft, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* value and key: static, or from draft_text. NULL or "" values are left out, as is what comes when all places are taken. */
void draft_string(struct draft *draft, const char *key, const char *value);
void draft_integer(struct draft *draft, const char *key, int64_t value);
void draft_boolean(struct draft *draft, const char *key, bool value);
/* A list takes the items that draft_item added since the last list. */
void draft_item(struct draft *draft, const char *value);
void draft_list(struct draft *draft, const char *key);
/* key NULL: no attribute. */
void draft_event(struct draft *draft, const char *name, uint64_t time_unix_ns, const char *key, const char *value);

/* Sets, or replaces, a string under a key that may be there. */
void draft_set(struct draft *draft, const char *key, const char *value);
const char *draft_get(const struct draft *draft, const char *key); /* a string's value; NULL: none */

/* A block with one reference: *proto, and the draft's attributes and events. Pointers of *proto into the draft's text (name, status message,
 * trace state, service name) are carried over. NULL without memory. */
struct span *draft_span(const struct draft *draft, const struct span *proto);
struct resource *draft_resource(const struct draft *draft, const struct resource *proto);

#endif
