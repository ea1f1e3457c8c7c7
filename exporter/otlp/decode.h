/* decode.h - the answers to an ExportTraceServiceRequest. */
#ifndef OTSHIM_EXPORTER_OTLP_DECODE_H
#define OTSHIM_EXPORTER_OTLP_DECODE_H

#include <stddef.h>
#include <stdint.h>

/* What the exporter wants to know of an ExportTraceServiceResponse. */
struct otlp_answer {
    int64_t rejected_spans;
    char message[256]; /* error_message, cut; "" if none */
};

/* 0, or -EBADMSG for bytes that are no ExportTraceServiceResponse. An empty message is a full success. */
int otlp_decode_answer(const uint8_t *data, size_t len, struct otlp_answer *answer);

/* The OTLP/JSON form of the same, sent by some receivers whatever the request was. 0 or -EBADMSG. */
int otlp_decode_answer_json(const uint8_t *data, size_t len, struct otlp_answer *answer);

/* What a failure says in google.rpc.Status. */
struct otlp_failure {
    int32_t code; /* google.rpc.Code: the numbers of gRPC's status codes */
    char message[256];
    int64_t retry_delay_ms; /* RetryInfo, at least 0; -1: there was none */
};

/* 0, or -EBADMSG for bytes that are no google.rpc.Status. */
int otlp_decode_failure(const uint8_t *data, size_t len, struct otlp_failure *failure);

/* Copies text from the network for a log line: cut to size, control characters as spaces, valid UTF-8, terminated. */
void otlp_copy_text(char *to, size_t size, const char *from, size_t len);

#endif
