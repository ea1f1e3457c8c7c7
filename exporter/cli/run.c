/* run.c - `otshim run`: a program under the library, each of its traces in the terminal.
 *
 * To whoever called us we are the program: its input and output, its terminal, its signals, its exit status. Signals that the terminal
 * makes (Ctrl-C) reach the program by its process group, which is ours too, and must not reach it twice; signals that somebody sent to us
 * are passed on. si_code tells the two apart.
 *
 * Signals stay blocked and are taken with sigtimedwait, whose timeout is the clock of everything else. */
#include "cli/cli.h"

#include "cli/doctor.h"
#include "cli/run_exporter.h"
#include "cli/run_show.h"
#include "view/text.h"
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define EXIT_CANNOT_EXECUTE 126 /* as env(1) and the shells */
#define EXIT_NOT_FOUND 127
#define POLL_MS 200
#define LAST_TRACES_MIN_MS 500 /* an exporter looks at a dead program's ring at once, and a trace is finished 300 ms later */
#define LAST_TRACES_MAX_MS 3000

static const int forwarded[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH};

struct options {
    const char *service;
    bool quiet, json;
    char **program;
};

static void usage(FILE *out)
{
    fputs("usage: otshim run [--service NAME] [--quiet] [--json] -- PROGRAM [ARGUMENTS]\n\n"
          "Runs a program, unmodified, with the library, and shows each of its traces when it has finished.\n"
          "Uses the exporter that runs, or starts one for as long as the program runs. Where spans go besides the terminal,\n"
          "OTEL_EXPORTER_OTLP_ENDPOINT says (otshim exporter --help). Signals and the exit status are the program's.\n\n"
          "  -s, --service NAME  the service's name (OTEL_SERVICE_NAME); without it, it is named after the program\n"
          "  -q, --quiet         no waterfalls\n"
          "      --json          each trace as a line of OTLP/JSON on standard error\n\n"
          "example: otshim run -- gunicorn -b 127.0.0.1:8000 app:app\n",
          out);
}

/* What the program gets as we got it. */
struct inherited {
    sigset_t mask;
    void (*on_child)(int);
};

/* ---- the library ------------------------------------------------------------------------------------------------------------- */

/* OTSHIM_LIBRARY, else beside the executable (a build directory), else in ../lib (installed). */
static bool find_library(char out[PATH_MAX])
{
    static const char *const places[] = {"libotshim.so", "../lib/libotshim.so", "../lib64/libotshim.so",
                                         "../lib/otshim/libotshim.so"};
    const char *given = getenv("OTSHIM_LIBRARY");
    char self[PATH_MAX], path[PATH_MAX + 64];
    if (given != NULL && given[0] != 0) {
        if (realpath(given, out) != NULL && access(out, R_OK) == 0)
            return true;
        fprintf(stderr, "otshim run: OTSHIM_LIBRARY=%s: %s\n", given, strerror(errno));
        return false;
    }
    ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);
    self[len > 0 ? len : 0] = 0;
    char *slash = strrchr(self, '/');
    if (slash != NULL)
        slash[1] = 0;
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        snprintf(path, sizeof(path), "%s%s", self, places[i]);
        if (realpath(path, out) != NULL && access(out, R_OK) == 0)
            return true;
    }
    fprintf(stderr, "otshim run: libotshim.so is neither in %s nor in ../lib of it; set OTSHIM_LIBRARY to its path\n", self);
    return false;
}

/* By what the traces of this run are known (run_show.c): no two runs at a time have the same. */
static void make_mark(char *out, size_t size)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    snprintf(out, size, "%d-%lld", (int)getpid(), (long long)ts.tv_sec);
}

/* The mark goes where every process that the program starts inherits it and the library reads it. A run inside a run has its own. */
static bool mark_environment(const char *mark)
{
    const char *before = getenv("OTEL_RESOURCE_ATTRIBUTES");
    char *joined = NULL;
    if (before == NULL)
        before = "";
    int made = asprintf(&joined, "%s%s" RUN_MARK "=%s", before, before[0] != 0 ? "," : "", mark);
    if (made >= 0)
        setenv("OTEL_RESOURCE_ATTRIBUTES", joined, 1);
    free(joined);
    return made >= 0;
}

