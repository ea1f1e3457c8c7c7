/* api.h - what the exporter answers over HTTP: a function from a request to a response, which knows no sockets.
 *
 *     GET /                       a page for a browser
 *     GET /healthz                "ok"
 *     GET /metrics                Prometheus text 0.0.4
 *     GET /api/status             version, processes, rates, queue, drops, the last export error
 *     GET /api/traces             recent traces, newest first: ?service= &min_duration= &error= &limit= &since=
 *     GET /api/traces/{trace_id}  one as OTLP/JSON; the first digits of its id are enough where they are unique
 *
 * Errors are {"error": "..."} in words that help. */
#ifndef OTSHIM_EXPORTER_API_H
#define OTSHIM_EXPORTER_API_H

#include "config/config.h"
#include "ingest/ingest.h"
#include "view/store.h"
#include <stddef.h>

#define API_QUERY_MAX 16

struct api {
    const struct exporter_config *config;
    struct store *store;
    struct ingest *ingest;
    const char *http_address; /* where it listens in fact: host:port */
};

struct api_query {
    const char *key;
    const char *value; /* "" where there is no '=' */
};

struct api_response {
    int status;
    const char *content_type;
    char *body; /* to be given to free() */
    size_t len;
};

/* method, path and query as decoded by the server, untrusted. Always fills response; a NULL body (no memory) goes with 500. */
void api_answer(const struct api *api, const char *method, const char *path, const struct api_query *query, size_t query_count,
                struct api_response *response);

/* page.c: the page for a browser. */
char *page_html(const struct api *api, size_t *len);

#endif
