/* node.h - where the adapter of Node.js gets in (why and what: context/node/node.h). */
#ifndef OTSHIM_INTERPOSE_NODE_H
#define OTSHIM_INTERPOSE_NODE_H

/* Is this a thread of Node.js that has no adapter yet? Then it gets one. Called where a thread is about to listen, and where it was given a
 * descriptor by another process. Costs two loads where there is no Node. errno preserved, not async-signal-safe. */
void node_look(void);

#endif
