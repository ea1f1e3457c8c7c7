/* ingest.c - ties the rooms of ingest/ to the event loop: who is in the table, when rings are read, when a process has ended.
 *
 * Rings are polled: their producers make no system call, so nothing can wake us. The interval adapts: 5 ms while there is much, up to
 * 50 ms while there is something now and then (a person waits at the waterfall), 100 ms when nobody has said anything for a while; looking
 * at an idle ring is one load. Without processes no timer runs at all. A second timer beats once a second: it writes each ring's
 * heartbeat, which tells the process that somebody reads, and looks after everything that has time (counters, closed rings, clocks).
 *
 * A process's death comes by pidfd; on a kernel without SO_PEERPIDFD and pidfd_open by a look at /proc each beat. A process that is not
 * visible from our pid namespace (SO_PEERCRED says 0), on a kernel without SO_PEERPIDFD, shows neither: its ring is kept until it says
 * `closed` or has been silent for IDLE_FORGET_NS. If it was alive after all, its heartbeat goes stale, and with its next record it hands its
 * ring over again: nothing is lost. */
#include "ingest/ingest.h"
#include "ingest/arrival.h"
#include "ingest/clock.h"
#include "ingest/inflight.h"
#include "ingest/pump.h"
#include "ingest/socket.h"
#include "ingest/tracee.h"
#include "log.h"
#include "metrics/stats.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define POLL_BUDGET 1024u /* records of one ring in one pass: a busy process does not keep the others waiting */
#define POLL_MIN_NS 5000000u
#define POLL_BUSY_MAX_NS 50000000u
#define POLL_IDLE_NS 100000000u
#define POLL_IDLE_AFTER_NS 2000000000u

#define CLOCK_BEATS 5                /* the wall clock's offset is read again every so many beats */
#define CLOSED_LINGER_NS 2000000000u /* a failed exec takes `closed` back at once */
#define CLOSED_GIVE_UP_NS 30000000000u
#define IDLE_FORGET_NS 600000000000u

struct ingest {
    struct event_base *base;
    struct record_sink sink;
    size_t max_processes_uid;
    struct ingest_socket socket;
    struct arrivals *arrivals;
    struct event *poll_timer, *beat_timer;
    uint64_t interval_ns, traffic_ns;
    int64_t offset_ns;
    unsigned beats;
    bool taking;                 /* arrivals, on behalf of a death */
    struct tracee *first, *last; /* oldest first: the rings of one process are read in the order in which it filled them */
};

static void ingest_schedule(struct event *timer, uint64_t delay_ns)
{
    struct timeval delay = {.tv_sec = (time_t)(delay_ns / 1000000000u), .tv_usec = (suseconds_t)(delay_ns % 1000000000u / 1000u)};

    event_add(timer, &delay);
}

/* ---- the table --------------------------------------------------------------------------------------------------------------- */

static void ingest_remove(struct ingest *ingest, struct tracee *tracee)
{
    if (tracee->prev != NULL)
        tracee->prev->next = tracee->next;
    else
        ingest->first = tracee->next;
    if (tracee->next != NULL)
        tracee->next->prev = tracee->prev;
    else
        ingest->last = tracee->prev;
    tracee_refresh(tracee);
    for (unsigned i = 0; i < OTSHIM_COUNTERS; i++)
        stats.process_counters_dead[i] += tracee->process.counters[i];
    if (ingest->sink.process_gone != NULL)
        ingest->sink.process_gone(ingest->sink.self, &tracee->process);
    log_line(LOG_LEVEL_DEBUG, "%s (pid %d) is gone", tracee_name(tracee), (int)tracee->process.pid);
    tracee_free(tracee);
    if (ingest->first == NULL) {
        event_del(ingest->poll_timer);
        event_del(ingest->beat_timer);
    }
}

/* Full rings are losses, so they are said, with the remedy. */
static void ingest_say_dropped(struct tracee *tracee)
{
    static struct log_limit limit = {.every_s = 10};
    uint64_t dropped = tracee->process.counters[OTSHIM_COUNT_DROPPED_FULL];

    if (dropped <= tracee->dropped_said)
        return;
    log_limited(
        &limit, LOG_LEVEL_ERROR,
        "%s (pid %d): %llu spans were dropped because its buffer of %llu bytes was full; raise OTSHIM_BUFFER_SIZE if this goes on",
        tracee_name(tracee), (int)tracee->process.pid, (unsigned long long)(dropped - tracee->dropped_said),
        (unsigned long long)tracee->process.ring_bytes);
    tracee->dropped_said = dropped;
}

