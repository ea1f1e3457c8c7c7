/* client.c - how the commands ask a running exporter: see client.h. */
#include "cli/client.h"

#include "cli/cli.h"
#include "view/text.h"
#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ANSWER_MAX (256u << 20)

int client_open(struct client *client)
{
    memset(client, 0, sizeof(*client));
    if (exporter_config_load_client(&client->config, stderr) > 0) {
        exporter_config_free(&client->config);
        return EXIT_USAGE;
    }
    if (client->config.http_host == NULL) {
        fputs("otshim: OTSHIM_HTTP=off: the exporter cannot be asked; set OTSHIM_HTTP=host:port to where it listens\n", stderr);
        exporter_config_free(&client->config);
        return EXIT_USAGE;
    }
    /* An exporter that listens everywhere is asked on the loopback address. */
    const char *host = client->config.http_host;
    if (strcmp(host, "0.0.0.0") == 0 || strcmp(host, "*") == 0)
        host = "127.0.0.1";
    else if (strcmp(host, "::") == 0)
        host = "::1";
    snprintf(client->address, sizeof(client->address), strchr(host, ':') != NULL ? "[%.255s]:%u" : "%.255s:%u", host,
             client->config.http_port);
    client->timeout_ms = 15000;
    return EXIT_OK;
}

void client_close(struct client *client)
{
    exporter_config_free(&client->config);
}

struct body {
    char *bytes;
    size_t len;
};

static size_t take(char *bytes, size_t size, size_t count, void *arg)
{
    struct body *body = arg;
    size_t len = size * count;
    if (len > ANSWER_MAX - body->len)
        return 0;
    char *grown = realloc(body->bytes, body->len + len + 1);
    if (grown == NULL)
        return 0;
    memcpy(grown + body->len, bytes, len);
    body->bytes = grown;
    body->len += len;
    grown[body->len] = 0;
    return len;
}

/* The HTTP status, or 0 with why. */
static long request(const struct client *client, const char *path, struct body *body, char *why, size_t why_size)
{
    char url[4096], curl_error[CURL_ERROR_SIZE] = "";
    long status = 0;
    CURL *curl = curl_easy_init();
    if (curl == NULL) {
        snprintf(why, why_size, "out of memory");
        return 0;
    }
    snprintf(url, sizeof(url), "http://%s%s", client->address, path);
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http");
    /* http_proxy in the environment is for the world, not for the exporter next door. */
    curl_easy_setopt(curl, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, client->timeout_ms < 2000 ? client->timeout_ms : 2000L);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, client->timeout_ms);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, curl_error);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, body);
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "otshim/" OTSHIM_VERSION);
    CURLcode code = curl_easy_perform(curl);
    if (code == CURLE_OK) {
        curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    } else if (code == CURLE_COULDNT_CONNECT || code == CURLE_COULDNT_RESOLVE_HOST) {
        snprintf(why, why_size, "no exporter answers at http://%s", client->address);
    } else {
        snprintf(why, why_size, "the exporter at http://%s does not answer as it should: %s", client->address,
                 curl_error[0] != 0 ? curl_error : curl_easy_strerror(code));
    }
    curl_easy_cleanup(curl);
    return status;
}

json_t *client_get(struct client *client, const char *path, long *status, char *why, size_t why_size)
{
    struct body body = {0};
    json_error_t error;
    json_t *json = NULL;
    why[0] = 0;
    *status = request(client, path, &body, why, why_size);
    if (*status != 0) {
        json = body.bytes != NULL ? json_loadb(body.bytes, body.len, 0, &error) : NULL;
        const char *message = json_string_value(json_object_get(json, "error"));
        if (*status != 200 || json == NULL) {
            if (message != NULL)
                text_clean(why, why_size, message, SIZE_MAX, true);
            else
                snprintf(why, why_size,
                         "what answers at http://%s is no otshim exporter (status %ld%s); OTSHIM_HTTP says where it is",
                         client->address, *status, json == NULL ? ", no JSON" : "");
            json_decref(json);
            json = NULL;
        }
    }
    free(body.bytes);
    return json;
}

bool client_healthy(struct client *client)
{
    struct body body = {0};
    char why[512];
    bool healthy =
        request(client, "/healthz", &body, why, sizeof(why)) == 200 && body.bytes != NULL && strncmp(body.bytes, "ok", 2) == 0;
    free(body.bytes);
    return healthy;
}

void client_parameter(char *path, size_t size, const char *key, const char *value)
{
    size_t len = strlen(path);
    char *encoded = curl_easy_escape(NULL, value, 0);
    snprintf(path + len, size - len, "%c%s=%s", strchr(path, '?') != NULL ? '&' : '?', key, encoded != NULL ? encoded : "");
    curl_free(encoded);
}

void client_print_json(const json_t *json, bool indented)
{
    json_dumpf(json, stdout, (indented ? JSON_INDENT(2) : JSON_COMPACT) | (isatty(1) == 1 ? JSON_ENSURE_ASCII : 0));
    putchar('\n');
}

int client_complain(const char *why, long status)
{
    fprintf(stderr, "otshim: %s%s\n", why,
            status == 0 ? "; start one with \"otshim exporter\", or set OTSHIM_HTTP to the host:port of the one that runs" : "");
    return EXIT_FAILED;
}
