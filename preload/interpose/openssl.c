/* openssl.c - the room of OpenSSL 1.1 and 3 among the TLS libraries (tls_library.h).
 *
 * The wrapper makes exactly the call that the program made, and tells conn/tls.h what went through in the clear. Only SSL_write may be called with another
 * buffer (conn/tls_write.h). The getters that are asked besides change nothing; SSL_get_error looks at the error queue without taking from it. */
#include "base/base.h"
#include "conn/tls_write.h"
#include "interpose/lookup.h"
#include "interpose/slots.h"
#include "interpose/tls_library.h"
#include <errno.h>
#include <string.h>
#include <sys/types.h>

/* Nothing but functions, in the order of the table. */
struct ssl_library {
#define WRAPPED(ret, name, params) ret(*name) params;
#define WRAPPED_OPTIONAL(ret, name, params) ret(*name) params;
#define CALLED(ret, name, params) ret(*name) params;
#define CALLED_OPTIONAL(ret, name, params) ret(*name) params;
#include "interpose/openssl.def"
#undef WRAPPED
#undef WRAPPED_OPTIONAL
#undef CALLED
#undef CALLED_OPTIONAL
};
static struct ssl_library libraries[TLS_LIBRARIES];

/* Of libcrypto, for those who hand records to it themselves; and its words for a failure. One of several will do: the codes are the same. */
static int (*bio_write)(void *bio, const void *data, int len);
static const char *(*verify_error_text)(long code);
static unsigned long (*last_error)(void);
static const char *(*reason_text)(unsigned long code);

enum { SSL_ERROR_SSL = 1, SSL_ERROR_WANT_READ = 2, SSL_ERROR_SYSCALL = 5, SSL_ERROR_ZERO_RETURN = 6 };

/* ---- one call ------------------------------------------------------------------------------------------------------------------------------------ */

static struct tls_session *session_of(const struct ssl_library *lib, void *ssl, bool make)
{
    if (OTSHIM_UNLIKELY(!otshim_active || otshim_quiet || ssl == NULL))
        return NULL;
    struct tls_session *session = tls_session(ssl, make);
    if (session == NULL)
        return NULL;
    if (OTSHIM_UNLIKELY(tls_bio_waits()))
        tls_bio_tie(session, lib->SSL_get_rbio(ssl));
    return session;
}

static void handshake_facts(const struct ssl_library *lib, void *ssl, bool ok, struct tls_facts *facts)
{
    const void *cipher = lib->SSL_get_current_cipher(ssl);
    *facts = (struct tls_facts){
        .version = ok ? lib->SSL_get_version(ssl) : NULL,
        .cipher = ok && cipher != NULL ? lib->SSL_CIPHER_get_name(cipher) : NULL,
        .server_name = lib->SSL_get_servername(ssl, 0),
        .resumed = ok && lib->SSL_session_reused(ssl) != 0,
    };
    const unsigned char *alpn = NULL;
    unsigned alpn_len = 0;
    if (ok && lib->SSL_get0_alpn_selected != NULL)
        lib->SSL_get0_alpn_selected(ssl, &alpn, &alpn_len);
    facts->alpn = (const char *)alpn;
    facts->alpn_len = alpn_len;
    if (ok)
        return;
    long verified = lib->SSL_get_verify_result(ssl);
    if (verified != 0 && verify_error_text != NULL)
        facts->error = verify_error_text(verified);
    else if (last_error != NULL && reason_text != NULL)
        facts->error = reason_text(last_error());
}

/* After any call that may have moved it: is the handshake over? `ret` is the call's, > 0 for success. */
static void handshake_look(const struct ssl_library *lib, void *ssl, struct tls_session *session, int ret)
{
    struct tls_facts facts;
    if (OTSHIM_LIKELY(session->finished))
        return;
    bool ok = ret > 0 || lib->SSL_is_init_finished(ssl) == 1;
    if (!ok) {
        int why = lib->SSL_get_error(ssl, ret);
        if (why != SSL_ERROR_SSL && why != SSL_ERROR_SYSCALL)
            return;
    }
    handshake_facts(lib, ssl, ok, &facts);
    tls_handshake_done(session, ok, &facts);
}

