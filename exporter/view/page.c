/* page.c - the page for a browser: the recent traces as a table. Plain HTML, no script; all text from outside is escaped. */
#include "view/api.h"

#include "view/text.h"
#include "view/title.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PAGE_TRACES 100

static void put(FILE *out, const char *text)
{
    char clean[4096];
    text_clean(clean, sizeof(clean), text, 200, true);
    for (const char *at = clean; *at != 0; at++) {
        switch (*at) {
        case '<': fputs("&lt;", out); break;
        case '>': fputs("&gt;", out); break;
        case '&': fputs("&amp;", out); break;
        case '"': fputs("&quot;", out); break;
        case '\'': fputs("&#39;", out); break;
        default: fputc(*at, out);
        }
    }
}

struct page {
    FILE *out;
    size_t rows;
};

static void put_trace(void *arg, const struct stored_trace *trace)
{
    struct page *page = arg;
    FILE *out = page->out;
    char id[33], title[2304], duration[32], when[32] = "";
    time_t seconds = (time_t)(trace->start_unix_ns / 1000000000ull);
    struct tm tm;
    for (int i = 0; i < 16; i++)
        snprintf(id + 2 * i, 3, "%02x", trace->trace_id[i]);
    if (localtime_r(&seconds, &tm) != NULL)
        strftime(when, sizeof(when), "%H:%M:%S", &tm);
    text_duration(duration, sizeof(duration),
                  trace->end_unix_ns > trace->start_unix_ns ? trace->end_unix_ns - trace->start_unix_ns : 0, true);
    title_of_span(title, sizeof(title), trace->root);
    page->rows++;
    fprintf(out, "<tr%s><td>%s<td>", trace->has_error ? " class=error" : "", when);
    put(out, trace->root->resource->service_name);
    fputs("<td>", out);
    put(out, title);
    fprintf(out, "<td class=number>%s<td class=number>%zu<td>%s<td><a href=\"/api/traces/%s\"><code>%s</code></a>\n", duration,
            trace->span_count + trace->spans_left_out, trace->has_error ? "&#10007; error" : "", id, id);
}

char *page_html(const struct api *api, size_t *len)
{
    char *text = NULL;
    FILE *out = open_memstream(&text, len);
    struct page page = {.out = out};
    if (out == NULL)
        return NULL;
    fputs("<!doctype html><html lang=en><meta charset=utf-8><title>otshim</title>"
          "<meta name=viewport content='width=device-width'>"
          "<style>body{font:15px system-ui,sans-serif;margin:2em;color:#222;background:#fff}table{border-collapse:collapse}"
          "td,th{text-align:left;padding:.3em .9em .3em 0;border-bottom:1px solid #ddd}.number{text-align:right}"
          ".error td{color:#b00020}code{font-size:13px}</style>\n<h1>Recent traces</h1>\n"
          "<p><a href=\"/api/traces\">all as JSON</a> &middot; <a href=\"/api/status\">status</a> &middot; "
          "<a href=\"/metrics\">metrics</a>\n<table><tr><th>start<th>service<th>request<th class=number>duration<th "
          "class=number>spans<th>"
          "<th>trace\n",
          out);
    store_each(api->store, &(struct store_filter){.limit = PAGE_TRACES}, put_trace, &page);
    fputs("</table>\n", out);
    if (page.rows == 0)
        fputs(
            "<p>No trace yet. Start a program with <code>LD_PRELOAD=libotshim.so</code>, or by <code>otshim run -- PROGRAM</code>, "
            "and send it a request.\n",
            out);
    fputs("</html>\n", out);
    if (fclose(out) != 0) {
        free(text);
        return NULL;
    }
    return text;
}
