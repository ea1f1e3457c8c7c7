/* tls.c - sealed connections and their plain sides. The idea is in tls.h. */
#include "conn/tls.h"
#include "base/base.h"
#include "base/raw.h"
#include "conn/handshake.h"
#include "conn/tls_write.h"
#include "span/span.h"
#include <string.h>
#include <sys/mman.h>

/* ---- sessions by the library's object ------------------------------------------------------------------------------------------------ */

#define SESSIONS 65536u
#define SESSION_REACH 16u /* places where one may be: two cache lines of keys */

struct sessions {
    struct tls_session at[SESSIONS];
};
static _Atomic(struct sessions *) sessions;
/* The keys alone, close together: a look-up touches these. */
static _Atomic uintptr_t keys[SESSIONS + SESSION_REACH];

static struct sessions *sessions_map(void)
{
    struct sessions *table = atomic_load_explicit(&sessions, memory_order_acquire);
    if (OTSHIM_LIKELY(table != NULL))
        return table;
    long made =
        raw_syscall6(SYS_mmap, 0, sizeof *table, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (raw_failed(made))
        return NULL;
    if (!atomic_compare_exchange_strong(&sessions, &table, (struct sessions *)made)) {
        raw_syscall2(SYS_munmap, made, sizeof *table);
        return table;
    }
    return (struct sessions *)made;
}

static struct tls_session *claim(struct sessions *table, uint32_t i, uintptr_t key)
{
    struct tls_session *session = &table->at[i % SESSIONS];
    *session = (struct tls_session){.key = key};
    return session;
}

struct tls_session *tls_session(const void *object, bool make)
{
    const uintptr_t key = (uintptr_t)object;
    const uint32_t first = (uint32_t)((key * 0x9e3779b97f4a7c15ull) >> 48) % SESSIONS;
    struct sessions *table = sessions_map();
    if (table == NULL || key == 0)
        return NULL;
    for (uint32_t i = first; i < first + SESSION_REACH; i++)
        if (atomic_load_explicit(&keys[i], memory_order_acquire) == key)
            return &table->at[i % SESSIONS];
    for (uint32_t i = first; make && i < first + SESSION_REACH; i++) {
        uintptr_t nobody = 0;
        if (i < SESSIONS && atomic_load_explicit(&keys[i], memory_order_relaxed) == 0 &&
            atomic_compare_exchange_strong(&keys[i], &nobody, key))
            return claim(table, i, key);
    }
    if (make)
        span_count(OTSHIM_COUNT_CONN_POOL_FULL);
    return NULL;
}

static bool plain_holds(const struct tls_session *session)
{
    return session->plain != NULL && atomic_load_explicit(&session->plain->generation, memory_order_acquire) == session->generation;
}

void tls_forget(struct tls_session *session)
{
    tls_pending_drop(session);
    if (plain_holds(session))
        conn_finish(session->plain);
    session->plain = NULL;
    struct sessions *table = atomic_load_explicit(&sessions, memory_order_relaxed);
    atomic_store_explicit(&keys[session - table->at], 0, memory_order_release);
}

/* ---- what this thread is in the middle of -------------------------------------------------------------------------------------------------- */

static OTSHIM_TLS struct tls_session *inside;

void tls_call_begin(struct tls_call *call, struct tls_session *session)
{
    call->session = session;
    call->outer = inside;
    inside = session;
}

void tls_call_end(const struct tls_call *call)
{
    inside = (struct tls_session *)(uintptr_t)call->outer;
}

/* ---- sealing ----------------------------------------------------------------------------------------------------------------------------------- */

/* A record of type handshake (RFC 8446 5.1): 22, then a version of 3.x. */
bool tls_is_hello(const char *bytes, size_t len, bool *maybe)
{
    const unsigned char *b = (const unsigned char *)bytes;
    *maybe = len < 3 && len > 0 && b[0] == 22 && (len < 2 || b[1] == 3);
    return len >= 3 && b[0] == 22 && b[1] == 3 && b[2] <= 4;
}

static void tie(struct tls_session *session, struct conn *plain)
{
    if (plain_holds(session) || plain->claimed)
        return;
    plain->claimed = true;
    session->plain = plain;
    session->generation = atomic_load_explicit(&plain->generation, memory_order_relaxed);
}

static struct conn *plain_new(uint8_t role, uint8_t transport)
{
    struct conn *plain = conn_new(role, transport);
    if (plain != NULL)
        plain->is_plain = true;
    return plain;
}

/* The plain side takes over what is to be said about connect(): its first exchange is the one that it was made for. */
void tls_sealed(struct conn *conn, int fd)
{
    struct conn *plain = plain_new(conn->role, conn->transport);
    atomic_store_explicit(&conn->phase, CONN_PASS, memory_order_relaxed);
    if (plain == NULL) {
        connect_settle_locked(conn, NULL, OTSHIM_END_COMPLETE);
        return;
    }
    plain->fd = fd;
    plain->peer = conn->peer;
    plain->local = conn->local;
    plain->peer_name = conn->peer_name;
    plain->path = conn->path;
    plain->origin = conn->origin;
    plain->connect_async = conn->connect_async;
    plain->connect_calls = conn->connect_calls;
    conn->connect_calls = false;
    if (conn->connect == CONN_CONNECT_HELD) {
        plain->connect_start_ns = conn->connect_start_ns;
        plain->connect_end_ns = conn->connect_end_ns;
        plain->adopted_lookup = conn->adopted_lookup;
        plain->connect = CONN_CONNECT_HELD;
        conn->connect = CONN_CONNECTED;
    }
    plain->runtime = conn->runtime;
    plain->site = conn->site;
    conn->site = NULL;
    conn->plain = plain;
    conn->plain_generation = atomic_load_explicit(&plain->generation, memory_order_relaxed);
    if (inside != NULL)
        tie(inside, plain);
}

void tls_conn_finished(struct conn *conn)
{
    struct conn *plain = conn->plain;
    if (plain == NULL)
        return;
    conn->plain = NULL;
    if (atomic_load_explicit(&plain->generation, memory_order_acquire) == conn->plain_generation)
        conn_finish(plain);
}

/* ---- memory BIOs ------------------------------------------------------------------------------------------------------------------------------------ */

#define HEAD 48u /* a record's header, and of a hello all of its random */
#define RECENT 8u

struct head {
    struct conn *plain;
    uint32_t generation;
    uint32_t len;
    unsigned char bytes[HEAD];
};
/* What this thread received last on sealed connections that nobody has claimed yet. */
static OTSHIM_TLS struct {
    struct head head[RECENT];
    uint32_t next;
    const void *bio; /* that was given one of them */
    struct conn *plain;
    uint32_t generation;
} recent;

void tls_received(struct conn *conn, const struct iovec *iov, size_t iovcnt, size_t len)
{
    struct conn *plain = conn->plain;
    if (plain == NULL || iovcnt == 0)
        return;
    struct head *head = &recent.head[recent.next++ % RECENT];
    size_t there = iov[0].iov_len < len ? iov[0].iov_len : len;
    head->plain = plain;
    head->generation = conn->plain_generation;
    head->len = (uint32_t)(there < HEAD ? there : HEAD);
    memcpy(head->bytes, iov[0].iov_base, head->len);
}

void tls_bio_written(const void *bio, const void *bytes, size_t len)
{
    for (unsigned i = 0; i < RECENT; i++) {
        struct head *head = &recent.head[i];
        if (head->plain == NULL || head->len != (len < HEAD ? len : HEAD) || head->len < HEAD / 2 ||
            memcmp(head->bytes, bytes, head->len) != 0)
            continue;
        recent.bio = bio;
        recent.plain = head->plain;
        recent.generation = head->generation;
        head->plain = NULL;
        return;
    }
}

bool tls_bio_waits(void)
{
    return recent.bio != NULL;
}

void tls_bio_tie(struct tls_session *session, const void *rbio)
{
    struct conn *plain = recent.plain;
    if (rbio == NULL || rbio != recent.bio)
        return;
    recent.bio = NULL;
    if (atomic_load_explicit(&plain->generation, memory_order_acquire) == recent.generation)
        tie(session, plain);
}

bool tls_watch(struct tls_session *session, struct watch *watch)
{
    if (!plain_holds(session)) {
        struct conn *plain = plain_new(session->server ? CONN_INBOUND : CONN_OUTBOUND, OTSHIM_TRANSPORT_TCP);
        if (plain == NULL)
            return false;
        plain->fd = -1;
        tie(session, plain);
    }
    *watch = (struct watch){.conn = session->plain, .generation = session->generation, .fd = session->plain->fd};
    return true;
}

/* ---- the handshake ------------------------------------------------------------------------------------------------------------------------------------ */

/* A client's is part of the request that it is made for. A server's comes before there is a request, and waits for the first; one that failed waits for none. */
void tls_handshake_done(struct tls_session *session, bool ok, const struct tls_facts *facts)
{
    struct watch watch;
    struct ctx owner;
    session->finished = true;
    if (session->begun_ns == 0 || !tls_watch(session, &watch))
        return;
    struct handshake *handshake = handshake_new(session->begun_ns, ok, facts);
    if (handshake == NULL)
        return;
    struct conn *plain = watch.conn;
    if (session->server && ok) {
        if (watch_lock(&watch)) {
            plain->handshake = handshake;
            conn_unlock(plain);
        } else {
            handshake_free(handshake);
        }
        return;
    }
    if (!session->server && ctx_current(&owner))
        handshake_write(handshake, plain, &owner, owner.rule);
    else if (!session->server && plain->origin.has_parent)
        handshake_write(handshake, plain, &plain->origin, plain->origin.rule);
    else if (!session->server && plain->connect_start_ns != 0)
        handshake_write(handshake, plain, &plain->origin, OTSHIM_PARENT_CONNECT); /* the ids that connect() promised */
    else
        handshake_write(handshake, plain, NULL, OTSHIM_PARENT_NONE);
}
