/* http1_head.c - start lines and header lines of HTTP/1.
 *
 * Two ways through the same grammar. The fast one: a whole line, and the first byte after it, lie in the bytes that we were given - it is
 * cut at its colon and its end by memchr, and its name is compared only if first letter and length fit one that matters. The slow one, by
 * phases, takes whatever part of a line there is; it keeps the name so far (a few bytes) and passes text on in pieces. Both report the same
 * texts in the same order, which the fuzzer checks at every cut.
 *
 * A header's value is known to be over only at the first byte of the next line, for a line that begins with white space continues
 * it (obs-fold, RFC 9112 5.2): read as one space. */
#include "proto/http1.h"

#include <string.h>

static void text(struct http1_cursor *c, enum proto_field field, const char *bytes, size_t len, bool more)
{
    struct proto_event event = {.type = PROTO_FIELD, .dir = c->dir, .field = field, .more = more, .bytes = bytes, .len = len};
    event.offset = (size_t)(c->p - c->start);
    c->sink(c->sink_arg, &event);
}

static bool is_blank(char byte)
{
    return byte == ' ' || byte == '\t';
}

/* RFC 9110 5.6.2 */
static bool is_token(unsigned char byte)
{
    if ((byte | 0x20) >= 'a' && (byte | 0x20) <= 'z')
        return true;
    if (byte >= '0' && byte <= '9')
        return true;
    return byte != 0 && strchr("!#$%&'*+-.^_`|~", byte) != NULL;
}

/* ---- start lines -------------------------------------------------------------------------------------------------------------- */

static void method_done(struct http1_cursor *c, const char *name, size_t len)
{
    struct http1_half *h = c->h;
    h->method = HTTP1_OTHER;
    if (len == 4 && memcmp(name, "HEAD", 4) == 0)
        h->method = HTTP1_HEAD_METHOD;
    else if (len == 7 && memcmp(name, "CONNECT", 7) == 0)
        h->method = HTTP1_CONNECT_METHOD;
    /* From here on a response can be sensible: a server refuses a request whose head it does not like before that is complete. */
    if (!http1_push(c))
        return;
    text(c, PROTO_METHOD, name, len, false);
    h->phase = HTTP1_TARGET;
    h->value_begun = false;
}

static void step_method(struct http1_cursor *c)
{
    struct http1_half *h = c->h;
    const char *first = c->p;
    while (c->p < c->end && is_token((unsigned char)*c->p) && (size_t)(c->p - first) + h->carry_len <= OTSHIM_METHOD_MAX)
        c->p++;
    size_t len = (size_t)(c->p - first);
    if (len + h->carry_len > OTSHIM_METHOD_MAX) {
        http1_lost(c, "no HTTP request: first word too long");
        return;
    }
    if (c->p == c->end || h->carry_len > 0) {
        memcpy(h->carry + h->carry_len, first, len);
        h->carry_len += (uint8_t)len;
        first = h->carry;
        len = h->carry_len;
    }
    if (c->p == c->end)
        return;
    if (*c->p != ' ' || len == 0) {
        http1_lost(c, "no HTTP request: no method");
        return;
    }
    c->p++;
    method_done(c, first, len);
}

static void step_target(struct http1_cursor *c)
{
    struct http1_half *h = c->h;
    const char *first = c->p;
    while (c->p < c->end && (unsigned char)*c->p > ' ' && *c->p != 0x7f)
        c->p++;
    size_t len = (size_t)(c->p - first);
    bool over = c->p < c->end && *c->p == ' ';
    if (len > 0) {
        text(c, PROTO_TARGET, first, len, !over);
        h->value_begun = true;
    }
    if (c->p == c->end)
        return;
    if (!over || !h->value_begun) {
        http1_lost(c, over ? "no HTTP request: no target" : "no HTTP request: no version after the target");
        return;
    }
    if (len == 0)
        text(c, PROTO_TARGET, first, 0, false);
    c->p++;
    h->phase = HTTP1_VERSION;
    h->match = 0;
}

