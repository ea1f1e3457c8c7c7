/* otlp.c - see otlp.h.
 *
 * The endpoint decides most: its scheme whether there is TLS, its port the protocol where no variable does. OTEL_EXPORTER_OTLP_ENDPOINT is a
 * base, to which OTLP over HTTP adds v1/traces; OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is used as it is. gRPC's path is fixed. */
#include "config/otlp.h"
#include <ctype.h>
#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define GRPC_PATH "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
#define HTTP_PATH "v1/traces"

static void keep_header(struct exporter_config *config, struct loading *loading, const char *variable, const char *name,
                        const char *value)
{
    struct header *headers = realloc(config->headers, (config->header_count + 1) * sizeof(*headers));
    if (!headers) {
        value_complain(loading, variable, NULL, "no memory");
        return;
    }
    config->headers = headers;
    headers[config->header_count] = (struct header){.name = value_copy(loading, name), .value = value_copy(loading, value)};
    /* gRPC over HTTP/2 has lower-case names only (RFC 9113 section 8.2.1), HTTP/1.1 takes them as well. */
    for (char *p = headers[config->header_count].name; p && *p; p++)
        *p = (char)tolower((unsigned char)*p);
    config->header_count++;
}

/* What the user wrote, taken apart by libcurl. */
struct endpoint {
    char *scheme, *host, *port /* NULL: none given */, *path, *query, *fragment, *user, *password;
};

static void endpoint_free(struct endpoint *endpoint)
{
    char **parts[] = {&endpoint->scheme, &endpoint->host,     &endpoint->port, &endpoint->path,
                      &endpoint->query,  &endpoint->fragment, &endpoint->user, &endpoint->password};
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
        curl_free(*parts[i]);
    memset(endpoint, 0, sizeof(*endpoint));
}

static bool endpoint_parse(struct endpoint *endpoint, const char *url)
{
    memset(endpoint, 0, sizeof(*endpoint));
    CURLU *parts = curl_url();
    bool ok = parts && curl_url_set(parts, CURLUPART_URL, url, 0) == CURLUE_OK &&
              curl_url_get(parts, CURLUPART_SCHEME, &endpoint->scheme, 0) == CURLUE_OK &&
              curl_url_get(parts, CURLUPART_HOST, &endpoint->host, 0) == CURLUE_OK;
    if (ok) {
        /* Absent parts leave NULL. */
        curl_url_get(parts, CURLUPART_PORT, &endpoint->port, 0);
        curl_url_get(parts, CURLUPART_PATH, &endpoint->path, 0);
        curl_url_get(parts, CURLUPART_QUERY, &endpoint->query, 0);
        curl_url_get(parts, CURLUPART_FRAGMENT, &endpoint->fragment, 0);
        curl_url_get(parts, CURLUPART_USER, &endpoint->user, CURLU_URLDECODE);
        curl_url_get(parts, CURLUPART_PASSWORD, &endpoint->password, CURLU_URLDECODE);
    }
    curl_url_cleanup(parts);
    if (!ok)
        endpoint_free(endpoint);
    return ok;
}

/* OTLP_NONE: not set, or wrong (and said). */
static enum otlp_protocol explicit_protocol(struct loading *loading)
{
    const char *name, *value = value_otlp("PROTOCOL", &name);
    if (!value)
        return OTLP_NONE;
    if (strcmp(value, "grpc") == 0)
        return OTLP_GRPC;
    if (strcmp(value, "http/protobuf") == 0)
        return OTLP_HTTP_PROTOBUF;
    if (strcmp(value, "http/json") == 0)
        value_complain(loading, name, value,
                       "JSON is not spoken here; every receiver of it takes http/protobuf on the same port: write that");
    else
        value_complain(loading, name, value, "no such protocol; write grpc or http/protobuf");
    return OTLP_NONE;
}

