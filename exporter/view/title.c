/* title.c - what a person calls a span: see title.h. */
#include "view/title.h"

#include "trace/model.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

void title_make(char *out, size_t out_size, const char *name, bool is_server, title_lookup lookup, void *span)
{
    const char *rpc = lookup(span, "rpc.system.name");
    if (rpc != NULL) { /* the method is its name; that it went by a POST says nothing */
        snprintf(out, out_size, "%s %s", rpc, name);
        return;
    }
    const char *method = lookup(span, "http.request.method");
    if (method != NULL) {
        const char *original = lookup(span, "http.request.method_original");
        const char *target = lookup(span, is_server ? "url.path" : "url.full");
        /* "_OTHER" is what the conventions call a method that is none of the known ones. */
        if (strcmp(method, "_OTHER") == 0 && original != NULL)
            method = original;
        snprintf(out, out_size, "%s%s%s", method, target != NULL ? " " : "", target != NULL ? target : "");
        return;
    }
    /* A database's command: which, of what; never what it is about. */
    const char *system = lookup(span, "db.system.name");
    if (system != NULL) {
        snprintf(out, out_size, "%s %s", system, strcmp(name, system) != 0 ? name : "");
        return;
    }
    /* connect, name resolution: the name, and to whom unless the name says so. */
    const char *subject = lookup(span, "dns.question.name");
    if (subject == NULL)
        subject = lookup(span, "server.address");
    if (subject == NULL)
        subject = lookup(span, "network.peer.address");
    if (subject == NULL || strstr(name, subject) != NULL) {
        snprintf(out, out_size, "%s", name);
        return;
    }
    const char *port = lookup(span, "dns.question.name") == NULL ? lookup(span, "server.port") : NULL;
    snprintf(out, out_size, "%s %s%s%s", name, subject, port != NULL ? ":" : "", port != NULL ? port : "");
}

/* Integers become text in one of four buffers: title_make keeps at most that many answers at a time. */
static const char *lookup_model(void *arg, const char *key)
{
    static char numbers[4][24];
    static unsigned next;
    const struct attribute *attribute = span_attribute(arg, key);
    if (attribute == NULL)
        return NULL;
    if (attribute->type == VALUE_STRING)
        return attribute->value.string;
    if (attribute->type != VALUE_INT)
        return NULL;
    char *number = numbers[next++ % 4];
    snprintf(number, sizeof(numbers[0]), "%" PRId64, attribute->value.integer);
    return number;
}

void title_of_span(char *out, size_t out_size, const struct span *span)
{
    union {
        const struct span *in;
        void *out;
    } arg = {.in = span}; /* the callback only reads */
    title_make(out, out_size, span->name, span->kind == SPAN_KIND_SERVER, lookup_model, arg.out);
}
