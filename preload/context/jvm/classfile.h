/* classfile.h - puts calls into the methods of a Java class (JVMS chapter 4).
 *
 * An edit names a method and the places in it: its entry, its returns, or before it calls a certain method. There a call of a static method is
 * put in that takes nothing or one object. Such a call is four bytes long (a load or a nop, and invokestatic): so the padding of tableswitch
 * and lookupswitch stays as it is, and everything else - branches, exception ranges, line numbers, stack map frames - moves by simple
 * addition. A branch to such a place goes to the new call.
 *
 * A pure function over bytes: no I/O, no allocation but the caller's output. What is not understood, does not fit, or is not there leaves
 * the class as it is: 0. The input is the virtual machine's own, but other tools may have rewritten it before: nothing in it is trusted. */
#ifndef OTSHIM_CONTEXT_JVM_CLASSFILE_H
#define OTSHIM_CONTEXT_JVM_CLASSFILE_H

#include <stddef.h>
#include <stdint.h>

enum classfile_where { CLASSFILE_ENTRY = 1, CLASSFILE_RETURNS, CLASSFILE_BEFORE_CALL };
enum classfile_argument {
    CLASSFILE_NOTHING,
    CLASSFILE_LOCAL_0,
    CLASSFILE_LOCAL_1,
    CLASSFILE_TOP /* of the stack; it stays there */
};

struct classfile_edit {
    const char *method;     /* by name: all methods of this name that have code */
    const char *descriptor; /* NULL: any */
    uint8_t where;          /* enum classfile_where */
    uint8_t argument;       /* enum classfile_argument. An object, by the descriptor that the caller names or knows */
    const char *called;     /* CLASSFILE_BEFORE_CALL: the name of the method called */
    const char *call;       /* the static method of the helper to be called: (Ljava/lang/Object;)V or ()V */
};

#define CLASSFILE_EDITS_MAX 8u
#define CLASSFILE_SITES_MAX 64u /* places in one method */

/* Room enough for the result. */
static inline size_t classfile_room(size_t len)
{
    return 2 * len + 4096;
}

/* The new length, or 0: nothing was changed. Each edit must find a place, or none is made. helper: the internal name of the class called. */
size_t classfile_rewrite(const uint8_t *in, size_t len, const char *helper, const struct classfile_edit *edits, size_t count,
                         uint8_t *out, size_t out_size);

/* A class of static native methods and nothing else: (Ljava/lang/Object;)V for the first `with`, ()V for the rest. Length or 0. */
size_t classfile_helper(const char *name, const char *const *methods, size_t with, size_t count, uint8_t *out, size_t out_size);

#endif
