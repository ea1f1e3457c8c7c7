/* transport.c - see transport.h.
 *
 * libcurl says which sockets it wants watched (on_socket_wanted) and when it wants to be called at the latest (on_timer_wanted); libevent watches
 * them, and each event goes back by curl_multi_socket_action. After each such call the finished requests are collected. The easy
 * handles are made once and used again, so that their options are set once; connections are the multi handle's and stay open.
 *
 * libcurl 7.87 to 7.88.1 (Debian 12 has it) cannot use a kept connection again when HTTP/2 is asked for by prior knowledge: it puts a second
 * HTTP/2 layer on top of the first, "Error in the HTTP2 framing layer" (curl issue 10634, mended in 8.0.0). Asked for plain HTTP/2 it uses such a
 * connection well, but without one it would begin with HTTP/1.1. So there each request is tried on a kept connection first, with a socket
 * function that opens none, and where that finds no connection, on a new one by prior knowledge. */
#include "deliver/transport.h"
#include "deliver/failure.h"
#include "deliver/grpc.h"
#include "log.h"
#include <curl/curl.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct exchange {
    struct transport *transport;
    CURL *easy;
    bool busy;
    bool kept_only; /* this try is for a kept connection alone */
    char error[CURL_ERROR_SIZE];
    struct answer answer;
    void (*done)(void *arg, const struct answer *answer);
    void *arg;
};

struct transport {
    struct event_base *base;
    const struct exporter_config *config;
    CURLM *multi;
    struct event *timer;
    struct curl_slist *headers;
    char where[300], peer[280];
    bool loopback;
    bool reuse_is_broken; /* see above */
    struct exchange exchanges[TRANSPORT_IN_FLIGHT];
};

/* ---- between libcurl and libevent ---- */

static bool exchange_begin(struct exchange *exchange, bool kept_only);

static void describe(struct exchange *exchange, CURLcode result)
{
    struct transport *transport = exchange->transport;
    curl_off_t connect_us = 0;
    struct failure_context context = {.peer = transport->peer,
                                      .details = exchange->error,
                                      .grpc = transport->config->protocol == OTLP_GRPC,
                                      .timeout_ms = transport->config->timeout_ms};
    curl_easy_getinfo(exchange->easy, CURLINFO_OS_ERRNO, &context.os_error);
    curl_easy_getinfo(exchange->easy, CURLINFO_CONNECT_TIME_T, &connect_us);
    context.connected = connect_us > 0;
    failure_describe(&exchange->answer, result, &context);
}

static void exchange_end(struct exchange *exchange, CURLcode result)
{
    struct answer *answer = &exchange->answer;
    struct transport *transport = exchange->transport;
    curl_easy_getinfo(exchange->easy, CURLINFO_RESPONSE_CODE, &answer->http_status);
    /* Where we ourselves stopped reading, what came is the answer. */
    if (result == CURLE_OK || (result == CURLE_WRITE_ERROR && answer->body_too_long))
        answer->arrived = true;
    else
        describe(exchange, result);
    curl_multi_remove_handle(transport->multi, exchange->easy);
    if (result == CURLE_COULDNT_CONNECT && exchange->kept_only && exchange_begin(exchange, false))
        return;
    exchange->busy = false;
    struct answer taken = *answer; /* done may begin the next request in this very exchange */
    answer_init(answer);
    exchange->done(exchange->arg, &taken);
    answer_free(&taken);
}

static void collect(struct transport *transport)
{
    CURLMsg *message;
    int left;
    while ((message = curl_multi_info_read(transport->multi, &left))) {
        struct exchange *exchange = NULL;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&exchange);
        if (message->msg == CURLMSG_DONE && exchange)
            exchange_end(exchange, message->data.result);
    }
}

