/* waterfall.c - a trace as a picture in the terminal: see waterfall.h.
 *
 * Two passes. The first lays the forest out as rows in the order they are shown, within bounds: a trace of ten thousand spans is shown
 * as its first few hundred and a count. The second writes a row at a time, in columns measured over the rows that are shown. */
#include "view/waterfall.h"

#include "view/title.h"
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define DEFAULT_ROWS 200
#define SIBLINGS_SHOWN 50 /* of one parent; the rest is counted */
#define SERVICE_COLUMNS 16
#define LINE_MAX_BYTES 4096

enum row_kind { ROW_SPAN, ROW_MORE, ROW_ORPHANS };

struct row {
    enum row_kind kind;
    int span;
    int depth;
    bool last; /* of its siblings */
    int hidden;
};

struct layout {
    const struct forest *forest;
    const struct waterfall_options *options;
    struct row *rows;
    int count, limit;
    int spans_shown;
    bool *open; /* by depth: a sibling of the ancestor at that depth follows below */
    size_t service_width, title_width, status_width, bar_width, duration_width;
};

/* ---- which rows -------------------------------------------------------------------------------------------------------------- */

static struct row *add_row(struct layout *layout, enum row_kind kind, int span, int depth, bool last)
{
    struct row *row = &layout->rows[layout->count++];
    *row = (struct row){.kind = kind, .span = span, .depth = depth, .last = last};
    layout->spans_shown += kind == ROW_SPAN;
    return row;
}

static int hidden_behind(const struct forest *forest, int span)
{
    int hidden = 0;
    for (; span >= 0; span = forest->spans[span].next_sibling)
        hidden += forest->spans[span].subtree;
    return hidden;
}

/* Walks the trees that begin at `first` in order, without recursion: down to the first child, else on to the next sibling, else up.
 * ordinals[depth] counts the siblings passed at each depth. */
static void lay_out(struct layout *layout, int first, int base_depth, int *ordinals)
{
    const struct forest *forest = layout->forest;
    int at = first, depth = base_depth;
    ordinals[depth] = 0;
    while (at >= 0 && layout->spans_shown < layout->limit) {
        const struct forest_span *span = &forest->spans[at];
        bool cut = layout->options->max_rows == 0 && ordinals[depth] >= SIBLINGS_SHOWN && span->next_sibling >= 0;
        if (cut)
            add_row(layout, ROW_MORE, at, depth, true)->hidden = hidden_behind(forest, at);
        else
            add_row(layout, ROW_SPAN, at, depth, span->next_sibling < 0);
        ordinals[depth]++;
        if (!cut && span->first_child >= 0) {
            at = span->first_child;
            ordinals[++depth] = 0;
            continue;
        }
        int next = cut ? -1 : span->next_sibling;
        while (next < 0 && depth > base_depth) {
            at = forest->spans[at].parent;
            depth--;
            next = forest->spans[at].next_sibling;
        }
        at = next;
    }
}

static bool make_rows(struct layout *layout)
{
    const struct forest *forest = layout->forest;
    int deepest = 0;
    layout->limit = layout->options->max_rows > 0 ? layout->options->max_rows : DEFAULT_ROWS;
    for (int i = 0; i < forest->count; i++)
        if (forest->spans[i].depth > deepest)
            deepest = forest->spans[i].depth;
    /* Each span row can bring one "more" row with it; two extra for the orphans' heading and the last line. */
    layout->rows = calloc((size_t)(layout->limit < forest->count ? layout->limit : forest->count) * 2 + 3, sizeof(struct row));
    layout->open = calloc((size_t)deepest + 3, sizeof(bool));
    int *ordinals = calloc((size_t)deepest + 3, sizeof(int));
    bool done = layout->rows != NULL && layout->open != NULL && ordinals != NULL;
    if (done) {
        lay_out(layout, forest->first_root, 0, ordinals);
        if (forest->first_orphan >= 0 && layout->spans_shown < layout->limit) {
            add_row(layout, ROW_ORPHANS, -1, 0, true);
            lay_out(layout, forest->first_orphan, 1, ordinals);
        }
    }
    free(ordinals);
    return done;
}

