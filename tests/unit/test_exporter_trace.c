/* test_exporter_trace.c - raw records to spans: each kind in full, as text, and the ways in which they end. */
#include "metrics/stats.h"
#include "trace/draft.h"
#include "trace/resource.h"
#include "trace/trace.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---- a record in the making, and what came of it ---------------------------------------------------------------------------------- */

static struct process process = {.pid = 0, .clock_offset_ns = 1000000000000};
static struct otshim_span_rec rec;
static uint8_t attrs[OTSHIM_RECORD_MAX_BYTES];
static struct span *got;

static void keep(void *self, struct span *span)
{
    (void)self;
    assert_null(got);
    got = span_ref(span);
}

static struct otshim_addr ip(const char *text, uint16_t port)
{
    struct otshim_addr addr = {.family = strchr(text, ':') != NULL ? 6 : 4, .port = port};
    assert_int_equal(inet_pton(addr.family == 6 ? AF_INET6 : AF_INET, text, addr.bytes), 1);
    return addr;
}

static void begin(uint8_t kind)
{
    rec = (struct otshim_span_rec){.start_ns = 1000,
                                   .end_ns = 5000,
                                   .kind = kind,
                                   .protocol = OTSHIM_PROTOCOL_HTTP1,
                                   .version = 11,
                                   .transport = OTSHIM_TRANSPORT_TCP,
                                   .trace_flags = 1,
                                   .trace_id = {1},
                                   .span_id = {2}};
    rec.peer = ip("10.0.0.9", 4711);
    rec.local = ip("10.0.0.1", 8080);
    if (kind == OTSHIM_SPAN_CLIENT || kind == OTSHIM_SPAN_CONNECT) {
        rec.peer = ip("10.0.0.7", 8080);
        rec.local = ip("10.0.0.1", 54321);
    }
}

static void add_bytes(uint16_t key, const void *bytes, size_t len)
{
    struct otshim_attr head = {key, (uint16_t)len};
    memcpy(attrs + rec.attr_bytes, &head, sizeof head);
    memcpy(attrs + rec.attr_bytes + sizeof head, bytes, len);
    rec.attr_bytes += otshim_attr_size((uint32_t)len);
}

static void add(uint16_t key, const char *text)
{
    add_bytes(key, text, strlen(text));
}

static void request(const char *method, const char *target, const char *host)
{
    add(OTSHIM_ATTR_METHOD, method);
    add(OTSHIM_ATTR_TARGET, target);
    if (host != NULL)
        add(OTSHIM_ATTR_HOST, host);
}

static struct trace *trace;

static struct span *make(void)
{
    struct record_sink sink = trace_record_sink(trace);
    if (got != NULL)
        span_unref(got);
    got = NULL;
    sink.span(sink.self, &process, &rec, attrs, NULL);
    assert_non_null(got);
    return got;
}

static size_t print_value(char *out, size_t size, const struct attribute *a)
{
    if (a->type == VALUE_STRING)
        return (size_t)snprintf(out, size, "%s", a->value.string);
    if (a->type == VALUE_INT)
        return (size_t)snprintf(out, size, "%lld", (long long)a->value.integer);
    if (a->type == VALUE_BOOL)
        return (size_t)snprintf(out, size, "%s", a->value.boolean ? "true" : "false");
    size_t len = 0;
    for (size_t i = 0; i < a->value.strings.count; i++)
        len += (size_t)snprintf(out + len, size - len, "%s%s", i ? "," : "", a->value.strings.items[i]);
    return len;
}

/* "GET SERVER error: message | key=value | ... | @first_byte+3000 ..." */
static const char *print(const struct span *span)
{
    static char out[32768];
    static const char *const kinds[] = {"?", "INTERNAL", "SERVER", "CLIENT"};
    size_t len = (size_t)snprintf(out, sizeof out, "%s %s%s%s%s", span->name, kinds[span->kind],
                                  span->status == SPAN_STATUS_ERROR ? " ERROR" : "", *span->status_message ? ": " : "",
                                  span->status_message);
    for (size_t i = 0; i < span->attribute_count; i++) {
        len += (size_t)snprintf(out + len, sizeof out - len, "\n%s=", span->attributes[i].key);
        len += print_value(out + len, sizeof out - len, &span->attributes[i]);
    }
    for (size_t i = 0; i < span->event_count; i++) {
        const struct span_event *e = &span->events[i];
        len += (size_t)snprintf(out + len, sizeof out - len, "\n@%s+%lld", e->name,
                                (long long)(e->time_unix_ns - span->start_unix_ns));
        for (size_t k = 0; k < e->attribute_count; k++) {
            len += (size_t)snprintf(out + len, sizeof out - len, " %s=", e->attributes[k].key);
            len += print_value(out + len, sizeof out - len, &e->attributes[k]);
        }
    }
    return out;
}

