/* doctor_process.c - what the doctor finds about a running process, from /proc.
 *
 * A process has the library or it has not: it cannot be added later. So the question is not only what the program is, but why the
 * library is not in it, or, where it is, why no span arrives: which socket it would use, whether somebody listens there, and whether
 * that exporter knows it. Paths are looked at as the process sees them, under /proc/PID/root. */
#include "cli/doctor.h"

#include "cli/client.h"
#include "cli/probe.h"
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_MAX (4u << 20)

/* The whole of /proc/PID/name, terminated; NULL with errno. To be given to free(). */
static char *read_proc(pid_t pid, const char *name, size_t *len)
{
    char path[64], *text = NULL;
    size_t used = 0, size = 0;
    ssize_t n;
    snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return NULL;
    do {
        if (size - used < 4097) {
            char *grown = size < FILE_MAX ? realloc(text, size = size * 2 + 16384) : NULL;
            if (grown == NULL)
                break;
            text = grown;
        }
        n = read(fd, text + used, size - used - 1);
        used += n > 0 ? (size_t)n : 0;
    } while (n > 0);
    close(fd);
    if (text != NULL)
        text[used] = 0;
    *len = used;
    return text;
}

/* A value of an environment block, NULL if it is not there. */
static const char *environ_get(const char *block, size_t len, const char *name)
{
    size_t name_len = strlen(name);
    if (block == NULL)
        return NULL;
    for (size_t at = 0; at < len; at += strlen(block + at) + 1)
        if (strncmp(block + at, name, name_len) == 0 && block[at + name_len] == '=')
            return block + at + name_len + 1;
    return NULL;
}

static bool is_secure(pid_t pid)
{
    size_t len;
    char *bytes = read_proc(pid, "auxv", &len);
    bool secure = false;
    for (size_t at = 0; bytes != NULL && at + sizeof(Elf64_auxv_t) <= len; at += sizeof(Elf64_auxv_t)) {
        Elf64_auxv_t entry;
        memcpy(&entry, bytes + at, sizeof(entry));
        secure |= entry.a_type == AT_SECURE && entry.a_un.a_val != 0;
    }
    free(bytes);
    return secure;
}

struct subject {
    struct report *report;
    pid_t pid;
    char *environ;
    size_t environ_len;
    char *maps, *status;
    uid_t uid;
};

/* ---- the library ------------------------------------------------------------------------------------------------------------- */

/* The entry of LD_PRELOAD that names the library. */
static bool preload_entry(const char *preload, char *out, size_t out_size)
{
    while (preload != NULL && *preload != 0) {
        size_t len = strcspn(preload, " :");
        snprintf(out, out_size, "%.*s", (int)len, preload);
        if (strstr(out, "libotshim") != NULL)
            return true;
        preload += len + (preload[len] != 0);
    }
    return false;
}

/* LD_PRELOAD names the library and yet it is not there: why? */
static void why_not_loaded(struct subject *subject, const char *entry)
{
    struct report *report = subject->report;
    char path[PATH_MAX + 64];
    struct stat st;
    if (report_verdict(report) == FINDING_BAD)
        return; /* static, setuid, another architecture: said already */
    if (strchr(entry, '/') == NULL) {
        finding_remedy(report_add(report, FINDING_BAD, "not-loaded",
                                  "LD_PRELOAD=%.200s was not found by its loader: a name without a slash is "
                                  "looked for in the library directories alone",
                                  entry),
                       "write the whole path");
        return;
    }
    snprintf(path, sizeof(path), "/proc/%d/%s/%.4000s", (int)subject->pid, entry[0] == '/' ? "root" : "cwd", entry);
    if (stat(path, &st) != 0) {
        finding_remedy(report_add(report, FINDING_BAD, "not-loaded",
                                  "LD_PRELOAD names %.300s, which does not exist where the process sees it (%s)", entry,
                                  strerror(errno)),
                       "in a container: put the library into the image or mount it; the path has to be one inside the container");
        return;
    }
    report_add(report, FINDING_BAD, "not-loaded",
               "LD_PRELOAD names %.300s, and it is not loaded: the loader refused it (its message went to the program's standard "
               "error), or the variable was "
               "set after the program had started",
               entry);
}

