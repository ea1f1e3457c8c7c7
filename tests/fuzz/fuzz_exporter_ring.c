/* A hostile process's memory: header and data area hold any bytes. The reader must end, and nothing it hands on may be out of bounds.
 *
 * Input: an operation list over a real ring's image, so that the fuzzer gets past the first check: each step has one byte of operation and
 * its operands. Unused input is poured over the data area. Reading goes on between the steps, with producers that are dead or alive. */
#include "ingest/inflight.h"
#include "ingest/memory.h"
#include "ingest/pump.h"
#include "log.h"
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    log_open("/dev/null", LOG_LEVEL_ERROR); /* a hostile ring is said in the log; here each of them is one */
    return 0;
}

#define BYTES OTSHIM_RING_MIN_BYTES
#define SLOTS 4u

struct input {
    const uint8_t *at, *end;
};

static uint64_t input_number(struct input *in, size_t bytes)
{
    uint64_t value = 0;
    size_t n = (size_t)(in->end - in->at) < bytes ? (size_t)(in->end - in->at) : bytes;

    memcpy(&value, in->at, n);
    in->at += n;
    return value;
}

static void fuzz_span(void *self, const struct process *process, const struct otshim_span_rec *rec, const uint8_t *attrs,
                      struct receipt *receipt)
{
    volatile uint8_t sum = 0;

    (void)process;
    for (uint32_t i = 0; i < rec->attr_bytes; i++)
        sum = (uint8_t)(sum + attrs[i]);
    ++*(unsigned *)self;
    receipt_settle(receipt);
}

static void fuzz_log(void *self, const struct process *process, const struct otshim_log_rec *rec, const uint8_t *attrs)
{
    volatile uint8_t sum = 0;

    (void)self, (void)process;
    for (uint32_t i = 0; i < rec->attr_bytes; i++)
        sum = (uint8_t)(sum + attrs[i]);
}

static void fuzz_died(void *self, const struct process *process, const struct otshim_inflight *slot, uint64_t end_mono_ns)
{
    (void)self, (void)process;
    if (slot->method_len > sizeof slot->method || slot->target_len > sizeof slot->target || end_mono_ns < slot->start_ns)
        abort();
}

static void fuzz_moved(void *arg, uint64_t tail)
{
    ring_reader_set_tail(&((struct tracee *)arg)->reader, tail);
}

static _Atomic uint64_t *fuzz_word(struct tracee *t, uint64_t pos)
{
    return (_Atomic uint64_t *)(uintptr_t)(t->memory.data + (pos & (BYTES - 1) & ~7ull));
}

/* A good record at head, with a few bytes changed, and head moved over it. What is wrong with it is the input's choice. */
static void fuzz_record(struct tracee *t, struct input *in)
{
    struct otshim_shm *shm = t->memory.shm;
    struct otshim_span_rec rec = {.trace_id = {1}, .span_id = {1}, .kind = OTSHIM_SPAN_CLIENT, .end_ns = 1, .status = 200};
    struct otshim_attr attr = {.key = (uint16_t)input_number(in, 1), .len = (uint16_t)(input_number(in, 1) * 4)};
    uint64_t head = shm->head, len = sizeof(struct otshim_rec) + sizeof rec + otshim_attr_size(attr.len), claimed;
    uint8_t *bytes = (uint8_t *)(uintptr_t)fuzz_word(t, head);
    size_t room = (size_t)(t->memory.data + BYTES - bytes);

    len = (len + 7) & ~7ull;
    if (room < len) { /* the gap before the end */
        atomic_store(fuzz_word(t, head), otshim_word(head, room, OTSHIM_WORD_PADDING));
        shm->head = head + room;
        return;
    }
    memcpy(rec.span_id, &head, sizeof head);
    rec.span_id[7] = 1;
    rec.attr_bytes = otshim_attr_size(attr.len);
    memset(bytes, 0, len);
    bytes[12] = (uint8_t)input_number(in, 1) % 8 == 7 ? OTSHIM_RECORD_LOG : OTSHIM_RECORD_SPAN;
    bytes[14] = (uint8_t)input_number(in, 1) & OTSHIM_REC_MOVED;
    memcpy(bytes + sizeof(struct otshim_rec), &rec, sizeof rec);
    memcpy(bytes + sizeof(struct otshim_rec) + sizeof rec, &attr, sizeof attr);
    for (size_t changes = input_number(in, 1) % 4; changes > 0; changes--)
        bytes[8 + input_number(in, 2) % (len - 8)] = (uint8_t)input_number(in, 1);
    claimed = input_number(in, 1) % 16 == 15 ? input_number(in, 2) & ~7ull : len;
    atomic_store(fuzz_word(t, head),
                 otshim_word(head, claimed, input_number(in, 1) % 8 == 7 ? OTSHIM_WORD_RESERVED : OTSHIM_WORD_COMMITTED));
    shm->head = head + len;
}

