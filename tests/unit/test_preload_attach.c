/* test_preload_attach.c - from the first record to an exporter, through its death and return: what is written is read, once.
 *
 * The clock of the hand-over is the end time of the records, so the tests make seconds pass by writing records with later times. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/config.h"
#include "ring_consumer.h"
#include "span/handover.h"
#include "span/hello.h"
#include "span/span.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>

static const struct inflight_names nameless;

#define SECOND 1000000000ull

static struct taker taker;
static _Atomic uint64_t fake_now; /* ahead of the real one, which span_tick() looks at */

static void write_at(uint64_t sequence, uint64_t producer, uint64_t end_ns)
{
    struct otshim_span_rec rec = {.start_ns = end_ns - 1000, .end_ns = end_ns, .kind = OTSHIM_SPAN_SERVER, .status = 200};
    const uint64_t id = producer << 48 | (sequence + 1);
    memcpy(rec.span_id, &id, 8);
    const struct span_attr attrs[] = {{OTSHIM_ATTR_METHOD, 3, "GET"},
                                      {OTSHIM_ATTR_TARGET, 14, "/orders/1?x=yz"},
                                      {OTSHIM_ATTR_HOST, 0, NULL},
                                      {OTSHIM_ATTR_USER_AGENT, 11, "curl/7.88.1"}};
    span_write(&rec, attrs, 4);
}

struct tally {
    uint8_t *seen[8]; /* by producer and sequence: how often */
    size_t room;
    uint64_t records, moved, logs, again;
};

static void tally_make(struct tally *t, size_t producers, size_t room)
{
    memset(t, 0, sizeof(*t));
    t->room = room;
    for (size_t i = 0; i < producers; i++)
        t->seen[i] = calloc(room, 1);
}

static void tally_free(struct tally *t)
{
    for (int i = 0; i < 8; i++)
        free(t->seen[i]);
}

static void tally_record(void *arg, const struct otshim_rec *head, const uint8_t *payload, size_t len)
{
    struct tally *t = arg;
    struct otshim_span_rec rec;
    if (head->type == OTSHIM_RECORD_LOG) {
        t->logs++;
        return;
    }
    assert_int_equal(head->type, OTSHIM_RECORD_SPAN);
    assert_true(len >= sizeof(rec));
    memcpy(&rec, payload, sizeof(rec));
    assert_int_equal(rec.attr_bytes, 8 + 20 + 16);
    assert_int_equal(len, (sizeof(rec) + rec.attr_bytes + 7) & ~7u);
    assert_memory_equal(payload + sizeof(rec) + 4, "GET\0", 4);
    assert_memory_equal(payload + sizeof(rec) + 12, "/orders/1?x=yz\0\0", 16);
    assert_int_equal(head->tid, rec.tid);
    uint64_t id;
    memcpy(&id, rec.span_id, 8);
    const uint64_t producer = id >> 48, sequence = (id & 0xffffffffffffull) - 1;
    assert_true(producer < 8 && sequence < t->room);
    if ((head->reserved & OTSHIM_REC_MOVED) != 0 && t->seen[producer][sequence] != 0) {
        t->again++; /* from a reader that was not dead, only slow: this is how it knows (ring.h) */
        return;
    }
    t->seen[producer][sequence]++;
    t->records++;
    t->moved += head->reserved & OTSHIM_REC_MOVED;
}

static void tally_expect_once(const struct tally *t, size_t producer, size_t from, size_t to)
{
    for (size_t i = from; i < to; i++)
        if (t->seen[producer][i] != 1)
            fail_msg("record %zu of producer %zu was read %u times", i, producer, t->seen[producer][i]);
}

static void reset(void)
{
    span_after_fork(); /* this process forgets that it had a ring */
    taker_close(&taker);
    memset(&config, 0, sizeof(config));
    config.ring_bytes = 4u << 20;
    config.socket_path_set = true;
    snprintf(config.socket_path, sizeof(config.socket_path), "%s", taker.path);
    snprintf(config.service_name, sizeof(config.service_name), "shop");
    atomic_fetch_add(&fake_now, 1000 * SECOND);
}