static void on_socket_ready(evutil_socket_t fd, short what, void *arg)
{
    struct transport *transport = arg;
    int running, mask = (what & EV_READ ? CURL_CSELECT_IN : 0) | (what & EV_WRITE ? CURL_CSELECT_OUT : 0);
    curl_multi_socket_action(transport->multi, fd, mask, &running);
    collect(transport);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    struct transport *transport = arg;
    int running;
    (void)fd;
    (void)what;
    curl_multi_socket_action(transport->multi, CURL_SOCKET_TIMEOUT, 0, &running);
    collect(transport);
}

static int on_socket_wanted(CURL *easy, curl_socket_t fd, int what, void *arg, void *socket_arg)
{
    struct transport *transport = arg;
    struct event *event = socket_arg;
    (void)easy;
    if (event)
        event_free(event);
    event = NULL;
    if (what != CURL_POLL_REMOVE) {
        int wanted = (what & CURL_POLL_IN ? EV_READ : 0) | (what & CURL_POLL_OUT ? EV_WRITE : 0);
        event = event_new(transport->base, fd, (short)(wanted | EV_PERSIST), on_socket_ready, transport);
        if (event)
            event_add(event, NULL);
    }
    curl_multi_assign(transport->multi, fd, event);
    return 0;
}

static int on_timer_wanted(CURLM *multi, long timeout_ms, void *arg)
{
    struct transport *transport = arg;
    (void)multi;
    if (timeout_ms < 0) {
        event_del(transport->timer);
        return 0;
    }
    struct timeval wait = {.tv_sec = timeout_ms / 1000, .tv_usec = timeout_ms % 1000 * 1000};
    event_add(transport->timer, &wait);
    return 0;
}

/* ---- one request ---- */

static size_t on_header(char *line, size_t size, size_t count, void *arg)
{
    struct exchange *exchange = arg;
    answer_header(&exchange->answer, line, size * count);
    return size * count;
}

static size_t on_body(char *data, size_t size, size_t count, void *arg)
{
    struct exchange *exchange = arg;
    return answer_body(&exchange->answer, (const uint8_t *)data, size * count) ? size * count : 0;
}

static void set_security(CURL *easy, const struct exporter_config *config)
{
    if (config->ca_file)
        curl_easy_setopt(easy, CURLOPT_CAINFO, config->ca_file);
    if (config->client_cert)
        curl_easy_setopt(easy, CURLOPT_SSLCERT, config->client_cert);
    if (config->client_key)
        curl_easy_setopt(easy, CURLOPT_SSLKEY, config->client_key);
}

static bool exchange_init(struct exchange *exchange, struct transport *transport)
{
    const struct exporter_config *config = transport->config;
    CURL *easy = exchange->easy = curl_easy_init();
    if (!easy)
        return false;
    exchange->transport = transport;
    bool https = strncasecmp(config->url, "https:", 6) == 0, grpc = config->protocol == OTLP_GRPC;
    curl_easy_setopt(easy, CURLOPT_PRIVATE, exchange);
    curl_easy_setopt(easy, CURLOPT_URL, config->url);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, transport->headers);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "OTel-OTLP-Exporter-otshim/" OTSHIM_VERSION);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, exchange->error);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, exchange);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, exchange);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)config->timeout_ms);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(easy, CURLOPT_POST, 1L);
    /* gRPC is HTTP/2 from the first byte on plain text, and by ALPN over TLS. Requests share one connection where they can. */
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION,
                     (long)(https  ? CURL_HTTP_VERSION_2TLS
                            : grpc ? CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE
                                   : CURL_HTTP_VERSION_1_1));
    curl_easy_setopt(easy, CURLOPT_PIPEWAIT, grpc ? 1L : 0L);
    /* Through a proxy, HTTP/2 needs the proxy to pass bytes. */
    curl_easy_setopt(easy, CURLOPT_HTTPPROXYTUNNEL, grpc ? 1L : 0L);
    /* An empty name: no proxy, whatever the environment says. */
    if (transport->loopback)
        curl_easy_setopt(easy, CURLOPT_PROXY, "");
    set_security(easy, config);
    return true;
}

static curl_socket_t open_no_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
    (void)arg;
    (void)purpose;
    (void)address;
    return CURL_SOCKET_BAD;
}

