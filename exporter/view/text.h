/* text.h - text from programs and networks, made fit for a terminal.
 *
 * Everything that a traced program, its peers or an exporter say is untrusted: an escape sequence in a URL must not clear the
 * screen, retitle the window or answer a terminal query, and a right-to-left override must not reorder the line. */
#ifndef OTSHIM_EXPORTER_TEXT_H
#define OTSHIM_EXPORTER_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Copies text to out as what may go to a terminal, at most `columns` wide (SIZE_MAX: no limit), and terminates it. Control
 * characters, invalid UTF-8, invisible and direction-changing characters appear as \xNN or \u{NNNN}; without utf8 everything beyond
 * ASCII does. What does not fit ends in an ellipsis. Returns the columns used. */
size_t text_clean(char *out, size_t out_size, const char *text, size_t columns, bool utf8);

/* "840 ns", "12.4 µs", "3.08 ms", "1.24 s", "2 min 5 s", "3 h 12 min": three digits, the unit that fits. */
void text_duration(char *out, size_t out_size, uint64_t ns, bool utf8);

/* "100ms", "1.5s", "250us", "2m", "80" (milliseconds). 0 or -EINVAL. */
int text_parse_duration(const char *text, uint64_t *ns);

/* "1,234,567", "3.4 MiB". */
void text_bytes(char *out, size_t out_size, uint64_t bytes);

/* What may be done with the stream behind fd: colours only on a terminal and without NO_COLOR (no-color.org), lines drawn with
 * Unicode only where the locale is UTF-8, the width of the window, else COLUMNS, else 100. */
struct terminal {
    bool is_tty;
    bool color;
    bool utf8;
    size_t width;
};
struct terminal terminal_of(int fd);

#endif