static void handshake_begin(const struct ssl_library *lib, void *ssl, struct tls_session *session)
{
    if (OTSHIM_LIKELY(session->finished || session->begun_ns != 0))
        return;
    session->server = lib->SSL_is_server(ssl) == 1;
    if (lib->SSL_is_init_finished(ssl) == 1)
        session->finished = true; /* we came late */
    else
        session->begun_ns = now_ns();
}

/* What the library's "no" says of the connection: end of the stream (0), or errno: EAGAIN, or that it failed. */
static int failure_of(const struct ssl_library *lib, void *ssl, int ret, int error)
{
    switch (lib->SSL_get_error(ssl, ret)) {
    case SSL_ERROR_ZERO_RETURN: return 0;
    case SSL_ERROR_SSL: return EPROTO;
    case SSL_ERROR_SYSCALL: return error == 0 || error == EAGAIN || error == EINTR ? ECONNRESET : error;
    default: return EAGAIN;
    }
}

static void after_read(const struct ssl_library *lib, void *ssl, struct tls_session *session, void *buf, size_t asked, int ret,
                       size_t done)
{
    struct watch watch;
    int error = errno;
    handshake_look(lib, ssl, session, ret);
    if (session->plain == NULL && ret <= 0)
        return;
    struct iovec piece = {buf, done};
    ssize_t result = ret > 0 ? (ssize_t)done : -1;
    if (result < 0) {
        int why = failure_of(lib, ssl, ret, error);
        result = why == 0 ? 0 : -1;
        errno = why;
    }
    if ((result >= 0 || errno != EAGAIN) && tls_watch(session, &watch))
        flow_received(&watch, &piece, 1, result, asked, true);
    errno = error;
}

static int call_read(const struct ssl_library *lib, void *ssl, void *buf, int num)
{
    struct tls_session *session = session_of(lib, ssl, true);
    struct tls_call call;
    if (session == NULL)
        return lib->SSL_read(ssl, buf, num);
    handshake_begin(lib, ssl, session);
    tls_call_begin(&call, session);
    int ret = lib->SSL_read(ssl, buf, num);
    tls_call_end(&call);
    after_read(lib, ssl, session, buf, num > 0 ? (size_t)num : 0, ret, ret > 0 ? (size_t)ret : 0);
    return ret;
}

static int call_read_ex(const struct ssl_library *lib, void *ssl, void *buf, size_t num, size_t *done)
{
    struct tls_session *session = session_of(lib, ssl, true);
    struct tls_call call;
    if (session == NULL)
        return lib->SSL_read_ex(ssl, buf, num, done);
    handshake_begin(lib, ssl, session);
    tls_call_begin(&call, session);
    int ret = lib->SSL_read_ex(ssl, buf, num, done);
    tls_call_end(&call);
    after_read(lib, ssl, session, buf, num, ret, ret > 0 ? *done : 0);
    return ret;
}

/* ---- writing ------------------------------------------------------------------------------------------------------------------------------------------ */

struct writer {
    struct tls_writer writer; /* first */
    const struct ssl_library *lib;
    void *ssl;
    bool ex;
    int ret;   /* of the last call, */
    int error; /* and errno before and after it */
};

static ssize_t writer_write(struct tls_writer *tls_writer, const void *bytes, size_t len)
{
    struct writer *w = (struct writer *)tls_writer;
    size_t done = 0;
    errno = w->error;
    if (w->ex) {
        w->ret = w->lib->SSL_write_ex(w->ssl, bytes, len, &done);
    } else {
        w->ret = w->lib->SSL_write(w->ssl, bytes, (int)len);
        done = w->ret > 0 ? (size_t)w->ret : 0;
    }
    w->error = errno;
    if (w->ret > 0)
        return (ssize_t)done;
    int why = failure_of(w->lib, w->ssl, w->ret, w->error);
    w->writer.committed = why == EAGAIN && w->lib->SSL_is_init_finished(w->ssl) == 1;
    errno = why == 0 ? EPIPE : why;
    return -1;
}

