/* http1_head.c - start lines and header lines of HTTP/1.
 *
 * Two ways through the same grammar. The fast one: a whole line, and the first byte after it, lie in the bytes that we were given - its end
 * is found by memchr, its first letter says which names it could have, and those are compared eight bytes at a time. The slow one, by
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

/* The first and the last eight bytes of a name (four, if it is shorter than eight), as they stand in memory: letters with the bit set that
 * makes them lower case. `fold` has that bit where the name has a letter, so that what is compared is equal but for case. */
struct name {
    uint8_t len;
    uint8_t field;
    bool response;               /* matters in responses too */
    uint8_t middle, middle_fold; /* of a name of 17: the byte between them */
    uint64_t first, first_fold, last, last_fold;
};

#define B(c, i) ((uint64_t)(unsigned char)(c) << (8 * (i)))
#define F(c, i) ((c) >= 'a' && (c) <= 'z' ? B(0x20, i) : 0)
#define W4(s, at) (B(s[at], 0) | B(s[at + 1], 1) | B(s[at + 2], 2) | B(s[at + 3], 3))
#define W4F(s, at) (F(s[at], 0) | F(s[at + 1], 1) | F(s[at + 2], 2) | F(s[at + 3], 3))
#define W8(s, at) (W4(s, at) | W4(s, at + 4) << 32)
#define W8F(s, at) (W4F(s, at) | W4F(s, at + 4) << 32)
#define SHORT(s, field, response)                                                                                                  \
    {                                                                                                                              \
        sizeof s - 1, field, response, 0, 0, W4(s, 0), W4F(s, 0), W4(s, sizeof s - 5), W4F(s, sizeof s - 5)                        \
    }
#define LONG(s, field, response)                                                                                                   \
    {                                                                                                                              \
        sizeof s - 1, field, response, s[8], F(s[8], 0), W8(s, 0), W8F(s, 0), W8(s, sizeof s - 9), W8F(s, sizeof s - 9)            \
    }

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the words above are little-endian"
#endif

/* By first letter. */
static const struct name names_c[] = {LONG("content-length", HTTP1_CONTENT_LENGTH, true), {0}};
static const struct name names_f[] = {LONG("forwarded", PROTO_FORWARDED, false), {0}};
static const struct name names_h[] = {SHORT("host", PROTO_HOST, false), {0}};
static const struct name names_t[] = {LONG("traceparent", PROTO_TRACEPARENT, false),
                                      LONG("tracestate", PROTO_TRACESTATE, false),
                                      LONG("transfer-encoding", HTTP1_TRANSFER_ENCODING, true),
                                      {0}};
static const struct name names_u[] = {LONG("user-agent", PROTO_USER_AGENT, false), SHORT("upgrade", PROTO_UPGRADE, true), {0}};
static const struct name names_x[] = {
    LONG("x-forwarded-for", PROTO_X_FORWARDED_FOR, false), LONG("x-forwarded-proto", PROTO_X_FORWARDED_PROTO, false), {0}};

/* The names that begin with this letter and matter; NULL: none. */
static const struct name *names_of(char first)
{
    switch (first | 0x20) {
    case 'c': return names_c;
    case 'f': return names_f;
    case 'h': return names_h;
    case 't': return names_t;
    case 'u': return names_u;
    case 'x': return names_x;
    default: return NULL;
    }
}

static bool name_is(const struct name *name, const char *bytes)
{
    uint64_t first = 0, last = 0;
    if (name->len < 8) {
        memcpy(&first, bytes, 4);
        memcpy(&last, bytes + name->len - 4, 4);
    } else {
        memcpy(&first, bytes, 8);
        memcpy(&last, bytes + name->len - 8, 8);
    }
    if ((first | name->first_fold) != name->first || (last | name->last_fold) != name->last)
        return false;
    return name->len <= 16 || (bytes[8] | name->middle_fold) == name->middle;
}

