/* traceparent.c - the traceparent header, W3C Trace Context (https://www.w3.org/TR/trace-context/), section 3.2.
 *
 *     00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01
 *     version, trace id, parent (span) id, flags: lower-case hexadecimal */
#include "context/context.h"

#include <string.h>

#define FLAG_SAMPLED 0x01u
#define FLAG_RANDOM 0x02u /* Trace Context level 2: passed on as it came */

static bool parse_hex(const char *text, uint8_t *bytes, size_t count)
{
    uint8_t any = 0;
    for (size_t i = 0; i < 2 * count; i++) {
        char c = text[i];
        uint8_t digit;
        if (c >= '0' && c <= '9')
            digit = (uint8_t)(c - '0');
        else if (c >= 'a' && c <= 'f') /* upper case is invalid */
            digit = (uint8_t)(c - 'a' + 10);
        else
            return false;
        bytes[i / 2] = (uint8_t)(i % 2 ? bytes[i / 2] | digit : digit << 4);
        any |= digit;
    }
    return any != 0 || count <= 1; /* ids of only zeros are invalid; version and flags may be 0 */
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

bool traceparent_parse(const char *bytes, size_t len, struct ctx *out)
{
    while (len > 0 && is_blank(bytes[0]))
        bytes++, len--;
    while (len > 0 && is_blank(bytes[len - 1]))
        len--;
    struct ctx ctx = {.rule = OTSHIM_PARENT_REMOTE, .has_parent = 1};
    uint8_t version, flags;
    if (len < TRACEPARENT_LEN || bytes[2] != '-' || bytes[35] != '-' || bytes[52] != '-')
        return false;
    if (!parse_hex(bytes, &version, 1) || version == 0xff)
        return false;
    /* Section 4: a later version may go on after a dash; version 00 ends here. */
    if (len > TRACEPARENT_LEN && (version == 0 || bytes[TRACEPARENT_LEN] != '-'))
        return false;
    if (!parse_hex(bytes + 3, ctx.trace_id, 16) || !parse_hex(bytes + 36, ctx.span_id, 8) || !parse_hex(bytes + 53, &flags, 1))
        return false;
    ctx.trace_flags = flags & (FLAG_SAMPLED | FLAG_RANDOM);
    *out = ctx;
    return true;
}

static char *format_hex(char *out, const uint8_t *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        *out++ = "0123456789abcdef"[bytes[i] >> 4];
        *out++ = "0123456789abcdef"[bytes[i] & 15];
    }
    return out;
}

void traceparent_format(const struct ctx *ctx, char out[TRACEPARENT_LEN])
{
    memcpy(out, "00-", 3);
    char *p = format_hex(out + 3, ctx->trace_id, 16);
    *p++ = '-';
    p = format_hex(p, ctx->span_id, 8);
    *p++ = '-';
    format_hex(p, &ctx->trace_flags, 1);
}
