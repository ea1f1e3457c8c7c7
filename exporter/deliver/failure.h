/* failure.h - why there was no answer, in words: libcurl's error codes for a tired person. */
#ifndef OTSHIM_EXPORTER_DELIVER_FAILURE_H
#define OTSHIM_EXPORTER_DELIVER_FAILURE_H

#include "deliver/answer.h"
#include <curl/curl.h>

struct failure_context {
    const char *peer;    /* "tempo:4317" */
    const char *details; /* libcurl's error buffer, "" if empty */
    bool grpc;
    uint64_t timeout_ms;
    long os_error;  /* CURLINFO_OS_ERRNO */
    bool connected; /* the connection stood */
};

/* Fills answer->failure, failure_code and remedy. */
void failure_describe(struct answer *answer, CURLcode code, const struct failure_context *context);

#endif
