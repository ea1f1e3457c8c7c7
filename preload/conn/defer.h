/* defer.h - the way out of a connection that is busy. */
#ifndef OTSHIM_DEFER_H
#define OTSHIM_DEFER_H

#include "conn/flow.h"

/* The lock was not had: `len` bytes of iov, from `from` on, are left to its owner; iov NULL: bytes that nobody saw. If that is not possible
 * the connection is given up. Async-signal-safe. */
void defer_bytes(const struct watch *watch, enum proto_dir dir, const struct iovec *iov, size_t iovcnt, size_t from, size_t len);
/* With the lock: feeds what was left here. */
void defer_drain_locked(struct conn *conn);

#endif
