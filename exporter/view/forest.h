/* forest.h - a trace as a tree, read from OTLP/JSON as /api/traces/{id} answers it.
 *
 * The command line and the exporter share no memory, and what the exporter shows comes from programs anyway: nothing is believed.
 * Parents that are missing, that name themselves or each other, identifiers that come twice, clocks that disagree: all end in a forest
 * that can be walked. Strings stay as they came; text.h cleans them on their way to a terminal. */
#ifndef OTSHIM_EXPORTER_FOREST_H
#define OTSHIM_EXPORTER_FOREST_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FOREST_SPANS_MAX 100000

struct forest_span {
    uint8_t span_id[8], parent_id[8];
    bool has_parent; /* it names one */
    bool is_server;
    bool is_error;
    const char *name;
    const char *service;
    const char *status_message; /* "" if none */
    const json_t *attributes;   /* OTLP's array of key and value, may be NULL */
    const json_t *resource;     /* the same, of its process */
    const json_t *events;
    uint64_t start_ns, end_ns; /* on one time line: clock skew taken out */
    /* The tree: indices into spans, -1 for none. Siblings by start. */
    int parent, first_child, next_sibling;
    int depth;
    int subtree; /* spans in it, itself included */
};

struct forest {
    json_t *document; /* a reference: the strings live in it */
    char trace_id[33];
    struct forest_span *spans;
    int count;
    int errors;
    int services;
    uint64_t left_out; /* spans that the exporter did not keep */
    uint64_t start_ns, end_ns;
    int first_root;   /* spans without a parent */
    int first_orphan; /* spans whose parent is not here */
};

/* NULL with a line in why if the document is no trace. Takes its own reference. */
struct forest *forest_of(json_t *document, char *why, size_t why_size);
void forest_free(struct forest *forest);

/* The value of an attribute as text, NULL if there is none. Numbers are written into one of a few static buffers. */
const char *forest_attribute(const json_t *attributes, const char *key);
/* One OTLP value {"stringValue": ...} as text. */
const char *forest_value(const json_t *value, char *buffer, size_t buffer_size);

#endif
