/* environment.c - starts a program in every way there is.
 *
 *   environment FUNCTION KIND HOW
 *     FUNCTION  execve execv execvp execvpe execl execlp execle fexecve execveat posix_spawn posix_spawnp
 *     KIND      inherit: our own environment; own: A=1 and PATH; preload: those and an LD_PRELOAD= of its own; parent: those and a
 *               TRACEPARENT; huge: 3,000 entries; null: none at all; dropped: our own, LD_PRELOAD taken out
 *     HOW       direct fork vfork request (in a request of its own, then fork)
 * The started program is `env -0`, so that all there is to see is what it was given. */
#define _GNU_SOURCE
#include "client.h"
#include "portable.h"
#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>

#define ENV "/usr/bin/env"

static char **make_env(const char *kind)
{
    static char *env[3008], text[3000][16];
    size_t n = 0;
    if (strcmp(kind, "null") == 0)
        return NULL;
    if (strcmp(kind, "inherit") == 0 || strcmp(kind, "dropped") == 0)
        return environ;
    env[n++] = (char *)"A=1";
    env[n++] = (char *)"PATH=/usr/bin:/bin";
    if (strcmp(kind, "preload") == 0)
        env[n++] = (char *)"LD_PRELOAD=";
    if (strcmp(kind, "parent") == 0) {
        env[n++] = (char *)"TRACEPARENT=00-11111111111111111111111111111111-2222222222222222-00";
        env[n++] = (char *)"TRACESTATE=a=b";
        env[n++] = (char *)"TRACEPARENTS=not ours";
    }
    for (size_t i = 0; strcmp(kind, "huge") == 0 && i < 3000; i++) {
        snprintf(text[i], sizeof(text[i]), "V%zu=x", i);
        env[n++] = text[i];
    }
    env[n] = NULL;
    return env;
}

static int start(const char *function, const char *kind)
{
    char *argv[] = {(char *)"env", (char *)"-0", NULL}, **env = make_env(kind);
    bool own = env == environ;
    if (strcmp(function, "execve") == 0)
        execve(ENV, argv, env);
    else if (strcmp(function, "execvpe") == 0)
        execvpe("env", argv, env);
    else if (strcmp(function, "execle") == 0)
        execle(ENV, "env", "-0", (char *)NULL, env);
    else if (strcmp(function, "fexecve") == 0)
        fexecve(open(ENV, O_RDONLY | O_CLOEXEC), argv, env);
    else if (strcmp(function, "execveat") == 0)
        execveat(AT_FDCWD, ENV, argv, env, 0);
    else if (strcmp(function, "execv") == 0 && own)
        execv(ENV, argv);
    else if (strcmp(function, "execvp") == 0 && own)
        execvp("env", argv);
    else if (strcmp(function, "execl") == 0 && own)
        execl(ENV, "env", "-0", (char *)NULL);
    else if (strcmp(function, "execlp") == 0 && own)
        execlp("env", "env", "-0", (char *)NULL);
    else
        return 4;
    return 5;
}

static int spawn(const char *function, const char *kind)
{
    char *argv[] = {(char *)"env", (char *)"-0", NULL}, **env = make_env(kind);
    pid_t pid;
    int status, error;
    if (strcmp(function, "posix_spawn") == 0)
        error = posix_spawn(&pid, ENV, NULL, NULL, argv, env);
    else
        error = posix_spawnp(&pid, "env", NULL, NULL, argv, env);
    if (error != 0 || waitpid(pid, &status, 0) != pid)
        return 6;
    return WEXITSTATUS(status);
}

static size_t mappings(void)
{
    FILE *f = fopen("/proc/self/maps", "r");
    size_t n = 0;
    for (int c; (c = getc(f)) != EOF;)
        n += c == '\n';
    fclose(f);
    return n;
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    const char *function = argv[1], *kind = argv[2], *how = argv[3];
    if (strcmp(kind, "dropped") == 0)
        unsetenv("LD_PRELOAD");
    struct inbound in;
    bool request = strcmp(how, "request") == 0;
    if (request)
        in = inbound_begin();
    int status = 0;
    mappings(); /* stdio's buffers are there from here on */
    size_t before = mappings();
    if (strncmp(function, "posix_spawn", 11) == 0) {
        status = spawn(function, kind);
    } else if (strcmp(how, "direct") == 0) {
        return start(function, kind);
    } else {
        pid_t pid = strcmp(how, "vfork") == 0 ? vfork() : fork();
        if (pid == 0)
            _exit(start(function, kind));
        if (waitpid(pid, &status, 0) != pid)
            return 7;
        status = WEXITSTATUS(status);
    }
    if (!request && mappings() > before)
        return 8; /* something was left behind */
    if (request)
        inbound_end(&in);
    return status;
}