/* A process that gave us up (we were stopped) has moved what we did not release to a new ring, record by record. What we read from the old
 * one must be known before the new one is read, or it would be taken twice (seen.h). */
static void ingest_read_elders(struct ingest *ingest, struct tracee *tracee, uint64_t now)
{
    if (tracee->seen->refs < 2)
        return;
    for (struct tracee *t = ingest->first; t != NULL && t != tracee; t = t->next)
        if (t->seen == tracee->seen)
            pump_drain(t, &ingest->sink, now);
}

static struct pump_result ingest_read(struct ingest *ingest, struct tracee *tracee, uint64_t now)
{
    ingest_read_elders(ingest, tracee, now);
    return pump_run(tracee, &ingest->sink, now, POLL_BUDGET);
}

static void ingest_read_all(struct ingest *ingest, struct tracee *tracee, uint64_t now)
{
    ingest_read_elders(ingest, tracee, now);
    pump_drain(tracee, &ingest->sink, now);
}

/* The process is dead: what is left is read, what it had in flight ends here. */
static void ingest_died(struct ingest *ingest, struct tracee *tracee)
{
    uint64_t now = clock_mono_ns();
    bool closed = tracee_is_closed(tracee);
    unsigned cut_off = 0;

    /* Its last hello may still lie in the socket: that ring shares what is known of this one. */
    if (!ingest->taking) {
        ingest->taking = true;
        arrivals_take(ingest->arrivals);
        ingest->taking = false;
    }
    tracee->process.alive = false;
    ingest_read_all(ingest, tracee, now);
    if (!closed)
        cut_off = pump_inflight_died(tracee, &ingest->sink, now);
    tracee_refresh(tracee);
    ingest_say_dropped(tracee);
    if (cut_off > 0)
        log_line(LOG_LEVEL_INFO, "%s (pid %d) died with %u requests and calls in flight", tracee_name(tracee),
                 (int)tracee->process.pid, cut_off);
    ingest_remove(ingest, tracee);
}

static void ingest_death_event(evutil_socket_t fd, short what, void *arg)
{
    struct tracee *tracee = arg;

    (void)fd, (void)what;
    ingest_died(tracee->owner, tracee);
}

static size_t ingest_count_uid(const struct ingest *ingest, uid_t uid)
{
    size_t count = 0;

    for (const struct tracee *t = ingest->first; t != NULL; t = t->next)
        count += t->process.uid == uid;
    return count;
}

static struct tracee *ingest_find_memory(struct ingest *ingest, int memfd)
{
    struct memory memory;

    if (memory_identify(&memory, memfd) != 0)
        return NULL;
    for (struct tracee *t = ingest->first; t != NULL; t = t->next)
        if (t->memory.inode == memory.inode && t->memory.device == memory.device)
            return t;
    return NULL;
}

/* Another ring of the same process. Where its pid is not visible its own namespace's has to do: a mistake only makes two processes share one
 * log of span ids. */
static struct tracee *ingest_find_elder(struct ingest *ingest, const struct arrival_peer *peer, uint32_t peer_pid)
{
    for (struct tracee *t = ingest->last; t != NULL; t = t->prev)
        if (t->process.pid == peer->pid && t->process.uid == peer->uid && t->process.alive &&
            (peer->pid != 0 || t->process.peer_pid == peer_pid))
            return t;
    return NULL;
}

static void ingest_add(struct ingest *ingest, struct tracee *tracee)
{
    tracee->owner = ingest;
    tracee->prev = ingest->last;
    if (tracee->prev != NULL)
        tracee->prev->next = tracee;
    else
        ingest->first = tracee;
    ingest->last = tracee;
    atomic_fetch_add_explicit(&tracee->memory.shm->heartbeat, 1, memory_order_relaxed);
    tracee_refresh(tracee);
    tracee->dropped_said = 0;
    if (!event_pending(ingest->beat_timer, EV_TIMEOUT, NULL))
        ingest_schedule(ingest->beat_timer, OTSHIM_HEARTBEAT_NS);
    ingest->interval_ns = POLL_MIN_NS;
    ingest->traffic_ns = clock_mono_ns();
    ingest_schedule(ingest->poll_timer, 0);
    log_line(LOG_LEVEL_DEBUG, "%s (pid %d, uid %u) has connected", tracee_name(tracee), (int)tracee->process.pid,
             (unsigned)tracee->process.uid);
    if (ingest->sink.process_seen != NULL)
        ingest->sink.process_seen(ingest->sink.self, &tracee->process);
}

