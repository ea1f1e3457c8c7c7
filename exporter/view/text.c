/* text.c - text from programs and networks, made fit for a terminal: see text.h.
 *
 * Widths are counted here and not by wcwidth(3), whose answer depends on the locale of whoever started us; a table of the wide and
 * the combining blocks is enough for columns that line up. */
#include "view/text.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

struct range {
    uint32_t first, last;
};

/* Drawn as nothing, or able to reorder, join or hide what stands around them: never let through. */
static const struct range unsafe[] = {
    {0x00, 0x1f},     {0x7f, 0x9f},       {0xad, 0xad},        {0x61c, 0x61c},   {0x115f, 0x1160},   {0x17b4, 0x17b5},
    {0x180b, 0x180f}, {0x200b, 0x200f},   {0x2028, 0x202e},    {0x2060, 0x206f}, {0x3164, 0x3164},   {0xd800, 0xdfff},
    {0xfeff, 0xfeff}, {0xffa0, 0xffa0},   {0xfff0, 0xfffb},    {0xfffe, 0xffff}, {0x1bca0, 0x1bca3}, {0x1d173, 0x1d17a},
    {0xe000, 0xf8ff}, {0xe0000, 0xe0fff}, {0xf0000, 0x10ffff},
};

static const struct range combining[] = {
    {0x300, 0x36f},   {0x483, 0x489},   {0x591, 0x5bd},   {0x610, 0x61a},   {0x64b, 0x65f},   {0x6d6, 0x6dc},   {0x93a, 0x93c},
    {0x941, 0x948},   {0x94d, 0x94d},   {0xe31, 0xe31},   {0xe34, 0xe3a},   {0xe47, 0xe4e},   {0x1ab0, 0x1aff}, {0x1dc0, 0x1dff},
    {0x20d0, 0x20ff}, {0x302a, 0x302f}, {0x3099, 0x309a}, {0xfe00, 0xfe0f}, {0xfe20, 0xfe2f},
};

static const struct range wide[] = {
    {0x1100, 0x115e},   {0x231a, 0x231b},   {0x23e9, 0x23ec},   {0x2e80, 0x303e},   {0x3041, 0x33ff},
    {0x3400, 0x4dbf},   {0x4e00, 0xa4cf},   {0xa960, 0xa97f},   {0xac00, 0xd7a3},   {0xf900, 0xfaff},
    {0xfe30, 0xfe6f},   {0xff01, 0xff60},   {0xffe0, 0xffe6},   {0x16fe0, 0x18aff}, {0x1b000, 0x1b2ff},
    {0x1f300, 0x1f64f}, {0x1f680, 0x1f6ff}, {0x1f900, 0x1faff}, {0x20000, 0x3fffd},
};

static bool in_ranges(const struct range *ranges, size_t count, uint32_t code)
{
    for (size_t i = 0; i < count; i++)
        if (code >= ranges[i].first && code <= ranges[i].last)
            return true;
    return false;
}

/* One character at text: its bytes (1..4), or 0 where the bytes are no UTF-8 (RFC 3629: shortest form, no surrogates). */
static size_t decode(const unsigned char *text, uint32_t *code)
{
    unsigned char first = text[0];
    size_t len = first < 0x80                    ? 1
                 : first >= 0xc2 && first < 0xe0 ? 2
                 : first >= 0xe0 && first < 0xf0 ? 3
                 : first >= 0xf0 && first < 0xf5 ? 4
                                                 : 0;
    if (len == 0)
        return 0;
    if (len == 1) {
        *code = first;
        return 1;
    }
    uint32_t value = first & (0x7fu >> len);
    for (size_t i = 1; i < len; i++) {
        if ((text[i] & 0xc0) != 0x80)
            return 0;
        value = value << 6 | (text[i] & 0x3fu);
    }
    static const uint32_t shortest[] = {0, 0, 0x80, 0x800, 0x10000};
    if (value < shortest[len] || value > 0x10ffff || (value >= 0xd800 && value <= 0xdfff))
        return 0;
    *code = value;
    return len;
}

/* One character as it may be shown: piece (terminated), its columns, and how many bytes of text it stands for. */
static size_t piece_of(const char *text, bool utf8, char piece[16], size_t *columns)
{
    const unsigned char *bytes = (const unsigned char *)text;
    uint32_t code = 0;
    size_t len = decode(bytes, &code);
    if (len == 0) {
        *columns = (size_t)snprintf(piece, 16, "\\x%02x", bytes[0]);
        return 1;
    }
    if (code < 0x20 || code == 0x7f) {
        const char *known = code == '\n' ? "\\n" : code == '\t' ? "\\t" : code == '\r' ? "\\r" : NULL;
        *columns = (size_t)(known != NULL ? snprintf(piece, 16, "%s", known) : snprintf(piece, 16, "\\x%02x", code));
        return len;
    }
    if ((len > 1 && !utf8) || in_ranges(unsafe, ARRAY_LEN(unsafe), code)) {
        *columns = (size_t)snprintf(piece, 16, "\\u{%x}", code);
        return len;
    }
    memcpy(piece, text, len);
    piece[len] = 0;
    *columns = len == 1 ? 1 : in_ranges(combining, ARRAY_LEN(combining), code) ? 0 : in_ranges(wide, ARRAY_LEN(wide), code) ? 2 : 1;
    return len;
}

