/* failure.c - see failure.h. */
#include "deliver/failure.h"
#include "otlp/decode.h"
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char speaks_plain[] = "it seems to speak plain text: write http:// in OTEL_EXPORTER_OTLP_ENDPOINT";
static const char wants_http[] = "is it OTLP's gRPC port? For OTLP over HTTP set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf";
static const char wants_grpc[] = "is it OTLP's HTTP port? For gRPC set OTEL_EXPORTER_OTLP_PROTOCOL=grpc";

static void say(struct answer *answer, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void say(struct answer *answer, const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    otlp_copy_text(answer->failure, sizeof(answer->failure), text, strlen(text));
}

/* "connection refused": strerror without its capital, which has no place inside a sentence. */
static void os_words(char *to, size_t size, long os_error, const char *otherwise)
{
    snprintf(to, size, "%s", os_error ? strerror((int)os_error) : otherwise);
    if (os_error && to[0] && islower((unsigned char)to[1]))
        to[0] = (char)tolower((unsigned char)to[0]);
}

static void timed_out(struct answer *answer, const struct failure_context *context)
{
    double seconds = (double)context->timeout_ms / 1000;
    if (context->connected)
        say(answer, "%s gave no answer within %g s (OTEL_EXPORTER_OTLP_TIMEOUT)", context->peer, seconds);
    else
        say(answer, "cannot connect to %s: no reply within %g s", context->peer, seconds);
}

static void tls_failed(struct answer *answer, const struct failure_context *context, const char *details)
{
    say(answer, "TLS with %s failed: %s", context->peer, details);
    if (strstr(details, "wrong version number") || strstr(details, "packet length too long") || strstr(details, "unknown protocol"))
        answer->remedy = speaks_plain;
}

void failure_describe(struct answer *answer, CURLcode code, const struct failure_context *context)
{
    char words[128];
    const char *details = context->details[0] ? context->details : curl_easy_strerror(code);
    answer->arrived = false;
    answer->failure_code = (int)code;
    answer->remedy = NULL;
    switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
        say(answer, "cannot find %s: its name does not resolve", context->peer);
        answer->remedy = "check the host in OTEL_EXPORTER_OTLP_ENDPOINT";
        return;
    case CURLE_COULDNT_CONNECT:
        os_words(words, sizeof(words), context->os_error, details);
        say(answer, "cannot connect to %s: %s", context->peer, words);
        return;
    case CURLE_OPERATION_TIMEDOUT: timed_out(answer, context); return;
    case CURLE_SSL_CONNECT_ERROR: tls_failed(answer, context, details); return;
    case CURLE_PEER_FAILED_VERIFICATION:
        say(answer, "the certificate of %s is not to be trusted: %s", context->peer, details);
        answer->remedy = "name the file of its CA in OTEL_EXPORTER_OTLP_CERTIFICATE";
        return;
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CACERT_BADFILE:
        say(answer, "a certificate or key for %s cannot be used: %s", context->peer, details);
        answer->remedy = "check OTEL_EXPORTER_OTLP_CERTIFICATE, _CLIENT_CERTIFICATE and _CLIENT_KEY (PEM files)";
        return;
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM:
        say(answer, "%s broke off the call: %s", context->peer, details);
        answer->remedy = context->grpc && !answer->http_status ? wants_http : NULL;
        return;
    case CURLE_UNSUPPORTED_PROTOCOL: /* "Received HTTP/0.9 when not allowed" */
    case CURLE_WEIRD_SERVER_REPLY:
        say(answer, "%s does not speak HTTP: %s", context->peer, details);
        answer->remedy = context->grpc ? wants_http : wants_grpc;
        return;
    case CURLE_GOT_NOTHING:
    case CURLE_RECV_ERROR:
    case CURLE_SEND_ERROR:
    case CURLE_PARTIAL_FILE:
        os_words(words, sizeof(words), context->os_error, details);
        say(answer, "%s closed the connection without an answer (%s)", context->peer, words);
        return;
    default: say(answer, "no answer from %s: %s", context->peer, details); return;
    }
}
