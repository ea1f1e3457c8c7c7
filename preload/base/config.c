/* config.c - the environment, read once. See config.h.
 *
 * Runs in the constructor of every program that is started with the library, the ones that never touch a network included: one pass over
 * the environment, no system call, nothing allocated. A value that cannot be used falls back to its default, and a sentence about it waits
 * in span_log until there is a ring. */
#include "base/config.h"
#include "span/span.h"
#include <otshim/exclude.h>
#include <otshim/limits.h>
#include <string.h>

struct config config;

#define DEFAULT_STACK_MS 100u

/* ---- small text ------------------------------------------------------------------------------------------------------------------ */

/* '*' any run, '?' any one character. Iterative, at most one way back: linear in text times stars. */
static bool matches(const char *pattern, size_t pattern_len, const char *text)
{
    size_t p = 0, t = 0, star = SIZE_MAX, star_text = 0;
    while (text[t] != '\0') {
        if (p < pattern_len && pattern[p] == '*') {
            star = p++;
            star_text = t;
        } else if (p < pattern_len && (pattern[p] == '?' || pattern[p] == text[t])) {
            p++;
            t++;
        } else if (star != SIZE_MAX) {
            p = star + 1;
            t = ++star_text;
        } else {
            return false;
        }
    }
    while (p < pattern_len && pattern[p] == '*')
        p++;
    return p == pattern_len;
}

/* The next piece of a list separated by commas, colons or blanks. False at the end. */
static bool next_item(const char **list, const char **item, size_t *len)
{
    static const char separators[] = ",: \t";
    *list += strspn(*list, separators);
    *item = *list;
    *len = strcspn(*list, separators);
    *list += *len;
    return *len != 0;
}

static bool is_excluded(const char *list, const char *name)
{
    const char *item;
    size_t len;
    while (next_item(&list, &item, &len))
        if (matches(item, len, name))
            return true;
    return false;
}

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
}

static bool same_word(const char *a, size_t len, const char *b)
{
    for (size_t i = 0; i < len; i++)
        if (b[i] == '\0' || lower(a[i]) != lower(b[i]))
            return false;
    return b[len] == '\0';
}

/* Decimal digits; *rest is what follows. False: no digit, or more than fits. */
static bool digits(const char *text, uint64_t *value, const char **rest)
{
    const char *p = text;
    *value = 0;
    for (; *p >= '0' && *p <= '9'; p++) {
        if (*value > (UINT64_MAX - 9) / 10)
            return false;
        *value = *value * 10 + (uint64_t)(*p - '0');
    }
    *rest = p;
    return p != text;
}

/* Cut at the size, terminated. False: it was cut. */
static bool copy(char *to, size_t size, const char *from)
{
    const size_t len = strlen(from);
    const size_t n = len < size ? len : size - 1;
    memcpy(to, from, n);
    to[n] = '\0';
    return n == len;
}

/* "VARIABLE what is wrong with it", cut to fit. */
static void complain(const char *variable, const char *what)
{
    char text[200];
    const size_t name_len = strlen(variable);
    memcpy(text, variable, name_len);
    text[name_len] = ' ';
    copy(text + name_len + 1, sizeof(text) - name_len - 1, what);
    span_log(13, text);
}

/* ---- the variables --------------------------------------------------------------------------------------------------------------- */

enum variable {
    SDK_DISABLED,
    EXCLUDE,
    BUFFER_SIZE,
    SOCKET,
    SAMPLER,
    SAMPLER_ARG,
    PROPAGATORS,
    STACK_THRESHOLD,
    LOG,
    SERVICE_NAME,
    RESOURCE_ATTRIBUTES,
    PRELOAD,
    XDG_RUNTIME_DIR,
    VARIABLES
};

static const char *const names[VARIABLES] = {
    [SDK_DISABLED] = "OTEL_SDK_DISABLED",
    [EXCLUDE] = "OTSHIM_EXCLUDE",
    [BUFFER_SIZE] = "OTSHIM_BUFFER_SIZE",
    [SOCKET] = "OTSHIM_SOCKET",
    [SAMPLER] = "OTEL_TRACES_SAMPLER",
    [SAMPLER_ARG] = "OTEL_TRACES_SAMPLER_ARG",
    [PROPAGATORS] = "OTEL_PROPAGATORS",
    [STACK_THRESHOLD] = "OTSHIM_STACK_THRESHOLD",
    [LOG] = "OTSHIM_LOG",
    [SERVICE_NAME] = "OTEL_SERVICE_NAME",
    [RESOURCE_ATTRIBUTES] = "OTEL_RESOURCE_ATTRIBUTES",
    [PRELOAD] = "LD_PRELOAD",
    [XDG_RUNTIME_DIR] = "XDG_RUNTIME_DIR",
};

static void find_all(char *const *envp, const char *values[VARIABLES])
{
    for (; envp != NULL && *envp != NULL; envp++) {
        const char *entry = *envp;
        if (entry[0] != 'O' && entry[0] != 'L' && entry[0] != 'X')
            continue;
        for (int i = 0; i < VARIABLES; i++) {
            const size_t len = strlen(names[i]);
            if (values[i] == NULL && strncmp(entry, names[i], len) == 0 && entry[len] == '=')
                values[i] = entry + len + 1; /* the first of several, as getenv */
        }
    }
    /* OpenTelemetry: an empty value is the same as none. Only an empty OTSHIM_EXCLUDE says something. */
    for (int i = 0; i < VARIABLES; i++)
        if (i != EXCLUDE && values[i] != NULL && values[i][0] == '\0')
            values[i] = NULL;
}

