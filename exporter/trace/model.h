/* model.h - a finished span with OpenTelemetry meaning: what trace/ makes and otlp/, deliver/, metrics/ and view/ read.
 *
 * Spans and resources are reference-counted and immutable once published; the exporter is one thread, so counts are plain. All strings
 * are NUL-terminated valid UTF-8 owned by the object (or static), attribute values are at most 2,048 bytes (what Tempo 3 keeps). */
#ifndef OTSHIM_EXPORTER_MODEL_H
#define OTSHIM_EXPORTER_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum value_type { VALUE_STRING, VALUE_INT, VALUE_BOOL, VALUE_DOUBLE, VALUE_STRINGS };

struct attribute {
    const char *key; /* an OpenTelemetry semantic-convention name (static), or a key of OTEL_RESOURCE_ATTRIBUTES (owned) */
    enum value_type type;
    union {
        const char *string;
        int64_t integer;
        bool boolean;
        double number;
        struct {
            const char **items;
            size_t count;
        } strings;
    } value;
};

/* One per traced process (and image: exec makes a new one). */
struct resource {
    unsigned refs;
    const char *service_name; /* also among the attributes */
    int64_t pid;
    struct attribute *attributes;
    size_t attribute_count;
};

struct span_event {
    const char *name;
    uint64_t time_unix_ns;
    const struct attribute *attributes;
    size_t attribute_count;
};

/* Numbers of opentelemetry.proto.trace.v1.Span.SpanKind and Status.StatusCode. */
enum span_kind { SPAN_KIND_INTERNAL = 1, SPAN_KIND_SERVER = 2, SPAN_KIND_CLIENT = 3 };
enum span_status { SPAN_STATUS_UNSET = 0, SPAN_STATUS_OK = 1, SPAN_STATUS_ERROR = 2 };

/* What a span was read from: settled once, when the span is safe (delivered, or stored where there is no backend) or given up
 * and counted. The ring's tail moves only over settled records (ingest/). Opaque here. */
struct receipt;
void receipt_settle(struct receipt *receipt);

struct span {
    unsigned refs;
    uint8_t trace_id[16];
    uint8_t span_id[8];
    uint8_t parent_id[8]; /* all zero: root */
    bool has_parent;
    bool parent_is_remote;
    bool sampled;            /* trace flags bit 0: an unsampled span is never exported, but counts in metrics */
    uint32_t trace_flags;    /* W3C flags, as the OTLP field `flags` carries them (bits 8, 9: parent is remote) */
    const char *trace_state; /* "" if none */
    const char *name;
    enum span_kind kind;
    uint64_t start_unix_ns;
    uint64_t end_unix_ns;
    enum span_status status;
    const char *status_message; /* "" if none */
    const struct attribute *attributes;
    size_t attribute_count;
    const struct span_event *events;
    size_t event_count;
    struct resource *resource; /* a reference */
    struct receipt *receipt;   /* NULL for spans that came from no ring (in-flight at death, tests) */
    size_t size_hint;          /* roughly its encoded size, bytes */
};

struct span *span_ref(struct span *span);
void span_unref(struct span *span);
struct resource *resource_ref(struct resource *resource);
void resource_unref(struct resource *resource);

/* NULL if there is none. */
const struct attribute *span_attribute(const struct span *span, const char *key);

/* Where a finished span goes next. main.c puts the consumers in a row: metrics, view, deliver. A consumer that keeps the span takes
 * a reference. Exactly one consumer settles the receipt: deliver if there is a backend, else view. */
struct span_sink {
    void (*span)(void *self, struct span *span);
    void *self;
};

#endif
