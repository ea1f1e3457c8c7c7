/* setup.c - gets the hooks into a running virtual machine. See jvm.h.
 *
 * By the entries of the tables that JNI and JVMTI define (numbers as in their specifications, which only ever append): an environment of the tool
 * interface of our own, with the capabilities to tag objects and to retransform classes, both of which HotSpot grants while it runs; the helper class,
 * defined in a package of java.base, because java.base reads no other module; its native methods; and the classes, retransformed. The event
 * that shows us their bytes stays enabled: when another tool has one of them retransformed, everybody's edits are made anew. It is told of
 * every class that is loaded, too, of which those of the shared archive then have to be read: that is why it is not enabled any earlier.
 *
 * Classes are looked for by the function that HotSpot exports for its own launcher, which loads them and does not initialise them: what their
 * initialisers read (the common pool's properties) may not have been set yet. */
#include "context/jvm/jvm.h"
#include "context/runtime.h"
#include <stdatomic.h>
#include <string.h>

#define CLASSES_MAX 64u
#define LOCAL_REFERENCES 65000 /* one for each class that is loaded; there is a limit of 65536 */
#define JNI_1_8 0x00010008
#define JVMTI_1_2 0x30010200
#define PHASE_LIVE 4
#define EVENT_CLASS_FILE_LOAD_HOOK 54
#define EVENT_FIRST 50
#define CAN_TAG_OBJECTS 0
#define CAN_RETRANSFORM_CLASSES 37

/* Of the tables, by the names that the specifications have for them. */
enum {
    DEFINE_CLASS = 5,
    EXCEPTION_CLEAR = 17,
    PUSH_LOCAL_FRAME = 19,
    POP_LOCAL_FRAME = 20,
    NEW_GLOBAL_REF = 21,
    DELETE_LOCAL_REF = 23,
    GET_STATIC_METHOD_ID = 113,
    CALL_STATIC_OBJECT_METHOD_A = 116,
    NEW_STRING_UTF = 167,
    REGISTER_NATIVES = 215,
    EXCEPTION_CHECK = 228
};
enum {
    SET_EVENT_NOTIFICATION_MODE = 2,
    ALLOCATE = 46,
    DEALLOCATE = 47,
    GET_CLASS_SIGNATURE = 48,
    GET_LOADED_CLASSES = 78,
    GET_TAG = 106,
    SET_TAG = 107,
    SET_EVENT_CALLBACKS = 122,
    DISPOSE_ENVIRONMENT = 127,
    GET_SYSTEM_PROPERTY = 131,
    GET_PHASE = 133,
    ADD_CAPABILITIES = 142,
    RETRANSFORM_CLASSES = 152
};

enum { GET_ENV = 6 }; /* of the invocation interface */

union java_value {
    uint8_t z;
    jvm_object l;
    int64_t j;
};

struct native_method {
    const char *name, *signature;
    void *function;
};

static struct {
    const struct jvm_class *class[CLASSES_MAX];
    jvm_object object[CLASSES_MAX];
    bool changed[CLASSES_MAX];
    size_t count;
} classes;

/* Why the machine's tasks are not followed; NULL: they are. */
static char why_not[160];

static void fails(const char *what, const char *name)
{
    size_t len = 0;
    for (const char *parts[] = {what, name}, **part = parts; part < parts + 2; part++)
        for (const char *c = *part; c != NULL && *c != '\0' && len < sizeof why_not - 1; c++)
            why_not[len++] = *c;
    why_not[len] = '\0';
}

static const struct jvm_class *class_of(const char *name)
{
    for (size_t i = 0; i < jvm_class_count; i++)
        if (strcmp(jvm_classes[i].name, name) == 0)
            return &jvm_classes[i];
    return NULL;
}

static void note_changed(const struct jvm_class *class)
{
    for (size_t i = 0; i < classes.count; i++)
        if (classes.class[i] == class)
            classes.changed[i] = true;
}

