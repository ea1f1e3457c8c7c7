/* exchange.c - from the events of a parser to one span record. See exchange.h. */
#include "conn/exchange.h"
#include "base/config.h"
#include "base/pool.h"
#include "conn/handshake.h"
#include "conn/intern.h"
#include "conn/owner.h"
#include "span/span.h"
#include <string.h>

static struct pool exchanges = POOL_INIT(sizeof(struct exchange), 32, EXCHANGE_LIMIT);
static struct pool overflows = POOL_INIT(sizeof(struct exchange_overflow), 8, EXCHANGE_LIMIT / 8);

static inline uintptr_t this_thread(void)
{
    return (uintptr_t)&otshim_quiet;
}

/* ---- begin ------------------------------------------------------------------------------------------------------------------- */

static void link_newest(struct conn *conn, struct exchange *exchange)
{
    exchange->next = NULL;
    if (conn->newest != NULL)
        conn->newest->next = exchange;
    else
        conn->oldest = exchange;
    conn->newest = exchange;
    conn->exchanges++;
}

struct exchange *exchange_begin(struct conn *conn, uint8_t side, uint64_t now, const struct exchange_writer *writer)
{
    struct exchange *exchange = conn->spare;
    if (exchange != NULL) { /* sent once already, in part or not at all: it keeps its ids and its start */
        conn->spare = exchange->next;
        link_newest(conn, exchange);
        return exchange;
    }
    exchange = conn->exchanges < CONN_EXCHANGES_MAX ? pool_get(&exchanges) : NULL;
    if (exchange == NULL) {
        span_count(OTSHIM_COUNT_EXCHANGE_FULL);
        return NULL;
    }
    memset(&exchange->next, 0, offsetof(struct exchange, text) - offsetof(struct exchange, next));
    exchange->open_field = EXCHANGE_NO_FIELD;
    exchange->fork_generation = otshim_fork_generation;
    exchange->side = side;
    exchange->start_ns = now;
    exchange->thread = this_thread();
    exchange->reused = conn->parse.served > 0;
    exchange->variables = conn->parse.proto->variables;
    if (side == CONN_OUTBOUND)
        owner_decide(conn, exchange, writer);
    else if (conn->runtime != NULL)
        runtime_conn_begin(conn->runtime, conn->oldest != NULL);
    link_newest(conn, exchange);
    return exchange;
}

/* ---- captured text ------------------------------------------------------------------------------------------------------------- */

static const uint16_t field_max[PROTO_FIELDS] = {
    [PROTO_METHOD] = OTSHIM_METHOD_MAX,
    [PROTO_TARGET] = OTSHIM_TARGET_MAX,
    [PROTO_HOST] = OTSHIM_HEADER_MAX,
    [PROTO_USER_AGENT] = OTSHIM_HEADER_MAX,
    [PROTO_FORWARDED] = OTSHIM_HEADER_MAX,
    [PROTO_X_FORWARDED_FOR] = OTSHIM_HEADER_MAX,
    [PROTO_X_FORWARDED_PROTO] = OTSHIM_HEADER_MAX,
    [PROTO_TRACEPARENT] = OTSHIM_HEADER_MAX,
    [PROTO_TRACESTATE] = OTSHIM_TRACESTATE_MAX,
    [PROTO_UPGRADE] = OTSHIM_HEADER_MAX,
    [PROTO_CONTENT_TYPE] = OTSHIM_METHOD_MAX,
    [PROTO_RPC_STATUS] = OTSHIM_METHOD_MAX,
    [PROTO_ERROR_TEXT] = OTSHIM_TEXT_MAX,
    [PROTO_SCRIPT_NAME] = OTSHIM_TARGET_MAX,
    [PROTO_QUERY_STRING] = OTSHIM_TARGET_MAX,
    [PROTO_SERVER_NAME] = OTSHIM_HEADER_MAX,
    [PROTO_REMOTE_ADDR] = OTSHIM_HEADER_MAX,
    [PROTO_SCHEME] = OTSHIM_HEADER_MAX,
    [PROTO_DB_NAMESPACE] = OTSHIM_NAME_MAX,
    [PROTO_DB_ARGUMENTS] = OTSHIM_METHOD_MAX,
    [PROTO_DB_KEY] = OTSHIM_NAME_MAX,
};

