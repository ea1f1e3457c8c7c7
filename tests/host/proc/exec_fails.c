/* exec_fails.c - every way to start a program, failing: return value and errno, by all functions, directly and in a vfork child. */
#define _GNU_SOURCE
#include "client.h"
#include "portable.h"
#include <fcntl.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>

static char *big[3000];
static char **env;

static void say(const char *function, const char *path, int result, int error)
{
    printf("%s %s: %d %d\n", function, path, result, error);
    fflush(stdout);
}

#define TRY(name, call)                                                                                                            \
    do {                                                                                                                           \
        errno = 0;                                                                                                                 \
        int result_ = call;                                                                                                        \
        say(name, path, result_, errno);                                                                                           \
    } while (0)

static void all(const char *path)
{
    char *argv[] = {(char *)"x", (char *)"1", NULL};
    pid_t pid;
    TRY("execve", execve(path, argv, env));
    TRY("execv", execv(path, argv));
    TRY("execvp", execvp(path, argv));
    TRY("execvpe", execvpe(path, argv, env));
    TRY("execl", execl(path, "x", "1", "2", "3", (char *)NULL));
    TRY("execlp", execlp(path, "x", (char *)NULL));
    TRY("execle", execle(path, "x", "1", (char *)NULL, env));
    TRY("execveat", execveat(AT_FDCWD, path, argv, env, 0));
    TRY("execveat flags", execveat(AT_FDCWD, path, argv, env, 0x70000));
    TRY("fexecve", fexecve(-1, argv, env));
    TRY("posix_spawn", posix_spawn(&pid, path, NULL, NULL, argv, env));
    TRY("posix_spawnp", posix_spawnp(&pid, path, NULL, NULL, argv, env));
}

int main(void)
{
    char dir[] = "/tmp/otshim-proc-XXXXXX";
    if (mkdtemp(dir) == NULL || chdir(dir) != 0)
        return 2;
    close(open("plain", O_CREAT | O_WRONLY, 0644));
    int fd = open("garbage", O_CREAT | O_WRONLY, 0755);
    if (write(fd, "\177ELFnot", 7) != 7)
        return 2;
    close(fd);
    mkdir("directory", 0755);
    for (int big_env = 0; big_env < 2; big_env++) {
        if (big_env)
            for (size_t i = 0; i < 2999; i++)
                big[i] = (char *)"V=1";
        env = big_env ? big : environ;
        printf("environment %d\n", big_env);
        all("/no/such/program");
        all("no-such-program");
        all("./plain");
        all("./directory");
        all("./garbage/below");
        all("");
        pid_t pid = vfork();
        if (pid == 0) {
            all("/no/such/program");
            _exit(3);
        }
        int status;
        if (waitpid(pid, &status, 0) != pid || WEXITSTATUS(status) != 3)
            return 4;
    }
    /* A file that is no program goes to the shell by the p functions only. */
    fd = open("script", O_CREAT | O_WRONLY, 0755);
    if (write(fd, "echo script $0 $1\n", 18) != 18)
        return 2;
    close(fd);
    for (int i = 0; i < 4; i++) {
        fflush(stdout);
        pid_t pid = fork();
        char *argv[] = {(char *)"x", (char *)"1", NULL};
        if (pid == 0) {
            if (i == 0)
                execvp("./script", argv);
            else if (i == 1)
                execvpe("./script", argv, environ);
            else if (i == 2)
                execlp("./script", "x", "1", (char *)NULL);
            else
                execv("./script", argv);
            printf("%d: errno %d\n", i, errno);
            fflush(stdout);
            _exit(5);
        }
        int status;
        waitpid(pid, &status, 0);
        printf("%d: status %d\n", i, WEXITSTATUS(status));
    }
    unlink("script"), unlink("plain"), unlink("garbage"), rmdir("directory"), rmdir(dir);
    return 0;
}
