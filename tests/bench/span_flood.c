/* span_flood.c - spans into the ring at a given rate, by the library's own writer: the load for the exporter's benchmark.
 * usage: span_flood SPANS_PER_SECOND SECONDS. Prints the nanoseconds per span_write. The spans are typical HTTP server spans. */
#define _GNU_SOURCE
#include "base/base.h"
#include "base/config.h"
#include "span/span.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    double rate = atof(argv[1]);
    uint64_t start = now_ns(), end = start + (uint64_t)(atof(argv[2]) * 1e9), written = 0, spent = 0;
    config_load(environ, "span_flood");
    struct otshim_span_rec rec = {.kind = OTSHIM_SPAN_SERVER,
                                  .protocol = OTSHIM_PROTOCOL_HTTP1,
                                  .version = 11,
                                  .transport = OTSHIM_TRANSPORT_TCP,
                                  .trace_flags = 1,
                                  .status = 200,
                                  .request_bytes = 140,
                                  .response_bytes = 260,
                                  .peer = {.family = 4, .port = 41234, .bytes = {127, 0, 0, 1}},
                                  .local = {.family = 4, .port = 8080, .bytes = {127, 0, 0, 1}}};
    const struct span_attr attrs[] = {{OTSHIM_ATTR_METHOD, 3, "GET"},
                                      {OTSHIM_ATTR_TARGET, 17, "/items/42?q=12345"},
                                      {OTSHIM_ATTR_HOST, 14, "localhost:8080"},
                                      {OTSHIM_ATTR_USER_AGENT, 11, "curl/7.88.1"}};
    for (uint64_t now = start; now < end; now = now_ns()) {
        uint64_t due = (uint64_t)((double)(now - start) / 1e9 * rate);
        uint64_t before = now_ns();
        for (; written < due; written++) {
            ids_trace(rec.trace_id);
            ids_span(rec.span_id);
            rec.start_ns = now - 1000000;
            rec.first_byte_ns = now - 2000;
            rec.end_ns = now;
            span_write(&rec, attrs, sizeof attrs / sizeof *attrs);
        }
        spent += now_ns() - before;
        usleep(2000);
    }
    sleep(1);
    printf("%llu spans, %.1f ns each\n", (unsigned long long)written, (double)spent / (double)(written ? written : 1));
    return 0;
}
