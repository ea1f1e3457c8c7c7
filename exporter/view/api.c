/* api.c - what the exporter answers over HTTP: see api.h. */
#include "view/api.h"

#include "metrics/metrics.h"
#include "otlp/json.h"
#include "view/status_json.h"
#include "view/text.h"
#include "view/title.h"
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define DEFAULT_LIMIT 100
#define SERVICES_LISTED 32
#define PREFIX_MIN 4

static const char json_media_type[] = "application/json; charset=utf-8";

/* ---- answers ----------------------------------------------------------------------------------------------------------------- */

/* Takes the reference. */
static void answer_json(struct api_response *response, int status, json_t *json)
{
    response->status = status;
    response->content_type = json_media_type;
    response->body = json != NULL ? json_dumps(json, JSON_COMPACT) : NULL;
    response->len = response->body != NULL ? strlen(response->body) : 0;
    if (response->body == NULL)
        response->status = 500;
    json_decref(json);
}

static void answer_text(struct api_response *response, const char *type, char *body, size_t len)
{
    response->status = body != NULL ? 200 : 500;
    response->content_type = type;
    response->body = body;
    response->len = body != NULL ? len : 0;
}

__attribute__((format(printf, 3, 4))) static void answer_error(struct api_response *response, int status, const char *format, ...)
{
    char message[512], clean[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof(message), format, arguments);
    va_end(arguments);
    text_clean(clean, sizeof(clean), message, SIZE_MAX, true);
    json_t *object = json_object();
    json_object_set_new(object, "error", json_string(clean));
    answer_json(response, status, object);
}

/* ---- the list ---------------------------------------------------------------------------------------------------------------- */

static json_t *time_string(uint64_t ns)
{
    char text[24];
    snprintf(text, sizeof(text), "%" PRIu64, ns);
    return json_string(text);
}

static json_t *services_of(const struct stored_trace *trace)
{
    json_t *array = json_array();
    const char *seen[SERVICES_LISTED];
    size_t count = 0;
    for (size_t i = 0; i < trace->span_count && count < SERVICES_LISTED; i++) {
        const char *name = trace->spans[i]->resource->service_name;
        size_t at = 0;
        while (at < count && strcmp(seen[at], name) != 0)
            at++;
        if (at < count)
            continue;
        seen[count++] = name;
        json_array_append_new(array, json_string(name));
    }
    return array;
}

static void add_summary(void *arg, const struct stored_trace *trace)
{
    json_t *array = arg, *object = json_object();
    char id[33], title[2304], clean[4096];
    size_t errors = 0;
    for (int i = 0; i < 16; i++)
        snprintf(id + 2 * i, 3, "%02x", trace->trace_id[i]);
    for (size_t i = 0; i < trace->span_count; i++)
        errors += trace->spans[i]->status == SPAN_STATUS_ERROR;
    title_of_span(title, sizeof(title), trace->root);
    /* The cut may have gone through a character; JSON wants UTF-8. */
    text_clean(clean, sizeof(clean), title, SIZE_MAX, true);

    json_object_set_new(object, "traceId", json_string(id));
    json_object_set_new(object, "rootName", json_string(trace->root->name));
    json_object_set_new(object, "rootTitle", json_string(clean));
    json_object_set_new(object, "rootService", json_string(trace->root->resource->service_name));
    /* false: the parent is somebody who is not watched, or has not ended yet. */
    json_object_set_new(object, "rootSeen", json_boolean(!trace->root->has_parent));
    json_object_set_new(object, "rootParentRemote", json_boolean(trace->root->has_parent && trace->root->parent_is_remote));
    json_object_set_new(object, "services", services_of(trace));
    json_object_set_new(object, "startTimeUnixNano", time_string(trace->start_unix_ns));
    uint64_t duration = trace->end_unix_ns > trace->start_unix_ns ? trace->end_unix_ns - trace->start_unix_ns : 0;
    json_object_set_new(object, "durationNs", json_integer((json_int_t)duration));
    json_object_set_new(object, "spanCount", json_integer((json_int_t)(trace->span_count + trace->spans_left_out)));
    json_object_set_new(object, "errorCount", json_integer((json_int_t)errors));
    json_object_set_new(object, "sequence", json_integer((json_int_t)trace->sequence));
    json_array_append_new(array, object);
}

static int parse_count(const char *text, uint64_t *value)
{
    char *end;
    if (!isdigit((unsigned char)text[0]))
        return -EINVAL;
    errno = 0;
    *value = strtoull(text, &end, 10);
    return *end == 0 && errno == 0 ? 0 : -EINVAL;
}

static int parse_bool(const char *text, bool *value)
{
    *value = strcmp(text, "true") == 0 || strcmp(text, "1") == 0 || text[0] == 0;
    return *value || strcmp(text, "false") == 0 || strcmp(text, "0") == 0 ? 0 : -EINVAL;
}

