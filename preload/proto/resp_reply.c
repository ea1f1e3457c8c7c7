/* resp_reply.c - replies: values of RESP2 and RESP3, which may hold others.
 *
 *     + - : _ # , (    a line                         $ = !    a length, then so many bytes
 *     * ~ > %  |       a count, then so many values (of % and |: twice as many)
 *     $? with ;N ... ;0, and *? ~? %? with .          streamed: parts until the end is said
 *
 * For an array in an array the outer one's count is kept. A push message (>) answers no command, and an attribute (|) stands before the value
 * that it belongs to. Of an error the first line's text is captured up to the first quotation mark: behind that the server repeats what it was sent. */
#include "proto/resp.h"

enum { R_TYPE, R_TEXT, R_LENGTH, R_BYTES, R_END };

enum resp_text { TEXT_NONE, TEXT_OPEN, TEXT_OVER };

static void head(struct resp_cursor *c, bool failed)
{
    struct resp_reply *r = &c->s->r;
    if (!r->counts || r->head_done)
        return;
    r->head_done = true;
    resp_emit(c, (struct proto_event){.type = PROTO_HEAD, .failed = failed}, resp_here(c));
}

static void error_text(struct resp_cursor *c, const char *bytes, size_t len)
{
    struct resp_reply *r = &c->s->r;
    size_t take = 0;
    if (r->text != TEXT_OPEN)
        return;
    while (take < len && bytes[take] != '\'' && bytes[take] != '"' && bytes[take] != '`' && bytes[take] != '\r')
        take++;
    bool over = take < len;
    if (take > 0 || over)
        resp_text(c, PROTO_ERROR_TEXT, bytes, take, !over);
    if (over)
        r->text = TEXT_OVER;
}

static void error_text_end(struct resp_cursor *c)
{
    if (c->s->r.text == TEXT_OPEN)
        resp_text(c, PROTO_ERROR_TEXT, "", 0, false);
    c->s->r.text = TEXT_NONE;
}

/* ---- values in values ------------------------------------------------------------------------------------------------------------------ */

static bool is_error(uint8_t type)
{
    return type == '-' || type == '!';
}

/* The outermost value is whole. */
static void reply_end(struct resp_cursor *c)
{
    struct resp *s = c->s;
    if (!s->r.counts)
        return;
    s->pending--;
    if (s->switch_in > 0)
        s->switch_in--;
    if (s->select_in > 0 && --s->select_in == 0 && is_error(s->r.type))
        s->db = s->db_before;
    resp_emit(c, (struct proto_event){.type = PROTO_END}, resp_here(c));
}

/* A value is whole, and with it those that it is the last one of. */
static void value_end(struct resp_cursor *c)
{
    struct resp_reply *r = &c->s->r;
    r->phase = R_TYPE;
    while (r->depth > 0) {
        unsigned top = r->depth - 1u;
        if (r->streamed & 1u << top || --r->level[top] > 0)
            return;
        r->depth--;
        if (r->extra & 1u << top)
            return;
    }
    reply_end(c);
}

static void stream_end(struct resp_cursor *c)
{
    struct resp_reply *r = &c->s->r;
    unsigned top = r->depth - 1u;
    r->depth--;
    r->phase = R_TYPE;
    if (!(r->extra & 1u << top))
        value_end(c);
}

static void aggregate(struct resp_cursor *c, const struct resp_line *line)
{
    struct resp_reply *r = &c->s->r;
    bool extra = r->type == '|', twice = extra || r->type == '%';
    r->phase = R_TYPE;
    if (line->negative || (line->number == 0 && !line->streamed)) { /* "*-1": nil */
        if (!extra)
            value_end(c);
        return;
    }
    if (r->depth == RESP_DEPTH) {
        resp_lost(c, "too many values in each other");
        return;
    }
    unsigned bit = 1u << r->depth;
    r->extra = (uint16_t)(extra ? r->extra | bit : r->extra & ~bit);
    r->streamed = (uint16_t)(line->streamed ? r->streamed | bit : r->streamed & ~bit);
    r->level[r->depth++] = line->number * (twice ? 2 : 1);
}

/* ---- a step of the bytes ------------------------------------------------------------------------------------------------------------------ */