/* True: the library is in the process. */
static bool look_for_library(struct subject *subject)
{
    struct report *report = subject->report;
    char entry[PATH_MAX];
    if (subject->maps == NULL) {
        report_add(report, FINDING_NOTE, "unknown", "its memory map may not be read: whether the library is loaded is not known");
        return false;
    }
    if (strstr(subject->maps, "libotshim") != NULL) {
        report_add(report, FINDING_GOOD, "loaded", "the library is loaded");
        return true;
    }
    if (preload_entry(environ_get(subject->environ, subject->environ_len, "LD_PRELOAD"), entry, sizeof(entry)))
        why_not_loaded(subject, entry);
    else
        finding_remedy(report_add(report, FINDING_BAD, "not-loaded",
                                  "the library is not loaded into this process, and cannot be added while it runs"),
                       "%s",
                       report_verdict(report) == FINDING_BAD && report->count > 1 && report->findings[0].level == FINDING_BAD
                           ? "see above"
                           : "start it again with LD_PRELOAD=/path/to/libotshim.so, or by: otshim run -- PROGRAM");
    return false;
}

static void look_at_switches(struct subject *subject)
{
    const char *disabled = environ_get(subject->environ, subject->environ_len, "OTEL_SDK_DISABLED");
    const char *sampler = environ_get(subject->environ, subject->environ_len, "OTEL_TRACES_SAMPLER");
    const char *exclude = environ_get(subject->environ, subject->environ_len, "OTSHIM_EXCLUDE");
    if (disabled != NULL && strcasecmp(disabled, "true") == 0)
        finding_remedy(
            report_add(subject->report, FINDING_BAD, "disabled", "OTEL_SDK_DISABLED=true in its environment turns the library off"),
            "start it without that");
    if (sampler != NULL && strstr(sampler, "always_off") != NULL)
        report_add(subject->report, FINDING_PARTLY, "sampler",
                   "OTEL_TRACES_SAMPLER=%.60s: only requests that somebody else sampled are kept", sampler);
    if (exclude != NULL && exclude[0] != 0)
        report_add(subject->report, FINDING_NOTE, "exclude",
                   "OTSHIM_EXCLUDE=%.200s in its environment: programs of these names are left alone", exclude);
    const char *seccomp = subject->status != NULL ? strstr(subject->status, "\nSeccomp:\t") : NULL;
    if (seccomp != NULL && seccomp[10] != '0')
        report_add(subject->report, FINDING_NOTE, "seccomp",
                   "it runs under a seccomp filter: if that forbids memfd_create, or connecting a Unix socket, no span leaves it");
}

/* ---- the exporter ------------------------------------------------------------------------------------------------------------ */

static const char *socket_answer(int error)
{
    switch (-error) {
    case ENOENT: return "does not exist";
    case ECONNREFUSED: return "is left over from an exporter that no longer runs";
    case EACCES: return "may not be opened by you";
    default: return strerror(-error);
    }
}

/* The places where the library looks, in its order. */
static void look_for_socket(struct subject *subject)
{
    char entry[PATH_MAX];
    /* Programs that write their title over it (nginx, PostgreSQL) leave nothing of the environment that they were started with. */
    if (!preload_entry(environ_get(subject->environ, subject->environ_len, "LD_PRELOAD"), entry, sizeof(entry))) {
        report_add(
            subject->report, FINDING_NOTE, "socket",
            "the environment that it was started with is gone or may not be read: which exporter's socket it uses is not known");
        return;
    }
    char places[3][PATH_MAX], path[PATH_MAX + 64];
    int count = 0, last = 0, error = -ENOENT;
    const char *set = environ_get(subject->environ, subject->environ_len, "OTSHIM_SOCKET");
    const char *runtime = environ_get(subject->environ, subject->environ_len, "XDG_RUNTIME_DIR");
    if (set != NULL && set[0] != 0) {
        snprintf(places[count++], PATH_MAX, "%s", set);
    } else {
        snprintf(places[count++], PATH_MAX, "/run/otshim/otshim.sock");
        if (runtime != NULL && runtime[0] != 0)
            snprintf(places[count++], PATH_MAX, "%s/otshim/otshim.sock", runtime);
        snprintf(places[count++], PATH_MAX, "/tmp/otshim-%u/otshim.sock", (unsigned)subject->uid);
    }
    for (int i = 0; i < count; i++) {
        snprintf(path, sizeof(path), "/proc/%d/root%.4000s", (int)subject->pid, places[i]);
        error = probe_socket(path);
        last = i;
        if (error == 0) {
            report_add(subject->report, FINDING_GOOD, "socket", "an exporter listens on the socket that it uses, %.300s",
                       places[i]);
            return;
        }
        if (error != -ENOENT || count == 1)
            break;
    }
    if (error == -ENOENT && count > 1)
        finding_remedy(
            report_add(subject->report, FINDING_PARTLY, "socket",
                       "there is no exporter in any of the places where it looks: its spans wait in its memory until one starts"),
            "otshim exporter; or set OTSHIM_SOCKET for both. In a container, the socket has to be mounted into it");
    else
        finding_remedy(report_add(subject->report, FINDING_PARTLY, "socket", "the exporter's socket that it uses, %.300s, %s",
                                  places[last], socket_answer(error)),
                       "otshim exporter, with the same OTSHIM_SOCKET");
}