static char *text_of(const struct exchange *exchange)
{
    return exchange->overflow != NULL ? exchange->overflow->text : (char *)exchange->text;
}

/* Room for len more bytes, in the overflow buffer if need be; how many of them there is room for. */
static size_t text_room(struct exchange *exchange, size_t len)
{
    if (OTSHIM_LIKELY(exchange->overflow == NULL)) {
        if (OTSHIM_LIKELY(exchange->text_len + len <= EXCHANGE_INLINE_TEXT))
            return len;
        struct exchange_overflow *more = pool_get(&overflows);
        if (more == NULL)
            return EXCHANGE_INLINE_TEXT - exchange->text_len;
        memcpy(more->text, exchange->text, exchange->text_len);
        exchange->overflow = more;
    }
    size_t room = EXCHANGE_OVERFLOW_TEXT - exchange->text_len;
    return len < room ? len : room;
}

static void text_append(struct exchange *exchange, enum proto_field field, const char *bytes, size_t len)
{
    size_t have = exchange->field[field].len;
    size_t left = field_max[field] - have;
    size_t take = text_room(exchange, len <= left ? len : left);
    if (take < len)
        exchange->truncated = true;
    memcpy(text_of(exchange) + exchange->text_len, bytes, take);
    exchange->text_len = (uint16_t)(exchange->text_len + take);
    exchange->field[field].len = (uint16_t)(have + take);
}

/* Appends another field's text. The room comes first: it may move all of it. */
static void text_copy(struct exchange *exchange, enum proto_field field, enum proto_field from)
{
    size_t at = exchange->field[from].at;
    size_t len = exchange->field[from].len;
    size_t room = text_room(exchange, len);
    text_append(exchange, field, text_of(exchange) + at, len < room ? len : room);
}

/* A list may be spread over several header lines (RFC 9110 5.3; W3C Trace Context 3.3.1): what there is moves to the end, then a comma. */
static void text_rejoin(struct exchange *exchange, enum proto_field field)
{
    size_t at = exchange->field[field].at;
    size_t len = exchange->field[field].len;
    exchange->field[field].at = exchange->text_len;
    exchange->field[field].len = 0;
    size_t room = text_room(exchange, len);
    text_append(exchange, field, text_of(exchange) + at, len < room ? len : room);
    text_append(exchange, field, ",", 1);
}

/* Nearly every text comes once, in one piece, and has room in the exchange. False: it is left to those above. */
static bool text_whole(struct exchange *exchange, const struct proto_event *event)
{
    enum proto_field field = event->field;
    unsigned bit = 1u << field;
    size_t at = exchange->text_len;
    if (event->more || exchange->open_field == field || (exchange->seen & bit) || exchange->overflow != NULL ||
        event->len > field_max[field] || at + event->len > EXCHANGE_INLINE_TEXT)
        return false;
    memcpy(exchange->text + at, event->bytes, event->len);
    exchange->field[field] = (struct exchange_text){(uint16_t)at, (uint16_t)event->len};
    exchange->text_len = (uint16_t)(at + event->len);
    exchange->seen |= bit;
    exchange->open_field = EXCHANGE_NO_FIELD;
    return true;
}

void exchange_text(struct exchange *exchange, const struct proto_event *event)
{
    enum proto_field field = event->field;
    uint32_t bit = 1u << field;
    if (OTSHIM_LIKELY(text_whole(exchange, event)))
        return;
    if (exchange->open_field != field) {
        exchange->skip_text = false;
        if (!(exchange->seen & bit) || exchange->variables) {
            exchange->field[field] = (struct exchange_text){.at = exchange->text_len};
        } else {
            exchange->repeated |= bit;
            if (field == PROTO_TRACESTATE || field == PROTO_FORWARDED || field == PROTO_X_FORWARDED_FOR)
                text_rejoin(exchange, field);
            else
                exchange->skip_text = true;
        }
        exchange->seen |= bit;
    }
    if (!exchange->skip_text)
        text_append(exchange, field, event->bytes, event->len);
    exchange->open_field = event->more ? (uint8_t)field : EXCHANGE_NO_FIELD;
}

