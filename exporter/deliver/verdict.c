/* verdict.c - see verdict.h. */
#include "deliver/verdict.h"
#include "deliver/grpc.h"
#include "otlp/decode.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void verdict_say(struct verdict *verdict, const char *format, ...)
{
    char text[sizeof(verdict->words)];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    /* Some of it is the peer's, and cutting may halve a character. */
    otlp_copy_text(verdict->words, sizeof(verdict->words), text, strlen(text));
}

void verdict_no_answer(const struct answer *answer, struct verdict *verdict)
{
    verdict->outcome = OUTCOME_RETRY;
    verdict->code = VERDICT_CURL + answer->failure_code;
    verdict->remedy = answer->remedy;
    verdict_say(verdict, "%s", answer->failure);
}

const char *verdict_remedy(int grpc_status, const char *message)
{
    switch (grpc_status) {
    case GRPC_UNAUTHENTICATED: return "check the credentials in OTEL_EXPORTER_OTLP_HEADERS";
    case GRPC_PERMISSION_DENIED: return "these credentials (OTEL_EXPORTER_OTLP_HEADERS) may not write traces there";
    case GRPC_UNIMPLEMENTED: return "it takes no traces there: check OTEL_EXPORTER_OTLP_ENDPOINT";
    case GRPC_RESOURCE_EXHAUSTED:
        /* grpc-go's words for a message above its limit, which comes with the same status as a rate limit. */
        if (message && strstr(message, "larger than max"))
            return "lower OTEL_BSP_MAX_EXPORT_BATCH_SIZE, or raise the size that the backend receives";
        return "it limits the rate: raise its ingestion limits, or send less (OTEL_TRACES_SAMPLER)";
    default: return NULL;
    }
}
