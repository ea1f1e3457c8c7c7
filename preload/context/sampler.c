/* sampler.c - OTEL_TRACES_SAMPLER: which traces are kept, decided where a trace begins, or as its parent was.
 *
 * https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/ for the names; the threshold for a ratio is the one of
 * https://opentelemetry.io/docs/specs/otel/trace/tracestate-probability-sampling/ : the low 56 bits of the trace id are the random number. */
#include "context/context.h"

#include <errno.h>
#include <string.h>

enum { ROOT_ALWAYS_ON = 0, ROOT_ALWAYS_OFF = 1, ROOT_RATIO = 2 };

#define RANDOM_BITS 56

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* A decimal fraction in [0, 1], the whole text. By hand, because strtod follows the program's locale ("0,5"). */
static bool parse_ratio(const char *text, double *ratio)
{
    double value = 0, place = 1;
    bool digits = false;
    const char *p = text;
    for (; is_digit(*p); p++, digits = true)
        value = value * 10 + (*p - '0');
    if (*p == '.')
        for (p++; is_digit(*p); p++, digits = true)
            value += (*p - '0') * (place /= 10);
    if (digits && (*p == 'e' || *p == 'E')) {
        p++;
        bool small = *p == '-';
        p += *p == '-' || *p == '+';
        int exponent = 0;
        digits = is_digit(*p);
        for (; is_digit(*p); p++)
            exponent = exponent < 1000 ? exponent * 10 + (*p - '0') : exponent;
        for (; exponent > 0 && value > 0 && value < 1e6; exponent--)
            value = small ? value / 10 : value * 10;
    }
    *ratio = value;
    return digits && *p == '\0' && value >= 0 && value <= 1;
}

/* The specification wants the names understood in any case. */
static bool same_name(const char *text, const char *lower)
{
    for (; *lower != '\0'; text++, lower++)
        if ((*text >= 'A' && *text <= 'Z' ? *text | 0x20 : *text) != *lower)
            return false;
    return *text == '\0';
}

static int parse_argument(struct sampler *s, const char *arg, const char **why)
{
    double ratio = 1;
    int result = 0;
    if (arg != NULL && *arg != '\0' && !parse_ratio(arg, &ratio)) {
        ratio = 1; /* as if it were not set, says the specification */
        *why = "OTEL_TRACES_SAMPLER_ARG is no number from 0 to 1: taken as 1";
        result = -EINVAL;
    }
    s->threshold = (uint64_t)((1 - ratio) * (double)(1ull << RANDOM_BITS));
    return result;
}

int sampler_parse(struct sampler *s, const char *name, const char *arg, const char **why)
{
    static const struct {
        const char *name;
        uint8_t root, parent_based;
    } samplers[] = {
        {"parentbased_always_on", ROOT_ALWAYS_ON, 1}, {"parentbased_always_off", ROOT_ALWAYS_OFF, 1},
        {"parentbased_traceidratio", ROOT_RATIO, 1},  {"always_on", ROOT_ALWAYS_ON, 0},
        {"always_off", ROOT_ALWAYS_OFF, 0},           {"traceidratio", ROOT_RATIO, 0},
    };
    *s = (struct sampler){.root = ROOT_ALWAYS_ON, .parent_based = 1};
    if (name == NULL || *name == '\0')
        return 0;
    for (size_t i = 0; i < sizeof samplers / sizeof samplers[0]; i++) {
        if (!same_name(name, samplers[i].name))
            continue;
        s->root = samplers[i].root;
        s->parent_based = samplers[i].parent_based;
        return s->root == ROOT_RATIO ? parse_argument(s, arg, why) : 0;
    }
    *why = "OTEL_TRACES_SAMPLER is none of always_on, always_off, traceidratio, parentbased_always_on, parentbased_always_off, "
           "parentbased_traceidratio: taken as parentbased_always_on";
    return -EINVAL;
}

uint8_t sampler_decide(const struct sampler *s, const struct ctx *parent, const uint8_t trace_id[16])
{
    if (s->parent_based && parent != NULL && parent->has_parent)
        return parent->trace_flags & 1;
    if (s->root != ROOT_RATIO)
        return s->root == ROOT_ALWAYS_ON;
    uint64_t random = 0;
    for (int i = 16 - RANDOM_BITS / 8; i < 16; i++)
        random = random << 8 | trace_id[i];
    return random >= s->threshold;
}
