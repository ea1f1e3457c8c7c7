/* record_check.c - see record_check.h. */
#include "ingest/record_check.h"
#include <string.h>

/* The most that the library writes under a key; unknown keys may be as long as their record. */
static size_t record_attr_max(uint16_t key)
{
    switch (key) {
    case OTSHIM_ATTR_METHOD:
    case OTSHIM_ATTR_DB_ARGUMENTS: return OTSHIM_METHOD_MAX;
    case OTSHIM_ATTR_TARGET: return OTSHIM_TARGET_MAX;
    case OTSHIM_ATTR_HOST:
    case OTSHIM_ATTR_USER_AGENT:
    case OTSHIM_ATTR_FORWARDED:
    case OTSHIM_ATTR_X_FORWARDED_FOR:
    case OTSHIM_ATTR_X_FORWARDED_PROTO:
    case OTSHIM_ATTR_UPGRADE:
    case OTSHIM_ATTR_LOCATION: return OTSHIM_HEADER_MAX;
    case OTSHIM_ATTR_TRACESTATE: return OTSHIM_TRACESTATE_MAX;
    case OTSHIM_ATTR_DB_NAMESPACE:
    case OTSHIM_ATTR_DB_KEY:
    case OTSHIM_ATTR_PEER_NAME:
    case OTSHIM_ATTR_SOCKET_PATH:
    case OTSHIM_ATTR_DNS_QUESTION: return OTSHIM_NAME_MAX;
    case OTSHIM_ATTR_DNS_ANSWER: return 8 * sizeof(struct otshim_addr);
    case OTSHIM_ATTR_ERROR_TEXT: return OTSHIM_TEXT_MAX;
    case OTSHIM_ATTR_STACK: return OTSHIM_STACK_MAX * sizeof(uint64_t);
    case OTSHIM_ATTR_CODE_FUNCTION: return OTSHIM_CODE_FUNCTION_MAX;
    case OTSHIM_ATTR_CODE_FILE: return OTSHIM_CODE_FILE_MAX;
    case OTSHIM_ATTR_CODE_LINE: return sizeof(uint32_t);
    case OTSHIM_ATTR_CODE_STACKTRACE: return OTSHIM_CODE_STACKTRACE_MAX;
    default: return OTSHIM_RECORD_MAX_BYTES;
    }
}

static bool record_attr_unit_ok(const struct otshim_attr *attr)
{
    if (attr->key == OTSHIM_ATTR_STACK)
        return attr->len % sizeof(uint64_t) == 0;
    if (attr->key == OTSHIM_ATTR_DNS_ANSWER)
        return attr->len % sizeof(struct otshim_addr) == 0;
    if (attr->key == OTSHIM_ATTR_CODE_LINE)
        return attr->len == sizeof(uint32_t);
    return true;
}

bool record_check_attrs(const uint8_t *attrs, size_t len)
{
    size_t at = 0;

    while (at < len) {
        struct otshim_attr attr;

        if (len - at < sizeof attr)
            return false;
        memcpy(&attr, attrs + at, sizeof attr);
        if (otshim_attr_size(attr.len) > len - at || attr.len > record_attr_max(attr.key) || !record_attr_unit_ok(&attr))
            return false;
        at += otshim_attr_size(attr.len);
    }
    return true;
}

static bool record_addr_ok(const struct otshim_addr *addr)
{
    return addr->family == 0 || addr->family == 1 || addr->family == 4 || addr->family == 6;
}

/* Ids of all zero are invalid by W3C Trace Context 2.2.2.3 and 2.2.2.4. Times beyond a century of uptime would overflow the sum with
 * the wall clock's offset. */
static bool record_span_ok(const struct otshim_span_rec *rec)
{
    static const uint8_t zero[16];

    return rec->kind >= OTSHIM_SPAN_SERVER && rec->kind <= OTSHIM_SPAN_KIND_LAST && rec->protocol <= OTSHIM_PROTOCOL_LAST &&
           rec->transport <= OTSHIM_TRANSPORT_UNIX && rec->parent_rule <= OTSHIM_PARENT_OWN_HEADER &&
           rec->end <= OTSHIM_END_ABANDONED && rec->end != OTSHIM_END_DIED && rec->status <= 999 &&
           memcmp(rec->trace_id, zero, sizeof rec->trace_id) != 0 && memcmp(rec->span_id, zero, sizeof rec->span_id) != 0 &&
           rec->start_ns <= rec->end_ns && rec->end_ns < UINT64_MAX / 4 && rec->first_byte_ns < UINT64_MAX / 4 &&
           record_addr_ok(&rec->peer) && record_addr_ok(&rec->local);
}

bool record_check_span(const uint8_t *payload, size_t len, struct otshim_span_rec *rec, const uint8_t **attrs)
{
    if (len < sizeof *rec)
        return false;
    memcpy(rec, payload, sizeof *rec);
    *attrs = payload + sizeof *rec;
    return rec->attr_bytes <= len - sizeof *rec && record_span_ok(rec) && record_check_attrs(*attrs, rec->attr_bytes);
}

bool record_check_log(const uint8_t *payload, size_t len, struct otshim_log_rec *rec, const uint8_t **attrs)
{
    if (len < sizeof *rec)
        return false;
    memcpy(rec, payload, sizeof *rec);
    *attrs = payload + sizeof *rec;
    return rec->attr_bytes <= len - sizeof *rec && rec->severity >= 1 && rec->severity <= 24 && rec->time_ns < UINT64_MAX / 4 &&
           record_check_attrs(*attrs, rec->attr_bytes);
}
