/* verdict.h - what grpc.c and http.c share: sentences. */
#ifndef OTSHIM_EXPORTER_DELIVER_VERDICT_H
#define OTSHIM_EXPORTER_DELIVER_VERDICT_H

#include "deliver/answer.h"
#include "deliver/retry.h"

/* Different kinds of trouble have different codes. */
enum { VERDICT_CURL = 1000, VERDICT_HTTP = 2000, VERDICT_GRPC = 4000, VERDICT_GARBAGE = 5000, VERDICT_LOCAL = 6000 };

void verdict_say(struct verdict *verdict, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The request got no complete answer: always worth another try. */
void verdict_no_answer(const struct answer *answer, struct verdict *verdict);

/* What helps against a refusal with this gRPC status (what an HTTP status means as one, too). NULL: nothing we know. */
const char *verdict_remedy(int grpc_status, const char *message);

#endif