/* The number of the program's bytes that were taken; 0: none, and w->ret is what the library said. */
static size_t call_writer(struct writer *w, struct tls_session *session, const void *buf, size_t num)
{
    struct tls_call call;
    w->error = errno;
    handshake_begin(w->lib, w->ssl, session);
    bool settled = session->finished || w->lib->SSL_is_init_finished(w->ssl) == 1;
    tls_call_begin(&call, session);
    ssize_t taken = tls_write(session, &w->writer, buf, num, settled);
    tls_call_end(&call);
    handshake_look(w->lib, w->ssl, session, w->ret);
    errno = w->error;
    return taken > 0 ? (size_t)taken : 0;
}

static int call_write(const struct ssl_library *lib, void *ssl, const void *buf, int num)
{
    struct tls_session *session = session_of(lib, ssl, true);
    struct writer writer = {.writer = {writer_write}, .lib = lib, .ssl = ssl};
    if (session == NULL || num <= 0 || buf == NULL)
        return lib->SSL_write(ssl, buf, num);
    size_t taken = call_writer(&writer, session, buf, (size_t)num);
    return taken > 0 ? (int)taken : writer.ret;
}

static int call_write_ex(const struct ssl_library *lib, void *ssl, const void *buf, size_t num, size_t *done)
{
    struct tls_session *session = session_of(lib, ssl, true);
    struct writer writer = {.writer = {writer_write}, .lib = lib, .ssl = ssl, .ex = true};
    if (session == NULL || num == 0 || buf == NULL)
        return lib->SSL_write_ex(ssl, buf, num, done);
    size_t taken = call_writer(&writer, session, buf, num);
    if (taken == 0)
        return writer.ret;
    *done = taken;
    return 1;
}

static ssize_t call_sendfile(const struct ssl_library *lib, void *ssl, int fd, off_t offset, size_t size, int flags)
{
    struct tls_session *session = session_of(lib, ssl, true);
    struct tls_call call;
    struct watch watch;
    if (session == NULL)
        return lib->SSL_sendfile(ssl, fd, offset, size, flags);
    tls_call_begin(&call, session);
    ssize_t ret = lib->SSL_sendfile(ssl, fd, offset, size, flags);
    tls_call_end(&call);
    int error = errno;
    if (ret > 0 && tls_watch(session, &watch))
        flow_sent_unseen(&watch, ret);
    errno = error;
    return ret;
}

/* ---- the rest --------------------------------------------------------------------------------------------------------------------------------------- */

static int call_handshake(const struct ssl_library *lib, void *ssl, int (*function)(void *))
{
    struct tls_session *session = session_of(lib, ssl, true);
    struct tls_call call;
    if (session == NULL)
        return function(ssl);
    /* SSL_connect and SSL_accept set the role themselves. */
    if (function == lib->SSL_do_handshake || session->begun_ns != 0)
        handshake_begin(lib, ssl, session);
    else
        session->begun_ns = now_ns();
    tls_call_begin(&call, session);
    int ret = function(ssl);
    tls_call_end(&call);
    int error = errno;
    session->server = lib->SSL_is_server(ssl) == 1;
    handshake_look(lib, ssl, session, ret);
    errno = error;
    return ret;
}

/* Looked at without being taken: no bytes of the stream for us, but raw I/O may happen in there. */
static int call_peek(const struct ssl_library *lib, void *ssl, void *buf, size_t num, size_t *done, bool ex)
{
    struct tls_session *session = session_of(lib, ssl, true);
    struct tls_call call;
    if (session != NULL) {
        handshake_begin(lib, ssl, session);
        tls_call_begin(&call, session);
    }
    int ret = ex ? lib->SSL_peek_ex(ssl, buf, num, done) : lib->SSL_peek(ssl, buf, (int)(ssize_t)num);
    if (session != NULL) {
        tls_call_end(&call);
        int error = errno;
        handshake_look(lib, ssl, session, ret);
        errno = error;
    }
    return ret;
}