const char *exchange_field(const struct exchange *exchange, enum proto_field field, size_t *len)
{
    const char *text = text_of(exchange) + exchange->field[field].at;
    size_t n = exchange->field[field].len;
    while (n > 0 && (text[n - 1] == ' ' || text[n - 1] == '\t'))
        n--;
    *len = n;
    return n > 0 ? text : NULL;
}

/* ---- the request's head is complete -------------------------------------------------------------------------------------------- */

/* A CGI program's variables say by several what a header says by one. The server's own client is for whom it forwards. */
static void fill_in(struct exchange *exchange)
{
    static const struct {
        uint8_t field, from;
    } instead[] = {
        {PROTO_HOST, PROTO_SERVER_NAME}, {PROTO_X_FORWARDED_FOR, PROTO_REMOTE_ADDR}, {PROTO_X_FORWARDED_PROTO, PROTO_SCHEME}};
    for (size_t i = 0; i < sizeof instead / sizeof *instead; i++)
        if (exchange->field[instead[i].field].len == 0 && exchange->field[instead[i].from].len != 0) {
            exchange->field[instead[i].field] = exchange->field[instead[i].from];
            exchange->seen |= 1u << instead[i].field;
        }
    if (exchange->field[PROTO_TARGET].len != 0 || exchange->field[PROTO_SCRIPT_NAME].len == 0)
        return;
    exchange->field[PROTO_TARGET] = (struct exchange_text){.at = exchange->text_len};
    exchange->seen |= 1u << PROTO_TARGET;
    text_copy(exchange, PROTO_TARGET, PROTO_SCRIPT_NAME);
    if (exchange->field[PROTO_QUERY_STRING].len == 0)
        return;
    text_append(exchange, PROTO_TARGET, "?", 1);
    text_copy(exchange, PROTO_TARGET, PROTO_QUERY_STRING);
}

/* The traceparent that came with the request. Two of them are none (W3C Trace Context 3.2: a vendor must not guess). */
static bool remote_parent(const struct exchange *exchange, struct ctx *parent)
{
    size_t len;
    if (exchange->repeated & 1u << PROTO_TRACEPARENT)
        return false;
    const char *text = exchange_field(exchange, PROTO_TRACEPARENT, &len);
    return text != NULL && traceparent_parse(text, len, parent);
}

static void head_inbound(struct exchange *exchange)
{
    struct ctx parent;
    bool continued = config.propagate_w3c && remote_parent(exchange, &parent);
    if (continued) {
        size_t len;
        const char *state = exchange_field(exchange, PROTO_TRACESTATE, &len);
        exchange->ctx = parent;
        memcpy(exchange->parent_id, parent.span_id, sizeof exchange->parent_id);
        exchange->ctx.tracestate = state != NULL ? tracestate_put(state, len) : 0;
        exchange->parent_rule = OTSHIM_PARENT_REMOTE;
    } else {
        ids_trace(exchange->ctx.trace_id);
    }
    request_begin(&exchange->request, &exchange->ctx, continued ? parent.span_id : NULL);
    ids_span(exchange->ctx.span_id);
    exchange->ctx.has_parent = true;
    exchange->ctx.rule = OTSHIM_PARENT_THREAD;
    exchange->ctx.trace_flags = sampler_decide(&config.sampler, continued ? &parent : NULL, exchange->ctx.trace_id);
}

/* The program propagates by itself: its header stays, and our span joins the trace that it names. Whom we think the call is for still
 * decides what its response is read for.
 *
 * A variable can be set once more, and the last one counts (PHP: fcgi_hash_set). So the traceparent that a server hands through to its
 * FastCGI programs with all other headers of the request - and one that is none - gives way to ours; one of its own stays. */
static void head_outbound(struct exchange *exchange)
{
    struct ctx parent;
    exchange->own_header = (exchange->seen & 1u << PROTO_TRACEPARENT) != 0;
    if (!exchange->own_header)
        return;
    bool valid = remote_parent(exchange, &parent);
    if (exchange->variables && (!valid || (exchange->has_owner && request_came_from(&exchange->owner, &parent)))) {
        exchange->own_header = false;
        return;
    }
    if (!valid)
        return;
    uint8_t span_id[8];
    memcpy(span_id, exchange->ctx.span_id, sizeof span_id);
    exchange->ctx = parent;
    memcpy(exchange->ctx.span_id, span_id, sizeof span_id);
    memcpy(exchange->parent_id, parent.span_id, sizeof exchange->parent_id);
    exchange->parent_rule = OTSHIM_PARENT_OWN_HEADER;
}

