/* ruby.c - where Ruby's servers are seen at work (why: context/ruby.h).
 *
 * Nothing is added to the program: no environment variable, no required file, no changed method. Ruby calls listen() and accept4() with its
 * global lock held, from a method in C, which is where a C extension may call Ruby: there two TracePoints a server are enabled, each for one
 * method (TracePoint#enable(target:), since Ruby 2.6). Ruby marks these methods' own instructions; all others stay as they are. The program
 * could find the TracePoints by ObjectSpace, and nowhere else: neither in ancestors, nor in a backtrace, nor in $LOADED_FEATURES.
 *
 *     Puma::Client#finish, call                 on the worker's thread, self is the connection that it takes in hand
 *     Puma::Server#process_client, return       (also by an exception) it has let go of it
 *     Unicorn::HttpServer#process_client, WEBrick::HTTPServer#run
 *                                               call and return: what the thread reads in between is what it serves
 *
 * Since Puma 5.1 each connection's first request on a worker comes by Client#finish; older ones stay unknown.
 *
 * With RUBY_MN_THREADS (Ruby 3.3) a thread may change its native thread in the middle of a handler: nothing is watched there, all calls are
 * roots, and the log says so. */
#include "interpose/ruby.h"
#include "base/base.h"
#include "conn/conn.h"
#include "context/ruby.h"
#include "interpose/lookup.h"
#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

typedef unsigned long VALUE;
typedef unsigned long ID;
#define RUBY_FALSE 0ul
#define RUBY_EVENT_CALL 0x0008u
#define RUBY_EVENT_RETURN 0x0010u
#define RUBY_PASS_KEYWORDS 1

/* Functions only: the same from 2.7 on. */
#define RUBY_API(X)                                                                                                                \
    X(int, HasLock, "ruby_thread_has_gvl_p", (void))                                                                               \
    X(VALUE, Protect, "rb_protect", (VALUE(*function)(VALUE), VALUE argument, int *state))                                         \
    X(void, JumpTag, "rb_jump_tag", (int state))                                                                                   \
    X(VALUE, Error, "rb_errinfo", (void))                                                                                          \
    X(void, SetError, "rb_set_errinfo", (VALUE error))                                                                             \
    X(ID, Intern, "rb_intern", (const char *name))                                                                                 \
    X(VALUE, Symbol, "rb_id2sym", (ID id))                                                                                         \
    X(VALUE, Class, "rb_path2class", (const char *path))                                                                           \
    X(VALUE, IsA, "rb_obj_is_kind_of", (VALUE object, VALUE class))                                                                \
    X(int, ConstDefined, "rb_const_defined_at", (VALUE module, ID name))                                                           \
    X(VALUE, Autoload, "rb_autoload_p", (VALUE module, ID name))                                                                   \
    X(VALUE, Const, "rb_const_get_at", (VALUE module, ID name))                                                                    \
    X(VALUE, Attribute, "rb_attr_get", (VALUE object, ID name))                                                                    \
    X(char *, String, "rb_string_value_cstr", (volatile VALUE * string))                                                           \
    X(VALUE, Call, "rb_funcallv", (VALUE receiver, ID method, int argc, const VALUE *argv))                                        \
    X(VALUE, CallKeywords, "rb_funcallv_kw", (VALUE receiver, ID method, int argc, const VALUE *argv, int keywords))               \
    X(VALUE, HashNew, "rb_hash_new", (void))                                                                                       \
    X(VALUE, HashSet, "rb_hash_aset", (VALUE hash, VALUE key, VALUE value))                                                        \
    X(void, Keep, "rb_gc_register_mark_object", (VALUE object))                                                                    \
    X(VALUE, TraceNew, "rb_tracepoint_new", (VALUE target_thread, uint32_t events, void (*function)(VALUE, void *), void *data))   \
    X(VALUE, TraceDisable, "rb_tracepoint_disable", (VALUE trace))                                                                 \
    X(void *, TraceArgument, "rb_tracearg_from_tracepoint", (VALUE trace))                                                         \
    X(VALUE, TraceSelf, "rb_tracearg_self", (void *argument))
