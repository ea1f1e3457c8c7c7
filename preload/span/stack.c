/* stack.c - the call site: return addresses of the calling thread.
 *
 * By _Unwind_Backtrace of libgcc_s, found with dlopen, never linked (a preloaded object with an unmet dependency stops the program). It
 * reads unwind tables and the stack, nothing else: it stops where there is no table (JIT code), makes no system call and keeps nothing.
 * libunwind's unw_backtrace is ten times as fast, but keeps a pipe open, from which it reads and to which it writes a byte to find out
 * whether an address is mapped: in a program that closes all descriptors and uses the numbers again, those bytes come out of and go into
 * the program's own files. libgcc_s is also there wherever glibc is (libc6 depends on it). Its 1 to 3 us are paid only by calls that were
 * slow or failed. */
#include "base/base.h"
#include "base/config.h"
#include "span/span.h"
#include <dlfcn.h>
#include <stdatomic.h>

/* Weak (base/symver.h does the rest): a program of before glibc 2.34 may not have loaded libdl. Then there are no stacks. */
#pragma weak dlopen
#pragma weak dlsym
#pragma weak dlerror

/* Of the Itanium C++ ABI, "Exception Handling", 1.3; declared here because <unwind.h> wants to be linked. */
typedef int (*step_function)(void *context, void *arg);
typedef int (*backtrace_function)(step_function, void *);
typedef uintptr_t (*ip_function)(void *context);
#define STEP_ON 0   /* _URC_NO_REASON */
#define STEP_STOP 5 /* _URC_END_OF_STACK */

static _Atomic(backtrace_function) backtrace_of;
static ip_function ip_of;

/* Where we are ourselves: from the linker. */
extern const char __ehdr_start[] __attribute__((visibility("hidden")));
extern const char _end[] __attribute__((visibility("hidden")));

static void find(void)
{
    if (dlopen == NULL || dlsym == NULL)
        return;
    void *library = dlopen("libgcc_s.so.1", RTLD_LAZY | RTLD_LOCAL);
    if (library == NULL) {
        if (dlerror != NULL)
            dlerror(); /* not for the program to find */
        return;
    }
    void *ip = dlsym(library, "_Unwind_GetIP");
    void *backtrace = dlsym(library, "_Unwind_Backtrace");
    if (ip == NULL || backtrace == NULL)
        return;
    ip_of = (ip_function)ip;
    atomic_store_explicit(&backtrace_of, (backtrace_function)backtrace, memory_order_release);
}

void stack_prepare(void)
{
    static _Atomic uint32_t prepared;
    if (config.stack_threshold_ns == UINT64_MAX || atomic_load_explicit(&prepared, memory_order_relaxed) != 0 ||
        atomic_exchange(&prepared, 1) != 0)
        return;
    otshim_quiet++;
    find();
    otshim_quiet--;
    if (atomic_load(&backtrace_of) == NULL)
        span_log(9, "no call sites: libgcc_s.so.1 was not found");
}

bool stack_wanted(uint64_t duration_ns, bool failed)
{
    return config.stack_threshold_ns != UINT64_MAX && (failed || duration_ns >= config.stack_threshold_ns);
}

struct walk {
    uint64_t *addresses;
    size_t count, max;
    unsigned steps;
};

static int step(void *context, void *arg)
{
    struct walk *walk = arg;
    const uintptr_t ip = ip_of(context);
    if (walk->count == walk->max || ip == 0 || ++walk->steps > 2 * OTSHIM_STACK_MAX)
        return STEP_STOP;
    /* Only the innermost frames are ours to skip; a thread's outermost may be our pthread_create trampoline, which is left out as well. */
    if (ip < (uintptr_t)__ehdr_start || ip >= (uintptr_t)_end)
        walk->addresses[walk->count++] = ip;
    return STEP_ON;
}

size_t stack_capture(uint64_t *addresses, size_t max)
{
    const backtrace_function backtrace = atomic_load_explicit(&backtrace_of, memory_order_acquire);
    struct walk walk = {.addresses = addresses, .max = max < OTSHIM_STACK_MAX ? max : OTSHIM_STACK_MAX};
    if (backtrace == NULL)
        return 0;
    backtrace(step, &walk);
    return walk.count;
}