static void fill_ids(const struct conn *conn, const struct exchange *exchange, struct otshim_span_rec *rec)
{
    memcpy(rec->trace_id, exchange->ctx.trace_id, sizeof rec->trace_id);
    memcpy(rec->span_id, exchange->ctx.span_id, sizeof rec->span_id);
    memcpy(rec->parent_id, exchange->parent_id, sizeof rec->parent_id);
    rec->start_ns = exchange->start_ns;
    rec->kind = exchange->side == CONN_INBOUND ? OTSHIM_SPAN_SERVER : OTSHIM_SPAN_CLIENT;
    rec->protocol = conn->parse.proto != NULL ? conn->parse.proto->id : OTSHIM_PROTOCOL_NONE;
    rec->trace_flags = exchange->ctx.trace_flags;
    rec->parent_rule = exchange->parent_rule;
    rec->peer = conn->peer;
    rec->local = conn->local;
}

void exchange_head(struct conn *conn, struct exchange *exchange, uint8_t version)
{
    exchange->version = version;
    exchange->head_done = true;
    if (exchange->variables)
        fill_in(exchange);
    if (exchange->side == CONN_INBOUND)
        head_inbound(exchange);
    else
        head_outbound(exchange);
    if (exchange->side == CONN_OUTBOUND && conn->connect == CONN_CONNECT_HELD)
        connect_settle_locked(conn, exchange, OTSHIM_END_COMPLETE);
    if (OTSHIM_UNLIKELY(conn->handshake != NULL)) {
        handshake_write(conn->handshake, conn, &exchange->ctx, OTSHIM_PARENT_CONNECT);
        conn->handshake = NULL;
    }

    struct otshim_span_rec rec; /* of which the table shows no more than this */
    struct inflight_names names;
    fill_ids(conn, exchange, &rec);
    names.method = exchange_field(exchange, PROTO_METHOD, &names.method_len);
    names.target = exchange_field(exchange, PROTO_TARGET, &names.target_len);
    names.host = exchange_field(exchange, PROTO_HOST, &names.host_len);
    if (exchange->inflight == 0)
        exchange->inflight = inflight_begin(&rec, &names);
    else
        inflight_name(exchange->inflight, &rec, &names);
}

/* ---- end ------------------------------------------------------------------------------------------------------------------------ */

void exchange_free(struct exchange *exchange)
{
    if (exchange->inflight != 0 && exchange->fork_generation == otshim_fork_generation)
        inflight_end(exchange->inflight, exchange->ctx.span_id);
    if (exchange->calling)
        request_call_end(&exchange->owner);
    if (exchange->side == CONN_INBOUND)
        request_end(&exchange->request);
    if (exchange->overflow != NULL)
        pool_put(&overflows, exchange->overflow);
    exchange->overflow = NULL;
    site_free(exchange->site);
    exchange->site = NULL;
    pool_put(&exchanges, exchange);
}

static void unlink_exchange(struct conn *conn, struct exchange *exchange)
{
    struct exchange **at = &conn->oldest;
    struct exchange *before = NULL;
    while (*at != NULL && *at != exchange) {
        before = *at;
        at = &before->next;
    }
    if (*at == NULL)
        return;
    *at = exchange->next;
    if (conn->newest == exchange)
        conn->newest = before;
    conn->exchanges--;
}

/* What was cut off is counted as far as it came. */
static void close_counts(struct conn *conn, struct exchange *exchange)
{
    if (exchange->stream != 0)
        return; /* positions in the connection say nothing of a stream */
    if (exchange->request_bytes == 0)
        exchange->request_bytes = conn->parse.position[PROTO_REQUEST] - exchange->request_from;
    if (exchange->response_begun && exchange->response_bytes == 0)
        exchange->response_bytes = conn->parse.position[PROTO_RESPONSE] - exchange->response_from;
}

