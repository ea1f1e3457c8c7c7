/* hello.c - see hello.h. */
#include "ingest/hello.h"
#include <stdlib.h>
#include <string.h>

/* Text of items that may come once. A second one of the same key replaces the first. */
static char **hello_text(struct hello *hello, uint16_t key)
{
    switch (key) {
    case OTSHIM_HELLO_EXE: return &hello->executable;
    case OTSHIM_HELLO_CMDLINE: return &hello->cmdline;
    case OTSHIM_HELLO_SERVICE_NAME: return &hello->service_name;
    case OTSHIM_HELLO_RESOURCE_ATTRS: return &hello->resource_attributes;
    case OTSHIM_HELLO_LIBRARY_VERSION: return &hello->library_version;
    default: return NULL;
    }
}

static size_t hello_text_max(uint16_t key)
{
    return key == OTSHIM_HELLO_CMDLINE ? OTSHIM_CMDLINE_MAX : OTSHIM_ENV_MAX;
}

static void hello_note(struct hello *hello, const char *text, size_t len)
{
    if (len >= sizeof hello->note)
        len = sizeof hello->note - 1;
    len = strnlen(text, len);
    memcpy(hello->note, text, len);
    hello->note[len] = '\0';
    hello->notes++;
}

static enum hello_result hello_item(struct hello *hello, uint16_t key, const char *text, size_t len, const char **why)
{
    char **slot = hello_text(hello, key);

    if (key == OTSHIM_HELLO_RUNTIME_NOTE)
        hello_note(hello, text, len);
    if (slot == NULL)
        return HELLO_OK;
    if (len > hello_text_max(key)) {
        *why = "a text in its hello is too long";
        return HELLO_BAD;
    }
    if (key == OTSHIM_HELLO_CMDLINE)
        hello->cmdline_len = len;
    else
        len = strnlen(text, len);
    free(*slot);
    *slot = calloc(1, len + 1);
    if (*slot == NULL)
        return HELLO_NO_MEMORY;
    memcpy(*slot, text, len);
    return HELLO_OK;
}

static enum hello_result hello_items(struct hello *hello, const char *bytes, size_t len, const char **why)
{
    size_t at = 0;

    while (at < len) {
        struct otshim_hello_item item;
        size_t padded;
        enum hello_result result;

        if (len - at < sizeof item)
            goto cut;
        memcpy(&item, bytes + at, sizeof item);
        at += sizeof item;
        if (item.len > len - at)
            goto cut;
        result = hello_item(hello, item.key, bytes + at, item.len, why);
        if (result != HELLO_OK)
            return result;
        padded = (item.len + 3u) & ~(size_t)3u;
        at += padded < len - at ? padded : len - at; /* the last item's padding may be missing */
    }
    return HELLO_OK;
cut:
    *why = "its hello ends inside an item";
    return HELLO_BAD;
}

/* Anchors beyond a century would overflow the clock arithmetic. */
static const char *hello_check_head(const struct otshim_hello *head, size_t len)
{
    if (head->total_bytes != len)
        return "its hello is not as long as it says";
    if (head->anchor_mono_ns > UINT64_MAX / 4 || head->anchor_unix_ns > UINT64_MAX / 4 || head->start_ns > UINT64_MAX / 4)
        return "a time in its hello is impossible";
    return NULL;
}

static enum hello_result hello_fill_missing(struct hello *hello)
{
    for (uint16_t key = OTSHIM_HELLO_EXE; key <= OTSHIM_HELLO_LIBRARY_VERSION; key++) {
        char **slot = hello_text(hello, key);

        if (*slot == NULL)
            *slot = calloc(1, 1);
        if (*slot == NULL)
            return HELLO_NO_MEMORY;
    }
    return HELLO_OK;
}

enum hello_result hello_parse(struct hello *hello, const void *bytes, size_t len, const char **why)
{
    enum hello_result result;

    memset(hello, 0, sizeof *hello);
    *why = NULL;
    /* Magic and version stand first in every version; what follows may change. */
    if (len < offsetof(struct otshim_hello, total_bytes)) {
        *why = "its hello is too short";
        return HELLO_BAD;
    }
    memcpy(&hello->head, bytes, len < sizeof hello->head ? len : sizeof hello->head);
    if (hello->head.magic != OTSHIM_HELLO_MAGIC) {
        *why = "its message is no hello";
        return HELLO_BAD;
    }
    if (hello->head.abi_version != OTSHIM_ABI_VERSION)
        return HELLO_VERSION;
    if (len < sizeof hello->head || len > OTSHIM_HELLO_MAX_BYTES) {
        *why = len < sizeof hello->head ? "its hello is too short" : "its hello is too long";
        return HELLO_BAD;
    }
    *why = hello_check_head(&hello->head, len);
    if (*why != NULL)
        return HELLO_BAD;
    result = hello_items(hello, (const char *)bytes + sizeof hello->head, len - sizeof hello->head, why);
    if (result == HELLO_OK)
        result = hello_fill_missing(hello);
    if (result != HELLO_OK)
        hello_free(hello);
    return result;
}

void hello_free(struct hello *hello)
{
    for (uint16_t key = OTSHIM_HELLO_EXE; key <= OTSHIM_HELLO_LIBRARY_VERSION; key++) {
        char **slot = hello_text(hello, key);

        free(*slot);
        *slot = NULL;
    }
    hello->cmdline_len = 0;
}
