/* inspect.h - what a program is, read from its file: for `otshim doctor`, and for `otshim run` before it starts one. */
#ifndef OTSHIM_EXPORTER_INSPECT_H
#define OTSHIM_EXPORTER_INSPECT_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

enum inspect_libc { LIBC_UNKNOWN, LIBC_GLIBC, LIBC_MUSL };

struct inspection {
    char path[PATH_MAX];   /* the ELF file in the end: of a script, its interpreter */
    char script[PATH_MAX]; /* the script that was named, "" if none */
    int error;             /* errno; 0: the rest is known */
    bool not_executable;
    char broken[PATH_MAX + 256]; /* why a script does not lead to a program, "" if it does */

    bool is_elf;
    bool other_machine; /* another architecture or word size than the library's */
    char machine[32];
    bool has_loader; /* PT_INTERP: a dynamic loader starts it, which reads LD_PRELOAD */
    char loader[PATH_MAX];
    enum inspect_libc libc;
    bool is_go;
    bool secure_for_us;     /* AT_SECURE when we start it: the loader drops LD_PRELOAD */
    bool secure_for_others; /* ... when some other users do */
    const char *secure_why; /* "setuid", "setgid", "file capabilities" */

    char tls_needed[64]; /* the shared TLS library that it is linked with, "" if none */
    char tls_inside[64]; /* the TLS library that is compiled in, "" if none */
};

/* program: a path, or a name to be found in PATH as execvp(3) does. Always fills the whole. */
void inspect_program(const char *program, struct inspection *in);
/* The same of a file that is already running, named by how to open it (/proc/PID/exe) and how to call it. */
void inspect_file(const char *open_path, const char *shown_path, struct inspection *in);

/* What is known about a language's runtime, by the name of its executable. */
struct runtime {
    const char *prefix; /* the executable's name begins so, and goes on with a version at most */
    const char *name;
    bool partly;
    const char *words;
};
/* NULL: none that is known. */
const struct runtime *inspect_runtime(const char *path);
/* Of an executable whose name, or that of the file behind it, is "python3.x" or "python3.xt": why the library does not read the contexts of
 * that version. NULL: it does, or the name has no version. The library itself judges by what it finds at run time. */
const char *inspect_python(const char *path);

/* The architecture that this build of the library is for. */
const char *inspect_own_machine(void);

#endif
