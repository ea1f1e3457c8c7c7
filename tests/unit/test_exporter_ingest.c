/* Ingest as a whole, in a real event loop with real sockets, memfds and forked producers (ring_producer.h): arrival, reading, receipts, death
 * by every road, restart of the exporter, a second exporter, hostile peers. */
#include "ingest/arrival.h"
#include "ingest/clock.h"
#include "ingest/ingest.h"
#include "ingest/tracee.h"
#include "log.h"
#include "metrics/stats.h"
#include "ring_producer.h"
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#define MANY 100000

static char directory[64], path[96], why[512];
static struct event_base *base;
static struct exporter_config config;
static struct ingest *ingest;

/* What the sink saw. */
static struct {
    unsigned spans, logs, died, seen, gone;
    uint8_t times[MANY]; /* how often each number came */
    struct receipt *held[MANY];
    unsigned held_count;
    bool hold;
    int64_t clock_offset_ns;
    char executable[64];
    uint64_t died_number, died_ns;
} got;

static void sink_span(void *self, const struct process *process, const struct otshim_span_rec *rec, const uint8_t *attrs,
                      struct receipt *receipt)
{
    uint64_t n = producer_span_number(rec);

    (void)self;
    assert_in_range(n, 0, MANY - 1);
    got.spans++;
    got.times[n]++;
    got.clock_offset_ns = process->clock_offset_ns;
    snprintf(got.executable, sizeof got.executable, "%s", process->executable);
    assert_true(rec->attr_bytes == 0 || attrs[4] == 'a' + n % 26);
    if (got.hold)
        got.held[got.held_count++] = receipt;
    else
        receipt_settle(receipt);
}

static void sink_log(void *self, const struct process *process, const struct otshim_log_rec *rec, const uint8_t *attrs)
{
    (void)self, (void)process, (void)rec, (void)attrs;
    got.logs++;
}

static void sink_died(void *self, const struct process *process, const struct otshim_inflight *slot, uint64_t end_mono_ns)
{
    (void)self, (void)process;
    got.died++;
    memcpy(&got.died_number, slot->trace_id + 8, 8);
    got.died_ns = end_mono_ns;
}

static void sink_seen(void *self, const struct process *process)
{
    (void)self;
    assert_non_null(process->resource);
    got.seen++;
}

static void sink_gone(void *self, const struct process *process)
{
    (void)self, (void)process;
    got.gone++;
}

static const struct record_sink sink = {
    .span = sink_span, .log = sink_log, .inflight_died = sink_died, .process_seen = sink_seen, .process_gone = sink_gone};

static void settle_held(void)
{
    while (got.held_count > 0)
        receipt_settle(got.held[--got.held_count]);
}

static void start(void)
{
    ingest = ingest_start(base, &config, sink, why, sizeof why);
    if (ingest == NULL)
        fail_msg("%s", why);
}

static int setup(void **state)
{
    (void)state;
    memset(&got, 0, sizeof got);
    memset(&stats, 0, sizeof stats);
    snprintf(directory, sizeof directory, "/tmp/otshim-test-XXXXXX");
    assert_non_null(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/sub/exporter.sock", directory);
    config = (struct exporter_config){.socket_path = path, .socket_mode = 0666, .max_processes_uid = 100};
    base = event_base_new();
    start();
    return 0;
}

static int teardown(void **state)
{
    char command[128];

    (void)state;
    if (ingest != NULL)
        ingest_stop(ingest);
    ingest = NULL;
    settle_held();
    event_base_free(base);
    snprintf(command, sizeof command, "rm -rf %s", directory);
    return system(command);
}

static void break_loop(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what, (void)arg;
    event_base_loopbreak(base);
}

static void run_ms(unsigned ms)
{
    struct timeval tv = {.tv_sec = ms / 1000, .tv_usec = (suseconds_t)(ms % 1000 * 1000)};
    struct event *timer = evtimer_new(base, break_loop, NULL);

    event_add(timer, &tv);
    event_base_dispatch(base);
    event_free(timer);
}

/* Runs the loop until the expression holds, at most 10 s. */
#define UNTIL(expression)                                                                                                          \
    do {                                                                                                                           \
        for (int turn = 0; turn < 1000 && !(expression); turn++)                                                                   \
            run_ms(10);                                                                                                            \
        assert_true(expression);                                                                                                   \
    } while (0)

static pid_t child(void (*body)(void *arg), void *arg)
{
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that fails leaves nobody behind */
        body(arg);
        _exit(0);
    }
    return pid;
}