/* arrival_hello: a believed hello. */
static const char *ingest_hello(void *arg, const struct arrival_peer *peer, const struct hello *hello, int memfd)
{
    struct ingest *ingest = arg;
    struct tracee *tracee = ingest_find_memory(ingest, memfd);
    const char *why = NULL;

    if (tracee != NULL) { /* we were stopped for a while, and it thought that we were gone */
        tracee_again(tracee, peer, hello, ingest->offset_ns);
        return NULL;
    }
    if (ingest_count_uid(ingest, peer->uid) >= ingest->max_processes_uid) {
        if (peer->pidfd >= 0)
            close(peer->pidfd);
        return "its user has too many traced processes (OTSHIM_MAX_PROCESSES)";
    }
    ingest->offset_ns = clock_offset_ns();
    tracee = tracee_new(peer, hello, memfd, ingest->offset_ns, ingest_find_elder(ingest, peer, hello->head.pid), &why);
    if (tracee == NULL)
        return why;
    ingest_add(ingest, tracee);
    if (tracee->pidfd >= 0) {
        tracee->death = event_new(ingest->base, tracee->pidfd, EV_READ, ingest_death_event, tracee);
        if (tracee->death == NULL || event_add(tracee->death, NULL) != 0) { /* then /proc is looked at each beat */
            close(tracee->pidfd);
            tracee->pidfd = -1;
        }
    }
    if (!tracee->process.alive)
        ingest_died(ingest, tracee);
    return NULL;
}

/* ---- reading ------------------------------------------------------------------------------------------------------------------ */

static void ingest_poll(evutil_socket_t fd, short what, void *arg)
{
    struct ingest *ingest = arg;
    uint64_t now = clock_mono_ns(), most = 0;
    bool more = false, traffic = false;

    (void)fd, (void)what;
    for (struct tracee *t = ingest->first; t != NULL; t = t->next) {
        struct pump_result result;

        if (t->reader.hostile != NULL || !ring_reader_pending(&t->reader))
            continue;
        result = ingest_read(ingest, t, now);
        traffic = true;
        more |= result.end == PUMP_MORE;
        if (result.bytes * 64 / t->memory.data_bytes > most)
            most = result.bytes * 64 / t->memory.data_bytes;
    }
    if (traffic)
        ingest->traffic_ns = now;
    if (most > 0) /* more than 1/64 of a ring in one interval */
        ingest->interval_ns = POLL_MIN_NS;
    else if (ingest->interval_ns < POLL_BUSY_MAX_NS)
        ingest->interval_ns += ingest->interval_ns / 4;
    else
        ingest->interval_ns = now - ingest->traffic_ns < POLL_IDLE_AFTER_NS ? POLL_BUSY_MAX_NS : POLL_IDLE_NS;
    if (ingest->first != NULL)
        ingest_schedule(ingest->poll_timer, more ? 0 : ingest->interval_ns);
}

void ingest_drain(struct ingest *ingest)
{
    for (struct tracee *t = ingest->first; t != NULL; t = t->next)
        ingest_read_all(ingest, t, clock_mono_ns());
}

/* ---- the beat ----------------------------------------------------------------------------------------------------------------- */

/* A ring that its process will write no more: forgotten when it is read and settled. True: it is gone. */
static bool ingest_tend_closed(struct ingest *ingest, struct tracee *tracee, uint64_t now)
{
    if (!tracee_is_closed(tracee)) {
        tracee->closed_since_ns = 0;
        return false;
    }
    if (tracee->closed_since_ns == 0)
        tracee->closed_since_ns = now;
    if (now - tracee->closed_since_ns < CLOSED_LINGER_NS)
        return false;
    ingest_read_all(ingest, tracee, now);
    if (tracee->receipts.first != NULL && now - tracee->closed_since_ns < CLOSED_GIVE_UP_NS)
        return false;
    /* An exec that failed so late that we did not see it: what we have read must not be read again. */
    if (tracee->reader.hostile == NULL)
        receipt_release_oldest(&tracee->receipts, tracee->reader.pos);
    ingest_remove(ingest, tracee);
    return true;
}

