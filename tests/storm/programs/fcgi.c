/* fcgi.c - a FastCGI program on libfcgi, 16 threads, each with a request at a time. Argument: the port.
 *
 *   close   a connection for each call */
#include "storm.h"
#include <fcgiapp.h>
#include <pthread.h>
#include <signal.h>

static int listener;

static bool work(const struct plan *plan)
{
    bool good = true;
    for (int n = 0; n < plan->calls && good; n++) {
        usleep(storm_delay_us(plan));
        good = storm_call(plan, n);
    }
    return good;
}

static void *serve(void *unused)
{
    static pthread_mutex_t one_accepts = PTHREAD_MUTEX_INITIALIZER;
    FCGX_Request request;
    (void)unused;
    FCGX_InitRequest(&request, listener, 0);
    for (;;) {
        char head[STORM_HEAD];
        struct plan plan;
        pthread_mutex_lock(&one_accepts);
        int accepted = FCGX_Accept_r(&request);
        pthread_mutex_unlock(&one_accepts);
        if (accepted < 0)
            continue;
        snprintf(head, sizeof head, "GET %s HTTP/1.1\r\n", FCGX_GetParam("REQUEST_URI", request.envp));
        bool good = storm_plan(head, &plan) && work(&plan);
        FCGX_FPrintF(request.out, "Status: %s\r\nContent-Type: text/plain\r\n\r\n%s\n", good ? "200 OK" : "502 Bad Gateway",
                     plan.id);
        FCGX_Finish_r(&request);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    char at[64];
    if (argc != 2 || FCGX_Init() != 0)
        return 2;
    signal(SIGTERM, SIG_DFL); /* libfcgi's own handler ends nothing before the next request */
    snprintf(at, sizeof at, "127.0.0.1:%s", argv[1]);
    listener = FCGX_OpenSocket(at, 511);
    if (listener < 0) {
        perror(at);
        return 1;
    }
    for (int i = 0; i < 15; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, serve, NULL) != 0)
            return 1;
    }
    serve(NULL);
}
