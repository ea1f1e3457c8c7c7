/* facts.h - a raw record with its attributes found, and the span that is being made of it: what the files of trace/ hand to each other. */
#ifndef OTSHIM_EXPORTER_FACTS_H
#define OTSHIM_EXPORTER_FACTS_H

#include "ingest/ingest.h"
#include "trace/draft.h"
#include <otshim/record.h>

#define FACTS_KEYS 30

/* Bytes of the record (or of something derived from it): not terminated, any content. `at` is never NULL. */
struct bytes {
    const char *at;
    size_t len;
};
#define NO_BYTES ((struct bytes){.at = "", .len = 0})

struct facts {
    const struct process *process;
    const struct otshim_span_rec *rec;
    struct bytes attrs[FACTS_KEYS]; /* by enum otshim_attr_key; .len 0: none */
};

/* In the making: what is no attribute. */
struct making {
    struct draft *draft;
    const struct facts *facts;
    struct span span; /* strings static, or of the draft */
    const char *error_type;
};

static inline struct bytes bytes_of(const char *text, size_t len)
{
    return (struct bytes){.at = text, .len = len};
}

static inline bool is_outbound(const struct otshim_span_rec *rec)
{
    return rec->kind != OTSHIM_SPAN_SERVER;
}

/* ---- address.c ------------------------------------------------------------------------------------------------------------------- */
#define ADDRESS_TEXT 64
/* "203.0.113.7", "2001:db8::1"; IPv4-mapped IPv6 as IPv4; "" for none and for Unix. */
void address_text(const struct otshim_addr *addr, char out[ADDRESS_TEXT]);
/* host, host:port, [v6], [v6]:port. *port -1: none given. False on what is no authority. host: without brackets. */
bool address_split(struct bytes authority, struct bytes *host, int *port);
/* network.*: peer, local, transport, type. */
void address_network(struct making *m);
/* The connection's other end as the program knew it: the name it resolved, else the address or socket path. *port 0: none. */
const char *address_peer_name(struct making *m, int *port);

/* ---- ends.c ------------------------------------------------------------------------------------------------------------------------- */
/* otshim.end, and what an end other than COMPLETE says of success: error_type, status and message of m->span. */
void ends_describe(struct making *m);
/* "ECONNREFUSED" or "EAI_NONAME": static text, or "errno 1234" in the draft. */
const char *ends_error_name(struct draft *draft, int error);
/* "connection refused", "Name or service not known". */
const char *ends_error_words(struct draft *draft, int error);

/* ---- rpc.c: what http_describe() has said is a gRPC call, if it is one */
void rpc_describe(struct making *m);

/* ---- db.c: a database's command */
void db_describe(struct making *m);
/* Is the protocol a database's? */
bool db_is(const struct otshim_span_rec *rec);

/* ---- http.c, url.c -------------------------------------------------------------------------------------------------------------------- */
void http_describe(struct making *m);

struct url {
    struct bytes scheme; /* .len 0: origin form */
    struct bytes authority;
    struct bytes path; /* with its query: rest */
    struct bytes query;
    struct bytes rest; /* path?query as it came */
};
/* RFC 9112 3.2: origin, absolute, authority (connect) and asterisk form. */
struct url url_of_target(struct bytes target, bool connect);
/* A query, or a whole URL's rest, with the values of keys that carry secrets replaced by REDACTED (semantic conventions, url.full). */
const char *url_redacted(struct draft *draft, struct bytes text);
/* Without user:password@, which becomes REDACTED:REDACTED@. */
struct bytes url_host_part(struct bytes authority, bool *had_credentials);

/* ---- span.c ------------------------------------------------------------------------------------------------------------------------------ */
struct facts facts_new(const struct process *process, const struct otshim_span_rec *rec);
void facts_attributes(struct facts *facts, const uint8_t *attrs, size_t len);
/* Everything but the call site. */
void span_describe(struct making *m);

#endif