static const char *value(const char *key)
{
    static char out[4096];
    const struct attribute *a = span_attribute(got, key);
    if (a == NULL)
        return "(none)";
    print_value(out, sizeof out, a);
    return out;
}

/* ---- each kind in full ---------------------------------------------------------------------------------------------------------------- */

static void test_server(void **unused)
{
    (void)unused;
    begin(OTSHIM_SPAN_SERVER);
    rec.first_byte_ns = 4000;
    rec.status = 200;
    rec.request_body_bytes = 12;
    rec.response_body_bytes = 345;
    rec.parent_rule = OTSHIM_PARENT_REMOTE;
    rec.parent_id[0] = 3;
    rec.tid = 77;
    request("POST", "/a/b?x=1&sig=abc&y", "shop.example:8080");
    add(OTSHIM_ATTR_USER_AGENT, "curl/7.88");
    add(OTSHIM_ATTR_TRACESTATE, "a=1");
    struct span *span = make();
    assert_string_equal(print(span), "POST SERVER\n"
                                     "http.request.method=POST\n"
                                     "url.path=/a/b\n"
                                     "url.query=x=1&sig=REDACTED&y\n"
                                     "url.scheme=http\n"
                                     "server.address=shop.example\n"
                                     "server.port=8080\n"
                                     "client.address=10.0.0.9\n"
                                     "user_agent.original=curl/7.88\n"
                                     "http.response.status_code=200\n"
                                     "network.protocol.name=http\n"
                                     "network.protocol.version=1.1\n"
                                     "http.request.body.size=12\n"
                                     "http.response.body.size=345\n"
                                     "network.peer.address=10.0.0.9\n"
                                     "network.peer.port=4711\n"
                                     "network.local.address=10.0.0.1\n"
                                     "network.local.port=8080\n"
                                     "network.transport=tcp\n"
                                     "network.type=ipv4\n"
                                     "thread.id=77\n"
                                     "otshim.parent=remote\n"
                                     "@http.response.first_byte+3000");
    assert_int_equal(span->start_unix_ns, 1000000001000);
    assert_int_equal(span->end_unix_ns, 1000000005000);
    assert_true(span->has_parent && span->parent_is_remote && span->sampled);
    assert_int_equal(span->trace_flags, 0x301);
    assert_string_equal(span->trace_state, "a=1");
    assert_ptr_equal(span->resource, process.resource);
    assert_true(span->size_hint > 0);
}

static void test_client(void **unused)
{
    (void)unused;
    begin(OTSHIM_SPAN_CLIENT);
    rec.status = 404;
    rec.parent_rule = OTSHIM_PARENT_THREAD;
    rec.parent_id[0] = 3;
    rec.trace_flags = 0;
    request("GET", "/b?AWSAccessKeyId=1&Signature=2&X-Goog-Signature=3&q=4#no", "upstream:8080");
    struct span *span = make();
    assert_string_equal(print(span),
                        "GET CLIENT ERROR\n"
                        "http.request.method=GET\n"
                        "url.full=http://upstream:8080/b?AWSAccessKeyId=REDACTED&Signature=REDACTED&X-Goog-Signature=REDACTED&q=4\n"
                        "server.address=upstream\n"
                        "server.port=8080\n"
                        "http.response.status_code=404\n"
                        "network.protocol.name=http\n"
                        "network.protocol.version=1.1\n"
                        "network.peer.address=10.0.0.7\n"
                        "network.peer.port=8080\n"
                        "network.local.address=10.0.0.1\n"
                        "network.local.port=54321\n"
                        "network.transport=tcp\n"
                        "network.type=ipv4\n"
                        "error.type=404\n"
                        "otshim.parent=thread");
    assert_true(span->has_parent && !span->parent_is_remote && !span->sampled);
    assert_int_equal(span->trace_flags, 0x100);
}

