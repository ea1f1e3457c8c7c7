/* record.h - what a traced process tells the exporter: raw facts, no meaning.
 *
 * A record is struct otshim_rec (ring.h), then one of the payloads below, then attributes up to the record's length. Byte order
 * is the machine's: both halves run on the same one. Times are CLOCK_MONOTONIC nanoseconds of the process (hello.h carries the
 * anchor to wall-clock time). The reader skips record types and attribute keys that it does not know. */
#ifndef OTSHIM_RECORD_H
#define OTSHIM_RECORD_H

#include <otshim/ring.h>

enum otshim_record_type {
    OTSHIM_RECORD_SPAN = 1, /* struct otshim_span_rec + attributes */
    OTSHIM_RECORD_LOG = 2,  /* struct otshim_log_rec + attribute OTSHIM_ATTR_ERROR_TEXT: the library's own diagnostics */
};

enum otshim_span_kind {
    OTSHIM_SPAN_SERVER = 1,  /* an inbound request */
    OTSHIM_SPAN_CLIENT = 2,  /* an outbound request */
    OTSHIM_SPAN_CONNECT = 3, /* connect(), until its outcome is known */
    OTSHIM_SPAN_DNS = 4,     /* getaddrinfo and its elders */
    OTSHIM_SPAN_TLS_HANDSHAKE = 5,
    OTSHIM_SPAN_KIND_LAST = OTSHIM_SPAN_TLS_HANDSHAKE
};

enum otshim_protocol {
    OTSHIM_PROTOCOL_NONE = 0,
    OTSHIM_PROTOCOL_HTTP1 = 1,
    OTSHIM_PROTOCOL_HTTP2 = 2,
    OTSHIM_PROTOCOL_FASTCGI = 3, /* an HTTP request by FastCGI parameters */
    OTSHIM_PROTOCOL_REDIS = 4,   /* a command */
    OTSHIM_PROTOCOL_LAST = OTSHIM_PROTOCOL_REDIS
};

enum otshim_transport { OTSHIM_TRANSPORT_TCP = 1, OTSHIM_TRANSPORT_UNIX = 2 };

/* Which rule of design section 4 found the parent. Kept in every span: a wrong parent must be explainable. */
enum otshim_parent_rule {
    OTSHIM_PARENT_NONE = 0,      /* root of its own trace */
    OTSHIM_PARENT_REMOTE = 1,    /* inbound traceparent */
    OTSHIM_PARENT_RUNTIME = 2,   /* rule 1: the runtime's own context */
    OTSHIM_PARENT_THREAD = 3,    /* rule 2: I/O causality on the thread */
    OTSHIM_PARENT_INHERITED = 4, /* rule 3: the creator of the thread */
    OTSHIM_PARENT_ENVIRON = 5,   /* rule 3: TRACEPARENT */
    OTSHIM_PARENT_HANDOVER = 6,  /* rule 4 */
    OTSHIM_PARENT_WRITER = 7,    /* rule 5 */
    OTSHIM_PARENT_CONNECT = 8,   /* rule 2, kept from connect() to the first exchange of that connection */
    OTSHIM_PARENT_OWN_HEADER = 9 /* the program sent a traceparent of its own: the span joins that trace */
};

/* Why the span ended. */
enum otshim_end {
    OTSHIM_END_COMPLETE = 0,
    OTSHIM_END_PEER_CLOSED = 1,  /* end of stream before the message was complete */
    OTSHIM_END_LOCAL_CLOSED = 2, /* the program closed or shut down the connection before that */
    OTSHIM_END_RESET = 3,        /* an I/O error: .error says which */
    OTSHIM_END_UPGRADED = 4,     /* the connection speaks another protocol from here on */
    OTSHIM_END_LOST = 5,         /* we lost track of the protocol */
    OTSHIM_END_EXIT = 6,         /* the process exited in an orderly way, or exec'ed */
    OTSHIM_END_DIED = 7,         /* set by the exporter: the process died with the span in flight */
    OTSHIM_END_FAILED =
        8, /* connect/DNS: .error is the errno (connect) or the EAI_* code, negative (DNS); TLS: ERROR_TEXT says why */
    OTSHIM_END_ABANDONED = 9 /* connect: closed before its outcome was known (happy eyeballs) */
};

enum otshim_span_flag {
    OTSHIM_SPAN_INJECTED = 1u << 0,        /* we added the traceparent to the outbound request */
    OTSHIM_SPAN_TRUNCATED = 1u << 1,       /* captured text was cut */
    OTSHIM_SPAN_REUSED_CONN = 1u << 2,     /* not the first exchange of its connection */
    OTSHIM_SPAN_TLS = 1u << 3,             /* seen above TLS */
    OTSHIM_SPAN_FOREIGN_SAMPLED = 1u << 4, /* reserved */
    OTSHIM_SPAN_RESUMED = 1u << 5,         /* TLS handshake: of an earlier session */
    OTSHIM_SPAN_INBOUND = 1u << 6,         /* TLS handshake: the peer is the client */
    OTSHIM_SPAN_FAILED = 1u << 7           /* the response says so, by other means than .status */
};