static int open_fds(void)
{
    int n = 0;
    for (int fd = 0; fd < 256; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

/* Nobody there; records are kept; somebody comes; they are all his. */
static void test_late_exporter(void **state)
{
    (void)state;
    struct tally tally;
    struct consumer consumer;
    reset();
    tally_make(&tally, 1, 10000);
    const uint64_t t0 = atomic_load(&fake_now);
    const int fds = open_fds();
    for (size_t i = 0; i < 5000; i++)
        write_at(i, 0, t0 + i);
    span_count(OTSHIM_COUNT_CONN_BUSY);
    assert_int_equal(open_fds(), fds);
    taker_bind(&taker);
    write_at(5000, 0, t0 + SECOND - 1); /* not yet: once a second */
    assert_null(taker_accept(&taker, 0));
    errno = 4711;
    write_at(5001, 0, t0 + SECOND);
    assert_int_equal(errno, 4711);
    struct otshim_shm *shm = taker_accept(&taker, 1000);
    assert_non_null(shm);
    assert_int_equal(open_fds(), fds + 1); /* the test's own listening socket */
    consumer_open(&consumer, shm);
    consumer_read(&consumer, SIZE_MAX, false, tally_record, &tally);
    assert_int_equal(tally.moved, 5002);
    write_at(5002, 0, t0 + SECOND + 1);
    consumer_read(&consumer, SIZE_MAX, false, tally_record, &tally);
    assert_int_equal(tally.records, 5003);
    tally_expect_once(&tally, 0, 0, 5003);
    assert_int_equal(atomic_load(&shm->counters[OTSHIM_COUNT_SPANS]), 5003);
    assert_int_equal(atomic_load(&shm->counters[OTSHIM_COUNT_CONN_BUSY]), 1);
    assert_int_equal(atomic_load(&shm->counters[OTSHIM_COUNT_ATTACHES]), 1);
    size_t len;
    assert_memory_equal(taker_item(&taker, OTSHIM_HELLO_SERVICE_NAME, &len), "shop", 4);
    assert_int_equal(len, 4);
    assert_non_null(taker_item(&taker, OTSHIM_HELLO_EXE, &len));
    assert_non_null(taker_item(&taker, OTSHIM_HELLO_CMDLINE, &len));
    struct otshim_hello hello;
    memcpy(&hello, taker.hello, sizeof(hello));
    assert_int_equal(hello.magic, OTSHIM_HELLO_MAGIC);
    assert_int_equal(hello.total_bytes, taker.hello_len);
    assert_int_equal(hello.pid, getpid());
    tally_free(&tally);
}

/* While it beats it is left alone, however long it does not read; 3 s without a beat it is given up; once a second, then every 5 s. */
static void test_heartbeat(void **state)
{
    (void)state;
    reset();
    taker_bind(&taker);
    uint64_t t = atomic_load(&fake_now);
    write_at(0, 0, t);
    struct otshim_shm *shm = taker_accept(&taker, 1000), *other;
    assert_non_null(shm);
    for (int i = 1; i <= 30; i++) {
        atomic_fetch_add(&shm->heartbeat, 1);
        write_at((uint64_t)i, 0, t += SECOND);
    }
    assert_null(taker_accept(&taker, 0));
    assert_int_equal(atomic_load(&shm->closed), 0);
    write_at(31, 0, t + OTSHIM_HEARTBEAT_STALE_NS - 1);
    assert_null(taker_accept(&taker, 0));
    write_at(32, 0, t += OTSHIM_HEARTBEAT_STALE_NS);
    other = taker_accept(&taker, 1000);
    assert_non_null(other);
    assert_int_equal(atomic_load(&shm->closed), 1);
    /* It takes the hello and never beats: a first repetition after 3 s, then after 5, 10, 20 and 40 s. */
    int hellos = 0;
    for (int i = 0; i < 800; i++) {
        write_at(33, 0, t += SECOND / 10);
        hellos += taker_accept(&taker, 0) != NULL;
    }
    assert_int_equal(hellos, 5);
    /* Idle for a minute, in which it beat for 20 s and died: found out at the next two records. */
    shm = NULL;
    for (int i = 0; i < 410 && shm == NULL; i++) {
        write_at(34, 0, t += SECOND / 10);
        shm = taker_accept(&taker, 0);
    }
    assert_non_null(shm);
    atomic_fetch_add(&shm->heartbeat, 20);
    write_at(35, 0, t += 60 * SECOND);
    write_at(35, 0, t += 1000);
    assert_non_null(taker_accept(&taker, 0));
}

/* A writer is inside the old ring when it is replaced: its record follows when it is back; one that never comes back holds up nothing. */
static void test_late_commit(void **state)
{
    (void)state;
    struct tally tally;
    struct consumer consumer;
    struct ring_hold hold, lost;
    reset();
    tally_make(&tally, 1, 100);
    uint64_t t = atomic_load(&fake_now);
    write_at(0, 0, t);
    struct ring *ring = identity_enter(&identity.current);
    struct otshim_span_rec rec = {.kind = OTSHIM_SPAN_SERVER, .attr_bytes = 8 + 20 + 16, .tid = 9};
    const uint64_t id = 2;
    memcpy(rec.span_id, &id, 8);
    assert_true(ring_reserve(ring, &lost, 300, OTSHIM_RECORD_SPAN, 0, 9));
    assert_true(ring_reserve(ring, &hold, sizeof(rec) + rec.attr_bytes, OTSHIM_RECORD_SPAN, 0, 9));
    write_at(2, 0, t);
    taker_bind(&taker);
    write_at(3, 0, t += SECOND); /* hands over while we are inside */
    struct otshim_shm *shm = taker_accept(&taker, 1000);
    assert_non_null(shm);
    consumer_open(&consumer, shm);
    consumer_read(&consumer, SIZE_MAX, false, tally_record, &tally);
    assert_int_equal(tally.records, 3);
    memcpy(hold.payload, &rec, sizeof(rec));
    memcpy((uint8_t *)hold.payload + sizeof(rec), "\1\0\3\0GET\0\2\0\16\0/orders/1?x=yz\0\0\4\0\13\0curl/7.88.1\0", rec.attr_bytes);
    ring_commit(&hold);
    atomic_fetch_add(&shm->heartbeat, 1);
    write_at(4, 0, t + 1);
    consumer_read(&consumer, SIZE_MAX, false, tally_record, &tally);
    assert_int_equal(tally.records, 4); /* still inside */
    identity_leave(ring);
    span_tick();
    consumer_read(&consumer, SIZE_MAX, false, tally_record, &tally);
    assert_int_equal(tally.records, 5); /* the other reservation was never committed */
    tally_expect_once(&tally, 0, 0, 5);
    assert_null(atomic_load(&identity.previous));

    /* Never leaves. */
    ring = identity_enter(&identity.current);
    write_at(5, 0, t += 4 * SECOND);
    shm = taker_accept(&taker, 1000);
    assert_non_null(shm);
    consumer_open(&consumer, shm);
    assert_non_null(atomic_load(&identity.previous));
    for (int i = 0; i < 6; i++) {
        atomic_fetch_add(&shm->heartbeat, 1);
        write_at(6 + (uint64_t)i, 0, t += SECOND);
    }
    assert_null(atomic_load(&identity.previous));
    consumer_read(&consumer, SIZE_MAX, false, tally_record, &tally);
    tally_expect_once(&tally, 0, 0, 12);
    identity_leave(ring);
    tally_free(&tally);
}

/* ---- fifty hand-overs under load -------------------------------------------------------------------------------------------------- */

#define WRITERS 4
static size_t per_writer = 100000;
static _Atomic int running;
static _Atomic uint64_t ended, read_so_far;

static void *writer(void *arg)
{
    const uint64_t id = (uintptr_t)arg;
    for (size_t i = 0; i < per_writer; i++) {
        struct otshim_span_rec begun = {.start_ns = atomic_load(&fake_now)};
        const uint64_t span = id << 48 | (i + 1);
        memcpy(begun.span_id, &span, 8);
        const uint32_t handle = inflight_begin(&begun, &nameless);
        inflight_name(handle, &begun, &(struct inflight_names){.method = "GET", .method_len = 3, .target = "/", .target_len = 1});
        write_at(i, id, atomic_fetch_add(&fake_now, SECOND / 1000));
        inflight_end(handle, begun.span_id);
        atomic_fetch_add(&ended, 1);
        /* Lets the reader have the processor: this is no test of a full ring. */
        const struct timespec pause = {0, 200000};
        if (i % 64 == 0)
            nanosleep(&pause, NULL);
        for (int waits = 0; waits < 100 && atomic_load(&ended) > atomic_load(&read_so_far) + 60000; waits++)
            nanosleep(&pause, NULL);
    }
    atomic_fetch_sub(&running, 1);
    return NULL;
}

static void test_fifty_handovers(void **state)
{
    (void)state;
    struct tally tally;
    struct consumer consumer = {0};
    pthread_t threads[WRITERS];
    int handovers = 0;
    uint64_t dropped = 0;
    reset();
    config.ring_bytes = 64u << 20; /* room for all that is written while nobody reads: nothing may be dropped here */
    tally_make(&tally, WRITERS, per_writer);
    taker_bind(&taker);
    atomic_store(&running, WRITERS);
    for (uintptr_t i = 0; i < WRITERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, writer, (void *)i), 0);
    /* Each "exporter" reads what it finds, then some thousand records, and is killed: neither reads nor beats. */
    uint64_t life = 0;
    while (atomic_load(&running) != 0) {
        struct otshim_shm *shm = taker_accept(&taker, handovers == 0 ? 1000 : 0);
        if (shm != NULL) {
            consumer_open(&consumer, shm);
            handovers++;
            life = UINT64_MAX;
        }
        if (consumer.shm == NULL)
            continue;
        if (tally.records < life) {
            const bool moving = (atomic_load(&identity.moves) & 1) != 0;
            if (consumer_read(&consumer, 700, false, tally_record, &tally) < 700 && life == UINT64_MAX && !moving)
                life = tally.records + 1500;
            atomic_fetch_add(&consumer.shm->heartbeat, 1);
            atomic_store(&read_so_far, tally.records);
        }
        sched_yield();
    }
    for (int i = 0; i < WRITERS; i++)
        pthread_join(threads[i], NULL);
    span_tick();
    /* The last one: what nobody has read is handed to a survivor. */
    atomic_fetch_add(&fake_now, 100 * SECOND);
    write_at(0, 7, atomic_load(&fake_now));
    for (struct otshim_shm *shm; (shm = taker_accept(&taker, 0)) != NULL; handovers++)
        consumer_open(&consumer, shm);
    tally.seen[7] = calloc(per_writer, 1);
    consumer_read(&consumer, SIZE_MAX, false, tally_record, &tally);
    dropped = atomic_load(&consumer.shm->counters[OTSHIM_COUNT_DROPPED_FULL]);
    printf("    %d hand-overs, %llu records, %llu of them moved, %llu dropped (full), %u attaches counted, %llu read twice and "
           "known\n",
           handovers, (unsigned long long)tally.records, (unsigned long long)tally.moved, (unsigned long long)dropped,
           (unsigned)atomic_load(&consumer.shm->counters[OTSHIM_COUNT_ATTACHES]), (unsigned long long)tally.again);
    assert_true(handovers >= (int)(per_writer / 10000)); /* how many there is time for is the machine's affair */
    assert_int_equal(dropped, 0);
    assert_int_equal(tally.records, WRITERS * per_writer + 1);
    assert_int_equal(atomic_load(&consumer.shm->counters[OTSHIM_COUNT_ATTACHES]), handovers);
    for (size_t w = 0; w < WRITERS; w++)
        tally_expect_once(&tally, w, 0, per_writer);
    /* Nothing is in flight, so nothing may be shown as that. */
    struct otshim_inflight *slots = (struct otshim_inflight *)(void *)((uint8_t *)consumer.shm + consumer.shm->inflight_off);
    for (unsigned i = 0; i < OTSHIM_INFLIGHT_SLOTS; i++) {
        assert_int_equal(atomic_load(&slots[i].state), 0);
        assert_int_equal(atomic_load(&identity.inflight_owner[i]), 0);
    }
    tally_free(&tally);
}

/* The exporter was not dead, only slow: it goes on reading the old memory while the new one is on its way to it. */
static void test_slow_exporter(void **state)
{
    (void)state;
    struct tally tally;
    struct consumer first, second;
    reset();
    tally_make(&tally, 1, 2000);
    taker_bind(&taker);
    uint64_t t = atomic_load(&fake_now);
    write_at(0, 0, t);
    consumer_open(&first, taker_accept(&taker, 1000));
    for (size_t i = 1; i < 999; i++)
        write_at(i, 0, t);
    consumer_read(&first, 400, false, tally_record, &tally);
    write_at(999, 0, t += 4 * SECOND);
    consumer_read(&first, SIZE_MAX, false, tally_record, &tally); /* awake again: finds padding */
    assert_int_equal(tally.records, 400);
    assert_int_equal(first.padding, 600);
    assert_int_equal(first.skipped, 0);
    consumer_open(&second, taker_accept(&taker, 1000));
    consumer_read(&second, SIZE_MAX, false, tally_record, &tally);
    assert_int_equal(tally.moved, 600);
    tally_expect_once(&tally, 0, 0, 1000);
    tally_free(&tally);
}

/* Signal handlers write in the middle of writes and of hand-overs. */
static volatile uint64_t handled;

static void on_signal(int sig)
{
    (void)sig;
    write_at(handled, 1, atomic_load(&fake_now));
    handled = handled + 1;
}

static void test_signals(void **state)
{
    (void)state;
    struct tally tally;
    struct consumer consumer;
    struct sigaction action = {.sa_handler = on_signal};
    const struct itimerval fast = {{0, 60}, {0, 60}}, never = {{0, 0}, {0, 0}};
    struct otshim_shm *shm = NULL, *next;
    sigset_t alarm_only;
    sigemptyset(&alarm_only);
    sigaddset(&alarm_only, SIGALRM);
    size_t written = 0, handovers = 0;
    reset();
    tally_make(&tally, 2, 200000);
    taker_bind(&taker);
    handled = 0;
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &fast, NULL);
    while (written < 150000 && (handled < 3000 || written < 20000)) {
        write_at(written++, 0, atomic_fetch_add(&fake_now, SECOND / 500));
        if (written % 1000 != 0)
            continue;
        while ((next = taker_accept(&taker, 0)) != NULL) { /* read what the one before left */
            shm = next;
            consumer_open(&consumer, shm);
            handovers++;
        }
        /* The reader is another process in life: what it has read it cannot find moved before it could release it. */
        sigprocmask(SIG_BLOCK, &alarm_only, NULL);
        if (shm != NULL)
            consumer_read(&consumer, SIZE_MAX, false, tally_record, &tally);
        sigprocmask(SIG_UNBLOCK, &alarm_only, NULL);
    }
    setitimer(ITIMER_REAL, &never, NULL);
    write_at(written++, 0, atomic_fetch_add(&fake_now, SECOND / 500));
    while ((next = taker_accept(&taker, 0)) != NULL)
        consumer_open(&consumer, next);
    consumer_read(&consumer, SIZE_MAX, false, tally_record, &tally);
    printf("    %zu records, %llu from handlers, %zu hand-overs\n", written, (unsigned long long)handled, handovers);
    assert_int_equal(tally.records, written + handled);
    tally_expect_once(&tally, 0, 0, written);
    tally_expect_once(&tally, 1, 0, handled);
    assert_true(handovers > 3);
    assert_int_equal(identity_thread.depth, 0);
    tally_free(&tally);
}

