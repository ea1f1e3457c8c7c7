/* node.c - runs the adapter in a thread of Node.js (why: context/node/node.h).
 *
 * There is nothing to interpose in Node, which is linked statically; but it exports its functions, for addons. Of those we need only one that
 * is not part of the stable interface for them (Node-API): the function by which Node itself starts an addon, with an environment made
 * for it. Its arguments are handles of V8's: pointers, passed by value. Whether all is there and of the kind that we know is established before
 * anything is called: by the functions' full C++ names, which contain their parameters, and by V8's version.
 *
 * The adapter runs when V8 says so: as an interrupt, which is how the inspector evaluates what one types. V8 takes it at the next function that the
 * thread enters, so before any callback that could be a request's. Where the wrappers ask for it (listen(), a descriptor from another process) V8
 * need not be able to run anything: libuv calls them, too.
 *
 * Whatever goes wrong: no exception is left behind, and such a thread works for nobody. */
#include "interpose/node.h"
#include "base/base.h"
#include "base/config.h"
#include "conn/conn.h"
#include "context/node/node.h"
#include "interpose/lookup.h"
#include "interpose/resolve.h"
#include "span/span.h"
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* ---- what Node exports ----------------------------------------------------------------------------------------------------------------- */

typedef struct napi_env__ *napi_env;
typedef struct napi_value__ *napi_value;
typedef struct napi_callback_info__ *napi_callback_info;
typedef napi_value (*napi_callback)(napi_env env, napi_callback_info info);
typedef napi_value (*addon_init)(napi_env env, napi_value exports);
struct node_version {
    uint32_t major, minor, patch;
    const char *release;
};
#define NAPI_OK 0
#define NAPI_VERSION 8 /* of Node-API: what every Node.js since 12.22 has */
#define NAPI_AUTO_LENGTH ((size_t)-1)

#define V8_FUNCTIONS(X)                                                                                                            \
    X(const char *, Version, "_ZN2v82V810GetVersionEv", (void))                                                                    \
    X(void *, Isolate, "_ZN2v87Isolate10GetCurrentEv", (void))                                                                     \
    X(void *, Context, "_ZN2v87Isolate17GetCurrentContextEv", (void *isolate))                                                     \
    X(void *, Environment, "_ZN4node21GetCurrentEnvironmentEN2v85LocalINS0_7ContextEEE", (void *context))                          \
    X(void, Interrupt, "_ZN2v87Isolate16RequestInterruptEPFvPS0_PvES2_",                                                           \
      (void *isolate, void (*call)(void *isolate, void *data), void *data))                                                        \
    X(void *, NewObject, "_ZN2v86Object3NewEPNS_7IsolateE", (void *isolate))                                                       \
    X(void, StartAddon,                                                                                                            \
      "_Z30napi_module_register_by_symbolN2v85LocalINS_6ObjectEEENS0_INS_5ValueEEENS0_INS_7ContextEEEPFP12napi_value__P10napi_"    \
      "env__S8_Ei",                                                                                                                \
      (void *exports, void *module, void *context, addon_init init, int version))

#define NODE_FUNCTIONS(X)                                                                                                          \
    X(int, CreateString, "napi_create_string_utf8", (napi_env env, const char *str, size_t length, napi_value *result))            \
    X(int, RunScript, "napi_run_script", (napi_env env, napi_value script, napi_value * result))                                   \
    X(int, CreateFunction, "napi_create_function",                                                                                 \
      (napi_env env, const char *name, size_t length, napi_callback call, void *data, napi_value *result))                         \
    X(int, CallbackInfo, "napi_get_cb_info",                                                                                       \
      (napi_env env, napi_callback_info info, size_t * argc, napi_value * argv, napi_value * self, void **data))                   \
    X(int, CallFunction, "napi_call_function",                                                                                     \
      (napi_env env, napi_value self, napi_value function, size_t argc, const napi_value *argv, napi_value *result))               \
    X(int, GetInt32, "napi_get_value_int32", (napi_env env, napi_value value, int32_t * result))                                   \
    X(int, GetString, "napi_get_value_string_utf8", (napi_env env, napi_value value, char *buf, size_t size, size_t *result))      \
    X(int, GetBool, "napi_get_value_bool", (napi_env env, napi_value value, bool *result))                                         \
    X(int, Boolean, "napi_get_boolean", (napi_env env, bool value, napi_value *result))                                            \
    X(int, Undefined, "napi_get_undefined", (napi_env env, napi_value * result))                                                   \
    X(int, CreateUint32, "napi_create_uint32", (napi_env env, uint32_t value, napi_value * result))                                \
    X(int, ExternalBuffer, "napi_create_external_arraybuffer",                                                                     \
      (napi_env env, void *data, size_t length, void (*finalize)(napi_env, void *, void *), void *hint, napi_value *result))       \
    X(int, CreateTypedArray, "napi_create_typedarray",                                                                             \
      (napi_env env, int type, size_t length, napi_value buffer, size_t offset, napi_value *result))                               \
    X(int, TakeException, "napi_get_and_clear_last_exception", (napi_env env, napi_value * result))                                \
    X(int, NodeVersion, "napi_get_node_version", (napi_env env, const struct node_version **version))                              \
    X(int, AddCleanup, "napi_add_env_cleanup_hook", (napi_env env, void (*fun)(void *), void *arg))

