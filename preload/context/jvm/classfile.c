/* classfile.c - see classfile.h. Section numbers are those of the Java Virtual Machine Specification, Java SE 17.
 *
 * The class is copied item by item from a reader that goes bad at the first byte beyond its end to a writer that goes bad when its room ends;
 * both stay bad, and are asked once at the end. New constants are appended to the pool, so no index changes. */
#include "context/jvm/code.h"
#include <string.h>

#define MAGIC 0xcafebabeu
#define POOL_MAX 65535u

enum { UTF8 = 1, CLASS = 7, METHODREF = 10, NAME_AND_TYPE = 12, LONG = 5, DOUBLE = 6 };

/* Length of a constant's body behind its tag (4.4); 0: an unknown tag. UTF8 has its own. */
static size_t constant_size(unsigned tag)
{
    switch (tag) {
    case 3:
    case 4:
    case 9:
    case 10:
    case 11:
    case 12:
    case 17:
    case 18: return 4;
    case 5:
    case 6: return 8;
    case 7:
    case 8:
    case 16:
    case 19:
    case 20: return 2;
    case 15: return 3;
    default: return 0;
    }
}

static bool pool_read(struct classfile *c)
{
    struct reader *in = &c->in;
    c->pool_count = read_u2(in);
    c->pool_start = in->at;
    for (unsigned i = 1; i < c->pool_count; i++) {
        unsigned tag = read_u1(in);
        size_t size = tag == UTF8 ? read_u2(in) : constant_size(tag);
        if (size == 0 && tag != UTF8)
            return false;
        read_bytes(in, size);
        if (tag == LONG || tag == DOUBLE)
            i++;
        if (in->bad)
            return false;
    }
    c->pool_end = in->at;
    return true;
}

/* The body of constant `index`, behind its tag; NULL if it is of another kind. Walks: methods are few. */
static const uint8_t *constant(const struct classfile *c, unsigned index, unsigned tag)
{
    struct reader in = {c->in.bytes, c->pool_end, c->pool_start, false};
    for (unsigned i = 1; i < c->pool_count && i <= index && !in.bad; i++) {
        unsigned is = read_u1(&in);
        const uint8_t *body = in.bytes + in.at;
        read_bytes(&in, is == UTF8 ? read_u2(&in) : constant_size(is));
        if (i == index)
            return is == tag && !in.bad ? body : NULL;
        if (is == LONG || is == DOUBLE)
            i++;
    }
    return NULL;
}

bool classfile_name_is(const struct classfile *c, unsigned index, const char *text)
{
    const uint8_t *body = constant(c, index, UTF8);
    size_t len = strlen(text);
    return body != NULL && ((size_t)body[0] << 8 | body[1]) == len && memcmp(body + 2, text, len) == 0;
}

bool classfile_calls(const struct classfile *c, unsigned methodref, const char *name)
{
    const uint8_t *ref = constant(c, methodref, METHODREF);
    const uint8_t *both = ref != NULL ? constant(c, (unsigned)ref[2] << 8 | ref[3], NAME_AND_TYPE) : NULL;
    return both != NULL && classfile_name_is(c, (unsigned)both[0] << 8 | both[1], name);
}

static void write_utf8(struct writer *out, const char *text)
{
    write_u1(out, UTF8);
    write_u2(out, (unsigned)strlen(text));
    write_bytes(out, (const uint8_t *)text, strlen(text));
}

/* Five constants for the helper and the two descriptors' sake, then three for each edit: Utf8 name, NameAndType, Methodref. */
static void pool_append(struct classfile *c, struct writer *out, const char *helper)
{
    unsigned next = c->pool_count;
    write_utf8(out, helper);                   /* +0 */
    write_u1(out, CLASS), write_u2(out, next); /* +1 */
    write_utf8(out, "(Ljava/lang/Object;)V");  /* +2 */
    write_utf8(out, "()V");                    /* +3 */
    for (size_t i = 0; i < c->count; i++) {
        unsigned at = next + 4 + 3 * (unsigned)i;
        write_utf8(out, c->edits[i].call);
        write_u1(out, NAME_AND_TYPE), write_u2(out, at), write_u2(out, next + (c->edits[i].argument == CLASSFILE_NOTHING ? 3 : 2));
        write_u1(out, METHODREF), write_u2(out, next + 1), write_u2(out, at + 1);
        c->methodref[i] = at + 2;
    }
}

static void copy_attributes(struct reader *in, struct writer *out)
{
    unsigned count = read_u2(in);
    write_u2(out, count);
    for (unsigned i = 0; i < count && !in->bad; i++) {
        write_u2(out, read_u2(in));
        size_t size = read_u4(in);
        write_u4(out, (uint32_t)size);
        write_bytes(out, read_bytes(in, size), size);
    }
}

