/* trace.c - the sink of raw records and the source of spans: see trace.h. */
#include "trace/trace.h"
#include "log.h"
#include "metrics/stats.h"
#include "trace/facts.h"
#include "trace/symbolize.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

/* A process may say much about itself; the log is for people. */
#define LOG_LINES 20
#define LOG_SECONDS 10

struct trace {
    struct span_sink next;
    struct symbolizer *symbolizer;
    time_t log_since; /* CLOCK_MONOTONIC, seconds */
    unsigned log_lines, log_left_out;
    struct draft draft;
    struct call_site call_site;
};

struct trace *trace_new(struct span_sink next)
{
    struct trace *trace = malloc(sizeof *trace); /* the draft is large, and filled as it is used */
    if (trace == NULL)
        return NULL;
    trace->next = next;
    trace->log_since = 0;
    trace->log_lines = trace->log_left_out = 0;
    draft_reset(&trace->draft);
    trace->symbolizer = symbolizer_new();
    if (trace->symbolizer == NULL) {
        free(trace);
        return NULL;
    }
    return trace;
}

void trace_free(struct trace *trace)
{
    if (trace == NULL)
        return;
    symbolizer_free(trace->symbolizer);
    free(trace);
}

/* In the words of the program's own language. False: there are none. */
static bool describe_code(struct making *m)
{
    const struct bytes *attrs = m->facts->attrs;
    struct bytes function = attrs[OTSHIM_ATTR_CODE_FUNCTION], file = attrs[OTSHIM_ATTR_CODE_FILE];
    struct bytes line = attrs[OTSHIM_ATTR_CODE_LINE], stack = attrs[OTSHIM_ATTR_CODE_STACKTRACE];
    uint32_t number = 0;
    if (line.len == sizeof number)
        memcpy(&number, line.at, sizeof number);
    draft_string(m->draft, "code.function.name", draft_text(m->draft, function.at, function.len));
    draft_string(m->draft, "code.file.path", draft_text(m->draft, file.at, file.len));
    if (number > 0)
        draft_integer(m->draft, "code.line.number", number);
    draft_string(m->draft, "code.stacktrace", draft_text(m->draft, stack.at, stack.len));
    return function.len + file.len + stack.len > 0;
}

static void describe_call_site(struct trace *trace, struct making *m)
{
    if (describe_code(m))
        return;
    const struct process *process = m->facts->process;
    struct bytes raw = m->facts->attrs[OTSHIM_ATTR_STACK];
    uint64_t addresses[OTSHIM_STACK_MAX];
    struct call_site *site = &trace->call_site;
    size_t count = raw.len / sizeof addresses[0];
    count = count < OTSHIM_STACK_MAX ? count : OTSHIM_STACK_MAX;
    if (count == 0)
        return;
    memcpy(addresses, raw.at, count * sizeof addresses[0]);
    if (!symbolizer_call_site(trace->symbolizer, process, process->pid, process->alive, addresses, count, site))
        return;
    draft_string(m->draft, "code.function.name", draft_text(m->draft, site->function, strlen(site->function)));
    draft_string(m->draft, "code.file.path", draft_text(m->draft, site->file, strlen(site->file)));
    if (site->line > 0)
        draft_integer(m->draft, "code.line.number", site->line);
    draft_string(m->draft, "code.stacktrace", draft_text(m->draft, site->stack, strlen(site->stack)));
}

/* Takes over the receipt. */
static void publish(struct trace *trace, const struct facts *facts, struct receipt *receipt)
{
    struct making m = {.draft = &trace->draft, .facts = facts};
    draft_reset(&trace->draft);
    span_describe(&m);
    describe_call_site(trace, &m);
    m.span.resource = facts->process->resource;
    m.span.receipt = receipt;
    m.span.size_hint = sizeof(struct otshim_span_rec) + trace->draft.text_len + 24 * trace->draft.attribute_count;
    struct span *span = draft_span(&trace->draft, &m.span);
    if (span == NULL) {
        stats.spans_dropped_queue++; /* no memory for it: the queue is as full as it gets */
        if (receipt != NULL)
            receipt_settle(receipt);
        return;
    }
    resource_ref(span->resource);
    trace->next.span(trace->next.self, span);
    span_unref(span);
}

static void on_span(void *self, const struct process *process, const struct otshim_span_rec *rec, const uint8_t *attrs,
                    struct receipt *receipt)
{
    struct facts facts = facts_new(process, rec);
    facts_attributes(&facts, attrs, rec->attr_bytes);
    publish(self, &facts, receipt);
}

