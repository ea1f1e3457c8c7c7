/* spawn_cost.c - microseconds to start and reap PROGRAM, with LD_PRELOAD=LIBRARY for the child alone ("-": without).
 * usage: spawn_cost COUNT LIBRARY|- PROGRAM */
#define _GNU_SOURCE
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

static double seconds(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    int count = atoi(argv[1]);
    char preload[4096];
    char *bare[] = {"PATH=/usr/bin:/bin", NULL}, *with[] = {"PATH=/usr/bin:/bin", preload, NULL};
    snprintf(preload, sizeof preload, "LD_PRELOAD=%s", argv[2]);
    char **env = strcmp(argv[2], "-") == 0 ? bare : with;
    char *child[] = {argv[3], NULL};
    double start = seconds();
    for (int i = 0; i < count; i++) {
        pid_t pid;
        int status;
        if (posix_spawn(&pid, argv[3], NULL, NULL, child, env) != 0 || waitpid(pid, &status, 0) != pid || status != 0)
            return 1;
    }
    printf("%.2f\n", (seconds() - start) * 1e6 / count);
    return 0;
}
