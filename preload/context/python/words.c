/* words.c - from kept frames to text. See frames.h.
 *
 * All that lies in Python's memory is read by the kernel, for it may be gone: first the code objects, each compared with its mark; then the
 * strings' heads, the strings, the line tables; and at the end the code objects once more, so that what was read in between was theirs. With
 * the first one that is not what it was the stack ends: what lies further out is not told.
 *
 * Whose code is it? The user's is what does not lie in the standard library's directory nor in site-packages or dist-packages, has a file
 * at all, and is not the script by which an installed program (gunicorn, uvicorn) is started. */
#include "base/base.h"
#include "base/pool.h"
#include "base/raw.h"
#include "context/python/frames.h"
#include "context/python/lines.h"
#include <string.h>
#include <sys/uio.h>

/* PyObject, PyVarObject, PyTypeObject, PyASCIIObject, PyBytesObject: the same in all versions. */
enum { TYPE = 8, SIZE = 16, TYPE_NAME = 24, TYPE_SIZE = 32, STR_STATE = 32, BYTES = 32 };
#define CODE_BYTES 144u /* of a code object: all that is looked at */
#define HEAD_BYTES 40u  /* of a str or bytes: what comes before its characters, or most of it */
#define OUTWARD 5u      /* so many of those who called the user's function are shown before what it called */

enum { FILE_TEXT, NAME_TEXT, TEXTS };

struct scratch {
    unsigned count; /* of frames that are what they were, and belong to the call */
    unsigned char code[FRAMES_MAX][CODE_BYTES];
    unsigned char head[FRAMES_MAX][TEXTS][HEAD_BYTES];
    uint16_t len[FRAMES_MAX][TEXTS];
    uint32_t line[FRAMES_MAX];
    char file[FRAMES_MAX][OTSHIM_CODE_FILE_MAX];
    char name[FRAMES_MAX][OTSHIM_CODE_FUNCTION_MAX];
    unsigned char raw[32 * 1024]; /* strings, then line tables */
};
static struct pool scratches = POOL_INIT(sizeof(struct scratch), 1, 15);

/* Types of objects as the test found them. */
static struct {
    const void *code, *str, *bytes;
} types;

/* ---- reading what may not be there ----------------------------------------------------------------------------------------------------- */

/* How many bytes of the pieces could be read, one after the other, up to the first that could not. */
static size_t peek_all(void *to, size_t room, const struct iovec *from, size_t pieces)
{
    const struct iovec local = {to, room};
    const long pid = raw_syscall0(SYS_getpid);
    const long got = raw_syscall6(SYS_process_vm_readv, pid, (long)&local, 1, (long)from, (long)pieces, 0);
    return raw_failed(got) ? 0 : (size_t)got;
}

static bool peek(void *to, const void *from, size_t len)
{
    const struct iovec piece = {(void *)(uintptr_t)from, len};
    return peek_all(to, len, &piece, 1) == len;
}

static inline const void *pointer_in(const unsigned char *bytes, size_t at)
{
    const void *pointer;
    memcpy(&pointer, bytes + at, sizeof pointer);
    return pointer;
}

static inline uint32_t word_in(const unsigned char *bytes, size_t at)
{
    uint32_t word;
    memcpy(&word, bytes + at, sizeof word);
    return word;
}

static struct frames_code code_in(const struct frames_layout *layout, const unsigned char *code)
{
    return (struct frames_code){
        .file = pointer_in(code, layout->file),
        .name = pointer_in(code, layout->name),
        .table = pointer_in(code, layout->table),
        .first_line = word_in(code, layout->first_line),
    };
}

static inline const void *name_in(const struct frames_layout *layout, const unsigned char *code)
{
    return pointer_in(code, layout->qualified != 0 ? layout->qualified : layout->name);
}

/* How many of the innermost frames have their code still. */
static unsigned read_code(const struct frames_layout *layout, const struct frames *frames, unsigned count, struct scratch *s)
{
    struct iovec from[FRAMES_MAX];
    for (unsigned i = 0; i < count; i++)
        from[i] = (struct iovec){(void *)(uintptr_t)frames->entry[i].code, CODE_BYTES};
    const unsigned there = (unsigned)(peek_all(s->code, sizeof s->code, from, count) / CODE_BYTES);
    for (unsigned i = 0; i < there; i++) {
        const struct frames_code code = code_in(layout, s->code[i]);
        if (pointer_in(s->code[i], TYPE) != types.code || frames_mark(&code) != frames->entry[i].mark)
            return i;
    }
    return there;
}