/* A class is loaded, or retransformed: at our request, or at that of another tool. */
static void on_class_file(void *jvmti, void *env, jvm_object redefined, jvm_object loader, const char *name, jvm_object domain,
                          int32_t len, const uint8_t *bytes, int32_t *new_len, uint8_t **new_bytes)
{
    (void)env, (void)loader, (void)domain;
    const struct jvm_class *class = name != NULL && len > 0 ? class_of(name) : NULL;
    if (OTSHIM_LIKELY(class == NULL) || (redefined == NULL && !class->anywhere))
        return;
    uint8_t *out = NULL;
    const size_t room = classfile_room((size_t)len);
    if (JVMTI(jvmti, ALLOCATE, int, int64_t, uint8_t **)(jvmti, (int64_t)room, &out) != 0)
        return;
    size_t made = classfile_rewrite(bytes, (size_t)len, JVM_HELPER, class->edits, class->count, out, room);
    if (made == 0 && class->otherwise != NULL)
        made = classfile_rewrite(bytes, (size_t)len, JVM_HELPER, class->otherwise, class->count, out, room);
    if (made == 0) {
        JVMTI(jvmti, DEALLOCATE, int, uint8_t *)(jvmti, out);
        if (!class->anywhere)
            atomic_store(&jvm_unwatched, true); /* also later, when another tool has it retransformed */
        return;
    }
    note_changed(class);
    *new_len = (int32_t)made;
    *new_bytes = out;
}

static bool define_helper(void *env)
{
    static const char *const names[] = {
#define X(name) #name,
        JVM_HOOKS_WITH_OBJECT(X) JVM_HOOKS(X)
#undef X
    };
    enum {
#define X(name) AT_##name,
        JVM_HOOKS_WITH_OBJECT(X) WITH_OBJECT
#undef X
    };
    static const struct native_method methods[] = {
#define X(name) {#name, "(Ljava/lang/Object;)V", (void *)jvm_##name},
        JVM_HOOKS_WITH_OBJECT(X)
#undef X
#define X(name) {#name, "()V", (void *)jvm_##name},
            JVM_HOOKS(X)
#undef X
    };
    const size_t count = sizeof names / sizeof *names;
    uint8_t bytes[2048];
    const size_t len = classfile_helper(JVM_HELPER, names, WITH_OBJECT, count, bytes, sizeof bytes);
    jvm_object helper =
        JNI(env, DEFINE_CLASS, jvm_object, const char *, jvm_object, const uint8_t *, int)(env, JVM_HELPER, NULL, bytes, (int)len);
    if (helper == NULL)
        return false;
    int failed = JNI(env, REGISTER_NATIVES, int, jvm_object, const struct native_method *, int)(env, helper, methods, (int)count);
    JNI(env, DELETE_LOCAL_REF, void, jvm_object)(env, helper);
    return failed == 0;
}

/* Clears what a call left behind: not there is not an error of the program's. */
static jvm_object unless_thrown(void *env, jvm_object result)
{
    if (!JNI(env, EXCEPTION_CHECK, uint8_t)(env))
        return result;
    JNI(env, EXCEPTION_CLEAR, void)(env);
    return NULL;
}

/* What the boot loader does not have may be the platform loader's (java.net.http), and has to be asked for in Java: Class.forName(name, false,
 * ClassLoader.getPlatformClassLoader()). */
static struct {
    jvm_object class_class, loader;
    void *for_name;
} platform;

static jvm_object call_static(void *env, jvm_object class, void *method, const union java_value *arguments)
{
    return unless_thrown(env, JNI(env, CALL_STATIC_OBJECT_METHOD_A, jvm_object, jvm_object, void *,
                                  const union java_value *)(env, class, method, arguments));
}

static void *static_method(void *env, jvm_object class, const char *name, const char *type)
{
    return class == NULL ? NULL
                         : unless_thrown(env, JNI(env, GET_STATIC_METHOD_ID, void *, jvm_object, const char *,
                                                  const char *)(env, class, name, type));
}