/* ---- processes ------------------------------------------------------------------------------------------------------------------ */

static void expect_exit_0(pid_t pid)
{
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* A child, also one that libc knows nothing of, introduces itself, and what it writes is not in its parent's ring. */
static void test_fork(void **state)
{
    (void)state;
    struct tally tally;
    struct consumer parent, child;
    reset();
    tally_make(&tally, 2, 100);
    taker_bind(&taker);
    const uint64_t t = atomic_load(&fake_now);
    write_at(0, 0, t);
    consumer_open(&parent, taker_accept(&taker, 1000));
    struct otshim_span_rec begun = {.start_ns = t, .span_id = {1, 2, 3, 4, 5, 6, 7, 8}};
    const uint32_t handle = inflight_begin(&begun, &nameless);
    assert_int_not_equal(handle, 0);
    pid_t pid = (pid_t)syscall(SYS_fork);
    if (pid == 0) {
        inflight_end(handle, begun.span_id); /* the parent's: nothing happens */
        write_at(0, 1, t + 1);
        write_at(1, 1, t + 2);
        _exit(atomic_load(&identity.attach_count) == 1 ? 0 : 1);
    }
    struct otshim_shm *shm = taker_accept(&taker, 2000);
    assert_non_null(shm);
    expect_exit_0(pid);
    struct otshim_hello hello;
    memcpy(&hello, taker.hello, sizeof(hello));
    assert_int_equal(hello.pid, pid);
    assert_int_equal(hello.attach_count, 1);
    consumer_open(&child, shm);
    assert_int_equal(consumer_read(&child, 99, false, tally_record, &tally), 2);
    tally_expect_once(&tally, 1, 0, 2);
    assert_int_equal(atomic_load(&shm->counters[OTSHIM_COUNT_SPANS]), 2);
    write_at(1, 0, t + 3);
    assert_int_equal(consumer_read(&parent, 99, false, tally_record, &tally), 2);
    struct otshim_inflight *slots = (struct otshim_inflight *)(void *)((uint8_t *)parent.shm + parent.shm->inflight_off);
    assert_int_not_equal(atomic_load(&slots[handle - 1].state), 0);
    inflight_end(handle, begun.span_id);
    assert_int_equal(atomic_load(&slots[handle - 1].state), 0);
    tally_free(&tally);
}

/* Forks while other threads hand over all the time: no child keeps a descriptor of ours. */
static _Atomic bool stop;

static void *hand_over_always(void *arg)
{
    (void)arg;
    while (!atomic_load(&stop))
        write_at(0, 0, atomic_fetch_add(&fake_now, 6 * SECOND));
    return NULL;
}

static void test_fork_in_handover(void **state)
{
    (void)state;
    pthread_t thread;
    int leaked = 0;
    reset();
    config.ring_bytes = OTSHIM_RING_MIN_BYTES;
    taker_bind(&taker);
    const int fds = open_fds();
    atomic_store(&stop, false);
    pthread_atfork(NULL, NULL, span_after_fork); /* as init.c does */
    pthread_create(&thread, NULL, hand_over_always, NULL);
    for (int i = 0; i < 300; i++) {
        pid_t pid = fork();
        int status;
        if (pid == 0)
            _exit(open_fds() == fds ? 0 : 1);
        waitpid(pid, &status, 0);
        leaked += status != 0;
        struct otshim_shm *shm;
        while ((shm = taker_accept(&taker, 0)) != NULL)
            munmap(shm, shm->total_bytes);
    }
    atomic_store(&stop, true);
    pthread_join(thread, NULL);
    printf("    %d of 300 children had a descriptor of ours\n", leaked);
    assert_true(leaked <=
                30); /* between the system call and the note of it there is an instant; without the note it is most of them */
}

/* A chain of children, each of which has a ring and forks: the address ranges of the ancestors are free again. */
static void test_fork_chain(void **state)
{
    (void)state;
    reset();
    pid_t pid = fork();
    if (pid == 0) {
        for (int i = 0; i < 3 * 8; i++) {
            write_at(0, 0, atomic_load(&fake_now));
            if (atomic_load(&identity.current) == NULL)
                _exit(1);
            pid = (pid_t)syscall(SYS_fork);
            if (pid != 0) {
                int status;
                waitpid(pid, &status, 0);
                _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 2);
            }
        }
        _exit(0);
    }
    expect_exit_0(pid);
}

