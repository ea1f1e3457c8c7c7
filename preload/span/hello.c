/* hello.c - see hello.h. Where the exporter is looked for, in this order (all of them if OTSHIM_SOCKET is not set):
 *
 *     /run/otshim/otshim.sock              a system-wide exporter; the directory is root's
 *     $XDG_RUNTIME_DIR/otshim/otshim.sock  the user's own
 *     /tmp/otshim-UID/otshim.sock          where there is neither
 *
 * Anybody can make a directory of that last name before its user does, and would then be sent what this process sees. So it counts only
 * if it is a directory, no symbolic link, of this user or root, and nobody else may write to it. */
#include "span/hello.h"
#include "base/base.h"
#include "base/config.h"
#include "base/raw.h"
#include <errno.h>
#include <fcntl.h>
#include <otshim/hello.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

uint64_t hello_start_ns;

static uint8_t message[OTSHIM_HELLO_MAX_BYTES] __attribute__((aligned(8)));

#define OUT_OF_THE_WAY 32

/* The descriptors that are open now, + 1; for a fork by another thread at this moment. Noted after the descriptor is there and forgotten
 * before it is closed: a child never closes a number that has become somebody else's. */
static _Atomic int held[2];

static int hold(int fd)
{
    atomic_store(&held[atomic_load(&held[0]) != 0], fd + 1);
    return fd;
}

void hello_close(int fd)
{
    for (int i = 0; i < 2; i++)
        if (atomic_load(&held[i]) == fd + 1)
            atomic_store(&held[i], 0);
    raw_syscall1(SYS_close, fd);
}

void hello_after_fork(void)
{
    for (int i = 0; i < 2; i++) {
        const int fd = atomic_exchange(&held[i], 0) - 1;
        if (fd >= 0)
            raw_syscall1(SYS_close, fd);
    }
}

int hello_out_of_the_way(int fd)
{
    if (fd < 0)
        return fd;
    if (fd < OUT_OF_THE_WAY) {
        const long higher = raw_syscall3(SYS_fcntl, fd, F_DUPFD_CLOEXEC, OUT_OF_THE_WAY);
        if (!raw_failed(higher)) {
            raw_syscall1(SYS_close, fd);
            fd = (int)higher;
        }
    }
    return hold(fd);
}

/* ---- the places ------------------------------------------------------------------------------------------------------------------ */

/* Writes a + b + c, or "" if that does not fit. */
static void join(char *out, size_t size, const char *a, const char *b, const char *c)
{
    const size_t na = strlen(a), nb = strlen(b), nc = strlen(c);
    out[0] = '\0';
    if (na + nb + nc >= size)
        return;
    memcpy(out, a, na);
    memcpy(out + na, b, nb);
    memcpy(out + na + nb, c, nc + 1);
}

static const char *decimal(char out[12], uint32_t value)
{
    char *p = out + 11;
    *p = '\0';
    do
        *--p = (char)('0' + value % 10);
    while ((value /= 10) != 0);
    return p;
}

