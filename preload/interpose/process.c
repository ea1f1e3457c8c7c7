/* process.c - fork, vfork, and syscall(): what the other wrappers would not see.
 *
 * vfork. The child runs on its parent's memory, stack and thread-local state until it execs or exits, and closes and renumbers
 * descriptors meanwhile: its own, not the parent's. So nothing of ours may be written in it: otshim_quiet is raised by QUIET_VFORK
 * before the call and put back in the parent, which only runs again when the child is gone. That makes three demands: the parent must come
 * back to us after the call; the child will have overwritten everything below the caller's frame, our return address included; and the
 * value to put back must not be lost if the child itself vforks and is killed in there. All are met by making the system call
 * here, with return address and old value in registers (the kernel keeps the parent's), as libc's own vfork does. Hence assembly. It
 * differs from a libc before 2.25 in one thing: getpid() in the child answers from a cache there, and that of the parent is not cleared.
 *
 * With a shadow stack (CET) the child must not return through it, since the parent still will: it jumps, as in glibc.
 *
 * syscall(). Programs use it for what libc has no name for, and runtimes for futexes. It stays what it is, a jump, but for the few numbers
 * that matter to us; before those, process_before_syscall has a look. */
#include "conn/conn.h"
#include "context/context.h"
#include "interpose/exec.h"
#include "interpose/quiet.h"
#include "interpose/real.h"
#include "interpose/wrap.h"
#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>

#ifndef SYS_close_range
#define SYS_close_range 436
#endif
#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC (1u << 2)
#endif

/* Reached from the assembly below and from nowhere else. */
#define FROM_ASSEMBLY __attribute__((visibility("hidden"), used))

/* ---- fork --------------------------------------------------------------------------------------------------------------------------- */

/* pthread_atfork (init.c) does the work, for every fork of libc. Left for here: a vfork child that forks; its child is on its own. */
WRAP(pid_t, fork, (void))
{
    pid_t pid = REAL(fork)();
    if (pid == 0)
        otshim_quiet &= QUIET_LIBC_MASK;
    return pid;
}

/* ---- vfork -------------------------------------------------------------------------------------------------------------------------- */

/* The rest of the parent's way, where C is possible again. Called (jumped to) with what the system call returned. */
FROM_ASSEMBLY long process_vfork_parent(long result);
long process_vfork_parent(long result)
{
    exec_unmap_vfork();
    if ((unsigned long)result < (unsigned long)-4095L)
        return result;
    errno = (int)-result;
    return -1;
}

_Static_assert(QUIET_VFORK == 0x10000, "known to the assembly");

#if defined(__x86_64__)
_Static_assert(SYS_vfork == 58 && SYS_close == 3 && SYS_futex == 202, "known to the assembly");
__asm__(".pushsection .text\n"
        ".globl vfork\n"
        ".type vfork, @function\n"
        ".p2align 4\n"
        "vfork:\n"
        "    .cfi_startproc\n"
        "    endbr64\n"
        "    popq %rdi\n" /* the return address: its place on the stack is the child's to overwrite */
        "    .cfi_adjust_cfa_offset -8\n"
        "    .cfi_register %rip, %rdi\n"
        "    movq otshim_quiet@gottpoff(%rip), %rdx\n"
        "    movl %fs:(%rdx), %esi\n" /* what to put back */
        "    leal 0x10000(%rsi), %eax\n"
        "    movl %eax, %fs:(%rdx)\n"
        "    movl $58, %eax\n"
        "    syscall\n" /* changes rax, rcx, r11 */
        "    pushq %rdi\n"
        "    .cfi_adjust_cfa_offset 8\n"
        "    .cfi_rel_offset %rip, 0\n"
        "    testq %rax, %rax\n"
        "    jz 1f\n"
        "    movl %esi, %fs:(%rdx)\n"
        "    movq %rax, %rdi\n"
        "    jmp process_vfork_parent\n"
        "1:  xorl %ecx, %ecx\n"
        "    rdsspq %rcx\n" /* nothing happens on a processor, or in a process, without shadow stack */
        "    testq %rcx, %rcx\n"
        "    jnz 2f\n"
        "    ret\n"
        "2:  popq %rdi\n"
        "    .cfi_adjust_cfa_offset -8\n"
        "    .cfi_register %rip, %rdi\n"
        "    jmp *%rdi\n"
        "    .cfi_endproc\n"
        ".size vfork, .-vfork\n"
        ".popsection\n");
