/* test_exporter_config.c - the environment: what each variable means, and that each mistake is one line that helps. */
#include "config/config.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static char complaints[4096];

/* Loads with these variables ("NAME=value") and no others of ours. */
static int load_as(struct exporter_config *config, bool client, const char *const *variables)
{
    char text[4096] = "";
    clearenv();
    for (; *variables; variables++)
        putenv((char *)*variables);
    FILE *out = fmemopen(text, sizeof(text), "w");
    int mistakes = client ? exporter_config_load_client(config, out) : exporter_config_load(config, out);
    fclose(out);
    snprintf(complaints, sizeof(complaints), "%s", text);
    int lines = 0;
    for (const char *p = complaints; *p; p++)
        lines += *p == '\n';
    assert_int_equal(lines, mistakes);
    return mistakes;
}
#define LOAD(config, ...) load_as(config, false, (const char *const[]){__VA_ARGS__, NULL})

static void defaults(void **state)
{
    struct exporter_config config;
    (void)state;
    assert_int_equal(LOAD(&config, "EMPTY="), 0);
    assert_int_equal(config.protocol, OTLP_NONE);
    assert_null(config.url);
    assert_int_equal(config.timeout_ms, 10000);
    assert_false(config.gzip);
    assert_int_equal(config.schedule_delay_ms, 1000);
    assert_int_equal(config.max_queue_spans, 65536);
    assert_int_equal(config.max_batch_spans, 512);
    assert_int_equal(config.retry_deadline_ms, 300000);
    assert_int_equal(config.socket_mode, 0666);
    assert_string_equal(config.http_host, "127.0.0.1");
    assert_int_equal(config.http_port, 4320);
    assert_int_equal(config.recent_traces, 1000);
    assert_int_equal(config.max_processes_uid, 4096);
    assert_int_equal(config.log_level, 1);
    assert_null(config.log_file);
    assert_int_equal(config.shutdown_ms, 5000);
    exporter_config_free(&config);
}

#define GRPC "/opentelemetry.proto.collector.trace.v1.TraceService/Export"

