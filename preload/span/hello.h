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
/* The same descriptor under a number that is out of the program's way: those below 32 are numbers that programs count on (close(0), then
 * open() and expect 0). Returns the descriptor to use instead of fd, or fd itself if it is negative; close it by hello_close. */
int hello_out_of_the_way(int fd);
void hello_close(int fd);
/* In a child that was forked while another thread was in here: closes its copies. */
void hello_after_fork(void);

#endif
