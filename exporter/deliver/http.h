/* http.h - the meaning of an answer to OTLP over HTTP (OTLP specification, "OTLP/HTTP Response"). */
#ifndef OTSHIM_EXPORTER_DELIVER_HTTP_H
#define OTSHIM_EXPORTER_DELIVER_HTTP_H

#include "deliver/answer.h"
#include "deliver/retry.h"
#include <time.h>

/* now: the wall clock, for a Retry-After that is a date. where: as in grpc_verdict. */
void http_verdict(const struct answer *answer, const char *where, time_t now, struct verdict *verdict);

/* "Service Unavailable", ...; "" for what has no name. */
const char *http_reason(long status);

#endif