/* What its library found out about the runtime in it. */
static void look_at_runtimes(struct subject *subject, const json_t *process)
{
    size_t index;
    json_t *runtime;
    json_array_foreach(json_object_get(process, "runtimes"), index, runtime)
    {
        const char *name = json_string_value(json_object_get(runtime, "name"));
        const char *version = json_string_value(json_object_get(runtime, "version"));
        const char *why = json_string_value(json_object_get(runtime, "whyNot"));
        name = name != NULL ? name : "a runtime";
        version = version != NULL ? version : "";
        if (json_is_true(json_object_get(runtime, "exact")))
            report_add(subject->report, FINDING_GOOD, "runtime-exact",
                       "%.24s %.40s: its own contexts are read, and say for whom each call is made", name, version);
        else
            finding_remedy(
                report_add(subject->report, FINDING_PARTLY, "runtime-not-exact",
                           "%.24s %.40s: its own contexts are not read (%.184s): calls made on threads that many requests share "
                           "become the roots of their own traces; those of a process or thread per request do not",
                           name, version, why != NULL ? why : "it did not say why"),
                "use a version or build that is known, or a newer otshim");
    }
}

/* Does the exporter that we can ask know it? Then it is connected, whatever its environment says. */
static bool look_in_exporter(struct subject *subject)
{
    struct client client;
    char why[512];
    long http_status;
    size_t index;
    json_t *process, *found = NULL;
    if (client_open(&client) != 0)
        return false;
    client.timeout_ms = 3000;
    json_t *status = client_get(&client, "/api/status", &http_status, why, sizeof(why));
    client_close(&client);
    if (status == NULL) {
        report_add(subject->report, FINDING_NOTE, "exporter", "%s: whether it knows the process could not be asked", why);
        return false;
    }
    json_array_foreach(json_object_get(status, "processes"), index, process)
    {
        if (json_integer_value(json_object_get(process, "pid")) == subject->pid)
            found = process;
    }
    if (found != NULL)
        look_at_runtimes(subject, found);
    if (found != NULL)
        report_add(subject->report, FINDING_GOOD, "known", "the exporter knows it as service \"%.100s\" and has %lld spans of it",
                   json_string_value(json_object_get(found, "service")) != NULL
                       ? json_string_value(json_object_get(found, "service"))
                       : "",
                   (long long)json_integer_value(json_object_get(found, "spans")));
    else
        report_add(subject->report, FINDING_NOTE, "not-known",
                   "the exporter has not heard of it yet: a process introduces itself with its first request or call");
    json_decref(status);
    return found != NULL;
}

int doctor_process(struct report *report, pid_t pid)
{
    char link[64];
    size_t len;
    struct stat st;
    struct subject subject = {.report = report, .pid = pid};

    snprintf(link, sizeof(link), "/proc/%d", (int)pid);
    if (stat(link, &st) != 0)
        return -ESRCH;
    subject.uid = st.st_uid;
    snprintf(link, sizeof(link), "/proc/%d/exe", (int)pid);
    char path[PATH_MAX];
    ssize_t path_len = readlink(link, path, sizeof(path) - 1);
    if (path_len < 0)
        return -errno;
    path[path_len] = 0;
    report->pid = pid;
    inspect_file(link, path, &report->program);
    /* The kernel has decided: what the file would give to others does not matter any more. */
    report->program.secure_for_us = is_secure(pid);
    report->program.secure_for_others = false;
    if (report->program.secure_for_us && report->program.secure_why == NULL)
        report->program.secure_why = "setuid";
    doctor_program(report);

    subject.environ = read_proc(pid, "environ", &subject.environ_len);
    subject.maps = read_proc(pid, "maps", &len);
    subject.status = read_proc(pid, "status", &len);
    if (look_for_library(&subject)) {
        look_at_switches(&subject);
        if (!look_in_exporter(&subject))
            look_for_socket(&subject);
    }
    free(subject.environ);
    free(subject.maps);
    free(subject.status);
    return 0;
}
