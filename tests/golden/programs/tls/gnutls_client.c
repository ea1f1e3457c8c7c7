/* Requests by GnuTLS, which checks the certificate during the handshake; the answers go to standard output.
 *
 *   gnutls_client PORT PATH [AUTHORITY [BYTES]]
 *
 * One GET, read by packets; with BYTES, two POSTs of so many bytes: every record is refused once ("again"), and the call that repeats it does not name its
 * bytes. */
#include <arpa/inet.h>
#include <errno.h>
#include <gnutls/gnutls.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void get(gnutls_session_t session, const char *path)
{
    char request[300];
    snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", path);
    gnutls_record_send(session, request, strlen(request));
    gnutls_packet_t packet = NULL;
    ssize_t got;
    while ((got = gnutls_record_recv_packet(session, &packet)) > 0 || (got < 0 && !gnutls_error_is_fatal((int)got))) {
        gnutls_datum_t data = {NULL, 0};
        if (got < 0)
            continue; /* a session ticket */
        gnutls_packet_get(packet, &data, NULL);
        fwrite(data.data, 1, data.size, stdout);
        gnutls_packet_deinit(packet);
    }
    gnutls_bye(session, GNUTLS_SHUT_WR);
}

static gnutls_session_t session;

static ssize_t push_every_second_time(gnutls_transport_ptr_t fd, const void *bytes, size_t len)
{
    static bool refused;
    refused = !refused;
    if (refused) {
        gnutls_transport_set_errno(session, EAGAIN);
        return -1;
    }
    return send((int)(long)fd, bytes, len, MSG_NOSIGNAL);
}

static bool ends_well(const char *answer, size_t len)
{
    static const char end[] = " bytes\n";
    return len >= sizeof end - 1 && memcmp(answer + len - (sizeof end - 1), end, sizeof end - 1) == 0;
}

static void post(const char *path, size_t bytes)
{
    char *request = calloc(1, bytes + 300), answer[4096];
    size_t len =
        (size_t)sprintf(request, "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %zu\r\n\r\n", path, bytes) + bytes;
    unsigned calls = 0, again = 0;
    for (size_t sent = 0; sent < len; calls++) {
        ssize_t taken = gnutls_record_send(session, request + sent, len - sent);
        for (; taken == GNUTLS_E_AGAIN; again++)
            taken = gnutls_record_send(session, NULL, 0);
        if (taken <= 0)
            exit(3);
        sent += (size_t)taken;
    }
    free(request);
    len = 0;
    while (len < sizeof answer && !ends_well(answer, len)) {
        ssize_t got = gnutls_record_recv(session, answer + len, sizeof answer - len);
        if (got == 0 || (got < 0 && gnutls_error_is_fatal((int)got)))
            break;
        len += got > 0 ? (size_t)got : 0;
    }
    fwrite(answer, 1, len, stdout);
    fprintf(stderr, "%u calls, %s repeated\n", calls, again >= calls ? "each" : "not each");
}

int main(int argc, char **argv)
{
    gnutls_certificate_credentials_t credentials;
    if (argc < 3)
        return 2;
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(argv[1])), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) != 0)
        return 2;
    gnutls_certificate_allocate_credentials(&credentials);
    if (argc > 3)
        gnutls_certificate_set_x509_trust_file(credentials, argv[3], GNUTLS_X509_FMT_PEM);
    gnutls_init(&session, GNUTLS_CLIENT);
    gnutls_set_default_priority(session);
    gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, credentials);
    gnutls_server_name_set(session, GNUTLS_NAME_DNS, "localhost", strlen("localhost"));
    gnutls_session_set_verify_cert(session, "localhost", 0);
    gnutls_transport_set_int(session, fd);
    if (argc > 4)
        gnutls_transport_set_push_function(session, push_every_second_time);
    int result;
    while ((result = gnutls_handshake(session)) < 0 && !gnutls_error_is_fatal(result))
        ;
    if (result < 0) {
        fprintf(stderr, "%s\n", gnutls_strerror(result));
    } else if (argc > 4) {
        post(argv[2], strtoul(argv[4], NULL, 10));
        post(argv[2], strtoul(argv[4], NULL, 10));
    } else {
        get(session, argv[2]);
    }
    gnutls_deinit(session);
    gnutls_certificate_free_credentials(credentials);
    close(fd);
    return result < 0;
}
