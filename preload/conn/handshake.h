/* handshake.h - what is said of a TLS handshake. */
#ifndef OTSHIM_CONN_HANDSHAKE_H
#define OTSHIM_CONN_HANDSHAKE_H

#include "conn/tls.h"

struct handshake;

/* Copies the facts. NULL: no memory. */
struct handshake *handshake_new(uint64_t begun_ns, bool ok, const struct tls_facts *facts);
void handshake_free(struct handshake *handshake);
/* Its span, under this parent (NULL: a root), and frees it. */
void handshake_write(struct handshake *handshake, const struct conn *plain, const struct ctx *parent, uint8_t rule);

#endif
