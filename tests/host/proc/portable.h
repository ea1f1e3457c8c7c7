/* portable.h - what musl and older glibc have not. */
#ifndef PORTABLE_H
#define PORTABLE_H

#include <stddef.h>

#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef __GLIBC__
#define __poll_chk(fds, nfds, timeout, len) poll(fds, nfds, timeout)
#define __ppoll_chk(fds, nfds, timeout, mask, len) ppoll(fds, nfds, timeout, mask)
#define __GLIBC_PREREQ(major, minor) 0
#endif

#if !__GLIBC_PREREQ(2, 34)
#define close_range(first, last, flags) (int)syscall(436, first, last, flags)
#define execveat(dirfd, path, argv, envp, flags) (int)syscall(SYS_execveat, dirfd, path, argv, envp, flags)
#endif
#if !__GLIBC_PREREQ(2, 35)
#define epoll_pwait2(epfd, events, n, timeout, mask) epoll_pwait(epfd, events, n, (int)((timeout)->tv_nsec / 1000000), mask)
#endif

#endif
