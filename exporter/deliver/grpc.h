/* grpc.h - a unary gRPC call over HTTP/2, as far as libcurl does not do it: framing, timeouts, and the answer's meaning
 * (grpc/doc/PROTOCOL-HTTP2.md, grpc/doc/http-grpc-status-mapping.md). */
#ifndef OTSHIM_EXPORTER_DELIVER_GRPC_H
#define OTSHIM_EXPORTER_DELIVER_GRPC_H

#include "deliver/answer.h"
#include "deliver/retry.h"
#include <stddef.h>
#include <stdint.h>

#define GRPC_FRAME_HEADER 5u /* a byte: compressed?; four bytes: length, big-endian */

enum grpc_status {
    GRPC_OK = 0,
    GRPC_CANCELLED = 1,
    GRPC_UNKNOWN = 2,
    GRPC_INVALID_ARGUMENT = 3,
    GRPC_DEADLINE_EXCEEDED = 4,
    GRPC_NOT_FOUND = 5,
    GRPC_ALREADY_EXISTS = 6,
    GRPC_PERMISSION_DENIED = 7,
    GRPC_RESOURCE_EXHAUSTED = 8,
    GRPC_FAILED_PRECONDITION = 9,
    GRPC_ABORTED = 10,
    GRPC_OUT_OF_RANGE = 11,
    GRPC_UNIMPLEMENTED = 12,
    GRPC_INTERNAL = 13,
    GRPC_UNAVAILABLE = 14,
    GRPC_DATA_LOSS = 15,
    GRPC_UNAUTHENTICATED = 16,
};

/* "UNAVAILABLE", ...; for numbers that gRPC does not have "UNKNOWN". */
const char *grpc_name(int status);

void grpc_frame_header(uint8_t header[GRPC_FRAME_HEADER], uint32_t message_len, bool compressed);

/* The value of grpc-timeout: at most eight digits and a unit. */
void grpc_timeout(char *to, size_t size, uint64_t timeout_ms);

/* The first message of an answer's body, decompressed where `encoding` (grpc-encoding) says gzip. *message is to be given to free().
 * 0; -ENODATA: the body is empty; -EBADMSG: it is no frame, or not one that we can read; -EMSGSIZE: more than ANSWER_BODY_MAX
 * when decompressed; -ENOMEM. */
int grpc_message(const uint8_t *body, size_t len, const char *encoding, uint8_t **message, size_t *message_len);

/* grpc-message: percent-decoded, fit for a log line. */
void grpc_decode_text(char *to, size_t size, const char *encoded);

/* Standard alphabet (and the URL-safe one), padding optional. Length of the result, -1 if it is no base64 or does not fit. */
long grpc_decode_base64(uint8_t *to, size_t size, const char *encoded);

/* where: the endpoint as a person writes it, "http://tempo:4317". */
void grpc_verdict(const struct answer *answer, const char *where, struct verdict *verdict);

#endif