static void read_buffer_size(const char *value)
{
    uint64_t bytes = OTSHIM_RING_DEFAULT_BYTES;
    const char *rest;
    config.ring_bytes = OTSHIM_RING_DEFAULT_BYTES;
    if (value == NULL)
        return;
    bool good = digits(value, &bytes, &rest);
    const unsigned shift = !good ? 0 : lower(*rest) == 'k' ? 10 : lower(*rest) == 'm' ? 20 : 0;
    good = good && rest[shift != 0] == '\0';
    if (!good) {
        complain(names[BUFFER_SIZE], "is no number of bytes (digits, then k or M if you like): the default of 4M is used");
        return;
    }
    if (bytes > (OTSHIM_RING_MAX_BYTES >> shift)) {
        complain(names[BUFFER_SIZE], "is above the limit: 256M is used");
        config.ring_bytes = OTSHIM_RING_MAX_BYTES;
        return;
    }
    bytes <<= shift;
    if (bytes < OTSHIM_RING_MIN_BYTES)
        complain(names[BUFFER_SIZE], "is below the limit: 64k is used");
    config.ring_bytes = OTSHIM_RING_MIN_BYTES;
    while (config.ring_bytes < bytes)
        config.ring_bytes <<= 1;
}

static void read_socket(const char *value)
{
    if (value == NULL)
        return;
    config.socket_path_set = true; /* also when it is too long: the user wants no other place */
    if (!copy(config.socket_path, sizeof(config.socket_path), value)) {
        config.socket_path[0] = '\0';
        complain(names[SOCKET], "is longer than a Unix socket's path can be (107 bytes): nothing is exported");
    }
}

static void read_sampler(const char *name, const char *arg)
{
    const char *why = NULL;
    if (sampler_parse(&config.sampler, name, arg, &why) != 0)
        complain(names[SAMPLER], why != NULL ? why : "is not understood: the default is used");
}

static void read_propagators(const char *value)
{
    const char *item;
    size_t len;
    config.propagate_w3c = value == NULL;
    while (value != NULL && next_item(&value, &item, &len)) {
        if (same_word(item, len, "tracecontext"))
            config.propagate_w3c = true;
        else if (!same_word(item, len, "baggage") && !same_word(item, len, "none"))
            complain(names[PROPAGATORS],
                     "names a propagator that is not known here; known are tracecontext, baggage (passed on as it is), none");
    }
}

static void read_stack_threshold(const char *value)
{
    uint64_t ms = DEFAULT_STACK_MS;
    const char *rest;
    if (value != NULL && same_word(value, strlen(value), "off")) {
        config.stack_threshold_ns = UINT64_MAX;
        return;
    }
    if (value != NULL && (!digits(value, &ms, &rest) || *rest != '\0' || ms > UINT32_MAX)) {
        complain(names[STACK_THRESHOLD], "is no number of milliseconds and not \"off\": the default of 100 is used");
        ms = DEFAULT_STACK_MS;
    }
    config.stack_threshold_ns = ms * 1000000u;
}

static void read_log_level(const char *value)
{
    static const char *const levels[] = {"off", "error", "info", "debug"};
    if (value == NULL)
        return;
    for (int i = 0; i < 4; i++)
        if (same_word(value, strlen(value), levels[i]) || (value[0] == '0' + i && value[1] == '\0'))
            config.log_level = i;
}

static void read_texts(const char *const *values)
{
    if (values[SERVICE_NAME] != NULL && !copy(config.service_name, sizeof(config.service_name), values[SERVICE_NAME]))
        complain(names[SERVICE_NAME], "is longer than 255 bytes: cut");
    if (values[RESOURCE_ATTRIBUTES] != NULL &&
        !copy(config.resource_attributes, sizeof(config.resource_attributes), values[RESOURCE_ATTRIBUTES])) {
        /* Half an attribute would be a wrong one: back to the last whole. */
        char *comma = strrchr(config.resource_attributes, ',');
        *(comma != NULL ? comma : config.resource_attributes) = '\0';
        complain(names[RESOURCE_ATTRIBUTES], "is longer than 4095 bytes: the last attributes are left out");
    }
    if (values[PRELOAD] != NULL && !copy(config.preload, sizeof(config.preload), values[PRELOAD])) {
        config.preload[0] = '\0'; /* half a path would be worse than none */
        complain(names[PRELOAD], "is longer than 511 bytes: programs started with an environment of their own are not traced");
    }
    if (values[XDG_RUNTIME_DIR] != NULL && !copy(config.xdg_runtime_dir, sizeof(config.xdg_runtime_dir), values[XDG_RUNTIME_DIR]))
        config.xdg_runtime_dir[0] = '\0';
}

bool config_load(char *const *envp, const char *exe_basename)
{
    const char *values[VARIABLES] = {NULL};
    find_all(envp, values);
    const char *disabled = values[SDK_DISABLED];
    const char *exclude = values[EXCLUDE] != NULL ? values[EXCLUDE] : OTSHIM_DEFAULT_EXCLUDE;
    config.disabled = (disabled != NULL && same_word(disabled, strlen(disabled), "true")) ||
                      (exe_basename != NULL && exe_basename[0] != '\0' && is_excluded(exclude, exe_basename));
    read_log_level(values[LOG]);
    read_texts(values); /* LD_PRELOAD also when disabled: what an excluded shell starts is not */
    if (config.disabled)
        return true;
    read_buffer_size(values[BUFFER_SIZE]);
    read_socket(values[SOCKET]);
    read_sampler(values[SAMPLER], values[SAMPLER_ARG]);
    read_propagators(values[PROPAGATORS]);
    read_stack_threshold(values[STACK_THRESHOLD]);
    return false;
}