static void write_span(struct conn *conn, struct exchange *exchange, struct otshim_span_rec *rec, const struct call_site *site)
{
    static const uint16_t keys[PROTO_FIELDS] = {
        [PROTO_METHOD] = OTSHIM_ATTR_METHOD,
        [PROTO_TARGET] = OTSHIM_ATTR_TARGET,
        [PROTO_HOST] = OTSHIM_ATTR_HOST,
        [PROTO_USER_AGENT] = OTSHIM_ATTR_USER_AGENT,
        [PROTO_FORWARDED] = OTSHIM_ATTR_FORWARDED,
        [PROTO_X_FORWARDED_FOR] = OTSHIM_ATTR_X_FORWARDED_FOR,
        [PROTO_X_FORWARDED_PROTO] = OTSHIM_ATTR_X_FORWARDED_PROTO,
        [PROTO_TRACESTATE] = OTSHIM_ATTR_TRACESTATE,
        [PROTO_UPGRADE] = OTSHIM_ATTR_UPGRADE,
        [PROTO_CONTENT_TYPE] = OTSHIM_ATTR_CONTENT_TYPE,
        [PROTO_RPC_STATUS] = OTSHIM_ATTR_RPC_STATUS,
        [PROTO_ERROR_TEXT] = OTSHIM_ATTR_ERROR_TEXT,
        [PROTO_DB_NAMESPACE] = OTSHIM_ATTR_DB_NAMESPACE,
        [PROTO_DB_ARGUMENTS] = OTSHIM_ATTR_DB_ARGUMENTS,
        [PROTO_DB_KEY] = OTSHIM_ATTR_DB_KEY,
    };
    struct span_attr attrs[PROTO_FIELDS + 3 + CALL_SITE_ATTRS];
    char state[OTSHIM_TRACESTATE_MAX];
    size_t count = 0;
    size_t len;
    for (unsigned left = exchange->seen; left != 0; left &= left - 1) {
        unsigned field = (unsigned)__builtin_ctz(left);
        if (keys[field] == 0)
            continue;
        /* A tracestate without a valid traceparent means nothing (W3C Trace Context 4.3). */
        if (field == PROTO_TRACESTATE && exchange->parent_rule != OTSHIM_PARENT_REMOTE &&
            exchange->parent_rule != OTSHIM_PARENT_OWN_HEADER)
            continue;
        const char *text = exchange_field(exchange, (enum proto_field)field, &len);
        attrs[count++] = (struct span_attr){keys[field], (uint16_t)len, text};
    }
    if (exchange->side == CONN_OUTBOUND && !exchange->own_header && exchange->ctx.tracestate != 0) {
        len = tracestate_get(exchange->ctx.tracestate, state, sizeof state);
        attrs[count++] = (struct span_attr){OTSHIM_ATTR_TRACESTATE, (uint16_t)len, state};
    }
    if (conn->path != 0) {
        const char *text = intern_get(conn->path, &len);
        attrs[count++] = (struct span_attr){OTSHIM_ATTR_SOCKET_PATH, (uint16_t)len, text};
    }
    if (exchange->side == CONN_OUTBOUND && conn->peer_name != 0) {
        const char *text = intern_get(conn->peer_name, &len);
        attrs[count++] = (struct span_attr){OTSHIM_ATTR_PEER_NAME, (uint16_t)len, text};
    }
    count += call_site_attrs(site, attrs + count);
    span_write(rec, attrs, count);
}

static const uint8_t nobody[8];

bool exchange_failed(const struct exchange *exchange, uint8_t end)
{
    return (end != OTSHIM_END_COMPLETE && end != OTSHIM_END_UPGRADED) || exchange->status >= 400 || exchange->failed;
}

/* Not inlined: most calls are neither slow nor failed, and need no such room on the stack. */
static __attribute__((noinline)) void write_span_with_site(struct conn *conn, struct exchange *exchange,
                                                           struct otshim_span_rec *rec)
{
    struct call_site site;
    call_site_none(&site);
    call_site_kept(&site, exchange->site);
    write_span(conn, exchange, rec, &site);
    call_site_done(&site);
}

