/* resource.c - see resource.h.
 *
 * What the user says (OTEL_RESOURCE_ATTRIBUTES) goes over what was found out, except for who made the telemetry. */
#include "trace/resource.h"
#include "log.h"
#include "trace/container.h"
#include "trace/draft.h"
#include "trace/uuid.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* semantic-conventions, service.instance.id: the namespace for UUIDs made of other facts. */
static const uint8_t instance_namespace[16] = {0x4d, 0x63, 0x00, 0x9a, 0x8d, 0x0f, 0x11, 0xee,
                                               0xaa, 0xd7, 0x4c, 0x79, 0x6e, 0xd8, 0xe3, 0x20};

static bool given(const char *text)
{
    return text != NULL && *text != '\0';
}

static const char *text_of(struct draft *draft, const char *text)
{
    return text != NULL ? draft_text(draft, text, strlen(text)) : "";
}

/* ---- OTEL_RESOURCE_ATTRIBUTES ----------------------------------------------------------------------------------------------------- */

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Percent-decoded and without the blanks around, in the draft; NULL: not well-formed. */
static const char *decoded(struct draft *draft, const char *from, const char *end)
{
    char out[4096];
    size_t len = 0;
    while (from < end && (*from == ' ' || *from == '\t'))
        from++;
    while (from < end && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    for (; from < end && len < sizeof out; from++) {
        if (*from != '%') {
            out[len++] = *from;
            continue;
        }
        int high = end - from > 2 ? hex_digit(from[1]) : -1, low = end - from > 2 ? hex_digit(from[2]) : -1;
        if (high < 0 || low < 0)
            return NULL;
        out[len++] = (char)(high << 4 | low);
        from += 2;
    }
    return draft_text(draft, out, len);
}

/* One "key=value" of the list; false: not well-formed. An empty item is nothing. */
static bool add_pair(struct draft *draft, const char *item, const char *end)
{
    if (strspn(item, " \t") >= (size_t)(end - item))
        return true;
    const char *equals = memchr(item, '=', (size_t)(end - item));
    const char *key = equals != NULL ? decoded(draft, item, equals) : NULL;
    const char *value = equals != NULL ? decoded(draft, equals + 1, end) : NULL;
    if (!given(key) || value == NULL)
        return false;
    if (strncmp(key, "telemetry.", strlen("telemetry.")) != 0)
        draft_set(draft, key, value);
    return true;
}

/* The specification: an error anywhere, and the whole value is discarded and the error reported. */
static void add_environment(struct draft *draft, const struct resource_input *in)
{
    struct attribute before[DRAFT_ATTRIBUTES];
    size_t count = draft->attribute_count;
    memcpy(before, draft->attributes, count * sizeof before[0]);
    for (const char *at = in->resource_attributes; given(at);) {
        const char *comma = strchrnul(at, ',');
        if (!add_pair(draft, at, comma)) {
            memcpy(draft->attributes, before, count * sizeof before[0]);
            draft->attribute_count = count;
            log_line(LOG_LEVEL_INFO,
                     "OTEL_RESOURCE_ATTRIBUTES of pid %d is ignored: not key=value,key=value with %%XX for special characters",
                     (int)in->pid);
            return;
        }
        at = *comma == ',' ? comma + 1 : comma;
    }
}

/* ---- what was found out ------------------------------------------------------------------------------------------------------------- */

/* Field 4 of /proc/PID/stat, counted from the last ')' (the command before it may hold anything). */
static int64_t parent_of(pid_t pid)
{
    char path[64], line[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *stat = pid > 0 ? fopen(path, "re") : NULL;
    char *after = stat != NULL && fgets(line, sizeof line, stat) != NULL ? strrchr(line, ')') : NULL;
    int parent = 0;
    if (stat != NULL)
        fclose(stat);
    return after != NULL && sscanf(after + 1, " %*c %d", &parent) == 1 ? parent : 0;
}

static void add_process(struct draft *draft, const struct resource_input *in)
{
    int64_t pid = in->peer_pid != 0 ? (int64_t)in->peer_pid : in->pid;
    if (pid != 0)
        draft_integer(draft, "process.pid", pid);
    int64_t parent = pid == in->pid ? parent_of(in->pid) : 0; /* in a pid namespace of its own, our number would name another one */
    if (parent != 0)
        draft_integer(draft, "process.parent_pid", parent);
    if (!given(in->executable))
        return;
    const char *slash = strrchr(in->executable, '/');
    draft_string(draft, "process.executable.name", text_of(draft, slash != NULL ? slash + 1 : in->executable));
    draft_string(draft, "process.executable.path", text_of(draft, in->executable));
}

static void add_telemetry(struct draft *draft, const struct resource_input *in)
{
    const char *version = text_of(draft, given(in->library_version) ? in->library_version : OTSHIM_VERSION);
    draft_string(draft, "telemetry.sdk.name", "otshim");
    draft_string(draft, "telemetry.sdk.language",
                 "c"); /* none of the well-known values: it is the library's own, not the program's */
    draft_string(draft, "telemetry.sdk.version", version);
    draft_string(draft, "telemetry.distro.name", "otshim");
    draft_string(draft, "telemetry.distro.version", version);
}

/* The same pid with the same start time comes again after a reboot only. */
static void boot_id(char out[64])
{
    FILE *file = fopen("/proc/sys/kernel/random/boot_id", "re");
    if (file == NULL || fgets(out, 64, file) == NULL)
        out[0] = '\0';
    out[strcspn(out, "\n")] = '\0';
    if (file != NULL)
        fclose(file);
}

static void add_place(struct draft *draft, const struct resource_input *in)
{
    char host[256] = "", container[CONTAINER_ID_TEXT] = "", boot[64], name[640], uuid[UUID_TEXT];
    if (gethostname(host, sizeof host - 1) == 0)
        draft_string(draft, "host.name", text_of(draft, host));
    if (container_id(in->pid, container))
        draft_string(draft, "container.id", text_of(draft, container));
    boot_id(boot);
    int len =
        snprintf(name, sizeof name, "%s/%s/%s/%d/%u/%" PRIu64, host, boot, container, (int)in->pid, in->peer_pid, in->start_ticks);
    uuid_v5(instance_namespace, name, (size_t)len, uuid);
    draft_string(draft, "service.instance.id", text_of(draft, uuid));
}

/* ---- all together ------------------------------------------------------------------------------------------------------------------------ */

struct resource *resource_make(const struct resource_input *in)
{
    char name[256];
    struct draft *draft = malloc(sizeof *draft);
    if (draft == NULL)
        return NULL;
    draft_reset(draft);
    resource_program_name(in->executable, in->cmdline, in->cmdline_len, name, sizeof name);
    draft_string(draft, "service.name", text_of(draft, name));
    add_telemetry(draft, in);
    add_process(draft, in);
    add_place(draft, in);
    add_environment(draft, in);
    if (given(in->service_name))
        draft_set(draft, "service.name", text_of(draft, in->service_name));
    if (!given(draft_get(draft, "service.name"))) /* "service.name=" is no name */
        draft_set(draft, "service.name", text_of(draft, name));
    struct resource proto = {.service_name = draft_get(draft, "service.name"),
                             .pid = in->peer_pid != 0 ? (int64_t)in->peer_pid : in->pid};
    struct resource *resource = draft_resource(draft, &proto);
    free(draft);
    return resource;
}
