/* symbolize.h - return addresses of a process to functions, files and lines, by elfutils.
 *
 * The process may be dead when its record is read, so its modules (the executable mappings of /proc/PID/maps) are noted while it lives: at
 * its hello, and again when an address is in none of them. The files behind them are opened when they are needed, through the process's
 * own root directory while it lives (it may be in a container), and kept open in a small cache that all processes share. What was found
 * for an address is remembered too, for the next slow call is likely to come from the same place.
 *
 * Files belong to whoever runs the process: they are only read by elfutils, with read(2) and never mapped (a file that is cut while it is
 * mapped kills its reader), only regular ones, up to SYMBOLIZE_FILE_MAX. Separate debug information is used where it is installed
 * (/usr/lib/debug, by build id), never fetched. No debug information: names of the symbol table. None: module and offset. */
#ifndef OTSHIM_EXPORTER_SYMBOLIZE_H
#define OTSHIM_EXPORTER_SYMBOLIZE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define SYMBOLIZE_PROCESSES 512
#define SYMBOLIZE_FILES 32
#define SYMBOLIZE_FILE_MAX (1024ll * 1024 * 1024)
#define SYMBOLIZE_STACK_TEXT 2048

struct symbolizer;

/* A call site in words. Strings may hold any bytes but NUL (they come from files of the process's owner). */
struct call_site {
    char stack[SYMBOLIZE_STACK_TEXT + 1]; /* "#0 function at file:line", a frame a line, innermost first; whole lines only */
    /* The innermost frame of the program itself: the first one that is not in a library of the system (without a name, if it has none); where
     * there is no such frame, the first of the others with a name. */
    char function[256]; /* "" unknown */
    char file[512];     /* "" unknown */
    int line;           /* 0 unknown */
};

/* Looking an address up for the first time takes from 20 µs to tens of milliseconds (debug information of a large file), in the exporter's
 * event loop, and who asks decides how often. So much of a second it may take; what comes beyond is shown as module and offset. */
#define SYMBOLIZE_BUDGET_NS 250000000ull

struct symbolizer *symbolizer_new(void);
void symbolizer_set_budget(struct symbolizer *symbolizer, uint64_t ns); /* another one, for tests */
void symbolizer_free(struct symbolizer *symbolizer);

/* key names the process (and its image) as long as it is known; pid 0 or dead: nothing can be noted any more. */
void symbolizer_seen(struct symbolizer *symbolizer, const void *key, pid_t pid);
void symbolizer_gone(struct symbolizer *symbolizer, const void *key);

/* addresses: return addresses, innermost first. alive: pid is still this process. False when there is nothing to tell. */
bool symbolizer_call_site(struct symbolizer *symbolizer, const void *key, pid_t pid, bool alive, const uint64_t *addresses,
                          size_t count, struct call_site *out);

#endif