/* "tempo:4317" → "http://tempo:4317" or "https://...": only gRPC has endpoints without a scheme. NULL: wrong (and said). */
static char *with_scheme(struct loading *loading, const char *name, const char *value, const char *shown,
                         enum otlp_protocol protocol, bool insecure)
{
    size_t len = strlen(value), size = len + sizeof("https://");
    const char *separator = strstr(value, "://");
    if (strncasecmp(value, "http://", 7) == 0 || strncasecmp(value, "https://", 8) == 0)
        return value_copy(loading, value);
    if (separator) {
        value_complain(loading, name, shown, "the scheme is neither http nor https; write http%s",
                       shown == value ? separator : "://...");
        return NULL;
    }
    if (protocol == OTLP_HTTP_PROTOBUF || (protocol == OTLP_NONE && !(len > 5 && strcmp(value + len - 5, ":4317") == 0))) {
        value_complain(loading, name, shown, "a URL is needed; write http://%s", shown == value ? value : "...");
        return NULL;
    }
    char *url = malloc(size);
    if (url)
        snprintf(url, size, "%s%s", insecure ? "http://" : "https://", value);
    else
        value_complain(loading, name, shown, "no memory");
    return url;
}

/* The path of the final URL. base: the variable is the one for all signals. NULL: no memory. */
static char *final_path(const struct endpoint *endpoint, enum otlp_protocol protocol, bool base)
{
    const char *path = endpoint->path ? endpoint->path : "/", *query = endpoint->query;
    size_t len = strlen(path), size = len + (query ? strlen(query) : 0) + sizeof(HTTP_PATH) + 8;
    if (protocol == OTLP_GRPC)
        return strdup(GRPC_PATH);
    char *out = malloc(size);
    if (out)
        snprintf(out, size, "%s%s%s%s%s", path, base && path[len - 1] != '/' ? "/" : "", base ? HTTP_PATH : "", query ? "?" : "",
                 query ? query : "");
    return out;
}

static char *compose(const struct endpoint *endpoint, const char *path)
{
    size_t size =
        strlen(endpoint->scheme) + strlen(endpoint->host) + (endpoint->port ? strlen(endpoint->port) : 0) + strlen(path) + 8;
    char *url = malloc(size);
    if (url)
        snprintf(url, size, "%s://%s%s%s%s", endpoint->scheme, endpoint->host, endpoint->port ? ":" : "",
                 endpoint->port ? endpoint->port : "", path);
    return url;
}

/* false: something about it is wrong (and said). */
static bool endpoint_check(struct loading *loading, const char *name, const char *value, const struct endpoint *endpoint,
                           enum otlp_protocol protocol, bool base)
{
    int before = loading->mistakes;
    const char *path = endpoint->path ? endpoint->path : "/";
    if (endpoint->fragment)
        value_complain(loading, name, value, "a fragment (#%s) means nothing here; leave it out", endpoint->fragment);
    if (protocol == OTLP_GRPC && strcmp(path, "/") != 0)
        value_complain(loading, name, value,
                       "gRPC has no path; write %s://%s:%s, or for OTLP over HTTP set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf",
                       endpoint->scheme, endpoint->host, endpoint->port ? endpoint->port : "4317");
    if (protocol == OTLP_GRPC && !endpoint->port && strcmp(endpoint->scheme, "http") == 0)
        value_complain(loading, name, value, "a port is needed; OTLP over gRPC has 4317: write http://%s:4317", endpoint->host);
    if (base && endpoint->query)
        value_complain(loading, name, value, "a query has no place in a base address; use OTEL_EXPORTER_OTLP_TRACES_ENDPOINT");
    return loading->mistakes == before;
}

