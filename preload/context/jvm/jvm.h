/* jvm.h - for whom does a thread of a Java virtual machine work?
 *
 * What a thread reads says it (rule 2), as everywhere - but only until it takes up something else, and in Java that something comes from
 * queues that no libc call shows: java.util.concurrent is written in Java. So a few of its methods call us (edits.c): where a task is made or
 * given to a pool, where a pool's thread begins and ends one, where a virtual thread is mounted on its carrier and leaves it.
 *
 *     made, given     the object is tagged (JVMTI's object tags) with the context of that moment (keep.c)
 *     begins          the thread enters what the task is tagged with, and works for nobody if that is nothing
 *     ends            it works for nobody; and what it read before is not what it takes up next (request_new_task)
 *     nested          tasks of a ForkJoinPool, and stages of a CompletableFuture, run inside of others: what was before comes back
 *     virtual thread  has a place that keeps its context while it is on no carrier
 *
 * So the answer stays where everyone's is, in current.c; such contexts have the rule `handover`. The selector thread of
 * java.net.http.HttpClient, which does I/O of all, works for nobody (jvm_current).
 *
 * A task object that is given to pools many times is no task of a request: it drains a queue, whose things are of others. So only what it does
 * the first time is for whom it was given.
 *
 * How it gets in (interpose/jvm.c, setup.c): no agent and no option. When a thread of a JVM calls listen() on an Internet socket, that JVM is
 * asked for its tool interface, a class of native methods is defined in java.base, and the methods are rewritten by RetransformClasses. If
 * that cannot be done, nothing is certain in that machine: its calls have no parent, and the exporter's log says why (runtime_report).
 *
 * In here no header of Java is known: the tables of JNI and JVMTI are public and only grow, and a handful of entries is used. */
#ifndef OTSHIM_CONTEXT_JVM_H
#define OTSHIM_CONTEXT_JVM_H

#include "context/context.h"
#include "context/jvm/classfile.h"
#include <stdatomic.h>

typedef void *jvm_object; /* jobject, jclass: a reference that is valid in this call */

/* The tags' two functions, for the hooks; set before any of them can be called. */
struct jvm_tags {
    void *env;
    int (*get)(void *env, jvm_object object, int64_t *tag);
    int (*set)(void *env, jvm_object object, int64_t tag);
};
extern struct jvm_tags jvm_tags;
/* conn_hand_over(), which is above us. */
extern void (*jvm_hand_over)(int fd, const struct ctx *ctx, bool unsent);

/* A machine in which tasks cannot be followed. */
extern _Atomic bool jvm_unwatched;

int jvm_current(struct ctx *out); /* see struct ctx_runtime */

/* ---- setup.c --------------------------------------------------------------------------------------------------------------------------- */
/* The calling thread is one of Java's, in native code, without an exception pending or it is not touched. find_class: JVM_FindClassFromBootLoader.
 * False: not now. */
bool jvm_setup(void *vm, void *(*find_class)(void *env, const char *name));

/* ---- fields.c: the socket of an Http1Exchange of HttpClient; -1: it cannot be learned ------------------------------------------------------- */
int jvm_descriptor_of(void *env, jvm_object exchange);
extern jvm_object jvm_plain_connection, jvm_socket_channel; /* classes: global references, or NULL */

/* Entry n of an interface's table of functions, as a function. JVMTI counts from 1. */
#define JNI(env, n, ret, ...) ((ret(*)(void *, ##__VA_ARGS__))(*(void ***)(env))[n])
#define JVMTI(env, n, ret, ...) ((ret(*)(void *, ##__VA_ARGS__))(*(void ***)(env))[(n)-1])

/* ---- hooks.c: the native methods of the helper class, those with an object first ----------------------------------------------------------- */
#define JVM_HELPER "java/util/concurrent/OtshimContext"
#define JVM_HOOKS_WITH_OBJECT(X)                                                                                                   \
    X(given) X(begins) X(taskMade) X(taskRuns) X(stageMade) X(stageRuns) X(stageRan) X(sends) X(connects) X(starts) X(mounts)
#define JVM_HOOKS(X) X(ends) X(returns) X(unmounts) X(terminates) X(takes) X(selects)
#define X(name) void jvm_##name(void *env, jvm_object helper, jvm_object object);
JVM_HOOKS_WITH_OBJECT(X)
#undef X
#define X(name) void jvm_##name(void *env, jvm_object helper);
JVM_HOOKS(X)
#undef X

/* ---- edits.c: which methods call them -------------------------------------------------------------------------------------------------------- */
struct jvm_class {
    const char *name; /* internal, of a class of the boot loader */
    const struct classfile_edit *edits;
    size_t count;
    const struct classfile_edit *otherwise; /* .count of them: what to do if these do not all find their places; NULL: nothing */
    bool optional;                          /* not in every version, or not in every image */
    bool anywhere; /* a library's, of any loader, also loaded later; to be left alone if it is not as expected */
};
extern const struct jvm_class jvm_classes[];
extern const size_t jvm_class_count;

/* ---- keep.c: contexts by number ---------------------------------------------------------------------------------------------------------------
 * A ring of the last KEEP_SLOTS contexts; a number whose place was used again finds nothing. Lock-free, async-signal-safe. */
#define KEEP_SLOTS 65536u
uint64_t keep_put(const struct ctx *ctx); /* 0: no memory. At most 2^48 */
bool keep_get(uint64_t number, struct ctx *out);

#endif
