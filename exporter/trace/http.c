/* http.c - HTTP requests in the stable semantic conventions (https://opentelemetry.io/docs/specs/semconv/http/http-spans/), also those that
 * came or went by FastCGI.
 *
 * Server: what the caller asked for (Forwarded, X-Forwarded-*, Host come before the addresses of the connection, which are a proxy's
 * when there is one). Client: what the program asked for. A span is named by its method alone: a path is no name, there are too many. */
#include "trace/facts.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

/* Who is asked, and by what: from the most telling source there is. */
struct authority {
    struct bytes host;
    int port; /* -1: not given */
};

static struct bytes trim(struct bytes b)
{
    while (b.len > 0 && (b.at[0] == ' ' || b.at[0] == '\t'))
        b.at++, b.len--;
    while (b.len > 0 && (b.at[b.len - 1] == ' ' || b.at[b.len - 1] == '\t'))
        b.len--;
    return b;
}

static struct bytes attr(const struct making *m, enum otshim_attr_key key)
{
    return trim(m->facts->attrs[key]);
}

static bool is_word(struct bytes b, const char *word)
{
    return b.len == strlen(word) && strncasecmp(b.at, word, b.len) == 0;
}

/* The first element of a comma-separated list: what the client's own hop said. */
static struct bytes first_of_list(struct bytes list)
{
    const char *comma = list.len > 0 ? memchr(list.at, ',', list.len) : NULL;
    return trim(comma != NULL ? bytes_of(list.at, (size_t)(comma - list.at)) : list);
}

/* for=, host=, proto= of the first element of Forwarded (RFC 7239 4), without quotes. Commas in quotes do not occur in these. */
static struct bytes forwarded(const struct making *m, const char *name)
{
    struct bytes rest = first_of_list(attr(m, OTSHIM_ATTR_FORWARDED));
    while (rest.len > 0) {
        const char *semicolon = memchr(rest.at, ';', rest.len);
        struct bytes pair = semicolon != NULL ? bytes_of(rest.at, (size_t)(semicolon - rest.at)) : rest;
        rest = bytes_of(pair.at + pair.len, rest.len - pair.len);
        if (rest.len > 0)
            rest.at++, rest.len--;
        const char *equals = pair.len > 0 ? memchr(pair.at, '=', pair.len) : NULL;
        if (equals == NULL || !is_word(trim(bytes_of(pair.at, (size_t)(equals - pair.at))), name))
            continue;
        struct bytes value = trim(bytes_of(equals + 1, (size_t)(pair.at + pair.len - equals - 1)));
        if (value.len >= 2 && value.at[0] == '"' && value.at[value.len - 1] == '"')
            value = bytes_of(value.at + 1, value.len - 2);
        return value;
    }
    return NO_BYTES;
}

static bool authority_of(struct bytes text, struct authority *out)
{
    bool credentials;
    return text.len > 0 && address_split(url_host_part(text, &credentials), &out->host, &out->port);
}

/* ---- both ------------------------------------------------------------------------------------------------------------------------- */

static bool known_method(struct bytes method)
{
    static const char *const known[] = {"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY"};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (method.len == strlen(known[i]) && memcmp(method.at, known[i], method.len) == 0)
            return true;
    return false;
}

static void describe_method(struct making *m)
{
    struct bytes method = m->facts->attrs[OTSHIM_ATTR_METHOD];
    m->span.name = "HTTP";
    if (method.len == 0) /* it ended before there was one */
        return;
    const char *text = draft_text(m->draft, method.at, method.len);
    if (known_method(method)) {
        m->span.name = text;
        draft_string(m->draft, "http.request.method", text);
    } else {
        draft_string(m->draft, "http.request.method", "_OTHER");
        draft_string(m->draft, "http.request.method_original", text);
    }
}

static bool is_fastcgi(const struct otshim_span_rec *rec)
{
    return rec->protocol == OTSHIM_PROTOCOL_FASTCGI;
}

static void describe_version(struct making *m)
{
    const struct otshim_span_rec *rec = m->facts->rec;
    draft_string(m->draft, "network.protocol.name", is_fastcgi(rec) ? "fastcgi" : "http");
    if (rec->version != 0)
        draft_string(m->draft, "network.protocol.version", rec->version == 10 ? "1.0" : rec->version == 20 ? "2" : "1.1");
}