struct otshim_span_rec {
    uint8_t trace_id[16];
    uint8_t span_id[8];
    uint8_t parent_id[8];   /* all zero: root */
    uint64_t start_ns;      /* server: first byte of the request read; client: first byte of it about to be written */
    uint64_t end_ns;        /* server: last byte of the response written; client: last byte of it read */
    uint64_t first_byte_ns; /* of the response, written (server) or read (client); 0: there was none */
    uint64_t request_bytes; /* on the wire, head and framing included, bytes added by us not */
    uint64_t response_bytes;
    uint64_t request_body_bytes; /* content only */
    uint64_t response_body_bytes;
    uint8_t kind;        /* enum otshim_span_kind */
    uint8_t protocol;    /* enum otshim_protocol */
    uint8_t version;     /* HTTP: 10, 11 */
    uint8_t transport;   /* enum otshim_transport */
    uint8_t trace_flags; /* W3C; bit 0 sampled */
    uint8_t parent_rule; /* enum otshim_parent_rule */
    uint8_t end;         /* enum otshim_end */
    uint8_t reserved;
    uint16_t status; /* HTTP status code, 0: none */
    uint16_t flags;  /* enum otshim_span_flag */
    int32_t error;   /* errno, or EAI_* (negative) for DNS; 0: none */
    uint32_t attr_bytes;
    struct otshim_addr peer; /* the other end of the connection */
    struct otshim_addr local;
    uint32_t tid;
    uint32_t reserved2;
    /* attributes follow: attr_bytes */
};
_Static_assert(sizeof(struct otshim_span_rec) == 160, "part of the layout");

struct otshim_log_rec {
    uint64_t time_ns;
    uint8_t severity; /* OpenTelemetry severity number: 9 info, 13 warn, 17 error */
    uint8_t reserved[3];
    uint32_t attr_bytes;
};

/* An attribute: this header, `len` bytes, then zero to three bytes of padding to a multiple of 4. */
struct otshim_attr {
    uint16_t key; /* enum otshim_attr_key */
    uint16_t len;
};

/* Text is raw bytes as they were on the wire, not terminated, possibly not UTF-8, cut at the bound in limits.h. */
enum otshim_attr_key {
    OTSHIM_ATTR_METHOD = 1,            /* request method; a database's command */
    OTSHIM_ATTR_TARGET = 2,            /* request target: origin, absolute, authority or asterisk form (RFC 9112 3.2) */
    OTSHIM_ATTR_HOST = 3,              /* Host */
    OTSHIM_ATTR_USER_AGENT = 4,        /* User-Agent */
    OTSHIM_ATTR_FORWARDED = 5,         /* Forwarded (RFC 7239) */
    OTSHIM_ATTR_X_FORWARDED_FOR = 6,   /* X-Forwarded-For */
    OTSHIM_ATTR_X_FORWARDED_PROTO = 7, /* X-Forwarded-Proto */
    OTSHIM_ATTR_TRACESTATE = 8,        /* tracestate of the span's context */
    OTSHIM_ATTR_UPGRADE = 9,           /* the protocol that an upgrade went to */
    OTSHIM_ATTR_PEER_NAME = 10,        /* the name the program resolved to get the peer's address */
    OTSHIM_ATTR_SOCKET_PATH = 11,      /* Unix socket: the path, or @name for an abstract one */
    OTSHIM_ATTR_DNS_QUESTION = 12,     /* the name asked for */
    OTSHIM_ATTR_DNS_ANSWER = 13,       /* struct otshim_addr[], at most 8 */
    OTSHIM_ATTR_ERROR_TEXT = 14,       /* what the program or a library said about the failure */
    OTSHIM_ATTR_STACK = 15,            /* uint64_t[]: return addresses of the call site, innermost first */
    OTSHIM_ATTR_LOCATION = 16,         /* Location of a redirect: reserved for later */
    /* The call site in the terms of the program's own language, where a runtime adapter knows it; then there is no STACK. */
    OTSHIM_ATTR_CODE_FUNCTION = 17,   /* qualified name of the user's innermost function */
    OTSHIM_ATTR_CODE_FILE = 18,       /* its file */
    OTSHIM_ATTR_CODE_LINE = 19,       /* uint32_t */
    OTSHIM_ATTR_CODE_STACKTRACE = 20, /* text, as that language prints a stack */
    OTSHIM_ATTR_TLS_VERSION = 21,     /* as the TLS library names it: TLSv1.3 */
    OTSHIM_ATTR_TLS_CIPHER = 22,
    OTSHIM_ATTR_TLS_SERVER_NAME = 23, /* SNI */
    OTSHIM_ATTR_TLS_ALPN = 24,        /* the protocol agreed upon */
    OTSHIM_ATTR_CONTENT_TYPE = 25,    /* of a request; HTTP/2 only */
    OTSHIM_ATTR_RPC_STATUS = 26,      /* grpc-status, a number in text */
    OTSHIM_ATTR_DB_NAMESPACE = 27,    /* which database */
    OTSHIM_ATTR_DB_ARGUMENTS = 28,    /* how many arguments the command has: a number in text */
    OTSHIM_ATTR_DB_KEY = 29,          /* the first of them, if it is a key */
};

static inline uint32_t otshim_attr_size(uint32_t len)
{
    return (uint32_t)sizeof(struct otshim_attr) + ((len + 3u) & ~3u);
}

#endif
