/* span.c - what all spans have, and connections and name look-ups, for which OpenTelemetry has no span convention: INTERNAL spans named
 * tcp.connect, unix.connect and dns.lookup, with the attributes of the network and DNS conventions. */
#include "trace/facts.h"

#include <string.h>

struct facts facts_new(const struct process *process, const struct otshim_span_rec *rec)
{
    struct facts facts = {.process = process, .rec = rec};
    for (int key = 0; key < FACTS_KEYS; key++)
        facts.attrs[key] = NO_BYTES;
    return facts;
}

void facts_attributes(struct facts *facts, const uint8_t *attrs, size_t len)
{
    size_t at = 0;
    while (at + sizeof(struct otshim_attr) <= len) {
        struct otshim_attr head;
        memcpy(&head, attrs + at, sizeof head);
        if (otshim_attr_size(head.len) > len - at)
            return; /* ingest/ has checked; a second look costs nothing */
        if (head.key < FACTS_KEYS && facts->attrs[head.key].len == 0)
            facts->attrs[head.key] = bytes_of((const char *)attrs + at + sizeof head, head.len);
        at += otshim_attr_size(head.len);
    }
}

static uint64_t wall(const struct making *m, uint64_t mono_ns)
{
    return (uint64_t)((int64_t)mono_ns + m->facts->process->clock_offset_ns);
}

static void describe_identity(struct making *m)
{
    static const uint8_t none[8];
    const struct otshim_span_rec *rec = m->facts->rec;
    struct span *span = &m->span;
    memcpy(span->trace_id, rec->trace_id, 16);
    memcpy(span->span_id, rec->span_id, 8);
    memcpy(span->parent_id, rec->parent_id, 8);
    span->has_parent = memcmp(rec->parent_id, none, 8) != 0;
    span->parent_is_remote =
        span->has_parent && (rec->parent_rule == OTSHIM_PARENT_REMOTE || rec->parent_rule == OTSHIM_PARENT_ENVIRON);
    span->sampled = rec->trace_flags & 1;
    /* OTLP, Span.flags: bit 8 says that bit 9 means something. */
    span->trace_flags = rec->trace_flags | 1u << 8 | (span->parent_is_remote ? 1u << 9 : 0);
    span->start_unix_ns = wall(m, rec->start_ns);
    span->end_unix_ns = wall(m, rec->end_ns >= rec->start_ns ? rec->end_ns : rec->start_ns);
    span->name = span->trace_state = span->status_message = "";
    struct bytes state = m->facts->attrs[OTSHIM_ATTR_TRACESTATE];
    if (state.len > 0)
        span->trace_state = draft_text(m->draft, state.at, state.len);
}

static const char *rule_name(uint8_t rule)
{
    static const char *const names[] = {
        [OTSHIM_PARENT_NONE] = NULL,
        [OTSHIM_PARENT_REMOTE] = "remote",
        [OTSHIM_PARENT_RUNTIME] = "runtime",
        [OTSHIM_PARENT_THREAD] = "thread",
        [OTSHIM_PARENT_INHERITED] = "inherited",
        [OTSHIM_PARENT_ENVIRON] = "environ",
        [OTSHIM_PARENT_HANDOVER] = "handover",
        [OTSHIM_PARENT_WRITER] = "writer",
        [OTSHIM_PARENT_CONNECT] = "connect",
        [OTSHIM_PARENT_OWN_HEADER] = "own_header",
    };
    return rule < sizeof names / sizeof names[0] ? names[rule] : NULL;
}

static void describe_server_of(struct making *m)
{
    int port;
    draft_string(m->draft, "server.address", address_peer_name(m, &port));
    if (port != 0)
        draft_integer(m->draft, "server.port", port);
}

static void describe_connect(struct making *m)
{
    m->span.name = m->facts->rec->transport == OTSHIM_TRANSPORT_UNIX ? "unix.connect" : "tcp.connect";
    describe_server_of(m);
}

