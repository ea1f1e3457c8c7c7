/* doctor.c - `otshim doctor`: whether and how far a program can be watched, and why not.
 *
 * A finding is a fact, what follows from it, and what to do about it. The heaviest one is the verdict. */
#include "cli/doctor.h"

#include "cli/cli.h"
#include "cli/client.h"
#include "view/text.h"
#include <ctype.h>
#include <errno.h>
#include <fnmatch.h>
#include <getopt.h>
#include <jansson.h>
#include <limits.h>
#include <otshim/exclude.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- reports ----------------------------------------------------------------------------------------------------------------- */

enum finding_level report_verdict(const struct report *report)
{
    enum finding_level verdict = FINDING_GOOD;
    for (int i = 0; i < report->count; i++)
        if (report->findings[i].level > verdict)
            verdict = report->findings[i].level;
    return verdict;
}

struct finding *report_add(struct report *report, enum finding_level level, const char *code, const char *format, ...)
{
    va_list arguments;
    struct finding *finding = &report->findings[report->count < FINDINGS_MAX ? report->count++ : FINDINGS_MAX - 1];
    *finding = (struct finding){.level = level, .code = code};
    va_start(arguments, format);
    vsnprintf(finding->text, sizeof(finding->text), format, arguments);
    va_end(arguments);
    return finding;
}

void finding_remedy(struct finding *finding, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(finding->remedy, sizeof(finding->remedy), format, arguments);
    va_end(arguments);
}

/* ---- a program --------------------------------------------------------------------------------------------------------------- */

/* True: there is nothing more to say. */
static bool no_program(struct report *report)
{
    const struct inspection *in = &report->program;
    if (in->broken[0] != 0)
        report_add(report, FINDING_BAD, "interpreter", "%.300s is a script and %.400s", in->script, in->broken);
    else if (in->error == ENOENT || in->error == ENOTDIR)
        report_add(report, FINDING_BAD, "not-found", "there is no %.300s%s", in->path,
                   strchr(in->path, '/') == NULL ? " in any directory of PATH" : "");
    else if (in->error != 0)
        report_add(report, FINDING_BAD, "unreadable", "%.300s cannot be read: %s", in->path, strerror(in->error));
    else if (in->not_executable)
        finding_remedy(report_add(report, FINDING_BAD, "not-executable", "%.300s may not be executed", in->path),
                       "chmod +x, or name a program");
    else
        return false;
    return true;
}

static void privileges(struct report *report)
{
    const struct inspection *in = &report->program;
    bool file = in->secure_why != NULL && in->secure_why[0] == 'f';
    const char *code = file ? "capabilities" : in->secure_why;
    if (in->secure_for_us)
        finding_remedy(
            report_add(report, FINDING_BAD, code,
                       "it %s %s: the loader ignores LD_PRELOAD in programs that gain privileges by being started",
                       file ? "has" : "is", in->secure_why),
            "start a copy without that, or give it the privileges by other means (systemd: AmbientCapabilities=, User=)");
    else if (in->secure_for_others)
        report_add(
            report, FINDING_PARTLY, code,
            "it %s %s: started by you it gains nothing and can be watched; started by other users, the loader ignores LD_PRELOAD",
            file ? "has" : "is", in->secure_why);
}

/* Above a shared OpenSSL or GnuTLS the library reads what is inside; where other TLS is and that it stays closed is said, not silently missed. */
static void tls(struct report *report)
{
    const struct inspection *in = &report->program;
    if (strncmp(in->tls_needed, "libssl.so.", 10) == 0)
        report_add(report, FINDING_GOOD, "tls-openssl", "it is linked with %s: what is inside TLS is read above it",
                   in->tls_needed);
    else if (strncmp(in->tls_needed, "libgnutls.so.", 13) == 0)
        report_add(report, FINDING_GOOD, "tls-gnutls", "it is linked with %s: what is inside TLS is read above it", in->tls_needed);
    else if (in->tls_needed[0] != 0)
        report_add(report, FINDING_NOTE, "tls-shared",
                   "it is linked with %s: what goes through TLS is not read (plain HTTP, connect and name resolution are)",
                   in->tls_needed);
    else if (in->tls_inside[0] != 0)
        report_add(report, FINDING_NOTE, "tls-static",
                   "%s is compiled into it: what goes through TLS is not read (plain HTTP, connect and name resolution are)",
                   in->tls_inside);
}

