/* threads.cc - a thread starts with its creator's request, and in all else as without us. */
#include "client.h"
#include <cxxabi.h>
#include <execinfo.h>
#include <pthread.h>
#include <stdexcept>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;

struct Trace {
    const char *name;
    ~Trace()
    {
        printf("  destructor of %s\n", name);
    }
};

static void *returns(void *arg)
{
    printf("  in thread, argument %s\n", (const char *)arg);
    return (void *)0x1234;
}

static void deep_exit()
{
    Trace t{"deep"};
    pthread_exit((void *)0x77);
}

static void *exits(void *)
{
    Trace t{"exits"};
    deep_exit();
    return nullptr;
}

static void *waits_for_cancel(void *)
{
    Trace t{"cancelled"};
    for (;;)
        pause();
    return nullptr;
}

static void *cancelled_in_cond(void *)
{
    Trace t{"cancelled in cond"};
    pthread_mutex_lock(&mutex);
    pthread_cleanup_push(
        [](void *m) {
            pthread_mutex_unlock((pthread_mutex_t *)m);
            puts("  cleanup");
        },
        &mutex);
    for (;;)
        pthread_cond_wait(&cond, &mutex);
    pthread_cleanup_pop(0);
    return nullptr;
}

static void *throws_and_catches(void *)
{
    try {
        Trace t{"thrown over"};
        throw std::runtime_error("inside");
    } catch (const std::exception &e) {
        printf("  caught %s\n", e.what());
    }
    return (void *)1;
}

static void *frames(void *)
{
    void *a[32];
    printf("  frames above the start routine: %d\n", backtrace(a, 32));
    return nullptr;
}

static void run(const char *name, void *(*start)(void *), void *arg, bool cancel = false)
{
    pthread_t t;
    void *result = nullptr;
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, 256 * 1024);
    printf("%s\n", name);
    int error = pthread_create(&t, &attr, start, arg);
    if (cancel) {
        usleep(20000);
        pthread_cancel(t);
    }
    int joined = pthread_join(t, &result);
    printf("  create %d join %d result %p%s\n", error, joined, result, result == PTHREAD_CANCELED ? " cancelled" : "");
}

static void all(void)
{
    run("return", returns, (void *)"hello");
    run("pthread_exit", exits, nullptr);
    run("cancel", waits_for_cancel, nullptr, true);
    run("cancel in pthread_cond_wait", cancelled_in_cond, nullptr, true);
    run("exception", throws_and_catches, nullptr);
    run("backtrace", frames, nullptr);
    pthread_t t;
    pthread_attr_t bad;
    pthread_attr_init(&bad);
    pthread_attr_setstacksize(&bad, (size_t)1 << 46);
    printf("no memory for the stack: %d\n", pthread_create(&t, &bad, returns, nullptr));
    for (int i = 0; i < 200; i++) { /* more than the pool of argument blocks, and failures give theirs back */
        pthread_create(&t, &bad, returns, nullptr);
        pthread_create(
            &t, nullptr, [](void *) -> void * { return nullptr; }, nullptr);
        pthread_join(t, nullptr);
    }
}

int main()
{
    setbuf(stdout, nullptr);
    puts("== without a request");
    all();
    struct inbound in = inbound_begin();
    puts("== in a request");
    all();
    inbound_end(&in);
    return 0;
}
