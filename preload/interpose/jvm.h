/* jvm.h - finds a Java virtual machine in the process (what for: context/jvm/jvm.h). */
#ifndef OTSHIM_INTERPOSE_JVM_H
#define OTSHIM_INTERPOSE_JVM_H

#include <stdbool.h>

/* A thread is about to listen on fd, or has accepted from it. Not async-signal-safe; errno is not preserved. */
void jvm_look(int fd, bool listening);

#endif
