/* fuzz_preload_traceparent.c - any bytes as traceparent and as tracestate: what is accepted is valid, and comes out as it went in. */
#include "context/context.h"

#include <stdlib.h>
#include <string.h>

static void check_traceparent(const char *bytes, size_t len)
{
    struct ctx ctx, back;
    if (!traceparent_parse(bytes, len, &ctx))
        return;
    static const uint8_t zero[16];
    char text[TRACEPARENT_LEN];
    traceparent_format(&ctx, text);
    if (memcmp(ctx.trace_id, zero, 16) == 0 || memcmp(ctx.span_id, zero, 8) == 0)
        abort();
    if (!traceparent_parse(text, sizeof text, &back) || memcmp(&ctx, &back, sizeof ctx) != 0)
        abort();
    if (memmem(bytes, len, text + 2, TRACEPARENT_LEN - 4) == NULL) /* all but version and flags */
        abort();
}

static void check_tracestate(const char *bytes, size_t len)
{
    char out[OTSHIM_TRACESTATE_MAX];
    uint32_t handle = tracestate_put(bytes, len);
    size_t got = tracestate_get(handle, out, sizeof out);
    if ((handle != 0) != (got != 0) || (got != 0 && memmem(bytes, len, out, got) == NULL))
        abort();
    for (size_t i = 0; i < got; i++)
        if (out[i] == '\r' || out[i] == '\n' || out[i] == '\0')
            abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *exact = malloc(size ? size : 1);
    memcpy(exact, data, size);
    check_traceparent(exact, size);
    check_tracestate(exact, size);
    /* As a sampler's name and argument, both halves terminated. */
    if (size >= 2) {
        struct sampler s;
        const char *why;
        exact[size / 2] = exact[size - 1] = '\0';
        sampler_parse(&s, "traceidratio", exact, &why);
        if (s.threshold > 1ull << 56)
            abort();
        sampler_parse(&s, exact, exact + size / 2 + (size > 2), &why);
    }
    free(exact);
    return 0;
}
