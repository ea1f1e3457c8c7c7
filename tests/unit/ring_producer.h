/* ring_producer.h - a second, independent producer for tests of the exporter: include/otshim/ring.h and hello.h written down from their
 * text, so that a misreading in the library's half does not cancel out against the same one in the exporter's. Not for use in a host: it
 * allocates, asserts and leaks as a test may. */
#ifndef TESTS_RING_PRODUCER_H
#define TESTS_RING_PRODUCER_H

#include <assert.h>
#include <fcntl.h>
#include <otshim/hello.h>
#include <otshim/record.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

struct producer {
    int memfd;
    struct otshim_shm *shm;
    struct otshim_inflight *inflight;
    uint8_t *data;
    uint64_t bytes;
};

static inline uint64_t producer_ns(clockid_t id)
{
    struct timespec ts;
    clock_gettime(id, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static inline size_t producer_total(uint64_t data_bytes)
{
    return 4096 + ((OTSHIM_INFLIGHT_SLOTS * sizeof(struct otshim_inflight) + 4095) & ~4095ul) + data_bytes;
}

static inline void producer_format(struct producer *p, void *memory, uint64_t data_bytes)
{
    p->shm = memory;
    p->shm->magic = OTSHIM_SHM_MAGIC;
    p->shm->abi_version = OTSHIM_ABI_VERSION;
    p->shm->inflight_slots = OTSHIM_INFLIGHT_SLOTS;
    p->shm->inflight_off = 4096;
    p->shm->data_off = producer_total(data_bytes) - data_bytes;
    p->shm->data_bytes = data_bytes;
    p->shm->total_bytes = producer_total(data_bytes);
    p->inflight = (struct otshim_inflight *)((uint8_t *)memory + 4096);
    p->data = (uint8_t *)memory + p->shm->data_off;
    p->bytes = data_bytes;
}

static inline void producer_make(struct producer *p, uint64_t data_bytes)
{
    size_t total = producer_total(data_bytes);
    void *memory;

    p->memfd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    assert(p->memfd >= 0 && ftruncate(p->memfd, (off_t)total) == 0);
    assert(fcntl(p->memfd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) == 0);
    memory = mmap(NULL, total, PROT_READ | PROT_WRITE, MAP_SHARED, p->memfd, 0);
    assert(memory != MAP_FAILED);
    producer_format(p, memory, data_bytes);
}

static inline _Atomic uint64_t *producer_word(struct producer *p, uint64_t pos)
{
    return (_Atomic uint64_t *)(void *)(p->data + (pos & (p->bytes - 1)));
}

/* Position of the reservation, UINT64_MAX: full. `mark` false: dies before it marks its record reserved. */
static inline uint64_t producer_reserve(struct producer *p, uint64_t len, bool mark)
{
    uint64_t head = atomic_load_explicit(&p->shm->head, memory_order_relaxed), gap;

    len = (len + 7) & ~7ull;
    do {
        uint64_t tail = atomic_load_explicit(&p->shm->tail, memory_order_acquire), place = head & (p->bytes - 1);
        gap = place + len > p->bytes ? p->bytes - place : 0;
        if ((int64_t)(head - tail) >= 0 && head + gap + len - tail > p->bytes) {
            atomic_fetch_add_explicit(&p->shm->counters[OTSHIM_COUNT_DROPPED_FULL], 1, memory_order_relaxed);
            return UINT64_MAX;
        }
    } while (
        !atomic_compare_exchange_weak_explicit(&p->shm->head, &head, head + gap + len, memory_order_relaxed, memory_order_relaxed));
    if (gap != 0)
        atomic_store_explicit(producer_word(p, head), otshim_word(head, gap, OTSHIM_WORD_PADDING), memory_order_release);
    head += gap;
    if (mark) {
        ((struct otshim_rec *)(void *)producer_word(p, head))->tid = (uint32_t)syscall(SYS_gettid);
        atomic_store_explicit(producer_word(p, head), otshim_word(head, len, OTSHIM_WORD_RESERVED), memory_order_release);
    }
    return head;
}

static inline bool producer_write(struct producer *p, uint16_t type, const void *payload, size_t payload_len)
{
    uint64_t len = (sizeof(struct otshim_rec) + payload_len + 7) & ~7ull, pos = producer_reserve(p, len, true);
    struct otshim_rec *rec;

    if (pos == UINT64_MAX)
        return false;
    rec = (struct otshim_rec *)(void *)producer_word(p, pos);
    rec->type = type;
    rec->reserved = 0;
    memcpy(rec + 1, payload, payload_len);
    atomic_store_explicit(&rec->word, otshim_word(pos, len, OTSHIM_WORD_COMMITTED), memory_order_release);
    atomic_fetch_add_explicit(&p->shm->counters[OTSHIM_COUNT_SPANS], 1, memory_order_relaxed);
    return true;
}

/* A span whose ids hold `number`, with one attribute of `text_len` bytes. */
static inline size_t producer_span(uint8_t out[OTSHIM_RECORD_MAX_BYTES], uint64_t number, uint16_t text_len)
{
    struct otshim_span_rec rec = {
        .kind = OTSHIM_SPAN_SERVER, .protocol = OTSHIM_PROTOCOL_HTTP1, .version = 11, .transport = 1, .status = 200};
    struct otshim_attr attr = {.key = OTSHIM_ATTR_TARGET, .len = text_len};

    rec.trace_id[0] = rec.span_id[7] = 1;
    memcpy(rec.span_id, &(uint32_t){(uint32_t)number}, 4);
    memcpy(rec.trace_id + 8, &number, 8);
    rec.start_ns = producer_ns(CLOCK_MONOTONIC);
    rec.end_ns = rec.start_ns + 1000;
    rec.attr_bytes = otshim_attr_size(text_len);
    memcpy(out, &rec, sizeof rec);
    memcpy(out + sizeof rec, &attr, sizeof attr);
    memset(out + sizeof rec + sizeof attr, 0, otshim_attr_size(text_len) - sizeof attr);
    memset(out + sizeof rec + sizeof attr, 'a' + (int)(number % 26), text_len);
    return sizeof rec + rec.attr_bytes;
}

static inline bool producer_write_span(struct producer *p, uint64_t number, uint16_t text_len)
{
    uint8_t payload[OTSHIM_RECORD_MAX_BYTES];

    return producer_write(p, OTSHIM_RECORD_SPAN, payload, producer_span(payload, number, text_len));
}

static inline uint64_t producer_span_number(const struct otshim_span_rec *rec)
{
    uint64_t number;
    memcpy(&number, rec->trace_id + 8, 8);
    return number;
}

/* What a process does that takes its exporter for dead (record by record, as preload/span does it): everything that was not released goes
 * to a new ring, marked, and becomes padding in the old one. */
static inline void producer_move(struct producer *from, struct producer *to)
{
    for (uint64_t pos = from->shm->tail, len; pos < from->shm->head; pos += len) {
        struct otshim_rec *rec = (struct otshim_rec *)(void *)producer_word(from, pos), *copy;
        uint64_t word = rec->word, place;

        assert(otshim_word_is_at(word, pos));
        len = otshim_word_len(word);
        if (otshim_word_state(word) == OTSHIM_WORD_PADDING)
            continue;
        place = producer_reserve(to, len, true);
        assert(place != UINT64_MAX);
        copy = (struct otshim_rec *)(void *)producer_word(to, place);
        memcpy((char *)copy + 8, (char *)rec + 8, len - 8);
        copy->reserved = OTSHIM_REC_MOVED;
        atomic_store(&copy->word, otshim_word(place, len, OTSHIM_WORD_COMMITTED));
        atomic_store(&rec->word, (word & ~3ull) | OTSHIM_WORD_PADDING);
    }
    atomic_store(&from->shm->closed, 1);
}

/* ---- the hello ---------------------------------------------------------------------------------------------------------------- */

static inline size_t producer_item(uint8_t *out, size_t at, uint16_t key, const void *text, size_t len)
{
    struct otshim_hello_item item = {.key = key, .len = (uint16_t)len};

    memcpy(out + at, &item, sizeof item);
    memcpy(out + at + sizeof item, text, len);
    at += sizeof item;
    while ((len & 3) != 0)
        out[at + len++] = 0;
    return at + len;
}

static inline size_t producer_hello(uint8_t out[OTSHIM_HELLO_MAX_BYTES])
{
    struct otshim_hello hello = {
        .magic = OTSHIM_HELLO_MAGIC, .abi_version = OTSHIM_ABI_VERSION, .pid = (uint32_t)getpid(), .attach_count = 1};
    size_t len = sizeof hello;

    hello.anchor_mono_ns = hello.start_ns = producer_ns(CLOCK_MONOTONIC);
    hello.anchor_unix_ns = producer_ns(CLOCK_REALTIME);
    len = producer_item(out, len, OTSHIM_HELLO_EXE, "/usr/bin/test", 13);
    len = producer_item(out, len, OTSHIM_HELLO_CMDLINE, "test\0--flag", 12);
    len = producer_item(out, len, OTSHIM_HELLO_SERVICE_NAME, "shop", 4);
    hello.total_bytes = (uint32_t)len;
    memcpy(out, &hello, sizeof hello);
    return len;
}

static inline int producer_connect(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0)
        return fd;
    close(fd);
    return -1;
}

static inline ssize_t producer_send(int fd, const void *bytes, size_t len, const int *fds, size_t nfds)
{
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(64 * sizeof(int))] = {0};
    struct iovec iov = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = len};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

    if (nfds > 0) {
        msg.msg_control = control;
        msg.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(nfds * sizeof(int));
        memcpy(CMSG_DATA(c), fds, nfds * sizeof(int));
    }
    return sendmsg(fd, &msg, MSG_NOSIGNAL);
}

