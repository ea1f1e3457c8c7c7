/* otlp.h - OTEL_EXPORTER_OTLP_*: where spans go, and how (OpenTelemetry specification, "OpenTelemetry Protocol Exporter"). */
#ifndef OTSHIM_EXPORTER_CONFIG_OTLP_H
#define OTSHIM_EXPORTER_CONFIG_OTLP_H

#include "config/config.h"
#include "config/value.h"

void config_otlp_load(struct exporter_config *config, struct loading *loading);

#endif
