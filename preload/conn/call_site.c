/* call_site.c - see call_site.h. */
#include "conn/call_site.h"

void call_site_here(struct call_site *site)
{
    site->words = site_words_here();
    site->frames = site->words == NULL ? stack_capture(site->stack, OTSHIM_STACK_MAX) : 0;
}

void call_site_kept(struct call_site *site, const struct site *kept)
{
    if (kept != NULL && site->words == NULL && site->frames == 0)
        site->words = site_words(kept);
}

void call_site_done(struct call_site *site)
{
    site_words_free(site->words);
    call_site_none(site);
}

static size_t add(struct span_attr *attrs, size_t count, uint16_t key, size_t len, const void *bytes)
{
    if (len > 0)
        attrs[count++] = (struct span_attr){key, (uint16_t)len, bytes};
    return count;
}

size_t call_site_attrs(const struct call_site *site, struct span_attr attrs[CALL_SITE_ATTRS])
{
    if (site == NULL)
        return 0;
    const struct runtime_site_words *words = site->words;
    if (words == NULL)
        return add(attrs, 0, OTSHIM_ATTR_STACK, site->frames * sizeof *site->stack, site->stack);
    size_t count = add(attrs, 0, OTSHIM_ATTR_CODE_FUNCTION, words->function_len, words->function);
    count = add(attrs, count, OTSHIM_ATTR_CODE_FILE, words->file_len, words->file);
    count = add(attrs, count, OTSHIM_ATTR_CODE_LINE, words->line != 0 ? sizeof words->line : 0, &words->line);
    return add(attrs, count, OTSHIM_ATTR_CODE_STACKTRACE, words->stack_len, words->stack);
}