static void reap(pid_t pid)
{
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
}

static void visit_count(void *arg, const struct process *process)
{
    (void)process;
    ++*(unsigned *)arg;
}

static unsigned processes(void)
{
    unsigned count = 0;

    ingest_each_process(ingest, visit_count, &count);
    return count;
}

/* ---- the usual life ------------------------------------------------------------------------------------------------------------ */

static void hundred_spans(void *arg)
{
    struct producer p;
    (void)arg;
    producer_make(&p, OTSHIM_RING_MIN_BYTES);
    producer_write_span(&p, 0, 40);
    assert(producer_hand_over(&p, path));
    for (unsigned n = 1; n < 100; n++)
        producer_write_span(&p, n, 40);
}

static void test_short_life(void **state)
{
    pid_t pid = child(hundred_spans, NULL);

    (void)state;
    UNTIL(got.gone == 1);
    assert_int_equal(got.spans, 100);
    assert_int_equal(got.seen, 1);
    assert_string_equal(got.executable, "/usr/bin/test");
    assert_int_equal(stats.spans_received, 100);
    assert_int_equal(stats.hellos_accepted, 1);
    assert_int_equal(stats.process_counters_dead[OTSHIM_COUNT_SPANS], 100);
    assert_int_equal(processes(), 0);
    reap(pid);
}

/* Many short lives at once: all of them are seen, read to the end and forgotten, and leave no descriptor behind. */
static void test_fork_storm(void **state)
{
    enum { CHILDREN = 200 };
    int before = (int)fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0), after;
    pid_t pids[CHILDREN];

    (void)state;
    close(before);
    ingest_stop(ingest);
    config.max_processes_uid = CHILDREN;
    start();
    for (int i = 0; i < CHILDREN; i++) {
        pids[i] = child(hundred_spans, NULL);
        if (i % 20 == 19)
            run_ms(1);
    }
    UNTIL(got.gone == CHILDREN);
    assert_int_equal(got.spans, CHILDREN * 100);
    for (unsigned n = 0; n < 100; n++)
        assert_int_equal(got.times[n], CHILDREN);
    for (int i = 0; i < CHILDREN; i++)
        reap(pids[i]);
    after = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0);
    close(after);
    assert_int_equal(after, before);
}

/* The parent itself as the traced process: a span is there soon, the heartbeat beats, the tail follows the receipts. */
static void test_living_process(void **state)
{
    struct producer p;
    uint64_t before, beat;

    (void)state;
    producer_make(&p, OTSHIM_RING_MIN_BYTES);
    assert_true(producer_hand_over(&p, path));
    UNTIL(got.seen == 1);
    got.hold = true;
    run_ms(500); /* idle */
    producer_write_span(&p, 7, 40);
    before = producer_ns(CLOCK_MONOTONIC);
    UNTIL(got.spans == 1);
    assert_true(producer_ns(CLOCK_MONOTONIC) - before < 300000000u); /* far above the 50 ms aimed at: other jobs run here too */
    assert_int_equal(p.shm->tail, 0);
    settle_held();
    assert_int_equal(p.shm->tail, p.shm->head);
    beat = p.shm->heartbeat;
    assert_true(beat >= 1);
    UNTIL(p.shm->heartbeat >= beat + 2);
    assert_in_range(llabs(got.clock_offset_ns - (int64_t)(producer_ns(CLOCK_REALTIME) - producer_ns(CLOCK_MONOTONIC))), 0,
                    100000000);
    close(p.memfd);
}

static void test_handed_over_twice(void **state)
{
    struct producer p;

    (void)state;
    producer_make(&p, OTSHIM_RING_MIN_BYTES);
    producer_write_span(&p, 1, 40);
    assert_true(producer_hand_over(&p, path));
    UNTIL(got.spans == 1);
    assert_true(producer_hand_over(&p, path));
    producer_write_span(&p, 2, 40);
    UNTIL(got.spans == 2);
    run_ms(200);
    assert_int_equal(got.times[1], 1);
    assert_int_equal(processes(), 1);
    close(p.memfd);
}

