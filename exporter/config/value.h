/* value.h - environment variables one at a time: read, checked, and complained about in one line each. */
#ifndef OTSHIM_EXPORTER_CONFIG_VALUE_H
#define OTSHIM_EXPORTER_CONFIG_VALUE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct loading {
    FILE *complaints;
    int mistakes;
};

/* The variable's value; NULL when it is unset or empty, which OpenTelemetry wants treated alike. */
const char *value_get(const char *name);
/* OTEL_EXPORTER_OTLP_TRACES_<suffix>, else OTEL_EXPORTER_OTLP_<suffix>; *name is the one that was found. */
const char *value_otlp(const char *suffix, const char **name);

/* "NAME=value: <what is wrong; what to write>" */
void value_complain(struct loading *loading, const char *name, const char *value, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Plain decimal within [least, most]. Leaves *out alone when the variable is unset or wrong. unit: "milliseconds", ... */
void value_number(struct loading *loading, const char *name, const char *value, uint64_t least, uint64_t most, const char *unit,
                  uint64_t *out);
void value_bool(struct loading *loading, const char *name, const char *value, bool *out);
/* A file that can be read now; *out is a copy of its name. */
void value_file(struct loading *loading, const char *name, const char *value, char **out);
/* A copy; memory that is short is a mistake too. */
char *value_copy(struct loading *loading, const char *text);

#endif
