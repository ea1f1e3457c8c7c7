/* gnutls.c - the room of GnuTLS among the TLS libraries (tls_library.h).
 *
 * The wrapper makes exactly the call that the program made, and tells conn/tls.h what went through in the clear. Only gnutls_record_send and
 * gnutls_record_send2 may be called with another buffer (conn/tls_write.h), and not between gnutls_record_cork and gnutls_record_uncork: the latter says
 * how many bytes it sent, of all that had been collected, and ours would be among them.
 *
 * Results: a number of bytes, 0 for the end of the stream, or a negative code: "again" (-28), "interrupted" (-52), others that are not fatal (a
 * warning, a request for a new handshake), or an error. Who is the server? gnutls_server_name_get answers to servers only; and the name that a client asks
 * for is remembered when it is set. */
#include "base/base.h"
#include "conn/intern.h"
#include "conn/tls_write.h"
#include "interpose/slots.h"
#include "interpose/tls_library.h"
#include <errno.h>
#include <string.h>
#include <sys/types.h>

/* gnutls_datum_t */
struct gnutls_bytes {
    unsigned char *data;
    unsigned size;
};

/* Nothing but functions, in the order of the table. There is one libgnutls in a process. */
static struct {
#define WRAPPED(ret, name, params) ret(*name) params;
#define CALLED WRAPPED
#define WRAPPED_OPTIONAL WRAPPED
#define CALLED_OPTIONAL WRAPPED
#include "interpose/gnutls.def"
#undef WRAPPED
#undef CALLED
#undef WRAPPED_OPTIONAL
#undef CALLED_OPTIONAL
} lib;

enum {
    E_FATAL_ALERT_RECEIVED = -12,
    E_AGAIN = -28,
    E_INVALID_REQUEST = -50,
    E_INTERRUPTED = -52,
    E_PUSH_ERROR = -53,
    E_PULL_ERROR = -54,
    E_PREMATURE_TERMINATION = -110,
    E_CERTIFICATE_VERIFICATION_ERROR = -348,
    DTLS_FIRST = 200, /* of the protocol versions */
    NAME_DNS = 1,
};

static struct tls_session *session_of(const void *object, bool make)
{
    if (OTSHIM_UNLIKELY(!otshim_active || otshim_quiet || object == NULL))
        return NULL;
    return tls_session(object, make);
}

static bool is_server(void *object)
{
    size_t none = 0;
    unsigned type;
    return lib.gnutls_server_name_get(object, NULL, &none, &type, 0) != E_INVALID_REQUEST;
}

/* What the library's "no" says of the connection, as errno; 0: the peer closed it. */
static int failure_of(ssize_t ret, int error)
{
    if (ret == E_PREMATURE_TERMINATION)
        return 0;
    if (!lib.gnutls_error_is_fatal((int)ret))
        return EAGAIN;
    if (ret != E_PUSH_ERROR && ret != E_PULL_ERROR)
        return EPROTO;
    return error == 0 || error == EAGAIN || error == EINTR ? ECONNRESET : error;
}

/* ---- the handshake ----------------------------------------------------------------------------------------------------------------------- */

