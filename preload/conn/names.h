/* names.h - finished name look-ups: what they tell about an address, and whose span they become.
 *
 * Everything here is lock-free, allocates nothing on the heap (two small tables are mapped at first use), preserves errno, and is
 * async-signal-safe. */
#ifndef OTSHIM_CONN_NAMES_H
#define OTSHIM_CONN_NAMES_H

#include "conn/call_site.h"
#include "context/context.h"
#include <otshim/record.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#define NAMES_ANSWERS 8u

struct names_lookup {
    uint64_t start_ns, end_ns;
    int32_t error; /* EAI_*, negative; 0: it found something */
    uint16_t name_len;
    uint8_t nanswers;
    bool alone;                                /* whose it was cannot be told: no connect may adopt it */
    char name[OTSHIM_NAME_MAX];                /* not terminated */
    struct otshim_addr answers[NAMES_ANSWERS]; /* port 0 */
};

/* Adds an address to l->answers, once, while there is room. */
void names_answer(struct names_lookup *l, int family, const void *bytes);

/* A look-up has ended. Remembers its answers. Its span is written now when the thread works for a request (ctx) or when it failed; otherwise the
 * look-up waits for names_adopt. site: the call site, may be NULL. */
void names_done(const struct names_lookup *l, const struct ctx *ctx, const struct call_site *site);

/* Takes the most recent waiting look-up that gave this address (asked not longer than NAMES_ADOPT_NS ago): the caller is a connect by a thread
 * that works for nobody, and writes the span by names_write once it knows under what. False: there is none. */
#define NAMES_ADOPT_NS 10000000000ull
bool names_adopt(const struct sockaddr *addr, struct names_lookup *out);

/* Writes the span of a look-up under parent (NULL: the root of its own trace). */
void names_write(const struct names_lookup *l, const struct ctx *parent, const struct call_site *site);

/* Writes what still waits, as roots: orderly exit, exec. */
void names_flush(void);

/* In the child of a fork: what waits is the parent's. Also wiped by the kernel (MADV_WIPEONFORK), for forks that bypass libc. */
void names_after_fork(void);

#endif