static void fuzz_step(struct tracee *t, struct input *in)
{
    struct otshim_shm *shm = t->memory.shm;
    uint64_t pos;

    switch (input_number(in, 1) % 8) {
    case 0: shm->head = input_number(in, 8); break;
    case 1: shm->head += input_number(in, 2) & ~7ull; break;
    case 2:
    case 3: fuzz_record(t, in); break;
    case 4:
        pos = t->reader.pos + (input_number(in, 2) & ~7ull);
        atomic_store(fuzz_word(t, pos),
                     otshim_word(pos, input_number(in, 3) & 0x1ffff8, (enum otshim_word_state)(input_number(in, 1) & 3)));
        break;
    case 5: t->memory.shm->tail = input_number(in, 8); break;
    case 6:
        pos = input_number(in, 2);
        for (size_t n = input_number(in, 1); n > 0; n--)
            ((uint8_t *)(uintptr_t)t->memory.data)[pos++ & (BYTES - 1)] = (uint8_t)input_number(in, 1);
        break;
    default:
        memcpy((void *)(uintptr_t)&t->memory.inflight[input_number(in, 1) % SLOTS], in->at,
               (size_t)(in->end - in->at) < sizeof(struct otshim_inflight) ? (size_t)(in->end - in->at)
                                                                           : sizeof(struct otshim_inflight));
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const size_t total = 4096 + SLOTS * sizeof(struct otshim_inflight) + BYTES;
    static unsigned spans;
    struct record_sink sink = {.span = fuzz_span, .log = fuzz_log, .inflight_died = fuzz_died, .self = &spans};
    struct input in = {.at = data, .end = data + size};
    struct tracee t = {.process.executable = (char *)(uintptr_t) "fuzz", .pidfd = -1};
    uint8_t *memory = aligned_alloc(64, (total + 63) & ~(size_t)63); /* the heap: ASan guards both its ends */
    uint64_t now = 1000000000u;

    memset(memory, 0, total);
    t.memory = (struct memory){.shm = (struct otshim_shm *)memory,
                               .inflight = (struct otshim_inflight *)(memory + 4096),
                               .inflight_slots = SLOTS,
                               .data = memory + 4096 + SLOTS * sizeof(struct otshim_inflight),
                               .data_bytes = BYTES};
    t.memory.shm->head = t.memory.shm->tail = input_number(&in, 4) & ~7ull;
    t.process.alive = input_number(&in, 1) & 1;
    t.seen = seen_new(BYTES);
    if (ring_reader_init(&t.reader, t.memory.shm, t.memory.data, BYTES)) {
        receipt_queue_init(&t.receipts, t.reader.tail, fuzz_moved, &t);
        while (in.at < in.end) {
            fuzz_step(&t, &in);
            for (int i = 0; i < 3; i++)
                pump_run(&t, &sink, now += 3000000000u, 64);
        }
        t.process.alive = false;
        pump_drain(&t, &sink, now);
        pump_inflight_died(&t, &sink, now);
        /* Of a dead process everything up to head has been read, or the ring was found out. */
        if (t.reader.hostile == NULL && t.reader.pos != t.memory.shm->head)
            abort();
        receipt_queue_detach(&t.receipts);
    }
    seen_unref(t.seen);
    free(memory);
    return 0;
}
