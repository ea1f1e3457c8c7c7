/* exec.c - exec* and posix_spawn: the new program continues the trace (design section 4, rule 3), and is watched too.
 *
 * The environment passes as it is, but for two things:
 *
 *   The thread works for a request: TRACEPARENT (and TRACESTATE, if there is one) are that request's; what stood there before goes.
 *   The program gives an environment of its own making that lacks LD_PRELOAD, while its own still has what it was started with: LD_PRELOAD
 *   is added, and with it the OTSHIM_* and OTEL_* variables that are missing, so that the new program finds its exporter. A program that
 *   took LD_PRELOAD out of its own environment, or changed it, is respected.
 *
 * The new array lies on the stack, and a large one in memory of its own: exec may be called in a signal handler, after fork in a
 * threaded program, in a vfork child. What a vfork child maps is its parent's memory: the parent gives it back (exec_unmap_vfork).
 *
 * execv and its kin with the program's own environment become the call that takes one; both C libraries define them that way. */
#include "interpose/exec.h"
#include "base/config.h"
#include "base/raw.h"
#include "conn/names.h"
#include "context/context.h"
#include "interpose/quiet.h"
#include "interpose/real.h"
#include "interpose/wrap.h"
#include "span/span.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SLOTS_ON_STACK 512u
#define ENTRIES_MAX 65536u /* of one environment; the kernel takes no more than a few MB of it anyway */
#define ADDED_MAX 64u

struct exec_env {
    char *const *envp; /* what to pass on */
    void *map;
    size_t map_len;
    size_t nadded;
    char *added[ADDED_MAX];
    char traceparent[sizeof("TRACEPARENT=") + TRACEPARENT_LEN];
    char tracestate[sizeof("TRACESTATE=") + OTSHIM_TRACESTATE_MAX];
    char *slots[SLOTS_ON_STACK];
};

/* ---- reading an environment ------------------------------------------------------------------------------------------------------ */

static bool starts(const char *entry, const char *with)
{
    return strncmp(entry, with, strlen(with)) == 0;
}

/* Does env set the variable that `entry` (NAME=value) sets? */
static bool has_name_of(char *const *env, const char *entry)
{
    size_t len = strcspn(entry, "=");
    for (; env != NULL && *env != NULL; env++)
        if (strncmp(*env, entry, len) == 0 && (*env)[len] == '=')
            return true;
    return false;
}

static const char *preload_entry(char *const *env)
{
    for (; env != NULL && *env != NULL; env++)
        if (starts(*env, "LD_PRELOAD="))
            return *env + strlen("LD_PRELOAD=");
    return NULL;
}

/* config.preload is cut at its size. */
static bool preload_unchanged(void)
{
    const char *now = preload_entry(environ);
    return now != NULL && config.preload[0] != '\0' && strncmp(now, config.preload, sizeof(config.preload) - 1) == 0;
}

/* ---- making one ------------------------------------------------------------------------------------------------------------------- */

static void add(struct exec_env *e, char *entry)
{
    if (e->nadded < ADDED_MAX)
        e->added[e->nadded++] = entry;
}

static void add_ours(struct exec_env *e, char *const *envp)
{
    if (envp == environ || preload_entry(envp) != NULL || !preload_unchanged())
        return;
    for (char **own = environ; *own != NULL; own++)
        if ((starts(*own, "LD_PRELOAD=") || starts(*own, "OTSHIM_") || starts(*own, "OTEL_")) && !has_name_of(envp, *own))
            add(e, *own);
}

static bool add_context(struct exec_env *e)
{
    struct ctx ctx;
    if (!config.propagate_w3c || !ctx_current(&ctx) || !ctx.has_parent)
        return false;
    static const char parent[] = "TRACEPARENT=", state[] = "TRACESTATE=";
    memcpy(e->traceparent, parent, sizeof(parent) - 1);
    traceparent_format(&ctx, e->traceparent + sizeof(parent) - 1);
    e->traceparent[sizeof(parent) - 1 + TRACEPARENT_LEN] = '\0';
    add(e, e->traceparent);
    memcpy(e->tracestate, state, sizeof(state) - 1);
    size_t len = ctx.tracestate != 0 ? tracestate_get(ctx.tracestate, e->tracestate + sizeof(state) - 1, OTSHIM_TRACESTATE_MAX) : 0;
    e->tracestate[sizeof(state) - 1 + len] = '\0';
    if (len > 0)
        add(e, e->tracestate);
    return true;
}

