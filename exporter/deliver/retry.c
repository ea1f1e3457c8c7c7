/* retry.c - see retry.h. */
#include "deliver/retry.h"
#include "deliver/grpc.h"
#include <curl/curl.h>
#include <string.h>

uint64_t retry_backoff_ms(unsigned attempt, double random)
{
    double wait = RETRY_FIRST_MS;
    for (unsigned i = 1; i < attempt && wait < RETRY_MOST_MS; i++)
        wait *= 1.5;
    if (wait > RETRY_MOST_MS)
        wait = RETRY_MOST_MS;
    wait *= 0.5 + random;
    return wait > RETRY_MOST_MS ? RETRY_MOST_MS : (uint64_t)wait;
}

int64_t retry_after_ms(const char *value, time_t now)
{
    if (!value || !value[0])
        return -1;
    size_t digits = strspn(value, "0123456789");
    if (value[digits] == '\0') {
        int64_t seconds = 0;
        for (size_t i = 0; i < digits && seconds < RETRY_AFTER_MOST_MS / 1000; i++)
            seconds = seconds * 10 + (value[i] - '0');
        return seconds >= RETRY_AFTER_MOST_MS / 1000 ? RETRY_AFTER_MOST_MS : seconds * 1000;
    }
    time_t date = curl_getdate(value, NULL);
    if (date == (time_t)-1)
        return -1;
    if (date <= now)
        return 0;
    return date - now >= RETRY_AFTER_MOST_MS / 1000 ? RETRY_AFTER_MOST_MS : (int64_t)(date - now) * 1000;
}

bool retry_grpc(int grpc_status, bool has_retry_info)
{
    switch (grpc_status) {
    case GRPC_CANCELLED:
    case GRPC_DEADLINE_EXCEEDED:
    case GRPC_ABORTED:
    case GRPC_OUT_OF_RANGE:
    case GRPC_UNAVAILABLE:
    case GRPC_DATA_LOSS: return true;
    case GRPC_RESOURCE_EXHAUSTED: return has_retry_info;
    default: return false;
    }
}

bool retry_http(long http_status)
{
    return http_status == 429 || http_status == 502 || http_status == 503 || http_status == 504;
}
