/* code.c - a method's code with calls put in (JVMS 4.7.3, 4.7.4, chapter 6).
 *
 * Two passes: the first walks the instructions and collects the sites; the second writes. With the sites known,
 *
 *     landing(pc)  where a branch to pc, a frame, an exception range or a line at pc is now: before what was put in at pc
 *     moved(pc)    where the instruction itself is now: behind it
 */
#include "context/jvm/code.h"

enum {
    NOP = 0,
    ALOAD_0 = 42,
    ALOAD_1 = 43,
    DUP = 89,
    IFEQ = 153,
    GOTO = 167,
    JSR = 168,
    RET = 169,
    TABLESWITCH = 170,
    LOOKUPSWITCH = 171,
    IRETURN = 172,
    RETURN = 177,
    INVOKEVIRTUAL = 182,
    INVOKESTATIC = 184,
    WIDE = 196,
    IFNULL = 198,
    IFNONNULL = 199,
    GOTO_W = 200,
    JSR_W = 201,
    LAST = 201
};

#define CALL_SIZE 4u /* a load or a nop, invokestatic and its index */

struct site {
    uint32_t pc;
    uint8_t edit;
};

struct code {
    struct classfile *c;
    const uint8_t *bytes;
    uint32_t len;
    struct site sites[CLASSFILE_SITES_MAX];
    size_t count;
};

/* Lengths of instructions 0 to 201 (6.5), opcode included; 0: varies, or not allowed here. */
static unsigned fixed_size(unsigned opcode)
{
    if (opcode <= 15 || (opcode >= 26 && opcode <= 53) || (opcode >= 59 && opcode <= 131) || (opcode >= 133 && opcode <= 152) ||
        (opcode >= IRETURN && opcode <= RETURN) || opcode == 190 || opcode == 191 || opcode == 194 || opcode == 195)
        return 1;
    if (opcode == 16 || opcode == 18 || (opcode >= 21 && opcode <= 25) || (opcode >= 54 && opcode <= 58) || opcode == 188)
        return 2;
    if (opcode == 17 || opcode == 19 || opcode == 20 || opcode == 132 || (opcode >= IFEQ && opcode <= GOTO) ||
        (opcode >= 178 && opcode <= 184) || opcode == 187 || opcode == 189 || opcode == 192 || opcode == 193 || opcode == IFNULL ||
        opcode == IFNONNULL)
        return 3;
    if (opcode == 197)
        return 4;
    if (opcode == 185 || opcode == 186 || opcode == GOTO_W)
        return 5;
    return 0;
}

/* 0: not an instruction that may stand here, or it goes beyond the end. */
static uint32_t instruction_size(const struct code *code, uint32_t pc)
{
    const uint8_t *at = code->bytes + pc;
    uint32_t left = code->len - pc;
    uint64_t size = fixed_size(at[0]);
    if (at[0] == WIDE && left >= 2) {
        size = at[1] == 132 ? 6 : 4;
    } else if (at[0] == TABLESWITCH || at[0] == LOOKUPSWITCH) {
        uint32_t head = 4 - pc % 4; /* opcode and padding */
        uint32_t fixed = at[0] == TABLESWITCH ? 12 : 8;
        if (left < head + fixed)
            return 0;
        if (at[0] == TABLESWITCH) {
            int64_t low = (int32_t)get_be(at + head + 4, 4), high = (int32_t)get_be(at + head + 8, 4);
            if (high < low)
                return 0;
            size = head + fixed + 4 * (uint64_t)(high - low + 1);
        } else {
            size = head + fixed + 8 * (uint64_t)get_be(at + head + 4, 4);
        }
    }
    return size <= left ? (uint32_t)size : 0;
}

static bool site_add(struct code *code, uint32_t pc, size_t edit)
{
    if (code->count == CLASSFILE_SITES_MAX)
        return false;
    code->sites[code->count++] = (struct site){pc, (uint8_t)edit};
    code->c->done |= 1u << edit;
    return true;
}

static bool fits(const struct code *code, const struct classfile_edit *edit, uint32_t pc)
{
    const uint8_t *at = code->bytes + pc;
    switch (edit->where) {
    case CLASSFILE_ENTRY: return pc == 0;
    case CLASSFILE_RETURNS: return at[0] >= IRETURN && at[0] <= RETURN;
    case CLASSFILE_BEFORE_CALL: return at[0] == INVOKEVIRTUAL && classfile_calls(code->c, get_be(at + 1, 2), edit->called);
    default: return false;
    }
}

