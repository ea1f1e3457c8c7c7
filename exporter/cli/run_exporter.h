/* run_exporter.h - the exporter that `otshim run` uses: the one that runs, else one of its own for as long as the program runs. */
#ifndef OTSHIM_EXPORTER_RUN_EXPORTER_H
#define OTSHIM_EXPORTER_RUN_EXPORTER_H

#include "cli/client.h"
#include <signal.h>
#include <sys/types.h>

struct run_exporter {
    pid_t pid; /* of the one we started; 0: it was there before */
    bool can_ask;
    char socket[512];
    struct client client; /* where to ask */
};

/* 0, or the exit status: everything has been said on stderr. mask: the signal mask for the child. */
int run_exporter_find(struct run_exporter *exporter, const sigset_t *mask);
/* Stops the one we started and waits until it has sent what it has; SIGINT or SIGTERM (blocked, waited for here) cut that short. */
void run_exporter_stop(struct run_exporter *exporter);

#endif