static void endpoints(void **state)
{
    static const struct {
        const char *variables[4];
        enum otlp_protocol protocol;
        const char *url;
    } cases[] = {
        {{"OTEL_EXPORTER_OTLP_ENDPOINT=http://tempo:4317"}, OTLP_GRPC, "http://tempo:4317" GRPC},
        {{"OTEL_EXPORTER_OTLP_ENDPOINT=http://tempo:4317/"}, OTLP_GRPC, "http://tempo:4317" GRPC},
        {{"OTEL_EXPORTER_OTLP_ENDPOINT=HTTPS://tempo:4317"}, OTLP_GRPC, "https://tempo:4317" GRPC},
        {{"OTEL_EXPORTER_OTLP_ENDPOINT=http://tempo:4318"}, OTLP_HTTP_PROTOBUF, "http://tempo:4318/v1/traces"},
        {{"OTEL_EXPORTER_OTLP_ENDPOINT=http://tempo"}, OTLP_HTTP_PROTOBUF, "http://tempo/v1/traces"},
        {{"OTEL_EXPORTER_OTLP_ENDPOINT=https://host/otlp"}, OTLP_HTTP_PROTOBUF, "https://host/otlp/v1/traces"},
        {{"OTEL_EXPORTER_OTLP_ENDPOINT=https://host/otlp/"}, OTLP_HTTP_PROTOBUF, "https://host/otlp/v1/traces"},
        {{"OTEL_EXPORTER_OTLP_ENDPOINT=http://[::1]:4317"}, OTLP_GRPC, "http://[::1]:4317" GRPC},
        {{"OTEL_EXPORTER_OTLP_ENDPOINT=http://u:p@host:4318"}, OTLP_HTTP_PROTOBUF, "http://host:4318/v1/traces"},
        {{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://host:4318"}, OTLP_HTTP_PROTOBUF, "http://host:4318/"},
        {{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://host:4318/x?y=1", "OTEL_EXPORTER_OTLP_ENDPOINT=http://other:4317"},
         OTLP_HTTP_PROTOBUF,
         "http://host:4318/x?y=1"},
        {{"OTEL_EXPORTER_OTLP_ENDPOINT=http://tempo:9999", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc"},
         OTLP_GRPC,
         "http://tempo:9999" GRPC},
        {{"OTEL_EXPORTER_OTLP_ENDPOINT=http://tempo:4317", "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf"},
         OTLP_HTTP_PROTOBUF,
         "http://tempo:4317/v1/traces"},
        {{"OTEL_EXPORTER_OTLP_ENDPOINT=http://tempo:4317", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc",
          "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=http/protobuf"},
         OTLP_HTTP_PROTOBUF,
         "http://tempo:4317/v1/traces"},
        {{"OTEL_EXPORTER_OTLP_ENDPOINT=tempo:4317"}, OTLP_GRPC, "https://tempo:4317" GRPC},
        {{"OTEL_EXPORTER_OTLP_ENDPOINT=tempo:4317", "OTEL_EXPORTER_OTLP_INSECURE=true"}, OTLP_GRPC, "http://tempo:4317" GRPC},
        {{"OTEL_EXPORTER_OTLP_ENDPOINT=tempo:9", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc", "OTEL_EXPORTER_OTLP_TRACES_INSECURE=TRUE"},
         OTLP_GRPC,
         "http://tempo:9" GRPC},
        {{"OTEL_EXPORTER_OTLP_ENDPOINT=https://tempo:4317", "OTEL_EXPORTER_OTLP_INSECURE=true"},
         OTLP_GRPC,
         "https://tempo:4317" GRPC},
        {{"OTEL_TRACES_EXPORTER=none", "OTEL_EXPORTER_OTLP_ENDPOINT=http://tempo:4317"}, OTLP_NONE, NULL},
        {{"OTEL_TRACES_EXPORTER=otlp"}, OTLP_HTTP_PROTOBUF, "http://localhost:4318/v1/traces"},
        {{"OTEL_TRACES_EXPORTER=otlp", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc"}, OTLP_GRPC, "http://localhost:4317" GRPC},
        {{"OTEL_EXPORTER_OTLP_PROTOCOL=grpc"}, OTLP_NONE, NULL},
        {{"OTEL_EXPORTER_OTLP_ENDPOINT="}, OTLP_NONE, NULL},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct exporter_config config;
        assert_int_equal(load_as(&config, false, cases[i].variables), 0);
        assert_int_equal(config.protocol, cases[i].protocol);
        if (cases[i].url)
            assert_string_equal(config.url, cases[i].url);
        else
            assert_null(config.url);
        exporter_config_free(&config);
    }
}

static void mistakes(void **state)
{
    static const struct {
        const char *variable, *says;
    } cases[] = {
        {"OTEL_EXPORTER_OTLP_PROTOCOL=http/json", "http/protobuf"},
        {"OTEL_EXPORTER_OTLP_PROTOCOL=tcp", "write grpc or http/protobuf"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT=tempo:4318", "write http://tempo:4318"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT=grpc://tempo:4317", "write http://tempo:4317"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT=unix:///x", "neither http nor https"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT=http://", "not a URL"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT=http://a b:4318", "not a URL"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT=http://tempo:99999", "not a URL"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT=http://tempo:4317/v1/traces", "gRPC has no path; write http://tempo:4317"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT=http://tempo:4318?x=1", "TRACES_ENDPOINT"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT=http://tempo:4318/#x", "leave it out"},
        {"OTEL_EXPORTER_OTLP_INSECURE=maybe", "neither true nor false"},
        {"OTEL_EXPORTER_OTLP_TIMEOUT=10s", "milliseconds"},
        {"OTEL_EXPORTER_OTLP_TIMEOUT=-1", "milliseconds"},
        {"OTEL_EXPORTER_OTLP_TRACES_TIMEOUT=99999999999999999999999", "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT="},
        {"OTEL_EXPORTER_OTLP_COMPRESSION=zstd", "gzip or none"},
        {"OTEL_EXPORTER_OTLP_HEADERS=novalue", "entry 1 has no '='"},
        {"OTEL_EXPORTER_OTLP_HEADERS=a=1,b c=2", "entry 2"},
        {"OTEL_EXPORTER_OTLP_HEADERS=a=%0d%0ax: y", "value of a"},
        {"OTEL_EXPORTER_OTLP_HEADERS=a=100%", "%25"},
        {"OTEL_EXPORTER_OTLP_HEADERS=Content-Type=x", "set by the exporter itself"},
        {"OTEL_EXPORTER_OTLP_HEADERS=grpc-timeout=1S", "set by the exporter itself"},
        {"OTEL_EXPORTER_OTLP_CERTIFICATE=/nowhere/ca.pem", "No such file"},
        {"OTEL_EXPORTER_OTLP_CERTIFICATE=/tmp", "a directory"},
        {"OTEL_EXPORTER_OTLP_CLIENT_KEY=/dev/null", "CLIENT_CERTIFICATE"},
        {"OTEL_TRACES_EXPORTER=jaeger", "otlp and none"},
        {"OTEL_BSP_SCHEDULE_DELAY=soon", "milliseconds"},
        {"OTEL_BSP_MAX_QUEUE_SIZE=0", "from 1 to"},
        {"OTEL_BSP_MAX_EXPORT_BATCH_SIZE=70000", "OTEL_BSP_MAX_QUEUE_SIZE (65536)"},
        {"OTSHIM_SOCKET=relative.sock", "begins with /"},
        {"OTSHIM_SOCKET_MODE=888", "octal"},
        {"OTSHIM_SOCKET_MODE=07777", "octal"},
        {"OTSHIM_HTTP=4320", "host:port"},
        {"OTSHIM_HTTP=host:", "host:port"},
        {"OTSHIM_HTTP=::1:4320", "[::1]:4320"},
        {"OTSHIM_HTTP=127.0.0.1:65536", "host:port"},
        {"OTSHIM_TRACES=many", "traces"},
        {"OTSHIM_MAX_PROCESSES=0", "processes"},
        {"OTSHIM_LOG=verbose", "error, info or debug"},
        {"OTSHIM_SHUTDOWN_TIMEOUT=x", "milliseconds"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct exporter_config config;
        if (LOAD(&config, cases[i].variable) != 1 || !strstr(complaints, cases[i].says))
            fail_msg("%s: complaint is \"%s\", expected \"%s\" in it", cases[i].variable, complaints, cases[i].says);
        size_t name = strcspn(cases[i].variable, "=");
        assert_int_equal(strncmp(complaints, cases[i].variable, name), 0);
        exporter_config_free(&config);
    }
    struct exporter_config config;
    assert_int_equal(LOAD(&config, "OTSHIM_LOG=x", "OTSHIM_TRACES=y", "OTEL_EXPORTER_OTLP_ENDPOINT=z"), 3);
    exporter_config_free(&config);
}

static void secrets_stay_out_of_complaints(void **state)
{
    struct exporter_config config;
    (void)state;
    assert_int_equal(LOAD(&config, "OTEL_EXPORTER_OTLP_HEADERS=authorization=sesame%zz,x"), 2);
    assert_null(strstr(complaints, "sesame"));
    exporter_config_free(&config);
    assert_int_equal(LOAD(&config, "OTEL_EXPORTER_OTLP_ENDPOINT=http://user:sesame@tempo:4317/path"), 1);
    assert_null(strstr(complaints, "sesame"));
    exporter_config_free(&config);
    assert_int_equal(LOAD(&config, "OTEL_EXPORTER_OTLP_ENDPOINT=user:sesame@tempo:99"), 1);
    assert_null(strstr(complaints, "sesame"));
    exporter_config_free(&config);
}

static void headers(void **state)
{
    struct exporter_config config;
    (void)state;
    assert_int_equal(LOAD(&config, "OTEL_EXPORTER_OTLP_HEADERS= Authorization = Basic%20eA==,, x-empty=,X=a%2Cb "), 0);
    assert_int_equal(config.header_count, 3);
    assert_string_equal(config.headers[0].name, "authorization");
    assert_string_equal(config.headers[0].value, "Basic eA==");
    assert_string_equal(config.headers[1].value, "");
    assert_string_equal(config.headers[2].name, "x");
    assert_string_equal(config.headers[2].value, "a,b");
    exporter_config_free(&config);
}

static void credentials_in_the_address_become_a_header(void **state)
{
    static const char *const cases[][2] = {
        {"OTEL_EXPORTER_OTLP_ENDPOINT=http://foo:bar@h:4318", "Basic Zm9vOmJhcg=="},
        {"OTEL_EXPORTER_OTLP_ENDPOINT=http://fo%6f:b%40r@h:4318", "Basic Zm9vOmJAcg=="},
        {"OTEL_EXPORTER_OTLP_ENDPOINT=http://foo@h:4318", "Basic Zm9vOg=="},
        {"OTEL_EXPORTER_OTLP_ENDPOINT=http://foo:ba@h:4317", "Basic Zm9vOmJh"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct exporter_config config;
        assert_int_equal(LOAD(&config, cases[i][0]), 0);
        assert_null(strchr(config.url, '@'));
        assert_int_equal(config.header_count, 1);
        assert_string_equal(config.headers[0].name, "authorization");
        assert_string_equal(config.headers[0].value, cases[i][1]);
        exporter_config_free(&config);
    }
}

static void our_own(void **state)
{
    struct exporter_config config;
    (void)state;
    assert_int_equal(LOAD(&config, "OTSHIM_SOCKET=/tmp/x.sock", "OTSHIM_SOCKET_MODE=0660", "OTSHIM_HTTP=[::1]:80",
                          "OTSHIM_LOG=debug", "OTSHIM_LOG_FILE=/tmp/log", "OTEL_BSP_MAX_QUEUE_SIZE=100",
                          "OTEL_EXPORTER_OTLP_COMPRESSION=gzip"),
                     0);
    assert_string_equal(config.socket_path, "/tmp/x.sock");
    assert_int_equal(config.socket_mode, 0660);
    assert_string_equal(config.http_host, "::1");
    assert_int_equal(config.http_port, 80);
    assert_int_equal(config.log_level, 2);
    assert_string_equal(config.log_file, "/tmp/log");
    assert_int_equal(config.max_queue_spans, 100);
    assert_int_equal(config.max_batch_spans, 100);
    assert_true(config.gzip);
    exporter_config_free(&config);
    assert_int_equal(LOAD(&config, "OTSHIM_HTTP=:4320"), 0);
    assert_string_equal(config.http_host, "0.0.0.0");
    exporter_config_free(&config);
    assert_int_equal(LOAD(&config, "OTSHIM_HTTP=off"), 0);
    assert_null(config.http_host);
    exporter_config_free(&config);
}

static void sockets_of_users(void **state)
{
    struct exporter_config config;
    char directory[] = "/tmp/otshim-test-XXXXXX", variable[64], path[128];
    (void)state;
    assert_non_null(mkdtemp(directory));
    snprintf(variable, sizeof(variable), "XDG_RUNTIME_DIR=%s", directory);
    snprintf(path, sizeof(path), "%s/otshim", directory);
    mkdir(path, 0700);
    snprintf(path, sizeof(path), "%s/otshim/otshim.sock", directory);
    const char *const variables[] = {variable, NULL};
    assert_int_equal(load_as(&config, false, variables), 0);
    assert_string_equal(config.socket_path, access("/run", W_OK) == 0 ? "/run/otshim/otshim.sock" : path);
    exporter_config_free(&config);
    fclose(fopen(path, "w"));
    assert_int_equal(load_as(&config, true, variables), 0);
    assert_string_equal(config.socket_path, access("/run/otshim/otshim.sock", F_OK) == 0 ? "/run/otshim/otshim.sock" : path);
    exporter_config_free(&config);
    unlink(path);
    *strrchr(path, '/') = '\0';
    rmdir(path);
    rmdir(directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults), cmocka_unit_test(endpoints),
        cmocka_unit_test(mistakes), cmocka_unit_test(secrets_stay_out_of_complaints),
        cmocka_unit_test(headers),  cmocka_unit_test(credentials_in_the_address_become_a_header),
        cmocka_unit_test(our_own),  cmocka_unit_test(sockets_of_users),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
