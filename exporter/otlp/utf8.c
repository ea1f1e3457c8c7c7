/* utf8.c - see utf8.h. */
#include "otlp/utf8.h"
#include <stdint.h>
#include <string.h>

size_t utf8_sequence(const char *text, size_t left)
{
    const unsigned char *p = (const unsigned char *)text;
    unsigned char c = p[0];
    if (c < 0x80)
        return 1;
    size_t len = c >= 0xc2 && c <= 0xdf ? 2 : c >= 0xe0 && c <= 0xef ? 3 : c >= 0xf0 && c <= 0xf4 ? 4 : 0;
    if (len == 0 || left < len)
        return 0;
    /* The second byte rules out what the first cannot: overlong forms (e0, f0), surrogates (ed), above U+10FFFF (f4). */
    unsigned char low = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80;
    unsigned char high = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
    if (p[1] < low || p[1] > high)
        return 0;
    for (size_t i = 2; i < len; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    return len;
}

bool utf8_valid(const char *text, size_t len)
{
    while (len) {
        uint64_t word;
        if (len >= 8 && (memcpy(&word, text, 8), (word & 0x8080808080808080ull) == 0)) {
            text += 8;
            len -= 8;
            continue;
        }
        size_t n = utf8_sequence(text, len);
        if (n == 0)
            return false;
        text += n;
        len -= n;
    }
    return true;
}

const char *utf8_clean(struct arena *arena, const char *text)
{
    static const char replacement[] = "\xef\xbf\xbd";
    if (!text)
        return "";
    size_t len = strlen(text);
    if (utf8_valid(text, len))
        return text;
    char *out = arena_alloc(arena, len * 3 + 1), *to = out;
    if (!out)
        return NULL;
    for (size_t i = 0; i < len;) {
        size_t n = utf8_sequence(text + i, len - i);
        if (n) {
            memcpy(to, text + i, n);
            to += n;
        } else {
            memcpy(to, replacement, 3);
            to += 3;
        }
        i += n ? n : 1;
    }
    *to = '\0';
    return out;
}