/* close_notify goes out: what ends with the connection ends now. */
static int call_shutdown(const struct ssl_library *lib, void *ssl)
{
    struct tls_session *session = session_of(lib, ssl, false);
    struct watch watch;
    struct tls_call call;
    if (session == NULL)
        return lib->SSL_shutdown(ssl);
    tls_call_begin(&call, session);
    int ret = lib->SSL_shutdown(ssl);
    tls_call_end(&call);
    int error = errno;
    if (session->plain != NULL && tls_watch(session, &watch) && watch_lock(&watch)) {
        flow_send_closed_locked(watch.conn);
        conn_unlock(watch.conn);
    }
    errno = error;
    return ret;
}

static void call_free(const struct ssl_library *lib, void *ssl)
{
    struct tls_session *session = session_of(lib, ssl, false);
    int error = errno;
    if (session != NULL)
        tls_forget(session);
    errno = error;
    lib->SSL_free(ssl);
}

static int wrapped_bio_write(void *bio, const void *data, int len)
{
    int ret = bio_write(bio, data, len);
    int error = errno;
    if (ret == len && len > 0 && otshim_active && !otshim_quiet)
        tls_bio_written(bio, data, (size_t)len);
    errno = error;
    return ret;
}

/* ---- a set of wrappers for each library -------------------------------------------------------------------------------------------------------------- */

#define SET(n)                                                                                                                     \
    static int ssl_read_##n(void *ssl, void *buf, int num)                                                                         \
    {                                                                                                                              \
        return call_read(&libraries[n], ssl, buf, num);                                                                            \
    }                                                                                                                              \
    static int ssl_read_ex_##n(void *ssl, void *buf, size_t num, size_t *done)                                                     \
    {                                                                                                                              \
        return call_read_ex(&libraries[n], ssl, buf, num, done);                                                                   \
    }                                                                                                                              \
    static int ssl_write_##n(void *ssl, const void *buf, int num)                                                                  \
    {                                                                                                                              \
        return call_write(&libraries[n], ssl, buf, num);                                                                           \
    }                                                                                                                              \
    static int ssl_write_ex_##n(void *ssl, const void *buf, size_t num, size_t *done)                                              \
    {                                                                                                                              \
        return call_write_ex(&libraries[n], ssl, buf, num, done);                                                                  \
    }                                                                                                                              \
    static int ssl_peek_##n(void *ssl, void *buf, int num)                                                                         \
    {                                                                                                                              \
        return call_peek(&libraries[n], ssl, buf, (size_t)(ssize_t)num, NULL, false);                                              \
    }                                                                                                                              \
    static int ssl_peek_ex_##n(void *ssl, void *buf, size_t num, size_t *done)                                                     \
    {                                                                                                                              \
        return call_peek(&libraries[n], ssl, buf, num, done, true);                                                                \
    }                                                                                                                              \
    static int ssl_do_handshake_##n(void *ssl)                                                                                     \
    {                                                                                                                              \
        return call_handshake(&libraries[n], ssl, libraries[n].SSL_do_handshake);                                                  \
    }                                                                                                                              \
    static int ssl_connect_##n(void *ssl)                                                                                          \
    {                                                                                                                              \
        return call_handshake(&libraries[n], ssl, libraries[n].SSL_connect);                                                       \
    }                                                                                                                              \
    static int ssl_accept_##n(void *ssl)                                                                                           \
    {                                                                                                                              \
        return call_handshake(&libraries[n], ssl, libraries[n].SSL_accept);                                                        \
    }                                                                                                                              \
    static int ssl_shutdown_##n(void *ssl)                                                                                         \
    {                                                                                                                              \
        return call_shutdown(&libraries[n], ssl);                                                                                  \
    }                                                                                                                              \
    static void ssl_free_##n(void *ssl)                                                                                            \
    {                                                                                                                              \
        call_free(&libraries[n], ssl);                                                                                             \
    }                                                                                                                              \
    static ssize_t ssl_sendfile_##n(void *ssl, int fd, off_t offset, size_t size, int flags)                                       \
    {                                                                                                                              \
        return call_sendfile(&libraries[n], ssl, fd, offset, size, flags);                                                         \
    }