/* RLIMIT_FSIZE: ftruncate on a memfd would raise SIGXFSZ. No descriptors left. */
static void test_limits_of_the_host(void **state)
{
    (void)state;
    reset();
    taker_bind(&taker);
    pid_t pid = fork();
    if (pid == 0) {
        const struct rlimit small = {1 << 20, RLIM_INFINITY};
        setrlimit(RLIMIT_FSIZE, &small);
        write_at(0, 0, atomic_load(&fake_now));
        _exit(atomic_load(&identity.current) != NULL && !atomic_load(&identity.current)->attached ? 0 : 1);
    }
    expect_exit_0(pid);
    pid = fork();
    if (pid == 0) {
        const struct rlimit none = {0, 0};
        setrlimit(RLIMIT_NOFILE, &none);
        write_at(0, 0, atomic_load(&fake_now));
        _exit(atomic_load(&identity.current) != NULL && !atomic_load(&identity.current)->attached ? 0 : 1);
    }
    expect_exit_0(pid);
    pid = fork();
    if (pid == 0) {
        const struct rlimit none = {1 << 20, 1 << 20};
        setrlimit(RLIMIT_AS, &none);
        for (int i = 0; i < 1000; i++)
            write_at(0, 0, atomic_load(&fake_now));
        _exit(atomic_load(&identity.current) == NULL && atomic_load(&identity.pending[OTSHIM_COUNT_DROPPED_FULL]) == 1000 ? 0 : 1);
    }
    expect_exit_0(pid);
}

