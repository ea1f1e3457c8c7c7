/* hpack.c - see hpack.h. RFC 7541 throughout.
 *
 * The Huffman code of Appendix B is canonical - codes of one length are consecutive, in the order of their symbols - so the lengths are all that is
 * written down here; first codes and the symbols by order follow from them once, at the first use.
 *
 * Bit by bit: a symbol takes 5 to 30 steps of a shift and a compare. Header blocks are short, and most fields are indexed. */
#include "proto/hpack.h"
#include <stdatomic.h>
#include <string.h>

/* ---- the Huffman code ------------------------------------------------------------------------------------------------------------------------------ */

#define SYMBOLS 257 /* the last is EOS */
#define LONGEST 30

static const uint8_t code_length[SYMBOLS] = {
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28,
    28, 28, 28, 6,  10, 10, 12, 13, 6,  8,  11, 10, 10, 8,  11, 8,  6,  6,  6,  5,  5,  5,  6,  6,  6,  6,  6,  6,  6,
    7,  8,  15, 6,  12, 10, 13, 6,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,
    7,  8,  7,  8,  13, 19, 13, 14, 6,  15, 5,  6,  5,  6,  5,  6,  6,  6,  5,  7,  7,  6,  6,  6,  5,  6,  7,  6,  5,
    5,  6,  7,  7,  7,  7,  7,  15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24,
    24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22,
    23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26,
    27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23,
    22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30};

static struct {
    _Atomic bool ready;
    uint32_t first[LONGEST + 1]; /* code of that length */
    uint16_t count[LONGEST + 1], start[LONGEST + 1];
    uint16_t symbol[SYMBOLS];
} huffman;

/* Whoever is first; two at once write the same. */
static void huffman_prepare(void)
{
    uint32_t code = 0;
    uint16_t next = 0;
    if (atomic_load_explicit(&huffman.ready, memory_order_acquire))
        return;
    for (unsigned length = 1; length <= LONGEST; length++) {
        uint16_t start = next;
        code <<= 1;
        for (unsigned s = 0; s < SYMBOLS; s++)
            if (code_length[s] == length)
                huffman.symbol[next++] = (uint16_t)s;
        huffman.first[length] = code;
        huffman.start[length] = start;
        huffman.count[length] = (uint16_t)(next - start);
        code += (uint32_t)(next - start);
    }
    atomic_store_explicit(&huffman.ready, true, memory_order_release);
}

/* ---- names ---------------------------------------------------------------------------------------------------------------------------------------------- */

static const char *const names[HPACK_NAMES] = {
    [HPACK_METHOD] = ":method",
    [HPACK_SCHEME] = ":scheme",
    [HPACK_AUTHORITY] = ":authority",
    [HPACK_PATH] = ":path",
    [HPACK_STATUS] = ":status",
    [HPACK_PROTOCOL] = ":protocol",
    [HPACK_HOST] = "host",
    [HPACK_USER_AGENT] = "user-agent",
    [HPACK_CONTENT_TYPE] = "content-type",
    [HPACK_FORWARDED] = "forwarded",
    [HPACK_X_FORWARDED_FOR] = "x-forwarded-for",
    [HPACK_X_FORWARDED_PROTO] = "x-forwarded-proto",
    [HPACK_TRACEPARENT] = "traceparent",
    [HPACK_TRACESTATE] = "tracestate",
    [HPACK_GRPC_STATUS] = "grpc-status",
    [HPACK_GRPC_MESSAGE] = "grpc-message",
};

static uint8_t name_of(const char *text, size_t len)
{
    for (unsigned i = 1; i < HPACK_NAMES; i++)
        if (strlen(names[i]) == len && memcmp(names[i], text, len) == 0)
            return (uint8_t)i;
    return HPACK_OTHER;
}

