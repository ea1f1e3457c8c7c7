/* db.c - databases' commands in the semantic conventions (https://opentelemetry.io/docs/specs/semconv/db/database-spans/).
 *
 * A table has what each is called, how a command's text is made of what the library has captured - which are no values - and how an error is told by
 * what the server says. Redis: https://opentelemetry.io/docs/specs/semconv/db/redis/ */
#include "trace/facts.h"

#include <stdlib.h>
#include <string.h>

#define ARGUMENTS_SHOWN 12u

struct database {
    uint8_t protocol; /* enum otshim_protocol */
    const char *system;
    void (*text)(struct making *m, struct bytes operation);
    const char *(*code)(struct making *m, struct bytes message);
};

static bool is_code(char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

/* SET user:1 ? ? */
static void redis_text(struct making *m, struct bytes operation)
{
    static const char marks[] = " ? ? ? ? ? ? ? ? ? ? ? ?";
    struct bytes count = m->facts->attrs[OTSHIM_ATTR_DB_ARGUMENTS], key = m->facts->attrs[OTSHIM_ATTR_DB_KEY];
    bool counted = count.len > 0 && count.at[0] >= '0' && count.at[0] <= '9';
    unsigned long arguments = counted ? strtoul(draft_text(m->draft, count.at, count.len), NULL, 10) : 0;
    if (key.len > 0 && arguments > 0)
        arguments--;
    unsigned long shown = arguments < ARGUMENTS_SHOWN ? arguments : ARGUMENTS_SHOWN;
    draft_string(m->draft, "db.query.text",
                 draft_format(m->draft, "%s%s%s%.*s%s", draft_text(m->draft, operation.at, operation.len), key.len > 0 ? " " : "",
                              draft_text(m->draft, key.at, key.len), (int)(2 * shown), marks, arguments > shown ? " ..." : ""));
}

/* The first word of an error is what it is: "WRONGTYPE Operation against a key ..." */
static const char *redis_code(struct making *m, struct bytes message)
{
    size_t len = 0;
    while (len < message.len && is_code(message.at[len]))
        len++;
    if (len == 0 || (len < message.len && message.at[len] != ' '))
        return NULL;
    return draft_text(m->draft, message.at, len);
}

static const struct database databases[] = {
    {OTSHIM_PROTOCOL_REDIS, "redis", redis_text, redis_code},
};

static const struct database *database_of(const struct otshim_span_rec *rec)
{
    for (size_t i = 0; i < sizeof databases / sizeof *databases; i++)
        if (databases[i].protocol == rec->protocol)
            return &databases[i];
    return NULL;
}

bool db_is(const struct otshim_span_rec *rec)
{
    return database_of(rec) != NULL;
}

static void describe_error(struct making *m, const struct database *db)
{
    if (!(m->facts->rec->flags & OTSHIM_SPAN_FAILED))
        return;
    const char *code = db->code(m, m->facts->attrs[OTSHIM_ATTR_ERROR_TEXT]);
    m->span.status = SPAN_STATUS_ERROR;
    m->error_type = code != NULL ? code : "_OTHER";
    draft_string(m->draft, "db.response.status_code", code);
}

void db_describe(struct making *m)
{
    const struct database *db = database_of(m->facts->rec);
    struct bytes operation = m->facts->attrs[OTSHIM_ATTR_METHOD], namespace = m->facts->attrs[OTSHIM_ATTR_DB_NAMESPACE];
    int port;
    m->span.name = db->system;
    draft_string(m->draft, "db.system.name", db->system);
    if (namespace.len > 0)
        draft_string(m->draft, "db.namespace", draft_text(m->draft, namespace.at, namespace.len));
    if (operation.len > 0) {
        m->span.name = draft_text(m->draft, operation.at, operation.len);
        draft_string(m->draft, "db.operation.name", m->span.name);
        db->text(m, operation);
    }
    draft_string(m->draft, "server.address", address_peer_name(m, &port));
    if (port != 0)
        draft_integer(m->draft, "server.port", port);
    describe_error(m, db);
}
