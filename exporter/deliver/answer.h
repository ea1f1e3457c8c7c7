/* answer.h - what came back for one request, as the transport saw it: the raw material of grpc.c's and http.c's verdicts.
 *
 * Filled header line by header line and body piece by body piece with bytes from the network; every field is bounded. */
#ifndef OTSHIM_EXPORTER_DELIVER_ANSWER_H
#define OTSHIM_EXPORTER_DELIVER_ANSWER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ANSWER_BODY_MAX (4u * 1024 * 1024) /* OTLP specification: a client limits the response it reads; 4 MiB */

struct answer {
    bool arrived;       /* a complete answer; else `failure` says what went wrong on the way */
    int failure_code;   /* !arrived: CURLcode, tells one kind of failure from another */
    char failure[256];  /* !arrived: in words, whole sentence without a full stop */
    const char *remedy; /* !arrived: what to do about it, or NULL; static */

    long http_status;
    char content_type[96];
    char retry_after[64];
    char grpc_status[16]; /* headers (trailers-only) or trailers: the last one wins */
    char grpc_encoding[32];
    char grpc_message[1024]; /* still percent-encoded */
    char grpc_details[8192]; /* grpc-status-details-bin, still base64; "" when longer than this */

    uint8_t *body;
    size_t body_len, body_size;
    bool body_too_long; /* cut at ANSWER_BODY_MAX */
};

void answer_init(struct answer *answer);
void answer_free(struct answer *answer);

/* One line of a header block or of trailers, with or without its CRLF. A status line begins anew (an interim answer came before). */
void answer_header(struct answer *answer, const char *line, size_t len);

/* false when the body is longer than ANSWER_BODY_MAX, or memory is short: no more of it is wanted. */
bool answer_body(struct answer *answer, const uint8_t *data, size_t len);

#endif