static bool set_environment(const struct options *options, const char *library, const char *socket_path, const char *mark)
{
    const char *before = getenv("LD_PRELOAD");
    /* ld.so(8): the list is separated by spaces or colons, and neither can be escaped. */
    if (strpbrk(library, " :") != NULL) {
        fprintf(stderr,
                "otshim run: the library's path \"%s\" has a space or a colon in it, which LD_PRELOAD cannot express; move it, or "
                "set OTSHIM_LIBRARY to a link\n",
                library);
        return false;
    }
    if (before == NULL || before[0] == 0) {
        setenv("LD_PRELOAD", library, 1);
    } else if (strstr(before, library) == NULL) {
        char *joined = malloc(strlen(library) + strlen(before) + 2);
        if (joined == NULL)
            return false;
        sprintf(joined, "%s:%s", library, before);
        setenv("LD_PRELOAD", joined, 1);
        free(joined);
    }
    setenv("OTSHIM_SOCKET", socket_path, 1);
    if (options->service != NULL)
        setenv("OTEL_SERVICE_NAME", options->service, 1);
    return mark_environment(mark);
}

/* ---- the program ------------------------------------------------------------------------------------------------------------- */

/* 0, or the exit status of a program that cannot be started. What cannot be watched is said and started all the same. */
static int check_program(const char *name)
{
    static struct report report;
    inspect_program(name, &report.program);
    const struct inspection *in = &report.program;
    if (in->error != 0 || in->not_executable) {
        int error = in->error != 0 ? in->error : EACCES;
        fprintf(stderr, "otshim run: %s: %s\n", name, in->broken[0] != 0 ? in->broken : strerror(error));
        return error == ENOENT || error == ENOTDIR ? EXIT_NOT_FOUND : EXIT_CANNOT_EXECUTE;
    }
    doctor_program(&report);
    if (report_verdict(&report) != FINDING_BAD)
        return 0;
    for (int i = 0; i < report.count; i++)
        if (report.findings[i].level == FINDING_BAD)
            fprintf(stderr, "otshim: %s cannot be watched: %s\n", name, report.findings[i].text);
    return 0;
}

/* The pid, or -errno of what kept it from starting. */
static pid_t start_program(const struct options *options, const char *library, const char *socket_path, const char *mark,
                           const struct inherited *inherited)
{
    int ends[2], error = 0;
    if (pipe2(ends, O_CLOEXEC) != 0)
        return -errno;
    pid_t pid = fork();
    if (pid == 0) {
        if (!set_environment(options, library, socket_path, mark))
            _exit(EXIT_FAILED);
        signal(SIGCHLD, inherited->on_child);
        sigprocmask(SIG_SETMASK, &inherited->mask, NULL);
        execvp(options->program[0], options->program);
        error = errno;
        if (write(ends[1], &error, sizeof(error)) < 0)
            _exit(EXIT_FAILED);
        _exit(EXIT_CANNOT_EXECUTE);
    }
    error = pid < 0 ? errno : 0;
    close(ends[1]);
    /* End of file: exec has closed it. */
    if (pid > 0 && read(ends[0], &error, sizeof(error)) == (ssize_t)sizeof(error))
        waitpid(pid, NULL, 0);
    close(ends[0]);
    return error != 0 ? -error : pid;
}

static int64_t now_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* Until the program ends: its wait status. */
static int attend(pid_t program, const sigset_t *set, struct run_show *show)
{
    int status;
    int64_t next_poll = now_ms() + POLL_MS;
    while (true) {
        siginfo_t info;
        int64_t left = next_poll - now_ms();
        struct timespec wait = {.tv_nsec = left > 0 ? (left < 999 ? left : 999) * 1000000 : 0};
        int number = sigtimedwait(set, &info, &wait);
        if (number > 0 && number != SIGCHLD && info.si_code <= 0)
            kill(program, number);
        if (waitpid(program, &status, WNOHANG) == program)
            return status;
        if (now_ms() < next_poll)
            continue;
        if (show != NULL)
            run_show_poll(show, false);
        next_poll = now_ms() + POLL_MS;
    }
}