/* ---- the parts of a row ------------------------------------------------------------------------------------------------------ */

static const char *lookup(void *attributes, const char *key)
{
    return forest_attribute(attributes, key);
}

static void title_of(const struct forest_span *span, char *out, size_t out_size)
{
    union {
        const json_t *in;
        void *out;
    } arg = {.in = span->attributes}; /* the callback only reads */
    title_make(out, out_size, span->name, span->is_server, lookup, arg.out);
}

/* The lines of the tree before the title. Beyond a third of the column the outer levels are left away: what matters of a span eighty
 * levels deep is its title. */
static size_t tree_prefix(const struct layout *layout, const struct row *row, char *out, size_t out_size, size_t most_columns)
{
    bool utf8 = layout->options->terminal.utf8;
    int levels = (int)(most_columns / 3), from = 1;
    size_t used = 0, columns = 0;
    out[0] = 0;
    if (levels < 2)
        levels = 2;
    if (row->depth > levels) {
        from = row->depth - levels + 2;
        used += (size_t)snprintf(out, out_size, utf8 ? "\xe2\x8b\xaf  " : ".. "); /* ⋯ */
        columns += 3;
    }
    for (int depth = from; depth <= row->depth && used + 16 < out_size; depth++) {
        const char *piece;
        if (depth < row->depth)
            piece = layout->open[depth] ? (utf8 ? "\xe2\x94\x82  " : "|  ") : "   ";
        else if (row->last)
            piece = utf8 ? "\xe2\x94\x94\xe2\x94\x80 " : "`- ";
        else
            piece = utf8 ? "\xe2\x94\x9c\xe2\x94\x80 " : "|- ";
        used += (size_t)snprintf(out + used, out_size - used, "%s", piece);
        columns += 3;
    }
    return columns;
}

static const char *cross(const struct layout *layout)
{
    return layout->options->terminal.utf8 ? "\xe2\x9c\x97" : "x";
}

/* "200", "x 500", "x": columns counted, the cross is one. */
static size_t status_of(const struct layout *layout, const struct forest_span *span, char *out, size_t out_size)
{
    const char *code = forest_attribute(span->attributes, "http.response.status_code");
    char clean[16];
    size_t columns = text_clean(clean, sizeof(clean), code != NULL ? code : "", 6, layout->options->terminal.utf8);
    if (!span->is_error) {
        snprintf(out, out_size, "%s", clean);
        return columns;
    }
    snprintf(out, out_size, "%s%s%s", cross(layout), columns > 0 ? " " : "", clean);
    return columns + (columns > 0 ? 2 : 1);
}

/* The error in words, NULL where the status column has said it all. */
static const char *error_words(const struct forest_span *span)
{
    if (!span->is_error)
        return NULL;
    if (span->status_message[0] != 0)
        return span->status_message;
    const char *type = forest_attribute(span->attributes, "error.type");
    const char *code = forest_attribute(span->attributes, "http.response.status_code");
    return type != NULL && (code == NULL || strcmp(type, code) != 0) ? type : NULL;
}

static const char *paint(const struct layout *layout, const char *sequence)
{
    return layout->options->terminal.color ? sequence : "";
}

/* A colour a service, in the order they appear; red is kept for errors. */
static const char *service_color(const struct layout *layout, const char *service)
{
    static const char *const colors[] = {"\x1b[36m", "\x1b[33m", "\x1b[35m", "\x1b[32m", "\x1b[34m", "\x1b[96m"};
    const char *seen[16];
    size_t count = 0, at = 0;
    for (int i = 0; i < layout->count; i++) {
        if (layout->rows[i].kind != ROW_SPAN)
            continue;
        const char *name = layout->forest->spans[layout->rows[i].span].service;
        for (at = 0; at < count && strcmp(seen[at], name) != 0; at++)
            ;
        if (strcmp(name, service) == 0)
            break;
        if (at == count && count < 16)
            seen[count++] = name;
    }
    return paint(layout, colors[at % 6]);
}

