/* descriptors.c - children that share our memory close and renumber their descriptors, not ours.
 *
 * A keep-alive connection is watched before and after each kind of child; that the traceparent still arrives says so. */
#define _GNU_SOURCE
#include "client.h"
#include "portable.h"
#include <fcntl.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static const char *ask_again(int fd)
{
    char answer[128];
    if (!client_exchange(fd, answer))
        return "broken";
    return answer[0] == '-' ? "unwatched" : "watched";
}

static int reap(pid_t pid)
{
    int status;
    return waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

int main(void)
{
    int fd = client_connect(client_port());
    pid_t pid;
    char *argv[] = {(char *)"true", NULL};
    printf("at first: %s\n", ask_again(fd));

    if ((pid = vfork()) == 0) {
        int null = open("/dev/null", O_RDWR);
        dup2(null, fd);
        for (int i = 3; i < 100; i++)
            close(i);
        _exit(11);
    }
    printf("vfork, _exit: %d %s\n", reap(pid), ask_again(fd));

    if ((pid = vfork()) == 0) {
        dup2(0, fd);
        close_range(3, ~0u, 0);
        socket(AF_INET, SOCK_STREAM, 0);
        execv("/bin/true", argv);
        _exit(12);
    }
    printf("vfork, exec: %d %s\n", reap(pid), ask_again(fd));

    if ((pid = vfork()) == 0) {
        syscall(SYS_close, fd);
        execv("/no/such", argv);
        _exit(13);
    }
    printf("vfork, exec fails: %d %s\n", reap(pid), ask_again(fd));

    if ((pid = vfork()) == 0) {
        pid_t inner = vfork();
        if (inner == 0) {
            close(fd);
            _exit(1);
        }
        close(fd);
        _exit(reap(inner) + 20);
    }
    printf("vfork in vfork: %d %s\n", reap(pid), ask_again(fd));

    if ((pid = vfork()) == 0) {
        pid_t inner = fork();
        if (inner == 0) {
            close(fd);
            char answer[128];
            client_ask(answer); /* on its own: watched */
            _exit(answer[0] == '-' ? 1 : 2);
        }
        _exit(reap(inner) + 30);
    }
    printf("fork in vfork: %d %s\n", reap(pid), ask_again(fd));

    if ((pid = fork()) == 0) {
        close(fd);
        _exit(14);
    }
    printf("fork: %d %s\n", reap(pid), ask_again(fd));

    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addclose(&actions, fd);
    posix_spawn_file_actions_adddup2(&actions, 0, fd + 1);
    if (posix_spawn(&pid, "/bin/true", &actions, NULL, argv, environ) != 0)
        return 2;
    printf("posix_spawn: %d %s\n", reap(pid), ask_again(fd));

    printf("system: %d %s\n", system("exit 3") >> 8, ask_again(fd));
    FILE *f = popen("exit 4", "r");
    printf("popen: %d %s\n", pclose(f) >> 8, ask_again(fd));
    return 0;
}