/* https://user:password@host: becomes a header, so that config->url may be shown to anybody. */
static void load_credentials(struct exporter_config *config, struct loading *loading, const char *name,
                             const struct endpoint *endpoint)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char pair[1024], value[2048] = "Basic ", *to = value + 6;
    for (size_t i = 0; i < config->header_count; i++)
        if (config->headers[i].name && strcmp(config->headers[i].name, "authorization") == 0)
            return; /* said in so many words: that wins */
    int len = snprintf(pair, sizeof(pair), "%s:%s", endpoint->user, endpoint->password ? endpoint->password : "");
    if (len >= (int)sizeof(pair)) {
        value_complain(loading, name, NULL, "user and password are longer than %zu bytes; use OTEL_EXPORTER_OTLP_HEADERS",
                       sizeof(pair) - 1);
        return;
    }
    for (int i = 0; i < len; i += 3) {
        unsigned left = (unsigned)(len - i), bits = (unsigned)(unsigned char)pair[i] << 16;
        bits |= left > 1 ? (unsigned)(unsigned char)pair[i + 1] << 8 : 0;
        bits |= left > 2 ? (unsigned char)pair[i + 2] : 0;
        *to++ = digits[bits >> 18];
        *to++ = digits[bits >> 12 & 63];
        *to++ = left > 1 ? digits[bits >> 6 & 63] : '=';
        *to++ = left > 2 ? digits[bits & 63] : '=';
    }
    *to = '\0';
    keep_header(config, loading, name, "authorization", value);
}

/* config->url and config->protocol. Credentials in the URL are not repeated in complaints. */
static void load_endpoint(struct exporter_config *config, struct loading *loading, bool wanted)
{
    const char *name, *insecure_name;
    bool insecure = false;
    int before = loading->mistakes;
    enum otlp_protocol protocol = explicit_protocol(loading);
    bool protocol_wrong = loading->mistakes != before;
    const char *insecure_value = value_otlp("INSECURE", &insecure_name);
    value_bool(loading, insecure_name, insecure_value, &insecure);
    const char *value = value_otlp("ENDPOINT", &name);
    if (!value && wanted) /* exporting was asked for by name, so the specification's default holds */
        value = protocol == OTLP_GRPC ? "http://localhost:4317" : "http://localhost:4318";
    if (!value)
        return;
    bool base = strcmp(name, "OTEL_EXPORTER_OTLP_ENDPOINT") == 0;
    const char *shown = strchr(value, '@') ? "(with credentials)" : value;
    char *full = with_scheme(loading, name, value, shown, protocol, insecure), *path = NULL;
    struct endpoint endpoint = {0};
    if (full && !endpoint_parse(&endpoint, full))
        value_complain(loading, name, shown, "not a URL; write something like http://tempo:4317");
    if (endpoint.host) {
        if (protocol == OTLP_NONE)
            protocol = endpoint.port && strcmp(endpoint.port, "4317") == 0 ? OTLP_GRPC : OTLP_HTTP_PROTOBUF;
        if (!protocol_wrong && endpoint_check(loading, name, shown, &endpoint, protocol, base)) {
            path = final_path(&endpoint, protocol, base);
            config->url = path ? compose(&endpoint, path) : NULL;
            if (!config->url)
                value_complain(loading, name, shown, "not a URL that can be used; write something like http://tempo:4317");
            config->protocol = config->url ? protocol : OTLP_NONE;
            config->insecure = strcmp(endpoint.scheme, "http") == 0;
            if (endpoint.user)
                load_credentials(config, loading, name, &endpoint);
        }
    }
    free(path);
    free(full);
    endpoint_free(&endpoint);
}

/* ---- headers ---- */

static bool is_token(const char *name)
{
    for (const char *p = name; *p; p++)
        if (!isalnum((unsigned char)*p) && !strchr("!#$%&'*+-.^_`|~", *p))
            return false;
    return name[0] != '\0';
}

static bool is_ours(const char *name)
{
    static const char *const ours[] = {"content-type", "content-length", "content-encoding", "transfer-encoding",
                                       "te",           "host",           "connection",       "expect"};
    for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
        if (strcasecmp(name, ours[i]) == 0)
            return true;
    return strncasecmp(name, "grpc-", 5) == 0;
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : isxdigit((unsigned char)c) ? (c | 0x20) - 'a' + 10 : -1;
}

/* Percent-decoding in place. false: an escape that is none, or a byte that cannot stand in a header. */
static bool decode_value(char *text)
{
    char *to = text;
    for (const char *p = text; *p; p++) {
        unsigned char c = (unsigned char)*p;
        if (c == '%') {
            int high = hex_digit(p[1]), low = high < 0 ? -1 : hex_digit(p[2]);
            if (low < 0)
                return false;
            c = (unsigned char)(high << 4 | low);
            p += 2;
        }
        if (c < 0x20 || c == 0x7f)
            return false;
        *to++ = (char)c;
    }
    *to = '\0';
    return true;
}

