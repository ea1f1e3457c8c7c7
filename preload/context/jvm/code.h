/* code.h - inside classfile.c and code.c only: bytes in and out, and what the one knows for the other. */
#ifndef OTSHIM_CONTEXT_JVM_CODE_H
#define OTSHIM_CONTEXT_JVM_CODE_H

#include "context/jvm/classfile.h"
#include <stdbool.h>
#include <string.h>

/* Big-endian. Beyond the end: zeroes, NULL, and .bad for good. */
struct reader {
    const uint8_t *bytes;
    size_t len, at;
    bool bad;
};

static inline const uint8_t *read_bytes(struct reader *in, size_t n)
{
    if (in->bad || n > in->len - in->at) {
        in->bad = true;
        return NULL;
    }
    const uint8_t *p = in->bytes + in->at;
    in->at += n;
    return p;
}

static inline uint32_t get_be(const uint8_t *p, unsigned n)
{
    uint32_t value = 0;
    for (unsigned i = 0; p != NULL && i < n; i++)
        value = value << 8 | p[i];
    return value;
}

static inline unsigned read_u1(struct reader *in)
{
    return get_be(read_bytes(in, 1), 1);
}
static inline unsigned read_u2(struct reader *in)
{
    return get_be(read_bytes(in, 2), 2);
}
static inline uint32_t read_u4(struct reader *in)
{
    return get_be(read_bytes(in, 4), 4);
}

struct writer {
    uint8_t *bytes;
    size_t size, at;
    bool bad;
};

static inline void write_bytes(struct writer *out, const uint8_t *bytes, size_t n)
{
    if (out->bad || n > out->size - out->at || (bytes == NULL && n != 0)) {
        out->bad = true;
        return;
    }
    if (n != 0)
        memcpy(out->bytes + out->at, bytes, n);
    out->at += n;
}

static inline void write_be(struct writer *out, uint32_t value, unsigned n)
{
    uint8_t bytes[4];
    for (unsigned i = 0; i < n; i++)
        bytes[i] = (uint8_t)(value >> 8 * (n - 1 - i));
    write_bytes(out, bytes, n);
}
static inline void write_u1(struct writer *out, unsigned value)
{
    write_be(out, value, 1);
}
static inline void write_u2(struct writer *out, unsigned value)
{
    write_be(out, value, 2);
    out->bad |= value > 0xffff;
}
static inline void write_u4(struct writer *out, uint32_t value)
{
    write_be(out, value, 4);
}
static inline void write_patch(struct writer *out, size_t at, size_t value, unsigned n)
{
    if (out->bad)
        return;
    struct writer there = {out->bytes, at + n, at, false};
    write_be(&there, (uint32_t)value, n);
    out->bad |= n == 2 && value > 0xffff;
}
static inline void write_patch_u4(struct writer *out, size_t at, size_t value)
{
    write_patch(out, at, value, 4);
}

struct classfile {
    struct reader in;
    unsigned pool_count;
    size_t pool_start, pool_end;
    const struct classfile_edit *edits;
    size_t count;
    unsigned methodref[CLASSFILE_EDITS_MAX];
    uint32_t done; /* the edits that found a place, by bit */
    bool refused;
};

bool classfile_name_is(const struct classfile *c, unsigned index, const char *text);
bool classfile_calls(const struct classfile *c, unsigned methodref, const char *name);

/* Writes the body of a Code attribute with the wanted edits made. Says in c what was done, or that it cannot be. */
void code_rewrite(struct classfile *c, uint32_t wanted, struct reader in, struct writer *out);

#endif