#define RUBY_API_OPTIONAL(X) X(int, Descriptor, "rb_io_descriptor", (VALUE io)) /* 3.1 */

static struct {
#define X(ret, name, symbol, params) ret(*name) params;
    RUBY_API(X) RUBY_API_OPTIONAL(X)
#undef X
} ruby;

static VALUE nil;
static ID to_io, fileno_id;

/* ---- what the threads do ---------------------------------------------------------------------------------------------------------------- */

/* Raises where there is no descriptor (any more). A small Integer is shifted by one. */
static VALUE descriptor_of(VALUE client)
{
    VALUE io = ruby.Attribute(client, to_io);
    return ruby.Descriptor != NULL ? (VALUE)ruby.Descriptor(io) : ruby.Call(io, fileno_id, 0, NULL) >> 1;
}

static void takes_in_hand(VALUE trace, void *data)
{
    (void)data;
    int error = errno, state = 0;
    struct runtime_ref conn = {NULL, 0};
    int fd = (int)ruby.Protect(descriptor_of, ruby.TraceSelf(ruby.TraceArgument(trace)), &state);
    if (state == 0)
        conn_runtime(fd, &conn);
    else
        ruby.SetError(nil); /* what it was before, in here */
    ruby_takes(&conn);
    errno = error;
}

static void begins(VALUE trace, void *data)
{
    (void)trace, (void)data;
    ruby_serves();
}

static void lets_go(VALUE trace, void *data)
{
    (void)trace, (void)data;
    ruby_rests();
}

#define POINTS 2

static struct server {
    const char *module;
    const char *version[2]; /* the constant below the module, or below a module in it */
    const char *unknown;    /* what to say where the methods are not these; NULL: nothing, it is right without */
    struct {
        const char *class, *method;
        uint32_t event;
        void (*function)(VALUE trace, void *data);
    } point[POINTS]; /* the end before the begin, which must not be alone */
    /* With Ruby's lock. */
    bool settled;
    VALUE trace[POINTS];
    char version_text[40];
} servers[] = {
    {.module = "Puma",
     .version = {"Const", "PUMA_VERSION"},
     .unknown = "this version is not known",
     .point = {{"Server", "process_client", RUBY_EVENT_RETURN, lets_go}, {"Client", "finish", RUBY_EVENT_CALL, takes_in_hand}}},
    {.module = "Unicorn",
     .version = {"Const", "UNICORN_VERSION"},
     .point = {{"HttpServer", "process_client", RUBY_EVENT_RETURN, lets_go},
               {"HttpServer", "process_client", RUBY_EVENT_CALL, begins}}},
    {.module = "WEBrick",
     .version = {"VERSION"},
     .point = {{"HTTPServer", "run", RUBY_EVENT_RETURN, lets_go}, {"HTTPServer", "run", RUBY_EVENT_CALL, begins}}},
};

/* ---- watching the methods ------------------------------------------------------------------------------------------------------------------ */

/* The constant's value; RUBY_FALSE: not there, or not loaded yet. */
static VALUE loaded(VALUE module, const char *name)
{
    ID id = ruby.Intern(name);
    return ruby.ConstDefined(module, id) && ruby.Autoload(module, id) == nil ? ruby.Const(module, id) : RUBY_FALSE;
}

static VALUE loaded_module(VALUE module, const char *name)
{
    VALUE value = loaded(module, name);
    return value != RUBY_FALSE && ruby.IsA(value, ruby.Class("Module")) != RUBY_FALSE ? value : RUBY_FALSE;
}

static void learn_version(struct server *server, VALUE module)
{
    if (server->version[1] != NULL)
        module = loaded_module(module, server->version[0]);
    VALUE version = module != RUBY_FALSE ? loaded(module, server->version[server->version[1] != NULL]) : RUBY_FALSE;
    if (version != RUBY_FALSE)
        strncpy(server->version_text, ruby.String(&version), sizeof server->version_text - 1);
}