/* A request that came by FastCGI: what the server in front says of its client, and what the program said that failed. */
static void test_fastcgi_server(void **unused)
{
    (void)unused;
    begin(OTSHIM_SPAN_SERVER);
    rec.protocol = OTSHIM_PROTOCOL_FASTCGI;
    rec.version = 10;
    rec.transport = OTSHIM_TRANSPORT_UNIX;
    rec.peer = rec.local = (struct otshim_addr){.family = 1};
    rec.status = 500;
    request("GET", "/a.php?x=1", "shop.example");
    add(OTSHIM_ATTR_X_FORWARDED_FOR, "203.0.113.7");
    add(OTSHIM_ATTR_X_FORWARDED_PROTO, "https");
    add(OTSHIM_ATTR_ERROR_TEXT, "PHP message: PHP Fatal error:  Uncaught");
    make();
    assert_string_equal(print(got), "GET SERVER ERROR: PHP message: PHP Fatal error:  Uncaught\n"
                                    "http.request.method=GET\n"
                                    "url.path=/a.php\n"
                                    "url.query=x=1\n"
                                    "url.scheme=https\n"
                                    "server.address=shop.example\n"
                                    "client.address=203.0.113.7\n"
                                    "http.response.status_code=500\n"
                                    "network.protocol.name=fastcgi\n"
                                    "network.protocol.version=1.0\n"
                                    "network.transport=unix\n"
                                    "error.type=500");
}

/* The URL is whose it is; the server is who is asked. */
static void test_fastcgi_client(void **unused)
{
    (void)unused;
    begin(OTSHIM_SPAN_CLIENT);
    rec.protocol = OTSHIM_PROTOCOL_FASTCGI;
    rec.version = 10;
    rec.status = 200;
    request("GET", "/a.php?x=1", "shop.example");
    add(OTSHIM_ATTR_X_FORWARDED_PROTO, "https");
    make();
    assert_string_equal(value("url.full"), "https://shop.example/a.php?x=1");
    assert_string_equal(value("server.address"), "10.0.0.7");
    assert_string_equal(value("server.port"), "8080");
    assert_string_equal(value("network.protocol.name"), "fastcgi");
    begin(OTSHIM_SPAN_CLIENT);
    rec.protocol = OTSHIM_PROTOCOL_FASTCGI;
    rec.transport = OTSHIM_TRANSPORT_UNIX;
    rec.peer = rec.local = (struct otshim_addr){.family = 1};
    request("GET", "/a.php", "shop.example");
    add(OTSHIM_ATTR_SOCKET_PATH, "/run/php.sock");
    make();
    assert_string_equal(value("url.full"), "http://shop.example/a.php");
    assert_string_equal(value("server.address"), "/run/php.sock");
    assert_string_equal(value("server.port"), "(none)");
}

static void command(const char *operation, const char *arguments, const char *key)
{
    begin(OTSHIM_SPAN_CLIENT);
    rec.protocol = OTSHIM_PROTOCOL_REDIS;
    rec.version = 0;
    add(OTSHIM_ATTR_METHOD, operation);
    add(OTSHIM_ATTR_DB_NAMESPACE, "0");
    if (arguments != NULL)
        add(OTSHIM_ATTR_DB_ARGUMENTS, arguments);
    if (key != NULL)
        add(OTSHIM_ATTR_DB_KEY, key);
}

static void test_redis(void **unused)
{
    (void)unused;
    command("HSET", "5", "user:1");
    add(OTSHIM_ATTR_PEER_NAME, "cache");
    assert_string_equal(print(make()), "HSET CLIENT\n"
                                       "db.system.name=redis\n"
                                       "db.namespace=0\n"
                                       "db.operation.name=HSET\n"
                                       "db.query.text=HSET user:1 ? ? ? ?\n"
                                       "server.address=cache\n"
                                       "server.port=8080\n"
                                       "network.peer.address=10.0.0.7\n"
                                       "network.peer.port=8080\n"
                                       "network.local.address=10.0.0.1\n"
                                       "network.local.port=54321\n"
                                       "network.transport=tcp\n"
                                       "network.type=ipv4");
    static const struct {
        const char *operation, *arguments, *key, *text;
    } texts[] = {
        {"GET", "1", "k", "GET k"},
        {"CONFIG GET", "1", NULL, "CONFIG GET ?"},
        {"AUTH", NULL, NULL, "AUTH"},
        {"PING", "0", NULL, "PING"},
        {"DEL", "13", "k", "DEL k ? ? ? ? ? ? ? ? ? ? ? ?"},
        {"DEL", "14", "k", "DEL k ? ? ? ? ? ? ? ? ? ? ? ? ..."},
        {"MGET", "99999999999999999999999999999999", NULL, "MGET ? ? ? ? ? ? ? ? ? ? ? ? ..."},
        {"GET", "-1", NULL, "GET"},
        {"GET", "many", "k", "GET k"},
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        command(texts[i].operation, texts[i].arguments, texts[i].key);
        make();
        assert_string_equal(value("db.query.text"), texts[i].text);
        assert_string_equal(got->name, texts[i].operation);
        assert_int_equal(got->status, SPAN_STATUS_UNSET);
    }
}

