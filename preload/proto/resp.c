/* resp.c - Redis' protocol, RESP2 and RESP3, from a client's side: commands go out, replies come back in the same order.
 * https://redis.io/docs/latest/develop/reference/protocol-spec/
 *
 * A command is an array of strings, "*2\r\n$3\r\nGET\r\n$1\r\nk\r\n", or (by hand) a line of words. What is captured of it: its name, with the word that follows where
 * that is a part of it (CONFIG GET); how many arguments there are; the first key, where one is known to be (resp_words.c). Never a value, and nothing at all of a command
 * that has passwords. The database is the one that was chosen by SELECT.
 *
 * SUBSCRIBE and MONITOR and the like are the end of one reply for each command: when such a command is granted, the connection is another protocol's (SWITCH).
 *
 * Each command of a transaction is one: MULTI, what is queued, EXEC. */
#include "proto/resp.h"

enum { Q_START, Q_COUNT, Q_MARK, Q_LENGTH, Q_BYTES, Q_END, Q_INLINE_NAME, Q_INLINE };

enum resp_line_is resp_line_step(struct resp_line *line, char byte)
{
    if (line->cr)
        return byte == '\n' && (line->digits > 0 || line->streamed) ? RESP_LINE_WHOLE : RESP_LINE_BAD;
    if (byte == '\r') {
        line->cr = true;
        return RESP_LINE_OPEN;
    }
    if (byte >= '0' && byte <= '9' && !line->streamed && line->digits < 18) {
        line->number = line->number * 10 + (uint64_t)(byte - '0');
        line->digits++;
        return RESP_LINE_OPEN;
    }
    if (line->digits > 0 || line->negative || line->streamed || (byte != '-' && byte != '?'))
        return RESP_LINE_BAD;
    *(byte == '-' ? &line->negative : &line->streamed) = true;
    return RESP_LINE_OPEN;
}

/* ---- what a command is ------------------------------------------------------------------------------------------------------------- */

static void command_begin(struct resp_cursor *c, ptrdiff_t offset)
{
    struct resp_request *q = &c->s->q;
    q->line = (struct resp_line){0};
    q->head_done = q->named = false;
    q->name_len = 0;
    q->traits = 0;
    q->use = RESP_NAME_WORD;
    resp_emit(c, (struct proto_event){.type = PROTO_BEGIN}, offset);
}

static void decimal(struct resp_cursor *c, enum proto_field field, uint64_t number)
{
    char text[20];
    size_t at = sizeof text;
    do
        text[--at] = (char)('0' + number % 10);
    while (number /= 10);
    resp_text(c, field, text + at, sizeof text - at, false);
}

/* The name is complete: `args` arguments follow it, if that is known. */
static void command_named(struct resp_cursor *c, bool counted, uint64_t args)
{
    struct resp_request *q = &c->s->q;
    q->named = true;
    if (q->name_len > 0)
        resp_text(c, PROTO_METHOD, q->name, q->name_len, false);
    if (counted && q->name_len > 0 && !(q->traits & RESP_SECRET))
        decimal(c, PROTO_DB_ARGUMENTS, args);
    if (c->s->db >= 0)
        decimal(c, PROTO_DB_NAMESPACE, (uint64_t)c->s->db);
}

static void command_head(struct resp_cursor *c)
{
    if (!c->s->q.head_done)
        resp_emit(c, (struct proto_event){.type = PROTO_HEAD, .insert_at = resp_here(c)}, resp_here(c));
    c->s->q.head_done = true;
}

/* The database from the next command on. In a transaction it is not known whether that happens. */
static void database_chosen(struct resp *s)
{
    bool certain = s->q.use == RESP_DB && s->q.line.digits > 0 && s->q.line.digits < 9 && !s->q.line.negative && !s->multi &&
                   s->select_in == 0;
    s->db_before = s->select_in == 0 && !s->multi ? s->db : RESP_DB_UNKNOWN;
    s->db = certain ? (int32_t)s->q.line.number : RESP_DB_UNKNOWN;
    s->select_in = s->pending;
}

static void command_end(struct resp_cursor *c)
{
    struct resp *s = c->s;
    uint16_t traits = s->q.traits;
    s->q.phase = Q_START;
    command_head(c);
    if (traits & RESP_SILENCES) {
        s->over = true;
        resp_emit(c, (struct proto_event){.type = PROTO_SWITCH}, resp_here(c));
        return;
    }
    s->pending++;
    if (traits & RESP_SWITCHES && s->switch_in == 0)
        s->switch_in = s->pending;
    if (traits & RESP_SELECTS)
        database_chosen(s);
    if (traits & RESP_RESETS)
        s->db = 0;
    if (traits & (RESP_BEGINS | RESP_ENDS | RESP_RESETS))
        s->multi = (traits & RESP_BEGINS) != 0;
    resp_emit(c, (struct proto_event){.type = PROTO_END}, resp_here(c));
}

