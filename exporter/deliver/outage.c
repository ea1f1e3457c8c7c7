/* outage.c - see outage.h. */
#include "deliver/outage.h"
#include "log.h"
#include "metrics/stats.h"
#include "otlp/decode.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static const char *grouped(char to[32], uint64_t number)
{
    char digits[24];
    int n = snprintf(digits, sizeof(digits), "%" PRIu64, number), at = 0;
    for (int i = 0; i < n; i++) {
        if (i && (n - i) % 3 == 0)
            to[at++] = ',';
        to[at++] = digits[i];
    }
    to[at] = '\0';
    return to;
}

const char *outage_spans(char to[40], uint64_t spans)
{
    char number[32];
    snprintf(to, 40, "%s %s", grouped(number, spans), spans == 1 ? "span" : "spans");
    return to;
}

const char *outage_duration(char to[40], uint64_t ms)
{
    uint64_t seconds = (ms + 500) / 1000;
    if (ms < 1000)
        snprintf(to, 40, "%" PRIu64 " ms", ms);
    else if (seconds < 120)
        snprintf(to, 40, "%" PRIu64 " s", seconds);
    else if (seconds < 7200)
        snprintf(to, 40, "%" PRIu64 " min %" PRIu64 " s", seconds / 60, seconds % 60);
    else
        snprintf(to, 40, "%" PRIu64 " h %" PRIu64 " min", seconds / 3600, seconds % 3600 / 60);
    return to;
}

uint64_t outage_lost(void)
{
    return stats.spans_dropped_queue + stats.spans_dropped_refused + stats.spans_dropped_partial + stats.spans_dropped_expired;
}

static uint64_t unix_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static bool may_say(const struct outage *outage, int code, uint64_t now_ms)
{
    return outage->line_ms == 0 || code != outage->code || now_ms - outage->line_ms >= OUTAGE_QUIET_MS;
}

void outage_failed(struct outage *outage, const struct verdict *verdict, uint64_t now_ms, uint64_t waiting, uint64_t refused_spans,
                   uint64_t next_ms)
{
    char words[170], what[160], spans[40], wait[40];
    if (verdict->outcome == OUTCOME_REFUSED)
        snprintf(what, sizeof(what), "%s dropped", outage_spans(spans, refused_spans));
    else
        snprintf(what, sizeof(what), "%s waiting, next try in %s", outage_spans(spans, waiting), outage_duration(wait, next_ms));
    if (!outage->on) {
        outage->on = true;
        outage->since_ms = now_ms;
        outage->lost_start = outage_lost() - (verdict->outcome == OUTCOME_REFUSED ? refused_spans : 0);
    }
    stats.last_error_unix_ns = unix_ns();
    otlp_copy_text(words, sizeof(words), verdict->words, strlen(verdict->words));
    snprintf(stats.last_error, sizeof(stats.last_error), "%s; %.80s", words, what);
    /* A line for the beginning, and one more when the trouble has turned into another: refused is worse than closed. */
    if (outage->said ? verdict->code == outage->code : !may_say(outage, verdict->code, now_ms))
        return;
    if (outage->said && now_ms - outage->line_ms < OUTAGE_QUIET_MS / 6)
        return;
    outage->said = true;
    outage->code = verdict->code;
    outage->line_ms = now_ms;
    outage->lost_said = outage_lost();
    log_line(LOG_LEVEL_ERROR, "traces are not getting through: %s%s%s; %s", verdict->words, verdict->remedy ? ": " : "",
             verdict->remedy ? verdict->remedy : "", what);
}

void outage_over(struct outage *outage, const char *where, uint64_t now_ms, uint64_t waiting)
{
    char duration[40], left[40], lost[40];
    if (outage->on && outage->said)
        log_line(LOG_LEVEL_INFO, "traces are getting through to %s again after %s: %s left to send, %s lost meanwhile", where,
                 outage_duration(duration, now_ms - outage->since_ms), outage_spans(left, waiting),
                 outage_spans(lost, outage_lost() - outage->lost_start));
    else if (outage_lost() > outage->lost_said && now_ms - outage->line_ms >= OUTAGE_QUIET_MS)
        log_line(LOG_LEVEL_ERROR, "trouble with %s comes and goes: %s lost since the last line about it", where,
                 outage_spans(lost, outage_lost() - outage->lost_said));
    else {
        outage->on = outage->said = false;
        return;
    }
    outage->line_ms = now_ms;
    outage->lost_said = outage_lost();
    outage->on = outage->said = false;
}

void outage_queue_full(struct outage *outage, size_t max_spans, uint64_t now_ms)
{
    char spans[40];
    if (outage->queue_full)
        return;
    outage->queue_full = true;
    if (outage->queue_full_line_ms && now_ms - outage->queue_full_line_ms < OUTAGE_QUIET_MS)
        return;
    outage->queue_full_line_ms = now_ms;
    outage->lost_said = outage_lost();
    log_line(LOG_LEVEL_ERROR,
             "the queue is full (%s): new spans are dropped and counted until the backend takes some; OTEL_BSP_MAX_QUEUE_SIZE sets "
             "its size",
             outage_spans(spans, max_spans));
}

void outage_queue_room(struct outage *outage)
{
    outage->queue_full = false;
}

void outage_partial(struct outage *outage, const char *where, const struct verdict *verdict, uint64_t now_ms)
{
    char spans[40];
    outage->partial.rejected += (uint64_t)verdict->rejected;
    outage->partial.requests++;
    if (outage->partial.line_ms && now_ms - outage->partial.line_ms < OUTAGE_QUIET_MS)
        return;
    const char *message = verdict->words[0] ? verdict->words : "it does not say why";
    if (outage->partial.rejected == 0) /* OTLP specification: a warning */
        log_line(LOG_LEVEL_INFO, "%s took all spans, with a warning: %s", where, message);
    else
        log_line(LOG_LEVEL_ERROR, "%s rejected %s inside %" PRIu64 " successful %s (partial success, not sent again): %s", where,
                 outage_spans(spans, outage->partial.rejected), outage->partial.requests,
                 outage->partial.requests == 1 ? "request" : "requests", message);
    outage->partial.line_ms = now_ms;
    outage->partial.rejected = outage->partial.requests = 0;
}

void outage_sum(const char *where)
{
    char left[40], sent[40], lost[40];
    /* Not all of these are lost: the tails of the rings stand before them (ingest/receipt.h). */
    if (stats.spans_dropped_shutdown)
        log_line(
            LOG_LEVEL_ERROR,
            "%s not delivered to %s before the stop; those of programs that still run wait in their buffers for the next exporter",
            outage_spans(left, stats.spans_dropped_shutdown), where);
    if (outage_lost())
        log_line(LOG_LEVEL_ERROR,
                 "in all: %s delivered to %s, %s lost (queue full %" PRIu64 ", refused %" PRIu64 ", partial success %" PRIu64
                 ", given up %" PRIu64 ")",
                 outage_spans(sent, stats.spans_exported), where, outage_spans(lost, outage_lost()), stats.spans_dropped_queue,
                 stats.spans_dropped_refused, stats.spans_dropped_partial, stats.spans_dropped_expired);
}