static VALUE watch_method(VALUE class, const char *name, uint32_t event, void (*function)(VALUE, void *))
{
    VALUE symbol = ruby.Symbol(ruby.Intern(name));
    VALUE keywords = ruby.HashNew();
    ruby.HashSet(keywords, ruby.Symbol(ruby.Intern("target")), ruby.Call(class, ruby.Intern("instance_method"), 1, &symbol));
    VALUE trace = ruby.TraceNew(RUBY_FALSE, event, function, NULL);
    ruby.CallKeywords(trace, ruby.Intern("enable"), 1, &keywords, RUBY_PASS_KEYWORDS);
    ruby.Keep(trace);
    return trace;
}

enum outcome { NOT_YET, WATCHED, METHODS_UNKNOWN };

/* Raises what Ruby raises: NameError where there is no such method, ArgumentError where it cannot be traced. What it has done when it is left by
 * an interrupt is not done again. */
static VALUE watch_server(VALUE argument)
{
    struct server *server = (struct server *)argument;
    VALUE class[POINTS], module = loaded_module(ruby.Class("Object"), server->module);
    if (module == RUBY_FALSE)
        return NOT_YET;
    for (size_t i = 0; i < POINTS; i++)
        if ((class[i] = loaded_module(module, server->point[i].class)) == RUBY_FALSE)
            return NOT_YET;
    learn_version(server, module);
    for (size_t i = 0; i < POINTS; i++)
        if (server->trace[i] == RUBY_FALSE)
            server->trace[i] = watch_method(class[i], server -> point[i].method, server->point[i].event, server->point[i].function);
    return WATCHED;
}

/* Ours, by what they are; anything else was on its way to this thread in any case (an interrupt, a signal's trap). */
static bool is_ours(VALUE error)
{
    static const char *const classes[] = {"NameError", "ArgumentError", "TypeError"};
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++)
        if (ruby.IsA(error, ruby.Class(classes[i])) != RUBY_FALSE)
            return true;
    return false;
}

static bool busy;

static enum outcome try_to_watch(struct server *server)
{
    int state = 0;
    enum outcome outcome = (enum outcome)ruby.Protect(watch_server, (VALUE)server, &state);
    if (state == 0)
        return outcome;
    if (!is_ours(ruby.Error())) {
        busy = false;
        ruby.JumpTag(state);
    }
    ruby.SetError(nil);
    for (size_t i = 0; i < POINTS; i++)
        if (server->trace[i] != RUBY_FALSE)
            ruby.TraceDisable(server->trace[i]); /* one without the other is of no use */
    return METHODS_UNKNOWN;
}

static void report(const struct server *server, enum outcome outcome)
{
    if (outcome == WATCHED)
        runtime_report(server->module, server->version_text, NULL);
    else if (server->unknown != NULL)
        runtime_report(server->module, server->version_text, server->unknown);
}

/* ---- which Ruby is it? -------------------------------------------------------------------------------------------------------------------- */

/* "3.3.5" -> 303 */
static int version_number(const char *version)
{
    int major = 0, minor = 0;
    while (*version >= '0' && *version <= '9')
        major = 10 * major + *version++ - '0';
    if (*version == '.')
        version++;
    while (*version >= '0' && *version <= '9')
        minor = 10 * minor + *version++ - '0';
    return 100 * major + minor;
}

/* As Ruby 3.3 reads it: a number above 0. */
static bool asks_for_moving_threads(void)
{
    static const char name[] = "RUBY_MN_THREADS=";
    for (char **entry = environ; entry != NULL && *entry != NULL; entry++)
        if (strncmp(*entry, name, sizeof name - 1) == 0) {
            const char *value = *entry + sizeof name - 1;
            value += strspn(value, " +0");
            return *value >= '1' && *value <= '9';
        }
    return false;
}