/* The end: nobody had it, somebody is there now. Exec: closed, and open again when it failed. */
static void test_exit_and_exec(void **state)
{
    (void)state;
    struct tally tally;
    struct consumer consumer;
    reset();
    tally_make(&tally, 1, 10);
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    const uint64_t now = (uint64_t)ts.tv_sec * SECOND + (uint64_t)ts.tv_nsec;
    write_at(0, 0, now);
    span_at_exit();
    taker_bind(&taker);
    span_log(13, "something to say");
    span_at_exit();
    struct otshim_shm *shm = taker_accept(&taker, 1000);
    assert_non_null(shm);
    consumer_open(&consumer, shm);
    consumer_read(&consumer, 99, false, tally_record, &tally);
    assert_int_equal(tally.records, 1);
    assert_int_equal(tally.logs, 1);
    span_at_exit(); /* it has it: that is enough */
    assert_null(taker_accept(&taker, 0));
    span_before_exec();
    assert_int_equal(atomic_load(&shm->closed), 1);
    span_exec_failed();
    assert_int_equal(atomic_load(&shm->closed), 0);
    tally_free(&tally);
}

/* A thread with the smallest stack does everything for the first time. */
static void *on_small_stack(void *arg)
{
    uint64_t frames[OTSHIM_STACK_MAX];
    write_at(0, 0, atomic_load(&fake_now));
    *(size_t *)arg = stack_capture(frames, OTSHIM_STACK_MAX);
    return NULL;
}