static void test_exec_closes_the_old_ring(void **state)
{
    struct producer old, new;

    (void)state;
    producer_make(&old, OTSHIM_RING_MIN_BYTES);
    producer_make(&new, OTSHIM_RING_MIN_BYTES);
    assert_true(producer_hand_over(&old, path));
    UNTIL(got.seen == 1);
    producer_write_span(&old, 1, 40);
    atomic_store(&old.shm->closed, 1);
    producer_write_span(&new, 2, 40);
    assert_true(producer_hand_over(&new, path));
    UNTIL(got.spans == 2);
    UNTIL(got.gone == 1);
    assert_int_equal(processes(), 1);
    assert_int_equal(old.shm->tail, old.shm->head); /* should it come again, nothing is read twice */
    close(old.memfd);
    close(new.memfd);
}

/* We were stopped for so long that the process gave us up: what we had read and not released stands in the new ring again. */
static void test_moved_to_a_new_ring(void **state)
{
    struct producer a, b, c;

    (void)state;
    producer_make(&a, OTSHIM_RING_MIN_BYTES * 4);
    producer_make(&b, OTSHIM_RING_MIN_BYTES * 4);
    producer_make(&c, OTSHIM_RING_MIN_BYTES * 4);
    assert_true(producer_hand_over(&a, path));
    got.hold = true;
    for (unsigned n = 0; n < 300; n++)
        producer_write_span(&a, n, 40);
    UNTIL(got.spans == 300);
    for (unsigned n = 300; n < 350; n++)
        producer_write_span(&a, n, 40); /* not read yet */
    assert_true(producer_hand_over(&b, path));
    producer_move(&a, &b);
    producer_write_span(&b, 350, 40);
    producer_move(&b, &c); /* and once more */
    assert_true(producer_hand_over(&c, path));
    producer_write_span(&c, 351, 40);
    UNTIL(got.times[351] == 1);
    for (unsigned n = 0; n < 352; n++)
        assert_int_equal(got.times[n], 1);
    settle_held();
    UNTIL(got.gone == 2);
    assert_int_equal(processes(), 1);
    close(a.memfd);
    close(b.memfd);
    close(c.memfd);
}

/* A thread was in mid-record when another one exec'ed: what comes behind it is read all the same. */
static void test_closed_in_mid_record(void **state)
{
    struct producer p;

    (void)state;
    producer_make(&p, OTSHIM_RING_MIN_BYTES);
    assert_true(producer_hand_over(&p, path));
    producer_reserve(&p, 200, true);
    producer_write_span(&p, 1, 40);
    atomic_store(&p.shm->closed, 1);
    UNTIL(got.gone == 1);
    assert_int_equal(got.spans, 1);
    close(p.memfd);
}

/* ---- death -------------------------------------------------------------------------------------------------------------------- */

static void killed_in_flight(void *arg)
{
    struct producer p;

    (void)arg;
    producer_make(&p, OTSHIM_RING_MIN_BYTES);
    producer_write_span(&p, 1, 40);
    producer_inflight(&p, 3, 77);
    producer_inflight(&p, 9, 1);            /* its span is written, the slot not yet freed */
    atomic_store(&p.inflight[5].state, 99); /* being written: nothing in there can be believed */
    producer_reserve(&p, 300, true);        /* in the middle of a record */
    assert(producer_hand_over(&p, path));
    producer_write_span(&p, 2, 40);
    raise(SIGKILL);
}

static void test_killed_in_flight(void **state)
{
    pid_t pid = child(killed_in_flight, NULL);

    (void)state;
    UNTIL(got.gone == 1);
    assert_int_equal(got.spans, 2);
    assert_int_equal(stats.records_abandoned, 1);
    assert_int_equal(got.died, 1);
    assert_int_equal(got.died_number, 77);
    assert_true(got.died_ns <= producer_ns(CLOCK_MONOTONIC) && got.died_ns + 10000000000u > producer_ns(CLOCK_MONOTONIC));
    reap(pid);
}

/* A process that was dead and reaped before anybody looked: everything is still in its memory. */
static void test_dead_at_hello(void **state)
{
    (void)state;
    reap(child(hundred_spans, NULL));
    UNTIL(got.gone == 1);
    assert_int_equal(got.spans, 100);
}

