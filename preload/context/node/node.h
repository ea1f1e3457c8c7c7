/* node.h - Node.js's own answer to "for whom does this run?": an AsyncLocalStorage of ours.
 *
 * Node hands an AsyncLocalStorage from whoever asks for something to whatever is called back for it: through promises, timers, streams,
 * requests that wait in an agent's queue. So a value that is entered where a request is given to the program is found wherever work for that
 * request is done, at any concurrency and after its response. The value is a copy of the request's whole context (struct ctx): nothing has to
 * be looked up, and nothing freed, for it.
 *
 * Who sees it. C cannot look into V8's heap, and may not call into it from a system call's wrapper: that may be in a signal handler, in
 * the garbage collector, in another thread. So it is pushed: JavaScript (adapter.js) stands around the few native functions by which the
 * program connects, writes and starts processes, and writes the value into memory of ours (struct node_slot) for the duration of the call. What a
 * wrapper does is one look at that memory. Whenever the slot is empty the thread works for nobody: libuv's own writes, and all that has
 * no value. What the thread has read last (rule 2) counts for nothing on such a thread.
 *
 * How it gets in (interpose/node.c). When a thread calls listen(), it is inside of JavaScript; if it is a thread of Node's, the adapter is run
 * there and then, as an addon would be, before the first connection can be. No file, no option, no variable of the environment, and no cost for
 * the many programs of Node's that are no servers. A worker of a cluster gets its connections from its parent, and the adapter with the first. */
#ifndef OTSHIM_NODE_H
#define OTSHIM_NODE_H

#include "context/context.h"
#include "context/runtime.h"

/* Where in the program a call is made, as sites.js has it in words. Those are made only for calls to destinations that are hot: the next
 * NODE_HOT_CALLS after one that was slow or failed. So the first one has none. */
#define NODE_SITE_TEXT 968u
#define NODE_DESTINATIONS 256u
#define NODE_HOT_CALLS 100u
struct node_site {
    _Atomic uint32_t destination; /* its number, from 1 on; more than one may have it. 0: there is no call */
    uint32_t line;
    uint32_t stack_len, function_len, file_len; /* of the text's bytes: one after the other, all 0 if the call was not noted */
    uint32_t reserved;
    char text[NODE_SITE_TEXT];
};

/* What JavaScript and C share: an array of 32-bit words there. */
struct node_slot {
    _Atomic uint32_t valid; /* 1: .now is for whom the thread works in this very moment */
    uint32_t reserved;
    struct ctx now;
    struct ctx asked; /* the answer to the last question for a request's context */
    struct node_site site;
    /* [0] not 0: one of the others may not be 0; those say how many of the next calls to a destination are to be noted. Written by both. */
    _Atomic uint32_t heat[1 + NODE_DESTINATIONS];
};
#define NODE_SLOT_WORDS (sizeof(struct node_slot) / 4)
#define NODE_SITE_AT (offsetof(struct node_slot, site) / 4)
#define NODE_HEAT_AT (offsetof(struct node_slot, heat) / 4)
#define NODE_CTX_WORDS (sizeof(struct ctx) / 4)
#define NODE_NOW_AT (offsetof(struct node_slot, now) / 4)
#define NODE_ASKED_AT (offsetof(struct node_slot, asked) / 4)
_Static_assert(sizeof(struct ctx) % 4 == 0 && offsetof(struct node_slot, now) % 4 == 0, "copied as words");

/* The calling thread's; NULL: not a thread of Node's that we know. Set by interpose/node.c. */
extern OTSHIM_TLS struct node_slot *volatile node_slot;
struct node_slot *node_slot_new(void); /* NULL: no memory */
void node_slot_free(struct node_slot *slot);
/* Always empty: for a thread of Node's on which the adapter cannot be. */
extern struct node_slot node_slot_nobody;

int node_current(struct ctx *out);

/* site.c: see struct ctx_runtime. */
bool node_site_keep(void *kept);
bool node_site_words(const void *kept, struct runtime_site_words *words);

/* lookups.c. JavaScript is about to have a name looked up, for whom the thread works for now. The name is one that getaddrinfo() will be asked for:
 * no number. */
void node_lookup_note(const char *name, size_t len);
/* Are all look-ups noted? False: for good, then, nobody knows of any for whom it is. */
void node_lookups_noted(bool all);
/* A thread looks this name up. Takes what was noted for it; also for a look-up that was noted and then not begun. */
enum node_lookup {
    NODE_LOOKUP_NOT_OURS, /* not Node's, or for nobody */
    NODE_LOOKUP_OWNED,    /* for *owner */
    NODE_LOOKUP_UNKNOWN   /* for somebody, but there is more than one who it could be */
};
enum node_lookup node_lookup_take(const char *name, size_t len, struct ctx *owner);

/* script.c: a JavaScript expression whose value is a function (adapter.js says which; sites.js is in it). */
extern const char node_script[];

#endif
