/* libuv.c - a server and its calls on one libuv loop. Argument: the port.
 *
 *   plain   calls as soon as the request has been read
 *   timer   waits for a timer before each call
 *   work    lets a thread of libuv's pool do something before each call
 *   late    answers first, and calls then
 *
 * Besides, it makes a call of its own every 10 milliseconds that no request asked for. */
#include "storm.h"
#include <uv.h>

static uv_loop_t *loop;
static struct sockaddr_in leaf;

struct client {
    uv_tcp_t tcp;
    struct request *request;
    size_t len;
    bool closing;
    char buffer[STORM_HEAD];
};

struct request {
    struct plan plan;
    struct client *client; /* NULL: it has gone away, or there is none */
    int number;
    bool answered;
    uv_timer_t timer;
    uv_work_t work;
};

struct call {
    uv_tcp_t tcp;
    uv_connect_t connect;
    uv_write_t write;
    struct request *request;
    size_t len;
    char head[512], buffer[STORM_HEAD];
};

struct answer {
    uv_write_t write;
    struct client *client;
    bool keep;
    char head[512];
};

static void proceed(struct request *r);

static void client_closed(uv_handle_t *handle)
{
    free(handle->data);
}

static void client_close(struct client *c)
{
    if (c->request != NULL)
        c->request->client = NULL;
    c->request = NULL;
    if (!c->closing)
        uv_close((uv_handle_t *)&c->tcp, client_closed);
    c->closing = true;
}

static void answered(uv_write_t *write, int status)
{
    struct answer *a = write->data;
    if (status == 0 && !a->keep)
        client_close(a->client);
    free(a);
}

static void answer(struct request *r, bool good)
{
    struct client *c = r->client;
    r->answered = true;
    r->client = NULL;
    if (c == NULL)
        return;
    c->request = NULL;
    struct answer *a = calloc(1, sizeof *a);
    a->client = c;
    a->keep = r->plan.keep;
    a->write.data = a;
    uv_buf_t buf = uv_buf_init(a->head, (unsigned)storm_response(a->head, sizeof a->head, &r->plan, good));
    if (uv_write(&a->write, (uv_stream_t *)&c->tcp, &buf, 1, answered) != 0)
        free(a);
}

static void timer_closed(uv_handle_t *handle)
{
    free(handle->data);
}

static void finish(struct request *r, bool good)
{
    if (!r->answered)
        answer(r, good);
    uv_close((uv_handle_t *)&r->timer, timer_closed);
}

static void call_closed(uv_handle_t *handle)
{
    free(handle->data);
}

static void call_end(struct call *c, bool good)
{
    struct request *r = c->request;
    uv_close((uv_handle_t *)&c->tcp, call_closed);
    r->number++;
    if (good)
        proceed(r);
    else
        finish(r, false);
}

static void room(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    struct call *c = handle->data;
    (void)suggested;
    *buf = uv_buf_init(c->buffer + c->len, (unsigned)(STORM_HEAD - 1 - c->len));
}

static void response(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct call *c = stream->data;
    (void)buf;
    if (n == 0)
        return;
    if (n < 0) {
        call_end(c, false);
        return;
    }
    c->len += (size_t)n;
    c->buffer[c->len] = '\0';
    if (storm_message(c->buffer, c->len) > 0)
        call_end(c, strstr(c->buffer, " 200 ") != NULL);
}

static void connected(uv_connect_t *connect, int status)
{
    struct call *c = connect->data;
    if (status == UV_ECANCELED)
        return;
    if (status != 0) {
        call_end(c, false);
        return;
    }
    int len = storm_request(c->head, sizeof c->head, &c->request->plan, c->request->number, false);
    uv_buf_t buf = uv_buf_init(c->head, (unsigned)len);
    uv_write(&c->write, (uv_stream_t *)&c->tcp, &buf, 1, NULL);
    uv_read_start((uv_stream_t *)&c->tcp, room, response);
}

static void call(struct request *r)
{
    struct call *c = calloc(1, sizeof *c);
    c->request = r;
    c->tcp.data = c->connect.data = c;
    uv_tcp_init(loop, &c->tcp);
    uv_tcp_nodelay(&c->tcp, 1);
    uv_tcp_connect(&c->connect, &c->tcp, (struct sockaddr *)&leaf, connected);
}

static void timed_out(uv_timer_t *timer)
{
    call(timer->data);
}

static void work(uv_work_t *req)
{
    (void)req;
    usleep(200);
}

static void worked(uv_work_t *req, int status)
{
    (void)status;
    call(req->data);
}

/* The next step of a request: a call, perhaps by way of a timer or a thread, or the answer. */
static void proceed(struct request *r)
{
    if (strcmp(r->plan.kind, "late") == 0 && !r->answered)
        answer(r, true);
    if (r->number >= r->plan.calls) {
        finish(r, true);
    } else if (strcmp(r->plan.kind, "timer") == 0) {
        uv_timer_start(&r->timer, timed_out, storm_delay_us(&r->plan) / 1000, 0);
    } else if (strcmp(r->plan.kind, "work") == 0) {
        r->work.data = r;
        uv_queue_work(loop, &r->work, work, worked);
    } else {
        call(r);
    }
}

static struct request *request_new(void)
{
    struct request *r = calloc(1, sizeof *r);
    uv_timer_init(loop, &r->timer);
    r->timer.data = r;
    return r;
}

static void client_room(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    struct client *c = handle->data;
    (void)suggested;
    *buf = uv_buf_init(c->buffer + c->len, (unsigned)(STORM_HEAD - 1 - c->len));
}

static void asked(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct client *c = stream->data;
    (void)buf;
    if (n == 0)
        return;
    if (n < 0) {
        client_close(c);
        return;
    }
    c->len += (size_t)n;
    c->buffer[c->len] = '\0';
    if (storm_message(c->buffer, c->len) == 0)
        return;
    c->len = 0;
    struct request *r = request_new();
    r->client = c;
    c->request = r;
    if (storm_plan(c->buffer, &r->plan))
        proceed(r);
    else
        client_close(c);
}

static void accepted(uv_stream_t *server, int status)
{
    struct client *c = calloc(1, sizeof *c);
    (void)status;
    c->tcp.data = c;
    uv_tcp_init(loop, &c->tcp);
    uv_tcp_nodelay(&c->tcp, 1);
    if (uv_accept(server, (uv_stream_t *)&c->tcp) == 0)
        uv_read_start((uv_stream_t *)&c->tcp, client_room, asked);
    else
        client_close(c);
}

/* A call that no request asked for: a request without a client, with a number for its id. */
static void poll_leaf(uv_timer_t *timer)
{
    static unsigned polls;
    struct request *r = request_new();
    (void)timer;
    snprintf(r->plan.id, sizeof r->plan.id, "p%06u", polls++ % 1000000u);
    r->plan.calls = r->plan.ms = 1;
    proceed(r);
}

int main(int argc, char **argv)
{
    uv_tcp_t server;
    uv_timer_t often;
    if (argc != 2)
        return 2;
    loop = uv_default_loop();
    leaf = storm_leaf();
    struct sockaddr_in at = storm_address(atoi(argv[1]));
    uv_tcp_init(loop, &server);
    uv_tcp_bind(&server, (struct sockaddr *)&at, 0);
    if (uv_listen((uv_stream_t *)&server, 511, accepted) != 0)
        return 1;
    uv_timer_init(loop, &often);
    uv_timer_start(&often, poll_leaf, 10, 10);
    return uv_run(loop, UV_RUN_DEFAULT);
}