#define UINT32_ARRAY 6 /* napi_uint32_array */

static struct {
#define X(ret, name, symbol, params) ret(*name) params;
    V8_FUNCTIONS(X) NODE_FUNCTIONS(X)
#undef X
} api;

static bool find_api(void)
{
    enum {
#define X(ret, name, symbol, params) AT_##name,
        V8_FUNCTIONS(X) NODE_FUNCTIONS(X) ALL
#undef X
    };
    struct lookup_item items[] = {
#define X(ret, name, symbol, params) {symbol, NULL, NULL},
        V8_FUNCTIONS(X) NODE_FUNCTIONS(X)
#undef X
    };
    /* Nearly every program has none of them: one look instead of two dozen. */
    lookup_any(items, 1);
    if (items[0].found == NULL)
        return false;
    lookup_any(items, ALL);
    for (unsigned i = 0; i < ALL; i++)
        if (items[i].found == NULL)
            return false;
#define X(ret, name, symbol, params) api.name = (ret(*) params)items[AT_##name].found;
    V8_FUNCTIONS(X)
    NODE_FUNCTIONS(X)

#undef X
    return true;
}

/* "11.3.244.8-node.38". Node 18 has V8 10.2, 26 has 14.6; Electron's differ in more than the number. */
static bool version_known(const char *version)
{
    long major = strtol(version, NULL, 10);
    return major >= 10 && major <= 14 && strstr(version, "-node.") != NULL;
}

/* ---- the adapter ------------------------------------------------------------------------------------------------------------------------- */

/* ask(fd): for whom is this connection's request? */
static napi_value ask(napi_env env, napi_callback_info info)
{
    napi_value arg = NULL, result = NULL;
    size_t argc = 1;
    int32_t fd = -1;
    bool known = false;
    struct runtime_ref ref;
    struct node_slot *slot = node_slot;
    if (slot != NULL && api.CallbackInfo(env, info, &argc, &arg, NULL, NULL) == NAPI_OK && argc >= 1 &&
        api.GetInt32(env, arg, &fd) == NAPI_OK) {
        int error = errno;
        conn_runtime(fd, &ref);
        known = runtime_conn_get(&ref, &slot->asked);
        slot->asked.rule = OTSHIM_PARENT_RUNTIME;
        errno = error;
    }
    api.Boolean(env, known, &result);
    return result;
}

/* lookup(name, begins): a name is about to be looked up, or was not after all. lookup(): not all are told. */
static napi_value lookup(napi_env env, napi_callback_info info)
{
    napi_value args[2] = {NULL, NULL};
    size_t argc = 2, len = 0;
    char name[OTSHIM_NAME_MAX + 4]; /* a name that is longer than the limit shows as such */
    bool begins = false;
    struct ctx ignored;
    if (api.CallbackInfo(env, info, &argc, args, NULL, NULL) != NAPI_OK)
        return NULL;
    int error = errno;
    if (argc < 2)
        node_lookups_noted(false);
    else if (api.GetString(env, args[0], name, sizeof name, &len) == NAPI_OK && api.GetBool(env, args[1], &begins) == NAPI_OK &&
             !resolve_is_number(name)) {
        if (begins)
            node_lookup_note(name, len);
        else
            node_lookup_take(name, len, &ignored);
    }
    errno = error;
    return NULL;
}

/* The thread's environment ends: no JavaScript of it will run any more. */
static void forget(void *slot)
{
    if (node_slot == slot)
        node_slot = &node_slot_nobody;
    node_slot_free(slot);
}

static void stays(napi_env env, void *data, void *hint)
{
    (void)env, (void)data, (void)hint; /* the slot is not the array's */
}

static char version[40]; /* Node's own, once a thread of it runs; V8's until then */

static char *put_number(char *at, uint32_t number)
{
    char digits[10];
    size_t n = 0;
    do
        digits[n++] = (char)('0' + number % 10);
    while ((number /= 10) != 0);
    while (n > 0)
        *at++ = digits[--n];
    return at;
}

static void learn_version(napi_env env)
{
    const struct node_version *found;
    if (api.NodeVersion(env, &found) != NAPI_OK)
        return;
    char *at = put_number(version, found->major);
    *at++ = '.';
    at = put_number(at, found->minor);
    *at++ = '.';
    *put_number(at, found->patch) = '\0';
}

