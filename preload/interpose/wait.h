/* wait.h - for socket.c: what the waits of this program are made by. */
#ifndef OTSHIM_WAIT_H
#define OTSHIM_WAIT_H

/* Once, where a server shows itself: listen() or the first accept(). Not async-signal-safe, as lookup.h. */
void wait_look(void);

#endif