static bool ingest_tend_life(struct ingest *ingest, struct tracee *tracee, uint64_t now)
{
    uint64_t head = atomic_load_explicit(&tracee->memory.shm->head, memory_order_relaxed);

    if (tracee->pidfd >= 0)
        return false;
    if (tracee_seems_dead(tracee)) {
        ingest_died(ingest, tracee);
        return true;
    }
    if (head != tracee->head_seen) {
        tracee->head_seen = head;
        tracee->head_changed_ns = now;
    }
    if (tracee->process.pid != 0 || now - tracee->head_changed_ns < IDLE_FORGET_NS)
        return false;
    ingest_read_all(ingest, tracee, now);
    receipt_release_oldest(&tracee->receipts, tracee->reader.pos);
    ingest_remove(ingest, tracee);
    return true;
}

static void ingest_beat(evutil_socket_t fd, short what, void *arg)
{
    struct ingest *ingest = arg;
    uint64_t now = clock_mono_ns();
    bool set_clock = ++ingest->beats % CLOCK_BEATS == 0;

    (void)fd, (void)what;
    if (set_clock)
        ingest->offset_ns = clock_offset_ns();
    for (struct tracee *t = ingest->first, *next; t != NULL; t = next) {
        next = t->next;
        atomic_fetch_add_explicit(&t->memory.shm->heartbeat, 1, memory_order_relaxed);
        tracee_refresh(t);
        ingest_say_dropped(t);
        if (set_clock)
            tracee_set_clock(t, ingest->offset_ns);
        if (!ingest_tend_life(ingest, t, now))
            ingest_tend_closed(ingest, t, now);
    }
    if (ingest->first != NULL)
        ingest_schedule(ingest->beat_timer, OTSHIM_HEARTBEAT_NS);
}

/* ---- from outside ------------------------------------------------------------------------------------------------------------- */

/* One pidfd a process: as many as the administrator allows. */
static void ingest_raise_files(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

struct ingest *ingest_start(struct event_base *base, const struct exporter_config *config, struct record_sink sink, char *why,
                            size_t why_size)
{
    struct ingest *ingest = calloc(1, sizeof *ingest);

    if (ingest == NULL) {
        snprintf(why, why_size, "no memory");
        return NULL;
    }
    ingest->base = base;
    ingest->sink = sink;
    ingest->max_processes_uid = config->max_processes_uid;
    ingest->offset_ns = clock_offset_ns();
    if (socket_open(&ingest->socket, config->socket_path, config->socket_mode, why, why_size) != 0) {
        free(ingest);
        return NULL;
    }
    ingest_raise_files();
    ingest->poll_timer = evtimer_new(base, ingest_poll, ingest);
    ingest->beat_timer = evtimer_new(base, ingest_beat, ingest);
    if (ingest->poll_timer != NULL && ingest->beat_timer != NULL)
        ingest->arrivals = arrivals_start(base, ingest->socket.fd, ingest_hello, ingest);
    if (ingest->arrivals == NULL) {
        snprintf(why, why_size, "the event loop takes no more events: no memory");
        ingest_stop(ingest);
        return NULL;
    }
    return ingest;
}

void ingest_stop(struct ingest *ingest)
{
    arrivals_stop(ingest->arrivals);
    socket_close(&ingest->socket);
    while (ingest->first != NULL) {
        struct tracee *tracee = ingest->first;

        ingest->first = tracee->next;
        tracee_free(tracee);
    }
    if (ingest->poll_timer != NULL)
        event_free(ingest->poll_timer);
    if (ingest->beat_timer != NULL)
        event_free(ingest->beat_timer);
    free(ingest);
}

void ingest_each_process(struct ingest *ingest, void (*visit)(void *arg, const struct process *process), void *arg)
{
    for (struct tracee *t = ingest->first; t != NULL; t = t->next) {
        /* A ring that was left for another one and only waits for its receipts would show its process twice. */
        if (tracee_is_closed(t) && !ring_reader_pending(&t->reader))
            continue;
        tracee_refresh(t);
        t->process.inflight = inflight_count(&t->memory);
        visit(arg, &t->process);
    }
}

struct ingest_inflight_visit {
    void (*visit)(void *arg, const struct process *process, const struct otshim_inflight *slot);
    void *arg;
    const struct process *process;
};

static void ingest_inflight_slot(void *arg, const struct otshim_inflight *slot)
{
    struct ingest_inflight_visit *v = arg;

    v->visit(v->arg, v->process, slot);
}

void ingest_each_inflight(struct ingest *ingest,
                          void (*visit)(void *arg, const struct process *process, const struct otshim_inflight *slot), void *arg)
{
    for (struct tracee *t = ingest->first; t != NULL; t = t->next) {
        struct ingest_inflight_visit v = {.visit = visit, .arg = arg, .process = &t->process};

        inflight_each(&t->memory, ingest_inflight_slot, &v);
    }
}
