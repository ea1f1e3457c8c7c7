/* web.h - the HTTP side of the exporter: libmicrohttpd in the exporter's own event loop, no thread. */
#ifndef OTSHIM_EXPORTER_WEB_H
#define OTSHIM_EXPORTER_WEB_H

#include "view/api.h"
#include <event2/event.h>
#include <stdint.h>

struct web;

/* Listens on host:port (port 0: any free one). NULL on failure, with one line in why. `api` must outlive it; its http_address is set to
 * the address listened on. */
struct web *web_start(struct event_base *base, struct api *api, const char *host, uint16_t port, char *why, size_t why_size);
void web_stop(struct web *web);

#endif
