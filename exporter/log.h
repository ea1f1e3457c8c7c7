/* log.h - the exporter's log: one line an event, for a tired person; never one a span.
 *
 * A line is an RFC 3339 time in UTC, the level, and text in which control characters are replaced (some of it comes from traced
 * processes). Lines are written whole by one write(2). A reader of our standard error that stopped reading does not stop us: after a
 * short wait the line is given up and counted, and the next line that gets through says how many are missing. */
#ifndef OTSHIM_EXPORTER_LOG_H
#define OTSHIM_EXPORTER_LOG_H

#include <stdbool.h>
#include <stdint.h>

enum log_level { LOG_LEVEL_ERROR = 0, LOG_LEVEL_INFO = 1, LOG_LEVEL_DEBUG = 2 };

/* path NULL: stderr. 0 or -errno. */
int log_open(const char *path, enum log_level level);
void log_reopen(void); /* SIGHUP */
void log_line(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* For an event that may come thousands of times (a hostile peer, a full ring): at most one line every `every_s` seconds, which says how
 * many like it were left out since the last one. One static struct a kind of line: {.every_s = 10}. */
struct log_limit {
    unsigned every_s;
    uint64_t next_ns; /* CLOCK_MONOTONIC; 0: never written */
    uint64_t left_out;
};
void log_limited(struct log_limit *limit, enum log_level level, const char *format, ...) __attribute__((format(printf, 3, 4)));

#endif