size_t text_clean(char *out, size_t out_size, const char *text, size_t columns, bool utf8)
{
    const char *ellipsis = utf8 ? "\xe2\x80\xa6" : "~"; /* … */
    size_t ellipsis_len = strlen(ellipsis), used = 0, width = 0;
    /* Where the text could still be cut so that the ellipsis fits. */
    size_t cut = 0, cut_width = 0;
    unsigned stacked = 0;
    bool whole = true;

    if (out_size == 0)
        return 0;
    out[0] = 0;
    if (columns == 0 || out_size < ellipsis_len + 1)
        return 0;
    while (*text != 0) {
        char piece[16];
        size_t piece_columns, taken = piece_of(text, utf8, piece, &piece_columns), len = strlen(piece);
        /* A character under a tower of accents would write over its neighbours' lines. */
        stacked = piece_columns == 0 ? stacked + 1 : 0;
        text += taken;
        if (stacked > 2)
            continue;
        if (width + piece_columns > columns || used + len + 1 > out_size) {
            whole = false;
            break;
        }
        memcpy(out + used, piece, len);
        used += len;
        width += piece_columns;
        if (width + 1 <= columns && used + ellipsis_len + 1 <= out_size) {
            cut = used;
            cut_width = width;
        }
    }
    if (!whole) {
        memcpy(out + cut, ellipsis, ellipsis_len);
        used = cut + ellipsis_len;
        width = cut_width + 1;
    }
    out[used] = 0;
    return width;
}

void text_duration(char *out, size_t out_size, uint64_t ns, bool utf8)
{
    static const char *const units[] = {"ns", "us", "ms", "s"};
    double value = (double)ns;
    size_t unit = 0;
    if (ns >= 3600000000000ull) {
        uint64_t minutes = ns / 60000000000ull;
        snprintf(out, out_size, "%llu h %llu min", (unsigned long long)(minutes / 60), (unsigned long long)(minutes % 60));
        return;
    }
    if (ns >= 60000000000ull) {
        uint64_t seconds = ns / 1000000000ull;
        snprintf(out, out_size, "%llu min %llu s", (unsigned long long)(seconds / 60), (unsigned long long)(seconds % 60));
        return;
    }
    /* 999.5 would be printed as 1000: the next unit begins there. */
    while (unit < 3 && value >= 999.5) {
        value /= 1000;
        unit++;
    }
    const char *name = unit == 1 && utf8 ? "\xc2\xb5s" : units[unit];
    int decimals = unit == 0 || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
    snprintf(out, out_size, "%.*f %s", decimals, value, name);
}

int text_parse_duration(const char *text, uint64_t *ns)
{
    static const struct {
        const char *unit;
        double ns;
    } units[] = {{"", 1e6}, {"ns", 1}, {"us", 1e3}, {"ms", 1e6}, {"s", 1e9}, {"m", 60e9}, {"min", 60e9}, {"h", 3600e9}};
    char *end;
    if (!isdigit((unsigned char)text[0]) && text[0] != '.')
        return -EINVAL;
    double value = strtod(text, &end);
    while (*end == ' ')
        end++;
    for (size_t i = 0; i < ARRAY_LEN(units); i++) {
        if (strcmp(end, units[i].unit) != 0)
            continue;
        value *= units[i].ns;
        if (!isfinite(value) || value < 0 || value > 9e18)
            return -EINVAL;
        *ns = (uint64_t)value;
        return 0;
    }
    return -EINVAL;
}

void text_bytes(char *out, size_t out_size, uint64_t bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double value = (double)bytes;
    size_t unit = 0;
    while (unit + 1 < ARRAY_LEN(units) && value >= 1023.5) {
        value /= 1024;
        unit++;
    }
    snprintf(out, out_size, "%.*f %s", unit == 0 || value >= 99.95 ? 0 : 1, value, units[unit]);
}

/* POSIX: LC_ALL, then LC_CTYPE, then LANG, the first that is not empty. */
static bool locale_is_utf8(void)
{
    static const char *const names[] = {"LC_ALL", "LC_CTYPE", "LANG"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        const char *value = getenv(names[i]);
        if (value != NULL && value[0] != 0)
            return strcasestr(value, "utf-8") != NULL || strcasestr(value, "utf8") != NULL;
    }
    return false;
}

struct terminal terminal_of(int fd)
{
    struct terminal terminal = {.is_tty = isatty(fd) == 1, .utf8 = locale_is_utf8(), .width = 100};
    const char *no_color = getenv("NO_COLOR"), *term = getenv("TERM"), *columns = getenv("COLUMNS");
    struct winsize size;

    terminal.color = terminal.is_tty && (no_color == NULL || no_color[0] == 0) && (term == NULL || strcmp(term, "dumb") != 0);
    if (terminal.is_tty && ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
        terminal.width = size.ws_col;
    else if (columns != NULL && atoi(columns) > 0)
        terminal.width = (size_t)atoi(columns);
    if (terminal.width < 40)
        terminal.width = 40;
    if (terminal.width > 500)
        terminal.width = 500;
    return terminal;
}