/* ---- strings ------------------------------------------------------------------------------------------------------------------------------ */

/* Of the bit field after a str's hash: how many bytes a character has, and that the characters follow. */
static inline unsigned str_unit(const unsigned char *head)
{
    const uint32_t state = word_in(head, STR_STATE);
    const unsigned unit = state >> 2 & 7;
    return (state & 1u << 5) && (unit == 1 || unit == 2 || unit == 4) ? unit : 0;
}

static inline bool str_is_ascii(const unsigned char *head)
{
    return (word_in(head, STR_STATE) & 1u << 6) != 0;
}

/* As UTF-8, in whole characters, control characters replaced: a frame is a line. */
static uint16_t utf8_of(char *to, size_t room, const unsigned char *from, size_t count, unsigned unit)
{
    size_t at = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t c = 0;
        memcpy(&c, from + i * unit, unit);
        if (c < ' ' || c == 0x7f || (c >= 0xd800 && c < 0xe000) || c > 0x10ffff)
            c = '?'; /* a file's name that is no UTF-8 has surrogates (PEP 383) */
        const unsigned len = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
        if (at + len > room)
            break;
        if (len == 1) {
            to[at] = (char)c;
        } else {
            for (unsigned k = len - 1; k > 0; k--, c >>= 6)
                to[at + k] = (char)(0x80 | (c & 0x3f));
            to[at] = (char)(0xf00 >> len | c);
        }
        at += len;
    }
    return (uint16_t)at;
}

static bool read_heads(const struct frames_layout *layout, struct scratch *s)
{
    struct iovec from[FRAMES_MAX * TEXTS];
    for (unsigned i = 0; i < s->count; i++) {
        from[i * TEXTS + FILE_TEXT] = (struct iovec){(void *)(uintptr_t)pointer_in(s->code[i], layout->file), HEAD_BYTES};
        from[i * TEXTS + NAME_TEXT] = (struct iovec){(void *)(uintptr_t)name_in(layout, s->code[i]), HEAD_BYTES};
    }
    const size_t len = (size_t)s->count * TEXTS * HEAD_BYTES;
    return peek_all(s->head, len, from, (size_t)s->count * TEXTS) == len;
}

static struct iovec characters(const struct frames_layout *layout, const void *str, const unsigned char *head, size_t most)
{
    const unsigned char *at = str;
    size_t count = (size_t)pointer_in(head, SIZE);
    count = count < most ? count : most;
    return (struct iovec){(void *)(uintptr_t)(at + (str_is_ascii(head) ? layout->text : layout->wide_text)),
                          count * str_unit(head)};
}

static bool is_text_head(const unsigned char *head)
{
    return pointer_in(head, TYPE) == types.str && str_unit(head) != 0;
}

/* Files and names of the innermost frames, as many as the room for them allows and as are there. */
static void read_texts(const struct frames_layout *layout, struct scratch *s)
{
    struct iovec from[FRAMES_MAX * TEXTS];
    size_t room = sizeof s->raw;
    unsigned count = 0;
    for (; count < s->count; count++) {
        const unsigned char *file = s->head[count][FILE_TEXT], *name = s->head[count][NAME_TEXT];
        struct iovec *pair = &from[count * TEXTS];
        if (!is_text_head(file) || !is_text_head(name))
            break;
        pair[FILE_TEXT] = characters(layout, pointer_in(s->code[count], layout->file), file, sizeof s->file[0]);
        pair[NAME_TEXT] = characters(layout, name_in(layout, s->code[count]), name, sizeof s->name[0]);
        if (pair[FILE_TEXT].iov_len + pair[NAME_TEXT].iov_len > room)
            break;
        room -= pair[FILE_TEXT].iov_len + pair[NAME_TEXT].iov_len;
    }
    size_t left = peek_all(s->raw, sizeof s->raw, from, (size_t)count * TEXTS);
    const unsigned char *at = s->raw;
    s->count = 0;
    for (unsigned i = 0; i < count; i++) {
        const size_t file = from[i * TEXTS + FILE_TEXT].iov_len, name = from[i * TEXTS + NAME_TEXT].iov_len;
        const unsigned file_unit = str_unit(s->head[i][FILE_TEXT]), name_unit = str_unit(s->head[i][NAME_TEXT]);
        if (left < file + name || file_unit == 0 || name_unit == 0)
            return;
        s->len[i][FILE_TEXT] = utf8_of(s->file[i], sizeof s->file[i], at, file / file_unit, file_unit);
        s->len[i][NAME_TEXT] = utf8_of(s->name[i], sizeof s->name[i], at + file, name / name_unit, name_unit);
        at += file + name;
        left -= file + name;
        s->count = i + 1;
    }
}