static char *trim(char *text)
{
    while (*text == ' ' || *text == '\t')
        text++;
    size_t len = strlen(text);
    while (len && (text[len - 1] == ' ' || text[len - 1] == '\t'))
        text[--len] = '\0';
    return text;
}

/* One "name=value". Values are secrets as often as not: complaints name the header only. */
static void add_header(struct exporter_config *config, struct loading *loading, const char *variable, char *member, size_t number)
{
    char *equals = strchr(member, '=');
    if (!equals) {
        value_complain(loading, variable, NULL, "entry %zu has no '='; write name=value, entries separated by commas", number);
        return;
    }
    *equals = '\0';
    char *name = trim(member), *value = trim(equals + 1);
    if (!is_token(name))
        value_complain(loading, variable, NULL, "entry %zu does not begin with a header's name; write name=value", number);
    else if (is_ours(name))
        value_complain(loading, variable, NULL, "the header %s is set by the exporter itself; leave it out", name);
    else if (!decode_value(value))
        value_complain(loading, variable, NULL, "the value of %s has a bad percent escape or a control character; write %% as %%25",
                       name);
    else
        keep_header(config, loading, variable, name, value);
}

static void load_headers(struct exporter_config *config, struct loading *loading)
{
    const char *name, *value = value_otlp("HEADERS", &name);
    char *copy = value ? value_copy(loading, value) : NULL, *rest = copy, *member;
    for (size_t number = 1; rest && (member = strsep(&rest, ",")); number++)
        if (*trim(member))
            add_header(config, loading, name, member, number);
    free(copy);
}

static void load_compression(struct exporter_config *config, struct loading *loading)
{
    const char *name, *value = value_otlp("COMPRESSION", &name);
    if (!value || strcmp(value, "none") == 0)
        return;
    if (strcmp(value, "gzip") == 0)
        config->gzip = true;
    else
        value_complain(loading, name, value, "no such compression; write gzip or none");
}

static void load_files(struct exporter_config *config, struct loading *loading)
{
    const char *name, *value = value_otlp("CERTIFICATE", &name);
    value_file(loading, name, value, &config->ca_file);
    value = value_otlp("CLIENT_CERTIFICATE", &name);
    bool cert = value != NULL;
    value_file(loading, name, value, &config->client_cert);
    value = value_otlp("CLIENT_KEY", &name);
    value_file(loading, name, value, &config->client_key);
    if (cert != (value != NULL))
        value_complain(loading, cert ? "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE" : "OTEL_EXPORTER_OTLP_CLIENT_KEY", NULL,
                       "certificate and key go together; set OTEL_EXPORTER_OTLP_%s too",
                       cert ? "CLIENT_KEY" : "CLIENT_CERTIFICATE");
}

/* OTEL_TRACES_EXPORTER: 0 none, 1 otlp by name, -1 not set. */
static int traces_exporter(struct loading *loading)
{
    const char *value = value_get("OTEL_TRACES_EXPORTER");
    if (!value)
        return -1;
    if (strcmp(value, "none") == 0)
        return 0;
    if (strcmp(value, "otlp") != 0)
        value_complain(loading, "OTEL_TRACES_EXPORTER", value,
                       "there is otlp and none; write one of them (Zipkin and Jaeger receivers take OTLP)");
    return 1;
}

void config_otlp_load(struct exporter_config *config, struct loading *loading)
{
    const char *name, *value = value_otlp("TIMEOUT", &name);
    int exporter = traces_exporter(loading);
    config->protocol = OTLP_NONE;
    config->timeout_ms = 10000;
    /* Checked whether or not it is used: a mistake found at start is cheaper than one found on the day it matters. */
    value_number(loading, name, value, 0, 3600000, "milliseconds (0: no limit)", &config->timeout_ms);
    load_headers(config, loading);
    load_compression(config, loading);
    load_files(config, loading);
    if (exporter != 0)
        load_endpoint(config, loading, exporter == 1);
}
