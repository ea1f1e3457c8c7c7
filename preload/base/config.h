/* config.h - the environment, read once in the constructor (never later: getenv after main may race with setenv).
 *
 * Values are checked here; what is wrong falls back to the default and is said in one log record once there is a ring. */
#ifndef OTSHIM_CONFIG_H
#define OTSHIM_CONFIG_H

#include "context/context.h"
#include <stdbool.h>
#include <stdint.h>

struct config {
    bool disabled;       /* OTEL_SDK_DISABLED=true, or this executable matches OTSHIM_EXCLUDE */
    uint64_t ring_bytes; /* OTSHIM_BUFFER_SIZE: bytes, or with suffix k, M */
    char socket_path
        [108]; /* OTSHIM_SOCKET; else /run/otshim/otshim.sock, $XDG_RUNTIME_DIR/otshim/otshim.sock, /tmp/otshim-UID/otshim.sock: the first that exists, looked for at hand-over */
    bool socket_path_set;           /* OTSHIM_SOCKET was given: no other place is tried */
    struct sampler sampler;         /* OTEL_TRACES_SAMPLER, OTEL_TRACES_SAMPLER_ARG */
    bool propagate_w3c;             /* OTEL_PROPAGATORS has tracecontext (default) */
    uint64_t stack_threshold_ns;    /* OTSHIM_STACK_THRESHOLD: milliseconds, default 100; 0 all; UINT64_MAX: off */
    int log_level;                  /* OTSHIM_LOG: 0 off (default), 1 error, 2 info, 3 debug: to stderr, by write(2) */
    char service_name[256];         /* OTEL_SERVICE_NAME */
    char resource_attributes[4096]; /* OTEL_RESOURCE_ATTRIBUTES */
    char preload[512];              /* LD_PRELOAD as it was at start, for exec with an environment of its own */
    char xdg_runtime_dir[96];
};

extern struct config config;

/* Reads the environment (environ) into config. Returns config.disabled. Called by init.c. Complaints are kept and written by
 * config_complain() with the first records. */
bool config_load(char *const *envp, const char *exe_basename);

#endif
