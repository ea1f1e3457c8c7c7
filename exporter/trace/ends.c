/* ends.c - how a span ended, in the words of a person: error.type, the status message, otshim.end.
 *
 * Unfinished is not always failed: an upgrade goes on as another protocol, a happy-eyeballs connect is given up because its rival won,
 * and where we lost track of the protocol we know nothing about the outcome. */
#include "trace/facts.h"

#include <ctype.h>
#include <errno.h>
#include <netdb.h>
#include <string.h>

#define NAME(x)                                                                                                                    \
    {                                                                                                                              \
        x, #x                                                                                                                      \
    }

static const struct {
    int number;
    const char *name;
} error_names[] = {
    NAME(ECONNREFUSED),
    NAME(ECONNRESET),
    NAME(ECONNABORTED),
    NAME(ETIMEDOUT),
    NAME(EHOSTUNREACH),
    NAME(ENETUNREACH),
    NAME(EHOSTDOWN),
    NAME(ENETDOWN),
    NAME(ENETRESET),
    NAME(EPIPE),
    NAME(ENOTCONN),
    NAME(ESHUTDOWN),
    NAME(EISCONN),
    NAME(EALREADY),
    NAME(EINPROGRESS),
    NAME(EADDRNOTAVAIL),
    NAME(EADDRINUSE),
    NAME(EAFNOSUPPORT),
    NAME(EACCES),
    NAME(EPERM),
    NAME(ENOENT),
    NAME(ENOTDIR),
    NAME(ELOOP),
    NAME(ENOTSOCK),
    NAME(EBADF),
    NAME(EFAULT),
    NAME(EINVAL),
    NAME(EINTR),
    NAME(EAGAIN),
    NAME(EIO),
    NAME(EMFILE),
    NAME(ENFILE),
    NAME(ENOBUFS),
    NAME(ENOMEM),
    NAME(EMSGSIZE),
    NAME(EPROTO),
    NAME(EPROTOTYPE),
    NAME(ECANCELED),
    NAME(EDESTADDRREQ),
    NAME(EOPNOTSUPP),
    NAME(ENOSPC),
    NAME(ENODEV),
    NAME(ENETUNREACH),
    NAME(EHOSTUNREACH),
    NAME(EREMOTEIO),
    NAME(EBUSY),
    /* getaddrinfo: negative */
    NAME(EAI_BADFLAGS),
    NAME(EAI_NONAME),
    NAME(EAI_AGAIN),
    NAME(EAI_FAIL),
    NAME(EAI_FAMILY),
    NAME(EAI_SOCKTYPE),
    NAME(EAI_SERVICE),
    NAME(EAI_MEMORY),
    NAME(EAI_SYSTEM),
    NAME(EAI_OVERFLOW),
#ifdef EAI_NODATA
    NAME(EAI_NODATA),
    NAME(EAI_ADDRFAMILY),
#endif
};

const char *ends_error_name(struct draft *draft, int error)
{
    for (size_t i = 0; i < sizeof error_names / sizeof error_names[0]; i++)
        if (error_names[i].number == error)
            return error_names[i].name;
    return draft_format(draft, "errno %d", error);
}

/* As strerror has it ("Connection refused"), but as a part of a sentence. A second letter in upper case belongs to a name ("RPC ..."). */
const char *ends_error_words(struct draft *draft, int error)
{
    const char *words = error < 0 ? gai_strerror(error) : strerror(error);
    if (error < 0 || !isupper((unsigned char)words[0]) || isupper((unsigned char)words[1]))
        return draft_text(draft, words, strlen(words));
    return draft_format(draft, "%c%s", tolower((unsigned char)words[0]), words + 1);
}

static const char *const end_names[] = {
    [OTSHIM_END_COMPLETE] = NULL,
    [OTSHIM_END_PEER_CLOSED] = "peer_closed",
    [OTSHIM_END_LOCAL_CLOSED] = "local_closed",
    [OTSHIM_END_RESET] = "io_error",
    [OTSHIM_END_UPGRADED] = "upgraded",
    [OTSHIM_END_LOST] = "lost",
    [OTSHIM_END_EXIT] = "exit",
    [OTSHIM_END_DIED] = "died",
    [OTSHIM_END_FAILED] = "failed",
    [OTSHIM_END_ABANDONED] = "abandoned",
};

static void failed(struct making *m, const char *type, const char *message)
{
    m->error_type = type;
    m->span.status = SPAN_STATUS_ERROR;
    m->span.status_message = message;
}

/* "... before the response was complete", or whatever had not come yet. */
static const char *before_what(const struct otshim_span_rec *rec)
{
    if (rec->kind == OTSHIM_SPAN_CONNECT)
        return "before the connection was made";
    if (rec->kind == OTSHIM_SPAN_DNS)
        return "before the name was resolved";
    if (rec->kind == OTSHIM_SPAN_TLS_HANDSHAKE)
        return "before the handshake was complete";
    return rec->first_byte_ns == 0 && rec->status == 0 ? "before there was a response" : "before the response was complete";
}

static void failed_by(struct making *m, const char *type, const char *who)
{
    failed(m, type, draft_format(m->draft, "%s %s", who, before_what(m->facts->rec)));
}

void ends_describe(struct making *m)
{
    const struct otshim_span_rec *rec = m->facts->rec;
    bool server = rec->kind == OTSHIM_SPAN_SERVER;
    if (rec->end < sizeof end_names / sizeof end_names[0])
        draft_string(m->draft, "otshim.end", end_names[rec->end]);
    switch (rec->end) {
    case OTSHIM_END_PEER_CLOSED:
        failed_by(m, "peer_closed", server ? "the client closed the connection" : "the server closed the connection");
        break;
    case OTSHIM_END_LOCAL_CLOSED: failed_by(m, "local_closed", "the program closed the connection"); break;
    case OTSHIM_END_EXIT: failed_by(m, "process_exited", "the process exited"); break;
    case OTSHIM_END_DIED: failed_by(m, "process_died", "the process died"); break;
    case OTSHIM_END_RESET:
    case OTSHIM_END_FAILED:
        if (rec->kind == OTSHIM_SPAN_TLS_HANDSHAKE && rec->error == 0) {
            failed(m, "tls_handshake_failed", "the TLS handshake failed");
            break;
        }
        failed(m, rec->error != 0 ? ends_error_name(m->draft, rec->error) : "failed",
               rec->error != 0 ? ends_error_words(m->draft, rec->error) : "failed, cause unknown");
        break;
    default: break; /* complete, upgraded, lost, abandoned */
    }
}
