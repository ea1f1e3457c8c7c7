/* exec.h - the environment that a new program gets. */
#ifndef OTSHIM_EXEC_H
#define OTSHIM_EXEC_H

/* In the parent, after its vfork child is gone: gives back what the child mapped for an environment that did not fit on the stack. One load
 * when there is nothing. */
void exec_unmap_vfork(void);

#endif