/* The bar in half cells: at least one, never outside. */
static void print_bar(FILE *out, const struct layout *layout, const struct forest_span *span)
{
    const struct forest *forest = layout->forest;
    double total = (double)(forest->end_ns - forest->start_ns);
    bool utf8 = layout->options->terminal.utf8;
    size_t halves = layout->bar_width * 2;
    size_t from = total > 0 ? (size_t)((double)(span->start_ns - forest->start_ns) / total * (double)halves) : 0;
    size_t to = total > 0 ? (size_t)((double)(span->end_ns - forest->start_ns) / total * (double)halves + 0.5) : halves;
    if (from >= halves)
        from = halves - 1;
    if (to > halves)
        to = halves;
    if (to <= from)
        to = from + 1;
    fputs(span->is_error ? paint(layout, "\x1b[31m") : service_color(layout, span->service), out);
    for (size_t cell = 0; cell < layout->bar_width; cell++) {
        bool left = from <= 2 * cell && 2 * cell < to, right = from <= 2 * cell + 1 && 2 * cell + 1 < to;
        if (utf8)
            fputs(left && right ? "\xe2\x96\x88" : left ? "\xe2\x96\x8c" : right ? "\xe2\x96\x90" : " ", out);
        else
            fputc(left || right ? '#' : ' ', out);
    }
    fputs(paint(layout, "\x1b[0m"), out);
}

static void print_padded(FILE *out, const char *text, size_t columns, size_t width)
{
    fprintf(out, "%s%*s", text, (int)(width > columns ? width - columns : 0), "");
}

/* ---- columns ----------------------------------------------------------------------------------------------------------------- */

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* Service, status and duration take what they need; title and bar share the rest, the title no more than it needs. */
static void measure(struct layout *layout)
{
    char text[LINE_MAX_BYTES], clean[LINE_MAX_BYTES];
    bool utf8 = layout->options->terminal.utf8;
    size_t title = 0;
    for (int i = 0; i < layout->count; i++) {
        const struct row *row = &layout->rows[i];
        if (row->kind != ROW_SPAN)
            continue;
        const struct forest_span *span = &layout->forest->spans[row->span];
        layout->service_width =
            larger(layout->service_width, text_clean(clean, sizeof(clean), span->service, SERVICE_COLUMNS, utf8));
        layout->status_width = larger(layout->status_width, status_of(layout, span, text, sizeof(text)));
        text_duration(text, sizeof(text), span->end_ns - span->start_ns, utf8);
        layout->duration_width = larger(layout->duration_width, text_clean(clean, sizeof(clean), text, 20, utf8));
        title_of(span, text, sizeof(text));
        title = larger(title, text_clean(clean, sizeof(clean), text, 200, utf8) + (size_t)row->depth * 3);
    }
    size_t fixed = layout->service_width + layout->status_width + layout->duration_width + 8;
    size_t rest = layout->options->terminal.width > fixed + 20 ? layout->options->terminal.width - fixed : 20;
    size_t most = rest * 62 / 100;
    layout->title_width = title < most ? larger(title, 8) : most;
    layout->bar_width = rest - layout->title_width;
}

/* ---- rows -------------------------------------------------------------------------------------------------------------------- */

