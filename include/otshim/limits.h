/* limits.h - every bound of the contract between a traced process and the exporter, in one place.
 *
 * Both halves include this file: the library never writes more, the exporter never believes more. Sizes are bytes. */
#ifndef OTSHIM_LIMITS_H
#define OTSHIM_LIMITS_H

/* Raised when a layout in ring.h, record.h or hello.h changes; the exporter refuses other versions by name. */
#define OTSHIM_ABI_VERSION 1u

/* Data area of a ring: OTSHIM_BUFFER_SIZE, rounded up to a power of two within these bounds. */
#define OTSHIM_RING_MIN_BYTES (64u * 1024u)
#define OTSHIM_RING_DEFAULT_BYTES (4u * 1024u * 1024u)
#define OTSHIM_RING_MAX_BYTES (256u * 1024u * 1024u)

/* Longest record, header included. A record is composed of bounded parts, so it cannot be exceeded; the reader checks. */
#define OTSHIM_RECORD_MAX_BYTES 16384u

/* Requests and calls in flight that a process shows at once; more are traced, but not shown before they end. */
#define OTSHIM_INFLIGHT_SLOTS 1024u

/* Captured text, per attribute. What is longer is cut, and the span carries OTSHIM_SPAN_TRUNCATED. */
#define OTSHIM_METHOD_MAX 32u
#define OTSHIM_TARGET_MAX 2048u
#define OTSHIM_HEADER_MAX 512u     /* Host, User-Agent, X-Forwarded-*, ... */
#define OTSHIM_TRACESTATE_MAX 512u /* W3C Trace Context 3.3.1.5: propagate at least 512 characters */
#define OTSHIM_NAME_MAX 256u       /* a host name: RFC 1035 2.3.4 has 255 */
#define OTSHIM_TEXT_MAX 512u       /* error and log text */
#define OTSHIM_STACK_MAX 64u       /* return addresses at a call site */
#define OTSHIM_CODE_FUNCTION_MAX 256u
#define OTSHIM_CODE_FILE_MAX 512u
#define OTSHIM_CODE_STACKTRACE_MAX 2048u /* what Tempo 3 keeps of a value */

/* The hello: one SOCK_SEQPACKET message. */
#define OTSHIM_HELLO_MAX_BYTES 16384u
#define OTSHIM_CMDLINE_MAX 4096u
#define OTSHIM_ENV_MAX 4096u /* one environment value copied into the hello */

/* The exporter beats once a second; a producer that has seen no new beat for this long hands its ring over again. */
#define OTSHIM_HEARTBEAT_NS 1000000000ull
#define OTSHIM_HEARTBEAT_STALE_NS 3000000000ull

#endif