enum { ANOTHER_RUBY, RUBY_WITH_MOVING_THREADS, RUBY };

static VALUE which_ruby(VALUE unused)
{
    (void)unused;
    VALUE object = ruby.Class("Object"), engine = loaded(object, "RUBY_ENGINE"), version = loaded(object, "RUBY_VERSION");
    if (engine == RUBY_FALSE || version == RUBY_FALSE || strcmp(ruby.String(&engine), "ruby") != 0)
        return ANOTHER_RUBY;
    const char *text = ruby.String(&version);
    if (version_number(text) < 303 || !asks_for_moving_threads())
        return RUBY;
    ruby_threads_move();
    runtime_report("Ruby", text, "with RUBY_MN_THREADS its threads move between the system's");
    return RUBY_WITH_MOVING_THREADS;
}

/* With Ruby's lock, which other threads may have in between. Not in the middle of a rescue or an ensure: $! is the program's. False:
 * there will never be anything to watch. */
static bool look_at_servers(void)
{
    to_io = ruby.Intern("@to_io");
    fileno_id = ruby.Intern("fileno");
    nil = ruby.Attribute(ruby.Class("Object"), to_io); /* there is none */
    if (busy || ruby.Error() != nil)
        return true;
    int state = 0;
    if (ruby.Protect(which_ruby, RUBY_FALSE, &state) != RUBY || state != 0)
        return false;
    busy = true;
    for (size_t i = 0; i < sizeof servers / sizeof *servers; i++) {
        struct server *server = &servers[i];
        enum outcome outcome = server->settled ? NOT_YET : try_to_watch(server);
        if (outcome == NOT_YET)
            continue;
        server->settled = true;
        if (outcome == WATCHED)
            atomic_store_explicit(&runtime_listener, &ruby_listener, memory_order_release);
        report(server, outcome);
    }
    busy = false;
    return true;
}

/* ---- finding Ruby --------------------------------------------------------------------------------------------------------------------------- */

static bool find_api(void)
{
    enum {
#define X(ret, name, symbol, params) AT_##name,
        RUBY_API(X) NEEDED,
        BEFORE_OPTIONAL = NEEDED - 1,
        RUBY_API_OPTIONAL(X) ALL
#undef X
    };
    struct lookup_item items[] = {
#define X(ret, name, symbol, params) {symbol, NULL, NULL},
        RUBY_API(X) RUBY_API_OPTIONAL(X)
#undef X
    };
    lookup_any(items, sizeof items / sizeof *items);
    for (unsigned i = 0; i < NEEDED; i++)
        if (items[i].found == NULL)
            return false;
#define X(ret, name, symbol, params) ruby.name = (ret(*) params)items[AT_##name].found;
    RUBY_API(X)
    RUBY_API_OPTIONAL(X)
#undef X
    return true;
}

#define TRIES                                                                                                                      \
    64u /* accepts after which a program that has loaded no other server will not do so any more - until it listens again */

void ruby_look(bool listening)
{
    enum { SEARCH, LOOK, SETTLED };
    static _Atomic uint8_t state;
    static _Atomic uint32_t tries;
    uint8_t now = atomic_load_explicit(&state, memory_order_acquire);
    if (now == SETTLED || (now == SEARCH && !listening))
        return;
    if (listening)
        atomic_store_explicit(&tries, 0, memory_order_relaxed);
    else if (atomic_load_explicit(&tries, memory_order_relaxed) >= TRIES)
        return;
    int error = errno;
    if (now == SEARCH) {
        now = find_api() ? LOOK : SETTLED;
        atomic_store_explicit(&state, now, memory_order_release);
    }
    const struct runtime_listener *listener = runtime_listening();
    if (now == LOOK && ruby.HasLock() == 1 && (listener == NULL || listener == &ruby_listener)) {
        atomic_fetch_add_explicit(&tries, 1, memory_order_relaxed);
        if (!look_at_servers())
            atomic_store_explicit(&state, SETTLED, memory_order_release);
    }
    errno = error;
}
