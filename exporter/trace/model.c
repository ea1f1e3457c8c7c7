/* model.c - spans and resources are single blocks (draft.c) that go when the last reference does. */
#include "trace/model.h"

#include <stdlib.h>
#include <string.h>

struct resource *resource_ref(struct resource *resource)
{
    resource->refs++;
    return resource;
}

void resource_unref(struct resource *resource)
{
    if (resource != NULL && --resource->refs == 0)
        free(resource);
}

struct span *span_ref(struct span *span)
{
    span->refs++;
    return span;
}

void span_unref(struct span *span)
{
    if (span == NULL || --span->refs > 0)
        return;
    resource_unref(span->resource);
    free(span);
}

const struct attribute *span_attribute(const struct span *span, const char *key)
{
    for (size_t i = 0; i < span->attribute_count; i++)
        if (strcmp(span->attributes[i].key, key) == 0)
            return &span->attributes[i];
    return NULL;
}
