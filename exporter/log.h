/* log.h - the exporter's log: one line an event, for a tired person; never one a span. */
#ifndef OTSHIM_EXPORTER_LOG_H
#define OTSHIM_EXPORTER_LOG_H

#include <stdbool.h>

enum log_level { LOG_LEVEL_ERROR = 0, LOG_LEVEL_INFO = 1, LOG_LEVEL_DEBUG = 2 };

/* path NULL: stderr. 0 or -errno. */
int log_open(const char *path, enum log_level level);
void log_reopen(void); /* SIGHUP */
void log_line(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