static bool sites_find(struct code *code, uint32_t wanted)
{
    for (uint32_t pc = 0, size; pc < code->len; pc += size) {
        size = instruction_size(code, pc);
        if (size == 0)
            return false;
        for (size_t i = 0; i < code->c->count; i++)
            if ((wanted >> i & 1u) && fits(code, &code->c->edits[i], pc) && !site_add(code, pc, i))
                return false;
    }
    return true;
}

static uint32_t landing(const struct code *code, uint32_t pc)
{
    uint32_t to = pc;
    for (size_t i = 0; i < code->count && code->sites[i].pc < pc; i++)
        to += CALL_SIZE;
    return to;
}

static uint32_t moved(const struct code *code, uint32_t pc)
{
    uint32_t to = pc;
    for (size_t i = 0; i < code->count && code->sites[i].pc <= pc; i++)
        to += CALL_SIZE;
    return to;
}

/* The new offset of a branch from pc; *ok false: it leaves the method, or would enter it again. */
static int64_t branch(const struct code *code, uint32_t pc, int32_t offset, bool *ok)
{
    int64_t target = (int64_t)pc + offset;
    bool again =
        target == 0 && code->count > 0 && code->sites[0].pc == 0 && code->c->edits[code->sites[0].edit].where == CLASSFILE_ENTRY;
    if (target < 0 || target >= code->len || again) {
        *ok = false;
        return 0;
    }
    return (int64_t)landing(code, (uint32_t)target) - moved(code, pc);
}

static void write_call(const struct code *code, const struct site *site, struct writer *out)
{
    static const uint8_t load[] = {
        [CLASSFILE_NOTHING] = NOP, [CLASSFILE_LOCAL_0] = ALOAD_0, [CLASSFILE_LOCAL_1] = ALOAD_1, [CLASSFILE_TOP] = DUP};
    write_u1(out, load[code->c->edits[site->edit].argument]);
    write_u1(out, INVOKESTATIC);
    write_u2(out, code->c->methodref[site->edit]);
}

static void write_switch(const struct code *code, uint32_t pc, uint32_t size, struct writer *out, bool *ok)
{
    const uint8_t *at = code->bytes + pc;
    uint32_t head = 4 - pc % 4;
    bool table = at[0] == TABLESWITCH;
    write_bytes(out, at, head);
    write_u4(out, (uint32_t)branch(code, pc, (int32_t)get_be(at + head, 4), ok));
    uint32_t i = head + (table ? 12 : 8);
    write_bytes(out, at + head + 4, i - head - 4);
    for (; i < size; i += 4) {
        if (!table) {
            write_bytes(out, at + i, 4); /* the value matched */
            i += 4;
        }
        write_u4(out, (uint32_t)branch(code, pc, (int32_t)get_be(at + i, 4), ok));
    }
}

static bool write_instructions(const struct code *code, struct writer *out)
{
    bool ok = true;
    size_t next = 0;
    for (uint32_t pc = 0, size; pc < code->len && ok && !out->bad; pc += size) {
        const uint8_t *at = code->bytes + pc;
        size = instruction_size(code, pc);
        for (; next < code->count && code->sites[next].pc == pc; next++)
            write_call(code, &code->sites[next], out);
        if (at[0] == TABLESWITCH || at[0] == LOOKUPSWITCH) {
            write_switch(code, pc, size, out, &ok);
        } else if ((at[0] >= IFEQ && at[0] <= GOTO) || at[0] == IFNULL || at[0] == IFNONNULL) {
            int64_t offset = branch(code, pc, (int16_t)get_be(at + 1, 2), &ok);
            ok = ok && offset >= INT16_MIN && offset <= INT16_MAX;
            write_u1(out, at[0]);
            write_u2(out, (uint16_t)offset);
        } else if (at[0] == GOTO_W) {
            write_u1(out, at[0]);
            write_u4(out, (uint32_t)branch(code, pc, (int32_t)get_be(at + 1, 4), &ok));
        } else {
            write_bytes(out, at, size);
        }
    }
    return ok;
}

/* ---- StackMapTable (4.7.4) ------------------------------------------------------------------------------------------------------------ */

static void copy_type(const struct code *code, struct reader *in, struct writer *out)
{
    unsigned tag = read_u1(in);
    write_u1(out, tag);
    if (tag == 7)
        write_u2(out, read_u2(in));
    else if (tag == 8) { /* not initialised: the place of its `new` */
        unsigned pc = read_u2(in);
        in->bad |= pc >= code->len;
        write_u2(out, moved(code, pc));
    } else {
        in->bad |= tag > 8;
    }
}