static void thread_dies(void *arg)
{
    struct producer p = *(struct producer *)arg;
    pid_t tid;

    assert(producer_hand_over(&p, path));
    tid = vfork(); /* any id of a task that is gone */
    if (tid == 0)
        _exit(0);
    waitpid(tid, NULL, 0);
    uint64_t pos = producer_reserve(&p, 500, true);
    ((struct otshim_rec *)(void *)producer_word(&p, pos))->tid = (uint32_t)tid;
    producer_write_span(&p, 4, 40);
    pause();
}

/* Its owner is gone: no need to wait five seconds. */
static void test_thread_died_in_mid_record(void **state)
{
    struct producer p;
    pid_t pid;
    uint64_t before = producer_ns(CLOCK_MONOTONIC);

    (void)state;
    producer_make(&p, OTSHIM_RING_MIN_BYTES);
    pid = child(thread_dies, &p);
    UNTIL(got.spans == 1);
    assert_true(producer_ns(CLOCK_MONOTONIC) - before < 4000000000u);
    assert_int_equal(stats.records_abandoned, 1);
    kill(pid, SIGKILL);
    reap(pid);
    close(p.memfd);
}

static void wait_for_ever(void *arg)
{
    (void)arg;
    pause();
}

static void slow_thread(void *arg)
{
    struct producer p = *(struct producer *)arg;
    uint8_t payload[OTSHIM_RECORD_MAX_BYTES];
    size_t len;
    uint64_t pos;

    assert(producer_hand_over(&p, path));
    len = producer_span(payload, 1, 40);
    pos = producer_reserve(&p, 16 + len, true);
    producer_write_span(&p, 2, 40);
    raise(SIGSTOP);
    struct otshim_rec *rec = (struct otshim_rec *)(void *)producer_word(&p, pos);
    rec->type = OTSHIM_RECORD_SPAN;
    memcpy(rec + 1, payload, len);
    atomic_store_explicit(&rec->word, otshim_word(pos, (16 + len + 7) & ~7ull, OTSHIM_WORD_COMMITTED), memory_order_release);
    pause();
}

/* Stopped in the middle of a record for longer than a running one is waited for: waited for all the same. */
static void test_stopped_in_mid_record(void **state)
{
    struct producer p;
    pid_t pid;

    (void)state;
    producer_make(&p, OTSHIM_RING_MIN_BYTES);
    pid = child(slow_thread, &p);
    run_ms(6500);
    assert_int_equal(got.spans, 0);
    kill(pid, SIGCONT);
    UNTIL(got.spans == 2);
    assert_int_equal(stats.records_abandoned, 0);
    kill(pid, SIGKILL);
    reap(pid);
    close(p.memfd);
}

/* Alive, running, and never comes back to its record (a handler that jumped away). */
static void test_jumped_away(void **state)
{
    struct producer p;

    (void)state;
    producer_make(&p, OTSHIM_RING_MIN_BYTES);
    assert_true(producer_hand_over(&p, path));
    producer_reserve(&p, 500, false);
    producer_write_span(&p, 1, 40);
    run_ms(4000);
    assert_int_equal(got.spans, 0);
    UNTIL(got.spans == 1);
    assert_int_equal(stats.records_abandoned, 1);
    close(p.memfd);
}

/* ---- load, full rings, restarts ------------------------------------------------------------------------------------------------ */

static void write_many(void *arg)
{
    struct producer p;
    unsigned count = *(unsigned *)arg;

    producer_make(&p, OTSHIM_RING_MIN_BYTES * 16);
    assert(producer_hand_over(&p, path));
    for (unsigned n = 0; n < count; n++) {
        while (!producer_write_span(&p, n, (uint16_t)(1 + n % 399)))
            usleep(1000); /* full: a test may wait, a host may not */
    }
}

static void test_load(void **state)
{
    unsigned count = MANY;
    pid_t pid = child(write_many, &count);

    (void)state;
    UNTIL(got.gone == 1);
    for (unsigned n = 0; n < count; n++)
        assert_int_equal(got.times[n], 1);
    assert_int_equal(stats.records_invalid, 0);
    reap(pid);
}

/* The backend is down and nothing is settled: the ring takes new records as long as we have room. */
static void test_nothing_settles(void **state)
{
    unsigned count = 20000;
    pid_t pid;

    (void)state;
    got.hold = true;
    pid = child(write_many, &count);
    UNTIL(got.gone == 1);
    assert_int_equal(got.spans, count);
    reap(pid);
}

