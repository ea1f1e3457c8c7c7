/* config.c - see config.h. One function a group of variables; otlp.c has the group with rules of its own. */
#include "config/config.h"
#include "config/otlp.h"
#include "config/value.h"
#include "log.h"
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#define SOCKET_NAME "otshim/otshim.sock"

/* ---- the socket ---- */

enum { SOCKET_PLACES = 3 };

/* The default places, in the order in which the library and the commands look: "" where there is none. */
static void socket_places(char places[SOCKET_PLACES][sizeof(((struct sockaddr_un *)0)->sun_path)])
{
    size_t size = sizeof(places[0]);
    const char *runtime_dir = value_get("XDG_RUNTIME_DIR");
    snprintf(places[0], size, "/run/%s", SOCKET_NAME);
    places[1][0] = '\0';
    if (runtime_dir && runtime_dir[0] == '/' && (size_t)snprintf(places[1], size, "%s/%s", runtime_dir, SOCKET_NAME) >= size)
        places[1][0] = '\0';
    snprintf(places[2], size, "/tmp/otshim-%u/otshim.sock", (unsigned)geteuid());
}

static void load_socket(struct exporter_config *config, struct loading *loading, bool client)
{
    char places[SOCKET_PLACES][sizeof(((struct sockaddr_un *)0)->sun_path)];
    const char *value = value_get("OTSHIM_SOCKET");
    if (value) {
        if (value[0] != '/')
            value_complain(loading, "OTSHIM_SOCKET", value,
                           "not an absolute path; traced programs run in other directories: write one that begins with /");
        else if (strlen(value) >= sizeof(places[0]))
            value_complain(loading, "OTSHIM_SOCKET", value, "longer than the %zu bytes that a Unix socket's path may have",
                           sizeof(places[0]) - 1);
        else
            config->socket_path = value_copy(loading, value);
        return;
    }
    socket_places(places);
    const char *chosen = NULL;
    for (int i = 0; i < SOCKET_PLACES && client && !chosen; i++)
        if (places[i][0] && access(places[i], F_OK) == 0)
            chosen = places[i];
    /* Ours to make: /run where we may (root, or a directory made for us), else the user's own. */
    if (!chosen && (access("/run/otshim", F_OK) == 0 ? access("/run/otshim", W_OK) : access("/run", W_OK)) == 0)
        chosen = places[0];
    if (!chosen)
        chosen = places[1][0] && access(value_get("XDG_RUNTIME_DIR"), W_OK) == 0 ? places[1] : places[2];
    config->socket_path = value_copy(loading, chosen);
}

static void load_socket_mode(struct exporter_config *config, struct loading *loading)
{
    const char *value = value_get("OTSHIM_SOCKET_MODE");
    config->socket_mode = 0666;
    if (!value)
        return;
    size_t len = strlen(value);
    unsigned long mode = len <= 4 && strspn(value, "01234567") == len ? strtoul(value, NULL, 8) : 01000;
    if (mode > 0777)
        value_complain(loading, "OTSHIM_SOCKET_MODE", value, "not an octal file mode; write one like 0660");
    else
        config->socket_mode = (mode_t)mode;
}

/* ---- OTSHIM_HTTP ---- */

/* Splits "host:port", "[address]:port" or ":port" in place; false when it is none of them. */
static bool split_address(char *text, char **host, const char **port)
{
    char *colon;
    if (text[0] == '[') {
        colon = strstr(text, "]:");
        *host = text + 1;
        if (!colon)
            return false;
        *colon++ = '\0';
        *colon = '\0';
        *port = colon + 1;
        return **host != '\0';
    }
    colon = strchr(text, ':');
    if (!colon || strchr(colon + 1, ':'))
        return false;
    *colon = '\0';
    *host = text;
    *port = colon + 1;
    return true;
}

static void load_http(struct exporter_config *config, struct loading *loading)
{
    const char *value = value_get("OTSHIM_HTTP"), *port;
    char *copy = value_copy(loading, value ? value : "127.0.0.1:4320"), *host;
    if (!copy || strcmp(copy, "off") == 0) {
        free(copy);
        return;
    }
    size_t digits = 0;
    unsigned long number = 65536;
    if (split_address(copy, &host, &port)) {
        digits = strspn(port, "0123456789");
        if (digits && digits <= 5 && port[digits] == '\0')
            number = strtoul(port, NULL, 10);
    }
    if (number > 65535)
        value_complain(loading, "OTSHIM_HTTP", value,
                       "not an address; write host:port like 127.0.0.1:4320, [::1]:4320 or :4320, or off");
    else {
        config->http_host = value_copy(loading, host[0] ? host : "0.0.0.0");
        config->http_port = (uint16_t)number;
    }
    free(copy);
}