/* "HTTP/1." digit; true when the byte fits. */
static bool version_byte(struct http1_half *h, char byte)
{
    static const char fixed[] = "HTTP/1.";
    if (h->match < sizeof fixed - 1)
        return byte == fixed[h->match++];
    if (byte < '0' || byte > '9')
        return false;
    h->match++;
    h->version = byte == '0' ? 10 : 11;
    return true;
}
#define VERSION_LEN 8

static void line_over(struct http1_cursor *c)
{
    c->h->phase = HTTP1_LINE;
    if (++c->h->lines > HTTP1_LINES_MAX)
        http1_lost(c, "too many header lines");
}

/* The version and what may follow it: white space (some clients do), CR, LF. */
static void step_version(struct http1_cursor *c)
{
    struct http1_half *h = c->h;
    if (h->match == 0 && c->end - c->p >= VERSION_LEN + 2 && memcmp(c->p, "HTTP/1.1\r\n", VERSION_LEN + 2) == 0) {
        h->version = 11;
        c->p += VERSION_LEN + 2;
        line_over(c);
        return;
    }
    while (c->p < c->end) {
        char byte = *c->p++;
        if (h->match < VERSION_LEN) {
            if (!version_byte(h, byte)) {
                http1_lost(c, "no HTTP/1 request: another version");
                return;
            }
        } else if (byte == '\n') {
            line_over(c);
            return;
        } else if (byte == '\r' && h->match == VERSION_LEN) {
            h->match++;
        } else if (!is_blank(byte) || h->match > VERSION_LEN) {
            http1_lost(c, "no HTTP/1 request: bytes after the version");
            return;
        }
    }
}

/* "HTTP/1.1 200", then a space and a reason, or the end of the line. */
static void step_status(struct http1_cursor *c)
{
    struct http1_half *h = c->h;
    if (h->match == 0 && c->end - c->p > VERSION_LEN + 4 && memcmp(c->p, "HTTP/1.1 200 ", VERSION_LEN + 5) == 0) {
        h->version = 11;
        h->status = 200;
        c->p += VERSION_LEN + 5;
        h->phase = HTTP1_REST;
        return;
    }
    while (c->p < c->end) {
        char byte = *c->p++;
        bool fits = true;
        if (h->match < VERSION_LEN) {
            fits = version_byte(h, byte);
        } else if (h->match == VERSION_LEN) {
            fits = byte == ' ';
            h->match++;
        } else if (h->match < VERSION_LEN + 4) {
            fits = byte >= '0' && byte <= '9';
            h->status = (uint16_t)(h->status * 10 + (byte - '0'));
            h->match++;
        } else if (h->status < 100 || (byte != ' ' && byte != '\r' && byte != '\n')) {
            fits = false;
        } else if (byte == '\n') {
            line_over(c);
            return;
        } else {
            h->phase = HTTP1_REST;
            h->field = HTTP1_NO_FIELD;
            return;
        }
        if (!fits) {
            http1_lost(c, "no HTTP/1 response: another status line");
            return;
        }
    }
}

/* ---- values that frame the body -------------------------------------------------------------------------------------------------- */

static void length_done(struct http1_cursor *c)
{
    struct http1_half *h = c->h;
    if (!h->number_begun) {
        http1_lost(c, "Content-Length is no number");
        return;
    }
    /* Equal duplicates happen ("5, 5" from a joining proxy, RFC 9110 8.6); different ones are an attack or a bug. */
    if (h->has_length && h->length != h->number) {
        http1_lost(c, "two different Content-Length");
        return;
    }
    h->has_length = true;
    h->length = h->number;
    h->number = 0;
    h->number_begun = h->number_over = false;
}