static void test_redis_errors(void **unused)
{
    (void)unused;
    static const struct {
        const char *text, *code, *type, *message;
    } errors[] = {
        {"WRONGTYPE Operation against", "WRONGTYPE", "WRONGTYPE", "WRONGTYPE Operation against"},
        {"LOADING", "LOADING", "LOADING", "LOADING"},
        {"my own words", "(none)", "_OTHER", "my own words"},
        {"Not a code", "(none)", "_OTHER", "Not a code"},
        {"", "(none)", "_OTHER", ""},
    };
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
        command("LPUSH", "2", "k");
        rec.flags = OTSHIM_SPAN_FAILED;
        if (errors[i].text[0] != '\0')
            add(OTSHIM_ATTR_ERROR_TEXT, errors[i].text);
        make();
        assert_int_equal(got->status, SPAN_STATUS_ERROR);
        assert_string_equal(got->status_message, errors[i].message);
        assert_string_equal(value("db.response.status_code"), errors[i].code);
        assert_string_equal(value("error.type"), errors[i].type);
    }
    /* no name: what came was no command's, or the program died before it was known */
    begin(OTSHIM_SPAN_CLIENT);
    rec.protocol = OTSHIM_PROTOCOL_REDIS;
    rec.end = OTSHIM_END_RESET;
    rec.error = ECONNRESET;
    make();
    assert_string_equal(got->name, "redis");
    assert_string_equal(value("error.type"), "ECONNRESET");
    assert_string_equal(value("db.query.text"), "(none)");
}

static void test_connect(void **unused)
{
    (void)unused;
    begin(OTSHIM_SPAN_CONNECT);
    rec.end = OTSHIM_END_FAILED;
    rec.error = ECONNREFUSED;
    rec.local = (struct otshim_addr){0};
    rec.peer = ip("::1", 80);
    add(OTSHIM_ATTR_PEER_NAME, "localhost");
    assert_string_equal(print(make()), "tcp.connect INTERNAL ERROR: connection refused\n"
                                       "otshim.end=failed\n"
                                       "server.address=localhost\n"
                                       "server.port=80\n"
                                       "network.peer.address=::1\n"
                                       "network.peer.port=80\n"
                                       "network.transport=tcp\n"
                                       "network.type=ipv6\n"
                                       "error.type=ECONNREFUSED");
    begin(OTSHIM_SPAN_CONNECT);
    rec.transport = OTSHIM_TRANSPORT_UNIX;
    rec.peer = rec.local = (struct otshim_addr){.family = 1};
    add(OTSHIM_ATTR_SOCKET_PATH, "/run/app.sock");
    assert_string_equal(print(make()), "unix.connect INTERNAL\n"
                                       "server.address=/run/app.sock\n"
                                       "network.peer.address=/run/app.sock\n"
                                       "network.transport=unix");
    begin(OTSHIM_SPAN_CONNECT);
    rec.end = OTSHIM_END_ABANDONED;
    assert_int_equal(make()->status, SPAN_STATUS_UNSET);
    assert_string_equal(value("otshim.end"), "abandoned");
    assert_string_equal(value("server.address"), "10.0.0.7");
}

static void test_dns(void **unused)
{
    (void)unused;
    struct otshim_addr answers[2] = {ip("10.0.0.7", 0), ip("2001:db8::1", 0)};
    begin(OTSHIM_SPAN_DNS);
    add(OTSHIM_ATTR_DNS_QUESTION, "db.example");
    add_bytes(OTSHIM_ATTR_DNS_ANSWER, answers, sizeof answers);
    assert_string_equal(print(make()), "dns.lookup INTERNAL\n"
                                       "dns.question.name=db.example\n"
                                       "dns.answers=10.0.0.7,2001:db8::1");
    begin(OTSHIM_SPAN_DNS);
    rec.end = OTSHIM_END_FAILED;
    rec.error = EAI_NONAME;
    add(OTSHIM_ATTR_DNS_QUESTION, "nowhere.invalid");
    assert_string_equal(print(make()), "dns.lookup INTERNAL ERROR: Name or service not known\n"
                                       "otshim.end=failed\n"
                                       "dns.question.name=nowhere.invalid\n"
                                       "error.type=EAI_NONAME");
}