#elif defined(__aarch64__)
_Static_assert(SYS_clone == 220 && SYS_close == 57 && SYS_futex == 98, "known to the assembly");
__asm__(".pushsection .text\n"
        ".globl vfork\n"
        ".type vfork, %function\n"
        ".p2align 4\n"
        "vfork:\n"
        "    .cfi_startproc\n"
        "    hint #34\n" /* bti c */
        "    adrp x9, :gottprel:otshim_quiet\n"
        "    ldr x9, [x9, #:gottprel_lo12:otshim_quiet]\n"
        "    mrs x10, tpidr_el0\n"
        "    add x9, x9, x10\n"
        "    ldr w10, [x9]\n" /* what to put back */
        "    add w11, w10, #16, lsl #12\n"
        "    str w11, [x9]\n"
        "    mov x0, #0x4111\n" /* CLONE_VM | CLONE_VFORK | SIGCHLD */
        "    mov x1, #0\n"      /* on this stack */
        "    mov x2, #0\n"
        "    mov x3, #0\n"
        "    mov x4, #0\n"
        "    mov x8, #220\n"
        "    svc #0\n" /* changes x0; the return address is in x30 all the time */
        "    cbz x0, 1f\n"
        "    str w10, [x9]\n"
        "    b process_vfork_parent\n"
        "1:  ret\n"
        "    .cfi_endproc\n"
        ".size vfork, .-vfork\n"
        ".popsection\n");
#endif

/* ---- syscall ------------------------------------------------------------------------------------------------------------------------ */

/* Where the assembly jumps to; resolved at the first call. */
extern long (*process_real_syscall)(long, ...) __attribute__((visibility("hidden")));
long (*process_real_syscall)(long, ...);

FROM_ASSEMBLY void process_resolve_syscall(void);
void process_resolve_syscall(void)
{
    if (real.syscall == NULL)
        real_resolve();
    __atomic_store_n(&process_real_syscall, real.syscall, __ATOMIC_RELEASE);
}

/* May change nothing that the program can see, errno included. */
FROM_ASSEMBLY void process_before_syscall(long number, long a, long b, long c);
void process_before_syscall(long number, long a, long b, long c)
{
    if (!QUIET_WATCHING())
        return;
    int saved = errno;
    switch (number) {
    case SYS_futex: {
        int op = (int)b & FUTEX_CMD_MASK;
        if (op == FUTEX_WAIT || op == FUTEX_WAIT_BITSET)
            ctx_waited();
        break;
    }
    case SYS_close: conn_closing((int)a); break;
    case SYS_close_range:
        if (((unsigned)c & CLOSE_RANGE_CLOEXEC) == 0 && (unsigned)a <= (unsigned)b)
            conn_closing_range((unsigned)a, (unsigned)b);
        break;
    default: break;
    }
    errno = saved;
}

