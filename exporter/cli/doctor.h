/* doctor.h - findings about a program or a process, and the verdict that follows from them. */
#ifndef OTSHIM_EXPORTER_DOCTOR_H
#define OTSHIM_EXPORTER_DOCTOR_H

#include "cli/inspect.h"
#include <stdbool.h>
#include <sys/types.h>

/* By weight: the heaviest finding is the verdict. */
enum finding_level { FINDING_GOOD, FINDING_NOTE, FINDING_PARTLY, FINDING_BAD };

struct finding {
    enum finding_level level;
    const char *code; /* for programs: "static", "go", "setuid", ... */
    char text[768];   /* for people */
    char remedy[512]; /* what to do about it, "" if nothing */
};

#define FINDINGS_MAX 24

struct report {
    char target[256]; /* as asked */
    pid_t pid;        /* 0: a program */
    struct inspection program;
    struct finding findings[FINDINGS_MAX];
    int count;
};

enum finding_level report_verdict(const struct report *report);
/* The finding has no remedy yet; it is returned for that. */
struct finding *report_add(struct report *report, enum finding_level level, const char *code, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
__attribute__((format(printf, 2, 3))) void finding_remedy(struct finding *finding, const char *format, ...);

/* What can be said of the file: program is what inspect_program or inspect_file found. Adds findings. */
void doctor_program(struct report *report);
/* What can be said of a running process (doctor_process.c). 0, or -errno: there is no such process, or it may not be looked at. */
int doctor_process(struct report *report, pid_t pid);

#endif