/* ---- its words ------------------------------------------------------------------------------------------------------------------------ */

static bool is_word(char byte)
{
    return (byte >= 'A' && byte <= 'Z') || (byte >= 'a' && byte <= 'z') || (byte >= '0' && byte <= '9') || byte == '_' ||
           byte == '-' || byte == '.';
}

static void name_byte(struct resp_request *q, char byte)
{
    if (q->use == RESP_PASS)
        return;
    if (q->name_len < RESP_NAME && is_word(byte)) {
        q->name[q->name_len++] = byte;
        return;
    }
    /* Not a command's name. That of a container is one even so. */
    if (q->use == RESP_NAME_WORD)
        q->name_len = 0;
    while (q->name_len > 0 && q->use == RESP_SUB_WORD && q->name[q->name_len - 1] != ' ')
        q->name_len--;
    q->use = RESP_PASS;
}

/* The argument that comes now has `left` bytes. */
static void argument_begin(struct resp_cursor *c)
{
    struct resp_request *q = &c->s->q;
    q->left = q->line.number;
    q->line = (struct resp_line){0};
    if (q->use == RESP_SUB_WORD)
        q->name[q->name_len++] = ' ';
    else if (q->use == RESP_KEY && q->left == 0)
        resp_text(c, PROTO_DB_KEY, "", 0, false);
    if (q->left >= RESP_CONTENT && q->named && q->use == RESP_PASS)
        command_head(c);
}

static void argument_bytes(struct resp_cursor *c, size_t len)
{
    struct resp_request *q = &c->s->q;
    const char *bytes = c->p;
    c->p += len;
    q->left -= len;
    if (q->use == RESP_KEY)
        resp_text(c, PROTO_DB_KEY, bytes, len, q->left > 0);
    else if (q->use == RESP_DB)
        for (size_t i = 0; i < len; i++)
            if (q->use == RESP_DB && (bytes[i] == '?' || resp_line_step(&q->line, bytes[i]) != RESP_LINE_OPEN || q->line.cr))
                q->use = RESP_PASS;
    if (q->use == RESP_NAME_WORD || q->use == RESP_SUB_WORD)
        for (size_t i = 0; i < len; i++)
            name_byte(q, bytes[i]);
}

/* What to do with the next argument, of which there are `more`. */
static void argument_end(struct resp_cursor *c, uint64_t more)
{
    struct resp_request *q = &c->s->q;
    bool sub = q->traits & RESP_CONTAINER;
    if (q->named) {
        if (q->use != RESP_DB)
            q->use = RESP_PASS;
        return;
    }
    if (!sub)
        q->traits = resp_traits(q->name, q->name_len);
    else if (q->name_len > 0 && q->name[q->name_len - 1] == ' ')
        q->name_len--;
    else
        q->traits |= resp_traits(q->name, q->name_len);
    if (!sub && q->traits & RESP_CONTAINER && more > 0) {
        q->use = q->name_len < RESP_NAME ? RESP_SUB_WORD : RESP_PASS;
        return;
    }
    q->use = q->traits & RESP_KEYED ? RESP_KEY : q->traits & RESP_SELECTS ? RESP_DB : RESP_PASS;
    command_named(c, true, more);
}

/* ---- a step of the bytes ---------------------------------------------------------------------------------------------------------------- */

static void request_start(struct resp_cursor *c)
{
    struct resp_request *q = &c->s->q;
    char byte = *c->p;
    if (byte == '\r' || byte == '\n' || byte == ' ') {
        c->p++; /* an empty line is no command */
        return;
    }
    if (byte != '*' && !is_word(byte)) {
        resp_lost(c, "no command");
        return;
    }
    command_begin(c, resp_here(c));
    q->phase = byte == '*' ? Q_COUNT : Q_INLINE_NAME;
    if (byte == '*')
        c->p++;
}

static void number_line(struct resp_cursor *c)
{
    struct resp_request *q = &c->s->q;
    enum resp_line_is is = resp_line_step(&q->line, *c->p);
    if (is == RESP_LINE_BAD || q->line.negative || q->line.streamed) {
        resp_lost(c, "no number");
        return;
    }
    c->p++;
    if (is != RESP_LINE_WHOLE)
        return;
    if (q->phase == Q_COUNT) {
        q->args = q->line.number;
        q->phase = Q_MARK;
        if (q->args == 0)
            resp_lost(c, "a command of nothing");
        return;
    }
    argument_begin(c);
    q->phase = q->left > 0 ? Q_BYTES : Q_END;
    if (q->left == 0)
        q->left = 2;
}

static void argument_step(struct resp_cursor *c)
{
    struct resp_request *q = &c->s->q;
    size_t here = (size_t)(c->end - c->p);
    argument_bytes(c, here < q->left ? here : (size_t)q->left);
    if (q->left > 0)
        return;
    q->phase = Q_END;
    q->left = 2;
}

