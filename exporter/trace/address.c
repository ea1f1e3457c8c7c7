/* address.c - the two ends of a connection, and what stands between host and port. */
#include "trace/facts.h"

#include <arpa/inet.h>
#include <string.h>

static bool is_v4_mapped(const struct otshim_addr *addr)
{
    static const uint8_t prefix[12] = {[10] = 0xff, [11] = 0xff};
    return addr->family == 6 && memcmp(addr->bytes, prefix, sizeof prefix) == 0;
}

/* Three times in most spans: by hand, where inet_ntop goes through sprintf. */
static void v4_text(const uint8_t bytes[4], char *out)
{
    for (int i = 0; i < 4; i++) {
        if (bytes[i] >= 100)
            *out++ = (char)('0' + bytes[i] / 100);
        if (bytes[i] >= 10)
            *out++ = (char)('0' + bytes[i] / 10 % 10);
        *out++ = (char)('0' + bytes[i] % 10);
        *out++ = i < 3 ? '.' : '\0';
    }
}

void address_text(const struct otshim_addr *addr, char out[ADDRESS_TEXT])
{
    out[0] = '\0';
    if (addr->family == 4)
        v4_text(addr->bytes, out);
    else if (is_v4_mapped(addr)) /* a dual-stack socket's peer: people know it as what it is */
        v4_text(addr->bytes + 12, out);
    else if (addr->family == 6)
        inet_ntop(AF_INET6, addr->bytes, out, ADDRESS_TEXT);
}

static bool parse_port(const char *at, size_t len, int *port)
{
    if (len == 0) { /* "host:" is allowed (RFC 3986 3.2.3) */
        *port = -1;
        return true;
    }
    int value = 0;
    for (size_t i = 0; i < len; i++) {
        if (at[i] < '0' || at[i] > '9' || (value = value * 10 + at[i] - '0') > 65535)
            return false;
    }
    *port = value;
    return true;
}

bool address_split(struct bytes authority, struct bytes *host, int *port)
{
    const char *at = authority.at, *end = at + authority.len, *colon;
    *port = -1;
    if (authority.len == 0)
        return false;
    if (at[0] == '[') {
        const char *close = memchr(at, ']', authority.len);
        if (close == NULL || close == at + 1)
            return false;
        *host = bytes_of(at + 1, (size_t)(close - at - 1));
        return close + 1 == end || (close[1] == ':' && parse_port(close + 2, (size_t)(end - close - 2), port));
    }
    colon = memchr(at, ':', authority.len);
    *host = bytes_of(at, (size_t)((colon != NULL ? colon : end) - at));
    if (host->len == 0)
        return false;
    return colon == NULL || parse_port(colon + 1, (size_t)(end - colon - 1), port);
}

static const char *network_type(const struct otshim_addr *addr)
{
    if (addr->family == 4 || is_v4_mapped(addr))
        return "ipv4";
    return addr->family == 6 ? "ipv6" : NULL;
}

/* For a Unix socket the conventions take its path for the address. */
void address_network(struct making *m)
{
    const struct otshim_span_rec *rec = m->facts->rec;
    struct bytes path = m->facts->attrs[OTSHIM_ATTR_SOCKET_PATH];
    char text[ADDRESS_TEXT];
    if (rec->transport == OTSHIM_TRANSPORT_UNIX) {
        if (path.len > 0)
            draft_string(m->draft, is_outbound(rec) ? "network.peer.address" : "network.local.address",
                         draft_text(m->draft, path.at, path.len));
        draft_string(m->draft, "network.transport", "unix");
        return;
    }
    address_text(&rec->peer, text);
    if (text[0] != '\0') {
        draft_string(m->draft, "network.peer.address", draft_text(m->draft, text, strlen(text)));
        draft_integer(m->draft, "network.peer.port", rec->peer.port);
    }
    address_text(&rec->local, text);
    if (text[0] != '\0') {
        draft_string(m->draft, "network.local.address", draft_text(m->draft, text, strlen(text)));
        draft_integer(m->draft, "network.local.port", rec->local.port);
    }
    if (rec->transport == OTSHIM_TRANSPORT_TCP)
        draft_string(m->draft, "network.transport", "tcp");
    draft_string(m->draft, "network.type", network_type(&rec->peer));
}

const char *address_peer_name(struct making *m, int *port)
{
    const struct facts *facts = m->facts;
    struct bytes name = facts->attrs[OTSHIM_ATTR_PEER_NAME], path = facts->attrs[OTSHIM_ATTR_SOCKET_PATH];
    char text[ADDRESS_TEXT];
    *port = 0;
    if (facts->rec->transport == OTSHIM_TRANSPORT_UNIX)
        return draft_text(m->draft, path.at, path.len);
    *port = facts->rec->peer.port;
    if (name.len > 0)
        return draft_text(m->draft, name.at, name.len);
    address_text(&facts->rec->peer, text);
    return draft_text(m->draft, text, strlen(text));
}
