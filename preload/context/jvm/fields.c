/* fields.c - which socket does an exchange of java.net.http.HttpClient use?
 *
 * By three fields that are the same in 11 to 25: Http1Exchange.connection, of a PlainHttpConnection (else it is TLS, in which nothing can be seen)
 * .chan, of a SocketChannelImpl .fdVal. Their ids are asked for once, when objects of these classes are there, so that the asking initialises
 * no class. */
#include "context/jvm/jvm.h"
#include <stdatomic.h>

enum {
    EXCEPTION_CLEAR = 17,
    DELETE_LOCAL_REF = 23,
    GET_OBJECT_CLASS = 31,
    IS_INSTANCE_OF = 32,
    GET_FIELD_ID = 94,
    GET_OBJECT_FIELD = 95,
    GET_INT_FIELD = 100
};

#define FAILED ((void *)-1)

/* The id of an object's field, which is kept in *id; NULL: it has none. */
static void *field_of(void *env, jvm_object object, _Atomic(void *) *id, const char *name, const char *type)
{
    void *known = atomic_load_explicit(id, memory_order_acquire);
    if (known == NULL) {
        jvm_object class = JNI(env, GET_OBJECT_CLASS, jvm_object, jvm_object)(env, object);
        known = JNI(env, GET_FIELD_ID, void *, jvm_object, const char *, const char *)(env, class, name, type);
        if (known == NULL) {
            JNI(env, EXCEPTION_CLEAR, void)(env);
            known = FAILED;
        }
        JNI(env, DELETE_LOCAL_REF, void, jvm_object)(env, class);
        atomic_store_explicit(id, known, memory_order_release);
    }
    return known != FAILED ? known : NULL;
}

static jvm_object follow(void *env, jvm_object object, void *field)
{
    return field != NULL ? JNI(env, GET_OBJECT_FIELD, jvm_object, jvm_object, void *)(env, object, field) : NULL;
}

static void drop(void *env, jvm_object reference)
{
    if (reference != NULL)
        JNI(env, DELETE_LOCAL_REF, void, jvm_object)(env, reference);
}

jvm_object jvm_plain_connection, jvm_socket_channel;

static bool is_a(void *env, jvm_object object, jvm_object class)
{
    return object != NULL && JNI(env, IS_INSTANCE_OF, uint8_t, jvm_object, jvm_object)(env, object, class);
}

int jvm_descriptor_of(void *env, jvm_object exchange)
{
    static _Atomic(void *) connection_id, channel_id, fd_id;
    int fd = -1;
    jvm_object connection = NULL, channel = NULL;
    if (exchange == NULL || jvm_plain_connection == NULL || jvm_socket_channel == NULL)
        return -1;
    connection =
        follow(env, exchange, field_of(env, exchange, &connection_id, "connection", "Ljdk/internal/net/http/HttpConnection;"));
    if (is_a(env, connection, jvm_plain_connection))
        channel = follow(env, connection, field_of(env, connection, &channel_id, "chan", "Ljava/nio/channels/SocketChannel;"));
    void *field = is_a(env, channel, jvm_socket_channel) ? field_of(env, channel, &fd_id, "fdVal", "I") : NULL;
    if (field != NULL)
        fd = JNI(env, GET_INT_FIELD, int, jvm_object, void *)(env, channel, field);
    drop(env, channel);
    drop(env, connection);
    return fd;
}