/* Appendix A: the entries whose names somebody asks for. */
#define STATIC_ENTRIES 61u
static bool static_entry(uint64_t index, uint8_t *name, const char **value)
{
    static const struct {
        uint8_t index, name;
        const char *value;
    } table[] = {
        {1, HPACK_AUTHORITY, ""},       {2, HPACK_METHOD, "GET"},  {3, HPACK_METHOD, "POST"},    {4, HPACK_PATH, "/"},
        {5, HPACK_PATH, "/index.html"}, {6, HPACK_SCHEME, "http"}, {7, HPACK_SCHEME, "https"},   {8, HPACK_STATUS, "200"},
        {9, HPACK_STATUS, "204"},       {10, HPACK_STATUS, "206"}, {11, HPACK_STATUS, "304"},    {12, HPACK_STATUS, "400"},
        {13, HPACK_STATUS, "404"},      {14, HPACK_STATUS, "500"}, {31, HPACK_CONTENT_TYPE, ""}, {38, HPACK_HOST, ""},
        {58, HPACK_USER_AGENT, ""},
    };
    *name = HPACK_OTHER;
    *value = "";
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (table[i].index == index) {
            *name = table[i].name;
            *value = table[i].value;
        }
    return index >= 1 && index <= STATIC_ENTRIES;
}

/* ---- the dynamic table ------------------------------------------------------------------------------------------------------------------------------------- */

static void evict(struct hpack *h, uint32_t room)
{
    while (h->count > 0 && h->used > room) {
        h->used -= h->entry[h->oldest].size;
        h->oldest = (uint16_t)((h->oldest + 1u) % HPACK_ENTRIES);
        h->count--;
    }
}

/* 4.4: an entry larger than the table empties it, and is no error. */
static void insert(struct hpack *h)
{
    uint64_t size = (uint64_t)h->name_len + h->value_len + 32;
    if (size > h->max) {
        evict(h, 0);
        return;
    }
    evict(h, h->max - (uint32_t)size);
    struct hpack_entry *entry = &h->entry[(h->oldest + h->count) % HPACK_ENTRIES];
    *entry = (struct hpack_entry){.size = (uint32_t)size,
                                  .name_len = h->name_len,
                                  .at = h->text_next,
                                  .len = h->name == HPACK_OTHER ? 0 : h->kept,
                                  .name = h->name,
                                  .cut = h->cut};
    for (unsigned i = 0; i < entry->len; i++)
        h->text[(h->text_next + i) % HPACK_TABLE_MAX] = h->value[i];
    h->text_next = (uint16_t)((h->text_next + entry->len) % HPACK_TABLE_MAX);
    h->used += (uint32_t)size;
    h->count++;
}

/* 2.3.3: 62 is the newest. */
static const struct hpack_entry *dynamic_entry(const struct hpack *h, uint64_t index)
{
    uint64_t age = index - STATIC_ENTRIES - 1;
    return age < h->count ? &h->entry[(h->oldest + h->count - 1u - (unsigned)age) % HPACK_ENTRIES] : NULL;
}

/* ---- fields --------------------------------------------------------------------------------------------------------------------------------------------------- */

enum form { INDEXED, INCREMENTAL, WITHOUT, SIZE_UPDATE };
enum step { AT_FIELD, IN_INDEX, AT_NAME, IN_NAME_LEN, IN_NAME, AT_VALUE, IN_VALUE_LEN, IN_VALUE };

struct reading {
    struct hpack *h;
    hpack_sink sink;
    void *arg;
};

static bool say_indexed(const struct reading *r, uint64_t index)
{
    struct hpack *h = r->h;
    uint8_t name;
    const char *value;
    if (static_entry(index, &name, &value)) {
        r->sink(r->arg, (enum hpack_name)name, value, strlen(value), false);
        return true;
    }
    const struct hpack_entry *entry = index != 0 ? dynamic_entry(h, index) : NULL;
    if (entry == NULL)
        return false;
    for (unsigned i = 0; i < entry->len; i++)
        h->value[i] = h->text[(entry->at + i) % HPACK_TABLE_MAX];
    r->sink(r->arg, (enum hpack_name)entry->name, h->value, entry->len, entry->cut);
    return true;
}

