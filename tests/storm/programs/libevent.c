/* libevent.c - libevent's own HTTP server and client on one event loop. Argument: the port.
 *
 *   plain   calls as soon as it is asked
 *   timer   waits for a timer before each call
 *
 * Besides, it makes a call of its own every 10 milliseconds that no request asked for. */
#include "storm.h"
#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>

static struct event_base *base;

struct request {
    struct plan plan;
    struct evhttp_request *client;
    struct evhttp_connection *upstream;
    int number;
};

static void proceed(struct request *r);

static void answer(struct request *r, bool good)
{
    if (r->client == NULL) {
        free(r);
        return;
    }
    struct evbuffer *body = evbuffer_new();
    evbuffer_add_printf(body, "%s\n", r->plan.id);
    evhttp_send_reply(r->client, good ? 200 : 502, good ? "OK" : "Bad Gateway", body);
    evbuffer_free(body);
    free(r);
}

static void called(struct evhttp_request *response, void *arg)
{
    struct request *r = arg;
    if (response == NULL || evhttp_request_get_response_code(response) != 200) {
        answer(r, false);
        return;
    }
    r->number++;
    proceed(r);
}

static void call(evutil_socket_t fd, short what, void *arg)
{
    struct request *r = arg;
    char path[64];
    (void)fd;
    (void)what;
    r->upstream = evhttp_connection_base_new(base, NULL, "127.0.0.1", (uint16_t)atoi(getenv("LEAF_PORT")));
    evhttp_connection_free_on_completion(r->upstream);
    struct evhttp_request *out = evhttp_request_new(called, r);
    evhttp_add_header(evhttp_request_get_output_headers(out), "Host", "leaf");
    evhttp_add_header(evhttp_request_get_output_headers(out), "Connection", "close");
    snprintf(path, sizeof path, "/%s/%d?ms=%d", r->plan.id, r->number, r->plan.ms);
    if (evhttp_make_request(r->upstream, out, EVHTTP_REQ_GET, path) != 0)
        answer(r, false);
}

static void proceed(struct request *r)
{
    if (r->number >= r->plan.calls) {
        answer(r, true);
    } else if (strcmp(r->plan.kind, "timer") == 0) {
        struct timeval delay = {0, storm_delay_us(&r->plan)};
        event_base_once(base, -1, EV_TIMEOUT, call, r, &delay);
    } else {
        call(-1, 0, r);
    }
}

static void asked(struct evhttp_request *client, void *arg)
{
    char head[512];
    struct request *r = calloc(1, sizeof *r);
    (void)arg;
    snprintf(head, sizeof head, "GET %.400s HTTP/1.1\r\n\r\n", evhttp_request_get_uri(client));
    if (!storm_plan(head, &r->plan)) {
        free(r);
        evhttp_send_error(client, 400, NULL);
        return;
    }
    r->client = client;
    proceed(r);
}

static void poll_leaf(evutil_socket_t fd, short what, void *arg)
{
    static unsigned polls;
    struct request *r = calloc(1, sizeof *r);
    (void)arg;
    snprintf(r->plan.id, sizeof r->plan.id, "p%06u", polls++ % 1000000u);
    r->plan.calls = r->plan.ms = 1;
    call(fd, what, r);
}

int main(int argc, char **argv)
{
    if (argc != 2)
        return 2;
    base = event_base_new();
    struct evhttp *http = evhttp_new(base);
    evhttp_set_gencb(http, asked, NULL);
    if (evhttp_bind_socket(http, "127.0.0.1", (uint16_t)atoi(argv[1])) != 0)
        return 1;
    struct timeval often = {0, 10000};
    event_add(event_new(base, -1, EV_PERSIST, poll_leaf, NULL), &often);
    return event_base_dispatch(base);
}