static void describe_sizes(struct making *m)
{
    const struct otshim_span_rec *rec = m->facts->rec;
    if (rec->request_body_bytes > 0)
        draft_integer(m->draft, "http.request.body.size", (int64_t)rec->request_body_bytes);
    if (rec->response_body_bytes > 0)
        draft_integer(m->draft, "http.response.body.size", (int64_t)rec->response_body_bytes);
}

/* A status code that is an error is the error's type, whatever else went wrong. What the connection said stays as the message. */
static void describe_status(struct making *m, unsigned error_from)
{
    const struct otshim_span_rec *rec = m->facts->rec;
    if (rec->status == 0)
        return;
    draft_integer(m->draft, "http.response.status_code", rec->status);
    if (rec->status >= error_from) {
        m->span.status = SPAN_STATUS_ERROR;
        m->error_type = draft_format(m->draft, "%u", rec->status);
    }
}

/* The first piece of the answer, and where the conversation went on as something else. */
static void describe_events(struct making *m)
{
    const struct otshim_span_rec *rec = m->facts->rec;
    int64_t offset = m->facts->process->clock_offset_ns;
    if (rec->first_byte_ns >= rec->start_ns && rec->first_byte_ns <= rec->end_ns)
        draft_event(m->draft, "http.response.first_byte", (uint64_t)((int64_t)rec->first_byte_ns + offset), NULL, NULL);
    struct bytes to = attr(m, OTSHIM_ATTR_UPGRADE);
    if (rec->end == OTSHIM_END_UPGRADED)
        draft_event(m->draft, "http.upgrade", m->span.end_unix_ns, to.len > 0 ? "network.protocol.name" : NULL,
                    draft_text(m->draft, to.at, to.len));
}

static void describe_address(struct making *m, struct authority a, const char *scheme)
{
    draft_string(m->draft, "server.address", draft_text(m->draft, a.host.at, a.host.len));
    if (a.port < 0 && m->facts->rec->transport == OTSHIM_TRANSPORT_TCP)
        a.port = strcasecmp(scheme, "https") == 0 ? 443 : strcasecmp(scheme, "http") == 0 ? 80 : -1;
    if (a.port >= 0)
        draft_integer(m->draft, "server.port", a.port);
}

/* ---- server ----------------------------------------------------------------------------------------------------------------------- */

/* In lower case (RFC 3986 3.1); NULL for what is none. */
static const char *scheme_text(struct making *m, struct bytes scheme)
{
    char text[16];
    if (scheme.len == 0 || scheme.len >= sizeof text)
        return NULL;
    for (size_t i = 0; i < scheme.len; i++) {
        text[i] = (char)(scheme.at[i] | 0x20);
        if (text[i] < 'a' || text[i] > 'z')
            return NULL;
    }
    return draft_text(m->draft, text, scheme.len);
}

static const char *server_scheme(struct making *m, const struct url *url)
{
    const char *scheme = scheme_text(m, forwarded(m, "proto"));
    if (scheme == NULL)
        scheme = scheme_text(m, first_of_list(attr(m, OTSHIM_ATTR_X_FORWARDED_PROTO)));
    if (scheme == NULL)
        scheme = scheme_text(m, url->scheme);
    if (scheme == NULL)
        scheme = m->facts->rec->flags & OTSHIM_SPAN_TLS ? "https" : "http";
    return scheme;
}

static void server_address(struct making *m, const struct url *url, const char *scheme)
{
    const struct otshim_span_rec *rec = m->facts->rec;
    struct authority a;
    char text[ADDRESS_TEXT];
    if (authority_of(forwarded(m, "host"), &a) || authority_of(url->authority, &a) || authority_of(attr(m, OTSHIM_ATTR_HOST), &a)) {
        describe_address(m, a, scheme);
        return;
    }
    address_text(&rec->local, text);
    a = (struct authority){bytes_of(text, strlen(text)), rec->local.port};
    if (rec->transport == OTSHIM_TRANSPORT_UNIX)
        a = (struct authority){m->facts->attrs[OTSHIM_ATTR_SOCKET_PATH], -1};
    if (a.host.len > 0)
        describe_address(m, a, scheme);
}

/* A node of Forwarded or X-Forwarded-For may carry a port, and IPv6 then (in Forwarded always) brackets. A bare IPv6 address has neither. */
static struct bytes client_node(struct bytes node)
{
    struct bytes host;
    int port;
    const char *colon = node.len > 0 ? memchr(node.at, ':', node.len) : NULL;
    bool bare_v6 = colon != NULL && node.at[0] != '[' && memchr(colon + 1, ':', (size_t)(node.at + node.len - colon - 1)) != NULL;
    return !bare_v6 && address_split(node, &host, &port) ? host : node;
}

