/* http2.h - HTTP/2 (RFC 9113), both directions of one connection: frames, header blocks, streams.
 *
 * Each stream that a client opens is an exchange of its own: its events carry its number, and come interleaved with those of others. The state is bounded:
 * HTTP2_STREAMS streams at a time; what is opened beyond them is not reported (it still goes through HPACK, so that the rest stays right). A
 * connection whose header compression goes out of step - a table larger than hpack.h keeps, bytes that we did not see - is lost: nothing more is said about it. */
#ifndef OTSHIM_HTTP2_H
#define OTSHIM_HTTP2_H

#include "proto/hpack.h"
#include "proto/proto.h"

#define HTTP2_STREAMS 128u
#define HTTP2_PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" /* RFC 9113 3.4 */
#define HTTP2_FRAME_HEADER 9u

struct http2_stream {
    uint32_t id;     /* 0: free */
    uint8_t heads;   /* bit a direction: its (final) head is complete */
    uint8_t ended;   /* bit a direction */
    uint16_t status; /* being read */
    uint64_t body_bytes[2], wire_bytes[2];
};

/* One direction. */
struct http2_lane {
    uint8_t preface; /* bytes of it that are to come */
    uint8_t header[HTTP2_FRAME_HEADER], header_have;
    uint8_t type, flags;
    uint8_t prefix;                   /* bytes before the content: pad length, priority, promised stream */
    bool padded;                      /* the first of them is a pad length */
    uint32_t pad, left;               /* at the end of the frame; of the whole payload */
    uint32_t frame_bytes, frame_done; /* of the payload: in all, so far */
    uint32_t stream;
    uint32_t number; /* of a setting or an error code, as far as it is there */
    uint8_t number_have, setting_have;
    uint16_t setting;
    /* A header block: from a HEADERS or PUSH_PROMISE to the frame with END_HEADERS. */
    bool in_block, block_ends_stream, block_is_promise;
    uint32_t block_stream;
};

struct http2 {
    bool lost;
    uint32_t newest; /* the highest stream that was opened */
    struct http2_lane lane[2];
    struct hpack hpack[2]; /* of what goes in that direction */
    struct http2_stream stream[HTTP2_STREAMS];
};

extern const struct proto_ops http2_ops;

#endif