static void loader(struct report *report)
{
    const struct inspection *in = &report->program;
    if (in->is_go) {
        finding_remedy(report_add(report, FINDING_BAD, "go",
                                  "it is a Go program: Go makes its system calls itself and not through libc, so that its "
                                  "connections cannot be seen"),
                       "watch its callers and the services it calls, or instrument it with OpenTelemetry's Go SDK");
        return;
    }
    if (!in->has_loader) {
        finding_remedy(report_add(report, FINDING_BAD, "static",
                                  "it is statically linked: no dynamic loader starts it, so that LD_PRELOAD has no effect"),
                       "use a dynamically linked build of it");
        return;
    }
    switch (in->libc) {
    case LIBC_GLIBC: report_add(report, FINDING_GOOD, "libc", "dynamically linked, loader %.200s (glibc)", in->loader); break;
    case LIBC_MUSL: report_add(report, FINDING_GOOD, "libc", "dynamically linked, loader %.200s (musl)", in->loader); break;
    case LIBC_UNKNOWN:
        report_add(report, FINDING_PARTLY, "libc",
                   "its loader %.200s is neither glibc's nor musl's: whether it knows LD_PRELOAD is not known", in->loader);
        break;
    }
}

/* By the list that the library goes by, with the environment that we have. */
static void excluded(struct report *report)
{
    const char *set = getenv("OTSHIM_EXCLUDE"), *list = set != NULL ? set : OTSHIM_DEFAULT_EXCLUDE;
    char path[PATH_MAX], pattern[256];
    if (realpath(report->program.path, path) == NULL)
        return;
    const char *name = strrchr(path, '/') + 1;
    for (size_t len; *list != 0; list += len + (list[len] != 0)) {
        len = strcspn(list, ",: ");
        snprintf(pattern, sizeof(pattern), "%.*s", (int)len, list);
        if (len == 0 || fnmatch(pattern, name, 0) != 0)
            continue;
        finding_remedy(report_add(report, FINDING_PARTLY, "excluded",
                                  "the library does nothing in it: %.100s is %s; what it starts is watched", name,
                                  set != NULL ? "in OTSHIM_EXCLUDE" : "a shell or small tool, which are left out by default"),
                       "to watch it all the same set OTSHIM_EXCLUDE= (empty, or a list without it)");
        return;
    }
}

void doctor_program(struct report *report)
{
    const struct inspection *in = &report->program;
    if (no_program(report))
        return;
    if (in->script[0] != 0)
        report_add(report, FINDING_NOTE, "script", "%.300s is a script; what runs is its interpreter %.300s", in->script, in->path);
    if (!in->is_elf) {
        report_add(report, FINDING_PARTLY, "no-elf",
                   "%.300s is no ELF program: if a shell runs it as a script, the programs that it starts are watched", in->path);
        return;
    }
    if (in->other_machine) {
        finding_remedy(report_add(report, FINDING_BAD, "machine",
                                  "it is built for %s%s and the library for %s: the loader refuses to load it", in->machine,
                                  strcmp(in->machine, inspect_own_machine()) == 0 ? " with 32-bit pointers" : "",
                                  inspect_own_machine()),
                       "use a build of the program for %s", inspect_own_machine());
        return;
    }
    loader(report);
    privileges(report);
    excluded(report);
    tls(report);
    const struct runtime *runtime = inspect_runtime(in->path);
    const char *why_not = runtime != NULL ? inspect_python(in->path) : NULL;
    if (why_not != NULL)
        finding_remedy(
            report_add(report, FINDING_PARTLY, "runtime",
                       "it is %s, and %s: worker processes and threads are exact, calls made under asyncio, uvloop and gevent "
                       "become the roots of their own traces",
                       runtime->name, why_not),
            "use a version that is known, or a newer otshim");
    else if (runtime != NULL)
        report_add(report, runtime->partly ? FINDING_PARTLY : FINDING_NOTE, "runtime", "it is %s: %s", runtime->name,
                   runtime->words);
}

/* ---- the command ------------------------------------------------------------------------------------------------------------- */

static const char *const verdicts[] = {"yes", "yes", "partly", "no"};
static const char *const levels[] = {"good", "note", "partly", "bad"};