static uint8_t name_field(enum proto_dir dir, const char *bytes, size_t len)
{
    const struct name *name = len > 0 ? names_of(*bytes) : NULL;
    for (; name != NULL && name->len != 0; name++)
        if (name->len == len && name_is(name, bytes))
            return dir == PROTO_REQUEST || name->response ? name->field : HTTP1_NO_FIELD;
    return HTTP1_NO_FIELD;
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

/* The first letters of the names that matter: bit 0 is a. */
#define LETTER(c) (1u << ((c) - 'a'))
#define LETTERS_RESPONSE (LETTER('c') | LETTER('t') | LETTER('u'))
#define LETTERS_REQUEST (LETTERS_RESPONSE | LETTER('f') | LETTER('h') | LETTER('x'))

/* The name that the line [line, lf) begins with, if it is one that matters here and its colon follows at once. *odd: white space follows
 * instead, which the slow way knows what to do with. */
static const struct name *line_name(enum proto_dir dir, const char *line, const char *lf, bool *odd)
{
    const struct name *name = names_of(*line);
    for (; name != NULL && name->len != 0; name++) {
        if (lf - line <= name->len || (dir == PROTO_RESPONSE && !name->response) || !name_is(name, line))
            continue;
        *odd = is_blank(line[name->len]);
        if (*odd || line[name->len] == ':')
            return name;
    }
    return NULL;
}

/* A plain number of at most 18 digits, the common Content-Length. */
static bool plain_length(struct http1_half *h, const char *value, size_t len)
{
    uint64_t number = 0;
    if (len == 0 || len > 18 || h->has_length)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (value[i] < '0' || value[i] > '9')
            return false;
        number = number * 10 + (uint64_t)(value[i] - '0');
    }
    h->has_length = true;
    h->length = number;
    return true;
}

/* The value of a line whose name matters. False: lost. */
static bool line_value(struct http1_cursor *c, uint8_t field, const char *value, const char *lf)
{
    struct http1_half *h = c->h;
    while (value < lf && is_blank(*value))
        value++;
    size_t len = (size_t)(lf - value);
    size_t bare = len - (len > 0 && value[len - 1] == '\r');
    if (field < PROTO_FIELDS) {
        text(c, (enum proto_field)field, value, bare, false);
        return true;
    }
    if (field == HTTP1_CONTENT_LENGTH && plain_length(h, value, bare))
        return true;
    h->field = field;
    framing_begin(h);
    framing_bytes(c, value, len);
    if (!c->s->over)
        framing_done(c);
    h->field = HTTP1_NO_FIELD;
    return !c->s->over;
}

/* All whole lines that lie here, up to a fold, the empty line, an odd one, or the last of these bytes. */
static void fast_lines(struct http1_cursor *c)
{
    const char *line = c->p, *last = c->end - 1;
    uint32_t letters = c->h->trailer ? 0 : c->dir == PROTO_REQUEST ? LETTERS_REQUEST : LETTERS_RESPONSE;
    unsigned lines = c->h->lines;
    while (line<last && * line> ' ' && lines < HTTP1_LINES_MAX) {
        const char *lf = memchr(line, '\n', (size_t)(last - line));
        if (lf == NULL || is_blank(lf[1]))
            break;
        unsigned letter = (unsigned)(*line | 0x20) - 'a';
        if (letter < 26 && (letters >> letter & 1u)) {
            bool odd = false;
            const struct name *name = line_name(c->dir, line, lf, &odd);
            c->p = line;
            if (odd || (name != NULL && !line_value(c, name->field, line + name->len + 1, lf)))
                break;
        }
        line = lf + 1;
        lines++;
    }
    if (!c->s->over)
        c->p = line;
    c->h->lines = (uint16_t)lines;
}

/* ---- start lines, fast ----------------------------------------------------------------------------------------------------------------- */

/* Is there a byte in [p, end) that no target may have: white space, another control, DEL? Eight at a time: a byte is below 0x21 if
 * subtracting 0x21 borrows into its high bit, and the byte's own high bit was clear. (A borrow from a neighbour can only make a false alarm.) */
