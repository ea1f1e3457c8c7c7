/* web.c - libmicrohttpd inside the exporter's event loop.
 *
 * The daemon is given a listening socket of ours (so that a failed bind can be explained) and its own epoll descriptor, which is
 * readable when any of its connections wants something: that one descriptor and its next timeout are all that libevent has to watch.
 *
 * Nothing here trusts the Host header, and no answer allows another origin to read it: a page in a browser cannot read traces from
 * an exporter on the same machine (the JSON has no CORS header; a rebound name gets the same bytes as any other local client would, and
 * that is why the default address is the loopback one). */
#include "view/web.h"

#include <errno.h>
#include <microhttpd.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONNECTIONS_MAX 128
#define IDLE_SECONDS 15
#define CONNECTION_MEMORY (16 * 1024) /* also the limit of a request's head */

struct web {
    struct api *api;
    struct MHD_Daemon *daemon;
    struct event *readable;
    struct event *timer;
    char address[300];
};

/* ---- one request ------------------------------------------------------------------------------------------------------------- */

struct query {
    struct api_query items[API_QUERY_MAX];
    size_t count;
    bool too_many;
};

static enum MHD_Result add_item(void *arg, enum MHD_ValueKind kind, const char *key, const char *value)
{
    struct query *query = arg;
    (void)kind;
    if (query->count == API_QUERY_MAX) {
        query->too_many = true;
        return MHD_NO;
    }
    query->items[query->count++] = (struct api_query){.key = key, .value = value != NULL ? value : ""};
    return MHD_YES;
}

static enum MHD_Result answer(void *arg, struct MHD_Connection *connection, const char *url, const char *method,
                              const char *version, const char *upload, size_t *upload_len, void **state)
{
    static int seen; /* its address marks a request whose head has been announced */
    struct web *web = arg;
    struct query query = {.count = 0};
    struct api_response response;
    (void)version;
    (void)upload;

    /* The first call comes with the head, before a body; answering there would close a connection that could be kept. */
    if (*state == NULL) {
        *state = &seen;
        return MHD_YES;
    }
    if (*upload_len > 0) {
        *upload_len = 0;
        return MHD_YES;
    }
    MHD_get_connection_values(connection, MHD_GET_ARGUMENT_KIND, add_item, &query);
    api_answer(web->api, method, url, query.items, query.count, &response);

    struct MHD_Response *reply = MHD_create_response_from_buffer(response.len, response.body, MHD_RESPMEM_MUST_FREE);
    if (reply == NULL) {
        free(response.body);
        return MHD_NO;
    }
    if (response.content_type != NULL)
        MHD_add_response_header(reply, "Content-Type", response.content_type);
    MHD_add_response_header(reply, "Cache-Control", "no-store");
    MHD_add_response_header(reply, "X-Content-Type-Options", "nosniff");
    MHD_add_response_header(reply, "Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'");
    MHD_add_response_header(reply, "Server", "otshim/" OTSHIM_VERSION);
    if (response.status == 405)
        MHD_add_response_header(reply, "Allow", "GET, HEAD");
    enum MHD_Result result = MHD_queue_response(connection, (unsigned)response.status, reply);
    MHD_destroy_response(reply);
    return result;
}

/* ---- the event loop ---------------------------------------------------------------------------------------------------------- */

static void run(struct web *web)
{
    MHD_UNSIGNED_LONG_LONG wait_ms;
    MHD_run(web->daemon);
    if (MHD_get_timeout(web->daemon, &wait_ms) == MHD_YES) {
        struct timeval wait = {.tv_sec = (time_t)(wait_ms / 1000), .tv_usec = (suseconds_t)(wait_ms % 1000 * 1000)};
        event_add(web->timer, &wait);
    } else {
        event_del(web->timer);
    }
}

static void on_event(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    run(arg);
}

/* ---- listening --------------------------------------------------------------------------------------------------------------- */

static int listen_on(const struct addrinfo *info)
{
    int one = 1, fd = socket(info->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(fd, info->ai_addr, info->ai_addrlen) != 0 || listen(fd, 64) != 0) {
        int error = -errno;
        close(fd);
        return error;
    }
    return fd;
}

static int listen_at(const char *host, uint16_t port, char *why, size_t why_size)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV}, *list = NULL;
    char service[8];
    int fd = -EADDRNOTAVAIL;
    snprintf(service, sizeof(service), "%u", port);
    int error = getaddrinfo(host, service, &hints, &list);
    if (error != 0) {
        snprintf(why, why_size, "cannot listen on HTTP address %s:%u: %s; set OTSHIM_HTTP=host:port, or OTSHIM_HTTP=off", host,
                 port, gai_strerror(error));
        return -1;
    }
    for (const struct addrinfo *info = list; info != NULL && fd < 0; info = info->ai_next)
        fd = listen_on(info);
    freeaddrinfo(list);
    if (fd >= 0)
        return fd;
    if (fd == -EADDRINUSE)
        snprintf(why, why_size,
                 "HTTP port %u on %s is already in use (by another exporter?); set OTSHIM_HTTP=host:port to another one, or "
                 "OTSHIM_HTTP=off",
                 port, host);
    else
        snprintf(why, why_size, "cannot listen on HTTP address %s:%u: %s; set OTSHIM_HTTP=host:port, or OTSHIM_HTTP=off", host,
                 port, strerror(-fd));
    return -1;
}

static void name_address(struct web *web, int fd, const char *host)
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } address = {.v6 = {0}};
    socklen_t len = sizeof(address);
    unsigned port = 0;
    if (getsockname(fd, &address.any, &len) == 0)
        port = ntohs(address.any.sa_family == AF_INET6 ? address.v6.sin6_port : address.v4.sin_port);
    snprintf(web->address, sizeof(web->address), strchr(host, ':') != NULL ? "[%.255s]:%u" : "%.255s:%u", host, port);
    web->api->http_address = web->address;
}

struct web *web_start(struct event_base *base, struct api *api, const char *host, uint16_t port, char *why, size_t why_size)
{
    struct web *web = calloc(1, sizeof(*web));
    int fd = listen_at(host, port, why, why_size);
    if (fd < 0 || web == NULL) {
        free(web);
        return NULL;
    }
    web->api = api;
    name_address(web, fd, host);
    web->daemon = MHD_start_daemon(MHD_USE_EPOLL, 0, NULL, NULL, answer, web, MHD_OPTION_LISTEN_SOCKET, fd,
                                   MHD_OPTION_CONNECTION_LIMIT, CONNECTIONS_MAX, MHD_OPTION_CONNECTION_TIMEOUT, IDLE_SECONDS,
                                   MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_MEMORY, MHD_OPTION_END);
    if (web->daemon == NULL) {
        snprintf(why, why_size, "cannot start the HTTP server on %s: %s", web->address, strerror(errno));
        close(fd);
        api->http_address = NULL;
        free(web);
        return NULL;
    }
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(web->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    web->readable = event_new(base, info->epoll_fd, EV_READ | EV_PERSIST, on_event, web);
    web->timer = event_new(base, -1, 0, on_event, web);
    event_add(web->readable, NULL);
    return web;
}

void web_stop(struct web *web)
{
    if (web == NULL)
        return;
    event_free(web->readable);
    event_free(web->timer);
    MHD_stop_daemon(web->daemon);
    free(web);
}
