/* test_exporter_otlp.c - spans to protobuf and JSON. The bytes are read back with protobuf-c here, and with the official classes in
 * tests/deliver. */
#include "otlp/encode.h"
#include "otlp/json.h"
#include "otlp/otlp.pb-c.h"
#include "otlp/utf8.h"
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "otlp/decode.h"

static const char *values[] = {"a", "b\xff"
                                    "c"};
static struct attribute attributes[] = {
    {.key = "text", .type = VALUE_STRING, .value.string = "gr\xc3\xbc\xc3\x9f"},
    {.key = "empty", .type = VALUE_STRING, .value.string = ""},
    {.key = "int", .type = VALUE_INT, .value.integer = INT64_MIN},
    {.key = "zero", .type = VALUE_INT, .value.integer = 0},
    {.key = "no", .type = VALUE_BOOL, .value.boolean = false},
    {.key = "double", .type = VALUE_DOUBLE, .value.number = -0.5},
    {.key = "list", .type = VALUE_STRINGS, .value.strings = {values, 2}},
    {.key = "none", .type = VALUE_STRINGS, .value.strings = {NULL, 0}},
};
enum { ATTRIBUTES = sizeof(attributes) / sizeof(attributes[0]) };
static struct resource services[2] = {
    {.refs = 1000, .service_name = "a", .attributes = attributes, .attribute_count = 1},
    {.refs = 1000, .service_name = "b", .attributes = attributes, .attribute_count = 2},
};
static struct span_event an_event = {.name = "first byte", .time_unix_ns = 15, .attributes = attributes, .attribute_count = 1};

static struct span span_of(uint8_t id, struct resource *resource)
{
    struct span span = {.refs = 1000,
                        .sampled = true,
                        .trace_flags = 1,
                        .trace_state = "a=b",
                        .name = "GET /x",
                        .kind = SPAN_KIND_SERVER,
                        .start_unix_ns = 1700000000000000001,
                        .end_unix_ns = 1700000000000000002,
                        .status_message = "",
                        .resource = resource};
    memset(span.trace_id, 0xab, sizeof(span.trace_id));
    memset(span.span_id, id, sizeof(span.span_id));
    return span;
}

static Otlp__ExportTraceServiceRequest *round_trip(struct span **spans, size_t n)
{
    size_t len;
    uint8_t *bytes = otlp_encode(spans, n, 3, &len);
    assert_non_null(bytes);
    Otlp__ExportTraceServiceRequest *request = otlp__export_trace_service_request__unpack(NULL, len - 3, bytes + 3);
    assert_non_null(request);
    free(bytes);
    return request;
}

static void every_field(void **state)
{
    struct span span = span_of(1, &services[0]);
    struct span *list[] = {&span};
    (void)state;
    span.has_parent = span.parent_is_remote = true;
    memset(span.parent_id, 7, sizeof(span.parent_id));
    span.status = SPAN_STATUS_ERROR;
    span.status_message = "refused";
    span.attributes = attributes;
    span.attribute_count = ATTRIBUTES;
    span.events = &an_event;
    span.event_count = 1;
    Otlp__ExportTraceServiceRequest *request = round_trip(list, 1);
    Otlp__ScopeSpans *scope = request->resource_spans[0]->scope_spans[0];
    Otlp__Span *out = scope->spans[0];
    assert_string_equal(scope->scope->name, "otshim");
    assert_string_equal(scope->scope->version, OTSHIM_VERSION);
    assert_int_equal(out->trace_id.len, 16);
    assert_memory_equal(out->trace_id.data, span.trace_id, 16);
    assert_memory_equal(out->span_id.data, span.span_id, 8);
    assert_int_equal(out->parent_span_id.len, 8);
    assert_memory_equal(out->parent_span_id.data, span.parent_id, 8);
    assert_string_equal(out->trace_state, "a=b");
    assert_string_equal(out->name, "GET /x");
    assert_int_equal(out->kind, OTLP__SPAN_KIND__SPAN_KIND_SERVER);
    assert_int_equal(out->start_time_unix_nano, 1700000000000000001);
    assert_int_equal(out->end_time_unix_nano, 1700000000000000002);
    assert_int_equal(out->flags, 0x301);
    assert_int_equal(out->status->code, OTLP__STATUS_CODE__STATUS_CODE_ERROR);
    assert_string_equal(out->status->message, "refused");
    assert_int_equal(out->n_attributes, ATTRIBUTES);
    assert_string_equal(out->attributes[0]->value->string_value, "gr\xc3\xbc\xc3\x9f");
    assert_int_equal(out->attributes[1]->value->value_case, OTLP__ANY_VALUE__VALUE_STRING_VALUE);
    assert_string_equal(out->attributes[1]->value->string_value, "");
    assert_true(out->attributes[2]->value->int_value == INT64_MIN);
    assert_int_equal(out->attributes[3]->value->value_case, OTLP__ANY_VALUE__VALUE_INT_VALUE);
    assert_int_equal(out->attributes[4]->value->value_case, OTLP__ANY_VALUE__VALUE_BOOL_VALUE);
    assert_true(out->attributes[5]->value->double_value == -0.5);
    assert_int_equal(out->attributes[6]->value->array_value->n_values, 2);
    assert_string_equal(out->attributes[6]->value->array_value->values[1]->string_value, "b\xef\xbf\xbd"
                                                                                         "c");
    assert_int_equal(out->attributes[7]->value->array_value->n_values, 0);
    assert_int_equal(out->n_events, 1);
    assert_string_equal(out->events[0]->name, "first byte");
    assert_int_equal(out->events[0]->time_unix_nano, 15);
    otlp__export_trace_service_request__free_unpacked(request, NULL);
}