static void test_small_stack(void **state)
{
    (void)state;
    pthread_attr_t attr;
    pthread_t thread;
    size_t frames = 0;
    reset();
    taker_bind(&taker);
    stack_prepare();
    pthread_attr_init(&attr);
    assert_int_equal(pthread_attr_setstacksize(&attr, 16384), 0);
    assert_int_equal(pthread_create(&thread, &attr, on_small_stack, &frames), 0);
    pthread_join(thread, NULL);
    pthread_attr_destroy(&attr);
    assert_non_null(taker_accept(&taker, 1000));
    assert_true(frames >= 1); /* the test's own code counts as ours and is skipped; the C library's is not */
}

static void test_stack(void **state)
{
    (void)state;
    uint64_t frames[OTSHIM_STACK_MAX];
    reset();
    config.stack_threshold_ns = UINT64_MAX;
    assert_false(stack_wanted(SECOND, true));
    config.stack_threshold_ns = 100;
    stack_prepare();
    assert_false(stack_wanted(99, false));
    assert_true(stack_wanted(100, false));
    assert_true(stack_wanted(0, true));
    const int fds = open_fds();
    const size_t n = stack_capture(frames, OTSHIM_STACK_MAX);
    assert_int_equal(open_fds(), fds);
    assert_in_range(n, 1, OTSHIM_STACK_MAX);
    for (size_t i = 0; i < n; i++)
        assert_true(frames[i] != 0);
    assert_int_equal(stack_capture(frames, 1), 1);
    assert_int_equal(stack_capture(frames, 0), 0);
    assert_int_equal(otshim_quiet, 0);
}