/* A line under a span: indented as its title's children are. */
static void print_below(FILE *out, const struct layout *layout, const struct row *row, const char *color, const char *mark,
                        const char *text)
{
    struct row below = {.depth = row->depth + 1};
    char prefix[512], clean[LINE_MAX_BYTES];
    bool *open = layout->open;
    bool utf8 = layout->options->terminal.utf8, saved = open[row->depth];
    open[row->depth] = row->depth > 0 && !row->last;
    open[row->depth + 1] = layout->forest->spans[row->span].first_child >= 0;
    size_t columns = tree_prefix(layout, &below, prefix, sizeof(prefix), layout->title_width / 2);
    /* Only the upright lines: what stands here is no node of the tree. */
    const char *upright = !open[row->depth + 1] ? "   " : utf8 ? "\xe2\x94\x82  " : "|  ";
    size_t len = strlen(prefix), corner = strlen(utf8 ? "\xe2\x94\x9c\xe2\x94\x80 " : "|- ");
    if (len >= corner)
        snprintf(prefix + len - corner, sizeof(prefix) - len + corner, "%s", upright);
    open[row->depth] = saved;

    size_t used = layout->service_width + 2 + columns + strlen(mark);
    size_t room = layout->options->terminal.width > used + 20 ? layout->options->terminal.width - used : 20;
    text_clean(clean, sizeof(clean), text, room, utf8);
    fprintf(out, "%*s%s%s%s%s%s%s%s\n", (int)layout->service_width + 2, "", paint(layout, "\x1b[2m"), prefix,
            paint(layout, "\x1b[0m"), paint(layout, color), mark, clean, paint(layout, "\x1b[0m"));
}

static void print_attributes(FILE *out, const struct layout *layout, const struct row *row, const json_t *attributes)
{
    char line[LINE_MAX_BYTES], buffer[512];
    size_t index;
    json_t *attribute;
    json_array_foreach(attributes, index, attribute)
    {
        const char *key = json_string_value(json_object_get(attribute, "key"));
        const char *value = forest_value(json_object_get(attribute, "value"), buffer, sizeof(buffer));
        snprintf(line, sizeof(line), "%s = %s", key != NULL ? key : "?", value != NULL ? value : "?");
        print_below(out, layout, row, "\x1b[2m", "", line);
    }
}

static void print_details(FILE *out, const struct layout *layout, const struct row *row, const struct forest_span *span)
{
    char line[LINE_MAX_BYTES], when[32];
    size_t index;
    json_t *event;
    print_attributes(out, layout, row, span->attributes);
    json_array_foreach(span->events, index, event)
    {
        const char *name = json_string_value(json_object_get(event, "name"));
        const char *time = json_string_value(json_object_get(event, "timeUnixNano"));
        uint64_t at = time != NULL ? strtoull(time, NULL, 10) : 0;
        text_duration(when, sizeof(when), at > span->start_ns ? at - span->start_ns : 0, layout->options->terminal.utf8);
        snprintf(line, sizeof(line), "event %s, %s after the start", name != NULL ? name : "?", when);
        print_below(out, layout, row, "\x1b[2m", "", line);
    }
}

static void print_span(FILE *out, const struct layout *layout, const struct row *row)
{
    const struct forest_span *span = &layout->forest->spans[row->span];
    char text[LINE_MAX_BYTES], clean[LINE_MAX_BYTES], prefix[512], status[32], duration[32];
    bool utf8 = layout->options->terminal.utf8;

    size_t columns = text_clean(clean, sizeof(clean), span->service, SERVICE_COLUMNS, utf8);
    fputs(service_color(layout, span->service), out);
    print_padded(out, clean, columns, layout->service_width);
    fputs(paint(layout, "\x1b[0m"), out);

    size_t prefix_columns = tree_prefix(layout, row, prefix, sizeof(prefix), layout->title_width / 2);
    fprintf(out, "  %s%s%s", paint(layout, "\x1b[2m"), prefix, paint(layout, "\x1b[0m"));
    title_of(span, text, sizeof(text));
    size_t room = layout->title_width > prefix_columns + 4 ? layout->title_width - prefix_columns : 4;
    columns = text_clean(clean, sizeof(clean), text, room, utf8);
    print_padded(out, clean, columns + prefix_columns, layout->title_width);

    columns = status_of(layout, span, status, sizeof(status));
    fprintf(out, "  %s%*s", span->is_error ? paint(layout, "\x1b[1;31m") : "", (int)(layout->status_width - columns), "");
    fprintf(out, "%s%s  ", status, span->is_error ? paint(layout, "\x1b[0m") : "");
    print_bar(out, layout, span);
    text_duration(duration, sizeof(duration), span->end_ns - span->start_ns, utf8);
    columns = text_clean(clean, sizeof(clean), duration, 20, utf8);
    fprintf(out, "  %*s%s\n", (int)(layout->duration_width - columns), "", clean);

    const char *words = error_words(span);
    if (words != NULL) {
        snprintf(text, sizeof(text), "%s ", cross(layout));
        print_below(out, layout, row, "\x1b[31m", text, words);
    }
    if (layout->options->attributes)
        print_details(out, layout, row, span);
}

