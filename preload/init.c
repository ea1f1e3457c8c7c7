/* init.c - the start and the orderly end of the library in a process.
 *
 * The constructor is paid by every program that is started with us, most of which never open a socket: it reads the environment, finds the
 * real functions, maps the descriptor table, and is done. Everything else waits until a connection is seen. Whatever fails leaves
 * otshim_active false, and then every wrapper only forwards.
 *
 * There may be no end: _exit, exec, a signal. The exporter drains the ring of a dead process by itself; the destructor only gives the spans
 * that are still open an end of their own, and hands the ring over if nobody has it. Other threads may still be running then, and other
 * libraries' destructors may still do I/O: nothing is torn down. */
#include "base/base.h"
#include "base/config.h"
#include "base/raw.h"
#include "conn/conn.h"
#include "context/context.h"
#include "context/request.h"
#include "context/turn.h"
#include "interpose/real.h"
#include "span/hello.h"
#include "span/span.h"
#include <fcntl.h>
#include <string.h>

extern char **environ;

/* glibc's pthread_atfork is a static stub around this; musl has only pthread_atfork. Weak, so that one file loads under both. */
extern int __register_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void), void *dso) __attribute__((weak));
extern int pthread_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void)) __attribute__((weak));

/* The name of the program for OTSHIM_EXCLUDE; "" without /proc. */
static const char *exe_basename(char *path, size_t size)
{
    const long n = raw_syscall4(SYS_readlinkat, AT_FDCWD, (long)"/proc/self/exe", (long)path, (long)size - 1);
    path[n > 0 ? n : 0] = '\0';
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

static const char *from_environ(const char *name)
{
    const size_t len = strlen(name);
    for (char **entry = environ; entry != NULL && *entry != NULL; entry++)
        if (strncmp(*entry, name, len) == 0 && (*entry)[len] == '=')
            return *entry + len + 1;
    return NULL;
}

static void in_child(void)
{
    ctx_after_fork();
    otshim_fork_generation++; /* before anything that makes an id or asks whose it is */
    span_after_fork();
    conn_after_fork();
    names_after_fork();
}

static bool at_fork(void)
{
    if (__register_atfork != NULL)
        return __register_atfork(NULL, NULL, in_child, NULL) == 0;
    return pthread_atfork != NULL && pthread_atfork(NULL, NULL, in_child) == 0;
}

__attribute__((constructor)) static void otshim_init(void)
{
    char path[4096];
    const char *program = exe_basename(path, sizeof(path));
    if (config_load(environ, program))
        return;
    request_init(program);
    turn_init(program);
    hello_start_ns = now_ns();
    real_resolve();
    if (fd_table_init() != 0 || !at_fork())
        return;
    if (config.propagate_w3c)
        ctx_init_environ(from_environ("TRACEPARENT"), from_environ("TRACESTATE"));
    __atomic_store_n(&otshim_active, true, __ATOMIC_RELEASE);
}

__attribute__((destructor)) static void otshim_end(void)
{
    if (!otshim_active)
        return;
    otshim_quiet++;
    conn_end_all(OTSHIM_END_EXIT);
    names_flush();
    span_at_exit();
    otshim_quiet--;
}
