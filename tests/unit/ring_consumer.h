/* ring_consumer.h - the smallest consumer of include/otshim/ring.h, for tests of the producer: reads what is committed, in order, and
 * releases it; and the smallest exporter: a socket that takes hellos. */
#ifndef RING_CONSUMER_H
#define RING_CONSUMER_H

#include <assert.h>
#include <otshim/hello.h>
#include <otshim/record.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

struct consumer {
    struct otshim_shm *shm;
    uint64_t pos;
    uint64_t padding, skipped; /* padding records met; bytes skipped where an owner is gone */
};

typedef void (*consumer_sink)(void *arg, const struct otshim_rec *head, const uint8_t *payload, size_t len);

static inline void consumer_open(struct consumer *c, void *memory)
{
    *c = (struct consumer){.shm = memory};
    assert(c->shm->magic == OTSHIM_SHM_MAGIC && c->shm->abi_version == OTSHIM_ABI_VERSION);
    assert((c->shm->data_bytes & (c->shm->data_bytes - 1)) == 0 && c->shm->data_off + c->shm->data_bytes == c->shm->total_bytes);
    c->pos = atomic_load(&c->shm->tail);
}

/* Reads up to max records; dead: owners of reservations are gone, skip them. Returns how many. */
static inline size_t consumer_read(struct consumer *c, size_t max, bool dead, consumer_sink sink, void *arg)
{
    uint8_t copy[OTSHIM_RECORD_MAX_BYTES];
    const uint64_t bytes = c->shm->data_bytes;
    uint8_t *data = (uint8_t *)c->shm + c->shm->data_off;
    size_t n = 0;
    while (n < max && c->pos != atomic_load_explicit(&c->shm->head, memory_order_acquire)) {
        struct otshim_rec *rec = (struct otshim_rec *)(void *)(data + (c->pos & (bytes - 1)));
        const uint64_t word = atomic_load_explicit(&rec->word, memory_order_acquire);
        const uint64_t len = otshim_word_len(word);
        const bool mine = otshim_word_is_at(word, c->pos);
        if (!mine || otshim_word_state(word) == OTSHIM_WORD_RESERVED || otshim_word_state(word) == OTSHIM_WORD_NONE) {
            if (!dead)
                break;
            c->pos += mine && len >= 8 ? len : 8;
            c->skipped += mine && len >= 8 ? len : 8;
            continue;
        }
        if (otshim_word_state(word) == OTSHIM_WORD_COMMITTED) {
            assert(len >= sizeof(*rec) && len <= sizeof(copy));
            memcpy(copy, rec + 1, len - sizeof(*rec));
            sink(arg, rec, copy, len - sizeof(*rec));
            n++;
        } else {
            c->padding++;
        }
        c->pos += len;
        atomic_store_explicit(&c->shm->tail, c->pos, memory_order_release);
    }
    atomic_store_explicit(&c->shm->tail, c->pos, memory_order_release);
    return n;
}

/* ---- a socket that takes hellos ---------------------------------------------------------------------------------------------- */

struct taker {
    int fd;
    char dir[64], path[96];
    uint8_t hello[OTSHIM_HELLO_MAX_BYTES];
    ssize_t hello_len;
};

static inline void taker_bind(struct taker *t)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    t->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert(t->fd >= 0);
    snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", t->path);
    unlink(t->path);
    int bound = bind(t->fd, (struct sockaddr *)&addr, sizeof(addr));
    int listening = listen(t->fd, 64);
    assert(bound == 0 && listening == 0);
    (void)bound, (void)listening;
}

static inline void taker_make_place(struct taker *t)
{
    memset(t, 0, sizeof(*t));
    t->fd = -1;
    snprintf(t->dir, sizeof(t->dir), "/tmp/otshim-test-XXXXXX");
    if (mkdtemp(t->dir) == NULL)
        abort();
    snprintf(t->path, sizeof(t->path), "%s/otshim.sock", t->dir);
}

static inline void taker_close(struct taker *t)
{
    if (t->fd >= 0)
        close(t->fd);
    t->fd = -1;
    unlink(t->path);
}

/* The memory that came with a hello within ms milliseconds; NULL: nobody came. */
static inline struct otshim_shm *taker_accept(struct taker *t, int ms)
{
    struct pollfd p = {.fd = t->fd, .events = POLLIN};
    if (poll(&p, 1, ms) != 1)
        return NULL;
    int fd = accept(t->fd, NULL, NULL);
    if (fd < 0)
        return NULL;
    union {
        struct cmsghdr head;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec iov = {.iov_base = t->hello, .iov_len = sizeof(t->hello)};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
    p.fd = fd;
    poll(&p, 1, 2000);
    t->hello_len = recvmsg(fd, &msg, MSG_CMSG_CLOEXEC);
    close(fd);
    if (t->hello_len <= 0 || CMSG_FIRSTHDR(&msg) == NULL)
        return NULL;
    int memfd;
    struct stat st;
    memcpy(&memfd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(memfd));
    if (fstat(memfd, &st) != 0)
        abort();
    void *memory = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
    close(memfd);
    return memory == MAP_FAILED ? NULL : memory;
}

/* The text of an item of the last hello, NULL if it is not there. */
static inline const char *taker_item(const struct taker *t, uint16_t key, size_t *len)
{
    size_t at = sizeof(struct otshim_hello);
    while (at + sizeof(struct otshim_hello_item) <= (size_t)t->hello_len) {
        struct otshim_hello_item item;
        memcpy(&item, t->hello + at, sizeof(item));
        at += sizeof(item);
        if (item.key == key) {
            *len = item.len;
            return (const char *)t->hello + at;
        }
        at += (item.len + 3u) & ~3u;
    }
    return NULL;
}

#endif
