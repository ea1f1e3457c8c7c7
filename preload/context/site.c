/* site.c - memory for call sites, and the adapter to ask: see site.h. */
#include "context/site.h"
#include "base/config.h"
#include "base/pool.h"
#include <errno.h>
#include <string.h>

#define SITES 65536u /* as many as exchanges: each has one at most */
#define WORDS 64u    /* put into words at the same moment */

/* Words take some hundred microseconds, of an event loop's time perhaps, and a program whose every call fails has many to say: so many a second,
 * the first of them at once. */
#define WORDS_A_SECOND 100u
#define WORDS_AT_ONCE 50u

struct site {
    const struct ctx_runtime *runtime;
    uint64_t kept[RUNTIME_SITE_BYTES / 8];
};

static struct pool sites = POOL_INIT(sizeof(struct site), 16, SITES);
static struct pool words_pool = POOL_INIT(sizeof(struct runtime_site_words), 2, WORDS);

static bool keep(struct site *site)
{
    for (const struct ctx_runtime *runtime = ctx_runtimes; runtime->current != NULL; runtime++) {
        if (runtime->site_keep != NULL && runtime->site_keep(site->kept)) {
            site->runtime = runtime;
            return true;
        }
    }
    return false;
}

_Atomic bool runtime_has_sites;

/* Most processes have no such runtime: for them this is two loads. */
static bool somebody_knows(void)
{
    return atomic_load_explicit(&runtime_has_sites, memory_order_acquire) && config.stack_threshold_ns != UINT64_MAX;
}

struct site *site_keep(void)
{
    if (OTSHIM_LIKELY(!somebody_knows()))
        return NULL;
    struct site *site = pool_get(&sites);
    if (site == NULL)
        return NULL;
    int error = errno;
    if (!keep(site)) {
        pool_put(&sites, site);
        site = NULL;
    }
    errno = error;
    return site;
}

void site_free(struct site *site)
{
    if (site != NULL)
        pool_put(&sites, site);
}

/* A bucket that leaks: the time at which it is empty again, which each call puts further off. */
static bool may_say(void)
{
    static _Atomic uint64_t empty_at;
    const uint64_t each = 1000000000u / WORDS_A_SECOND, now = now_ns();
    uint64_t at = atomic_load_explicit(&empty_at, memory_order_relaxed);
    do {
        if (at > now + (WORDS_AT_ONCE - 1) * each)
            return false;
    } while (!atomic_compare_exchange_weak_explicit(&empty_at, &at, (at > now ? at : now) + each, memory_order_relaxed,
                                                    memory_order_relaxed));
    return true;
}

struct runtime_site_words *site_words(const struct site *site)
{
    struct runtime_site_words *words = may_say() ? pool_get(&words_pool) : NULL;
    if (words == NULL)
        return NULL;
    int error = errno;
    memset(words, 0, offsetof(struct runtime_site_words, function));
    if (!site->runtime->site_words(site->kept, words)) {
        pool_put(&words_pool, words);
        words = NULL;
    }
    errno = error;
    return words;
}

struct runtime_site_words *site_words_here(void)
{
    struct site *site = site_keep();
    struct runtime_site_words *words = site != NULL ? site_words(site) : NULL;
    site_free(site);
    return words;
}

void site_words_free(struct runtime_site_words *words)
{
    if (words != NULL)
        pool_put(&words_pool, words);
}
