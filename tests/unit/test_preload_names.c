/* test_preload_names.c - which name was asked for to get this address, and whose span a look-up becomes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/config.h"
#include "conn/conn.h"
#include "conn/names.h"
#include "ring_consumer.h"
#include "span/span.h"
#include <arpa/inet.h>
#include <pthread.h>
#include <sys/wait.h>

static struct taker taker;
static struct consumer consumer;

struct seen {
    size_t n;
    struct otshim_span_rec rec;
    char question[OTSHIM_NAME_MAX];
    size_t question_len, answers;
};

static void sink(void *arg, const struct otshim_rec *head, const uint8_t *payload, size_t len)
{
    struct seen *seen = arg;
    if (head->type != OTSHIM_RECORD_SPAN)
        return;
    seen->n++;
    memcpy(&seen->rec, payload, sizeof(seen->rec));
    seen->question_len = seen->answers = 0;
    for (size_t at = sizeof(seen->rec); at + sizeof(struct otshim_attr) <= len;) {
        struct otshim_attr attr;
        memcpy(&attr, payload + at, sizeof(attr));
        const uint8_t *bytes = payload + at + sizeof(attr);
        if (attr.key == OTSHIM_ATTR_DNS_QUESTION)
            memcpy(seen->question, bytes, seen->question_len = attr.len);
        if (attr.key == OTSHIM_ATTR_DNS_ANSWER)
            seen->answers = attr.len / sizeof(struct otshim_addr);
        if (attr.key == 0)
            break;
        at += otshim_attr_size(attr.len);
    }
}

/* The spans written since the last time. */
static struct seen spans(void)
{
    struct seen seen = {0};
    if (consumer.shm == NULL) {
        struct otshim_shm *shm = taker_accept(&taker, 0);
        if (shm == NULL)
            return seen;
        consumer_open(&consumer, shm);
    }
    consumer_read(&consumer, SIZE_MAX, false, sink, &seen);
    return seen;
}

static struct sockaddr_storage address(const char *text)
{
    struct sockaddr_storage a = {0};
    struct sockaddr_in *v4 = (struct sockaddr_in *)&a;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&a;
    if (inet_pton(AF_INET, text, &v4->sin_addr) == 1)
        a.ss_family = AF_INET;
    else if (inet_pton(AF_INET6, text, &v6->sin6_addr) == 1)
        a.ss_family = AF_INET6;
    v4->sin_port = htons(80);
    return a;
}

static struct names_lookup lookup(const char *name, const char *const addresses[], size_t n)
{
    struct names_lookup l = {.start_ns = now_ns() - 1000, .end_ns = now_ns()};
    l.name_len = (uint16_t)strlen(name);
    memcpy(l.name, name, l.name_len);
    for (size_t i = 0; i < n; i++) {
        uint8_t bytes[16];
        if (inet_pton(AF_INET, addresses[i], bytes) == 1)
            names_answer(&l, AF_INET, bytes);
        else if (inet_pton(AF_INET6, addresses[i], bytes) == 1)
            names_answer(&l, AF_INET6, bytes);
    }
    return l;
}

static const struct ctx worker = {.trace_id = {1}, .span_id = {2}, .trace_flags = 1, .rule = OTSHIM_PARENT_THREAD, .has_parent = 1};

/* By a thread that works for a request: nothing waits. */
static void resolve(const char *name, const char *at)
{
    struct names_lookup l = lookup(name, &at, 1);
    names_done(&l, &worker, NULL);
}

static const char *find(const char *at)
{
    static _Thread_local char out[OTSHIM_NAME_MAX + 1];
    struct sockaddr_storage a = address(at);
    out[names_find((struct sockaddr *)&a, out, OTSHIM_NAME_MAX)] = '\0';
    return out;
}

struct job {
    const char *name, *at;
    char found[OTSHIM_NAME_MAX + 1];
};
static void *do_job(void *arg)
{
    struct job *job = arg;
    if (job->name != NULL)
        resolve(job->name, job->at);
    strcpy(job->found, find(job->at));
    return NULL;
}
static const char *in_thread(struct job *job)
{
    pthread_t thread;
    pthread_create(&thread, NULL, do_job, job);
    pthread_join(thread, NULL);
    return job->found;
}

