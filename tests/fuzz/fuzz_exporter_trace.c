/* fuzz_exporter_trace.c - records with any content become spans that keep what model.h promises: valid UTF-8, bounded values, sane times.
 *
 * Input: the fields of a span record, then attributes as they stand in a record (cut to what is well-formed, as ingest/ does). The
 * attributes also serve as command line, resource attributes and service name of a process. */
#include "otlp/utf8.h"
#include "trace/draft.h"
#include "trace/resource.h"
#include "trace/trace.h"

#include <stdlib.h>
#include <string.h>

static void check_text(const char *text, size_t max)
{
    size_t len = text != NULL ? strlen(text) : SIZE_MAX;
    if (len > max || !utf8_valid(text, len))
        abort();
}

static void check_attributes(const struct attribute *attributes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        check_text(attributes[i].key, DRAFT_VALUE_MAX);
        if (attributes[i].type == VALUE_STRING)
            check_text(attributes[i].value.string, DRAFT_VALUE_MAX);
        for (size_t k = 0; attributes[i].type == VALUE_STRINGS && k < attributes[i].value.strings.count; k++)
            check_text(attributes[i].value.strings.items[k], DRAFT_VALUE_MAX);
    }
}

static void check_span(void *self, struct span *span)
{
    (void)self;
    check_text(span->name, DRAFT_VALUE_MAX);
    check_text(span->trace_state, DRAFT_VALUE_MAX);
    check_text(span->status_message, DRAFT_VALUE_MAX);
    check_attributes(span->attributes, span->attribute_count);
    for (size_t i = 0; i < span->event_count; i++) {
        check_text(span->events[i].name, DRAFT_VALUE_MAX);
        check_attributes(span->events[i].attributes, span->events[i].attribute_count);
    }
    if (span->end_unix_ns < span->start_unix_ns)
        abort();
    span_unref(span_ref(span));
}

/* How many bytes of attributes are well-formed. */
static uint32_t well_formed(const uint8_t *bytes, size_t size)
{
    size_t at = 0;
    while (at + sizeof(struct otshim_attr) <= size) {
        struct otshim_attr head;
        memcpy(&head, bytes + at, sizeof head);
        if (otshim_attr_size(head.len) > size - at)
            break;
        at += otshim_attr_size(head.len);
    }
    return (uint32_t)at;
}

static struct resource *make_resource(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    memcpy(text, data, size);
    text[size] = '\0';
    struct resource *resource = resource_make(&(struct resource_input){.executable = size % 3 ? "/usr/bin/python3" : text,
                                                                       .cmdline = text,
                                                                       .cmdline_len = size,
                                                                       .service_name = size % 2 ? text : NULL,
                                                                       .resource_attributes = text});
    free(text);
    if (resource == NULL || resource->service_name[0] == '\0')
        abort();
    check_attributes(resource->attributes, resource->attribute_count);
    return resource;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size); /* called by libFuzzer */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct trace *trace;
    struct otshim_span_rec rec;
    if (trace == NULL)
        trace = trace_new((struct span_sink){.span = check_span});
    if (size < sizeof rec || size > OTSHIM_RECORD_MAX_BYTES)
        return 0;
    memcpy(&rec, data, sizeof rec);
    data += sizeof rec;
    rec.kind = (uint8_t)(1 + rec.kind % 4);
    rec.start_ns %= 1ull << 62;
    rec.end_ns = rec.start_ns + rec.end_ns % (1ull << 40);
    rec.attr_bytes = well_formed(data, size - sizeof rec);
    uint8_t *attrs = malloc(rec.attr_bytes + 1);
    memcpy(attrs, data, rec.attr_bytes);
    struct process process = {.resource = make_resource(data, size - sizeof rec)};
    struct record_sink sink = trace_record_sink(trace);
    sink.span(sink.self, &process, &rec, attrs, NULL);
    resource_unref(process.resource);
    free(attrs);
    return 0;
}