/* field_info or method_info (4.5, 4.6): three words, then attributes. */
static void copy_fields(struct reader *in, struct writer *out)
{
    unsigned count = read_u2(in);
    write_u2(out, count);
    for (unsigned i = 0; i < count && !in->bad; i++) {
        write_bytes(out, read_bytes(in, 6), 6);
        copy_attributes(in, out);
    }
}

static void copy_method(struct classfile *c, struct writer *out)
{
    struct reader *in = &c->in;
    write_u2(out, read_u2(in));
    unsigned name = read_u2(in), descriptor = read_u2(in);
    write_u2(out, name), write_u2(out, descriptor);
    uint32_t wanted = 0;
    for (size_t i = 0; i < c->count; i++)
        if (classfile_name_is(c, name, c->edits[i].method) &&
            (c->edits[i].descriptor == NULL || classfile_name_is(c, descriptor, c->edits[i].descriptor)))
            wanted |= 1u << i;
    unsigned count = read_u2(in);
    write_u2(out, count);
    for (unsigned i = 0; i < count && !in->bad && !out->bad; i++) {
        unsigned attribute = read_u2(in);
        size_t size = read_u4(in);
        const uint8_t *body = read_bytes(in, size);
        write_u2(out, attribute);
        if (wanted != 0 && body != NULL && classfile_name_is(c, attribute, "Code")) {
            size_t length_at = out->at;
            write_u4(out, 0);
            code_rewrite(c, wanted, (struct reader){body, size, 0, false}, out);
            write_patch_u4(out, length_at, out->at - length_at - 4);
        } else {
            write_u4(out, (uint32_t)size);
            write_bytes(out, body, size);
        }
    }
}

size_t classfile_rewrite(const uint8_t *bytes, size_t len, const char *helper, const struct classfile_edit *edits, size_t count,
                         uint8_t *room, size_t room_size)
{
    struct classfile c = {.in = {bytes, len, 0, false}, .edits = edits, .count = count};
    struct writer out = {room, room_size, 0, false};
    if (count == 0 || count > CLASSFILE_EDITS_MAX || read_u4(&c.in) != MAGIC)
        return 0;
    unsigned minor = read_u2(&c.in), major = read_u2(&c.in);
    /* Before 50 there may be jsr and ret, and no stack maps; and nothing of what is edited is that old. */
    if (major < 51 || !pool_read(&c) || c.pool_count + 4 + 3 * count > POOL_MAX)
        return 0;
    write_u4(&out, MAGIC), write_u2(&out, minor), write_u2(&out, major);
    write_u2(&out, c.pool_count + 4 + 3 * (unsigned)count);
    write_bytes(&out, bytes + c.pool_start, c.pool_end - c.pool_start);
    pool_append(&c, &out, helper);
    write_bytes(&out, read_bytes(&c.in, 6), 6); /* access_flags, this_class, super_class */
    unsigned interfaces = read_u2(&c.in);
    write_u2(&out, interfaces);
    write_bytes(&out, read_bytes(&c.in, 2 * (size_t)interfaces), 2 * (size_t)interfaces);
    copy_fields(&c.in, &out);
    unsigned methods = read_u2(&c.in);
    write_u2(&out, methods);
    for (unsigned i = 0; i < methods && !c.in.bad && !out.bad; i++)
        copy_method(&c, &out);
    copy_attributes(&c.in, &out);
    bool all = c.done == (1u << count) - 1;
    return !c.in.bad && !out.bad && !c.refused && all && c.in.at == len ? out.at : 0;
}

size_t classfile_helper(const char *name, const char *const *methods, size_t with, size_t count, uint8_t *room, size_t room_size)
{
    struct writer out = {room, room_size, 0, false};
    write_u4(&out, MAGIC), write_u2(&out, 0), write_u2(&out, 52);
    write_u2(&out, 7 + (unsigned)count);
    write_utf8(&out, name);                    /* 1 */
    write_u1(&out, CLASS), write_u2(&out, 1);  /* 2 */
    write_utf8(&out, "java/lang/Object");      /* 3 */
    write_u1(&out, CLASS), write_u2(&out, 3);  /* 4 */
    write_utf8(&out, "(Ljava/lang/Object;)V"); /* 5 */
    write_utf8(&out, "()V");                   /* 6 */
    for (size_t i = 0; i < count; i++)
        write_utf8(&out, methods[i]);
    write_u2(&out, 0x1031); /* public final super synthetic */
    write_u2(&out, 2), write_u2(&out, 4);
    write_u2(&out, 0), write_u2(&out, 0); /* interfaces, fields */
    write_u2(&out, (unsigned)count);
    for (size_t i = 0; i < count; i++) {
        write_u2(&out, 0x0109); /* public static native */
        write_u2(&out, 7 + (unsigned)i), write_u2(&out, i < with ? 5 : 6);
        write_u2(&out, 0);
    }
    write_u2(&out, 0);
    return out.bad ? 0 : out.at;
}