/* What gnutls_certificate_verification_status_print() would say, which allocates. */
static const char *certificate_error(unsigned status)
{
    static const struct {
        unsigned bit;
        const char *text;
    } texts[] = {
        {1u << 5, "The certificate chain is revoked."},
        {1u << 6, "The certificate issuer is unknown."},
        {1u << 7, "The certificate issuer is not a CA."},
        {1u << 8, "The certificate chain uses insecure algorithm."},
        {1u << 9, "The certificate chain uses not yet valid certificate."},
        {1u << 10, "The certificate chain uses expired certificate."},
        {1u << 11, "The signature in the certificate is invalid."},
        {1u << 14, "The name in the certificate does not match the expected."},
        {1u << 16, "The certificate chain violates the signer's constraints."},
        {1u << 17, "The certificate doesn't match the local copy (TOFU)."},
        {1u << 18, "The certificate does not match the intended purpose."},
        {1u << 19,
         "The certificate requires the server to include an OCSP status in its response, but the OCSP status is missing."},
        {1u << 20, "The received OCSP status response is invalid."},
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (status & texts[i].bit)
            return texts[i].text;
    return NULL;
}

static const char *handshake_error(void *object, int ret)
{
    const char *text = NULL;
    if (ret == E_CERTIFICATE_VERIFICATION_ERROR && lib.gnutls_session_get_verify_cert_status != NULL)
        text = certificate_error(lib.gnutls_session_get_verify_cert_status(object));
    else if (ret == E_FATAL_ALERT_RECEIVED)
        text = lib.gnutls_alert_get_name(lib.gnutls_alert_get(object));
    return text != NULL ? text : lib.gnutls_strerror(ret);
}

/* "TLS1.3" is TLSv1.3 in record.h. */
static const char *version_text(void *object, char *text, size_t room)
{
    const char *name = lib.gnutls_protocol_get_name(lib.gnutls_protocol_get_version(object));
    if (name == NULL || strncmp(name, "TLS", 3) != 0 || strlen(name) + 2 > room)
        return name;
    memcpy(text, "TLSv", 4);
    memcpy(text + 4, name + 3, strlen(name + 3) + 1);
    return text;
}

/* What the client asked for; room: INTERN_TEXT_MAX + 1. NULL: nothing. */
static const char *server_name_text(void *object, const struct tls_session *session, char *text)
{
    size_t len = INTERN_TEXT_MAX + 1;
    unsigned type;
    if (session->server)
        return lib.gnutls_server_name_get(object, text, &len, &type, 0) == 0 ? text : NULL;
    const char *name = intern_get(session->server_name, &len);
    if (name == NULL)
        return NULL;
    memcpy(text, name, len);
    text[len] = '\0';
    return text;
}

static void handshake_end(void *object, struct tls_session *session, int ret)
{
    struct tls_facts facts = {.resumed = false};
    struct gnutls_bytes alpn = {NULL, 0};
    struct watch watch;
    char version[16], server_name[INTERN_TEXT_MAX + 1];
    facts.server_name = server_name_text(object, session, server_name);
    if (ret < 0) {
        facts.error = handshake_error(object, ret);
    } else {
        facts.version = version_text(object, version, sizeof version);
        facts.cipher = lib.gnutls_ciphersuite_get != NULL ? lib.gnutls_ciphersuite_get(object)
                                                          : lib.gnutls_cipher_get_name(lib.gnutls_cipher_get(object));
        facts.resumed = lib.gnutls_session_is_resumed(object) != 0;
        if (lib.gnutls_alpn_get_selected_protocol(object, &alpn) == 0) {
            facts.alpn = (const char *)alpn.data;
            facts.alpn_len = alpn.size;
        }
    }
    tls_handshake_done(session, ret >= 0, &facts);
    if (session->early && tls_watch(session, &watch))
        conn_give_up(watch.conn);
}

static void handshake_look(void *object, struct tls_session *session, int ret)
{
    if (session->finished || (ret < 0 && !lib.gnutls_error_is_fatal(ret)))
        return;
    if (session->server && session->plain == NULL && (ret == E_PREMATURE_TERMINATION || ret == E_PULL_ERROR))
        session->finished = true; /* somebody only knocked: nothing came, so there was no handshake */
    else
        handshake_end(object, session, ret);
}

static int gnutls_handshake(void *object)
{
    struct tls_session *session = session_of(object, true);
    struct tls_call call;
    if (session == NULL)
        return lib.gnutls_handshake(object);
    if (!session->finished && session->begun_ns == 0) {
        session->server = is_server(object);
        session->begun_ns = now_ns();
    }
    tls_call_begin(&call, session);
    int ret = lib.gnutls_handshake(object);
    tls_call_end(&call);
    int error = errno;
    handshake_look(object, session, ret);
    errno = error;
    return ret;
}

static int gnutls_server_name_set(void *object, int type, const void *name, size_t len)
{
    int ret = lib.gnutls_server_name_set(object, type, name, len);
    struct tls_session *session = ret == 0 && type == NAME_DNS && len > 0 ? session_of(object, true) : NULL;
    if (session != NULL)
        session->server_name = intern_put(name, strnlen(name, len));
    return ret;
}

/* Data before we saw a handshake: we came late. */
static void joined(void *object, struct tls_session *session)
{
    if (OTSHIM_LIKELY(session->finished || session->begun_ns != 0))
        return;
    session->server = is_server(object);
    session->finished = true;
}

/* ---- reading --------------------------------------------------------------------------------------------------------------------------------- */

static void after_read(struct tls_session *session, void *bytes, size_t asked, ssize_t ret)
{
    struct watch watch;
    struct iovec piece = {bytes, ret > 0 ? (size_t)ret : 0};
    int error = errno;
    ssize_t result = ret;
    if (session->plain == NULL && ret <= 0)
        return;
    if (ret < 0) {
        int why = failure_of(ret, error);
        result = why == 0 ? 0 : -1;
        errno = why;
    }
    if ((result >= 0 || errno != EAGAIN) && tls_watch(session, &watch))
        flow_received(&watch, &piece, 1, result, asked, true);
    errno = error;
}

/* seq: for gnutls_record_recv_seq. */
static ssize_t receive(void *object, void *data, size_t len, unsigned char *seq, bool with_seq)
{
    struct tls_session *session = session_of(object, true);
    struct tls_call call;
    if (session != NULL) {
        joined(object, session);
        tls_call_begin(&call, session);
    }
    ssize_t ret = with_seq ? lib.gnutls_record_recv_seq(object, data, len, seq) : lib.gnutls_record_recv(object, data, len);
    if (session != NULL) {
        tls_call_end(&call);
        after_read(session, data, len, ret);
    }
    return ret;
}

static ssize_t gnutls_record_recv(void *object, void *data, size_t len)
{
    return receive(object, data, len, NULL, false);
}

static ssize_t gnutls_record_recv_seq(void *object, void *data, size_t len, unsigned char *seq)
{
    return receive(object, data, len, seq, true);
}

static ssize_t gnutls_record_recv_packet(void *object, void **packet)
{
    struct tls_session *session = session_of(object, true);
    struct tls_call call;
    if (session == NULL)
        return lib.gnutls_record_recv_packet(object, packet);
    joined(object, session);
    tls_call_begin(&call, session);
    ssize_t ret = lib.gnutls_record_recv_packet(object, packet);
    tls_call_end(&call);
    struct gnutls_bytes data = {NULL, 0};
    if (ret > 0)
        lib.gnutls_packet_get(*packet, &data, NULL);
    after_read(session, data.data, 1, data.data != NULL ? (ssize_t)data.size : ret);
    return ret;
}

/* In a server's handshake hook, or after the handshake and before anything else. */
static ssize_t gnutls_record_recv_early_data(void *object, void *data, size_t len)
{
    ssize_t ret = lib.gnutls_record_recv_early_data(object, data, len);
    struct tls_session *session = ret > 0 ? session_of(object, true) : NULL;
    if (session != NULL)
        after_read(session, data, len, ret);
    return ret;
}

/* ---- writing --------------------------------------------------------------------------------------------------------------------------------- */

struct writer {
    struct tls_writer writer; /* first */
    void *object;
    size_t pad; /* gnutls_record_send2's */
    unsigned flags;
    bool two;
    ssize_t ret; /* of the last call, */
    int error;   /* and errno before and after it */
};

static ssize_t writer_write(struct tls_writer *tls_writer, const void *bytes, size_t len)
{
    struct writer *w = (struct writer *)tls_writer;
    errno = w->error;
    w->ret =
        w->two ? lib.gnutls_record_send2(w->object, bytes, len, w->pad, w->flags) : lib.gnutls_record_send(w->object, bytes, len);
    w->error = errno;
    if (w->ret >= 0)
        return w->ret;
    int why = failure_of(w->ret, w->error);
    w->writer.committed = w->ret == E_AGAIN || w->ret == E_INTERRUPTED;
    errno = why == 0 ? EPIPE : why;
    return -1;
}

static ssize_t transmit(struct writer *w, const void *data, size_t len)
{
    struct tls_session *session = session_of(w->object, true);
    struct tls_call call;
    w->error = errno;
    if (session == NULL || (data == NULL && len != 0)) {
        writer_write(&w->writer, data, len);
        errno = w->error;
        return w->ret;
    }
    joined(w->object, session);
    bool settled = session->finished && !session->corked && w->pad == 0 && lib.gnutls_protocol_get_version(w->object) < DTLS_FIRST;
    w->writer.write = writer_write;
    w->writer.nameless = true;
    w->writer.most = session->corked ? 0 : lib.gnutls_record_get_max_size(w->object);
    tls_call_begin(&call, session);
    ssize_t taken = tls_write(session, &w->writer, data, len, settled);
    tls_call_end(&call);
    errno = w->error;
    return taken > 0 ? taken : w->ret;
}

static ssize_t gnutls_record_send(void *object, const void *data, size_t len)
{
    return transmit(&(struct writer){.object = object}, data, len);
}

static ssize_t gnutls_record_send2(void *object, const void *data, size_t len, size_t pad, unsigned flags)
{
    return transmit(&(struct writer){.object = object, .pad = pad, .flags = flags, .two = true}, data, len);
}

/* Writes that are never changed. The bytes are NULL where they are not known. */
static void after_write(struct tls_session *session, const void *data, ssize_t ret)
{
    struct watch watch;
    int error = errno;
    if (ret > 0 && tls_watch(session, &watch)) {
        struct iovec piece = {(void *)(uintptr_t)data, (size_t)ret};
        if (data != NULL)
            flow_sent(&watch, &piece, 1, ret);
        else
            flow_sent_unseen(&watch, ret);
    } else if (ret < 0 && tls_watch(session, &watch)) {
        conn_give_up(watch.conn); /* how much of it went out is not said */
    }
    errno = error;
}

static ssize_t gnutls_record_send_range(void *object, const void *data, size_t len, const void *range)
{
    struct tls_session *session = session_of(object, true);
    struct tls_call call;
    if (session == NULL)
        return lib.gnutls_record_send_range(object, data, len, range);
    joined(object, session);
    tls_call_begin(&call, session);
    ssize_t ret = lib.gnutls_record_send_range(object, data, len, range);
    tls_call_end(&call);
    after_write(session, data, ret);
    return ret;
}

static ssize_t gnutls_record_send_file(void *object, int fd, off_t *offset, size_t count)
{
    struct tls_session *session = session_of(object, true);
    struct tls_call call;
    if (session == NULL)
        return lib.gnutls_record_send_file(object, fd, offset, count);
    joined(object, session);
    tls_call_begin(&call, session);
    ssize_t ret = lib.gnutls_record_send_file(object, fd, offset, count);
    tls_call_end(&call);
    after_write(session, NULL, ret);
    return ret;
}

/* Goes out with the hello, if the server takes it, and is sent once more if it does not: not for us to tell apart. */
static ssize_t gnutls_record_send_early_data(void *object, const void *data, size_t len)
{
    ssize_t ret = lib.gnutls_record_send_early_data(object, data, len);
    struct tls_session *session = ret >= 0 && len > 0 ? session_of(object, true) : NULL;
    if (session != NULL)
        session->early = true;
    return ret;
}

static void gnutls_record_cork(void *object)
{
    struct tls_session *session = session_of(object, true);
    if (session != NULL)
        session->corked = true;
    lib.gnutls_record_cork(object);
}

static int gnutls_record_uncork(void *object, unsigned flags)
{
    struct tls_session *session = session_of(object, false);
    struct tls_call call;
    if (session == NULL)
        return lib.gnutls_record_uncork(object, flags);
    tls_call_begin(&call, session);
    int ret = lib.gnutls_record_uncork(object, flags);
    tls_call_end(&call);
    session->corked = ret < 0; /* what did not go out stays collected */
    return ret;
}

/* What is to be repeated is not. */
static int gnutls_record_discard_queued(void *object)
{
    struct tls_session *session = session_of(object, false);
    struct watch watch;
    int error = errno;
    if (session != NULL && (session->pending != NULL || session->committed)) {
        tls_pending_drop(session);
        if (tls_watch(session, &watch))
            conn_give_up(watch.conn);
    }
    errno = error;
    return lib.gnutls_record_discard_queued(object);
}

/* ---- the end ----------------------------------------------------------------------------------------------------------------------------------- */

/* close_notify goes out: what ends with the connection ends now. */
static int gnutls_bye(void *object, int how)
{
    struct tls_session *session = session_of(object, false);
    struct watch watch;
    struct tls_call call;
    if (session == NULL)
        return lib.gnutls_bye(object, how);
    tls_call_begin(&call, session);
    int ret = lib.gnutls_bye(object, how);
    tls_call_end(&call);
    int error = errno;
    if (session->plain != NULL && tls_watch(session, &watch) && watch_lock(&watch)) {
        flow_send_closed_locked(watch.conn);
        conn_unlock(watch.conn);
    }
    errno = error;
    return ret;
}

static void gnutls_deinit(void *object)
{
    struct tls_session *session = session_of(object, false);
    int error = errno;
    if (session != NULL)
        tls_forget(session);
    errno = error;
    lib.gnutls_deinit(object);
}

/* ---- for tls_library.c --------------------------------------------------------------------------------------------------------------------------- */

static const struct tls_function functions[] = {
#define WRAPPED(ret, name, params) {#name, false},
#define CALLED WRAPPED
#define WRAPPED_OPTIONAL(ret, name, params) {#name, true},
#define CALLED_OPTIONAL WRAPPED_OPTIONAL
#include "interpose/gnutls.def"
#undef WRAPPED
#undef CALLED
#undef WRAPPED_OPTIONAL
#undef CALLED_OPTIONAL
};
_Static_assert(sizeof lib == sizeof functions / sizeof *functions * sizeof(void *), "one for one");
_Static_assert(sizeof functions / sizeof *functions <= TLS_FUNCTIONS, "all fit");

static void found(unsigned n, void *const *all)
{
    (void)n;
    memcpy(&lib, all, sizeof lib);
}

static void redirect(const struct dl_phdr_info *info, unsigned n)
{
    (void)n;
    const struct slot_redirect table[] = {
#define WRAPPED(ret, name, params) {#name, (const void *)name, (const void *)lib.name},
#define WRAPPED_OPTIONAL WRAPPED
#define CALLED(ret, name, params)
#define CALLED_OPTIONAL CALLED
#include "interpose/gnutls.def"
#undef WRAPPED
#undef CALLED
#undef WRAPPED_OPTIONAL
#undef CALLED_OPTIONAL
    };
    slots_redirect(info, table, sizeof table / sizeof *table);
}

const struct tls_room gnutls_room = {
    .file = "libgnutls.so",
    .sets = 1,
    .unknown = "TLS: a libgnutls older than 3.4: what goes through it is not seen",
    .too_many = "TLS: more than one libgnutls in one process: what goes through the second is not seen",
    .functions = functions,
    .count = sizeof functions / sizeof *functions,
    .found = found,
    .redirect = redirect,
};