static void client_address(struct making *m)
{
    struct bytes node = forwarded(m, "for");
    char text[ADDRESS_TEXT];
    if (node.len == 0)
        node = first_of_list(attr(m, OTSHIM_ATTR_X_FORWARDED_FOR));
    node = client_node(node);
    if (node.len == 0) {
        address_text(&m->facts->rec->peer, text);
        node = bytes_of(text, strlen(text));
    }
    draft_string(m->draft, "client.address", draft_text(m->draft, node.at, node.len));
}

static void describe_server(struct making *m)
{
    struct bytes target = m->facts->attrs[OTSHIM_ATTR_TARGET], agent = attr(m, OTSHIM_ATTR_USER_AGENT);
    bool connect = is_word(m->facts->attrs[OTSHIM_ATTR_METHOD], "CONNECT");
    struct url url = url_of_target(target, connect);
    if (target.len > 0 && !connect)
        draft_string(m->draft, "url.path", url.path.len > 0 ? draft_text(m->draft, url.path.at, url.path.len) : "/");
    draft_string(m->draft, "url.query", url_redacted(m->draft, url.query));
    const char *scheme = server_scheme(m, &url);
    draft_string(m->draft, "url.scheme", scheme);
    server_address(m, &url, scheme);
    client_address(m);
    draft_string(m->draft, "user_agent.original", draft_text(m->draft, agent.at, agent.len));
    describe_status(m, 500);
}

/* ---- client ----------------------------------------------------------------------------------------------------------------------- */

/* The URL as the program meant it: absolute (to a proxy), or put together from Host and target. */
static const char *client_url(struct making *m, const struct url *url, const char *scheme, struct authority a)
{
    bool credentials = false;
    char port[16] = "";
    if (a.port >= 0)
        snprintf(port, sizeof port, ":%d", a.port);
    url_host_part(url->authority, &credentials);
    bool v6 = a.host.len > 0 && memchr(a.host.at, ':', a.host.len) != NULL;
    const char *host = draft_text(m->draft, a.host.at, a.host.len);
    bool asterisk = url->rest.len == 1 && url->rest.at[0] == '*'; /* OPTIONS *: the URI without a path (RFC 9112 3.2.4) */
    const char *rest = asterisk ? "" : url_redacted(m->draft, url->rest);
    return draft_format(m->draft, "%s://%s%s%s%s%s%s", scheme, credentials ? "REDACTED:REDACTED@" : "", v6 ? "[" : "", host,
                        v6 ? "]" : "", port, rest);
}

static void describe_client(struct making *m)
{
    struct bytes target = m->facts->attrs[OTSHIM_ATTR_TARGET];
    bool connect = is_word(m->facts->attrs[OTSHIM_ATTR_METHOD], "CONNECT");
    struct url url = url_of_target(target, connect);
    const char *scheme = m->facts->rec->flags & OTSHIM_SPAN_TLS ? "https" : "http";
    if (url.scheme.len > 0)
        scheme = draft_text(m->draft, url.scheme.at, url.scheme.len);
    else if (is_fastcgi(m->facts->rec) && scheme_text(m, attr(m, OTSHIM_ATTR_X_FORWARDED_PROTO)) != NULL)
        scheme = scheme_text(m, attr(m, OTSHIM_ATTR_X_FORWARDED_PROTO));
    int port;
    const char *name = address_peer_name(m, &port);
    const struct authority peer = {bytes_of(name, strlen(name)), port != 0 ? port : -1};
    struct authority a;
    if (!authority_of(url.authority, &a) && !authority_of(attr(m, OTSHIM_ATTR_HOST), &a))
        a = peer;
    if (connect)
        draft_string(m->draft, "url.full", draft_text(m->draft, target.at, target.len));
    else if (target.len > 0)
        draft_string(m->draft, "url.full", client_url(m, &url, scheme, a));
    /* Whose URL it is, is one thing; which FastCGI program is asked, another. */
    describe_address(m, is_fastcgi(m->facts->rec) ? peer : a, scheme);
    describe_status(m, 400);
}

void http_describe(struct making *m)
{
    describe_method(m);
    if (m->facts->rec->kind == OTSHIM_SPAN_SERVER)
        describe_server(m);
    else
        describe_client(m);
    describe_version(m);
    describe_sizes(m);
    describe_events(m);
}