static void test_tls(void **unused)
{
    (void)unused;
    begin(OTSHIM_SPAN_TLS_HANDSHAKE);
    rec.flags = OTSHIM_SPAN_RESUMED;
    add(OTSHIM_ATTR_TLS_VERSION, "TLSv1.3");
    add(OTSHIM_ATTR_TLS_CIPHER, "TLS_AES_256_GCM_SHA384");
    add(OTSHIM_ATTR_TLS_SERVER_NAME, "api.example");
    add(OTSHIM_ATTR_TLS_ALPN, "h2");
    assert_string_equal(print(make()), "tls.handshake INTERNAL\n"
                                       "tls.protocol.name=tls\n"
                                       "tls.protocol.version=1.3\n"
                                       "tls.cipher=TLS_AES_256_GCM_SHA384\n"
                                       "tls.client.server_name=api.example\n"
                                       "tls.next_protocol=h2\n"
                                       "tls.resumed=true\n"
                                       "server.address=10.0.0.9\n"
                                       "server.port=4711\n"
                                       "network.peer.address=10.0.0.9\n"
                                       "network.peer.port=4711\n"
                                       "network.local.address=10.0.0.1\n"
                                       "network.local.port=8080\n"
                                       "network.transport=tcp\n"
                                       "network.type=ipv4");
    begin(OTSHIM_SPAN_TLS_HANDSHAKE);
    rec.end = OTSHIM_END_FAILED;
    add(OTSHIM_ATTR_ERROR_TEXT, "certificate has expired");
    assert_string_equal(print(make()), "tls.handshake INTERNAL ERROR: certificate has expired\n"
                                       "otshim.end=failed\n"
                                       "server.address=10.0.0.9\n"
                                       "server.port=4711\n"
                                       "network.peer.address=10.0.0.9\n"
                                       "network.peer.port=4711\n"
                                       "network.local.address=10.0.0.1\n"
                                       "network.local.port=8080\n"
                                       "network.transport=tcp\n"
                                       "network.type=ipv4\n"
                                       "error.type=tls_handshake_failed");
}

/* ---- particulars ------------------------------------------------------------------------------------------------------------------------ */

static void test_methods(void **unused)
{
    (void)unused;
    begin(OTSHIM_SPAN_SERVER);
    request("get", "/", "h");
    assert_string_equal(make()->name, "HTTP");
    assert_string_equal(value("http.request.method"), "_OTHER");
    assert_string_equal(value("http.request.method_original"), "get");
    begin(OTSHIM_SPAN_SERVER); /* ended before there was a request line */
    rec.end = OTSHIM_END_PEER_CLOSED;
    assert_string_equal(make()->name, "HTTP");
    assert_string_equal(value("http.request.method"), "(none)");
    assert_string_equal(value("url.path"), "(none)");
}