/* False: response says what is wrong. */
static bool parse_filter(const struct api_query *query, size_t count, struct store_filter *filter, struct api_response *response)
{
    for (size_t i = 0; i < count; i++) {
        const char *key = query[i].key, *value = query[i].value;
        uint64_t number = 0;
        if (strcmp(key, "service") == 0) {
            filter->service = value[0] != 0 ? value : NULL;
        } else if (strcmp(key, "min_duration") == 0) {
            if (text_parse_duration(value, &filter->min_duration_ns) == 0)
                continue;
            answer_error(response, 400, "min_duration=%.100s is no duration: write a number and a unit, as in 100ms, 1.5s or 250us",
                         value);
            return false;
        } else if (strcmp(key, "error") == 0) {
            if (parse_bool(value, &filter->errors_only) == 0)
                continue;
            answer_error(response, 400, "error=%.100s is neither true nor false", value);
            return false;
        } else if (strcmp(key, "limit") == 0 || strcmp(key, "since") == 0) {
            if (parse_count(value, &number) != 0) {
                answer_error(response, 400, "%s=%.100s is not a whole number", key, value);
                return false;
            }
            if (key[0] == 'l')
                filter->limit = number > SIZE_MAX / 2 ? 0 : (size_t)number; /* limit=0: all */
            else
                filter->since_sequence = number;
        } else {
            answer_error(response, 400, "unknown parameter \"%.100s\": there are service, min_duration, error, limit and since",
                         key);
            return false;
        }
    }
    return true;
}

static void answer_traces(const struct api *api, const struct api_query *query, size_t count, struct api_response *response)
{
    struct store_filter filter = {.limit = DEFAULT_LIMIT};
    if (!parse_filter(query, count, &filter, response))
        return;
    json_t *array = json_array();
    store_each(api->store, &filter, add_summary, array);
    answer_json(response, 200, array);
}

/* ---- one trace --------------------------------------------------------------------------------------------------------------- */

struct prefix_search {
    const char *digits; /* lower case */
    size_t len;
    const struct stored_trace *found;
    size_t matches;
};

static void compare_prefix(void *arg, const struct stored_trace *trace)
{
    struct prefix_search *search = arg;
    char id[33];
    for (int i = 0; i < 16; i++)
        snprintf(id + 2 * i, 3, "%02x", trace->trace_id[i]);
    if (strncmp(id, search->digits, search->len) != 0)
        return;
    search->found = trace;
    search->matches++;
}

static void answer_trace(const struct api *api, const char *id, struct api_response *response)
{
    char digits[33];
    size_t len = 0;
    for (; len < 32 && isxdigit((unsigned char)id[len]); len++)
        digits[len] = (char)tolower((unsigned char)id[len]);
    digits[len] = 0;
    if (id[len] != 0 || len < PREFIX_MIN) {
        answer_error(response, 400,
                     "\"%.64s\" is no trace id: that is 32 hexadecimal digits, of which the first %d or more are enough", id,
                     PREFIX_MIN);
        return;
    }
    struct prefix_search search = {.digits = digits, .len = len};
    store_each(api->store, &(struct store_filter){0}, compare_prefix, &search);
    if (search.matches == 0) {
        answer_error(response, 404, "no trace %s%s among the %zu most recent ones kept in memory (OTSHIM_TRACES sets how many)",
                     digits, len < 32 ? "..." : "", api->config->recent_traces);
        return;
    }
    if (search.matches > 1) {
        answer_error(response, 409, "%zu traces begin with %s: give more digits", search.matches, digits);
        return;
    }
    json_t *json = otlp_json_value(search.found->spans, search.found->span_count);
    if (json != NULL && search.found->spans_left_out > 0)
        json_object_set_new(json, "spansLeftOut", json_integer((json_int_t)search.found->spans_left_out));
    answer_json(response, 200, json);
}

/* ---- the table of paths ------------------------------------------------------------------------------------------------------ */

static bool takes_no_query(const struct api_query *query, size_t count, struct api_response *response)
{
    if (count == 0)
        return true;
    answer_error(response, 400, "unknown parameter \"%.100s\": there are none here", query[0].key);
    return false;
}

void api_answer(const struct api *api, const char *method, const char *path, const struct api_query *query, size_t query_count,
                struct api_response *response)
{
    static const char one_trace[] = "/api/traces/";
    size_t len = 0;
    char *body;
    memset(response, 0, sizeof(*response));
    if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0) {
        answer_error(response, 405, "%.32s is not possible here: everything is read with GET", method);
    } else if (strcmp(path, "/") == 0) {
        body = page_html(api, &len);
        answer_text(response, "text/html; charset=utf-8", body, len);
    } else if (strcmp(path, "/healthz") == 0) {
        answer_text(response, "text/plain; charset=utf-8", strdup("ok\n"), 3);
    } else if (strcmp(path, "/metrics") == 0) {
        body = metrics_text(api->ingest, &len);
        answer_text(response, "text/plain; version=0.0.4; charset=utf-8", body, len);
    } else if (strcmp(path, "/api/status") == 0) {
        if (takes_no_query(query, query_count, response))
            answer_json(response, 200, status_json(api));
    } else if (strcmp(path, "/api/traces") == 0) {
        answer_traces(api, query, query_count, response);
    } else if (strncmp(path, one_trace, sizeof(one_trace) - 1) == 0) {
        if (takes_no_query(query, query_count, response))
            answer_trace(api, path + sizeof(one_trace) - 1, response);
    } else {
        answer_error(response, 404,
                     "there is no %.200s: try /, /api/traces, /api/traces/{trace id}, /api/status, /metrics or /healthz", path);
    }
}
