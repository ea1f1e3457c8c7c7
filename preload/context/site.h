/* site.h - the call site of an outbound call, in the terms of the language that made it: see struct ctx_runtime.
 *
 *     at its begin       site = site_keep();                           NULL: nobody knows one, or call sites are off
 *     at its end         if (site != NULL && stack_wanted(...))
 *                            words = site_words(site); ... site_words_free(words);
 *                        site_free(site);
 *
 * A call that blocks needs no begin: its frames are still there when it ends (site_words_here).
 *
 * All of it async-signal-safe, errno preserved, memory from pools. Words cost some hundred microseconds, so there are no more than a hundred of
 * them a second, and some at once: the calls beyond that have no call site. */
#ifndef OTSHIM_CONTEXT_SITE_H
#define OTSHIM_CONTEXT_SITE_H

#include "context/runtime.h"

struct site;

struct site *site_keep(void);
void site_free(struct site *site); /* NULL is nothing */
/* NULL: nothing is certain. */
struct runtime_site_words *site_words(const struct site *site);
struct runtime_site_words *site_words_here(void);
void site_words_free(struct runtime_site_words *words);

#endif