static void a_root_has_no_parent_and_no_status(void **state)
{
    struct span span = span_of(1, &services[0]);
    struct span *list[] = {&span};
    (void)state;
    span.has_parent = true; /* of zeros: none */
    span.trace_state = NULL;
    Otlp__ExportTraceServiceRequest *request = round_trip(list, 1);
    Otlp__Span *out = request->resource_spans[0]->scope_spans[0]->spans[0];
    assert_int_equal(out->parent_span_id.len, 0);
    assert_null(out->status);
    assert_string_equal(out->trace_state, "");
    otlp__export_trace_service_request__free_unpacked(request, NULL);
}

static void grouped_by_resource_in_order(void **state)
{
    struct span spans[100], *list[100];
    (void)state;
    for (int i = 0; i < 100; i++) {
        spans[i] = span_of((uint8_t)i, i % 3 == 0 ? NULL : &services[i % 3 - 1]);
        list[i] = &spans[i];
    }
    Otlp__ExportTraceServiceRequest *request = round_trip(list, 100);
    assert_int_equal(request->n_resource_spans, 3);
    size_t total = 0;
    for (size_t g = 0; g < 3; g++) {
        Otlp__ScopeSpans *scope = request->resource_spans[g]->scope_spans[0];
        total += scope->n_spans;
        for (size_t i = 1; i < scope->n_spans; i++)
            assert_true(scope->spans[i]->span_id.data[0] == scope->spans[i - 1]->span_id.data[0] + 3);
    }
    assert_int_equal(total, 100);
    otlp__export_trace_service_request__free_unpacked(request, NULL);
    request = round_trip(list, 0);
    assert_int_equal(request->n_resource_spans, 0);
    otlp__export_trace_service_request__free_unpacked(request, NULL);
}

static void json_form(void **state)
{
    struct span span = span_of(0x1f, &services[0]);
    struct span *list[] = {&span};
    struct attribute some[] = {attributes[2], attributes[6], {.key = "nan", .type = VALUE_DOUBLE, .value.number = NAN}};
    (void)state;
    span.attributes = some;
    span.attribute_count = 3;
    span.events = &an_event;
    span.event_count = 1;
    span.name = "GET \"\xff\"";
    char *text = otlp_json(list, 1);
    assert_string_equal(
        text,
        "{\"resourceSpans\":[{\"resource\":{\"attributes\":[{\"key\":\"text\",\"value\":{\"stringValue\":\"gr\xc3\xbc\xc3\x9f\"}}]}"
        ","
        "\"scopeSpans\":[{\"scope\":{\"name\":\"otshim\",\"version\":\"" OTSHIM_VERSION "\"},\"spans\":[{"
        "\"traceId\":\"abababababababababababababababab\",\"spanId\":\"1f1f1f1f1f1f1f1f\",\"traceState\":\"a=b\",\"flags\":257,"
        "\"name\":\"GET \\\"\xef\xbf\xbd\\\"\",\"kind\":2,\"startTimeUnixNano\":\"1700000000000000001\","
        "\"endTimeUnixNano\":\"1700000000000000002\",\"attributes\":["
        "{\"key\":\"int\",\"value\":{\"intValue\":\"-9223372036854775808\"}},"
        "{\"key\":\"list\",\"value\":{\"arrayValue\":{\"values\":[{\"stringValue\":\"a\"},{\"stringValue\":\"b\xef\xbf\xbd"
        "c\"}]}}},"
        "{\"key\":\"nan\",\"value\":{\"doubleValue\":\"NaN\"}}],"
        "\"events\":[{\"timeUnixNano\":\"15\",\"name\":\"first byte\",\"attributes\":["
        "{\"key\":\"text\",\"value\":{\"stringValue\":\"gr\xc3\xbc\xc3\x9f\"}}]}],\"status\":{}}]}]}]}");
    free(text);
    text = otlp_json(NULL, 0);
    assert_string_equal(text, "{\"resourceSpans\":[]}");
    free(text);
}