static bool has_control(const char *p, const char *end)
{
    const uint64_t ones = 0x0101010101010101u, high = 0x8080808080808080u;
    for (; end - p >= 8; p += 8) {
        uint64_t word, del;
        memcpy(&word, p, 8);
        del = word ^ ones * 0x7f;
        if ((((word - ones * 0x21) & ~word) | ((del - ones) & ~del)) & high)
            return true;
    }
    for (; p < end; p++)
        if ((unsigned char)*p <= ' ' || *p == 0x7f)
            return true;
    return false;
}

/* METHOD SP target SP HTTP/1.x CRLF as a whole, with a well-formed target. False: nothing was read, the slow way finds out. */
static bool fast_request_line(struct http1_cursor *c)
{
    static const char version[] = " HTTP/1.";
    struct http1_half *h = c->h;
    const char *line = c->p, *space = line;
    const char *lf = memchr(line, '\n', (size_t)(c->end - line));
    if (lf == NULL || lf - line < 14 || lf[-1] != '\r' || (lf[-2] | 1) != '1')
        return false;
    const char *target_end = lf - 10;
    while (space < target_end && is_token((unsigned char)*space) && space - line < (ptrdiff_t)OTSHIM_METHOD_MAX)
        space++;
    if (space == line || *space != ' ' || space + 1 >= target_end || memcmp(target_end, version, sizeof version - 1) != 0 ||
        has_control(space + 1, target_end))
        return false;
    method_done(c, line, (size_t)(space - line));
    if (c->s->over)
        return true;
    text(c, PROTO_TARGET, space + 1, (size_t)(target_end - space - 1), false);
    h->version = lf[-2] == '1' ? 11 : 10;
    c->p = lf + 1;
    line_over(c);
    return true;
}

/* HTTP/1.x NNN, a space, a reason, CRLF. */
static bool fast_status_line(struct http1_cursor *c)
{
    static const char version[] = "HTTP/1.";
    struct http1_half *h = c->h;
    const char *line = c->p;
    if (c->end - line < 14 || memcmp(line, version, sizeof version - 1) != 0 || (line[7] | 1) != '1' || line[8] != ' ' ||
        line[12] != ' ')
        return false;
    unsigned status = 0;
    for (int i = 9; i < 12; i++) {
        if (line[i] < '0' || line[i] > '9')
            return false;
        status = status * 10 + (unsigned)(line[i] - '0');
    }
    const char *lf = memchr(line + 13, '\n', (size_t)(c->end - line - 13));
    if (lf == NULL || status < 100)
        return false;
    h->version = line[7] == '1' ? 11 : 10;
    h->status = (uint16_t)status;
    c->p = lf + 1;
    line_over(c);
    return true;
}

/* At the first byte of a message. */
static bool fast_start(struct http1_cursor *c)
{
    if (c->h->carry_len > 0 || c->h->match > 0)
        return false;
    return c->dir == PROTO_REQUEST ? fast_request_line(c) : fast_status_line(c);
}

static void step_lines(struct http1_cursor *c)
{
    if (c->h->field == HTTP1_NO_FIELD)
        fast_lines(c);
    if (c->s->over)
        return;
    step_line(c);
    if (c->h->phase == HTTP1_BLANK_LF && !c->s->over && c->p < c->end)
        step_blank(c);
}

void http1_head_step(struct http1_cursor *c)
{
    switch (c->h->phase) {
    case HTTP1_METHOD:
        if (!fast_start(c))
            step_method(c);
        break;
    case HTTP1_TARGET: step_target(c); break;
    case HTTP1_VERSION: step_version(c); break;
    case HTTP1_STATUS:
        if (!fast_start(c))
            step_status(c);
        break;
    case HTTP1_LINE: step_lines(c); break;
    case HTTP1_NAME: step_name(c); break;
    case HTTP1_VALUE_SKIP: step_value_skip(c); break;
    case HTTP1_VALUE: step_value(c); break;
    case HTTP1_REST: step_rest(c); break;
    case HTTP1_BLANK_LF: step_blank(c); break;
    default: break;
    }
}
