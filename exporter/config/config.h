/* config.h - the exporter's environment, checked as a whole before anything starts.
 *
 * Bad configuration is refused with one clear line each: the variable, its value, what is wrong, what to write instead. */
#ifndef OTSHIM_EXPORTER_CONFIG_H
#define OTSHIM_EXPORTER_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

enum otlp_protocol { OTLP_NONE = 0 /* no endpoint: spans are kept for view only */, OTLP_GRPC, OTLP_HTTP_PROTOBUF };

struct header {
    char *name;
    char *value;
};

struct exporter_config {
    /* traces: OTEL_EXPORTER_OTLP_TRACES_*, else OTEL_EXPORTER_OTLP_*; OTEL_TRACES_EXPORTER=none turns delivery off */
    enum otlp_protocol
        protocol; /* OTEL_EXPORTER_OTLP_PROTOCOL, else by the port: 4317 gRPC, 4318 HTTP/protobuf, else HTTP/protobuf */
    char *url;    /* complete: for gRPC with /opentelemetry.proto.collector.trace.v1.TraceService/Export; no credentials in it */
    struct header *headers;
    size_t header_count;
    uint64_t timeout_ms; /* 10000; 0: no limit */
    bool gzip;
    bool insecure; /* gRPC without TLS; decided by the scheme, or OTEL_EXPORTER_OTLP_INSECURE where there is none */
    char *ca_file, *client_cert, *client_key;

    /* OTEL_BSP_* */
    uint64_t schedule_delay_ms; /* 5000; we default to 1000: a person is waiting at the waterfall */
    size_t max_queue_spans;     /* OTEL_BSP_MAX_QUEUE_SIZE: default here 65536 */
    size_t max_batch_spans;     /* 512 */
    uint64_t retry_deadline_ms; /* OTEL_BSP_EXPORT_TIMEOUT: give up a batch after this long; default 300000; 0: never */

    /* our own */
    char *socket_path;  /* OTSHIM_SOCKET or the default place */
    mode_t socket_mode; /* OTSHIM_SOCKET_MODE, octal; 0666 */
    char *http_host;    /* OTSHIM_HTTP: host:port; "off" leaves it NULL */
    uint16_t http_port;
    size_t recent_traces;     /* OTSHIM_TRACES: 1000 */
    size_t max_processes_uid; /* OTSHIM_MAX_PROCESSES: per uid, 4096 */
    char *log_file;           /* OTSHIM_LOG_FILE; NULL: stderr */
    int log_level;            /* OTSHIM_LOG: error, info (default), debug */
    uint64_t shutdown_ms;     /* OTSHIM_SHUTDOWN_TIMEOUT: flush deadline at SIGTERM, 5000 */
};

/* Fills config from environ. Writes one line per mistake to `complaints`; returns the number of mistakes. */
int exporter_config_load(struct exporter_config *config, FILE *complaints);
void exporter_config_free(struct exporter_config *config);

/* The address of a running exporter for the client commands (run, traces, trace, status): socket path and HTTP address only.
 * Same rules, same complaints. */
int exporter_config_load_client(struct exporter_config *config, FILE *complaints);

#endif
