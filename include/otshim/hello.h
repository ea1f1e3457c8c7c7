/* hello.h - how a process introduces itself: one SOCK_SEQPACKET message on the exporter's Unix socket, with the memfd of ring.h as
 * SCM_RIGHTS. The process then closes both descriptors; there is no answer. That it was accepted shows in the ring's heartbeat.
 *
 * Everything in here is a claim of the peer. What the kernel says (SO_PEERCRED: pid, uid) wins where the two differ: the pid in
 * the message is the one in the peer's own pid namespace, and serves only as service.instance's fallback and for display. */
#ifndef OTSHIM_HELLO_H
#define OTSHIM_HELLO_H

#include <otshim/limits.h>
#include <stdint.h>

#define OTSHIM_HELLO_MAGIC 0x316f6c6c65485354ull

struct otshim_hello {
    uint64_t magic;
    uint32_t abi_version;
    uint32_t total_bytes; /* of the message */
    uint32_t pid;
    uint32_t attach_count;   /* 1 the first time, more after a change of exporter */
    uint64_t start_ns;       /* when the library was initialised, CLOCK_MONOTONIC */
    uint64_t anchor_mono_ns; /* CLOCK_MONOTONIC and ... */
    uint64_t anchor_unix_ns; /* ... CLOCK_REALTIME, read together just before the message was sent */
    /* struct otshim_hello_item[] up to total_bytes */
};
_Static_assert(sizeof(struct otshim_hello) == 48, "part of the layout");

/* `len` bytes follow, then padding to a multiple of 4. Text is not terminated. Unknown keys are skipped. */
struct otshim_hello_item {
    uint16_t key; /* enum otshim_hello_key */
    uint16_t len;
};

enum otshim_hello_key {
    OTSHIM_HELLO_EXE = 1,             /* /proc/self/exe, as read by the process */
    OTSHIM_HELLO_CMDLINE = 2,         /* argv, each followed by a NUL, cut at OTSHIM_CMDLINE_MAX */
    OTSHIM_HELLO_SERVICE_NAME = 3,    /* OTEL_SERVICE_NAME */
    OTSHIM_HELLO_RESOURCE_ATTRS = 4,  /* OTEL_RESOURCE_ATTRIBUTES */
    OTSHIM_HELLO_LIBRARY_VERSION = 5, /* of libotshim.so */
    OTSHIM_HELLO_RUNTIME_NOTE = 6,    /* what the library could not do here, in words; any number of these */
};

#endif
