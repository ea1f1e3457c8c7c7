/* hello.h - finding the exporter and introducing the process to it (include/otshim/hello.h).
 *
 * Nothing of ours stays open: the socket lives for the few system calls between hello_connect() and hello_send(). All of it by raw
 * system calls, errno untouched. One thread at a time (the caller holds identity.handing_over): the message is put together in static
 * memory, because the thread that happens to be here may have a stack of 16 KiB. */
#ifndef OTSHIM_SPAN_HELLO_H
#define OTSHIM_SPAN_HELLO_H

#include <stdint.h>

/* When the library was initialised, CLOCK_MONOTONIC; set once by span_init(). */
extern uint64_t hello_start_ns;

/* A connected descriptor, or -errno. */
int hello_connect(void);
/* Sends hello and memfd and closes both, whatever happens. 0 or -errno. */
int hello_send(int fd, int memfd, uint32_t attach_count);
/* As close to what dup would give but out of the program's way: descriptors below 32 are numbers that programs count on
 * (close(0), open() and expect 0). Returns the descriptor to use instead of fd. */
int hello_out_of_the_way(int fd);

#endif