/* CR LF after an argument. */
static void argument_over(struct resp_cursor *c)
{
    struct resp_request *q = &c->s->q;
    if (*c->p != (q->left == 2 ? '\r' : '\n')) {
        resp_lost(c, "an argument that does not end");
        return;
    }
    c->p++;
    if (--q->left > 0)
        return;
    argument_end(c, --q->args);
    q->phase = Q_MARK;
    if (q->args == 0)
        command_end(c);
}

static void inline_step(struct resp_cursor *c)
{
    struct resp_request *q = &c->s->q;
    char byte = *c->p++;
    bool blank = byte == ' ' || byte == '\t' || byte == '\r' || byte == '\n';
    if (q->phase == Q_INLINE_NAME && !blank) {
        name_byte(q, byte);
        if (q->use == RESP_PASS) {
            resp_lost(c, "no command");
            return;
        }
    } else if (q->phase == Q_INLINE_NAME) {
        q->traits = resp_traits(q->name, q->name_len);
        if (q->traits & RESP_CONTAINER) /* which one of them it is, is not looked at */
            q->traits = 0;
        command_named(c, false, 0);
        q->use = RESP_PASS;
        q->phase = Q_INLINE;
    }
    if (byte == '\n')
        command_end(c);
}

static void request_step(struct resp_cursor *c)
{
    struct resp_request *q = &c->s->q;
    switch (q->phase) {
    case Q_START: request_start(c); break;
    case Q_COUNT:
    case Q_LENGTH: number_line(c); break;
    case Q_MARK:
        if (*c->p != '$') {
            resp_lost(c, "an argument that is no string");
            return;
        }
        c->p++;
        q->line = (struct resp_line){0};
        q->phase = Q_LENGTH;
        break;
    case Q_BYTES: argument_step(c); break;
    case Q_END: argument_over(c); break;
    default: inline_step(c); break;
    }
}

/* ---- the parser as proto.h has it ------------------------------------------------------------------------------------------------------- */

static void resp_init(void *state)
{
    (void)state; /* zero: the first database */
}

static void resp_feed(void *state, enum proto_dir dir, const char *bytes, size_t len, proto_sink sink, void *sink_arg)
{
    struct resp_cursor c = {
        .s = state, .dir = dir, .start = bytes, .p = bytes, .end = bytes + len, .sink = sink, .sink_arg = sink_arg};
    while (c.p < c.end && !c.s->over) {
        if (dir == PROTO_REQUEST)
            request_step(&c);
        else
            resp_reply_step(&c);
    }
}

/* A string's content may go by unseen, but for what is read of it. */
static void resp_skip(void *state, enum proto_dir dir, uint64_t len, proto_sink sink, void *sink_arg)
{
    struct resp *s = state;
    struct resp_cursor c = {.s = s, .dir = dir, .start = "", .p = "", .end = "", .sink = sink, .sink_arg = sink_arg};
    struct resp_request *q = &s->q;
    if (s->over || len == 0)
        return;
    if (dir == PROTO_REQUEST && q->phase == Q_BYTES && q->use == RESP_PASS && len < q->left)
        q->left -= len;
    else
        resp_lost(&c, "bytes that nobody saw");
}

static void resp_eof(void *state, enum proto_dir dir, proto_sink sink, void *sink_arg)
{
    (void)state, (void)dir, (void)sink, (void)sink_arg; /* nothing ends with the connection */
}

/* "*2\r\n$3\r\n" */
static enum proto_match resp_detect(enum proto_dir dir, const char *bytes, size_t len)
{
    size_t at = 0;
    if (dir != PROTO_REQUEST)
        return PROTO_NO;
    for (const char *mark = "*$"; *mark != '\0'; mark++) {
        if (at == len)
            return PROTO_MAYBE;
        if (bytes[at++] != *mark)
            return PROTO_NO;
        size_t digits = at;
        while (at < len && at - digits < 10 && bytes[at] >= '0' && bytes[at] <= '9')
            at++;
        if (at < len && (at == digits || bytes[digits] == '0'))
            return PROTO_NO;
        for (const char *end = "\r\n"; *end != '\0'; end++) {
            if (at == len)
                return PROTO_MAYBE;
            if (bytes[at++] != *end)
                return PROTO_NO;
        }
    }
    return PROTO_YES;
}

const struct proto_ops resp_ops = {
    .name = "redis",
    .id = OTSHIM_PROTOCOL_REDIS,
    .state_bytes = sizeof(struct resp),
    .client_only = true,
    .passes_over = true,
    .detect = resp_detect,
    .init = resp_init,
    .feed = resp_feed,
    .skip = resp_skip,
    .eof = resp_eof,
};

_Static_assert(sizeof(struct resp) <= PROTO_STATE_MAX, "the state has room in a connection");