/* The name of a literal that refers to an entry: its length counts in the size of the new one. */
static bool take_name(struct hpack *h, uint64_t index)
{
    static const uint8_t static_name_len[STATIC_ENTRIES + 1] = {
        0,  10, 7, 7, 5, 5, 7, 7, 7, 7,  7,  7, 7,  7,  7, 14, 15, 15, 13, 6, 27, 3, 5,  13, 13, 19, 16, 16, 14, 16, 13,
        12, 6,  4, 4, 6, 7, 4, 4, 8, 17, 13, 8, 19, 13, 4, 8,  12, 18, 19, 5, 7,  7, 11, 6,  10, 25, 17, 10, 4,  3,  16};
    const char *value;
    uint8_t name;
    if (static_entry(index, &name, &value)) {
        h->name = name;
        h->name_len = static_name_len[index];
        return true;
    }
    const struct hpack_entry *entry = dynamic_entry(h, index);
    if (entry == NULL)
        return false;
    h->name = entry->name;
    h->name_len = entry->name_len;
    return true;
}

static void literal_done(const struct reading *r)
{
    struct hpack *h = r->h;
    if (h->form == INCREMENTAL)
        insert(h);
    r->sink(r->arg, (enum hpack_name)h->name, h->value, h->name == HPACK_OTHER ? 0 : h->kept, h->cut);
    h->step = AT_FIELD;
}

static bool index_done(const struct reading *r)
{
    struct hpack *h = r->h;
    if (h->form == SIZE_UPDATE) {
        if (!h->updates || h->integer > h->limit || h->integer > HPACK_TABLE_MAX)
            return false; /* 4.2: at the beginning of a block, within what was agreed; more than we keep: lost */
        h->max = (uint32_t)h->integer;
        evict(h, h->max);
        h->step = AT_FIELD;
        return true;
    }
    h->updates = false;
    if (h->form == INDEXED) {
        h->step = AT_FIELD;
        return say_indexed(r, h->integer);
    }
    h->name_len = h->value_len = h->kept = 0;
    h->cut = false;
    h->name = HPACK_OTHER;
    h->step = h->integer == 0 ? AT_NAME : AT_VALUE;
    return h->integer == 0 || take_name(h, h->integer);
}

/* 6: the form by the first bits, then an integer with what is left of the byte as its prefix (5.1). */
static bool begin_integer(struct hpack *h, uint8_t byte, unsigned prefix_bits, enum step more)
{
    const uint8_t all = (uint8_t)((1u << prefix_bits) - 1);
    h->integer = byte & all;
    h->shift = 0;
    if (h->integer < all)
        return true;
    h->step = (uint8_t)more;
    return false;
}

/* 5.1, the bytes after the prefix. -1: too large, 0: more follow, 1: complete */
static int go_on_integer(struct hpack *h, uint8_t byte)
{
    if (h->shift > 28)
        return -1;
    h->integer += (uint64_t)(byte & 0x7f) << h->shift;
    h->shift = (uint8_t)(h->shift + 7);
    return byte & 0x80 ? 0 : 1;
}

static bool begin_field(const struct reading *r, uint8_t byte)
{
    struct hpack *h = r->h;
    unsigned prefix = 4;
    h->form = WITHOUT; /* or never indexed: the same to us */
    if (byte & 0x80) {
        h->form = INDEXED;
        prefix = 7;
    } else if (byte & 0x40) {
        h->form = INCREMENTAL;
        prefix = 6;
    } else if (byte & 0x20) {
        h->form = SIZE_UPDATE;
        prefix = 5;
    }
    return begin_integer(h, byte, prefix, IN_INDEX) ? index_done(r) : true;
}

/* ---- strings ---------------------------------------------------------------------------------------------------------------------------------------------------- */

static void string_char(struct hpack *h, char c)
{
    if (h->step == IN_NAME) {
        if (h->name_len < HPACK_NAME_MAX)
            h->name_text[h->name_len] = c;
        h->name_len++;
        return;
    }
    h->value_len++;
    if (h->name == HPACK_OTHER)
        return;
    if (h->kept < HPACK_VALUE_MAX)
        h->value[h->kept++] = c;
    else
        h->cut = true;
}