/* ---- the rest ---- */

static void load_batches(struct exporter_config *config, struct loading *loading)
{
    uint64_t queue = 65536, batch = 512;
    const char *batch_value = value_get("OTEL_BSP_MAX_EXPORT_BATCH_SIZE");
    config->schedule_delay_ms = 1000;
    config->retry_deadline_ms = 300000;
    value_number(loading, "OTEL_BSP_SCHEDULE_DELAY", value_get("OTEL_BSP_SCHEDULE_DELAY"), 0, 3600000, "milliseconds",
                 &config->schedule_delay_ms);
    value_number(loading, "OTEL_BSP_EXPORT_TIMEOUT", value_get("OTEL_BSP_EXPORT_TIMEOUT"), 0, 86400000,
                 "milliseconds (0: never give up)", &config->retry_deadline_ms);
    value_number(loading, "OTEL_BSP_MAX_QUEUE_SIZE", value_get("OTEL_BSP_MAX_QUEUE_SIZE"), 1, 10000000, "spans", &queue);
    value_number(loading, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", batch_value, 1, 100000, "spans", &batch);
    if (batch > queue && batch_value)
        value_complain(loading, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", batch_value,
                       "more than the queue holds; write at most OTEL_BSP_MAX_QUEUE_SIZE (%llu)", (unsigned long long)queue);
    config->max_queue_spans = queue;
    config->max_batch_spans = batch < queue ? batch : queue;
}

static void load_log(struct exporter_config *config, struct loading *loading)
{
    static const char *const levels[] = {[LOG_LEVEL_ERROR] = "error", [LOG_LEVEL_INFO] = "info", [LOG_LEVEL_DEBUG] = "debug"};
    const char *value = value_get("OTSHIM_LOG"), *file = value_get("OTSHIM_LOG_FILE");
    config->log_level = value ? -1 : LOG_LEVEL_INFO;
    for (int i = 0; value && i < (int)(sizeof(levels) / sizeof(levels[0])); i++)
        if (strcmp(value, levels[i]) == 0)
            config->log_level = i;
    if (config->log_level < 0) {
        value_complain(loading, "OTSHIM_LOG", value, "no such level; write error, info or debug");
        config->log_level = LOG_LEVEL_INFO;
    }
    if (file)
        config->log_file = value_copy(loading, file);
}

static void load_limits(struct exporter_config *config, struct loading *loading)
{
    uint64_t traces = 1000, processes = 4096;
    config->shutdown_ms = 5000;
    value_number(loading, "OTSHIM_TRACES", value_get("OTSHIM_TRACES"), 1, 1000000, "traces", &traces);
    value_number(loading, "OTSHIM_MAX_PROCESSES", value_get("OTSHIM_MAX_PROCESSES"), 1, 1000000, "processes", &processes);
    value_number(loading, "OTSHIM_SHUTDOWN_TIMEOUT", value_get("OTSHIM_SHUTDOWN_TIMEOUT"), 0, 3600000, "milliseconds",
                 &config->shutdown_ms);
    config->recent_traces = traces;
    config->max_processes_uid = processes;
}

int exporter_config_load(struct exporter_config *config, FILE *complaints)
{
    struct loading loading = {.complaints = complaints};
    memset(config, 0, sizeof(*config));
    config_otlp_load(config, &loading);
    load_batches(config, &loading);
    load_socket(config, &loading, false);
    load_socket_mode(config, &loading);
    load_http(config, &loading);
    load_limits(config, &loading);
    load_log(config, &loading);
    return loading.mistakes;
}

int exporter_config_load_client(struct exporter_config *config, FILE *complaints)
{
    struct loading loading = {.complaints = complaints};
    memset(config, 0, sizeof(*config));
    load_socket(config, &loading, true);
    load_http(config, &loading);
    return loading.mistakes;
}

void exporter_config_free(struct exporter_config *config)
{
    for (size_t i = 0; i < config->header_count; i++) {
        free(config->headers[i].name);
        free(config->headers[i].value);
    }
    free(config->headers);
    free(config->url);
    free(config->ca_file);
    free(config->client_cert);
    free(config->client_key);
    free(config->socket_path);
    free(config->http_host);
    free(config->log_file);
    memset(config, 0, sizeof(*config));
}