static void test_server_targets(void **unused)
{
    (void)unused;
    static const char *const cases[][6] = {
        /* method, target, Host -> path, address, port */
        {"GET", "/", "h", "/", "h", "80"},
        {"GET", "/a//b?", "h:1", "/a//b", "h", "1"},
        {"GET", "http://abs.example/x?y", "h", "/x", "abs.example", "80"},
        {"GET", "HTTPS://u:p@abs.example:444?y", "h", "/", "abs.example", "444"},
        {"OPTIONS", "*", "h", "*", "h", "80"},
        {"CONNECT", "far.example:443", "far.example:443", "(none)", "far.example", "443"},
        {"GET", "/?http://x/", "[2001:db8::1]:81", "/", "2001:db8::1", "81"},
        {"GET", "/", "bad:port", "/", "10.0.0.1", "8080"},
        {"GET", "/", "", "/", "10.0.0.1", "8080"},
        {"GET", "/", " spaced ", "/", "spaced", "80"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        begin(OTSHIM_SPAN_SERVER);
        request(cases[i][0], cases[i][1], cases[i][2]);
        make();
        assert_string_equal(value("url.path"), cases[i][3]);
        assert_string_equal(value("server.address"), cases[i][4]);
        assert_string_equal(value("server.port"), cases[i][5]);
    }
}

static void test_forwarded(void **unused)
{
    (void)unused;
    static const char *const cases[][6] = {
        /* Forwarded, X-Forwarded-For, X-Forwarded-Proto -> client.address, scheme, server.address */
        {"", "", "", "10.0.0.9", "http", "h"},
        {"", "203.0.113.7, 10.0.0.2", "https, http", "203.0.113.7", "https", "h"},
        {"for=192.0.2.60;proto=https;host=\"shop.example:443\", for=10.1.1.1", "1.1.1.1", "http", "192.0.2.60", "https",
         "shop.example"},
        {"For=\"[2001:db8:cafe::17]:4711\"", "", "", "2001:db8:cafe::17", "http", "h"},
        {"", "2001:db8::5", "", "2001:db8::5", "http", "h"},
        {"", "192.0.2.1:8080", "", "192.0.2.1", "http", "h"},
        {"for=_hidden; by=x", "", "", "_hidden", "http", "h"},
        {";;=;for", "", "", "10.0.0.9", "http", "h"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        begin(OTSHIM_SPAN_SERVER);
        request("GET", "/", "h");
        add(OTSHIM_ATTR_FORWARDED, cases[i][0]);
        add(OTSHIM_ATTR_X_FORWARDED_FOR, cases[i][1]);
        add(OTSHIM_ATTR_X_FORWARDED_PROTO, cases[i][2]);
        make();
        assert_string_equal(value("client.address"), cases[i][3]);
        assert_string_equal(value("url.scheme"), cases[i][4]);
        assert_string_equal(value("server.address"), cases[i][5]);
    }
}

static void test_client_urls(void **unused)
{
    (void)unused;
    static const char *const cases[][6] = {
        /* method, target, Host, name resolved -> URL, server */
        {"GET", "/x", "h:81", "", "http://h:81/x", "h 81"},
        {"GET", "/x", "h", "", "http://h/x", "h 80"},
        {"GET", "/x", "", "resolved.example", "http://resolved.example:8080/x", "resolved.example 8080"},
        {"GET", "/x", "", "", "http://10.0.0.7:8080/x", "10.0.0.7 8080"},
        {"GET", "/x", "[::1]:81", "", "http://[::1]:81/x", "::1 81"},
        {"GET", "http://user:secret@far.example/x?sig=1", "far.example", "", "http://REDACTED:REDACTED@far.example/x?sig=REDACTED",
         "far.example 80"},
        {"OPTIONS", "*", "h", "", "http://h", "h 80"},
        {"CONNECT", "far.example:443", "far.example:443", "", "far.example:443", "far.example 443"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char server[300];
        begin(OTSHIM_SPAN_CLIENT);
        request(cases[i][0], cases[i][1], cases[i][2]);
        add(OTSHIM_ATTR_PEER_NAME, cases[i][3]);
        make();
        assert_string_equal(value("url.full"), cases[i][4]);
        int len = snprintf(server, sizeof server, "%s ", value("server.address"));
        snprintf(server + len, sizeof server - (size_t)len, "%s", value("server.port"));
        assert_string_equal(server, cases[i][5]);
    }
}

static void test_unix_server(void **unused)
{
    (void)unused;
    begin(OTSHIM_SPAN_SERVER);
    rec.transport = OTSHIM_TRANSPORT_UNIX;
    rec.peer = rec.local = (struct otshim_addr){.family = 1};
    request("GET", "/", NULL);
    add(OTSHIM_ATTR_SOCKET_PATH, "@abstract");
    make();
    assert_string_equal(value("server.address"), "@abstract");
    assert_string_equal(value("server.port"), "(none)");
    assert_string_equal(value("client.address"), "(none)");
    assert_string_equal(value("network.local.address"), "@abstract");
}

static void test_mapped_address(void **unused)
{
    (void)unused;
    begin(OTSHIM_SPAN_SERVER);
    rec.peer = ip("::ffff:192.0.2.9", 1);
    request("GET", "/", "h");
    make();
    assert_string_equal(value("client.address"), "192.0.2.9");
    assert_string_equal(value("network.type"), "ipv4");
}

static void test_ends(void **unused)
{
    (void)unused;
    static const struct {
        uint8_t kind, end;
        uint16_t status;
        int32_t error;
        const char *type, *message;
    } cases[] = {
        {OTSHIM_SPAN_SERVER, OTSHIM_END_COMPLETE, 499, 0, NULL, ""},
        {OTSHIM_SPAN_SERVER, OTSHIM_END_COMPLETE, 503, 0, "503", ""},
        {OTSHIM_SPAN_CLIENT, OTSHIM_END_COMPLETE, 399, 0, NULL, ""},
        {OTSHIM_SPAN_CLIENT, OTSHIM_END_COMPLETE, 400, 0, "400", ""},
        {OTSHIM_SPAN_SERVER, OTSHIM_END_PEER_CLOSED, 200, 0, "peer_closed",
         "the client closed the connection before the response was complete"},
        {OTSHIM_SPAN_CLIENT, OTSHIM_END_PEER_CLOSED, 0, 0, "peer_closed",
         "the server closed the connection before there was a response"},
        {OTSHIM_SPAN_CLIENT, OTSHIM_END_LOCAL_CLOSED, 200, 0, "local_closed",
         "the program closed the connection before the response was complete"},
        {OTSHIM_SPAN_CLIENT, OTSHIM_END_RESET, 0, ECONNRESET, "ECONNRESET", "connection reset by peer"},
        {OTSHIM_SPAN_CLIENT, OTSHIM_END_RESET, 502, ETIMEDOUT, "502", "connection timed out"},
        {OTSHIM_SPAN_SERVER, OTSHIM_END_UPGRADED, 101, 0, NULL, ""},
        {OTSHIM_SPAN_SERVER, OTSHIM_END_LOST, 200, 0, NULL, ""},
        {OTSHIM_SPAN_SERVER, OTSHIM_END_EXIT, 0, 0, "process_exited", "the process exited before there was a response"},
        {OTSHIM_SPAN_SERVER, OTSHIM_END_DIED, 200, 0, "process_died", "the process died before the response was complete"},
        {OTSHIM_SPAN_CONNECT, OTSHIM_END_FAILED, 0, 4095, "errno 4095", "unknown error 4095"},
        {OTSHIM_SPAN_CONNECT, OTSHIM_END_EXIT, 0, 0, "process_exited", "the process exited before the connection was made"},
        {OTSHIM_SPAN_SERVER, 200, 0, 0, NULL, ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        begin(cases[i].kind);
        rec.end = cases[i].end;
        rec.status = cases[i].status;
        rec.error = cases[i].error;
        request("GET", "/", "h");
        make();
        assert_string_equal(got->status_message, cases[i].message);
        assert_string_equal(value("error.type"), cases[i].type != NULL ? cases[i].type : "(none)");
        assert_int_equal(got->status, cases[i].type != NULL ? SPAN_STATUS_ERROR : SPAN_STATUS_UNSET);
    }
}

static void test_upgrade(void **unused)
{
    (void)unused;
    begin(OTSHIM_SPAN_SERVER);
    rec.end = OTSHIM_END_UPGRADED;
    rec.status = 101;
    request("GET", "/ws", "h");
    add(OTSHIM_ATTR_UPGRADE, "websocket");
    assert_non_null(strstr(print(make()), "\n@http.upgrade+4000 network.protocol.name=websocket"));
    assert_string_equal(value("otshim.end"), "upgraded");
}

static bool valid_text(const char *text)
{
    return strstr(text, "\xff") == NULL && strlen(text) <= DRAFT_VALUE_MAX;
}

/* Bytes that are no text, and text that is too long. */
static void test_text(void **unused)
{
    (void)unused;
    char target[OTSHIM_TARGET_MAX];
    begin(OTSHIM_SPAN_SERVER);
    add(OTSHIM_ATTR_METHOD, "GET");
    memset(target, '\xff', sizeof target);
    target[0] = '/';
    add_bytes(OTSHIM_ATTR_TARGET, target, sizeof target);
    add_bytes(OTSHIM_ATTR_HOST, "a\0b\xc3\xa4\xed\xa0\x80", 8);
    make();
    assert_true(valid_text(value("url.path")));
    assert_int_equal(strlen(value("url.path")), 1 + (DRAFT_VALUE_MAX - 1) / 3 * 3); /* whole replacement characters */
    assert_string_equal(value("server.address"), "a\xef\xbf\xbd"
                                                 "b\xc3\xa4\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");
    /* cut on a character's boundary */
    begin(OTSHIM_SPAN_SERVER);
    add(OTSHIM_ATTR_METHOD, "GET");
    target[0] = '/';
    for (size_t i = 1; i + 1 < sizeof target; i += 2)
        memcpy(target + i, "\xc3\xa4", 2);
    target[sizeof target - 1] = '\xc3';
    add_bytes(OTSHIM_ATTR_TARGET, target, sizeof target);
    make();
    assert_int_equal(strlen(value("url.path")), 2047);
}

/* Nothing that the ring may hold by mistake or malice makes trouble. */
static void test_hostile(void **unused)
{
    (void)unused;
    srand(1);
    for (int round = 0; round < 3000; round++) {
        begin((uint8_t)(1 + rand() % 4));
        uint8_t *raw = (uint8_t *)&rec;
        for (int i = 0; i < 8; i++)
            raw[56 + (size_t)rand() % (sizeof rec - 56)] = (uint8_t)rand();
        rec.attr_bytes = 0;
        int count = rand() % 20;
        for (int i = 0; i < count; i++) {
            char text[400];
            size_t len = (size_t)rand() % sizeof text;
            for (size_t k = 0; k < len; k++)
                text[k] = rand() % 3 ? "=;,:/?&@[]\"%# sigfor\0"[rand() % 21] : (char)rand();
            add_bytes((uint16_t)(rand() % 20), text, len);
        }
        make();
        for (size_t i = 0; i < got->attribute_count; i++)
            if (got->attributes[i].type == VALUE_STRING)
                assert_true(strlen(got->attributes[i].value.string) <= DRAFT_VALUE_MAX);
    }
}

static void test_inflight(void **unused)
{
    (void)unused;
    struct otshim_inflight slot = {.start_ns = 1000,
                                   .trace_id = {1},
                                   .span_id = {2},
                                   .parent_id = {3},
                                   .kind = OTSHIM_SPAN_SERVER,
                                   .protocol = OTSHIM_PROTOCOL_HTTP1,
                                   .trace_flags = 1,
                                   .parent_rule = OTSHIM_PARENT_REMOTE,
                                   .method_len = 3,
                                   .target_len = 5,
                                   .host_len = 4,
                                   .method = "GET",
                                   .target = "/slow",
                                   .host = "h:80"};
    slot.peer = ip("10.0.0.9", 4711);
    slot.local = ip("10.0.0.1", 80);
    if (got != NULL)
        span_unref(got);
    got = NULL;
    struct record_sink sink = trace_record_sink(trace);
    sink.inflight_died(sink.self, &process, &slot, 9000);
    assert_string_equal(print(got), "GET SERVER ERROR: the process died before there was a response\n"
                                    "otshim.end=died\n"
                                    "http.request.method=GET\n"
                                    "url.path=/slow\n"
                                    "url.scheme=http\n"
                                    "server.address=h\n"
                                    "server.port=80\n"
                                    "client.address=10.0.0.9\n"
                                    "network.protocol.name=http\n"
                                    "network.peer.address=10.0.0.9\n"
                                    "network.peer.port=4711\n"
                                    "network.local.address=10.0.0.1\n"
                                    "network.local.port=80\n"
                                    "network.transport=tcp\n"
                                    "network.type=ipv4\n"
                                    "error.type=process_died\n"
                                    "otshim.parent=remote");
    assert_null(got->receipt);
    assert_int_equal(got->end_unix_ns - got->start_unix_ns, 8000);
}

/* A span outlives its process, and a stack of a process that nobody knows is at least shown as numbers. */
static void test_unknown_stack(void **unused)
{
    (void)unused;
    uint64_t addresses[2] = {0x1234, 0xffffffffffffull};
    begin(OTSHIM_SPAN_CONNECT);
    add_bytes(OTSHIM_ATTR_STACK, addresses, sizeof addresses);
    make();
    assert_string_equal(value("code.stacktrace"), "#0 0x1234\n#1 0xffffffffffff");
    assert_string_equal(value("code.function.name"), "(none)");
}

/* What the library knows in the program's own language goes before addresses. */
static void test_code(void **unused)
{
    (void)unused;
    uint32_t line = 42;
    uint64_t address = 0x1234;
    begin(OTSHIM_SPAN_CONNECT);
    add(OTSHIM_ATTR_CODE_FUNCTION, "Shop.price");
    add(OTSHIM_ATTR_CODE_FILE, "/srv/shop.py");
    add_bytes(OTSHIM_ATTR_CODE_LINE, &line, sizeof line);
    add(OTSHIM_ATTR_CODE_STACKTRACE, "  File \"/srv/shop.py\", line 42, in Shop.price");
    add_bytes(OTSHIM_ATTR_STACK, &address, sizeof address);
    make();
    assert_string_equal(value("code.function.name"), "Shop.price");
    assert_string_equal(value("code.file.path"), "/srv/shop.py");
    assert_string_equal(value("code.line.number"), "42");
    assert_string_equal(value("code.stacktrace"), "  File \"/srv/shop.py\", line 42, in Shop.price");
}

static int setup(void **unused)
{
    (void)unused;
    trace = trace_new((struct span_sink){.span = keep});
    process.resource = resource_make(&(struct resource_input){.executable = "/usr/bin/test"});
    return trace == NULL || process.resource == NULL;
}

static int teardown(void **unused)
{
    (void)unused;
    if (got != NULL)
        span_unref(got);
    assert_int_equal(process.resource->refs, 1); /* no span is left over */
    resource_unref(process.resource);
    trace_free(trace);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_server),
        cmocka_unit_test(test_client),
        cmocka_unit_test(test_fastcgi_server),
        cmocka_unit_test(test_fastcgi_client),
        cmocka_unit_test(test_redis),
        cmocka_unit_test(test_redis_errors),
        cmocka_unit_test(test_connect),
        cmocka_unit_test(test_dns),
        cmocka_unit_test(test_tls),
        cmocka_unit_test(test_methods),
        cmocka_unit_test(test_server_targets),
        cmocka_unit_test(test_forwarded),
        cmocka_unit_test(test_client_urls),
        cmocka_unit_test(test_unix_server),
        cmocka_unit_test(test_mapped_address),
        cmocka_unit_test(test_ends),
        cmocka_unit_test(test_upgrade),
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_hostile),
        cmocka_unit_test(test_inflight),
        cmocka_unit_test(test_unknown_stack),
        cmocka_unit_test(test_code),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
