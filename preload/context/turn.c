/* turn.c - see turn.h.
 *
 * When can a timer be due? A loop sleeps until its next timer: timeout = deadline - clock, the clock having been read after the wait before this
 * one returned. We read it there, too, and by the coarse clock, which is never ahead of the one that the loop reads. So the deadline is not before
 * that time + timeout, but for what is lost in rounding to milliseconds, once by the clock and once by the timeout. A timeout of 0 says that something
 * runs at once.
 *
 * That is true of loops that compute their timeouts. One that waits for a fixed time and then looks at all its timers (a tick) would be
 * believed wrongly. It betrays itself by asking for the same time again although the wait before was cut short; one that computes betrays itself by asking for
 * ever different times. */
#include "context/turn.h"
#include <stdatomic.h>
#include <string.h>

#define MS 1000000ll
#define SLACK (2 * MS)
#define CUT_SHORT (8 * MS) /* the coarse clock moves in steps of 1 to 10 ms */
#define TRUSTED 4

enum turn_manner turn_manner;
OTSHIM_TLS struct turn turn_mine;
bool turn_threads, turn_timerfd;

static volatile bool unasked;             /* this process makes calls for no open request */
static uint64_t start_ns;                 /* of the process */
static _Atomic(const struct turn *) only; /* the one thread that has a loop */
static _Atomic bool several;              /* there are more, or tasks come from other threads */

void turn_init(const char *program)
{
    static const struct {
        const char *program;
        enum turn_manner manner;
    } manners[] = {{"nginx", TURN_EXEMPT}, {"angie", TURN_EXEMPT}, {"openresty", TURN_PROMPT}, {"haproxy", TURN_SHARES}};
    start_ns = now_ns();
    for (size_t i = 0; i < sizeof manners / sizeof *manners; i++)
        if (strcmp(program, manners[i].program) == 0)
            turn_manner = manners[i].manner;
}

void turn_library(enum turn_manner of)
{
    if (turn_manner == TURN_UNKNOWN)
        turn_manner = of;
}

static uint64_t coarse_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
    return (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
}

/* Does this loop compute its timeouts? */
static bool believed(int64_t timeout_ns)
{
    int64_t lasted = (int64_t)turn_mine.lasted_ns;
    if (turn_manner != TURN_UNKNOWN)
        return true;
    if (timeout_ns != turn_mine.timeout_ns) {
        if (turn_mine.trust < TRUSTED && turn_mine.timeout_ns > 0)
            turn_mine.trust++;
    } else if (lasted > CUT_SHORT && lasted < timeout_ns - CUT_SHORT) {
        turn_mine.trust = 0;
    }
    return turn_mine.trust >= TRUSTED;
}

static void one_more(void)
{
    const struct turn *none = NULL;
    if (OTSHIM_LIKELY(atomic_load_explicit(&only, memory_order_relaxed) == &turn_mine))
        return;
    if (!atomic_compare_exchange_strong_explicit(&only, &none, &turn_mine, memory_order_relaxed, memory_order_relaxed))
        atomic_store_explicit(&several, true, memory_order_relaxed);
}

void turn_begin(int events, int64_t timeout_ns)
{
    uint64_t now = coarse_ns();
    uint64_t since = turn_mine.returned_ns != 0 ? turn_mine.returned_ns : start_ns;
    uint64_t due = UINT64_MAX;
    if (timeout_ns == 0)
        due = 0;
    else if (timeout_ns > 0) {
        due = believed(timeout_ns) && timeout_ns > SLACK ? since + (uint64_t)(timeout_ns - SLACK) : 0;
        turn_mine.timeout_ns = timeout_ns;
    }
    turn_mine.lasted_ns = now - since;
    turn_mine.returned_ns = now;
    turn_mine.due_ns = due;
    turn_mine.about = turn_mine.answer = 0;
    turn_mine.doubt = turn_manner == TURN_PROMPT ? events < 1 : events != 1;
    one_more();
    turn_mine.number++;
    turn_mine.in = 1;
}

void turn_about(const uint8_t span_id[8])
{
    static const uint8_t nobody[8];
    const uint8_t *subject = span_id != NULL ? span_id : nobody;
    if (!turn_mine.in || turn_mine.doubt || turn_manner == TURN_PROMPT)
        return;
    if (turn_mine.about) {
        turn_mine.doubt = memcmp((const void *)turn_mine.subject, subject, sizeof turn_mine.subject) != 0;
        return;
    }
    memcpy((void *)turn_mine.subject, subject, sizeof turn_mine.subject);
    turn_mine.about = 1;
}

void turn_answer(const uint8_t span_id[8])
{
    if (!turn_mine.about)
        turn_mine.answer = 1;
    turn_about(span_id);
}

void turn_unasked(void)
{
    if (!unasked)
        unasked = true;
}

void turn_stranger(void)
{
    turn_mine.doubt = 1;
}

void turn_gives_work(const struct turn *loop)
{
    const struct turn *of = atomic_load_explicit(&only, memory_order_relaxed);
    if (of != NULL && of != &turn_mine && (loop == NULL || loop == of) && turn_manner != TURN_EVENTS)
        atomic_store_explicit(&several, true, memory_order_relaxed);
}

void turn_read_other(void)
{
    if (!turn_mine.in)
        return;
    turn_mine.doubt = 1;
    if (turn_threads && turn_manner != TURN_EVENTS && atomic_load_explicit(&only, memory_order_relaxed) == &turn_mine)
        atomic_store_explicit(&several, true, memory_order_relaxed);
}

bool turn_certain(void)
{
    if (OTSHIM_LIKELY(!turn_mine.in))
        return true;
    if (turn_mine.doubt || atomic_load_explicit(&several, memory_order_relaxed))
        return false;
    if ((turn_mine.answer && unasked) || (turn_timerfd && turn_manner == TURN_COMPUTES))
        return false;
    return turn_mine.due_ns == UINT64_MAX || (turn_mine.due_ns != 0 && now_ns() < turn_mine.due_ns);
}

/* The child has one thread. Whether its loop is one is seen at its next wait. */
void turn_after_fork(void)
{
    atomic_store_explicit(&only, NULL, memory_order_relaxed);
    atomic_store_explicit(&several, false, memory_order_relaxed);
    turn_threads = unasked = false;
}
