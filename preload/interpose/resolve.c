/* resolve.c - getaddrinfo and its elders: one span a look-up, and the name behind an address remembered (conn/names.h).
 *
 * While libc looks a name up, the thread is quiet: the sockets of its name service modules are not the program's calls. Addresses
 * written as numbers are no look-up. The real call is a cancellation point and can be left by longjmp: quiet.h says how that heals. */
#include "interpose/resolve.h"
#include "conn/conn.h"
#include "conn/names.h"
#include "context/node/node.h"
#include "interpose/python.h"
#include "interpose/quiet.h"
#include "interpose/real.h"
#include "interpose/wrap.h"
#include "span/span.h"
#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

OTSHIM_TLS const void *quiet_frame;

bool resolve_is_number(const char *name)
{
    struct in_addr v4;
    struct in6_addr v6;
    char copy[INET6_ADDRSTRLEN + 1];
    if (inet_aton(name, &v4))
        return true;
    size_t len = strcspn(name, "%");
    if (len == 0 || len >= sizeof(copy) || memchr(name, ':', len) == NULL)
        return false;
    memcpy(copy, name, len);
    copy[len] = '\0';
    return inet_pton(AF_INET6, copy, &v6) == 1;
}

static void begin(struct names_lookup *l, const char *name)
{
    memset(l, 0, sizeof(*l));
    l->name_len = (uint16_t)strnlen(name, sizeof(l->name));
    memcpy(l->name, name, l->name_len);
    l->start_ns = now_ns();
    stack_prepare(); /* a safe place for it: libc itself loads name service modules here */
    python_look_once();
}

/* For whom does this thread look the name up? */
static bool owner_of(struct names_lookup *l, struct ctx *ctx)
{
    enum node_lookup noted = node_lookup_take(l->name, l->name_len, ctx);
    l->alone = noted == NODE_LOOKUP_UNKNOWN;
    return noted == NODE_LOOKUP_OWNED || (noted == NODE_LOOKUP_NOT_OURS && ctx_current(ctx));
}

static void end(struct names_lookup *l, int error)
{
    int saved = errno;
    l->end_ns = now_ns();
    l->error = error;
    struct ctx ctx;
    bool working = owner_of(l, &ctx);
    struct call_site site;
    call_site_none(&site);
    if ((working || error != 0) && stack_wanted(l->end_ns - l->start_ns, error != 0))
        call_site_here(&site);
    names_done(l, working ? &ctx : NULL, &site);
    call_site_done(&site);
    errno = saved;
}

WRAP(int, getaddrinfo, (const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **res))
{
    if (node == NULL || (hints != NULL && (hints->ai_flags & AI_NUMERICHOST)) || !QUIET_WATCHING() || resolve_is_number(node))
        return REAL(getaddrinfo)(node, service, hints, res);
    struct names_lookup l;
    begin(&l, node);
    QUIET_ENTER();
    int result = REAL(getaddrinfo)(node, service, hints, res);
    QUIET_LEAVE();
    for (const struct addrinfo *a = result == 0 ? *res : NULL; a != NULL; a = a->ai_next) {
        if (a->ai_family == AF_INET)
            names_answer(&l, AF_INET, &((const struct sockaddr_in *)(const void *)a->ai_addr)->sin_addr);
        else if (a->ai_family == AF_INET6)
            names_answer(&l, AF_INET6, &((const struct sockaddr_in6 *)(const void *)a->ai_addr)->sin6_addr);
    }
    end(&l, result);
    return result;
}

/* ---- gethostbyname and its relatives ------------------------------------------------------------------------------------------- */

static int eai_of(int host_error)
{
    switch (host_error) {
    case HOST_NOT_FOUND: return EAI_NONAME;
    case TRY_AGAIN: return EAI_AGAIN;
    case NO_RECOVERY: return EAI_FAIL;
    case NO_DATA: return -5; /* EAI_NODATA, where libc has it */
    default: return EAI_SYSTEM;
    }
}

static void end_host(struct names_lookup *l, const struct hostent *host, int host_error)
{
    for (char **a = host != NULL ? host->h_addr_list : NULL; a != NULL && *a != NULL; a++)
        names_answer(l, host->h_addrtype, *a);
    end(l, host != NULL ? 0 : eai_of(host_error));
}

WRAP(struct hostent *, gethostbyname, (const char *name))
{
    if (name == NULL || !QUIET_WATCHING() || resolve_is_number(name))
        return REAL(gethostbyname)(name);
    struct names_lookup l;
    begin(&l, name);
    QUIET_ENTER();
    struct hostent *host = REAL(gethostbyname)(name);
    QUIET_LEAVE();
    end_host(&l, host, h_errno);
    return host;
}

WRAP(struct hostent *, gethostbyname2, (const char *name, int af))
{
    if (name == NULL || !QUIET_WATCHING() || resolve_is_number(name))
        return REAL(gethostbyname2)(name, af);
    struct names_lookup l;
    begin(&l, name);
    QUIET_ENTER();
    struct hostent *host = REAL(gethostbyname2)(name, af);
    QUIET_LEAVE();
    end_host(&l, host, h_errno);
    return host;
}

/* ERANGE: the caller's buffer is too small, and it will ask again with a larger one. */
WRAP(int, gethostbyname_r,
     (const char *name, struct hostent *ret, char *buf, size_t buflen, struct hostent **result, int *h_errnop))
{
    if (name == NULL || !QUIET_WATCHING() || resolve_is_number(name))
        return REAL(gethostbyname_r)(name, ret, buf, buflen, result, h_errnop);
    struct names_lookup l;
    begin(&l, name);
    QUIET_ENTER();
    int rc = REAL(gethostbyname_r)(name, ret, buf, buflen, result, h_errnop);
    QUIET_LEAVE();
    if (rc != ERANGE)
        end_host(&l, rc == 0 ? *result : NULL, *h_errnop);
    return rc;
}

WRAP(int, gethostbyname2_r,
     (const char *name, int af, struct hostent *ret, char *buf, size_t buflen, struct hostent **result, int *h_errnop))
{
    if (name == NULL || !QUIET_WATCHING() || resolve_is_number(name))
        return REAL(gethostbyname2_r)(name, af, ret, buf, buflen, result, h_errnop);
    struct names_lookup l;
    begin(&l, name);
    QUIET_ENTER();
    int rc = REAL(gethostbyname2_r)(name, af, ret, buf, buflen, result, h_errnop);
    QUIET_LEAVE();
    if (rc != ERANGE)
        end_host(&l, rc == 0 ? *result : NULL, *h_errnop);
    return rc;
}