static bool tmp_dir_is_ours(const char *dir, uint32_t uid)
{
    struct stat st; /* the C library's layout is the kernel's on both architectures */
    if (raw_failed(raw_syscall4(SYS_newfstatat, AT_FDCWD, (long)dir, (long)&st, AT_SYMLINK_NOFOLLOW)))
        return false;
    return S_ISDIR(st.st_mode) && (st.st_uid == uid || st.st_uid == 0) && (st.st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

/* A connect that fails leaves a Unix socket as it was, so one socket tries them all. */
static long try_place(int fd, const char *path)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    const size_t len = strlen(path);
    if (len == 0 || len >= sizeof(addr.sun_path))
        return -ENOENT;
    memcpy(addr.sun_path, path, len + 1);
    return raw_syscall3(SYS_connect, fd, (long)&addr, (long)(offsetof(struct sockaddr_un, sun_path) + len + 1));
}

static long try_places(int fd)
{
    char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
    if (config.socket_path_set)
        return try_place(fd, config.socket_path);
    long result = try_place(fd, "/run/otshim/otshim.sock");
    if (raw_failed(result) && config.xdg_runtime_dir[0] != '\0') {
        join(path, sizeof(path), config.xdg_runtime_dir, "/otshim/otshim.sock", "");
        result = try_place(fd, path);
    }
    if (raw_failed(result)) {
        char digits[12];
        const uint32_t uid = (uint32_t)raw_syscall0(SYS_geteuid);
        const char *text = decimal(digits, uid);
        join(path, sizeof(path), "/tmp/otshim-", text, "");
        if (tmp_dir_is_ours(path, uid)) {
            join(path, sizeof(path), "/tmp/otshim-", text, "/otshim.sock");
            result = try_place(fd, path);
        }
    }
    return result;
}

int hello_connect(void)
{
    long fd = raw_syscall3(SYS_socket, AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (raw_failed(fd))
        return (int)fd;
    fd = hello_out_of_the_way((int)fd);
    const long result = try_places((int)fd);
    if (raw_failed(result)) {
        hello_close((int)fd);
        return (int)result;
    }
    return (int)fd;
}

/* ---- the message ----------------------------------------------------------------------------------------------------------------- */

/* Where an item's bytes go; *room is how many may. NULL when there is no room for any. */
static uint8_t *item_room(uint32_t used, size_t wanted, size_t *room)
{
    if (used + sizeof(struct otshim_hello_item) + 4 > sizeof(message))
        return NULL;
    const size_t left = (sizeof(message) - used - sizeof(struct otshim_hello_item)) & ~(size_t)3;
    *room = wanted < left ? wanted : left;
    return message + used + sizeof(struct otshim_hello_item);
}

/* Its bytes are in place: writes the item's head and the padding. Returns the new length of the message. */
static uint32_t item_close(uint32_t used, uint16_t key, size_t len)
{
    struct otshim_hello_item item = {.key = key, .len = (uint16_t)len};
    memcpy(message + used, &item, sizeof(item));
    const size_t padded = (len + 3) & ~(size_t)3;
    memset(message + used + sizeof(item) + len, 0, padded - len);
    return used + (uint32_t)(sizeof(item) + padded);
}

static uint32_t add_text(uint32_t used, uint16_t key, const char *text)
{
    size_t room;
    uint8_t *at = item_room(used, strlen(text), &room);
    if (at == NULL || room == 0)
        return used;
    memcpy(at, text, room);
    return item_close(used, key, room);
}

static uint32_t add_exe(uint32_t used)
{
    size_t room;
    uint8_t *at = item_room(used, 4096, &room);
    if (at == NULL)
        return used;
    const long n = raw_syscall4(SYS_readlinkat, AT_FDCWD, (long)"/proc/self/exe", (long)at, (long)room);
    return n > 0 ? item_close(used, OTSHIM_HELLO_EXE, (size_t)n) : used;
}

static uint32_t add_cmdline(uint32_t used)
{
    size_t room;
    uint8_t *at = item_room(used, OTSHIM_CMDLINE_MAX, &room);
    if (at == NULL)
        return used;
    const long fd = raw_syscall4(SYS_openat, AT_FDCWD, (long)"/proc/self/cmdline", O_RDONLY | O_CLOEXEC, 0);
    if (raw_failed(fd))
        return used;
    const long n = raw_syscall3(SYS_read, fd, (long)at, (long)room);
    raw_syscall1(SYS_close, fd);
    return n > 0 ? item_close(used, OTSHIM_HELLO_CMDLINE, (size_t)n) : used;
}

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec ts;
    clock_gettime(clock, &ts);
    return (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
}

static uint32_t compose(uint32_t attach_count)
{
    struct otshim_hello *hello = (struct otshim_hello *)(void *)message;
    uint32_t used = sizeof(*hello);
    used = add_exe(used);
    used = add_cmdline(used);
    used = add_text(used, OTSHIM_HELLO_SERVICE_NAME, config.service_name);
    used = add_text(used, OTSHIM_HELLO_RESOURCE_ATTRS, config.resource_attributes);
    used = add_text(used, OTSHIM_HELLO_LIBRARY_VERSION, OTSHIM_VERSION);
    *hello = (struct otshim_hello){
        .magic = OTSHIM_HELLO_MAGIC,
        .abi_version = OTSHIM_ABI_VERSION,
        .total_bytes = used,
        .pid = (uint32_t)raw_syscall0(SYS_getpid),
        .attach_count = attach_count,
        .start_ns = hello_start_ns,
        .anchor_mono_ns = clock_ns(CLOCK_MONOTONIC),
        .anchor_unix_ns = clock_ns(CLOCK_REALTIME),
    };
    return used;
}

int hello_send(int fd, int memfd, uint32_t attach_count)
{
    union {
        struct cmsghdr head;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {.bytes = {0}};
    struct iovec iov = {.iov_base = message, .iov_len = compose(attach_count)};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof(control.bytes)};
    control.head.cmsg_level = SOL_SOCKET;
    control.head.cmsg_type = SCM_RIGHTS;
    control.head.cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(&control.head), &memfd, sizeof(int));
    const long sent = raw_syscall3(SYS_sendmsg, fd, (long)&msg, MSG_NOSIGNAL | MSG_DONTWAIT);
    hello_close(fd);
    hello_close(memfd);
    return raw_failed(sent) ? (int)sent : 0;
}
