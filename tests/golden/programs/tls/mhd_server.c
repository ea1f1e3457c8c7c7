/* An https server on libmicrohttpd, which speaks TLS by GnuTLS. /echo answers with the traceparent that came, anything else with its path; of a POST, with
 * the traceparent and the number of bytes that came.
 *
 *   mhd_server PORT CERTIFICATE KEY */
#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char *file(const char *path)
{
    FILE *f = fopen(path, "r");
    char *text = calloc(1, 20000);
    if (f == NULL || fread(text, 1, 19999, f) == 0)
        exit(2);
    fclose(f);
    return text;
}

static enum MHD_Result answer(void *none, struct MHD_Connection *connection, const char *path, const char *method,
                              const char *version, const char *data, size_t *len, void **state)
{
    (void)none, (void)version, (void)data;
    size_t *received = *state;
    if (received == NULL) {
        *state = calloc(1, sizeof *received);
        return MHD_YES;
    }
    if (*len > 0) {
        *received += *len;
        *len = 0;
        return MHD_YES;
    }
    char text[200];
    const char *parent = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "traceparent");
    if (strcmp(method, "POST") == 0)
        snprintf(text, sizeof text, "%s %zu bytes\n", parent != NULL ? parent : "none", *received);
    else
        snprintf(text, sizeof text, "ok %s\n", strcmp(path, "/echo") != 0 ? path : parent != NULL ? parent : "none");
    struct MHD_Response *response = MHD_create_response_from_buffer(strlen(text), text, MHD_RESPMEM_MUST_COPY);
    enum MHD_Result queued = MHD_queue_response(connection, 200, response);
    MHD_destroy_response(response);
    free(received);
    return queued;
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    struct MHD_Daemon *daemon =
        MHD_start_daemon(MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_TLS, (unsigned short)atoi(argv[1]), NULL, NULL, answer, NULL,
                         MHD_OPTION_HTTPS_MEM_CERT, file(argv[2]), MHD_OPTION_HTTPS_MEM_KEY, file(argv[3]), MHD_OPTION_END);
    if (daemon == NULL)
        return 1;
    for (;;)
        pause();
}
