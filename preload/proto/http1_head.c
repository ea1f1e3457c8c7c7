/* http1_head.c - start lines and header lines of HTTP/1.
 *
 * Two ways through the same grammar. The fast one (http1_fast.c) takes whole lines that lie in the bytes that we were given; this one, by
 * phases, takes whatever part of a line there is; it keeps the name so far (a few bytes) and passes text on in pieces. Both report the same
 * texts in the same order, which the fuzzer checks at every cut.
 *
 * A header's value is known to be over only at the first byte of the next line, for a line that begins with white space continues
 * it (obs-fold, RFC 9112 5.2): read as one space. */
#include "proto/http1.h"

#include <string.h>

/* ---- start lines -------------------------------------------------------------------------------------------------------------- */

void http1_method_done(struct http1_cursor *c, const char *name, size_t len)
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
    http1_text(c, PROTO_METHOD, name, len, false);
    h->phase = HTTP1_TARGET;
    h->value_begun = false;
}

static void step_method(struct http1_cursor *c)
{
    struct http1_half *h = c->h;
    const char *first = c->p;
    while (c->p < c->end && http1_is_token((unsigned char)*c->p) && (size_t)(c->p - first) + h->carry_len <= OTSHIM_METHOD_MAX)
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
    http1_method_done(c, first, len);
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
        http1_text(c, PROTO_TARGET, first, len, !over);
        h->value_begun = true;
    }
    if (c->p == c->end)
        return;
    if (!over || !h->value_begun) {
        http1_lost(c, over ? "no HTTP request: no target" : "no HTTP request: no version after the target");
        return;
    }
    if (len == 0)
        http1_text(c, PROTO_TARGET, first, 0, false);
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

void http1_line_over(struct http1_cursor *c)
{
    c->h->phase = HTTP1_LINE;
    if (++c->h->lines > HTTP1_LINES_MAX)
        http1_lost(c, "too many header lines");
}

/* The version and what may follow it: white space (some clients do), CR, LF. */
static void step_version(struct http1_cursor *c)
{
    struct http1_half *h = c->h;
    while (c->p < c->end) {
        char byte = *c->p++;
        if (h->match < VERSION_LEN) {
            if (!version_byte(h, byte)) {
                http1_lost(c, "no HTTP/1 request: another version");
                return;
            }
        } else if (byte == '\n') {
            http1_line_over(c);
            return;
        } else if (byte == '\r' && h->match == VERSION_LEN) {
            h->match++;
        } else if (!http1_is_blank(byte) || h->match > VERSION_LEN) {
            http1_lost(c, "no HTTP/1 request: bytes after the version");
            return;
        }
    }
}

/* "HTTP/1.1 200", then a space and a reason, or the end of the line. */
static void step_status(struct http1_cursor *c)
{
    struct http1_half *h = c->h;
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
            http1_line_over(c);
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
    } else if (http1_is_blank(byte) || byte == '\r') {
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
    } else if (http1_is_blank(byte) || byte == '\r') {
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

bool http1_framing(struct http1_cursor *c, uint8_t field, const char *value, size_t len)
{
    struct http1_half *h = c->h;
    h->field = field;
    framing_begin(h);
    framing_bytes(c, value, len);
    if (!c->s->over)
        framing_done(c);
    h->field = HTTP1_NO_FIELD;
    return !c->s->over;
}

/* ---- names ------------------------------------------------------------------------------------------------------------------------- */

/* Sets .field by the name; false: lost. White space between name and colon is refused by some and ignored by others (RFC 9112 5.1): where it
 * would decide on the framing we do not guess. */
static bool name_done(struct http1_cursor *c, const char *name, size_t len)
{
    struct http1_half *h = c->h;
    size_t bare = len;
    while (bare > 0 && http1_is_blank(name[bare - 1]))
        bare--;
    h->field = h->trailer ? HTTP1_NO_FIELD : http1_name_field(c->dir, name, bare);
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
        http1_text(c, (enum proto_field)field, c->p, 0, false);
    }
}

static void step_line(struct http1_cursor *c)
{
    struct http1_half *h = c->h;
    if (http1_is_blank(*c->p)) {
        if (h->field == HTTP1_NO_FIELD) {
            h->phase = HTTP1_REST;
            return;
        }
        if (is_framing(h->field))
            framing_bytes(c, " ", 1);
        else if (h->value_begun)
            http1_text(c, (enum proto_field)h->field, " ", 1, true);
        h->phase = HTTP1_VALUE_SKIP;
        return;
    }
    value_over(c);
    if (c->s->over)
        return;
    if (*c->p == '\r' || *c->p == '\n') {
        c->blank_at = c->p - c->start;
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
        http1_line_over(c);
}

static void step_value_skip(struct http1_cursor *c)
{
    while (c->p < c->end && http1_is_blank(*c->p))
        c->p++;
    if (c->p < c->end)
        c->h->phase = HTTP1_VALUE;
}

static void piece(struct http1_cursor *c, const char *bytes, size_t len)
{
    if (len == 0)
        return;
    http1_text(c, (enum proto_field)c->h->field, bytes, len, true);
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
        http1_line_over(c);
    }
}

static void step_lines(struct http1_cursor *c)
{
    if (c->h->field == HTTP1_NO_FIELD)
        http1_fast_lines(c);
    if (c->s->over)
        return;
    step_line(c);
    if (c->h->phase == HTTP1_BLANK_LF && !c->s->over && c->p < c->end)
        step_blank(c);
}

static void step_start(struct http1_cursor *c)
{
    if (http1_fast_start(c)) {
        if (!c->s->over && c->p < c->end)
            step_lines(c);
    } else if (c->dir == PROTO_REQUEST) {
        step_method(c);
    } else {
        step_status(c);
    }
}

void http1_head_step(struct http1_cursor *c)
{
    switch (c->h->phase) {
    case HTTP1_METHOD:
    case HTTP1_STATUS: step_start(c); break;
    case HTTP1_TARGET: step_target(c); break;
    case HTTP1_VERSION: step_version(c); break;
    case HTTP1_LINE: step_lines(c); break;
    case HTTP1_NAME: step_name(c); break;
    case HTTP1_VALUE_SKIP: step_value_skip(c); break;
    case HTTP1_VALUE: step_value(c); break;
    case HTTP1_REST: step_rest(c); break;
    case HTTP1_BLANK_LF: step_blank(c); break;
    default: break;
    }
}