static void length_byte(struct http1_cursor *c, char byte)
{
    struct http1_half *h = c->h;
    if (byte >= '0' && byte <= '9' && !h->number_over && h->number < UINT64_MAX / 20) {
        h->number = h->number * 10 + (uint64_t)(byte - '0');
        h->number_begun = true;
    } else if (byte == ',') {
        length_done(c);
    } else if (is_blank(byte) || byte == '\r') {
        h->number_over = h->number_begun;
    } else {
        http1_lost(c, "Content-Length is no number");
    }
}

static void coding_done(struct http1_cursor *c)
{
    struct http1_half *h = c->h;
    size_t len = h->carry_len;
    h->carry_len = 0;
    h->token_over = false;
    /* identity means "none": RFC 2616 had it, and some servers still send it. */
    if (len == 0 || (len == 8 && memcmp(h->carry, "identity", 8) == 0))
        return;
    h->te_present = true;
    h->te_chunked_last = len == 7 && memcmp(h->carry, "chunked", 7) == 0;
    if (h->te_chunked_last && h->te_chunked)
        http1_lost(c, "chunked twice");
    h->te_chunked = h->te_chunked || h->te_chunked_last;
}

static void coding_byte(struct http1_cursor *c, char byte)
{
    struct http1_half *h = c->h;
    if (byte == ',') {
        coding_done(c);
    } else if (is_blank(byte) || byte == '\r') {
        h->token_over = h->token_over || h->carry_len > 0;
    } else if (byte == ';') {
        h->token_over = true;
    } else if (!h->token_over && h->carry_len < HTTP1_CARRY) {
        h->carry[h->carry_len++] = (char)(byte >= 'A' && byte <= 'Z' ? byte | 0x20 : byte);
    }
}

static void framing_bytes(struct http1_cursor *c, const char *bytes, size_t len)
{
    for (size_t i = 0; i < len && !c->s->over; i++) {
        if (c->h->field == HTTP1_CONTENT_LENGTH)
            length_byte(c, bytes[i]);
        else
            coding_byte(c, bytes[i]);
    }
}

static bool is_framing(uint8_t field)
{
    return field == HTTP1_CONTENT_LENGTH || field == HTTP1_TRANSFER_ENCODING;
}

static void framing_begin(struct http1_half *h)
{
    h->number = 0;
    h->number_begun = h->number_over = h->token_over = false;
    h->carry_len = 0;
}

static void framing_done(struct http1_cursor *c)
{
    if (c->h->field == HTTP1_CONTENT_LENGTH)
        length_done(c);
    else
        coding_done(c);
}

/* ---- names ------------------------------------------------------------------------------------------------------------------------- */

static bool same(const char *bytes, const char *lower, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if ((bytes[i] | 0x20) != lower[i] || (unsigned char)bytes[i] < 0x20)
            return false;
    return true;
}

/* Which field has this name? Requests: all; responses: what frames them, and Upgrade. */
static uint8_t name_field(enum proto_dir dir, const char *name, size_t len)
{
    switch (len) {
    case 7: return same(name, "upgrade", 7) ? PROTO_UPGRADE : HTTP1_NO_FIELD;
    case 14: return same(name, "content-length", 14) ? HTTP1_CONTENT_LENGTH : HTTP1_NO_FIELD;
    case 17:
        if (same(name, "transfer-encoding", 17))
            return HTTP1_TRANSFER_ENCODING;
        break;
    default: break;
    }
    if (dir == PROTO_RESPONSE)
        return HTTP1_NO_FIELD;
    switch (len) {
    case 4: return same(name, "host", 4) ? PROTO_HOST : HTTP1_NO_FIELD;
    case 9: return same(name, "forwarded", 9) ? PROTO_FORWARDED : HTTP1_NO_FIELD;
    case 10:
        if (same(name, "user-agent", 10))
            return PROTO_USER_AGENT;
        return same(name, "tracestate", 10) ? PROTO_TRACESTATE : HTTP1_NO_FIELD;
    case 11: return same(name, "traceparent", 11) ? PROTO_TRACEPARENT : HTTP1_NO_FIELD;
    case 15: return same(name, "x-forwarded-for", 15) ? PROTO_X_FORWARDED_FOR : HTTP1_NO_FIELD;
    case 17: return same(name, "x-forwarded-proto", 17) ? PROTO_X_FORWARDED_PROTO : HTTP1_NO_FIELD;
    default: return HTTP1_NO_FIELD;
    }
}

