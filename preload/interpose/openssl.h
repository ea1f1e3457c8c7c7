/* openssl.h - see openssl.c. */
#ifndef OTSHIM_OPENSSL_H
#define OTSHIM_OPENSSL_H

/* Before a connection may speak TLS (connect, accept): have libraries come? Two loads when dlopen was not called. errno is
 * preserved; not async-signal-safe. */
void openssl_look(void);

#endif