/* The program has ended; its last spans are on their way. A signal ends the wait. */
static void wait_for_last_traces(struct run_show *show, const sigset_t *set)
{
    int64_t start = now_ms();
    struct timespec step = {.tv_nsec = 60000000};
    while (now_ms() - start < LAST_TRACES_MAX_MS) {
        run_show_poll(show, false);
        if (now_ms() - start >= LAST_TRACES_MIN_MS && run_show_pending(show) == 0)
            break;
        int number = sigtimedwait(set, NULL, &step);
        if (number == SIGINT || number == SIGTERM || number == SIGHUP)
            break;
    }
    run_show_poll(show, true);
}

/* As the program ended, so do we: a shell that sees us die of SIGINT stops its loop as it would have for the program. */
static int end_like(int status, const sigset_t *mask)
{
    if (!WIFSIGNALED(status))
        return WEXITSTATUS(status);
    int number = WTERMSIG(status);
    /* The program's core is the one that matters. */
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    signal(number, SIG_DFL);
    sigset_t one;
    sigemptyset(&one);
    sigaddset(&one, number);
    sigprocmask(SIG_SETMASK, mask, NULL);
    raise(number);
    sigprocmask(SIG_UNBLOCK, &one, NULL);
    return 128 + number;
}

static int run(const struct options *options)
{
    char library[PATH_MAX];
    struct run_exporter exporter;
    struct run_show *show = NULL;
    struct inherited inherited;
    sigset_t set;
    char mark[32];

    make_mark(mark, sizeof(mark));
    int status = check_program(options->program[0]);
    if (status != 0)
        return status;
    if (!find_library(library))
        return EXIT_FAILED;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    for (size_t i = 0; i < sizeof(forwarded) / sizeof(forwarded[0]); i++)
        sigaddset(&set, forwarded[i]);
    /* An ignored SIGCHLD, inherited, would make the kernel reap the program before we can ask how it ended. */
    inherited.on_child = signal(SIGCHLD, SIG_DFL);
    sigprocmask(SIG_BLOCK, &set, &inherited.mask);
    status = run_exporter_find(&exporter, &inherited.mask);
    if (status != EXIT_OK)
        return status;
    if (exporter.can_ask && !options->quiet)
        show = run_show_start(&exporter.client, mark, options->json);
    if (exporter.pid != 0 && exporter.can_ask && !options->quiet)
        fprintf(stderr, "otshim: tracing %s (all recent traces: otshim traces, or http://%s)\n", options->program[0],
                exporter.client.address);

    pid_t program = start_program(options, library, exporter.socket, mark, &inherited);
    int wait_status = 0;
    if (program > 0) {
        wait_status = attend(program, &set, show);
        if (show != NULL)
            wait_for_last_traces(show, &set);
        if (show != NULL && run_show_count(show) == 0 && !options->json)
            fprintf(stderr, "otshim: no trace was seen (otshim doctor %s says what can be watched)\n", options->program[0]);
    } else {
        fprintf(stderr, "otshim run: %s: %s\n", options->program[0], strerror(-program));
    }
    run_show_stop(show);
    run_exporter_stop(&exporter);
    if (program < 0)
        return program == -ENOENT || program == -ENOTDIR ? EXIT_NOT_FOUND : EXIT_CANNOT_EXECUTE;
    return end_like(wait_status, &inherited.mask);
}

int cli_run(int argc, char **argv)
{
    static const struct option table[] = {{"service", required_argument, NULL, 's'},
                                          {"quiet", no_argument, NULL, 'q'},
                                          {"json", no_argument, NULL, 'j'},
                                          {"help", no_argument, NULL, 'h'},
                                          {0}};
    struct options options = {0};
    int option;
    while ((option = getopt_long(argc, argv, "+s:qh", table, NULL)) >= 0) {
        switch (option) {
        case 's': options.service = optarg; break;
        case 'q': options.quiet = true; break;
        case 'j': options.json = true; break;
        case 'h': usage(stdout); return EXIT_OK;
        default: fputs("otshim run --help explains the options\n", stderr); return EXIT_USAGE;
        }
    }
    if (optind >= argc) {
        usage(stderr);
        return EXIT_USAGE;
    }
    options.program = argv + optind;
    return run(&options);
}