/* Sets .field by the name; false: lost. White space between name and colon is refused by some and ignored by others (RFC 9112 5.1): where it
 * would decide on the framing we do not guess. */
static bool name_done(struct http1_cursor *c, const char *name, size_t len)
{
    struct http1_half *h = c->h;
    size_t bare = len;
    while (bare > 0 && is_blank(name[bare - 1]))
        bare--;
    h->field = h->trailer ? HTTP1_NO_FIELD : name_field(c->dir, name, bare);
    if (bare != len && is_framing(h->field)) {
        http1_lost(c, "white space between a framing header's name and its colon");
        return false;
    }
    if (bare != len)
        h->field = HTTP1_NO_FIELD;
    h->value_begun = h->cr_held = false;
    if (is_framing(h->field))
        framing_begin(h);
    return true;
}

/* ---- header lines, slowly ------------------------------------------------------------------------------------------------------------ */

/* The value that the lines before gave is complete. */
static void value_over(struct http1_cursor *c)
{
    uint8_t field = c->h->field;
    c->h->field = HTTP1_NO_FIELD;
    if (field == HTTP1_NO_FIELD)
        return;
    if (is_framing(field)) {
        c->h->field = field;
        framing_done(c);
        c->h->field = HTTP1_NO_FIELD;
    } else {
        text(c, (enum proto_field)field, c->p, 0, false);
    }
}

static void step_line(struct http1_cursor *c)
{
    struct http1_half *h = c->h;
    if (is_blank(*c->p)) {
        if (h->field == HTTP1_NO_FIELD) {
            h->phase = HTTP1_REST;
            return;
        }
        if (is_framing(h->field))
            framing_bytes(c, " ", 1);
        else if (h->value_begun)
            text(c, (enum proto_field)h->field, " ", 1, true);
        h->phase = HTTP1_VALUE_SKIP;
        return;
    }
    value_over(c);
    if (c->s->over)
        return;
    if (*c->p == '\r' || *c->p == '\n') {
        c->blank_at = (size_t)(c->p - c->start);
        h->phase = HTTP1_BLANK_LF;
        c->p += *c->p == '\r';
    } else {
        h->phase = HTTP1_NAME;
        h->carry_len = 0;
    }
}

static void step_blank(struct http1_cursor *c)
{
    if (*c->p++ != '\n')
        http1_lost(c, "a header line begins with CR");
    else
        http1_head_done(c);
}

/* A name longer than the carry is none that matters; nor is a line without a colon, which servers ignore or refuse. */
static void step_name(struct http1_cursor *c)
{
    struct http1_half *h = c->h;
    while (c->p < c->end) {
        char byte = *c->p;
        if (byte == ':' || byte == '\n' || h->carry_len == HTTP1_CARRY)
            break;
        h->carry[h->carry_len++] = byte;
        c->p++;
    }
    if (c->p == c->end)
        return;
    if (*c->p != ':') {
        h->field = HTTP1_NO_FIELD;
        h->phase = HTTP1_REST;
        return;
    }
    c->p++;
    if (name_done(c, h->carry, h->carry_len))
        h->phase = h->field == HTTP1_NO_FIELD ? HTTP1_REST : HTTP1_VALUE_SKIP;
}

static void step_rest(struct http1_cursor *c)
{
    const char *lf = memchr(c->p, '\n', (size_t)(c->end - c->p));
    c->p = lf != NULL ? lf + 1 : c->end;
    if (lf != NULL)
        line_over(c);
}

