/* call_site.h - what a span says about the place in the program that made its call: in the terms of the program's own language
 * (context/site.h) where a runtime knows them, else the native stack (span/span.h). One or the other, never both. */
#ifndef OTSHIM_CALL_SITE_H
#define OTSHIM_CALL_SITE_H

#include "context/site.h"
#include "span/span.h"

struct call_site {
    struct runtime_site_words *words; /* NULL: .stack */
    size_t frames;
    uint64_t stack[OTSHIM_STACK_MAX]; /* the first .frames of them; the last, because not initialised */
};

static inline void call_site_none(struct call_site *site)
{
    site->words = NULL;
    site->frames = 0;
}
/* That of the call which this thread is in. */
void call_site_here(struct call_site *site);
/* That which was kept at the begin of a call, if this thread has not been told of a better one. kept may be NULL. */
void call_site_kept(struct call_site *site, const struct site *kept);
void call_site_done(struct call_site *site);

/* As attributes of its span, which point into it. NULL is none. How many there are. */
#define CALL_SITE_ATTRS 4
size_t call_site_attrs(const struct call_site *site, struct span_attr attrs[CALL_SITE_ATTRS]);

#endif
