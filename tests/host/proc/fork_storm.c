/* fork_storm.c - 300 forks, each child with an exchange of its own, while four threads keep their own going.
 *
 * Nothing may hang, no exchange may break, and no two processes may make the same ids. Prints the answers that children saw. */
#define _GNU_SOURCE
#include "client.h"
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>

static atomic_bool done;
static atomic_int broken, exchanges;

static void *keep_going(void *arg)
{
    (void)arg;
    while (!done) {
        char answer[128];
        client_ask(answer);
        exchanges++;
        broken += strcmp(answer, "broken") == 0;
        usleep(2000);
    }
    return NULL;
}

int main(void)
{
    pthread_t threads[4];
    int children = 0, failed = 0;
    int answers[2];
    if (pipe(answers) != 0 || fcntl(answers[1], F_SETPIPE_SZ, 1 << 20) < 0)
        return 2;
    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, keep_going, NULL);
    for (int i = 0; i < 300; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            char answer[128], line[130];
            for (int k = 0; k < 2; k++) {
                client_ask(answer);
                int n = snprintf(line, sizeof(line), "%s\n", answer);
                if (write(answers[1], line, (size_t)n) != n)
                    _exit(1);
            }
            _exit(strcmp(answer, "broken") == 0);
        }
        children += pid > 0;
        while (children > 20 || (i == 299 && children > 0)) {
            int status;
            if (wait(&status) < 0)
                return 3;
            children--;
            failed += !WIFEXITED(status) || WEXITSTATUS(status) != 0;
        }
    }
    done = true;
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    close(answers[1]);
    char buf[65536];
    for (ssize_t n; (n = read(answers[0], buf, sizeof(buf))) > 0;)
        fwrite(buf, 1, (size_t)n, stdout);
    fprintf(stderr, "%d children failed, %d of %d exchanges broken\n", failed, broken, exchanges);
    return failed != 0 || broken != 0 || exchanges == 0;
}
