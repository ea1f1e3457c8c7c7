/* http1_fast.c - start lines and header lines of HTTP/1 that lie whole in the bytes that we were given. See http1_head.c.
 *
 * A line's end is found by memchr, its first letter says which names it could have, and those are compared eight bytes at a time. Whatever
 * is not quite ordinary - a fold, white space before a colon, the last line of these bytes - is left to the other way. */
#include "proto/http1.h"

#include <string.h>

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

/* By first letter; each group ends with an empty one. */
static const struct name names[] = {
    {0},
    LONG("content-length", HTTP1_CONTENT_LENGTH, true),
    {0},
    LONG("forwarded", PROTO_FORWARDED, false),
    {0},
    SHORT("host", PROTO_HOST, false),
    {0},
    LONG("traceparent", PROTO_TRACEPARENT, false),
    LONG("tracestate", PROTO_TRACESTATE, false),
    LONG("transfer-encoding", HTTP1_TRANSFER_ENCODING, true),
    {0},
    LONG("user-agent", PROTO_USER_AGENT, false),
    SHORT("upgrade", PROTO_UPGRADE, true),
    {0},
    LONG("x-forwarded-for", PROTO_X_FORWARDED_FOR, false),
    LONG("x-forwarded-proto", PROTO_X_FORWARDED_PROTO, false),
    {0},
};

/* Where the group of a first byte begins: the five bits by which letters differ, but for case. Other bytes have the bits of some letter,
 * and are told from it when the names are compared. */
#define GROUP(c) [(c)&31]
static const uint8_t groups[32] = {GROUP('c') = 1, GROUP('f') = 3,  GROUP('h') = 5,
                                   GROUP('t') = 7, GROUP('u') = 11, GROUP('x') = 14};

static const struct name *names_of(char first)
{
    return &names[groups[first & 31]];
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

uint8_t http1_name_field(enum proto_dir dir, const char *bytes, size_t len)
{
    if (len == 0)
        return HTTP1_NO_FIELD;
    for (const struct name *name = names_of(*bytes); name->len != 0; name++)
        if (name->len == len && name_is(name, bytes))
            return dir == PROTO_REQUEST || name->response ? name->field : HTTP1_NO_FIELD;
    return HTTP1_NO_FIELD;
}

/* ---- header lines, fast ---------------------------------------------------------------------------------------------------------------- */

/* The name that the line [line, lf) begins with, if it is one that matters here and its colon follows at once. *odd: white space follows
 * instead, which the slow way knows what to do with. */
static const struct name *line_name(enum proto_dir dir, const char *line, const char *lf, bool *odd)
{
    for (const struct name *name = names_of(*line); name->len != 0; name++) {
        if (lf - line <= name->len || (dir == PROTO_RESPONSE && !name->response))
            continue;
        char after = line[name->len];
        if ((after != ':' && !http1_is_blank(after)) || !name_is(name, line))
            continue;
        *odd = after != ':';
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
    while (value < lf && http1_is_blank(*value))
        value++;
    size_t len = (size_t)(lf - value);
    size_t bare = len - (len > 0 && value[len - 1] == '\r');
    if (field < PROTO_FIELDS) {
        http1_text(c, (enum proto_field)field, value, bare, false);
        return true;
    }
    if (field == HTTP1_CONTENT_LENGTH && plain_length(h, value, bare))
        return true;
    return http1_framing(c, field, value, len);
}

/* All whole lines that lie here, up to a fold, the empty line, an odd one, or the last of these bytes. */
void http1_fast_lines(struct http1_cursor *c)
{
    const char *line = c->p, *last = c->end - 1;
    bool trailer = c->h->trailer; /* nothing there matters */
    unsigned lines = c->h->lines;
    while (line<last && * line> ' ' && lines < HTTP1_LINES_MAX) {
        const char *lf = memchr(line, '\n', (size_t)(last - line));
        if (lf == NULL || http1_is_blank(lf[1]))
            break;
        if (groups[*line & 31] != 0 && !trailer) {
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
    while (space < target_end && *space != ' ' && http1_is_token((unsigned char)*space) &&
           space - line < (ptrdiff_t)OTSHIM_METHOD_MAX)
        space++;
    if (space == line || *space != ' ' || space + 1 >= target_end || memcmp(target_end, version, sizeof version - 1) != 0 ||
        has_control(space + 1, target_end))
        return false;
    http1_method_done(c, line, (size_t)(space - line));
    if (c->s->over)
        return true;
    http1_text(c, PROTO_TARGET, space + 1, (size_t)(target_end - space - 1), false);
    h->version = lf[-2] == '1' ? 11 : 10;
    c->p = lf + 1;
    http1_line_over(c);
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
    http1_line_over(c);
    return true;
}

/* At the first byte of a message. */
bool http1_fast_start(struct http1_cursor *c)
{
    if (c->h->carry_len > 0 || c->h->match > 0)
        return false;
    return c->dir == PROTO_REQUEST ? fast_request_line(c) : fast_status_line(c);
}
