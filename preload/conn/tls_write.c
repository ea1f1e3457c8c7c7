/* tls_write.c - see tls_write.h. */
#include "conn/tls_write.h"
#include "base/pool.h"
#include "base/raw.h"
#include "conn/inject.h"
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#define POOLED_BYTES 17408u /* 16 KiB, what one record holds at most, and our lines */

struct tls_pending {
    size_t mapped;        /* bytes of memory of its own; 0: from the pool */
    size_t len, sent;     /* of the copy */
    size_t program_len;   /* how many of them are the program's, and ... */
    uint64_t program_sum; /* ... which */
    char bytes[];
};

static struct pool pendings = POOL_INIT(sizeof(struct tls_pending) + POOLED_BYTES, 4, 16384);

static struct tls_pending *pending_new(size_t len)
{
    struct tls_pending *pending;
    if (len <= POOLED_BYTES) {
        pending = pool_get(&pendings);
        if (pending != NULL)
            pending->mapped = 0;
        return pending;
    }
    size_t bytes = (sizeof *pending + len + 4095) & ~(size_t)4095;
    long made = raw_syscall6(SYS_mmap, 0, (long)bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (raw_failed(made))
        return NULL;
    pending = (struct tls_pending *)made;
    pending->mapped = bytes;
    return pending;
}

void tls_pending_drop(struct tls_session *session)
{
    struct tls_pending *pending = session->pending;
    session->pending = NULL;
    session->committed = false;
    if (pending == NULL)
        return;
    memset(pending->bytes, 0, pending->len); /* the program may have wiped its own */
    if (pending->mapped != 0)
        raw_syscall2(SYS_munmap, (long)pending, (long)pending->mapped);
    else
        pool_put(&pendings, pending);
}

/* FNV-1a, 64 bits: whether the program came back with the same bytes. */
static uint64_t sum_of(const void *bytes, size_t len)
{
    uint64_t sum = 0xcbf29ce484222325ull;
    for (const unsigned char *at = bytes; len > 0; at++, len--)
        sum = (sum ^ *at) * 0x100000001b3ull;
    return sum;
}

struct call {
    struct output output; /* first: what inject.c hands back */
    struct tls_session *session;
    struct tls_writer *writer;
    ssize_t result; /* of the library, when it is not what inject.c is told */
    bool unfinished;
};

static ssize_t plain(const struct output *output)
{
    struct call *call = (struct call *)(uintptr_t)output;
    return call->writer->write(call->writer, output->buf, output->len);
}

/* Until all is out, or the library wants to be called again, or it failed. */
static ssize_t go_on(struct tls_session *session, struct tls_writer *writer)
{
    struct tls_pending *pending = session->pending;
    while (pending->sent < pending->len) {
        ssize_t sent = writer->write(writer, pending->bytes + pending->sent, pending->len - pending->sent);
        if (sent <= 0)
            return -1;
        pending->sent += (size_t)sent;
    }
    return (ssize_t)pending->program_len;
}

/* For inject.c the bytes are out as soon as the library has them: on what it has encrypted there is no going back. */
static ssize_t woven(const struct output *output, const struct iovec *pieces, size_t count, size_t total)
{
    struct call *call = (struct call *)(uintptr_t)output;
    struct tls_pending *pending = pending_new(total);
    if (pending == NULL)
        return 0;
    pending->len = 0;
    pending->sent = 0;
    for (size_t i = 0; i < count; i++) {
        memcpy(pending->bytes + pending->len, pieces[i].iov_base, pieces[i].iov_len);
        pending->len += pieces[i].iov_len;
    }
    pending->program_len = output->len;
    call->session->pending = pending;
    call->result = go_on(call->session, call->writer);
    if (call->result > 0 || errno != EAGAIN) {
        int error = errno;
        tls_pending_drop(call->session);
        errno = error;
        return call->result > 0 ? (ssize_t)total : -1;
    }
    pending->program_sum = call->writer->nameless ? 0 : sum_of(output->buf, output->len);
    call->unfinished = true;
    return (ssize_t)total;
}

/* The program is back with what it could not get rid of. */
static ssize_t resume(struct tls_session *session, struct tls_writer *writer, const void *bytes, size_t len)
{
    struct tls_pending *pending = session->pending;
    struct watch watch;
    if (!writer->nameless && (len < pending->program_len || sum_of(bytes, pending->program_len) != pending->program_sum)) {
        tls_pending_drop(session);
        if (tls_watch(session, &watch))
            conn_give_up(watch.conn);
        return writer->write(writer, bytes, len);
    }
    ssize_t taken = go_on(session, writer);
    if (taken > 0 || errno != EAGAIN) {
        int error = errno;
        tls_pending_drop(session);
        errno = error;
    }
    return taken;
}

/* ---- a plain write that is to be repeated ---------------------------------------------------------------------------------------------- */

static void keep(struct tls_session *session, const struct tls_writer *writer, const void *bytes, size_t len)
{
    session->committed = true;
    if (!writer->nameless || (session->pending = pending_new(len)) == NULL)
        return;
    session->pending->len = len;
    memcpy(session->pending->bytes, bytes, len);
}

static ssize_t repeat(struct tls_session *session, struct tls_writer *writer, const void *bytes, size_t len)
{
    struct watch watch;
    ssize_t taken = writer->write(writer, bytes, len);
    int error = errno;
    if (taken < 0 && error == EAGAIN)
        return taken;
    const struct tls_pending *kept = session->pending;
    struct iovec piece = {(void *)(uintptr_t)(kept != NULL ? kept->bytes : bytes), kept != NULL ? kept->len : len};
    if (!tls_watch(session, &watch)) {
        /* nobody to tell */
    } else if (taken > (ssize_t)piece.iov_len) {
        flow_sent_unseen(&watch, taken);
    } else {
        errno = error;
        flow_sent(&watch, &piece, 1, taken);
    }
    tls_pending_drop(session);
    errno = error;
    return taken;
}

ssize_t tls_write(struct tls_session *session, struct tls_writer *writer, const void *bytes, size_t len, bool may_inject)
{
    struct watch watch;
    if (session->committed)
        return repeat(session, writer, bytes, len);
    if (session->pending != NULL)
        return resume(session, writer, bytes, len);
    if (bytes == NULL || !tls_watch(session, &watch))
        return writer->write(writer, bytes, len);
    if (writer->most != 0 && len > writer->most)
        len = writer->most;
    struct call call = {
        .output = {.plain = plain,
                   .fd = watch.fd,
                   .buf = bytes,
                   .len = len,
                   .may_inject = may_inject && len <= TLS_WRITE_MAX,
                   .woven = woven},
        .session = session,
        .writer = writer,
    };
    ssize_t taken = inject_output(&watch, &call.output);
    if (call.unfinished)
        return -1;
    if (OTSHIM_UNLIKELY(taken < 0 && errno == EAGAIN && writer->committed)) {
        keep(session, writer, bytes, len);
        errno = EAGAIN;
    }
    return taken;
}