SET(0)
SET(1)
SET(2)

#define REDIRECT(n, name, wrapper)                                                                                                 \
    {                                                                                                                              \
#name, (const void *)wrapper##_##n, (const void *)libraries[n].name                                                        \
    }
#define REDIRECTS(n)                                                                                                               \
    {                                                                                                                              \
        REDIRECT(n, SSL_read, ssl_read), REDIRECT(n, SSL_read_ex, ssl_read_ex), REDIRECT(n, SSL_write, ssl_write),                 \
            REDIRECT(n, SSL_write_ex, ssl_write_ex), REDIRECT(n, SSL_peek, ssl_peek), REDIRECT(n, SSL_peek_ex, ssl_peek_ex),       \
            REDIRECT(n, SSL_do_handshake, ssl_do_handshake), REDIRECT(n, SSL_connect, ssl_connect),                                \
            REDIRECT(n, SSL_accept, ssl_accept), REDIRECT(n, SSL_shutdown, ssl_shutdown), REDIRECT(n, SSL_free, ssl_free),         \
            REDIRECT(n, SSL_sendfile, ssl_sendfile), {"BIO_write", (const void *)wrapped_bio_write, (const void *)bio_write},      \
    }
#define REDIRECTS_COUNT 13u

static void redirect(const struct dl_phdr_info *info, unsigned n)
{
    const struct slot_redirect tables[TLS_LIBRARIES][REDIRECTS_COUNT] = {REDIRECTS(0), REDIRECTS(1), REDIRECTS(2)};
    slots_redirect(info, tables[n], REDIRECTS_COUNT - (bio_write == NULL));
}

/* ---- for tls_library.c ---------------------------------------------------------------------------------------------------------------------------------- */

static const struct tls_function functions[] = {
#define WRAPPED(ret, name, params) {#name, false},
#define CALLED WRAPPED
#define WRAPPED_OPTIONAL(ret, name, params) {#name, true},
#define CALLED_OPTIONAL WRAPPED_OPTIONAL
#include "interpose/openssl.def"
#undef WRAPPED
#undef WRAPPED_OPTIONAL
#undef CALLED
#undef CALLED_OPTIONAL
};
_Static_assert(sizeof(struct ssl_library) == sizeof functions / sizeof *functions * sizeof(void *), "one for one");
_Static_assert(sizeof functions / sizeof *functions <= TLS_FUNCTIONS, "all fit");

static void found(unsigned n, void *const *all)
{
    memcpy(&libraries[n], all, sizeof libraries[n]);
}

static void find_crypto(void)
{
    struct lookup_item items[] = {{"BIO_write", NULL, NULL},
                                  {"X509_verify_cert_error_string", NULL, NULL},
                                  {"ERR_peek_last_error", NULL, NULL},
                                  {"ERR_reason_error_string", NULL, NULL}};
    lookup_any(items, sizeof items / sizeof *items);
    bio_write = (int (*)(void *, const void *, int))items[0].found;
    verify_error_text = (const char *(*)(long))items[1].found;
    last_error = (unsigned long (*)(void))items[2].found;
    reason_text = (const char *(*)(unsigned long))items[3].found;
}

const struct tls_room openssl_room = {
    .file = "libssl",
    .sets = TLS_LIBRARIES,
    .unknown = "TLS: a libssl that is not OpenSSL 1.1 or 3: what goes through it is not seen",
    .too_many = "TLS: more than three different libssl in one process: what goes through the fourth is not seen",
    .functions = functions,
    .count = sizeof functions / sizeof *functions,
    .found = found,
    .look = find_crypto,
    .redirect = redirect,
};
