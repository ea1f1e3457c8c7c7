/* http.c - see http.h. */
#include "deliver/http.h"
#include "deliver/grpc.h"
#include "deliver/verdict.h"
#include "otlp/decode.h"
#include <stdio.h>
#include <string.h>
#include <strings.h>

const char *http_reason(long status)
{
    static const struct {
        short status;
        const char *reason;
    } reasons[] = {
        {301, "Moved Permanently"},
        {302, "Found"},
        {303, "See Other"},
        {307, "Temporary Redirect"},
        {308, "Permanent Redirect"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {407, "Proxy Authentication Required"},
        {408, "Request Timeout"},
        {413, "Content Too Large"},
        {415, "Unsupported Media Type"},
        {422, "Unprocessable Content"},
        {429, "Too Many Requests"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {502, "Bad Gateway"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
    };
    for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++)
        if (reasons[i].status == status)
            return reasons[i].reason;
    return "";
}

static bool is_type(const struct answer *answer, const char *type)
{
    size_t len = strlen(type);
    char after = strncasecmp(answer->content_type, type, len) == 0 ? answer->content_type[len] : 'x';
    return after == '\0' || after == ';' || after == ' ';
}

static void succeeded(const struct answer *answer, const char *where, struct verdict *verdict)
{
    struct otlp_answer decoded;
    int result = is_type(answer, "application/json") ? otlp_decode_answer_json(answer->body, answer->body_len, &decoded)
                                                     : otlp_decode_answer(answer->body, answer->body_len, &decoded);
    if (answer->body_len == 0)
        result = 0; /* no partial success in it, whatever its type */
    if (result != 0 || answer->body_too_long) {
        /* A login page or a default virtual host also says 200: nothing shows that the spans went anywhere. */
        verdict->outcome = OUTCOME_REFUSED;
        verdict->code = VERDICT_GARBAGE;
        verdict_say(verdict, "%s answered %ld with something that is no OTLP answer (%s)", where, answer->http_status,
                    answer->content_type[0] ? answer->content_type : "no content type");
        verdict->remedy = "is it an OTLP receiver? Check OTEL_EXPORTER_OTLP_ENDPOINT";
        return;
    }
    verdict->outcome = OUTCOME_ACCEPTED;
    verdict->rejected = decoded.rejected_spans;
    verdict_say(verdict, "%s", decoded.message);
}

/* What the body says about a failure: google.rpc.Status as the specification asks for, or a line of text as most do. "" if nothing. */
static int explanation(const struct answer *answer, char *to, size_t size)
{
    struct otlp_failure failure;
    to[0] = '\0';
    if (answer->body_len == 0)
        return GRPC_OK;
    if (is_type(answer, "text/plain") || is_type(answer, "application/json")) {
        otlp_copy_text(to, size, (const char *)answer->body, answer->body_len);
        return GRPC_OK;
    }
    if (is_type(answer, "text/html") || otlp_decode_failure(answer->body, answer->body_len, &failure) != 0)
        return GRPC_OK;
    if (failure.code != GRPC_OK)
        snprintf(to, size, "%s%s%.255s", grpc_name(failure.code), failure.message[0] ? ": " : "", failure.message);
    else
        snprintf(to, size, "%s", failure.message);
    return failure.code;
}

static const char *remedy(long status, int grpc_status)
{
    switch (status) {
    case 401: return verdict_remedy(GRPC_UNAUTHENTICATED, NULL);
    case 403: return verdict_remedy(GRPC_PERMISSION_DENIED, NULL);
    case 404:
    case 405: return "nothing takes traces at that path: OTLP's is /v1/traces; check OTEL_EXPORTER_OTLP_ENDPOINT";
    case 407: return "a proxy wants credentials: see https_proxy, http_proxy and no_proxy";
    case 413: return "lower OTEL_BSP_MAX_EXPORT_BATCH_SIZE, or raise the size that the backend receives";
    case 415: return "it takes no OTLP in protobuf there: check OTEL_EXPORTER_OTLP_ENDPOINT and OTEL_EXPORTER_OTLP_COMPRESSION";
    default: break;
    }
    if (status >= 300 && status < 400)
        return "redirects are not followed: write the final address in OTEL_EXPORTER_OTLP_ENDPOINT";
    return grpc_status ? verdict_remedy(grpc_status, NULL) : NULL;
}

void http_verdict(const struct answer *answer, const char *where, time_t now, struct verdict *verdict)
{
    char text[320];
    memset(verdict, 0, sizeof(*verdict));
    verdict->retry_after_ms = -1;
    if (!answer->arrived) {
        verdict_no_answer(answer, verdict);
        return;
    }
    if (answer->http_status >= 200 && answer->http_status < 300) {
        succeeded(answer, where, verdict);
        return;
    }
    int grpc_status = explanation(answer, text, sizeof(text));
    verdict->outcome = retry_http(answer->http_status) ? OUTCOME_RETRY : OUTCOME_REFUSED;
    verdict->code = VERDICT_HTTP + (int)answer->http_status;
    verdict->remedy = remedy(answer->http_status, grpc_status);
    if (verdict->outcome == OUTCOME_RETRY)
        verdict->retry_after_ms = retry_after_ms(answer->retry_after, now);
    const char *reason = http_reason(answer->http_status);
    verdict_say(verdict, "%s answered %ld%s%s%s%s%s", where, answer->http_status, reason[0] ? " " : "", reason, text[0] ? " (" : "",
                text, text[0] ? ")" : "");
}