static void platform_find(void *env, jvm_object class_class, jvm_object class_loader)
{
    void *get = static_method(env, class_loader, "getPlatformClassLoader", "()Ljava/lang/ClassLoader;");
    platform.class_class = class_class;
    platform.for_name = static_method(env, class_class, "forName", "(Ljava/lang/String;ZLjava/lang/ClassLoader;)Ljava/lang/Class;");
    platform.loader = get != NULL ? call_static(env, class_loader, get, NULL) : NULL;
}

static jvm_object find_in_platform(void *env, const char *internal)
{
    char name[128];
    const size_t len = strlen(internal);
    if (platform.loader == NULL || platform.for_name == NULL || len >= sizeof name)
        return NULL;
    for (size_t i = 0; i <= len; i++)
        name[i] = internal[i] == '/' ? '.' : internal[i];
    jvm_object text = unless_thrown(env, JNI(env, NEW_STRING_UTF, jvm_object, const char *)(env, name));
    const union java_value arguments[] = {{.l = text}, {.z = 0}, {.l = platform.loader}};
    return text != NULL ? call_static(env, platform.class_class, platform.for_name, arguments) : NULL;
}

static jvm_object find(void *env, void *(*find_class)(void *env, const char *name), const char *name)
{
    jvm_object found = unless_thrown(env, find_class(env, name));
    return found != NULL ? found : find_in_platform(env, name);
}

static void add_class(const struct jvm_class *class, jvm_object object)
{
    if (object == NULL || classes.count == CLASSES_MAX)
        return;
    classes.class[classes.count] = class;
    classes.object[classes.count++] = object;
}

/* Those of libraries that are loaded already: of each loader that has one. */
static void find_loaded(void *env, void *jvmti)
{
    int count = 0;
    jvm_object *loaded = NULL;
    if (JVMTI(jvmti, GET_LOADED_CLASSES, int, int *, jvm_object **)(jvmti, &count, &loaded) != 0)
        return;
    for (int i = 0; i < count; i++) {
        char *signature = NULL;
        const struct jvm_class *class = NULL;
        if (JVMTI(jvmti, GET_CLASS_SIGNATURE, int, jvm_object, char **, char **)(jvmti, loaded[i], &signature, NULL) == 0 &&
            signature[0] == 'L') {
            signature[strlen(signature) - 1] = '\0'; /* Lname; */
            class = class_of(signature + 1);
        }
        if (class != NULL && class->anywhere)
            add_class(class, loaded[i]);
        else
            JNI(env, DELETE_LOCAL_REF, void, jvm_object)(env, loaded[i]);
        if (signature != NULL)
            JVMTI(jvmti, DEALLOCATE, int, char *)(jvmti, signature);
    }
    JVMTI(jvmti, DEALLOCATE, int, jvm_object *)(jvmti, loaded);
}

static void find_classes(void *env, void *jvmti, void *(*find_class)(void *env, const char *name))
{
    for (size_t i = 0; i < jvm_class_count; i++)
        if (!jvm_classes[i].anywhere)
            add_class(&jvm_classes[i], find(env, find_class, jvm_classes[i].name));
    find_loaded(env, jvmti);
}

static jvm_object keep_class(void *env, void *(*find_class)(void *env, const char *name), const char *name)
{
    jvm_object found = find(env, find_class, name);
    return found != NULL ? JNI(env, NEW_GLOBAL_REF, jvm_object, jvm_object)(env, found) : NULL;
}

static bool retransform(void *jvmti)
{
    void *callbacks[EVENT_CLASS_FILE_LOAD_HOOK - EVENT_FIRST + 1] = {[EVENT_CLASS_FILE_LOAD_HOOK - EVENT_FIRST] =
                                                                         (void *)on_class_file};
    if (JVMTI(jvmti, SET_EVENT_CALLBACKS, int, const void *, int)(jvmti, callbacks, (int)sizeof callbacks) != 0 ||
        JVMTI(jvmti, SET_EVENT_NOTIFICATION_MODE, int, int, int, jvm_object, ...)(jvmti, 1, EVENT_CLASS_FILE_LOAD_HOOK, NULL) != 0)
        return false;
    return JVMTI(jvmti, RETRANSFORM_CLASSES, int, int, const jvm_object *)(jvmti, (int)classes.count, classes.object) == 0;
}

