/* ring.h - the shared memory between one traced process (many producers) and the exporter (one consumer).
 *
 * The memory is a memfd, sealed against shrinking and growing:
 *
 *     [ struct otshim_shm | in-flight table | data area, a power of two bytes ]
 *
 * Algorithm. `head` and `tail` are byte positions that only grow; a position's place in the data area is pos & (bytes - 1).
 * A producer reserves by one compare-and-swap on head (pos -> pos + len), after checking head + len - tail <= bytes
 * (tail loaded acquire: pairs with the consumer's release, so that what the consumer still reads is never overwritten).
 * It then marks the record reserved (word state RESERVED, with its thread id as owner), fills the payload, and commits with one
 * release store of the word. The consumer loads the word acquire and believes the record only when the word says COMMITTED *and*
 * names this very position: words of an earlier lap, or bytes of a payload, do not (so nothing has to be zeroed).
 * A record never wraps: a producer whose record would cross the end reserves the gap as well and marks it PADDING.
 * A full ring drops the new record and counts it.
 *
 * When a producer dies between reserve and commit, the consumer meets a word that is not COMMITTED and below head. It skips
 * forward, 8 bytes at a time, to the next word that names its own position - at once if the process or the owning thread is gone,
 * otherwise after a few seconds (a handler that longjmp'ed away) - and counts one abandoned reservation.
 *
 * The consumer reads ahead of tail and moves tail only when the records before it are safe (delivered, or given up and counted).
 * A successor of a killed exporter therefore finds everything that was not yet safe.
 *
 * The exporter trusts nothing in here: it copies a record to private memory and checks the copy. */
#ifndef OTSHIM_RING_H
#define OTSHIM_RING_H

#include <otshim/limits.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdint.h>

#define OTSHIM_SHM_MAGIC 0x314d48534d485354ull

/* What was lost or left out, by cause. Incremented by the process (relaxed), read by the exporter. Append only. */
enum otshim_counter {
    OTSHIM_COUNT_SPANS,           /* span records committed */
    OTSHIM_COUNT_DROPPED_FULL,    /* records dropped: ring full */
    OTSHIM_COUNT_INFLIGHT_FULL,   /* spans not shown in flight: table full */
    OTSHIM_COUNT_CONN_POOL_FULL,  /* connections not watched: no memory for their state */
    OTSHIM_COUNT_EXCHANGE_FULL,   /* exchanges not watched: no memory, or too many pipelined */
    OTSHIM_COUNT_CONN_BUSY,       /* connections given up: met busy by a signal handler or a second thread */
    OTSHIM_COUNT_CONN_LOST,       /* connections given up: bytes that are not the protocol they began with */
    OTSHIM_COUNT_CONN_UPGRADED,   /* connections that went on as something else (WebSocket, CONNECT, Redis' SUBSCRIBE) */
    OTSHIM_COUNT_CONN_UNKNOWN,    /* connections of no known protocol */
    OTSHIM_COUNT_NOT_INJECTED,    /* outbound requests that could carry no traceparent (see preload/conn/inject.h) */
    OTSHIM_COUNT_TRACESTATE_LOST, /* tracestate not passed on: forgotten since (see preload/context/tracestate.h) */
    OTSHIM_COUNT_FD_ABOVE_TABLE,  /* connections on descriptors above the fd table */
    OTSHIM_COUNT_ATTACHES,        /* times the ring was handed to an exporter */
    OTSHIM_COUNTERS
};

/* What an adapter to a runtime (CPython, Node.js, ...) found out: does the runtime's own context say for whom each call is made? Written
 * once, and never again: who makes the state WRITTEN has the entry, THERE is stored when it is complete. Of two entries of one name the
 * later one holds. Texts end with a NUL; the reader sees to it that they do. */
enum otshim_runtime_state { OTSHIM_RUNTIME_FREE = 0, OTSHIM_RUNTIME_WRITTEN = 1, OTSHIM_RUNTIME_THERE = 2 };

struct otshim_runtime {
    _Atomic uint32_t state;
    uint32_t reserved;
    char name[24];
    char version[40];
    char why_not[184]; /* "": exact */
};
_Static_assert(sizeof(struct otshim_runtime) == 256, "part of the layout");
#define OTSHIM_RUNTIMES 8