/* Text that does not fit into a record is left out, and that is said. */
static void test_too_much_text(void **state)
{
    (void)state;
    static char text[5000];
    reset();
    taker_bind(&taker);
    struct otshim_span_rec rec = {.end_ns = atomic_load(&fake_now), .kind = OTSHIM_SPAN_CLIENT};
    const struct span_attr attrs[] = {{1, 5000, text}, {2, 5000, text}, {3, 5000, text}, {4, 5000, text}, {5, 1, text}};
    span_write(&rec, attrs, 5);
    assert_int_equal(rec.attr_bytes, 3 * 5004);
    assert_int_equal(rec.flags, OTSHIM_SPAN_TRUNCATED);
    struct otshim_shm *shm = taker_accept(&taker, 1000);
    assert_non_null(shm);
    assert_int_equal(atomic_load(&shm->head), sizeof(struct otshim_rec) + ((sizeof(rec) + 3 * 5004 + 7) & ~7u));
}

static void test_cost(void **state)
{
    (void)state;
    struct timespec a, b;
    enum { N = 2000000 };
    reset();
    taker_bind(&taker);
    uint64_t t = atomic_load(&fake_now);
    write_at(0, 0, t);
    struct otshim_shm *shm = taker_accept(&taker, 1000);
    static char agent[60];
    const struct span_attr attrs[] = {{OTSHIM_ATTR_METHOD, 3, "GET"},
                                      {OTSHIM_ATTR_TARGET, 14, "/orders/1?x=yz"},
                                      {OTSHIM_ATTR_HOST, 14, "127.0.0.1:8080"},
                                      {OTSHIM_ATTR_USER_AGENT, 60, agent}};
    uint64_t spent = 0;
    for (int round = 0; round < N / 4000; round++) {
        clock_gettime(CLOCK_MONOTONIC, &a);
        for (int i = 0; i < 4000; i++) {
            struct otshim_span_rec rec = {.start_ns = t, .end_ns = t + (uint64_t)i, .kind = OTSHIM_SPAN_SERVER};
            span_write(&rec, attrs, 4);
        }
        clock_gettime(CLOCK_MONOTONIC, &b);
        spent += (uint64_t)(b.tv_sec - a.tv_sec) * SECOND + (uint64_t)b.tv_nsec - (uint64_t)a.tv_nsec;
        atomic_store(&shm->tail, atomic_load(&shm->head));
    }
    printf("    %.1f ns a span_write of %u bytes\n", (double)spent / N,
           (unsigned)(sizeof(struct otshim_rec) + sizeof(struct otshim_span_rec) + 8 + 20 + 20 + 64));
    clock_gettime(CLOCK_MONOTONIC, &a);
    struct otshim_span_rec rec = {.start_ns = t, .span_id = {1, 2, 3, 4, 5, 6, 7, 8}};
    for (int i = 0; i < N; i++) {
        uint32_t handle = inflight_begin(&rec, &nameless);
        inflight_name(handle, &rec,
                      &(struct inflight_names){.method = "GET",
                                               .method_len = 3,
                                               .target = "/orders/1?x=yz",
                                               .target_len = 14,
                                               .host = "127.0.0.1:8080",
                                               .host_len = 14});
        inflight_end(handle, rec.span_id);
    }
    clock_gettime(CLOCK_MONOTONIC, &b);
    spent = (uint64_t)(b.tv_sec - a.tv_sec) * SECOND + (uint64_t)b.tv_nsec - (uint64_t)a.tv_nsec;
    printf("    %.1f ns an inflight begin, name and end\n", (double)spent / N);
    clock_gettime(CLOCK_MONOTONIC, &a);
    for (int i = 0; i < N; i++)
        span_tick();
    clock_gettime(CLOCK_MONOTONIC, &b);
    spent = (uint64_t)(b.tv_sec - a.tv_sec) * SECOND + (uint64_t)b.tv_nsec - (uint64_t)a.tv_nsec;
    printf("    %.1f ns a span_tick with nothing unread\n", (double)spent / N);
}

int main(void)
{
    if (getenv("RING_RECORDS") != NULL)
        per_writer = (size_t)atol(getenv("RING_RECORDS"));
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    atomic_store(&fake_now, (uint64_t)ts.tv_sec * SECOND);
    taker_make_place(&taker);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_late_exporter), cmocka_unit_test(test_heartbeat),
        cmocka_unit_test(test_late_commit),   cmocka_unit_test(test_fifty_handovers),
        cmocka_unit_test(test_slow_exporter), cmocka_unit_test(test_signals),
        cmocka_unit_test(test_stack),         cmocka_unit_test(test_small_stack),
        cmocka_unit_test(test_fork),          cmocka_unit_test(test_fork_in_handover),
        cmocka_unit_test(test_fork_chain),    cmocka_unit_test(test_limits_of_the_host),
        cmocka_unit_test(test_exit_and_exec), cmocka_unit_test(test_too_much_text),
        cmocka_unit_test(test_cost),
    };
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    taker_close(&taker);
    rmdir(taker.dir);
    return failed;
}
