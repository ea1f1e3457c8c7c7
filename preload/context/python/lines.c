/* lines.c - see lines.h. */
#include "context/python/lines.h"

/* 3.8, 3.9: pairs of bytes, how many instruction bytes further the next line begins, and how many lines further it is. */
static uint32_t by_lnotab(const uint8_t *table, size_t len, uint32_t first_line, int32_t instruction)
{
    int64_t at = 0, line = first_line;
    for (size_t i = 0; i + 1 < len; i += 2) {
        at += table[i];
        if (at > instruction)
            break;
        line += (int8_t)table[i + 1];
    }
    return line > 0 && line <= INT32_MAX ? (uint32_t)line : 0;
}

/* 3.10: pairs of bytes, how many instruction bytes this goes on for, and by how many lines it is another line than before; -128: no line. */
static uint32_t by_line_table(const uint8_t *table, size_t len, uint32_t first_line, int32_t instruction)
{
    int64_t end = 0, line = first_line;
    for (size_t i = 0; i + 1 < len; i += 2) {
        const int8_t delta = (int8_t)table[i + 1];
        end += table[i];
        line += delta != -128 ? delta : 0;
        if (end > instruction)
            return delta != -128 && line > 0 && line <= INT32_MAX ? (uint32_t)line : 0;
    }
    return 0;
}

struct entries {
    const uint8_t *at, *end;
};

/* Six bits a byte, lowest first; bit 6: there are more. */
static int64_t varint(struct entries *e)
{
    uint64_t value = 0;
    for (unsigned shift = 0; e->at < e->end && !(*e->at & 0x80) && shift < 36; shift += 6) {
        const uint8_t byte = *e->at++;
        value |= (uint64_t)(byte & 63) << shift;
        if (!(byte & 64))
            break;
    }
    return (int64_t)value;
}

static int64_t signed_varint(struct entries *e)
{
    const int64_t value = varint(e);
    return value & 1 ? -(value >> 1) : value >> 1;
}

/* 3.11 on: entries whose first byte alone has bit 7: a kind, and how many code units (of two bytes) it goes on for, less one. */
static uint32_t by_locations(const uint8_t *table, size_t len, uint32_t first_line, int32_t instruction)
{
    struct entries e = {table, table + len};
    int64_t end = 0, line = first_line;
    while (e.at < e.end && (*e.at & 0x80)) {
        const uint8_t head = *e.at++;
        const unsigned kind = head >> 3 & 15;
        end += 2 * ((head & 7) + 1);
        if (kind == 13 || kind == 14)
            line += signed_varint(&e);
        else if (kind >= 10 && kind <= 12)
            line += kind - 10;
        if (end > instruction)
            return kind != 15 && line > 0 && line <= INT32_MAX ? (uint32_t)line : 0;
        while (e.at < e.end && !(*e.at & 0x80))
            e.at++; /* columns */
    }
    return 0;
}

uint32_t lines_of(unsigned minor, const uint8_t *table, size_t len, uint32_t first_line, int32_t instruction)
{
    if (instruction < 0)
        return first_line;
    if (minor >= 11)
        return by_locations(table, len, first_line, instruction);
    return minor == 10 ? by_line_table(table, len, first_line, instruction) : by_lnotab(table, len, first_line, instruction);
}