static bool exchange_begin(struct exchange *exchange, bool kept_only)
{
    CURL *easy = exchange->easy;
    answer_free(&exchange->answer);
    exchange->error[0] = '\0';
    exchange->kept_only = kept_only;
    if (exchange->transport->reuse_is_broken) {
        curl_easy_setopt(easy, CURLOPT_HTTP_VERSION,
                         (long)(kept_only ? CURL_HTTP_VERSION_2_0 : CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE));
        curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, kept_only ? open_no_socket : NULL);
        curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, kept_only ? 0L : 1L);
    }
    return curl_multi_add_handle(exchange->transport->multi, easy) == CURLM_OK;
}

int transport_send(struct transport *transport, const uint8_t *body, size_t len,
                   void (*done)(void *arg, const struct answer *answer), void *arg)
{
    struct exchange *exchange = NULL;
    for (size_t i = 0; i < TRANSPORT_IN_FLIGHT && !exchange; i++)
        if (!transport->exchanges[i].busy)
            exchange = &transport->exchanges[i];
    if (!exchange)
        return -EBUSY;
    exchange->done = done;
    exchange->arg = arg;
    curl_easy_setopt(exchange->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)len);
    curl_easy_setopt(exchange->easy, CURLOPT_POSTFIELDS, (const char *)body);
    if (!exchange_begin(exchange, transport->reuse_is_broken))
        return -EIO;
    exchange->busy = true;
    return 0;
}

/* ---- the endpoint ---- */

static bool is_loopback(const char *host)
{
    size_t len = strlen(host);
    return strcasecmp(host, "localhost") == 0 || (len > 10 && strcasecmp(host + len - 10, ".localhost") == 0) ||
           (strncmp(host, "127.", 4) == 0 && strspn(host, "0123456789.") == len) || strcmp(host, "[::1]") == 0;
}