static void describe_text(struct making *m, const char *name, enum otshim_attr_key key)
{
    struct bytes text = m->facts->attrs[key];
    if (text.len > 0)
        draft_string(m->draft, name, draft_text(m->draft, text.at, text.len));
}

/* The library says TLSv1.3, the convention (Registry: tls.protocol.version) wants 1.3. */
static void describe_tls(struct making *m)
{
    struct bytes version = m->facts->attrs[OTSHIM_ATTR_TLS_VERSION];
    m->span.name = "tls.handshake";
    if (version.len > 4 && memcmp(version.at, "TLSv", 4) == 0) {
        draft_string(m->draft, "tls.protocol.name", "tls");
        draft_string(m->draft, "tls.protocol.version", draft_text(m->draft, version.at + 4, version.len - 4));
    }
    describe_text(m, "tls.cipher", OTSHIM_ATTR_TLS_CIPHER);
    describe_text(m, "tls.client.server_name", OTSHIM_ATTR_TLS_SERVER_NAME);
    describe_text(m, "tls.next_protocol", OTSHIM_ATTR_TLS_ALPN);
    if (m->span.status != SPAN_STATUS_ERROR)
        draft_boolean(m->draft, "tls.resumed", m->facts->rec->flags & OTSHIM_SPAN_RESUMED);
    if (!(m->facts->rec->flags & OTSHIM_SPAN_INBOUND))
        describe_server_of(m);
}

static void describe_dns(struct making *m)
{
    struct bytes question = m->facts->attrs[OTSHIM_ATTR_DNS_QUESTION], answer = m->facts->attrs[OTSHIM_ATTR_DNS_ANSWER];
    char text[ADDRESS_TEXT];
    m->span.name = "dns.lookup";
    draft_string(m->draft, "dns.question.name", draft_text(m->draft, question.at, question.len));
    for (size_t at = 0; at + sizeof(struct otshim_addr) <= answer.len && at < 8 * sizeof(struct otshim_addr);
         at += sizeof(struct otshim_addr)) {
        struct otshim_addr addr;
        memcpy(&addr, answer.at + at, sizeof addr);
        address_text(&addr, text);
        if (text[0] != '\0')
            draft_item(m->draft, draft_text(m->draft, text, strlen(text)));
    }
    draft_list(m->draft, "dns.answers");
}

static void describe_rest(struct making *m)
{
    const struct otshim_span_rec *rec = m->facts->rec;
    struct bytes text = m->facts->attrs[OTSHIM_ATTR_ERROR_TEXT];
    draft_string(m->draft, "error.type", m->error_type);
    if (text.len > 0 && m->span.status == SPAN_STATUS_ERROR) /* the program's or a library's own words tell more than ours */
        m->span.status_message = draft_text(m->draft, text.at, text.len);
    if (rec->tid != 0)
        draft_integer(m->draft, "thread.id", rec->tid);
    draft_string(m->draft, "otshim.parent", rule_name(rec->parent_rule));
    if (rec->flags & OTSHIM_SPAN_TRUNCATED)
        draft_boolean(m->draft, "otshim.truncated", true);
}

void span_describe(struct making *m)
{
    const struct otshim_span_rec *rec = m->facts->rec;
    describe_identity(m);
    m->span.kind = SPAN_KIND_INTERNAL;
    ends_describe(m);
    switch (rec->kind) {
    case OTSHIM_SPAN_SERVER:
    case OTSHIM_SPAN_CLIENT:
        m->span.kind = rec->kind == OTSHIM_SPAN_SERVER ? SPAN_KIND_SERVER : SPAN_KIND_CLIENT;
        if (db_is(rec)) {
            db_describe(m);
            break;
        }
        http_describe(m);
        rpc_describe(m);
        break;
    case OTSHIM_SPAN_DNS: describe_dns(m); break;
    case OTSHIM_SPAN_TLS_HANDSHAKE: describe_tls(m); break;
    default: describe_connect(m); break;
    }
    if (rec->kind != OTSHIM_SPAN_DNS)
        address_network(m);
    describe_rest(m);
}