static void print_text(const struct report *report)
{
    struct terminal terminal = terminal_of(1);
    static const char *const colors[] = {"\x1b[32m", "", "\x1b[33m", "\x1b[31m"};
    static const char *const marks[] = {"+", "-", "~", "x"};
    char clean[2048];
    enum finding_level verdict = report_verdict(report);
    text_clean(clean, sizeof(clean), report->program.path, 200, terminal.utf8);
    if (report->pid != 0)
        printf("process %d, %s\n", (int)report->pid, clean);
    else
        printf("%s\n", clean);
    printf("watchable: %s%s%s\n", terminal.color ? colors[verdict == FINDING_NOTE ? FINDING_GOOD : verdict] : "", verdicts[verdict],
           terminal.color ? "\x1b[0m" : "");
    for (int level = FINDING_BAD; level >= FINDING_GOOD; level--)
        for (int i = 0; i < report->count; i++) {
            const struct finding *finding = &report->findings[i];
            if ((int)finding->level != level)
                continue;
            text_clean(clean, sizeof(clean), finding->text, SIZE_MAX, terminal.utf8);
            printf("  %s%s%s %s\n", terminal.color ? colors[level] : "", marks[level], terminal.color ? "\x1b[0m" : "", clean);
            text_clean(clean, sizeof(clean), finding->remedy, SIZE_MAX, terminal.utf8);
            if (clean[0] != 0)
                printf("    what helps: %s\n", clean);
        }
}

/* A path may be no UTF-8; JSON has to be. */
static json_t *json_text(const char *text)
{
    char clean[PATH_MAX + 512];
    text_clean(clean, sizeof(clean), text, SIZE_MAX, true);
    return json_string(clean);
}

static void print_json(const struct report *report)
{
    json_t *object = json_object(), *reasons = json_array();
    for (int i = 0; i < report->count; i++) {
        const struct finding *finding = &report->findings[i];
        json_t *reason = json_object();
        json_object_set_new(reason, "code", json_string(finding->code));
        json_object_set_new(reason, "level", json_string(levels[finding->level]));
        json_object_set_new(reason, "text", json_text(finding->text));
        json_object_set_new(reason, "remedy", json_text(finding->remedy));
        json_array_append_new(reasons, reason);
    }
    json_object_set_new(object, "target", json_text(report->target));
    json_object_set_new(object, "pid", report->pid != 0 ? json_integer(report->pid) : json_null());
    json_object_set_new(object, "path", json_text(report->program.path));
    json_object_set_new(object, "script", report->program.script[0] != 0 ? json_text(report->program.script) : json_null());
    json_object_set_new(object, "watchable", json_string(verdicts[report_verdict(report)]));
    json_object_set_new(object, "reasons", reasons);
    client_print_json(object, true);
    json_decref(object);
}

static void usage(FILE *out)
{
    fputs("usage: otshim doctor PROGRAM|PID [--json]\n\n"
          "Says whether and how far a program, or a running process, can be watched, why not, and what helps.\n"
          "Exit status: 0 it can (at least partly), 1 it cannot, 2 there is no such program or process.\n\n"
          "example: otshim doctor nginx\n",
          out);
}

/* A number names a process, unless there is a file of that name here. */
static bool is_pid(const char *target, pid_t *pid)
{
    char *end;
    long value = strtol(target, &end, 10);
    *pid = (pid_t)value;
    return isdigit((unsigned char)target[0]) && *end == 0 && value > 0 && value <= INT_MAX;
}

int cli_doctor(int argc, char **argv)
{
    static const struct option table[] = {{"json", no_argument, NULL, 'j'}, {"help", no_argument, NULL, 'h'}, {0}};
    static struct report report;
    bool as_json = false;
    pid_t pid;
    int option;
    while ((option = getopt_long(argc, argv, "+h", table, NULL)) >= 0) {
        switch (option) {
        case 'j': as_json = true; break;
        case 'h': usage(stdout); return EXIT_OK;
        default: fputs("otshim doctor --help explains the options\n", stderr); return EXIT_USAGE;
        }
    }
    /* "doctor PROGRAM --json" as well as "doctor --json PROGRAM"; what follows the program otherwise would be its arguments. */
    if (argc - optind == 2 && strcmp(argv[optind + 1], "--json") == 0)
        as_json = true;
    else if (argc - optind != 1) {
        usage(stderr);
        return EXIT_USAGE;
    }
    const char *target = argv[optind];
    snprintf(report.target, sizeof(report.target), "%s", target);
    if (is_pid(target, &pid)) {
        int error = doctor_process(&report, pid);
        if (error != 0) {
            fprintf(stderr, "otshim doctor: process %d %s\n", (int)pid,
                    error == -ENOENT || error == -ESRCH ? "does not exist" : "may not be looked at (it belongs to another user?)");
            return EXIT_USAGE;
        }
    } else {
        inspect_program(target, &report.program);
        doctor_program(&report);
    }
    if (as_json)
        print_json(&report);
    else
        print_text(&report);
    if (report.pid == 0 && (report.program.error != 0 || report.program.not_executable))
        return EXIT_USAGE;
    return report_verdict(&report) == FINDING_BAD ? EXIT_FAILED : EXIT_OK;
}
