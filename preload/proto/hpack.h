/* hpack.h - header compression of HTTP/2 (RFC 7541): the decoder of one direction of a connection.
 *
 * A pure function over bytes with bounded state, like the parsers (proto.h): header blocks come in pieces cut anywhere, fields are handed out as they
 * are complete. Of the dynamic table it keeps what is needed to stay in step - each entry's size - and text only of the names that somebody asks for.
 *
 * The encoder may use a table of up to HPACK_TABLE_MAX bytes (SETTINGS_HEADER_TABLE_SIZE is 4,096 unless a peer says otherwise); one that takes more
 * is lost. A name or value of more than HPACK_VALUE_MAX bytes is cut and says so; its entry counts with its full size. */
#ifndef OTSHIM_HPACK_H
#define OTSHIM_HPACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HPACK_TABLE_DEFAULT 4096u /* RFC 9113 6.5.2 */
#define HPACK_TABLE_MAX 16384u
#define HPACK_ENTRIES (HPACK_TABLE_MAX / 32u) /* RFC 7541 4.1: an entry counts 32 bytes at least */
#define HPACK_VALUE_MAX 2048u
#define HPACK_NAME_MAX 32u /* longer names are nobody's */

/* The names that somebody asks for. */
enum hpack_name {
    HPACK_OTHER,
    HPACK_METHOD,
    HPACK_SCHEME,
    HPACK_AUTHORITY,
    HPACK_PATH,
    HPACK_STATUS,
    HPACK_PROTOCOL, /* :protocol, RFC 8441 */
    HPACK_HOST,
    HPACK_USER_AGENT,
    HPACK_CONTENT_TYPE,
    HPACK_FORWARDED,
    HPACK_X_FORWARDED_FOR,
    HPACK_X_FORWARDED_PROTO,
    HPACK_TRACEPARENT,
    HPACK_TRACESTATE,
    HPACK_GRPC_STATUS,
    HPACK_GRPC_MESSAGE,
    HPACK_NAMES
};

struct hpack_entry {
    uint32_t size; /* as RFC 7541 4.1 counts it */
    uint32_t name_len;
    uint16_t at; /* of its value in .text */
    uint16_t len;
    uint8_t name; /* enum hpack_name */
    bool cut;
};

struct hpack {
    /* The dynamic table: a queue, the newest last. */
    uint32_t limit; /* what the encoder may at most choose */
    uint32_t max;   /* what it has chosen */
    uint32_t used;
    uint16_t oldest, count; /* in .entry */
    uint16_t text_next;
    bool dead;

    /* The field that is being read. */
    uint8_t step, form;    /* enums of hpack.c */
    bool huffman, updates; /* updates: only size updates so far in this block */
    bool cut;
    uint8_t shift, name;
    uint64_t integer;
    uint32_t left;                /* of a string, on the wire */
    uint32_t code, bits;          /* Huffman: what is not a symbol yet */
    uint32_t name_len, value_len; /* whole */
    uint16_t kept;                /* of the value */
    char name_text[HPACK_NAME_MAX];
    char value[HPACK_VALUE_MAX];

    struct hpack_entry entry[HPACK_ENTRIES];
    char text[HPACK_TABLE_MAX];
};

/* A field: its value may be cut (to HPACK_VALUE_MAX). For HPACK_OTHER there is no text. */
typedef void (*hpack_sink)(void *arg, enum hpack_name name, const char *value, size_t len, bool cut);

/* In zeroed memory. */
void hpack_init(struct hpack *hpack);
/* The decoder's side has said SETTINGS_HEADER_TABLE_SIZE: from when on the encoder goes by it cannot be seen, so both are allowed for. */
void hpack_allow(struct hpack *hpack, uint32_t table_size);
/* The next bytes of a header block; last: the block ends with them. False: this is not HPACK, or a table too large; it is dead then. */
bool hpack_feed(struct hpack *hpack, const char *bytes, size_t len, bool last, hpack_sink sink, void *arg);

/* A field that touches no table, of either side: a literal without indexing, with a new name, not Huffman coded (RFC 7541 6.2.2). len of both below 127.
 * Returns its length, 0: there is no room. */
size_t hpack_literal(const char *name, const char *value, size_t value_len, char *out, size_t room);

#endif