/* Lines of frames inner to outer: 0 where they are not to be learned. */
static void read_lines(const struct frames_layout *layout, const struct frames *frames, struct scratch *s, unsigned inner,
                       unsigned outer)
{
    struct iovec from[FRAMES_MAX];
    const unsigned count = outer - inner + 1;
    size_t room = sizeof s->raw;
    memset(s->line + inner, 0, count * sizeof *s->line);
    for (unsigned i = 0; i < count; i++)
        from[i] = (struct iovec){(void *)(uintptr_t)code_in(layout, s->code[inner + i]).table, BYTES};
    if (peek_all(s->head, sizeof s->head, from, count) != count * BYTES)
        return;
    for (unsigned i = 0; i < count; i++) {
        const unsigned char *head = (const unsigned char *)s->head + i * BYTES;
        const size_t len = (size_t)pointer_in(head, SIZE), share = room / (count - i);
        from[i].iov_base = (char *)from[i].iov_base + BYTES;
        from[i].iov_len = pointer_in(head, TYPE) != types.bytes ? 0 : len < share ? len : share;
        room -= from[i].iov_len;
    }
    size_t left = peek_all(s->raw, sizeof s->raw, from, count);
    const unsigned char *at = s->raw;
    for (unsigned i = 0; i < count && left >= from[i].iov_len; i++) {
        const struct frames_entry *entry = &frames->entry[inner + i];
        if (from[i].iov_len > 0)
            s->line[inner + i] =
                lines_of(layout->minor, at, from[i].iov_len, code_in(layout, s->code[inner + i]).first_line, entry->at);
        at += from[i].iov_len;
        left -= from[i].iov_len;
    }
}

/* ---- whose code --------------------------------------------------------------------------------------------------------------------------- */

static bool ends_with(const char *text, size_t len, const char *end)
{
    const size_t n = strlen(end);
    return len >= n && memcmp(text + len - n, end, n) == 0;
}

static bool is_text(const struct scratch *s, unsigned i, const char *name)
{
    return s->len[i][NAME_TEXT] == strlen(name) && memcmp(s->name[i], name, s->len[i][NAME_TEXT]) == 0;
}

/* "/lib/python3.11/": the standard library, and the default place of site-packages. */
static bool in_library_of(const char *file, size_t len, unsigned minor)
{
    char directory[] = "/python3.00/";
    const size_t digits = minor < 10 ? 1 : 2, size = sizeof "/python3." - 1 + digits + 1;
    directory[size - 2] = (char)('0' + minor % 10);
    if (digits == 2)
        directory[size - 3] = (char)('0' + minor / 10);
    directory[size - 1] = '/';
    const char *at = memmem(file, len, directory, size);
    if (at == NULL)
        return false;
    const size_t before = (size_t)(at - file);
    return ends_with(file, before, "/lib") || ends_with(file, before, "/lib64");
}

/* /usr/bin/gunicorn, /venv/bin/uvicorn: no suffix, and nothing but a call of the program. */
static bool is_starter(const struct scratch *s, unsigned i)
{
    const char *file = s->file[i];
    const size_t len = s->len[i][FILE_TEXT];
    const char *slash = memrchr(file, '/', len);
    return slash != NULL && is_text(s, i, "<module>") && ends_with(file, (size_t)(slash - file), "/bin") &&
           memchr(slash, '.', len - (size_t)(slash - file)) == NULL;
}

static bool is_users(const struct frames_layout *layout, const struct scratch *s, unsigned i)
{
    const char *file = s->file[i];
    const size_t len = s->len[i][FILE_TEXT];
    return len > 0 && file[0] != '<' && memmem(file, len, "/site-packages/", 15) == NULL &&
           memmem(file, len, "/dist-packages/", 15) == NULL && !in_library_of(file, len, layout->minor) && !is_starter(s, i);
}