static bool all_changed(void)
{
    for (size_t i = 0; i < jvm_class_count; i++) {
        const struct jvm_class *class = &jvm_classes[i];
        size_t at = 0;
        while (at < classes.count && classes.class[at] != class)
            at++;
        bool found = at < classes.count;
        if (!class->anywhere && (found ? !classes.changed[at] : !class->optional)) {
            fails(found ? "not as expected: " : "not found: ", class->name);
            return false;
        }
    }
    return true;
}

static bool install(void *env, void *jvmti, void *(*find_class)(void *env, const char *name))
{
    uint8_t capabilities[16] = {0};
    capabilities[CAN_TAG_OBJECTS / 8] |= 1u << CAN_TAG_OBJECTS % 8;
    capabilities[CAN_RETRANSFORM_CLASSES / 8] |= 1u << CAN_RETRANSFORM_CLASSES % 8;
    fails("it does not let classes be retransformed", NULL);
    if (find_class == NULL || JVMTI(jvmti, ADD_CAPABILITIES, int, const void *)(jvmti, capabilities) != 0)
        return false;
    jvm_tags.env = jvmti;
    jvm_tags.get = JVMTI(jvmti, GET_TAG, int, jvm_object, int64_t *);
    jvm_tags.set = JVMTI(jvmti, SET_TAG, int, jvm_object, int64_t);
    if (!define_helper(env))
        return false;
    platform_find(env, find_class(env, "java/lang/Class"), find_class(env, "java/lang/ClassLoader"));
    find_classes(env, jvmti, find_class);
    jvm_plain_connection = keep_class(env, find_class, "jdk/internal/net/http/PlainHttpConnection");
    jvm_socket_channel = keep_class(env, find_class, "sun/nio/ch/SocketChannelImpl");
    return retransform(jvmti) && all_changed();
}

static void report(void *jvmti, const char *why)
{
    char *version = NULL;
    if (JVMTI(jvmti, GET_SYSTEM_PROPERTY, int, const char *, char **)(jvmti, "java.vm.version", &version) != 0)
        version = NULL;
    runtime_report("JVM", version != NULL ? version : "", why);
    if (version != NULL)
        JVMTI(jvmti, DEALLOCATE, int, char *)(jvmti, version);
}

bool jvm_setup(void *vm, void *(*find_class)(void *env, const char *name))
{
    void *env = NULL, *jvmti = NULL;
    int phase = 0;
    int (*get_env)(void *, void **, int) = ((int (*)(void *, void **, int))(*(void ***)vm)[GET_ENV]);
    if (get_env(vm, &env, JNI_1_8) != 0 || env == NULL || JNI(env, EXCEPTION_CHECK, uint8_t)(env))
        return false;
    if (get_env(vm, &jvmti, JVMTI_1_2) != 0 || jvmti == NULL) {
        atomic_store(&jvm_unwatched, true);
        runtime_report("JVM", "", "it has no tool interface");
        return true;
    }
    if (JVMTI(jvmti, GET_PHASE, int, int *)(jvmti, &phase) != 0 || phase != PHASE_LIVE) {
        JVMTI(jvmti, DISPOSE_ENVIRONMENT, int)(jvmti);
        return false;
    }
    bool ready = JNI(env, PUSH_LOCAL_FRAME, int, int)(env, LOCAL_REFERENCES) == 0;
    bool framed = ready;
    ready = ready && install(env, jvmti, find_class);
    if (JNI(env, EXCEPTION_CHECK, uint8_t)(env))
        JNI(env, EXCEPTION_CLEAR, void)(env);
    if (framed)
        JNI(env, POP_LOCAL_FRAME, jvm_object, jvm_object)(env, NULL);
    if (!ready)
        atomic_store(&jvm_unwatched, true);
    report(jvmti, ready ? NULL : why_not);
    return true;
}
