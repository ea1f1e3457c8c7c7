/* blocks.h - the fuzz targets of protocol parsers: the same bytes whole, in pieces, and byte by byte, must give the same events.
 *
 * Input: one byte for the size of the pieces, then blocks of two header bytes and data. First byte: bit 0 direction, bits 1-2 what (0, 1 feed;
 * 2 skip; 3 end of stream); second: how many bytes of data, for 0 times four. */
#ifndef BLOCKS_H
#define BLOCKS_H

#include "../unit/proto_events.h"

enum { WHAT_FOURS = 0, WHAT_SKIP = 2, WHAT_EOF = 3 };

static inline void blocks_run(struct events *e, const struct proto_ops *ops, const uint8_t *data, size_t size, size_t cut)
{
    events_init(e, ops);
    while (size >= 2) {
        enum proto_dir dir = (enum proto_dir)(data[0] & 1);
        unsigned what = data[0] >> 1 & 3;
        size_t len = (size_t)data[1] * (what == WHAT_FOURS ? 4 : 1);
        data += 2, size -= 2;
        if (what == WHAT_EOF) {
            events_eof(e, dir);
            continue;
        }
        if (what == WHAT_SKIP) {
            events_skip(e, dir, len);
            continue;
        }
        len = len < size ? len : size;
        for (size_t at = 0; at < len; at += cut)
            events_feed(e, dir, (const char *)data + at, len - at < cut ? len - at : cut);
        data += len, size -= len;
    }
}

static inline int blocks_one_input(const struct proto_ops *ops, const uint8_t *data, size_t size)
{
    static struct events whole, cut;
    if (size < 1)
        return 0;
    size_t piece = (size_t)data[0] % 61 + 2;
    ops->detect(PROTO_REQUEST, (const char *)data, size);
    ops->detect(PROTO_RESPONSE, (const char *)data, size);
    blocks_run(&whole, ops, data + 1, size - 1, SIZE_MAX / 2);
    if (whole.violation != NULL) {
        fprintf(stderr, "%s\n%s\n", whole.violation, whole.out);
        abort();
    }
    for (int i = 0; i < 2; i++) {
        blocks_run(&cut, ops, data + 1, size - 1, i == 0 ? piece : 1);
        if (cut.violation != NULL || cut.len != whole.len || memcmp(cut.out, whole.out, whole.len) != 0) {
            fprintf(stderr, "%s\nwhole: %s\ncut at %zu: %s\n", cut.violation ? cut.violation : "", whole.out, i == 0 ? piece : 1,
                    cut.out);
            abort();
        }
    }
    return 0;
}

#endif