static inline bool producer_hand_over(struct producer *p, const char *path)
{
    uint8_t bytes[OTSHIM_HELLO_MAX_BYTES];
    size_t len = producer_hello(bytes);
    int fd = producer_connect(path);
    bool sent = fd >= 0 && producer_send(fd, bytes, len, &p->memfd, 1) == (ssize_t)len;

    if (fd >= 0)
        close(fd);
    return sent;
}

/* Fills an in-flight slot as ring.h says. */
static inline void producer_inflight(struct producer *p, unsigned i, uint64_t number)
{
    struct otshim_inflight *slot = &p->inflight[i];

    atomic_store_explicit(&slot->state, 2 * number + 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
    slot->start_ns = producer_ns(CLOCK_MONOTONIC);
    memset(slot->trace_id, 0, 16);
    slot->trace_id[0] = slot->span_id[7] = 1;
    memcpy(slot->span_id, &(uint32_t){(uint32_t)number}, 4);
    memcpy(slot->trace_id + 8, &number, 8);
    slot->kind = OTSHIM_SPAN_SERVER;
    slot->protocol = OTSHIM_PROTOCOL_HTTP1;
    slot->method_len = 3;
    memcpy(slot->method, "GET", 3);
    atomic_store_explicit(&slot->state, 2 * number + 2, memory_order_release);
}

#endif