/* A kill of the exporter: the successor reads what was not settled, and only that (to the chunk). */
static void test_restart(void **state)
{
    struct producer p;

    (void)state;
    producer_make(&p, OTSHIM_RING_MIN_BYTES * 16);
    assert_true(producer_hand_over(&p, path));
    UNTIL(got.seen == 1);
    for (unsigned n = 0; n < 500; n++)
        producer_write_span(&p, n, 40);
    UNTIL(got.spans == 500);
    assert_int_equal(p.shm->tail, p.shm->head);
    got.hold = true;
    for (unsigned n = 500; n < 1000; n++)
        producer_write_span(&p, n, 40);
    UNTIL(got.spans == 1000);
    ingest_stop(ingest);
    settle_held(); /* after the stop: moves nothing */
    assert_true(p.shm->tail < p.shm->head);
    for (unsigned n = 1000; n < 1500; n++)
        producer_write_span(&p, n, 40);
    got.hold = false;
    start();
    assert_true(producer_hand_over(&p, path));
    UNTIL(got.spans == 2000);
    for (unsigned n = 0; n < 1500; n++)
        assert_int_equal(got.times[n], n >= 500 && n < 1000 ? 2 : 1);
    close(p.memfd);
}

static void test_dropped_are_known(void **state)
{
    struct producer p;
    unsigned written = 0;

    (void)state;
    producer_make(&p, OTSHIM_RING_MIN_BYTES);
    for (unsigned n = 0; n < 1000; n++)
        written += producer_write_span(&p, n, 40);
    assert_true(written < 1000);
    assert_true(producer_hand_over(&p, path));
    UNTIL(got.spans == written);
    close(p.memfd);
}

/* ---- the socket ---------------------------------------------------------------------------------------------------------------- */

static void test_second_exporter(void **state)
{
    char expect[32];

    (void)state;
    assert_null(ingest_start(base, &config, sink, why, sizeof why));
    snprintf(expect, sizeof expect, "pid %d", (int)getpid());
    assert_non_null(strstr(why, expect));
    run_ms(50); /* its look did us no harm */
    assert_int_equal(stats.hellos_refused, 0);
    reap(child(hundred_spans, NULL));
    UNTIL(got.gone == 1);
}

static void be_exporter(void *arg)
{
    struct event_base *own = event_base_new();

    if (ingest_start(own, &config, sink, why, sizeof why) == NULL)
        _exit(strstr(why, "another exporter") != NULL ? 1 : 2);
    (void)arg;
    usleep(1500000);
    _exit(0);
}

/* Ten started together: exactly one wins, nine say so. And what it leaves when it dies stands in nobody's way. */
static void test_started_together(void **state)
{
    pid_t pids[10];
    unsigned won = 0, named = 0;
    int status;

    (void)state;
    ingest_stop(ingest);
    ingest = NULL;
    for (int i = 0; i < 10; i++)
        pids[i] = child(be_exporter, NULL);
    for (int i = 0; i < 10; i++) {
        waitpid(pids[i], &status, 0);
        won += WEXITSTATUS(status) == 0;
        named += WEXITSTATUS(status) == 1;
    }
    assert_int_equal(won, 1);
    assert_int_equal(named, 9);
    assert_int_equal(access(path, F_OK), 0); /* it did not clean up */
    start();
}

static void test_socket_file(void **state)
{
    struct stat st;
    char directory_path[96];

    (void)state;
    assert_int_equal(stat(path, &st), 0);
    assert_true(S_ISSOCK(st.st_mode));
    assert_int_equal(st.st_mode & 0777, 0666);
    snprintf(directory_path, sizeof directory_path, "%s/sub", directory);
    assert_int_equal(stat(directory_path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0755);
    ingest_stop(ingest);
    assert_int_equal(access(path, F_OK), -1);
    config.socket_mode = 0600;
    umask(0);
    start();
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    umask(022);
}

static void expect_refused(const char *where, const char *words)
{
    struct exporter_config other = config;
    char copy[300];

    snprintf(copy, sizeof copy, "%s", where);
    other.socket_path = copy;
    assert_null(ingest_start(base, &other, sink, why, sizeof why));
    if (strstr(why, words) == NULL || strchr(why, '\n') != NULL || strstr(why, "OTSHIM_SOCKET") == NULL)
        fail_msg("\"%s\" does not say \"%s\" and a remedy", why, words);
}

static void test_impossible_places(void **state)
{
    char other[300], elsewhere[96];
    int fd;

    (void)state;
    memset(other, 'x', sizeof other);
    memcpy(other, "/tmp/", 5);
    other[200] = '\0';
    expect_refused(other, "too long");
    snprintf(other, sizeof other, "%s/no/such/place/sock", directory);
    expect_refused(other, "parent does not exist");
    snprintf(other, sizeof other, "%s/file", directory);
    fd = open(other, O_CREAT | O_WRONLY, 0644);
    assert_true(fd >= 0);
    close(fd);
    expect_refused(other, "no socket");
    assert_int_equal(access(other, F_OK), 0); /* still there */
    strcat(other, "/sock");
    expect_refused(other, "no directory");
    expect_refused("", "no path");
    /* Somebody else's living socket of another type. */
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(elsewhere, sizeof elsewhere, "%s/stream", directory);
    snprintf(address.sun_path, sizeof address.sun_path, "%s", elsewhere);
    fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(fd, 1), 0);
    expect_refused(elsewhere, "holds");
    close(fd);
}

