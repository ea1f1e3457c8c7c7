/* ruby.h - the methods of Ruby's servers that are watched. */
#ifndef OTSHIM_INTERPOSE_RUBY_H
#define OTSHIM_INTERPOSE_RUBY_H

#include <stdbool.h>

/* Looks whether this is Ruby with a server that we know, and watches its methods then. Called before a server listens (listening) or accepts: there it costs
 * one load in a process that had no Ruby when it began to listen. errno preserved, not async-signal-safe. It may be left by Ruby's longjmp, as
 * any call of Ruby's may that comes upon an interrupt (Thread#raise, a trap): nothing of ours may be held. */
void ruby_look(bool listening);

#endif