static void print_row(FILE *out, const struct layout *layout, const struct row *row)
{
    char prefix[512];
    const char *dots = layout->options->terminal.utf8 ? "\xe2\x80\xa6" : "...";
    switch (row->kind) {
    case ROW_SPAN: print_span(out, layout, row); break;
    case ROW_MORE:
        tree_prefix(layout, row, prefix, sizeof(prefix), layout->title_width / 2);
        fprintf(out, "%*s%s%s%s %d more spans%s\n", (int)layout->service_width + 2, "", paint(layout, "\x1b[2m"), prefix, dots,
                row->hidden, paint(layout, "\x1b[0m"));
        break;
    case ROW_ORPHANS:
        fprintf(out, "%*s%s(parent span not seen here)%s\n", (int)layout->service_width + 2, "", paint(layout, "\x1b[2m"),
                paint(layout, "\x1b[0m"));
        break;
    }
}

static void print_heading(FILE *out, const struct layout *layout)
{
    const struct forest *forest = layout->forest;
    char id[64], duration[32], when[32] = "";
    time_t seconds = (time_t)(forest->start_ns / 1000000000ull);
    struct tm tm;
    text_clean(id, sizeof(id), forest->trace_id, 32, layout->options->terminal.utf8);
    text_duration(duration, sizeof(duration), forest->end_ns - forest->start_ns, layout->options->terminal.utf8);
    if (localtime_r(&seconds, &tm) != NULL)
        strftime(when, sizeof(when), "%H:%M:%S", &tm);
    fprintf(out, "%strace %s%s  %s  %s  %d span%s, %d service%s", paint(layout, "\x1b[1m"), id, paint(layout, "\x1b[0m"), when,
            duration, forest->count, forest->count == 1 ? "" : "s", forest->services, forest->services == 1 ? "" : "s");
    if (forest->errors > 0)
        fprintf(out, ", %s%d error%s%s", paint(layout, "\x1b[1;31m"), forest->errors, forest->errors == 1 ? "" : "s",
                paint(layout, "\x1b[0m"));
    fputc('\n', out);
}

void waterfall_print(FILE *out, const struct forest *forest, const struct waterfall_options *options)
{
    struct layout layout = {.forest = forest, .options = options};
    if (make_rows(&layout)) {
        measure(&layout);
        print_heading(out, &layout);
        for (int i = 0; i < layout.count; i++) {
            const struct row *row = &layout.rows[i];
            layout.open[row->depth] = !row->last;
            print_row(out, &layout, row);
        }
        /* Those behind a "more" row have been counted there. */
        uint64_t hidden = (uint64_t)(forest->count - layout.spans_shown) + forest->left_out;
        for (int i = 0; i < layout.count; i++)
            hidden -= (uint64_t)layout.rows[i].hidden;
        if (hidden > 0)
            fprintf(out, "%s%s %llu more spans%s\n", paint(&layout, "\x1b[2m"), options->terminal.utf8 ? "\xe2\x80\xa6" : "...",
                    (unsigned long long)hidden, paint(&layout, "\x1b[0m"));
    } else {
        fprintf(out, "out of memory for a trace of %d spans\n", forest->count);
    }
    free(layout.rows);
    free(layout.open);
}
