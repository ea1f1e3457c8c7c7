/* tracee.c - see tracee.h. */
#include "ingest/tracee.h"
#include "ingest/clock.h"
#include "ingest/inflight.h"
#include "ingest/proc.h"
#include "trace/resource.h"
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static void tracee_tail_moved(void *arg, uint64_t tail)
{
    struct tracee *tracee = arg;

    ring_reader_set_tail(&tracee->reader, tail);
}

/* CLOCK_MONOTONIC stands still in suspend, start times in /proc do not (CLOCK_BOOTTIME). */
static uint64_t tracee_ticks_of_mono(uint64_t mono_ns)
{
    struct timespec ts;
    uint64_t mono = clock_mono_ns(), boot, ticks_per_s = (uint64_t)sysconf(_SC_CLK_TCK);

    clock_gettime(CLOCK_BOOTTIME, &ts);
    boot = (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec + (mono_ns - mono);
    return boot / (1000000000u / ticks_per_s);
}

/* A process that began after the peer wrote its hello is another one that got its pid. Two ticks of grace for rounding. */
static void tracee_check_pid(struct tracee *tracee, const struct arrival_peer *peer, const struct hello *hello)
{
    struct proc_stat stat;
    uint64_t hello_ticks = tracee_ticks_of_mono(hello->head.anchor_mono_ns + (uint64_t)tracee->clock_delta_ns);

    if (tracee->process.pid == 0 || peer->dead || proc_stat(tracee->process.pid, 0, &stat) != 0)
        return;
    if (!peer->certain && tracee->clock_delta_ns == 0 && stat.start_ticks > hello_ticks + 2) {
        if (tracee->pidfd >= 0)
            close(tracee->pidfd);
        tracee->pidfd = -1;
        tracee->process.alive = false;
        return;
    }
    tracee->process.start_ticks = stat.start_ticks;
}

static bool tracee_fill(struct tracee *tracee, const struct hello *hello)
{
    struct process *process = &tracee->process;
    struct resource_input input = {
        .pid = process->alive ? process->pid : 0,
        .peer_pid = hello->head.pid,
        .start_ticks = process->start_ticks,
        .executable = hello->executable,
        .cmdline = hello->cmdline,
        .cmdline_len = hello->cmdline_len,
        .service_name = hello->service_name,
        .resource_attributes = hello->resource_attributes,
        .library_version = hello->library_version,
    };

    process->peer_pid = hello->head.pid;
    process->executable = strdup(hello->executable);
    process->cmdline_len = hello->cmdline_len;
    process->cmdline = calloc(1, hello->cmdline_len + 1);
    process->resource = resource_make(&input);
    memcpy(process->note, hello->note, sizeof process->note);
    if (process->executable == NULL || process->cmdline == NULL || process->resource == NULL)
        return false;
    memcpy(process->cmdline, hello->cmdline, hello->cmdline_len);
    return true;
}

struct tracee *tracee_new(const struct arrival_peer *peer, const struct hello *hello, int memfd, int64_t offset_ns,
                          const struct tracee *elder, const char **why)
{
    struct tracee *tracee = calloc(1, sizeof *tracee);

    *why = "there is no memory for it";
    if (tracee == NULL) {
        if (peer->pidfd >= 0)
            close(peer->pidfd);
        return NULL;
    }
    tracee->pidfd = peer->pidfd;
    tracee->process.pid = peer->pid;
    tracee->process.uid = peer->uid;
    tracee->process.alive = !peer->dead;
    tracee->process.connected_unix_ns = clock_unix_ns();
    tracee->same_pid_namespace = peer->pid != 0 && (uint32_t)peer->pid == hello->head.pid;
    tracee->clock_delta_ns = clock_namespace_delta_ns(hello->head.anchor_mono_ns, hello->head.anchor_unix_ns, offset_ns);
    tracee_set_clock(tracee, offset_ns);
    tracee_check_pid(tracee, peer, hello);
    if (memory_map(&tracee->memory, memfd, why) != 0)
        goto fail;
    if (!ring_reader_init(&tracee->reader, tracee->memory.shm, tracee->memory.data, tracee->memory.data_bytes)) {
        *why = tracee->reader.hostile;
        goto fail;
    }
    receipt_queue_init(&tracee->receipts, tracee->reader.tail, tracee_tail_moved, tracee);
    tracee->process.ring_bytes = tracee->memory.data_bytes;
    tracee->head_changed_ns = clock_mono_ns();
    tracee->seen = elder != NULL ? seen_ref(elder->seen) : seen_new(tracee->memory.data_bytes);
    if (tracee->seen == NULL || !tracee_fill(tracee, hello))
        goto fail;
    return tracee;
fail:
    tracee_free(tracee);
    return NULL;
}

void tracee_free(struct tracee *tracee)
{
    receipt_queue_detach(&tracee->receipts);
    if (tracee->death != NULL)
        event_free(tracee->death);
    if (tracee->pidfd >= 0)
        close(tracee->pidfd);
    memory_unmap(&tracee->memory);
    seen_unref(tracee->seen);
    if (tracee->process.resource != NULL)
        resource_unref(tracee->process.resource);
    free(tracee->process.executable);
    free(tracee->process.cmdline);
    free(tracee);
}

void tracee_again(struct tracee *tracee, const struct arrival_peer *peer, const struct hello *hello, int64_t offset_ns)
{
    if (peer->pidfd >= 0)
        close(peer->pidfd);
    if (peer->pid != tracee->process.pid)
        return; /* somebody who inherited the memory: the clock is still the owner's */
    tracee->clock_delta_ns = clock_namespace_delta_ns(hello->head.anchor_mono_ns, hello->head.anchor_unix_ns, offset_ns);
    tracee_set_clock(tracee, offset_ns);
    if (hello->note[0] != '\0')
        memcpy(tracee->process.note, hello->note, sizeof tracee->process.note);
}

void tracee_set_clock(struct tracee *tracee, int64_t offset_ns)
{
    tracee->process.clock_offset_ns = offset_ns + tracee->clock_delta_ns;
}

static void copy_text(char *to, size_t size, const char *shared)
{
    memcpy(to, shared, size);
    to[size - 1] = '\0';
}

/* Entries are written once; what a hostile process changes afterwards is cut and shown like any text of it. */
static void tracee_refresh_runtimes(struct tracee *tracee)
{
    struct process *process = &tracee->process;

    process->runtime_count = 0;
    for (unsigned i = 0; i < OTSHIM_RUNTIMES; i++) {
        struct otshim_runtime *shared = &tracee->memory.shm->runtimes[i];
        struct process_runtime one = {.name = ""};
        unsigned at = 0;

        if (atomic_load_explicit(&shared->state, memory_order_acquire) != OTSHIM_RUNTIME_THERE)
            continue;
        copy_text(one.name, sizeof one.name, shared->name);
        copy_text(one.version, sizeof one.version, shared->version);
        copy_text(one.why_not, sizeof one.why_not, shared->why_not);
        while (at < process->runtime_count && strcmp(process->runtimes[at].name, one.name) != 0)
            at++;
        process->runtimes[at] = one;
        if (at == process->runtime_count)
            process->runtime_count++;
    }
}

void tracee_refresh(struct tracee *tracee)
{
    struct process *process = &tracee->process;
    uint64_t head = atomic_load_explicit(&tracee->memory.shm->head, memory_order_relaxed);

    for (unsigned i = 0; i < OTSHIM_COUNTERS; i++)
        process->counters[i] = atomic_load_explicit(&tracee->memory.shm->counters[i], memory_order_relaxed);
    process->ring_used = head - tracee->reader.tail;
    if (process->ring_used > process->ring_bytes) /* a hostile head */
        process->ring_used = process->ring_bytes;
    tracee_refresh_runtimes(tracee);
}

bool tracee_is_closed(const struct tracee *tracee)
{
    return atomic_load_explicit(&tracee->memory.shm->closed, memory_order_acquire) != 0;
}

bool tracee_seems_dead(const struct tracee *tracee)
{
    const struct process *process = &tracee->process;
    struct proc_stat stat;

    if (process->pid == 0)
        return false;
    if (kill(process->pid, 0) != 0 && errno == ESRCH)
        return true;
    if (proc_stat(process->pid, 0, &stat) != 0)
        return false; /* hidden from us, or between two looks: the next one tells */
    return stat.state == 'Z' || stat.state == 'X' || (process->start_ticks != 0 && stat.start_ticks != process->start_ticks);
}

const char *tracee_name(const struct tracee *tracee)
{
    return tracee->process.executable[0] != '\0' ? tracee->process.executable : "a process";
}

/* Under hidepid another user's process has no directory at all: then a missing thread says nothing. */
static bool tracee_visible(const struct tracee *tracee)
{
    struct proc_stat stat;

    return proc_stat(tracee->process.pid, 0, &stat) == 0;
}

enum tracee_thread tracee_thread(const struct tracee *tracee, uint32_t tid)
{
    struct proc_stat stat;
    int error;

    if (tracee->process.pid == 0 || (tid != 0 && (!tracee->same_pid_namespace || tid > INT32_MAX)))
        return THREAD_UNKNOWN;
    error = proc_stat(tracee->process.pid, (pid_t)tid, &stat);
    if (error == -ENOENT || error == -ESRCH)
        return tracee_visible(tracee) ? THREAD_GONE : THREAD_UNKNOWN;
    if (error != 0)
        return THREAD_UNKNOWN;
    if (stat.state == 'Z' || stat.state == 'X')
        return tid != 0 ? THREAD_GONE : THREAD_UNKNOWN;
    return stat.state == 'T' || stat.state == 't' ? THREAD_STOPPED : THREAD_RUNS;
}