/* The first byte of a value that is in no other. False: the connection is no reader of replies any more, or never was. */
static bool outermost(struct resp_cursor *c, char type)
{
    struct resp *s = c->s;
    bool granted = s->switch_in == 1 && type != '|' && !is_error((uint8_t)type);
    s->r.counts = type != '|' && (type != '>' || granted);
    s->r.head_done = false;
    if (!s->r.counts)
        return true;
    if (s->pending == 0) {
        resp_lost(c, "a reply to nothing");
        return false;
    }
    resp_emit(c, (struct proto_event){.type = PROTO_BEGIN}, resp_here(c));
    s->r.text = is_error((uint8_t)type) ? TEXT_OPEN : TEXT_NONE;
    if (!granted)
        return true;
    s->over = true;
    resp_emit(c, (struct proto_event){.type = PROTO_SWITCH}, resp_here(c));
    return false;
}

static void type_step(struct resp_cursor *c)
{
    struct resp_reply *r = &c->s->r;
    char type = *c->p;
    if (r->chunk ? type != ';' : (type == '\0' || strchr("+-:_#,($=!*~>%|.", type) == NULL)) {
        resp_lost(c, "no value");
        return;
    }
    if (type == '.' && (r->depth == 0 || !(r->streamed & 1u << (r->depth - 1u)))) {
        resp_lost(c, "an end of nothing");
        return;
    }
    if (r->depth == 0 && !r->chunk && !outermost(c, type))
        return;
    c->p++;
    r->line = (struct resp_line){0};
    if (!r->chunk)
        r->type = (uint8_t)type;
    r->phase = type != '\0' && strchr("$=!*~>%|;", type) != NULL ? R_LENGTH : R_TEXT;
}

/* A line that is the value: up to its end, or the end of what is here. */
static void text_step(struct resp_cursor *c)
{
    struct resp_reply *r = &c->s->r;
    const char *lf = memchr(c->p, '\n', (size_t)(c->end - c->p)), *from = c->p;
    c->p = lf != NULL ? lf + 1 : c->end;
    if (r->depth == 0)
        error_text(c, from, (size_t)((lf != NULL ? lf : c->end) - from));
    if (lf == NULL)
        return;
    if (r->type == '.' && r->depth > 0) {
        stream_end(c);
        return;
    }
    if (r->depth == 0) {
        error_text_end(c);
        head(c, is_error(r->type));
    }
    value_end(c);
}

static void string(struct resp_cursor *c, const struct resp_line *line)
{
    struct resp_reply *r = &c->s->r;
    if (line->streamed && !r->chunk) {
        r->chunk = true;
        r->phase = R_TYPE;
        return;
    }
    if (line->negative || (r->chunk && line->number == 0)) { /* "$-1": nil */
        r->chunk = false;
        if (r->depth == 0)
            error_text_end(c);
        value_end(c);
        return;
    }
    r->left = line->number;
    r->phase = r->left > 0 ? R_BYTES : R_END;
    if (r->left == 0)
        r->left = 2;
}

static void length_step(struct resp_cursor *c)
{
    struct resp_reply *r = &c->s->r;
    enum resp_line_is is = resp_line_step(&r->line, *c->p);
    bool can_stream = !r->chunk && strchr("$*~%|", r->type) != NULL;
    if (is == RESP_LINE_BAD || (r->line.streamed && !can_stream) || (r->line.negative && r->line.number > 1)) {
        resp_lost(c, "no length");
        return;
    }
    c->p++;
    if (is != RESP_LINE_WHOLE)
        return;
    if (r->depth == 0)
        head(c, is_error(r->type));
    struct resp_line line = r->line;
    if (strchr("*~>%|", r->type) != NULL)
        aggregate(c, &line);
    else
        string(c, &line);
}

static void bytes_step(struct resp_cursor *c)
{
    struct resp_reply *r = &c->s->r;
    size_t here = (size_t)(c->end - c->p), len = here < r->left ? here : (size_t)r->left;
    if (r->depth == 0)
        error_text(c, c->p, len);
    c->p += len;
    r->left -= len;
    if (r->left > 0)
        return;
    r->phase = R_END;
    r->left = 2;
}

/* CR LF after a string. */
static void end_step(struct resp_cursor *c)
{
    struct resp_reply *r = &c->s->r;
    if (*c->p != (r->left == 2 ? '\r' : '\n')) {
        resp_lost(c, "a string that does not end");
        return;
    }
    c->p++;
    if (--r->left > 0)
        return;
    if (r->chunk) {
        r->phase = R_TYPE;
        return;
    }
    if (r->depth == 0)
        error_text_end(c);
    value_end(c);
}

void resp_reply_step(struct resp_cursor *c)
{
    switch (c->s->r.phase) {
    case R_TYPE: type_step(c); break;
    case R_TEXT: text_step(c); break;
    case R_LENGTH: length_step(c); break;
    case R_BYTES: bytes_step(c); break;
    default: end_step(c); break;
    }
}
