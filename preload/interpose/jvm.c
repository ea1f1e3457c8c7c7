/* jvm.c - a program that listens, in a thread of a Java virtual machine, gets that machine's hooks (context/jvm/jvm.h).
 *
 * Only then: javac, mvn and all that serve nobody stay untouched. And not on every socket: the virtual machine itself listens on a Unix
 * socket, /tmp/.java_pid<pid>, for those who attach to it, in a state in which JNI must not be called. What Java code, the virtual machine's agents
 * or native libraries do is done in native code, where it may be.
 *
 * libjvm.so is loaded by the launcher with dlopen, and not for all to see: its functions are found in the object's own symbol table. */
#include "interpose/jvm.h"
#include "base/base.h"
#include "conn/conn.h"
#include "context/jvm/jvm.h"
#include "interpose/lookup.h"
#include <link.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

static int count_loads(struct dl_phdr_info *info, size_t size, void *arg)
{
    if (size >= offsetof(struct dl_phdr_info, dlpi_subs))
        *(unsigned long long *)arg = info->dlpi_adds;
    return 1;
}

/* Is it a socket of the program's? */
static bool is_programs(int fd)
{
    struct sockaddr_un addr = {.sun_family = AF_UNSPEC};
    socklen_t len = sizeof addr - 1;
    if (getsockname(fd, (struct sockaddr *)&addr, &len) != 0)
        return false;
    if (addr.sun_family != AF_UNIX)
        return addr.sun_family == AF_INET || addr.sun_family == AF_INET6;
    return len > offsetof(struct sockaddr_un, sun_path) && strstr(addr.sun_path, ".java_pid") == NULL;
}

/* Raised for good once it is set up or cannot be; lowered again by a thread that found it to be no time for it. */
static _Atomic bool taken;

void jvm_look(int fd, bool listening)
{
    static _Atomic unsigned long long looked_at; /* dlpi_adds when there was none */
    static _Atomic bool absent;
    unsigned long long loads = 0;
    if (OTSHIM_LIKELY(atomic_load_explicit(&taken, memory_order_acquire)) ||
        (!listening && atomic_load_explicit(&absent, memory_order_relaxed)))
        return;
    dl_iterate_phdr(count_loads, &loads);
    if (loads == atomic_load_explicit(&looked_at, memory_order_relaxed))
        return;
    struct lookup_item items[] = {{"JNI_GetCreatedJavaVMs", NULL, NULL}, {"JVM_FindClassFromBootLoader", NULL, NULL}};
    lookup_any(items, 2);
    if (items[0].found == NULL) {
        atomic_store_explicit(&looked_at, loads, memory_order_relaxed);
        atomic_store_explicit(&absent, true, memory_order_relaxed);
        return;
    }
    void *vm = NULL;
    int count = 0;
    int (*created)(void **vms, int room, int *count) = (int (*)(void **, int, int *))items[0].found;
    if (!is_programs(fd) || created(&vm, 1, &count) != 0 || count != 1 || atomic_exchange(&taken, true))
        return;
    jvm_hand_over = conn_hand_over;
    if (!jvm_setup(vm, (void *(*)(void *, const char *))items[1].found))
        atomic_store_explicit(&taken, false, memory_order_release);
}
