/* client.h - how the commands ask a running exporter: HTTP GET on the address that OTSHIM_HTTP names. */
#ifndef OTSHIM_EXPORTER_CLIENT_H
#define OTSHIM_EXPORTER_CLIENT_H

#include "config/config.h"
#include <jansson.h>
#include <stdbool.h>

struct client {
    struct exporter_config config;
    char address[300]; /* host:port */
    long timeout_ms;
};

/* Reads the environment. 0, or the exit status: everything has been said on stderr. */
int client_open(struct client *client);
void client_close(struct client *client);

/* GET path (encoded by the caller). NULL on failure, with a line for people in why; status is then the HTTP status, 0 if nobody answered. */
json_t *client_get(struct client *client, const char *path, long *status, char *why, size_t why_size);
/* Does an exporter answer? */
bool client_healthy(struct client *client);

/* Appends "key=value" to a path of `size` bytes, percent-encoded, after '?' or '&'. */
void client_parameter(char *path, size_t size, const char *key, const char *value);

/* Writes JSON and a newline to stdout. On a terminal everything beyond ASCII is escaped: names in it may drive the terminal. */
void client_print_json(const json_t *json, bool indented);

/* "otshim: why", on stderr, with what could help when nobody answered. Returns the exit status. */
int client_complain(const char *why, long status);

#endif