static bool parse_endpoint(struct transport *transport, const char *url)
{
    char *scheme = NULL, *host = NULL, *port = NULL;
    CURLU *parts = curl_url();
    bool ok = parts && curl_url_set(parts, CURLUPART_URL, url, 0) == CURLUE_OK &&
              curl_url_get(parts, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
              curl_url_get(parts, CURLUPART_HOST, &host, 0) == CURLUE_OK &&
              curl_url_get(parts, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) == CURLUE_OK;
    if (ok) {
        snprintf(transport->peer, sizeof(transport->peer), "%.255s:%.5s", host, port);
        snprintf(transport->where, sizeof(transport->where), "%.5s://%s", scheme, transport->peer);
        transport->loopback = is_loopback(host);
    }
    curl_free(scheme);
    curl_free(host);
    curl_free(port);
    curl_url_cleanup(parts);
    return ok;
}

static bool add_header(struct transport *transport, const char *name, const char *value)
{
    size_t size = strlen(name) + strlen(value) + 3;
    char *line = malloc(size);
    if (!line)
        return false;
    /* libcurl sends a header without a value only if it ends in a semicolon; "Expect:" is meant to take one away. */
    snprintf(line, size, value[0] || strcmp(name, "Expect") == 0 ? "%s: %s" : "%s;", name, value);
    struct curl_slist *headers = curl_slist_append(transport->headers, line);
    free(line);
    if (headers)
        transport->headers = headers;
    return headers != NULL;
}

static bool make_headers(struct transport *transport)
{
    const struct exporter_config *config = transport->config;
    /* A body above 1 MiB would otherwise wait a second for "100 Continue". */
    bool ok = add_header(transport, "Expect", "");
    if (config->protocol == OTLP_GRPC) {
        char timeout[24];
        ok = ok && add_header(transport, "content-type", "application/grpc") && add_header(transport, "te", "trailers");
        if (config->gzip)
            ok = ok && add_header(transport, "grpc-encoding", "gzip");
        grpc_timeout(timeout, sizeof(timeout), config->timeout_ms);
        if (config->timeout_ms)
            ok = ok && add_header(transport, "grpc-timeout", timeout);
    } else {
        ok = ok && add_header(transport, "Content-Type", "application/x-protobuf");
        if (config->gzip)
            ok = ok && add_header(transport, "Content-Encoding", "gzip");
    }
    for (size_t i = 0; i < config->header_count && ok; i++)
        ok = add_header(transport, config->headers[i].name, config->headers[i].value);
    return ok;
}

static const char *cannot(const struct exporter_config *config)
{
    const curl_version_info_data *curl = curl_version_info(CURLVERSION_NOW);
    if (config->protocol == OTLP_GRPC && !(curl->features & CURL_VERSION_HTTP2))
        return "this libcurl has no HTTP/2, which gRPC needs: set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf, or install another "
               "libcurl";
    if (strncasecmp(config->url, "https:", 6) == 0 && !(curl->features & CURL_VERSION_SSL))
        return "this libcurl has no TLS: write http:// in OTEL_EXPORTER_OTLP_ENDPOINT, or install another libcurl";
    return NULL;
}

static bool reuse_is_broken(const struct exporter_config *config)
{
    unsigned version = curl_version_info(CURLVERSION_NOW)->version_num;
    return config->protocol == OTLP_GRPC && strncasecmp(config->url, "http:", 5) == 0 && version >= 0x075700 && version < 0x080000;
}

struct transport *transport_new(struct event_base *base, const struct exporter_config *config, char *why, size_t why_size)
{
    struct transport *transport = calloc(1, sizeof(*transport));
    const char *reason = curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK ? cannot(config) : "libcurl does not start";
    bool ok = transport && !reason;
    if (ok && !parse_endpoint(transport, config->url)) {
        reason = "the endpoint is no URL that libcurl understands: check OTEL_EXPORTER_OTLP_ENDPOINT";
        ok = false;
    }
    if (ok) {
        transport->base = base;
        transport->config = config;
        transport->reuse_is_broken = reuse_is_broken(config);
        transport->multi = curl_multi_init();
        transport->timer = evtimer_new(base, on_timer, transport);
        ok = transport->multi && transport->timer && make_headers(transport);
    }
    for (size_t i = 0; i < TRANSPORT_IN_FLIGHT && ok; i++)
        ok = exchange_init(&transport->exchanges[i], transport);
    if (!ok) {
        snprintf(why, why_size, "cannot deliver traces: %s", reason ? reason : "no memory");
        transport_free(transport);
        return NULL;
    }
    /* OpenSSL writes without MSG_NOSIGNAL: a backend that closes a TLS connection must not end the exporter. */
    signal(SIGPIPE, SIG_IGN);
    curl_multi_setopt(transport->multi, CURLMOPT_SOCKETFUNCTION, on_socket_wanted);
    curl_multi_setopt(transport->multi, CURLMOPT_SOCKETDATA, transport);
    curl_multi_setopt(transport->multi, CURLMOPT_TIMERFUNCTION, on_timer_wanted);
    curl_multi_setopt(transport->multi, CURLMOPT_TIMERDATA, transport);
    curl_multi_setopt(transport->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, (long)TRANSPORT_IN_FLIGHT);
    return transport;
}

void transport_free(struct transport *transport)
{
    if (!transport)
        return;
    for (size_t i = 0; i < TRANSPORT_IN_FLIGHT; i++) {
        struct exchange *exchange = &transport->exchanges[i];
        if (exchange->busy)
            curl_multi_remove_handle(transport->multi, exchange->easy);
        curl_easy_cleanup(exchange->easy);
        answer_free(&exchange->answer);
    }
    /* Closing the kept connections asks for their sockets' events to be removed: the events' base is still there. */
    if (transport->multi)
        curl_multi_cleanup(transport->multi);
    curl_slist_free_all(transport->headers);
    if (transport->timer)
        event_free(transport->timer);
    free(transport);
}

const char *transport_where(const struct transport *transport)
{
    return transport->where;
}
