/* handshake.c - see handshake.h. */
#include "conn/handshake.h"
#include "base/config.h"
#include "base/pool.h"
#include "conn/intern.h"
#include "span/span.h"
#include <string.h>

#define TEXTS 5

struct handshake {
    uint64_t begun_ns, ended_ns;
    bool ok, resumed;
    struct {
        uint16_t key, len;
        char bytes[OTSHIM_NAME_MAX];
    } text[TEXTS];
};

static struct pool handshakes = POOL_INIT(sizeof(struct handshake), 8, CONN_LIMIT);

static void keep(struct handshake *handshake, unsigned i, uint16_t key, const char *bytes, size_t len)
{
    handshake->text[i].key = key;
    handshake->text[i].len = (uint16_t)(len < OTSHIM_NAME_MAX ? len : OTSHIM_NAME_MAX);
    if (len > 0)
        memcpy(handshake->text[i].bytes, bytes, handshake->text[i].len);
}

static size_t length(const char *text)
{
    return text != NULL ? strnlen(text, OTSHIM_NAME_MAX) : 0;
}

struct handshake *handshake_new(uint64_t begun_ns, bool ok, const struct tls_facts *facts)
{
    struct handshake *handshake = pool_get(&handshakes);
    if (handshake == NULL)
        return NULL;
    handshake->begun_ns = begun_ns;
    handshake->ended_ns = now_ns();
    handshake->ok = ok;
    handshake->resumed = facts->resumed;
    keep(handshake, 0, OTSHIM_ATTR_TLS_VERSION, facts->version, length(facts->version));
    keep(handshake, 1, OTSHIM_ATTR_TLS_CIPHER, facts->cipher, length(facts->cipher));
    keep(handshake, 2, OTSHIM_ATTR_TLS_SERVER_NAME, facts->server_name, length(facts->server_name));
    keep(handshake, 3, OTSHIM_ATTR_ERROR_TEXT, facts->error, length(facts->error));
    keep(handshake, 4, OTSHIM_ATTR_TLS_ALPN, facts->alpn, facts->alpn_len);
    return handshake;
}

void handshake_free(struct handshake *handshake)
{
    if (handshake != NULL)
        pool_put(&handshakes, handshake);
}

void handshake_write(struct handshake *handshake, const struct conn *plain, const struct ctx *parent, uint8_t rule)
{
    struct otshim_span_rec rec = {
        .start_ns = handshake->begun_ns,
        .end_ns = handshake->ended_ns,
        .kind = OTSHIM_SPAN_TLS_HANDSHAKE,
        .transport = plain->transport,
        .parent_rule = rule,
        .end = handshake->ok ? OTSHIM_END_COMPLETE : OTSHIM_END_FAILED,
        .flags =
            (uint16_t)((handshake->resumed ? OTSHIM_SPAN_RESUMED : 0) | (plain->role == CONN_INBOUND ? OTSHIM_SPAN_INBOUND : 0)),
        .peer = plain->peer,
        .local = plain->local,
    };
    ids_span(rec.span_id);
    if (parent != NULL) {
        memcpy(rec.trace_id, parent->trace_id, sizeof rec.trace_id);
        memcpy(rec.parent_id, parent->span_id, sizeof rec.parent_id);
        rec.trace_flags = parent->trace_flags;
    } else {
        ids_trace(rec.trace_id);
        rec.trace_flags = sampler_decide(&config.sampler, NULL, rec.trace_id);
    }
    struct span_attr attrs[TEXTS + 1];
    size_t len;
    const char *name = intern_get(plain->peer_name, &len);
    for (unsigned i = 0; i < TEXTS; i++)
        attrs[i] = (struct span_attr){handshake->text[i].key, handshake->text[i].len, handshake->text[i].bytes};
    attrs[TEXTS] = (struct span_attr){OTSHIM_ATTR_PEER_NAME, (uint16_t)len, name};
    span_write(&rec, attrs, TEXTS + 1);
    handshake_free(handshake);
}