static bool carries_context(const struct conn *conn)
{
    return conn->parse.proto != NULL && conn->parse.proto->inject != NULL;
}

void exchange_end(struct conn *conn, struct exchange *exchange, uint8_t end, int error, uint64_t end_ns, struct call_site *site)
{
    if (exchange->side == CONN_OUTBOUND)
        memcpy(conn->last_owner, exchange->has_owner ? exchange->owner.span_id : nobody, sizeof conn->last_owner);
    unlink_exchange(conn, exchange);
    if (exchange->fork_generation != otshim_fork_generation) {
        exchange_free(exchange);
        return;
    }
    close_counts(conn, exchange);
    bool whole = exchange->head_done; /* a head that was cut off had no place for a line */
    if (!whole)
        exchange_head(conn, exchange, exchange->version);
    if (exchange->side == CONN_OUTBOUND && conn->connect != CONN_CONNECTED && !exchange->reused)
        connect_settle_locked(conn, exchange, OTSHIM_END_COMPLETE);
    if (exchange->side == CONN_OUTBOUND && config.propagate_w3c && whole && carries_context(conn) && !exchange->injected &&
        !exchange->own_header)
        span_count(OTSHIM_COUNT_NOT_INJECTED);
    struct otshim_span_rec rec = {
        .end_ns = end_ns,
        .first_byte_ns = exchange->first_byte_ns,
        .request_bytes = exchange->request_bytes,
        .response_bytes = exchange->response_bytes,
        .request_body_bytes = exchange->request_body_bytes,
        .response_body_bytes = exchange->response_body_bytes,
        .version = exchange->version,
        .transport = conn->transport,
        .end = end,
        .status = exchange->status,
        .error = error,
        .flags = (uint16_t)((exchange->injected ? OTSHIM_SPAN_INJECTED : 0) | (exchange->truncated ? OTSHIM_SPAN_TRUNCATED : 0) |
                            (exchange->reused ? OTSHIM_SPAN_REUSED_CONN : 0) | (conn->is_plain ? OTSHIM_SPAN_TLS : 0) |
                            (exchange->failed ? OTSHIM_SPAN_FAILED : 0)),
    };
    fill_ids(conn, exchange, &rec);
    if (site == NULL && exchange->site != NULL && stack_wanted(end_ns - exchange->start_ns, exchange_failed(exchange, end)))
        write_span_with_site(conn, exchange, &rec);
    else
        write_span(conn, exchange, &rec, site);
    exchange_free(exchange);
}

void exchange_end_all(struct conn *conn, uint8_t end, int error)
{
    if (conn->oldest == NULL)
        return;
    uint64_t now = now_ns();
    while (conn->oldest != NULL)
        exchange_end(conn, conn->oldest, end, error, now, NULL);
}

void exchange_forget_all(struct conn *conn)
{
    /* The queue may be half linked: it is left to itself, and a few objects with it. */
    conn->oldest = conn->newest = conn->spare = NULL;
    conn->exchanges = 0;
}

void exchange_mark(const struct exchange *exchange, struct exchange_mark *mark)
{
    mark->head_done = exchange->head_done;
    mark->skip_text = exchange->skip_text;
    mark->open_field = exchange->open_field;
    mark->seen = exchange->seen;
    mark->repeated = exchange->repeated;
    mark->text_len = exchange->text_len;
    mark->request_bytes = exchange->request_bytes;
    mark->request_body_bytes = exchange->request_body_bytes;
    memcpy(mark->field, exchange->field, sizeof mark->field);
}

void exchange_restore(struct exchange *exchange, const struct exchange_mark *mark)
{
    exchange->head_done = mark->head_done;
    exchange->skip_text = mark->skip_text;
    exchange->open_field = mark->open_field;
    exchange->seen = mark->seen;
    exchange->repeated = mark->repeated;
    exchange->text_len = mark->text_len;
    exchange->request_bytes = mark->request_bytes;
    exchange->request_body_bytes = mark->request_body_bytes;
    memcpy(exchange->field, mark->field, sizeof exchange->field);
}

void exchange_rewind(struct exchange *exchange)
{
    static const struct exchange_mark nothing = {.open_field = EXCHANGE_NO_FIELD};
    exchange_restore(exchange, &nothing);
}
