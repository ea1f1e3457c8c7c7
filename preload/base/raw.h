/* raw.h - system calls of our own, by the instruction itself.
 *
 * Not by libc: its names are the ones that we (or another preloaded library) stand in front of, its wrappers write errno, and some of
 * them are cancellation points. A raw call does none of that: it returns the result or -errno, may be made anywhere - in a signal
 * handler, after vfork, before our constructor - and leaves errno alone.
 *
 * x86-64: number in rax, arguments in rdi rsi rdx r10 r8 r9, rcx and r11 are clobbered (System V ABI supplement A.2.1).
 * aarch64: number in x8, arguments in x0..x5, result in x0. */
#ifndef OTSHIM_RAW_H
#define OTSHIM_RAW_H

#include <sys/syscall.h>

/* -errno of the kernel is -4095..-1; any other value is a result (an address above 2^63 included). */
static inline int raw_failed(long result)
{
    return (unsigned long)result >= (unsigned long)-4095L;
}

#if defined(__x86_64__)

static inline long raw_syscall6(long number, long a, long b, long c, long d, long e, long f)
{
    long result;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}

static inline long raw_syscall3(long number, long a, long b, long c)
{
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
    return result;
}

#elif defined(__aarch64__)

static inline long raw_syscall6(long number, long a, long b, long c, long d, long e, long f)
{
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;
    __asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory", "cc");
    return x0;
}

static inline long raw_syscall3(long number, long a, long b, long c)
{
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    __asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2) : "memory", "cc");
    return x0;
}

#else
#error "otshim knows the system call convention of x86-64 and aarch64 only"
#endif

static inline long raw_syscall0(long number)
{
    return raw_syscall3(number, 0, 0, 0);
}
static inline long raw_syscall1(long number, long a)
{
    return raw_syscall3(number, a, 0, 0);
}
static inline long raw_syscall2(long number, long a, long b)
{
    return raw_syscall3(number, a, b, 0);
}
static inline long raw_syscall4(long number, long a, long b, long c, long d)
{
    return raw_syscall6(number, a, b, c, d, 0, 0);
}
static inline long raw_syscall5(long number, long a, long b, long c, long d, long e)
{
    return raw_syscall6(number, a, b, c, d, e, 0);
}

#endif