/* asyncio's loop runs a callback: this frame and those outside of it are the loop's. */
static bool is_loop(const struct scratch *s, unsigned i)
{
    return ends_with(s->file[i], s->len[i][FILE_TEXT], "/asyncio/events.py") &&
           (is_text(s, i, "_run") || is_text(s, i, "Handle._run"));
}

/* ---- the text ------------------------------------------------------------------------------------------------------------------------------ */

struct range {
    unsigned inner, outer; /* both included */
};

static size_t line_room(const struct scratch *s, unsigned i)
{
    return sizeof "  File \"\", line 4294967295, in \n" - 1 + s->len[i][FILE_TEXT] + s->len[i][NAME_TEXT];
}

/* The frames that are shown: the user's function, some of those who called it, then what it called, as many as there is room for. Without one:
 * from the innermost outwards. */
static struct range choose(const struct scratch *s, unsigned user)
{
    size_t room = OTSHIM_CODE_STACKTRACE_MAX - 2 * (sizeof "  [62 outer frames left out]\n" - 1);
    const bool found = user < s->count;
    struct range r = {found ? user : 0, found ? user : 0};
    room -= line_room(s, r.inner);
    for (unsigned n = 0; found && n < OUTWARD && r.outer + 1 < s->count && line_room(s, r.outer + 1) <= room; n++)
        room -= line_room(s, ++r.outer);
    while (r.inner > 0 && line_room(s, r.inner - 1) <= room)
        room -= line_room(s, --r.inner);
    while (r.outer + 1 < s->count && line_room(s, r.outer + 1) <= room)
        room -= line_room(s, ++r.outer);
    return r;
}

static void add(struct runtime_site_words *words, const char *text, size_t len)
{
    memcpy(words->stack + words->stack_len, text, len); /* choose() has seen to the room */
    words->stack_len = (uint16_t)(words->stack_len + len);
}

static void add_number(struct runtime_site_words *words, uint32_t number)
{
    char digits[10];
    size_t at = sizeof digits;
    do {
        digits[--at] = (char)('0' + number % 10);
        number /= 10;
    } while (number != 0);
    add(words, digits + at, sizeof digits - at);
}

#define ADD(words, literal) add(words, literal, sizeof literal - 1)

static void add_left_out(struct runtime_site_words *words, unsigned count, const char *which)
{
    if (count == 0)
        return;
    ADD(words, "  [");
    add_number(words, count);
    ADD(words, " ");
    add(words, which, strlen(which));
    if (count == 1)
        ADD(words, " frame left out]\n");
    else
        ADD(words, " frames left out]\n");
}

/* As traceback.format_stack does: the most recent call last. */
static void add_frames(struct runtime_site_words *words, const struct scratch *s, struct range range)
{
    add_left_out(words, s->count - 1 - range.outer, "outer");
    for (unsigned i = range.outer + 1; i-- > range.inner;) {
        ADD(words, "  File \"");
        add(words, s->file[i], s->len[i][FILE_TEXT]);
        ADD(words, "\", line ");
        if (s->line[i] != 0)
            add_number(words, s->line[i]);
        else
            ADD(words, "?");
        ADD(words, ", in ");
        add(words, s->name[i], s->len[i][NAME_TEXT]);
        ADD(words, "\n");
    }
    add_left_out(words, range.inner, "inner");
    if (words->stack_len > 0)
        words->stack_len--; /* the last newline */
}

static bool put_into_words(const struct frames_layout *layout, const struct frames *frames, struct scratch *s,
                           struct runtime_site_words *words)
{
    const unsigned kept = frames->count < FRAMES_MAX ? frames->count : FRAMES_MAX;
    s->count = read_code(layout, frames, kept, s);
    if (s->count == 0 || !read_heads(layout, s))
        return false;
    read_texts(layout, s);
    unsigned user = FRAMES_MAX;
    for (unsigned i = 0; i < s->count; i++) {
        if (is_loop(s, i))
            s->count = i;
        else if (user == FRAMES_MAX && is_users(layout, s, i))
            user = i;
    }
    if (s->count == 0)
        return false;
    const struct range range = choose(s, user);
    read_lines(layout, frames, s, range.inner, range.outer);
    if (read_code(layout, frames, s->count, s) < s->count)
        return false;
    add_frames(words, s, range);
    if (user >= s->count)
        return true;
    words->line = s->line[user];
    words->function_len = s->len[user][NAME_TEXT];
    memcpy(words->function, s->name[user], words->function_len);
    words->file_len = s->len[user][FILE_TEXT];
    memcpy(words->file, s->file[user], words->file_len);
    return true;
}