static void step_value_skip(struct http1_cursor *c)
{
    while (c->p < c->end && is_blank(*c->p))
        c->p++;
    if (c->p < c->end)
        c->h->phase = HTTP1_VALUE;
}

static void piece(struct http1_cursor *c, const char *bytes, size_t len)
{
    if (len == 0)
        return;
    text(c, (enum proto_field)c->h->field, bytes, len, true);
    c->h->value_begun = true;
}

static void step_value(struct http1_cursor *c)
{
    struct http1_half *h = c->h;
    const char *first = c->p;
    const char *lf = memchr(first, '\n', (size_t)(c->end - first));
    const char *stop = lf != NULL ? lf : c->end;
    c->p = lf != NULL ? lf + 1 : c->end;
    if (is_framing(h->field)) {
        framing_bytes(c, first, (size_t)(stop - first));
    } else {
        if (h->cr_held && stop > first)
            piece(c, "\r", 1);
        if (stop > first)
            h->cr_held = stop[-1] == '\r';
        piece(c, first, (size_t)(stop - first) - (stop > first && h->cr_held));
    }
    if (lf != NULL && !c->s->over) {
        h->cr_held = false;
        line_over(c);
    }
}

/* ---- header lines, fast ---------------------------------------------------------------------------------------------------------------- */

/* Could a header line that begins with this letter matter? */
static bool first_letter(char byte)
{
    switch (byte | 0x20) {
    case 'c':
    case 'f':
    case 'h':
    case 't':
    case 'u':
    case 'x': return true;
    default: return false;
    }
}

/* The line [c->p, lf) with a name that may matter. False: lost. */
static bool whole_line(struct http1_cursor *c, const char *lf)
{
    struct http1_half *h = c->h;
    size_t room = (size_t)(lf - c->p);
    const char *colon = memchr(c->p, ':', room <= HTTP1_CARRY ? room : HTTP1_CARRY + 1);
    if (colon == NULL)
        return true;
    if (!name_done(c, c->p, (size_t)(colon - c->p)))
        return false;
    if (h->field == HTTP1_NO_FIELD)
        return true;
    const char *value = colon + 1;
    while (value < lf && is_blank(*value))
        value++;
    size_t len = (size_t)(lf - value);
    if (is_framing(h->field)) {
        framing_bytes(c, value, len);
        if (!c->s->over)
            framing_done(c);
    } else {
        text(c, (enum proto_field)h->field, value, len - (len > 0 && value[len - 1] == '\r'), false);
    }
    h->field = HTTP1_NO_FIELD;
    return !c->s->over;
}

/* All whole lines that lie here, up to a fold, the empty line, or the last of these bytes. */
static void fast_lines(struct http1_cursor *c)
{
    struct http1_half *h = c->h;
    while (*c->p > '\r' && *c->p != ' ' && h->lines < HTTP1_LINES_MAX) {
        const char *lf = memchr(c->p, '\n', (size_t)(c->end - c->p));
        if (lf == NULL || lf + 1 == c->end || is_blank(lf[1]))
            return;
        if (first_letter(*c->p) && !h->trailer && !whole_line(c, lf))
            return;
        c->p = lf + 1;
        h->lines++;
    }
}

void http1_head_step(struct http1_cursor *c)
{
    switch (c->h->phase) {
    case HTTP1_METHOD: step_method(c); break;
    case HTTP1_TARGET: step_target(c); break;
    case HTTP1_VERSION: step_version(c); break;
    case HTTP1_STATUS: step_status(c); break;
    case HTTP1_LINE:
        if (c->h->field == HTTP1_NO_FIELD)
            fast_lines(c);
        if (!c->s->over)
            step_line(c);
        break;
    case HTTP1_NAME: step_name(c); break;
    case HTTP1_VALUE_SKIP: step_value_skip(c); break;
    case HTTP1_VALUE: step_value(c); break;
    case HTTP1_REST: step_rest(c); break;
    case HTTP1_BLANK_LF: step_blank(c); break;
    default: break;
    }
}
