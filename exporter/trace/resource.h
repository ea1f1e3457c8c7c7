/* resource.h - who made these spans: the OpenTelemetry resource of one traced process, from its hello and from /proc.
 *
 * service.name, the first that there is:
 *   1. OTEL_SERVICE_NAME
 *   2. service.name in OTEL_RESOURCE_ATTRIBUTES
 *   3. the program's name. A server that is given an application as MODULE:NAME (gunicorn, uvicorn, hypercorn, daphne, granian, waitress,
 *      uwsgi -w/--module) is "server:module" ("gunicorn:app"). An interpreter (python, ruby, node, php, perl, java, ...) is what it runs:
 *      the script's file name without its directory and its .py, .js, .rb, ... ("python3 src/main.py" -> "main"; "__main__.py" and
 *      "index.js" say nothing, so their directory's name), the module of "python -m http.server", the jar or class of java.
 *      Anything else is the file name of the executable ("nginx").
 *
 * service.instance.id (unless the user gave one) is a UUID version 5 over host name, container id, pid and start time: the same for one
 * process however often an exporter is restarted, another one for the next process. */
#ifndef OTSHIM_EXPORTER_RESOURCE_H
#define OTSHIM_EXPORTER_RESOURCE_H

#include "trace/model.h"
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Any pointer may be NULL, any number 0: unknown. Text is a claim of the peer: not necessarily UTF-8, any length. */
struct resource_input {
    pid_t pid;              /* in our pid namespace: what /proc is asked for */
    uint32_t peer_pid;      /* in the process's own: shown as process.pid (0: pid) */
    uint64_t start_ticks;   /* /proc/PID/stat field 22 */
    const char *executable; /* path of the executable */
    const char *cmdline;    /* argv, each followed by a NUL; cmdline_len bytes */
    size_t cmdline_len;
    const char *service_name;        /* OTEL_SERVICE_NAME */
    const char *resource_attributes; /* OTEL_RESOURCE_ATTRIBUTES, as in the environment: k=v,k=v, percent-encoded */
    const char *library_version;     /* of libotshim.so */
};

/* A new resource with one reference; NULL without memory. Reads /proc/PID (container id, parent) while the process lives. */
struct resource *resource_make(const struct resource_input *in);

/* Rule 3 above alone: writes the name, returns its length; never empty ("unknown_service" when nothing is known). */
size_t resource_program_name(const char *executable, const char *cmdline, size_t cmdline_len, char *out, size_t out_size);

#endif
