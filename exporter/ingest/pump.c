/* pump.c - see pump.h.
 *
 * Chunks are small (PUMP_CHUNK_RECORDS): a chunk whose spans are half delivered when the exporter is killed is read again by its
 * successor, so its size bounds how many spans a backend may get twice. */
#include "ingest/pump.h"
#include "ingest/inflight.h"
#include "ingest/record_check.h"
#include "log.h"
#include "metrics/stats.h"
#include <string.h>

#define PUMP_CLOSED_NS 1000000000u
#define PUMP_LOOK_NS 20000000ull /* /proc is asked about a stalled producer this often */

static void pump_invalid(const struct tracee *tracee, const struct ring_record *record)
{
    static struct log_limit limit = {.every_s = 30};

    stats.records_invalid++;
    log_limited(&limit, LOG_LEVEL_ERROR, "left out a record of %s (pid %d) that makes no sense (type %u, %zu bytes)",
                tracee_name(tracee), (int)tracee->process.pid, (unsigned)record->type, record->len);
}

static void pump_span(struct tracee *tracee, const struct record_sink *sink, const struct ring_record *record)
{
    struct otshim_span_rec rec;
    const uint8_t *attrs;

    if (!record_check_span(record->bytes + sizeof(struct otshim_rec), record->len - sizeof(struct otshim_rec), &rec, &attrs)) {
        pump_invalid(tracee, record);
        return;
    }
    if ((record->marks & OTSHIM_REC_MOVED) != 0 && seen_has(tracee->seen, rec.span_id))
        return; /* read from the ring that it was moved from */
    seen_add(tracee->seen, rec.span_id);
    stats.spans_received++;
    sink->span(sink->self, &tracee->process, &rec, attrs, receipt_take(&tracee->receipts));
}

static void pump_record(struct tracee *tracee, const struct record_sink *sink, const struct ring_record *record)
{
    struct otshim_log_rec rec;
    const uint8_t *attrs;

    switch (record->type) {
    case OTSHIM_RECORD_SPAN: pump_span(tracee, sink, record); break;
    case OTSHIM_RECORD_LOG:
        if (!record_check_log(record->bytes + sizeof(struct otshim_rec), record->len - sizeof(struct otshim_rec), &rec, &attrs))
            pump_invalid(tracee, record);
        else if (sink->log != NULL)
            sink->log(sink->self, &tracee->process, &rec, attrs);
        break;
    default: break; /* record.h: unknown types are skipped */
    }
}

static void pump_close_chunk(struct tracee *tracee)
{
    struct receipt_queue *receipts = &tracee->receipts;
    uint64_t pos = tracee->reader.pos, half = tracee->memory.data_bytes / 2;

    receipt_close(receipts, pos);
    /* Room for the producers matters more than a second copy of the oldest records, which are in our memory. */
    if (pos - receipts->tail > half)
        receipt_release_oldest(receipts, pos - half);
}

/* May anybody still write here? Not in a ring that has been closed for a while (a thread can be in mid-record when another one execs). */
static bool pump_writes(const struct tracee *tracee, uint64_t now_ns)
{
    return tracee->process.alive && (tracee->closed_since_ns == 0 || now_ns - tracee->closed_since_ns < PUMP_CLOSED_NS);
}

/* Has the producer of the stalled reservation gone for sure, or been given time enough? */
static bool pump_producer_gone(struct tracee *tracee, uint64_t now_ns)
{
    uint32_t tid;
    enum tracee_thread thread;

    if (!pump_writes(tracee, now_ns))
        return true;
    if (!tracee->stall.on || tracee->stall.pos != tracee->reader.pos) {
        tracee->stall.on = true;
        tracee->stall.pos = tracee->reader.pos;
        tracee->stall.head = tracee->reader.head;
        tracee->stall.since_ns = tracee->stall.looked_ns = now_ns;
        return false; /* most likely it is being written right now */
    }
    if (now_ns - tracee->stall.looked_ns < PUMP_LOOK_NS)
        return false;
    tracee->stall.looked_ns = now_ns;
    tid = ring_reader_stalled_tid(&tracee->reader);
    thread = tracee_thread(tracee, tid);
    if (thread == THREAD_GONE)
        return true;
    if (thread == THREAD_UNKNOWN && tid != 0)
        thread = tracee_thread(tracee, 0);
    if (thread == THREAD_STOPPED) /* SIGSTOP or a debugger: it will go on */
        tracee->stall.since_ns = now_ns;
    return now_ns - tracee->stall.since_ns >= PUMP_STALL_NS;
}