#if defined(__x86_64__)
__asm__(".pushsection .text\n"
        ".globl syscall\n"
        ".type syscall, @function\n"
        ".p2align 4\n"
        "syscall:\n"
        "    .cfi_startproc\n"
        "    endbr64\n"
        "    cmpq $202, %rdi\n" /* futex */
        "    je 2f\n"
        "    cmpq $3, %rdi\n" /* close */
        "    je 2f\n"
        "    cmpq $436, %rdi\n" /* close_range */
        "    je 2f\n"
        "1:  movq process_real_syscall(%rip), %rax\n"
        "    testq %rax, %rax\n"
        "    jz 3f\n"
        "    jmp *%rax\n" /* the seventh argument lies where libc's syscall expects it */
        "2:  leaq process_before_syscall(%rip), %rax\n"
        "    jmp 4f\n"
        "3:  leaq process_resolve_syscall(%rip), %rax\n"
        "4:  pushq %rdi\n"
        "    .cfi_adjust_cfa_offset 8\n"
        "    pushq %rsi\n"
        "    .cfi_adjust_cfa_offset 8\n"
        "    pushq %rdx\n"
        "    .cfi_adjust_cfa_offset 8\n"
        "    pushq %rcx\n"
        "    .cfi_adjust_cfa_offset 8\n"
        "    pushq %r8\n"
        "    .cfi_adjust_cfa_offset 8\n"
        "    pushq %r9\n"
        "    .cfi_adjust_cfa_offset 8\n"
        "    subq $8, %rsp\n" /* 8 (return address) + 6 * 8 + 8: aligned to 16 */
        "    .cfi_adjust_cfa_offset 8\n"
        "    call *%rax\n"
        "    addq $8, %rsp\n"
        "    .cfi_adjust_cfa_offset -8\n"
        "    popq %r9\n"
        "    .cfi_adjust_cfa_offset -8\n"
        "    popq %r8\n"
        "    .cfi_adjust_cfa_offset -8\n"
        "    popq %rcx\n"
        "    .cfi_adjust_cfa_offset -8\n"
        "    popq %rdx\n"
        "    .cfi_adjust_cfa_offset -8\n"
        "    popq %rsi\n"
        "    .cfi_adjust_cfa_offset -8\n"
        "    popq %rdi\n"
        "    .cfi_adjust_cfa_offset -8\n"
        "    jmp 1b\n"
        "    .cfi_endproc\n"
        ".size syscall, .-syscall\n"
        ".popsection\n");
#elif defined(__aarch64__)
__asm__(".pushsection .text\n"
        ".globl syscall\n"
        ".type syscall, %function\n"
        ".p2align 4\n"
        "syscall:\n"
        "    .cfi_startproc\n"
        "    hint #34\n"    /* bti c */
        "    cmp x0, #98\n" /* futex */
        "    b.eq 2f\n"
        "    cmp x0, #57\n" /* close */
        "    b.eq 2f\n"
        "    cmp x0, #436\n" /* close_range */
        "    b.eq 2f\n"
        "1:  adrp x16, process_real_syscall\n"
        "    ldr x16, [x16, #:lo12:process_real_syscall]\n"
        "    cbz x16, 3f\n"
        "    br x16\n"
        "2:  adrp x16, process_before_syscall\n"
        "    add x16, x16, #:lo12:process_before_syscall\n"
        "    b 4f\n"
        "3:  adrp x16, process_resolve_syscall\n"
        "    add x16, x16, #:lo12:process_resolve_syscall\n"
        "4:  stp x29, x30, [sp, #-80]!\n"
        "    .cfi_adjust_cfa_offset 80\n"
        "    .cfi_rel_offset x29, 0\n"
        "    .cfi_rel_offset x30, 8\n"
        "    mov x29, sp\n"
        "    stp x0, x1, [sp, #16]\n"
        "    stp x2, x3, [sp, #32]\n"
        "    stp x4, x5, [sp, #48]\n"
        "    stp x6, x7, [sp, #64]\n"
        "    blr x16\n"
        "    ldp x0, x1, [sp, #16]\n"
        "    ldp x2, x3, [sp, #32]\n"
        "    ldp x4, x5, [sp, #48]\n"
        "    ldp x6, x7, [sp, #64]\n"
        "    ldp x29, x30, [sp], #80\n"
        "    .cfi_adjust_cfa_offset -80\n"
        "    .cfi_restore x29\n"
        "    .cfi_restore x30\n"
        "    b 1b\n"
        "    .cfi_endproc\n"
        ".size syscall, .-syscall\n"
        ".popsection\n");
#endif
