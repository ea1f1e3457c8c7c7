/* run_exporter.c - finding or starting an exporter for `otshim run`: see run_exporter.h.
 *
 * One of our own is a child in a process group of its own: Ctrl-C goes to the program, and the exporter stays until the program's last
 * spans are through. It listens where an exporter always does, so that `otshim traces` in another terminal finds it; where that HTTP
 * port is taken, on a free one. */
#include "cli/run_exporter.h"

#include "cli/cli.h"
#include "cli/probe.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define START_MS 15000
#define STOP_MS 8000

/* ---- finding ----------------------------------------------------------------------------------------------------------------- */

/* True: one answers on HTTP, and on the socket that the program is to use. */
static bool find_running(struct run_exporter *exporter)
{
    char why[512];
    long http_status;
    bool found = false;
    exporter->client.timeout_ms = 2000;
    json_t *status = client_get(&exporter->client, "/api/status", &http_status, why, sizeof(why));
    const char *path = json_string_value(json_object_get(status, "socket")), *wanted = getenv("OTSHIM_SOCKET");
    if (path != NULL && (wanted == NULL || wanted[0] == 0 || strcmp(wanted, path) == 0) && probe_socket(path) == 0) {
        snprintf(exporter->socket, sizeof(exporter->socket), "%s", path);
        exporter->can_ask = found = true;
    }
    json_decref(status);
    return found;
}

/* Can the configured address be listened on? Asked before the start, so that the exporter does not have to fail first. */
static bool http_is_free(const struct exporter_config *config)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV}, *list = NULL;
    char port[8];
    int one = 1;
    bool is_free = false;
    snprintf(port, sizeof(port), "%u", config->http_port);
    if (getaddrinfo(config->http_host, port, &hints, &list) != 0)
        return false;
    int fd = socket(list->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0) {
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
        is_free = bind(fd, list->ai_addr, list->ai_addrlen) == 0 && listen(fd, 1) == 0;
        close(fd);
    }
    freeaddrinfo(list);
    return is_free;
}

/* ---- starting ---------------------------------------------------------------------------------------------------------------- */

static void become_exporter(int ready_fd, bool any_port, const sigset_t *mask, pid_t parent)
{
    char self[PATH_MAX], fd_text[16];
    ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);
    int null = open("/dev/null", O_RDONLY);
    if (len < 0)
        _exit(EXIT_FAILED);
    self[len] = 0;
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent)
        _exit(EXIT_FAILED);
    sigprocmask(SIG_SETMASK, mask, NULL);
    dup2(null, STDIN_FILENO);
    dup2(STDERR_FILENO, STDOUT_FILENO);
    /* Its start is said by us, in fewer words; its troubles are not. */
    setenv("OTSHIM_LOG", "error", 0);
    if (any_port)
        setenv("OTSHIM_HTTP", "127.0.0.1:0", 1);
    fcntl(ready_fd, F_SETFD, 0);
    snprintf(fd_text, sizeof(fd_text), "%d", ready_fd);
    execl(self, "otshim", "exporter", "--ready-fd", fd_text, (char *)NULL);
    _exit(EXIT_FAILED);
}

/* The line of JSON that says that it is ready, and where. NULL: it ended, or says nothing. */
static json_t *read_ready(int fd)
{
    char line[2048];
    size_t used = 0;
    struct pollfd item = {.fd = fd, .events = POLLIN};
    while (used + 1 < sizeof(line) && poll(&item, 1, START_MS) > 0) {
        ssize_t n = read(fd, line + used, sizeof(line) - 1 - used);
        if (n <= 0)
            break;
        used += (size_t)n;
        if (line[used - 1] == '\n')
            break;
    }
    return json_loadb(line, used, 0, NULL);
}