static void test_find(void **state)
{
    (void)state;
    assert_string_equal(find("192.0.2.1"), "");
    resolve("one.example", "192.0.2.1");
    assert_string_equal(find("192.0.2.1"), "one.example");
    assert_string_equal(find("::ffff:192.0.2.1"), "one.example"); /* the same address */
    assert_string_equal(find("192.0.2.2"), "");
    assert_string_equal(in_thread(&(struct job){NULL, "192.0.2.1", ""}), "one.example"); /* only ever one name */
    resolve("six.example", "2001:db8::1");
    assert_string_equal(find("2001:db8::1"), "six.example");

    struct sockaddr unix_address = {.sa_family = AF_UNIX};
    char out[8];
    assert_int_equal(names_find(&unix_address, out, sizeof(out)), 0);
    assert_int_equal(names_find(NULL, out, sizeof(out)), 0);
    struct sockaddr_storage a = address("192.0.2.1");
    assert_int_equal(names_find((struct sockaddr *)&a, out, sizeof(out)), sizeof(out)); /* cut */
}

static void test_ambiguous(void **state)
{
    (void)state;
    resolve("a.example", "192.0.2.10");
    assert_string_equal(in_thread(&(struct job){"b.example", "192.0.2.10", ""}), "b.example");
    assert_string_equal(find("192.0.2.10"), "a.example");                      /* we asked before it became ambiguous */
    assert_string_equal(in_thread(&(struct job){NULL, "192.0.2.10", ""}), ""); /* never asked: could be either */
    resolve("c.example", "192.0.2.10");
    assert_string_equal(find("192.0.2.10"), "c.example"); /* the last one counts */
    assert_string_equal(in_thread(&(struct job){"a.example", "192.0.2.10", ""}), "a.example");
    assert_string_equal(find("192.0.2.10"), "c.example");
    /* Asked again by the same thread under two names: the last. */
    resolve("d.example", "192.0.2.11");
    resolve("e.example", "192.0.2.11");
    assert_string_equal(find("192.0.2.11"), "e.example");
}

static void test_many(void **state)
{
    (void)state;
    char name[32], at[32];
    for (unsigned i = 0; i < 20000; i++) {
        snprintf(name, sizeof(name), "h%u.example", i);
        snprintf(at, sizeof(at), "10.%u.%u.%u", i >> 16, i >> 8 & 255, i & 255);
        resolve(name, at);
        assert_string_equal(find(at), name); /* the newest is always there */
        if (i > 0) {
            snprintf(name, sizeof(name), "h%u.example", i / 2);
            snprintf(at, sizeof(at), "10.%u.%u.%u", (i / 2) >> 16, (i / 2) >> 8 & 255, (i / 2) & 255);
            const char *found = find(at);
            assert_true(found[0] == '\0' || strcmp(found, name) == 0); /* an older one may be forgotten, never wrong */
        }
        (void)spans();
    }
}

/* Eight threads, four addresses, names that say which thread asked for which address: a thread finds its own or none. */
static void *race(void *arg)
{
    const unsigned me = (unsigned)(uintptr_t)arg;
    char name[64], at[32];
    size_t wrong = 0;
    for (unsigned i = 0; i < 20000; i++) {
        snprintf(name, sizeof(name), "thread%u-address%u.example", me, i % 4);
        snprintf(at, sizeof(at), "198.51.100.%u", i % 4);
        struct names_lookup l = lookup(name, (const char *[]){at}, 1);
        names_done(&l, &worker, NULL);
        const char *found = find(at);
        wrong += found[0] != '\0' && strcmp(found, name) != 0;
    }
    return (void *)wrong;
}

static void test_race(void **state)
{
    (void)state;
    pthread_t threads[8];
    for (uintptr_t i = 0; i < 8; i++)
        pthread_create(&threads[i], NULL, race, (void *)i);
    for (int i = 0; i < 8; i++) {
        void *wrong;
        pthread_join(threads[i], &wrong);
        assert_int_equal((size_t)wrong, 0);
    }
    (void)spans();
}

static void test_span(void **state)
{
    (void)state;
    (void)spans();
    struct names_lookup l = lookup("span.example", (const char *[]){"192.0.2.20", "2001:db8::20", "192.0.2.20"}, 3);
    names_done(&l, &worker, NULL);
    struct seen seen = spans();
    assert_int_equal(seen.n, 1);
    assert_int_equal(seen.rec.kind, OTSHIM_SPAN_DNS);
    assert_memory_equal(seen.rec.trace_id, worker.trace_id, 16);
    assert_memory_equal(seen.rec.parent_id, worker.span_id, 8);
    assert_int_equal(seen.rec.parent_rule, OTSHIM_PARENT_THREAD);
    assert_int_equal(seen.rec.end, OTSHIM_END_COMPLETE);
    assert_int_equal(seen.answers, 2); /* each once */
    assert_int_equal(seen.question_len, 12);
    assert_memory_equal(seen.question, "span.example", 12);
    struct sockaddr_storage a = address("192.0.2.20");
    assert_false(names_adopt((struct sockaddr *)&a, &l)); /* it has its place already */

    l = lookup("none.example", NULL, 0);
    l.error = -2;
    names_done(&l, NULL, NULL); /* a failure waits for nobody */
    seen = spans();
    assert_int_equal(seen.n, 1);
    assert_int_equal(seen.rec.error, -2);
    assert_int_equal(seen.rec.end, OTSHIM_END_FAILED);
    assert_memory_equal(seen.rec.parent_id, ((uint8_t[8]){0}), 8);
}

