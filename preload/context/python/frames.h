/* frames.h - Python's frames at a call, without the GIL and without a call of its API.
 *
 * A thread's frames, and the code objects that they hold, are changed and given up by that thread alone: while it is in one of our
 * wrappers they stand still, and may be read as they lie. So a call's begin keeps, for each of its innermost frames, the address of the code
 * and how far it has come in it (frames.c). Names, files and lines are read when the call turned out slow or failed (words.c): by then the code
 * may be gone, and what lies there may be anything, even unmapped. So it is read by the kernel (process_vm_readv), and each code object must
 * be the one that it was: of its type, and with the same mark, which is made of its name, file, first line and line table.
 *
 * Where things lie differs from version to version: a table (frames.c), believed only after the first call's own stack has been read by
 * it with the kernel's help, and all that should be there was there - code, strings, tables by their types' names, instructions within
 * their code (words.c). If not, there are no frames, and one line goes to the exporter's log. */
#ifndef OTSHIM_CONTEXT_PYTHON_FRAMES_H
#define OTSHIM_CONTEXT_PYTHON_FRAMES_H

#include "context/runtime.h"

/* Offsets in bytes. */
struct frames_layout {
    uint8_t minor;
    uint8_t thread_top;  /* in the thread's state: its innermost frame; or a struct (3.11, 3.12) ... */
    int8_t indirect_top; /* ... at which offset in it that is; -1: no such struct */
    uint8_t back, code;  /* in a frame: the next outer one; its code object */
    uint8_t instruction; /* in a frame: an int (until 3.10), or a pointer into the code */
    uint8_t unit;        /* bytes that the int counts */
    int8_t owner; /* in a frame: by whom it is owned; -1: not said. Those of the interpreter itself are no frames of Python */
    uint8_t flags, first_line, file, name, qualified, table; /* in a code object; qualified 0: not known */
    uint8_t instructions;    /* in a code object: the first of them, or (until 3.10) a pointer to a bytes object of them */
    uint8_t code_size;       /* tp_basicsize of the type of code objects */
    uint8_t text, wide_text; /* in a str: the characters of one that is ASCII; of another one */
};

struct frames_entry {
    const void *code;
    int32_t at;    /* offset of the instruction in the code, in bytes */
    uint32_t mark; /* of the code object */
};

#define FRAMES_MAX 62u
struct frames {
    uint32_t count;
    uint32_t reserved;
    struct frames_entry entry[FRAMES_MAX]; /* innermost first */
};
_Static_assert(sizeof(struct frames) <= RUNTIME_SITE_BYTES, "a site has room for it");

/* What a mark is made of, and what else is asked of a code object. */
struct frames_code {
    const void *file, *name, *table;
    uint32_t first_line;
};
static inline uint32_t frames_mark(const struct frames_code *code)
{
    const uint64_t odd = 0x9e3779b97f4a7c15ull;
    uint64_t mark = (uintptr_t)code->file;
    mark = mark * odd ^ (uintptr_t)code->name;
    mark = mark * odd ^ (uintptr_t)code->table;
    mark = mark * odd ^ code->first_line;
    return (uint32_t)(mark * odd >> 32);
}

/* Bits of a code object's flags: inspect.CO_*, the same in all versions. */
enum { CODE_GENERATOR = 0x20, CODE_COROUTINE = 0x80, CODE_ITERABLE_COROUTINE = 0x100, CODE_ASYNC_GENERATOR = 0x200 };

#define OWNED_BY_INTERPRETER 3 /* and above. 3.12 and 3.13: FRAME_OWNED_BY_CSTACK; 3.14: FRAME_OWNED_BY_INTERPRETER, _CSTACK */
/* 3.14 keeps in the lowest bits of a reference (_PyStackRef) whether it counts. */
static inline const void *frames_untagged(const void *reference)
{
    return (const void *)((uintptr_t)reference & ~(uintptr_t)7);
}

/* ---- frames.c ---------------------------------------------------------------------------------------------------------------------------- */
/* Once, when Python was found. version: of Py_GetVersion. */
void frames_init(const char *version);
bool frames_keep(void *kept); /* see struct ctx_runtime */
/* uvloop runs libuv on this thread, in its callbacks or not: the frames that are here now are not of a call's making. Or it does no more. */
void frames_event_loop(bool runs);

/* ---- words.c ----------------------------------------------------------------------------------------------------------------------------- */
/* NULL, or why the layout does not fit this thread's stack. *empty: it has no frame, which tells nothing. Takes some hundred microseconds. */
const char *frames_test(const struct frames_layout *layout, const void *thread, bool *empty);
bool frames_words(const struct frames_layout *layout, const struct frames *frames, struct runtime_site_words *words);
bool frames_site_words(const void *kept, struct runtime_site_words *words); /* frames.c: see struct ctx_runtime */

#endif
