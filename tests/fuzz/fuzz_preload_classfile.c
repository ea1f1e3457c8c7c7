/* fuzz_preload_classfile.c - any bytes as a Java class: never a byte beyond the input or the room, the same result each time, and what comes out goes in
 * again. The seed is
 * a class with the methods of ThreadPoolExecutor, as javac compiles it: loops, handlers, all kinds of switches, objects not yet initialised. */
#include "context/jvm/classfile.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct classfile_edit all[] = {
    {"execute", "(Ljava/lang/Runnable;)V", CLASSFILE_ENTRY, CLASSFILE_LOCAL_1, NULL, "given"},
    {"runWorker", NULL, CLASSFILE_BEFORE_CALL, CLASSFILE_TOP, "beforeExecute", "begins"},
    {"getTask", NULL, CLASSFILE_ENTRY, CLASSFILE_NOTHING, NULL, "ends"},
    {"doExec", NULL, CLASSFILE_ENTRY, CLASSFILE_LOCAL_0, NULL, "stageRuns"},
    {"doExec", NULL, CLASSFILE_RETURNS, CLASSFILE_NOTHING, NULL, "returns"},
    {"<init>", NULL, CLASSFILE_RETURNS, CLASSFILE_LOCAL_0, NULL, "stageMade"},
    {"choose", NULL, CLASSFILE_RETURNS, CLASSFILE_NOTHING, NULL, "returns"},
    {"choose", NULL, CLASSFILE_ENTRY, CLASSFILE_NOTHING, NULL, "ends"},
};

/* With room of exactly the size that is needed, so that a byte too many is seen. */
static uint8_t *rewrite(const uint8_t *data, size_t size, const struct classfile_edit *edits, size_t count, size_t *made)
{
    size_t room = classfile_room(size);
    uint8_t *out = malloc(room);
    *made = classfile_rewrite(data, size, "a/Helper", edits, count, out, room);
    if (*made > room)
        abort();
    if (*made != 0) {
        uint8_t *exact = malloc(*made);
        if (classfile_rewrite(data, size, "a/Helper", edits, count, exact, *made) != *made || memcmp(exact, out, *made) != 0)
            abort();
        if (classfile_rewrite(data, size, "a/Helper", edits, count, exact, *made - 1) != 0)
            abort();
        free(exact);
    }
    return out;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const size_t count = sizeof all / sizeof *all;
    for (size_t n = 0; n <= count; n++) {
        size_t made, again;
        const struct classfile_edit *edits = n < count ? &all[n] : all; /* each alone, then all */
        uint8_t *once = rewrite(data, size, edits, n < count ? 1 : count, &made);
        if (made != 0) {
            uint8_t *twice = rewrite(once, made, edits, n < count ? 1 : count, &again);
            free(twice);
        }
        free(once);
    }
    return 0;
}
