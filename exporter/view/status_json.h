/* status_json.h - the state of the exporter as one JSON object, for /api/status and `otshim status --json`. */
#ifndef OTSHIM_EXPORTER_STATUS_JSON_H
#define OTSHIM_EXPORTER_STATUS_JSON_H

#include "view/api.h"
#include <jansson.h>

/* A new reference; NULL when memory is short. */
json_t *status_json(const struct api *api);

#endif
