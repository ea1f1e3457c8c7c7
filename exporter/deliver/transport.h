/* transport.h - requests to one endpoint by libcurl's multi interface, in the exporter's own event loop, over kept connections.
 *
 * Knows headers, TLS, proxies and timeouts; knows nothing of spans nor of what an answer means. */
#ifndef OTSHIM_EXPORTER_DELIVER_TRANSPORT_H
#define OTSHIM_EXPORTER_DELIVER_TRANSPORT_H

#include "config/config.h"
#include "deliver/answer.h"
#include <event2/event.h>

#define TRANSPORT_IN_FLIGHT 2u /* requests at a time: one being answered while the next is on its way */

struct transport;

/* NULL with a line in why. config must outlive the transport. */
struct transport *transport_new(struct event_base *base, const struct exporter_config *config, char *why, size_t why_size);
/* Cuts off what is in flight; no `done` is called any more. NULL is nothing. */
void transport_free(struct transport *transport);

/* Sends body, which must stay until done is called (from the event loop, never from in here). 0; -EBUSY: TRANSPORT_IN_FLIGHT are under way;
 * -EIO: libcurl refused. In done, answer is valid during the call, and a further transport_send is allowed. */
int transport_send(struct transport *transport, const uint8_t *body, size_t len,
                   void (*done)(void *arg, const struct answer *answer), void *arg);

/* "http://tempo:4317": scheme, host and port, never a path or credentials. */
const char *transport_where(const struct transport *transport);

#endif