static bool pump_stalled(struct tracee *tracee, uint64_t now_ns)
{
    if (!pump_producer_gone(tracee, now_ns))
        return false;
    stats.records_abandoned++;
    /* Of a dead process everything is final; of a living one what was reserved after the stall began may still be in the making. */
    ring_reader_skip(&tracee->reader, pump_writes(tracee, now_ns) ? tracee->stall.head : tracee->reader.head);
    tracee->stall.on = false;
    return true;
}

static void pump_hostile(struct tracee *tracee)
{
    if (tracee->hostile_said)
        return;
    tracee->hostile_said = true;
    receipt_queue_detach(&tracee->receipts);
    strncpy(tracee->process.note, "its memory is damaged and is not read any more", sizeof tracee->process.note - 1);
    log_line(LOG_LEVEL_ERROR, "the memory of %s (pid %d, uid %u) is damaged and is not read any more: %s", tracee_name(tracee),
             (int)tracee->process.pid, (unsigned)tracee->process.uid, tracee->reader.hostile);
}

struct pump_result pump_run(struct tracee *tracee, const struct record_sink *sink, uint64_t now_ns, unsigned budget)
{
    static struct ring_record record; /* 16 KiB; one thread */
    struct ring_reader *reader = &tracee->reader;
    struct pump_result result = {.end = PUMP_MORE};
    uint64_t start = reader->pos, chunk_start = start, chunk_bytes = tracee->memory.data_bytes / 32;
    unsigned chunk_records = 0;

    while (result.end == PUMP_MORE && budget-- > 0) {
        switch (ring_reader_next(reader, &record)) {
        case RING_EMPTY: result.end = PUMP_EMPTY; break;
        case RING_HOSTILE: result.end = PUMP_HOSTILE; break;
        case RING_SKIPPED: break;
        case RING_STALLED:
            if (!pump_stalled(tracee, now_ns))
                result.end = PUMP_STALLED;
            break;
        case RING_RECORD:
            tracee->stall.on = false;
            pump_record(tracee, sink, &record);
            if (++chunk_records >= PUMP_CHUNK_RECORDS || reader->pos - chunk_start >= chunk_bytes) {
                pump_close_chunk(tracee);
                chunk_start = reader->pos;
                chunk_records = 0;
            }
            break;
        }
    }
    if (reader->pos != chunk_start && result.end != PUMP_HOSTILE)
        pump_close_chunk(tracee);
    if (result.end == PUMP_HOSTILE)
        pump_hostile(tracee);
    result.bytes = reader->pos - start;
    return result;
}

void pump_drain(struct tracee *tracee, const struct record_sink *sink, uint64_t now_ns)
{
    uint64_t target = atomic_load_explicit(&tracee->reader.shm->head, memory_order_acquire);

    /* Not to PUMP_EMPTY: a busy producer, or a hostile one, could keep us here for ever. Each round moves at least one step. */
    for (;;) {
        struct pump_result result = pump_run(tracee, sink, now_ns, 256);

        if (result.end != PUMP_MORE || tracee->reader.pos >= target)
            break;
    }
}

struct pump_dead {
    struct tracee *tracee;
    const struct record_sink *sink;
    uint64_t end_ns;
    unsigned count;
};

static void pump_dead_slot(void *arg, const struct otshim_inflight *slot)
{
    struct pump_dead *dead = arg;

    if (seen_has(dead->tracee->seen, slot->span_id))
        return;
    dead->count++;
    dead->sink->inflight_died(dead->sink->self, &dead->tracee->process, slot,
                              slot->start_ns > dead->end_ns ? slot->start_ns : dead->end_ns);
}

unsigned pump_inflight_died(struct tracee *tracee, const struct record_sink *sink, uint64_t now_ns)
{
    /* wall = theirs + offset + delta = ours + offset */
    struct pump_dead dead = {.tracee = tracee, .sink = sink, .end_ns = now_ns - (uint64_t)tracee->clock_delta_ns};

    if (sink->inflight_died != NULL && tracee->reader.hostile == NULL)
        inflight_each(&tracee->memory, pump_dead_slot, &dead);
    return dead.count;
}