/* ---- hostile peers -------------------------------------------------------------------------------------------------------------- */

static unsigned open_descriptors(void)
{
    unsigned count = 0;

    for (int fd = 0; fd < 4096; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

static void send_and_close(const void *bytes, size_t len, const int *fds, size_t nfds, unsigned times)
{
    int fd = producer_connect(path);

    assert_true(fd >= 0);
    while (times-- > 0)
        producer_send(fd, bytes, len, fds, nfds);
    close(fd);
}

static void test_bad_hellos(void **state)
{
    static uint8_t bytes[OTSHIM_HELLO_MAX_BYTES + 100];
    struct producer p, unsealed;
    size_t len = producer_hello(bytes);
    int fds[64], pipes[2], before, file;
    uint32_t version = 99;

    (void)state;
    producer_make(&p, OTSHIM_RING_MIN_BYTES);
    for (int i = 0; i < 64; i++)
        fds[i] = p.memfd;
    assert_int_equal(pipe(pipes), 0);
    unsealed.memfd = memfd_create("unsealed", MFD_ALLOW_SEALING);
    assert_int_equal(ftruncate(unsealed.memfd, (off_t)producer_total(OTSHIM_RING_MIN_BYTES)), 0);
    file = open("/tmp", O_TMPFILE | O_RDWR, 0600);
    before = (int)open_descriptors();

    send_and_close(bytes, len, NULL, 0, 1);            /* no descriptor */
    send_and_close(bytes, len, fds, 2, 1);             /* two */
    send_and_close(bytes, len, fds, 64, 1);            /* so many that the kernel cuts them off */
    send_and_close(bytes, len, fds, 1, 2);             /* two messages */
    send_and_close(bytes, len - 8, fds, 1, 1);         /* short */
    send_and_close(bytes, 3, fds, 1, 1);               /* shorter */
    send_and_close(bytes, sizeof bytes, fds, 1, 1);    /* too long */
    send_and_close(bytes, len, pipes, 1, 1);           /* a pipe */
    send_and_close(bytes, len, &unsealed.memfd, 1, 1); /* not sealed */
    send_and_close(bytes, len, (int[]){file >= 0 ? file : pipes[0]}, 1, 1);
    UNTIL(stats.hellos_refused == 10);
    assert_int_equal(fcntl(unsealed.memfd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW), 0);
    send_and_close(bytes, len, &unsealed.memfd, 1, 1); /* sealed, and all zero */
    memcpy(bytes + 8, &version, 4);
    send_and_close(bytes, len, fds, 1, 1); /* another version */
    send_and_close(bytes, len, fds, 1, 1);
    UNTIL(stats.hellos_refused == 13);
    assert_int_equal(stats.hellos_accepted, 0);
    assert_int_equal(open_descriptors(), before);

    assert_true(producer_hand_over(&p, path)); /* and the next good one is welcome */
    UNTIL(got.seen == 1);
    close(pipes[0]);
    close(pipes[1]);
    close(unsealed.memfd);
    close(file);
    close(p.memfd);
}

/* Connections that say nothing: they are closed after a while, there are never too many, and others still get in. */
static void test_silent_flood(void **state)
{
    int fds[300], before = (int)open_descriptors();

    (void)state;
    for (int i = 0; i < 300; i++) {
        fds[i] = producer_connect(path);
        assert_true(fds[i] >= 0);
        if (i % 50 == 0)
            run_ms(10);
    }
    run_ms(50);
    assert_true(open_descriptors() <= (unsigned)before + 300 + 2 * ARRIVALS_PENDING_UID);
    reap(child(hundred_spans, NULL));
    UNTIL(got.gone == 1);
    UNTIL(stats.hellos_refused == 300);
    for (int i = 0; i < 300; i++)
        close(fds[i]);
    assert_int_equal(open_descriptors(), before);
}

/* No descriptor is left for a connection: no busy loop, and the hello is taken when there is one again. */
static void test_out_of_descriptors(void **state)
{
    struct rlimit before, low;
    pid_t pid;
    clock_t cpu;

    (void)state;
    getrlimit(RLIMIT_NOFILE, &before);
    pid = child(hundred_spans, NULL);
    reap(pid);
    low = before;
    low.rlim_cur = 3; /* all numbers above are taken or too high */
    setrlimit(RLIMIT_NOFILE, &low);
    cpu = clock();
    run_ms(1000);
    assert_true(clock() - cpu < CLOCKS_PER_SEC / 4);
    assert_int_equal(got.spans, 0);
    setrlimit(RLIMIT_NOFILE, &before);
    UNTIL(got.gone == 1);
    assert_int_equal(got.spans, 100);
}

/* Without SO_PEERPIDFD the pid may be another process's by now: one that began after the hello was written. */
static void test_pid_used_again(void **state)
{
    uint8_t bytes[OTSHIM_HELLO_MAX_BYTES];
    size_t len = producer_hello(bytes);
    struct arrival_peer peer = {.uid = getuid(), .pidfd = -1};
    const char *reason;
    struct hello hello;
    struct producer p;
    struct tracee *tracee;

    (void)state;
    producer_make(&p, OTSHIM_RING_MIN_BYTES);
    assert_int_equal(hello_parse(&hello, bytes, len, &reason), HELLO_OK);
    peer.pid = getpid();
    tracee = tracee_new(&peer, &hello, p.memfd, clock_offset_ns(), NULL, &reason);
    assert_non_null(tracee);
    assert_true(tracee->process.alive);
    assert_true(tracee->process.start_ticks > 0);
    assert_false(tracee_seems_dead(tracee));
    assert_int_equal(tracee_thread(tracee, (uint32_t)getpid()), THREAD_RUNS);
    tracee->process.start_ticks++; /* as if somebody else had got the number since */
    assert_true(tracee_seems_dead(tracee));
    tracee_free(tracee);

    usleep(100000);
    peer.pid = child(wait_for_ever, NULL);
    tracee = tracee_new(&peer, &hello, p.memfd, clock_offset_ns(), NULL, &reason);
    assert_non_null(tracee);
    assert_false(tracee->process.alive);
    tracee_free(tracee);
    kill(peer.pid, SIGKILL);
    reap(peer.pid);
    hello_free(&hello);
    close(p.memfd);
}

static void test_too_many_processes(void **state)
{
    struct producer p[8];

    (void)state;
    ingest_stop(ingest);
    config.max_processes_uid = 5;
    start();
    for (int i = 0; i < 8; i++) {
        producer_make(&p[i], OTSHIM_RING_MIN_BYTES);
        assert_true(producer_hand_over(&p[i], path));
    }
    UNTIL(stats.hellos_refused == 3);
    assert_int_equal(processes(), 5);
    for (int i = 0; i < 8; i++)
        close(p[i].memfd);
}

/* A ring that turns to nonsense is left alone, said once, and the others go on. */
static void test_hostile_ring(void **state)
{
    struct producer bad, good;

    (void)state;
    producer_make(&bad, OTSHIM_RING_MIN_BYTES);
    producer_make(&good, OTSHIM_RING_MIN_BYTES);
    assert_true(producer_hand_over(&bad, path));
    assert_true(producer_hand_over(&good, path));
    UNTIL(got.seen == 2);
    producer_write_span(&bad, 1, 40);
    UNTIL(got.spans == 1);
    atomic_store(&bad.shm->head, UINT64_MAX - 63);
    run_ms(300);
    producer_write_span(&good, 2, 40);
    UNTIL(got.spans == 2);
    atomic_store(&bad.shm->closed, 1);
    run_ms(100);
    close(bad.memfd);
    close(good.memfd);
}

/* Content that changes under the reader: garbage in the data area, head moving on. Nothing but time may be lost. */
static void scribble(void *arg)
{
    struct producer p = *(struct producer *)arg;
    unsigned seed = (unsigned)getpid();

    assert(producer_hand_over(&p, path));
    for (unsigned n = 0; n < 200000; n++) {
        uint64_t head = atomic_load(&p.shm->head);

        if (n % 3 == 0)
            atomic_store(producer_word(&p, head & ~7ull),
                         otshim_word(head, (uint64_t)rand_r(&seed) % 3000 & ~7ull, rand_r(&seed) % 4));
        else
            p.data[rand_r(&seed) % p.bytes] = (uint8_t)rand_r(&seed);
        if (n % 100 == 0)
            atomic_store(&p.shm->head, head + (uint64_t)rand_r(&seed) % 512 * 8);
        if (n % 1000 == 0)
            usleep(100);
    }
}

static void test_scribbler(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        struct producer p;

        producer_make(&p, OTSHIM_RING_MIN_BYTES);
        pid_t pid = child(scribble, &p);
        UNTIL(got.gone == (unsigned)i + 1);
        reap(pid);
        munmap(p.shm, producer_total(p.bytes));
        close(p.memfd);
    }
}

static void visit_slot(void *arg, const struct process *process, const struct otshim_inflight *slot)
{
    (void)process;
    assert_memory_equal(slot->method, "GET", slot->method_len);
    ++*(unsigned *)arg;
}

static void visit_inflight(void *arg, const struct process *process)
{
    *(unsigned *)arg += process->inflight;
}

static void test_requests_in_progress(void **state)
{
    struct producer p;
    unsigned count = 0, shown = 0;

    (void)state;
    producer_make(&p, OTSHIM_RING_MIN_BYTES);
    for (unsigned i = 0; i < 20; i++)
        producer_inflight(&p, i * 3, i + 1);
    p.inflight[6].method_len = 200; /* nonsense: not shown */
    assert_true(producer_hand_over(&p, path));
    UNTIL(got.seen == 1);
    ingest_each_process(ingest, visit_inflight, &count);
    ingest_each_inflight(ingest, visit_slot, &shown);
    assert_int_equal(count, 20);
    assert_int_equal(shown, 19);
    close(p.memfd);
}

static void test_other_time_namespace(void **state)
{
    uint8_t bytes[OTSHIM_HELLO_MAX_BYTES];
    size_t len = producer_hello(bytes);
    struct producer p;
    uint64_t mono = producer_ns(CLOCK_MONOTONIC) + 3600000000000u;
    int64_t expected = (int64_t)(producer_ns(CLOCK_REALTIME) - mono);

    (void)state;
    memcpy(bytes + offsetof(struct otshim_hello, anchor_mono_ns), &mono, sizeof mono);
    producer_make(&p, OTSHIM_RING_MIN_BYTES);
    producer_write_span(&p, 1, 40);
    send_and_close(bytes, len, &p.memfd, 1, 1);
    UNTIL(got.spans == 1);
    assert_in_range(llabs(got.clock_offset_ns - expected), 0, 100000000);
    close(p.memfd);
}

int main(int argc, char **argv)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_short_life),
        TEST(test_fork_storm),
        TEST(test_living_process),
        TEST(test_handed_over_twice),
        TEST(test_exec_closes_the_old_ring),
        TEST(test_moved_to_a_new_ring),
        TEST(test_closed_in_mid_record),
        TEST(test_killed_in_flight),
        TEST(test_dead_at_hello),
        TEST(test_thread_died_in_mid_record),
        TEST(test_stopped_in_mid_record),
        TEST(test_jumped_away),
        TEST(test_load),
        TEST(test_nothing_settles),
        TEST(test_restart),
        TEST(test_dropped_are_known),
        TEST(test_second_exporter),
        TEST(test_started_together),
        TEST(test_socket_file),
        TEST(test_impossible_places),
        TEST(test_bad_hellos),
        TEST(test_silent_flood),
        TEST(test_out_of_descriptors),
        TEST(test_pid_used_again),
        TEST(test_too_many_processes),
        TEST(test_hostile_ring),
        TEST(test_scribbler),
        TEST(test_requests_in_progress),
        TEST(test_other_time_namespace),
    };
    signal(SIGPIPE, SIG_IGN);
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    else
        log_open("/dev/null", LOG_LEVEL_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