static OTSHIM_TLS struct {
    void *map;
    size_t len;
} vfork_map;

static char **slots_for(struct exec_env *e, size_t n)
{
    if (n <= SLOTS_ON_STACK)
        return e->slots;
    e->map_len = n * sizeof(char *);
    long p = raw_syscall6(SYS_mmap, 0, (long)e->map_len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (raw_failed(p))
        return NULL;
    e->map = (void *)p;
    if (quiet_in_vfork_child()) {
        vfork_map.map = e->map;
        vfork_map.len = e->map_len;
    }
    return e->map;
}

static void unmap(struct exec_env *e)
{
    if (e->map == NULL)
        return;
    if (vfork_map.map == e->map)
        vfork_map.map = NULL;
    raw_syscall2(SYS_munmap, (long)e->map, (long)e->map_len);
}

void exec_unmap_vfork(void)
{
    if (OTSHIM_LIKELY(vfork_map.map == NULL))
        return;
    raw_syscall2(SYS_munmap, (long)vfork_map.map, (long)vfork_map.len);
    vfork_map.map = NULL;
}

static void env_make(struct exec_env *e, char *const *envp)
{
    e->envp = envp;
    e->map = NULL;
    e->nadded = 0;
    add_ours(e, envp);
    bool context = add_context(e);
    size_t n = 0;
    while (envp != NULL && envp[n] != NULL && n <= ENTRIES_MAX)
        n++;
    char **slots;
    if (e->nadded == 0 || n > ENTRIES_MAX || (slots = slots_for(e, n + e->nadded + 1)) == NULL)
        return;
    char **to = slots;
    for (size_t i = 0; i < n; i++)
        if (!context || !(starts(envp[i], "TRACEPARENT=") || starts(envp[i], "TRACESTATE=")))
            *to++ = envp[i];
    for (size_t i = 0; i < e->nadded; i++)
        *to++ = e->added[i];
    *to = NULL;
    e->envp = slots;
}

/* ---- before and after --------------------------------------------------------------------------------------------------------------- */

/* In libc's own code (quiet for another reason than vfork) there is nothing of the program's to pass on. */
static bool exec_watched(const void *frame)
{
    return otshim_active && (quiet_in_vfork_child() || !quiet_now(frame));
}

static void exec_begin(struct exec_env *e, char *const *envp, const void *frame)
{
    e->envp = envp;
    e->map = NULL;
    if (!exec_watched(frame))
        return;
    int saved = errno;
    env_make(e, envp);
    if (!quiet_in_vfork_child()) {
        names_flush();
        span_before_exec();
    }
    errno = saved;
}

/* Only when exec failed. */
static int exec_end(struct exec_env *e, int result, const void *frame)
{
    int saved = errno;
    unmap(e);
    if (exec_watched(frame) && !quiet_in_vfork_child())
        span_exec_failed();
    errno = saved;
    return result;
}

#define HERE __builtin_frame_address(0)

/* ---- the functions ------------------------------------------------------------------------------------------------------------------ */

WRAP(int, execve, (const char *path, char *const argv[], char *const envp[]))
{
    struct exec_env e;
    exec_begin(&e, envp, HERE);
    return exec_end(&e, REAL(execve)(path, argv, e.envp), HERE);
}

WRAP(int, execv, (const char *path, char *const argv[]))
{
    struct exec_env e;
    exec_begin(&e, environ, HERE);
    return exec_end(&e, REAL(execve)(path, argv, e.envp), HERE);
}

WRAP(int, execvpe, (const char *file, char *const argv[], char *const envp[]))
{
    struct exec_env e;
    exec_begin(&e, envp, HERE);
    return exec_end(&e, REAL(execvpe)(file, argv, e.envp), HERE);
}

WRAP(int, execvp, (const char *file, char *const argv[]))
{
    struct exec_env e;
    exec_begin(&e, environ, HERE);
    return exec_end(&e, REAL(execvpe)(file, argv, e.envp), HERE);
}

WRAP(int, fexecve, (int fd, char *const argv[], char *const envp[]))
{
    struct exec_env e;
    if (envp == NULL) /* glibc refuses that, here and nowhere else */
        return REAL(fexecve)(fd, argv, envp);
    exec_begin(&e, envp, HERE);
    return exec_end(&e, REAL(fexecve)(fd, argv, e.envp), HERE);
}

/* glibc has it since 2.34, musl has not. */
static int real_execveat(int dirfd, const char *path, char *const argv[], char *const envp[], int flags)
{
    if (OTSHIM_UNLIKELY(real.execveat == NULL))
        real_resolve();
    if (real.execveat != NULL)
        return real.execveat(dirfd, path, argv, envp, flags);
    long result = raw_syscall5(SYS_execveat, dirfd, (long)path, (long)argv, (long)envp, flags);
    errno = (int)-result;
    return -1;
}

WRAP(int, execveat, (int dirfd, const char *path, char *const argv[], char *const envp[], int flags))
{
    struct exec_env e;
    exec_begin(&e, envp, HERE);
    return exec_end(&e, real_execveat(dirfd, path, argv, e.envp, flags), HERE);
}

/* Arguments in a list: on the stack as in libc, which has the same limit, and cannot be called without. The list ends with NULL; execle
 * has the environment after that. */
static size_t list_length(const char *arg, va_list list)
{
    size_t n = 0;
    for (; arg != NULL && n < INT_MAX; n++)
        arg = va_arg(list, const char *);
    return n;
}

#define LIST_LENGTH(n, arg)                                                                                                        \
    size_t n;                                                                                                                      \
    {                                                                                                                              \
        va_list count;                                                                                                             \
        va_start(count, arg);                                                                                                      \
        n = list_length(arg, count);                                                                                               \
        va_end(count);                                                                                                             \
        if (n >= INT_MAX) {                                                                                                        \
            errno = E2BIG;                                                                                                         \
            return -1;                                                                                                             \
        }                                                                                                                          \
    }

static void list_copy(char **argv, const char *arg, size_t n, va_list list)
{
    argv[0] = (char *)(uintptr_t)arg;
    for (size_t i = 1; i <= n; i++)
        argv[i] = va_arg(list, char *); /* the last is the NULL */
}

WRAP(int, execl, (const char *path, const char *arg, ...))
{
    LIST_LENGTH(n, arg);
    char *argv[n + 1];
    va_list list;
    va_start(list, arg);
    list_copy(argv, arg, n, list);
    va_end(list);
    return wrap_execv(path, argv);
}

WRAP(int, execlp, (const char *file, const char *arg, ...))
{
    LIST_LENGTH(n, arg);
    char *argv[n + 1];
    va_list list;
    va_start(list, arg);
    list_copy(argv, arg, n, list);
    va_end(list);
    return wrap_execvp(file, argv);
}

WRAP(int, execle, (const char *path, const char *arg, ...))
{
    LIST_LENGTH(n, arg);
    char *argv[n + 1];
    va_list list;
    va_start(list, arg);
    list_copy(argv, arg, n, list);
    char **envp = va_arg(list, char **);
    va_end(list);
    return wrap_execve(path, argv, envp);
}

/* The child of posix_spawn is libc's affair from clone to exec, and calls nothing of ours. */
static void spawn_begin(struct exec_env *e, char *const *envp, const void *frame)
{
    e->envp = envp;
    e->map = NULL;
    if (!exec_watched(frame))
        return;
    int saved = errno;
    env_make(e, envp);
    errno = saved;
}

static int spawn_end(struct exec_env *e, int result)
{
    unmap(e);
    return result;
}

WRAP(int, posix_spawn,
     (pid_t * pid, const char *path, const posix_spawn_file_actions_t *actions, const posix_spawnattr_t *attr, char *const argv[],
      char *const envp[]))
{
    struct exec_env e;
    spawn_begin(&e, envp, HERE);
    return spawn_end(&e, REAL(posix_spawn)(pid, path, actions, attr, argv, e.envp));
}

WRAP(int, posix_spawnp,
     (pid_t * pid, const char *file, const posix_spawn_file_actions_t *actions, const posix_spawnattr_t *attr, char *const argv[],
      char *const envp[]))
{
    struct exec_env e;
    spawn_begin(&e, envp, HERE);
    return spawn_end(&e, REAL(posix_spawnp)(pid, file, actions, attr, argv, e.envp));
}