static void copy_types(const struct code *code, struct reader *in, struct writer *out, unsigned n)
{
    for (unsigned i = 0; i < n && !in->bad; i++)
        copy_type(code, in, out);
}

static void copy_frames(const struct code *code, struct reader *in, struct writer *out)
{
    unsigned count = read_u2(in);
    write_u2(out, count);
    int64_t before = -1, landed_before = -1;
    for (unsigned i = 0; i < count && !in->bad && !out->bad; i++) {
        unsigned type = read_u1(in);
        bool same = type < 64 || type == 251, one = (type >= 64 && type < 128) || type == 247;
        in->bad |= type >= 128 && type < 247;
        unsigned delta = type < 128 ? type % 64 : read_u2(in);
        int64_t pc = before + delta + 1;
        if (pc >= code->len) {
            in->bad = true;
            return;
        }
        int64_t landed = landing(code, (uint32_t)pc), new_delta = landed - landed_before - 1;
        if (same && new_delta < 64) {
            write_u1(out, (unsigned)new_delta);
        } else if (one && new_delta < 64) {
            write_u1(out, 64 + (unsigned)new_delta);
        } else {
            write_u1(out, same ? 251 : one ? 247 : type);
            write_u2(out, (unsigned)new_delta);
        }
        if (one) {
            copy_type(code, in, out);
        } else if (type >= 252 && type <= 254) {
            copy_types(code, in, out, type - 251);
        } else if (type == 255) {
            for (int half = 0; half < 2; half++) { /* locals, stack */
                unsigned n = read_u2(in);
                write_u2(out, n);
                copy_types(code, in, out, n);
            }
        }
        before = pc;
        landed_before = landed;
    }
}

/* ---- the rest -------------------------------------------------------------------------------------------------------------------------- */

static void copy_lines(const struct code *code, struct reader *in, struct writer *out)
{
    unsigned count = read_u2(in);
    write_u2(out, count);
    for (unsigned i = 0; i < count && !in->bad; i++) {
        unsigned pc = read_u2(in);
        in->bad |= pc >= code->len;
        write_u2(out, landing(code, pc));
        write_u2(out, read_u2(in));
    }
}

static void copy_handlers(const struct code *code, struct reader *in, struct writer *out)
{
    unsigned count = read_u2(in);
    write_u2(out, count);
    for (unsigned i = 0; i < count && !in->bad; i++) {
        for (int which = 0; which < 3; which++) { /* start, end (may be the code's end), handler */
            unsigned pc = read_u2(in);
            in->bad |= pc > code->len || (which != 1 && pc == code->len);
            write_u2(out, landing(code, pc));
        }
        write_u2(out, read_u2(in));
    }
}

/* Line numbers and frames move along; tables of local variables and annotations of types, which only debuggers read, are left out. */
static void copy_code_attributes(const struct code *code, struct reader *in, struct writer *out)
{
    unsigned count = read_u2(in), kept = 0;
    size_t count_at = out->at;
    write_u2(out, 0);
    for (unsigned i = 0; i < count && !in->bad && !out->bad; i++) {
        unsigned name = read_u2(in);
        size_t size = read_u4(in);
        struct reader body = {read_bytes(in, size), size, 0, in->bad};
        bool frames = classfile_name_is(code->c, name, "StackMapTable");
        if (in->bad || (!frames && !classfile_name_is(code->c, name, "LineNumberTable")))
            continue;
        kept++;
        write_u2(out, name);
        size_t length_at = out->at;
        write_u4(out, 0);
        (frames ? copy_frames : copy_lines)(code, &body, out);
        in->bad |= body.bad || body.at != body.len;
        write_patch_u4(out, length_at, out->at - length_at - 4);
    }
    write_patch(out, count_at, kept, 2);
}

void code_rewrite(struct classfile *c, uint32_t wanted, struct reader in, struct writer *out)
{
    unsigned max_stack = read_u2(&in), max_locals = read_u2(&in);
    uint32_t len = read_u4(&in);
    struct code code = {.c = c, .bytes = read_bytes(&in, len), .len = len};
    if (code.bytes == NULL || len == 0 || len > 65535 || !sites_find(&code, wanted)) {
        c->refused = true;
        return;
    }
    write_u2(out, max_stack + 1), write_u2(out, max_locals);
    uint32_t new_len = landing(&code, len);
    write_u4(out, new_len);
    size_t start = out->at;
    if (new_len > 65535 || !write_instructions(&code, out) || out->at - start != new_len) {
        c->refused = true;
        return;
    }
    copy_handlers(&code, &in, out);
    copy_code_attributes(&code, &in, out);
    c->refused |= in.bad || in.at != in.len;
}