/* ---- in flight at death ----------------------------------------------------------------------------------------------------------- */

void trace_inflight_died(struct trace *trace, const struct process *process, const struct otshim_inflight *slot,
                         uint64_t end_mono_ns)
{
    struct otshim_span_rec rec = {
        .start_ns = slot->start_ns,
        .end_ns = end_mono_ns,
        .kind = slot->kind,
        .protocol = slot->protocol,
        .transport = slot->peer.family == 1 || slot->local.family == 1 ? OTSHIM_TRANSPORT_UNIX : OTSHIM_TRANSPORT_TCP,
        .trace_flags = slot->trace_flags,
        .parent_rule = slot->parent_rule,
        .end = OTSHIM_END_DIED,
        .peer = slot->peer,
        .local = slot->local,
        .tid = slot->tid,
    };
    memcpy(rec.trace_id, slot->trace_id, sizeof rec.trace_id);
    memcpy(rec.span_id, slot->span_id, sizeof rec.span_id);
    memcpy(rec.parent_id, slot->parent_id, sizeof rec.parent_id);
    struct facts facts = facts_new(process, &rec);
    size_t method_len = slot->method_len, target_len = slot->target_len, host_len = slot->host_len;
    if (method_len <= sizeof slot->method)
        facts.attrs[OTSHIM_ATTR_METHOD] = bytes_of(slot->method, method_len);
    if (target_len <= sizeof slot->target)
        facts.attrs[OTSHIM_ATTR_TARGET] = bytes_of(slot->target, target_len);
    if (host_len <= sizeof slot->host)
        facts.attrs[OTSHIM_ATTR_HOST] = bytes_of(slot->host, host_len);
    if (target_len == sizeof slot->target || host_len == sizeof slot->host)
        rec.flags |= OTSHIM_SPAN_TRUNCATED;
    publish(trace, &facts, NULL);
}

static void on_inflight_died(void *self, const struct process *process, const struct otshim_inflight *slot, uint64_t end_mono_ns)
{
    trace_inflight_died(self, process, slot, end_mono_ns);
}

/* ---- processes, and what they say -------------------------------------------------------------------------------------------------- */

void trace_process_seen(struct trace *trace, const struct process *process)
{
    symbolizer_seen(trace->symbolizer, process, process->alive ? process->pid : 0);
}

static void on_process_seen(void *self, const struct process *process)
{
    trace_process_seen(self, process);
}

static void on_process_gone(void *self, const struct process *process)
{
    struct trace *trace = self;
    symbolizer_gone(trace->symbolizer, process);
}

static bool may_log(struct trace *trace)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (trace->log_lines == 0 || now.tv_sec >= trace->log_since + LOG_SECONDS) {
        if (trace->log_left_out > 0)
            log_line(LOG_LEVEL_INFO, "%u lines from traced programs were left out", trace->log_left_out);
        trace->log_since = now.tv_sec;
        trace->log_lines = trace->log_left_out = 0;
    }
    if (trace->log_lines == LOG_LINES) {
        trace->log_left_out++;
        return false;
    }
    trace->log_lines++;
    return true;
}

static void on_log(void *self, const struct process *process, const struct otshim_log_rec *rec, const uint8_t *attrs)
{
    struct trace *trace = self;
    struct facts facts = facts_new(process, NULL);
    facts_attributes(&facts, attrs, rec->attr_bytes);
    struct bytes text = facts.attrs[OTSHIM_ATTR_ERROR_TEXT];
    enum log_level level = rec->severity >= 17 ? LOG_LEVEL_ERROR : rec->severity >= 9 ? LOG_LEVEL_INFO : LOG_LEVEL_DEBUG;
    if (text.len == 0 || !may_log(trace))
        return;
    char line[OTSHIM_TEXT_MAX + 1];
    size_t len = text.len < OTSHIM_TEXT_MAX ? text.len : OTSHIM_TEXT_MAX;
    for (size_t i = 0; i < len; i++) /* a log may be read in a terminal, one line an entry */
        line[i] = (unsigned char)text.at[i] < ' ' || text.at[i] == 0x7f ? ' ' : text.at[i];
    line[len] = '\0';
    log_line(level, "%s (pid %d): %s", process->resource->service_name, (int)process->pid, line);
}

struct record_sink trace_record_sink(struct trace *trace)
{
    return (struct record_sink){
        .span = on_span,
        .log = on_log,
        .inflight_died = on_inflight_died,
        .process_seen = on_process_seen,
        .process_gone = on_process_gone,
        .self = trace,
    };
}
