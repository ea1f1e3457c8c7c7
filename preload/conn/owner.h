/* owner.h - for whom is an outbound request made? Where the context of the thread (context/), what a runtime has noted of the connection, and what connect() knew
 * come together. With the connection's lock. */
#ifndef OTSHIM_CONN_OWNER_H
#define OTSHIM_CONN_OWNER_H

#include "conn/exchange.h"

/* At its first byte, in the thread that sends it: fills in owner, parent and the span's own ids. writer NULL: the calling thread. */
void owner_decide(struct conn *conn, struct exchange *exchange, const struct exchange_writer *writer);
/* It is for nobody after all, and a trace of its own. Before its request's head is complete, or directly after it. */
void owner_disown(struct exchange *exchange);

#endif