static void json_groups_by_resource(void **state)
{
    struct span spans[7], *list[7];
    (void)state;
    for (int i = 0; i < 7; i++) {
        spans[i] = span_of((uint8_t)i, &services[i % 2]);
        list[i] = &spans[i];
    }
    json_t *json = otlp_json_value(list, 7), *groups = json_object_get(json, "resourceSpans");
    assert_int_equal(json_array_size(groups), 2);
    json_t *scope = json_array_get(json_object_get(json_array_get(groups, 0), "scopeSpans"), 0);
    assert_int_equal(json_array_size(json_object_get(scope, "spans")), 4);
    json_decref(json);
}

static void utf8(void **state)
{
    static const char *const good[] = {"",
                                       "a",
                                       "\xc2\x80",
                                       "\xdf\xbf",
                                       "\xe0\xa0\x80",
                                       "\xed\x9f\xbf",
                                       "\xee\x80\x80",
                                       "\xf0\x90\x80\x80",
                                       "\xf4\x8f\xbf\xbf",
                                       "abcdefgh\xc3\xbc",
                                       "abcdefghijklmnop"};
    static const char *const bad[] = {"\x80",
                                      "\xc0\x80",
                                      "\xc1\xbf",
                                      "\xc3",
                                      "\xe0\x9f\xbf",
                                      "\xed\xa0\x80",
                                      "\xe2\x82",
                                      "\xf0\x8f\xbf\xbf",
                                      "\xf4\x90\x80\x80",
                                      "\xf5\x80\x80\x80",
                                      "\xff",
                                      "abcdefgh\x80",
                                      "\xe2\x28\xa1"};
    struct arena arena = {0};
    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_true(utf8_valid(good[i], strlen(good[i])));
        assert_ptr_equal(utf8_clean(&arena, good[i]), good[i]);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_false(utf8_valid(bad[i], strlen(bad[i])));
        const char *clean = utf8_clean(&arena, bad[i]);
        assert_true(utf8_valid(clean, strlen(clean)));
    }
    assert_string_equal(utf8_clean(&arena, "a\xc3"
                                           "b\xe2\x82"),
                        "a\xef\xbf\xbd"
                        "b\xef\xbf\xbd\xef\xbf\xbd");
    assert_string_equal(utf8_clean(&arena, NULL), "");
    arena_free(&arena);
}

static void answers(void **state)
{
    struct otlp_answer answer;
    struct otlp_failure failure;
    (void)state;
    assert_int_equal(otlp_decode_answer((const uint8_t *)"", 0, &answer), 0);
    assert_int_equal(answer.rejected_spans, 0);
    assert_int_equal(otlp_decode_answer((const uint8_t *)"\x0a\x06\x08\x03\x12\x02no", 8, &answer), 0);
    assert_int_equal(answer.rejected_spans, 3);
    assert_string_equal(answer.message, "no");
    assert_int_equal(otlp_decode_answer((const uint8_t *)"<html>", 6, &answer), -EBADMSG);
    const char *json = "{\"partialSuccess\":{\"rejectedSpans\":\"4\",\"errorMessage\":\"x\\ny\"}}";
    assert_int_equal(otlp_decode_answer_json((const uint8_t *)json, strlen(json), &answer), 0);
    assert_int_equal(answer.rejected_spans, 4);
    assert_string_equal(answer.message, "x y");
    assert_int_equal(otlp_decode_answer_json((const uint8_t *)"{}", 2, &answer), 0);
    assert_int_equal(otlp_decode_answer_json((const uint8_t *)"{\"partialSuccess\":7}", 20, &answer), 0);
    assert_int_equal(otlp_decode_answer_json((const uint8_t *)"[]", 2, &answer), -EBADMSG);
    assert_int_equal(otlp_decode_failure((const uint8_t *)"\x08\x05", 2, &failure), 0);
    assert_int_equal(failure.code, 5);
    assert_true(failure.retry_delay_ms == -1);
    assert_int_equal(otlp_decode_failure((const uint8_t *)"\xff\xff", 2, &failure), -EBADMSG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_field),
        cmocka_unit_test(a_root_has_no_parent_and_no_status),
        cmocka_unit_test(grouped_by_resource_in_order),
        cmocka_unit_test(json_form),
        cmocka_unit_test(json_groups_by_resource),
        cmocka_unit_test(utf8),
        cmocka_unit_test(answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