static void test_adopt(void **state)
{
    (void)state;
    (void)spans();
    struct names_lookup first = lookup("first.example", (const char *[]){"192.0.2.30", "192.0.2.31"}, 2), out;
    struct names_lookup second = lookup("second.example", (const char *[]){"192.0.2.31"}, 1);
    second.end_ns = first.end_ns + 10;
    names_done(&first, NULL, NULL);
    names_done(&second, NULL, NULL);
    assert_int_equal(spans().n, 0);
    struct sockaddr_storage a = address("192.0.2.31"), b = address("192.0.2.99");
    assert_false(names_adopt((struct sockaddr *)&b, &out));
    assert_true(names_adopt((struct sockaddr *)&a, &out));
    assert_memory_equal(out.name, "second.example", 14); /* the most recent */
    assert_true(names_adopt((struct sockaddr *)&a, &out));
    assert_memory_equal(out.name, "first.example", 13);
    assert_false(names_adopt((struct sockaddr *)&a, &out)); /* each once */

    /* One that nobody took for long becomes a root. */
    first.start_ns -= 2 * NAMES_ADOPT_NS;
    first.end_ns -= 2 * NAMES_ADOPT_NS;
    names_done(&first, NULL, NULL);
    assert_false(names_adopt((struct sockaddr *)&a, &out));
    assert_int_equal(spans().n, 1);

    /* More than there is room for: the oldest become roots, none is lost. */
    for (unsigned i = 0; i < 100; i++) {
        struct names_lookup l = lookup("many.example", (const char *[]){"192.0.2.40"}, 1);
        names_done(&l, NULL, NULL);
    }
    size_t roots = spans().n;
    assert_int_equal(roots, 100 - 64);
    /* The child of a fork leaves them to its parent. */
    pid_t pid = fork();
    if (pid == 0) {
        a = address("192.0.2.40");
        names_after_fork();
        _exit(names_adopt((struct sockaddr *)&a, &out) ? 1 : 0);
    }
    int status;
    waitpid(pid, &status, 0);
    assert_int_equal(WEXITSTATUS(status), 0);
    names_flush();
    assert_int_equal(spans().n, 64);
    names_flush();
    assert_int_equal(spans().n, 0);
}

static void test_wiped_on_fork(void **state)
{
    (void)state;
    struct names_lookup l = lookup("fork.example", (const char *[]){"192.0.2.50"}, 1);
    struct sockaddr_storage a = address("192.0.2.50");
    names_done(&l, NULL, NULL);
    pid_t pid = fork();
    if (pid == 0) /* without names_after_fork */
        _exit(names_adopt((struct sockaddr *)&a, &l) ? 1 : 0);
    int status;
    waitpid(pid, &status, 0);
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_true(names_adopt((struct sockaddr *)&a, &l));
}

/* Look-ups and connects of many threads at once: each look-up is adopted or written, exactly once. */
static _Atomic size_t adopted, made;
static void *adopt_race(void *arg)
{
    const unsigned me = (unsigned)(uintptr_t)arg;
    for (unsigned i = 0; i < 5000; i++) {
        struct names_lookup l = lookup("race.example", (const char *[]){"192.0.2.60"}, 1);
        struct sockaddr_storage a = address("192.0.2.60");
        if (me % 2 == 0) {
            names_done(&l, NULL, NULL);
            made++;
        } else if (names_adopt((struct sockaddr *)&a, &l)) {
            adopted++;
        }
    }
    return NULL;
}

static void test_adopt_race(void **state)
{
    (void)state;
    (void)spans();
    pthread_t threads[4];
    for (uintptr_t i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, adopt_race, (void *)i);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    names_flush();
    assert_int_equal(spans().n + adopted, made);
}

static int set_up(void **state)
{
    (void)state;
    taker_make_place(&taker);
    taker_bind(&taker);
    config.ring_bytes = 64u << 20;
    config.socket_path_set = true;
    snprintf(config.socket_path, sizeof(config.socket_path), "%s", taker.path);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    taker_close(&taker);
    return rmdir(taker.dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_find),          cmocka_unit_test(test_ambiguous),  cmocka_unit_test(test_many),
        cmocka_unit_test(test_race),          cmocka_unit_test(test_span),       cmocka_unit_test(test_adopt),
        cmocka_unit_test(test_wiped_on_fork), cmocka_unit_test(test_adopt_race),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