bool frames_words(const struct frames_layout *layout, const struct frames *frames, struct runtime_site_words *words)
{
    struct scratch *s = pool_get(&scratches);
    if (s == NULL)
        return false;
    const bool said = put_into_words(layout, frames, s, words);
    pool_put(&scratches, s);
    return said;
}

/* ---- the test ------------------------------------------------------------------------------------------------------------------------------- */

/* Is it an object of the type of that name? The type is noted in *type the first time. */
static bool is_object(const void *object, const void **type, const char *type_name)
{
    char name[8];
    const void *its_type, *at;
    const size_t len = strlen(type_name) + 1;
    if (!peek(&its_type, (const char *)object + TYPE, sizeof its_type))
        return false;
    if (*type != NULL)
        return its_type == *type;
    if (!peek(&at, (const char *)its_type + TYPE_NAME, sizeof at) || !peek(name, at, len) || memcmp(name, type_name, len) != 0)
        return false;
    *type = its_type;
    return true;
}

static bool is_str(const void *object)
{
    unsigned char head[HEAD_BYTES];
    return is_object(object, &types.str, "str") && peek(head, object, sizeof head) && str_unit(head) != 0 &&
           (!str_is_ascii(head) || str_unit(head) == 1);
}

static bool bytes_size(const void *object, int64_t *size)
{
    return is_object(object, &types.bytes, "bytes") && peek(size, (const char *)object + SIZE, sizeof *size) && *size >= 0;
}

/* The offset of the instruction in a frame: within the code? */
static bool is_within(const struct frames_layout *layout, const unsigned char *code, const void *code_at, uint64_t instruction)
{
    int64_t size, at;
    if (layout->unit != 0) {
        at = (int64_t)(int32_t)(uint32_t)instruction * layout->unit;
        if (!bytes_size(pointer_in(code, layout->instructions), &size))
            return false;
    } else {
        at = (int64_t)(instruction - ((uint64_t)(uintptr_t)code_at + layout->instructions));
        size = 2 * (int64_t)(uint64_t)(uintptr_t)pointer_in(code, SIZE);
    }
    return at >= -2 && at < size && size < INT32_MAX;
}

static const char *test_code(const struct frames_layout *layout, const void *at, uint64_t instruction)
{
    unsigned char code[CODE_BYTES];
    int64_t size;
    if (!is_object(at, &types.code, "code") || !peek(code, at, sizeof code))
        return "its frames are laid out in an unknown way";
    if (!peek(&size, (const char *)types.code + TYPE_SIZE, sizeof size) || size != layout->code_size)
        return "its code objects have an unknown size";
    if (!is_str(pointer_in(code, layout->file)) || !is_str(pointer_in(code, layout->name)) || !is_str(name_in(layout, code)) ||
        !bytes_size(pointer_in(code, layout->table), &size))
        return "its code objects are laid out in an unknown way";
    if (!is_within(layout, code, at, instruction))
        return "the instructions of its frames are not found";
    return NULL;
}

const char *frames_test(const struct frames_layout *layout, const void *thread, bool *empty)
{
    const char *frame = NULL, *why = NULL;
    memset(&types, 0, sizeof types);
    *empty = true;
    if (!peek(&frame, (const char *)thread + layout->thread_top, sizeof frame))
        return "memory is not read safely here: process_vm_readv fails";
    if (frame != NULL && layout->indirect_top >= 0 && !peek(&frame, frame + layout->indirect_top, sizeof frame))
        return "its frames are not found";
    for (unsigned i = 0; frame != NULL && i < 2 * FRAMES_MAX && why == NULL; i++) {
        const void *code = NULL, *back = NULL;
        uint64_t instruction = 0;
        uint8_t owner = 0;
        if (!peek(&back, frame + layout->back, sizeof back) || !peek(&code, frame + layout->code, sizeof code) ||
            !peek(&instruction, frame + layout->instruction, layout->unit != 0 ? 4 : 8) ||
            (layout->owner >= 0 && !peek(&owner, frame + layout->owner, 1)))
            return "its frames are not found";
        if (layout->owner < 0 || owner < OWNED_BY_INTERPRETER) {
            why = test_code(layout, frames_untagged(code), instruction);
            *empty = false;
        }
        frame = back;
    }
    return why;
}