static bool take_address(struct run_exporter *exporter, const json_t *ready)
{
    const char *path = json_string_value(json_object_get(ready, "socket"));
    const char *http = json_string_value(json_object_get(ready, "http"));
    if (path == NULL)
        return false;
    snprintf(exporter->socket, sizeof(exporter->socket), "%s", path);
    if (http != NULL) {
        /* One that listens everywhere is asked on the loopback address. */
        const char *port = strncmp(http, "0.0.0.0:", 8) == 0 ? http + 8 : NULL;
        snprintf(exporter->client.address, sizeof(exporter->client.address), "%s%s", port != NULL ? "127.0.0.1:" : "",
                 port != NULL ? port : http);
        exporter->can_ask = true;
    }
    return true;
}

static int start(struct run_exporter *exporter, bool any_port, const sigset_t *mask)
{
    int ends[2], status = 0;
    pid_t parent = getpid();
    if (pipe2(ends, O_CLOEXEC) != 0) {
        fprintf(stderr, "otshim run: cannot start an exporter: %s\n", strerror(errno));
        return EXIT_FAILED;
    }
    pid_t pid = fork();
    if (pid == 0)
        become_exporter(ends[1], any_port, mask, parent);
    close(ends[1]);
    if (pid < 0) {
        fprintf(stderr, "otshim run: cannot start an exporter: %s\n", strerror(errno));
        close(ends[0]);
        return EXIT_FAILED;
    }
    json_t *ready = read_ready(ends[0]);
    close(ends[0]);
    if (take_address(exporter, ready)) {
        exporter->pid = pid;
    } else {
        kill(pid, SIGKILL);
        waitpid(pid, &status, 0);
        fputs("otshim run: the exporter did not start\n", stderr);
    }
    json_decref(ready);
    return exporter->pid != 0 ? EXIT_OK : WIFEXITED(status) && WEXITSTATUS(status) == EXIT_USAGE ? EXIT_USAGE : EXIT_FAILED;
}

int run_exporter_find(struct run_exporter *exporter, const sigset_t *mask)
{
    const char *http = getenv("OTSHIM_HTTP");
    bool http_off = http != NULL && strcmp(http, "off") == 0;
    memset(exporter, 0, sizeof(*exporter));
    /* We have to ask ours, whatever others may do; client_open refuses "off". */
    if (http_off)
        setenv("OTSHIM_HTTP", "127.0.0.1:0", 1);
    int status = client_open(&exporter->client);
    if (http_off)
        setenv("OTSHIM_HTTP", "off", 1);
    if (status != EXIT_OK)
        return status;
    if (!http_off && find_running(exporter))
        return EXIT_OK;
    if (probe_socket(exporter->client.config.socket_path) == 0) {
        snprintf(exporter->socket, sizeof(exporter->socket), "%s", exporter->client.config.socket_path);
        fprintf(
            stderr,
            "otshim: an exporter listens on %s but does not answer on http://%s: it gets the traces, and they cannot be shown here "
            "(OTSHIM_HTTP says where it can be asked)\n",
            exporter->socket, exporter->client.address);
        return EXIT_OK;
    }
    status = start(exporter, http_off || !http_is_free(&exporter->client.config), mask);
    if (status != EXIT_OK)
        client_close(&exporter->client);
    return status;
}

/* ---- stopping ---------------------------------------------------------------------------------------------------------------- */

void run_exporter_stop(struct run_exporter *exporter)
{
    struct timespec step = {.tv_nsec = 50000000};
    sigset_t set;
    int waited_ms = 0, presses = 0;
    client_close(&exporter->client);
    if (exporter->pid == 0)
        return;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGCHLD);
    kill(exporter->pid, SIGTERM);
    while (waitpid(exporter->pid, NULL, WNOHANG) == 0) {
        int number = sigtimedwait(&set, NULL, &step);
        if (number == SIGINT || number == SIGTERM)
            kill(exporter->pid, presses++ == 0 ? SIGTERM : SIGKILL);
        waited_ms += number < 0 ? 50 : 1;
        if (waited_ms > STOP_MS)
            kill(exporter->pid, SIGKILL);
    }
    exporter->pid = 0;
}
