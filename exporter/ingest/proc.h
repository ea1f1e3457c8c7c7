/* proc.h - what the kernel says of a process: /proc/PID and pidfds. Every answer may be "unknown" (hidepid, another user's, gone). */
#ifndef OTSHIM_INGEST_PROC_H
#define OTSHIM_INGEST_PROC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct proc_stat {
    char state;           /* R S D Z T t X ... */
    uint64_t start_ticks; /* field 22: since boot, in clock ticks */
};

/* tid 0: the process, else one of its threads. 0, -ESRCH/-ENOENT: no such, else -errno: unknown. */
int proc_stat(pid_t pid, pid_t tid, struct proc_stat *out);
/* The executable's path; "" if unknown. */
void proc_executable(pid_t pid, char *out, size_t size);
/* Now, in clock ticks since boot, for comparison with start_ticks. */
uint64_t proc_now_ticks(void);

/* -errno, or a pidfd (close-on-exec) of the peer of a connection: by SO_PEERPIDFD (Linux 6.5), which cannot name another process.
 * -ESRCH: it is dead and reaped; -ENOPROTOOPT: this kernel cannot. */
int proc_peer_pidfd(int connection);
/* By pidfd_open (Linux 5.3). The caller has to make sure that the pid was not used again: -ENOSYS, -ESRCH, ... */
int proc_pidfd_open(pid_t pid);

#endif