struct otshim_shm {
    /* Written once, before the memory is handed over. */
    uint64_t magic;
    uint32_t abi_version;
    uint32_t inflight_slots;
    uint64_t inflight_off; /* offset of struct otshim_inflight[inflight_slots] */
    uint64_t data_off;     /* offset of the data area */
    uint64_t data_bytes;   /* power of two */
    uint64_t total_bytes;  /* of the memfd */

    alignas(64) _Atomic uint64_t head; /* producers, CAS */
    alignas(64) _Atomic uint64_t tail; /* consumer, release */

    /* The exporter adds one every OTSHIM_HEARTBEAT_NS. A counter and no time: the process may live in another time namespace. */
    alignas(64) _Atomic uint64_t heartbeat;

    /* Set by the process when it will write here no more (it moved to a new memory, or is about to exec): drain and forget. */
    _Atomic uint32_t closed;

    alignas(64) _Atomic uint64_t counters[32];

    alignas(64) struct otshim_runtime runtimes[OTSHIM_RUNTIMES];
};
_Static_assert(OTSHIM_COUNTERS <= 32, "the counter array is part of the layout");
_Static_assert(sizeof(struct otshim_shm) <= 4096, "the header is one page");

/* ---- the word that opens each record --------------------------------------------------------------------------------------
 * bits 63..20 position / 8 (44 bits), bits 19..2 length / 8 (18 bits), bits 1..0 state. */
enum otshim_word_state { OTSHIM_WORD_NONE = 0, OTSHIM_WORD_RESERVED = 1, OTSHIM_WORD_COMMITTED = 2, OTSHIM_WORD_PADDING = 3 };

struct otshim_rec {
    _Atomic uint64_t word;
    uint32_t tid;      /* owner: thread id in the process's own pid namespace */
    uint16_t type;     /* enum otshim_record_type, record.h */
    uint16_t reserved; /* OTSHIM_REC_MOVED or 0 */
    /* payload follows */
};
/* The process moved this record here from an earlier memory, whose exporter had not released it. That exporter may have read it all the
 * same: if it is still the same one, the span id tells. (In the earlier memory the record has become PADDING.) */
#define OTSHIM_REC_MOVED 1u
_Static_assert(sizeof(struct otshim_rec) == 16, "records are 8-byte aligned, headers 16 bytes");

static inline uint64_t otshim_word(uint64_t pos, uint64_t len, enum otshim_word_state state)
{
    return (pos >> 3) << 20 | (len >> 3) << 2 | (uint64_t)state;
}
static inline enum otshim_word_state otshim_word_state(uint64_t word)
{
    return (enum otshim_word_state)(word & 3u);
}
static inline uint64_t otshim_word_len(uint64_t word)
{
    return (word >> 2 & 0x3ffffu) << 3;
}
/* Does this word belong to the record at position pos (of this lap)? */
static inline int otshim_word_is_at(uint64_t word, uint64_t pos)
{
    return word >> 20 == (pos >> 3 & 0xfffffffffffull);
}

/* ---- requests in flight ---------------------------------------------------------------------------------------------------
 * One slot per server or client exchange that has begun. `state` is 0 when free, odd while it is being written, even otherwise, and
 * never the same twice; a reader copies the slot and believes the copy if state was even, not 0, and the same before and after. */
struct otshim_addr {
    uint8_t family; /* 0 none, 4 IPv4, 6 IPv6, 1 Unix */
    uint8_t reserved;
    uint16_t port; /* host byte order */
    uint8_t bytes[16];
};

struct otshim_inflight {
    _Atomic uint64_t state;
    uint64_t start_ns;
    uint8_t trace_id[16];
    uint8_t span_id[8];
    uint8_t parent_id[8];
    uint32_t tid;
    uint8_t kind, protocol, trace_flags, parent_rule; /* as in struct otshim_span_rec */
    struct otshim_addr peer;
    struct otshim_addr local;
    uint8_t method_len, target_len; /* 0: not yet known */
    char method[16];
    char target[114]; /* cut to fit; no terminator */
    char host[32];
    uint8_t host_len;
    uint8_t reserved[3];
};
_Static_assert(sizeof(struct otshim_inflight) == 264, "part of the layout");

#endif
