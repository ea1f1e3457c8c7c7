/* value.c - see value.h. */
#include "config/value.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

const char *value_get(const char *name)
{
    const char *value = getenv(name);
    return value && value[0] ? value : NULL;
}

const char *value_otlp(const char *suffix, const char **name)
{
    /* The names are wanted for complaints after we return: one static place each is enough, a variable is dealt with before the next. */
    static char traces[64], all[64];
    snprintf(traces, sizeof(traces), "OTEL_EXPORTER_OTLP_TRACES_%s", suffix);
    snprintf(all, sizeof(all), "OTEL_EXPORTER_OTLP_%s", suffix);
    const char *value = value_get(traces);
    *name = value ? traces : all;
    return value ? value : value_get(all);
}

void value_complain(struct loading *loading, const char *name, const char *value, const char *format, ...)
{
    va_list args;
    loading->mistakes++;
    if (value)
        fprintf(loading->complaints, "%s=%s: ", name, value);
    else
        fprintf(loading->complaints, "%s: ", name);
    va_start(args, format);
    vfprintf(loading->complaints, format, args);
    va_end(args);
    fputc('\n', loading->complaints);
}

void value_number(struct loading *loading, const char *name, const char *value, uint64_t least, uint64_t most, const char *unit,
                  uint64_t *out)
{
    if (!value)
        return;
    size_t len = strlen(value);
    uint64_t number = len <= 18 && strspn(value, "0123456789") == len ? strtoull(value, NULL, 10) : UINT64_MAX;
    if (number < least || number > most) {
        value_complain(loading, name, value, "not a number of %s; write one from %" PRIu64 " to %" PRIu64, unit, least, most);
        return;
    }
    *out = number;
}

void value_bool(struct loading *loading, const char *name, const char *value, bool *out)
{
    if (!value)
        return;
    if (strcasecmp(value, "true") == 0)
        *out = true;
    else if (strcasecmp(value, "false") == 0)
        *out = false;
    else
        value_complain(loading, name, value, "neither true nor false; write one of them");
}

void value_file(struct loading *loading, const char *name, const char *value, char **out)
{
    struct stat st;
    if (!value)
        return;
    int fd = open(value, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) {
        value_complain(loading, name, value, "cannot read this file: %s; write the name of a PEM file", strerror(errno));
        return;
    }
    bool regular = fstat(fd, &st) == 0 && !S_ISDIR(st.st_mode);
    close(fd);
    if (!regular)
        value_complain(loading, name, value, "this is a directory; write the name of a PEM file");
    else
        *out = value_copy(loading, value);
}

char *value_copy(struct loading *loading, const char *text)
{
    char *copy = strdup(text);
    if (!copy)
        value_complain(loading, "memory", NULL, "none left for the configuration");
    return copy;
}