/* Are calls to have their sites? 0: none, 1: some, 2: all. */
static uint32_t site_mode(struct node_slot *slot)
{
    if (config.stack_threshold_ns == UINT64_MAX)
        return 0;
    if (config.stack_threshold_ns != 0)
        return 1;
    atomic_store(&slot->heat[0], 1);
    return 2;
}

static bool run(napi_env env, struct node_slot *slot)
{
    napi_value script, adapter, undefined, buffer, args[9], result;
    const uint32_t numbers[] = {NODE_NOW_AT, NODE_ASKED_AT, NODE_CTX_WORDS, NODE_SITE_AT, NODE_HEAT_AT, site_mode(slot)};
    bool done = false;
    if (api.ExternalBuffer(env, slot, sizeof *slot, stays, NULL, &buffer) != NAPI_OK ||
        api.CreateTypedArray(env, UINT32_ARRAY, NODE_SLOT_WORDS, buffer, 0, &args[0]) != NAPI_OK)
        return false;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (api.CreateUint32(env, numbers[i], &args[1 + i]) != NAPI_OK)
            return false;
    node_lookups_noted(true);
    return api.CreateFunction(env, "ask", NAPI_AUTO_LENGTH, ask, NULL, &args[7]) == NAPI_OK &&
           api.CreateFunction(env, "lookup", NAPI_AUTO_LENGTH, lookup, NULL, &args[8]) == NAPI_OK &&
           api.CreateString(env, node_script, NAPI_AUTO_LENGTH, &script) == NAPI_OK &&
           api.RunScript(env, script, &adapter) == NAPI_OK && api.Undefined(env, &undefined) == NAPI_OK &&
           api.CallFunction(env, undefined, adapter, 9, args, &result) == NAPI_OK && api.GetBool(env, result, &done) == NAPI_OK &&
           done;
}

/* As an addon's: called by Node with an environment for it. */
static napi_value init(napi_env env, napi_value exports)
{
    napi_value exception;
    struct node_slot *slot = node_slot_new();
    (void)exports;
    learn_version(env);
    if (slot == NULL)
        return NULL;
    /* The array outlives a failure, and so does its memory. */
    if (run(env, slot) && api.AddCleanup(env, forget, slot) == NAPI_OK) {
        node_slot = slot;
        atomic_store(&runtime_has_sites, true);
    }
    api.TakeException(env, &exception);
    return NULL;
}

/* Between two steps of JavaScript of this thread's, in a scope of V8's for the handles. */
static void start(void *isolate, void *data)
{
    (void)data;
    int error = errno;
    void *context = api.Context(isolate);
    if (context != NULL && api.Environment(context) != NULL) {
        void *exports = api.NewObject(isolate);
        api.StartAddon(exports, exports, context, init, NAPI_VERSION);
    }
    bool done = node_slot != NULL && node_slot != &node_slot_nobody;
    runtime_report("Node.js", version, done ? NULL : "its adapter could not be started");
    errno = error;
}

/* ---- when ---------------------------------------------------------------------------------------------------------------------------------- */

enum { NOT_LOOKED, ABSENT, PRESENT, STRANGE };

static void no_news(const struct runtime_ref *conn)
{
    (void)conn;
}

static void no_reading(const struct runtime_ref *conn, const struct ctx *ctx)
{
    (void)conn, (void)ctx;
}

static void no_idleness(void)
{
}

/* Nothing of this is news for Node; that somebody listens makes connections keep their request for ask(). */
static const struct runtime_listener listener = {
    .accepted = no_news, .received = no_reading, .idle = no_idleness, .sends_for_others = true};

static int look(void)
{
    if (!find_api())
        return ABSENT;
    if (!version_known(api.Version())) {
        runtime_report("Node.js", api.Version(), "this version is not known");
        return STRANGE;
    }
    const struct runtime_listener *nobody = NULL;
    atomic_compare_exchange_strong(&runtime_listener, &nobody, &listener);
    return PRESENT;
}

void node_look(void)
{
    static _Atomic int known;
    int state = atomic_load_explicit(&known, memory_order_acquire);
    if (OTSHIM_LIKELY(state == ABSENT || node_slot != NULL))
        return;
    int error = errno;
    if (state == NOT_LOOKED)
        atomic_store_explicit(&known, state = look(), memory_order_release);
    void *isolate = state != ABSENT ? api.Isolate() : NULL;
    if (isolate != NULL) {
        node_slot = &node_slot_nobody; /* until the adapter runs, and whatever becomes of it */
        if (state == PRESENT)
            api.Interrupt(isolate, start, NULL);
    }
    errno = error;
}