static bool string_byte(struct hpack *h, uint8_t byte)
{
    if (!h->huffman) {
        string_char(h, (char)byte);
        return true;
    }
    for (int bit = 7; bit >= 0; bit--) {
        h->code = h->code << 1 | (byte >> bit & 1u);
        if (++h->bits > LONGEST)
            return false;
        uint32_t offset = h->code - huffman.first[h->bits];
        if (h->code < huffman.first[h->bits] || offset >= huffman.count[h->bits])
            continue;
        uint16_t symbol = huffman.symbol[huffman.start[h->bits] + offset];
        if (symbol == SYMBOLS - 1)
            return false; /* 5.2: EOS in a string */
        string_char(h, (char)symbol);
        h->code = h->bits = 0;
    }
    return true;
}

/* 5.2: what is left over is padding: less than a byte, the first bits of EOS, which are ones. */
static bool string_ends_well(const struct hpack *h)
{
    return !h->huffman || (h->bits < 8 && h->code == (1u << h->bits) - 1);
}

static bool string_done(const struct reading *r)
{
    struct hpack *h = r->h;
    if (!string_ends_well(h))
        return false;
    if (h->step == IN_VALUE) {
        literal_done(r);
        return true;
    }
    h->name = h->name_len <= HPACK_NAME_MAX ? name_of(h->name_text, h->name_len) : HPACK_OTHER;
    h->step = AT_VALUE;
    return true;
}

static bool length_done(const struct reading *r, enum step in)
{
    struct hpack *h = r->h;
    if (h->integer > UINT32_MAX / 4)
        return false;
    h->left = (uint32_t)h->integer;
    h->code = h->bits = 0;
    h->step = (uint8_t)in;
    return h->left > 0 || string_done(r);
}

static bool begin_string(const struct reading *r, uint8_t byte, enum step more, enum step in)
{
    r->h->huffman = byte & 0x80;
    return begin_integer(r->h, byte, 7, more) ? length_done(r, in) : true;
}

/* ---- feeding ---------------------------------------------------------------------------------------------------------------------------------------------------- */

static bool feed_byte(const struct reading *r, uint8_t byte)
{
    struct hpack *h = r->h;
    int more;
    switch (h->step) {
    case AT_FIELD: return begin_field(r, byte);
    case AT_NAME: return begin_string(r, byte, IN_NAME_LEN, IN_NAME);
    case AT_VALUE: return begin_string(r, byte, IN_VALUE_LEN, IN_VALUE);
    case IN_NAME:
    case IN_VALUE:
        if (!string_byte(h, byte))
            return false;
        return --h->left > 0 || string_done(r);
    default:
        more = go_on_integer(h, byte);
        if (more <= 0)
            return more == 0;
        if (h->step == IN_INDEX)
            return index_done(r);
        return length_done(r, h->step == IN_NAME_LEN ? IN_NAME : IN_VALUE);
    }
}

void hpack_init(struct hpack *hpack)
{
    huffman_prepare();
    hpack->limit = hpack->max = HPACK_TABLE_DEFAULT;
    hpack->updates = true;
}

void hpack_allow(struct hpack *hpack, uint32_t table_size)
{
    if (table_size > hpack->limit)
        hpack->limit = table_size;
}

bool hpack_feed(struct hpack *hpack, const char *bytes, size_t len, bool last, hpack_sink sink, void *arg)
{
    const struct reading r = {hpack, sink, arg};
    for (size_t i = 0; i < len && !hpack->dead; i++)
        hpack->dead = !feed_byte(&r, (uint8_t)bytes[i]);
    if (last) {
        hpack->dead |= hpack->step != AT_FIELD;
        hpack->updates = true;
    }
    return !hpack->dead;
}

size_t hpack_literal(const char *name, const char *value, size_t value_len, char *out, size_t room)
{
    const size_t name_len = strlen(name), len = 3 + name_len + value_len;
    if (len > room || name_len >= 127 || value_len >= 127)
        return 0;
    out[0] = 0;
    out[1] = (char)name_len;
    memcpy(out + 2, name, name_len);
    out[2 + name_len] = (char)value_len;
    memcpy(out + 3 + name_len, value, value_len);
    return len;
}
