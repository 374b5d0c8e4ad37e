/* property_spec.h -- table 2-4 of MQTT 5.0 once more, written for tests alone.
 *
 * Why: a test that asks the codec's own table which property belongs where cannot fail. So the specification's table
 * stands here in another shape: one letter for each packet, one for the type. */
#ifndef TERN_TESTS_LIB_PROPERTY_SPEC_H
#define TERN_TESTS_LIB_PROPERTY_SPEC_H

#include "proto/base/cursor.h"
#include "proto/base/utf8.h"

/* Packet types 0 to 15 as letters; type 0 stands for the will. Letters of types without properties are never used. */
#define PROPERTY_SPEC_PACKETS "WcCPakrpsSuUqQDA"

struct property_spec {
    uint8_t id;
    char type;           /* 1, 2, 4: bytes; v: variable byte integer; s: string; b: binary data; p: string pair */
    char rule;           /* f: 0 or 1; n: not 0; t: no wildcards; -: anything */
    const char *packets; /* letters of PROPERTY_SPEC_PACKETS */
};

static const struct property_spec property_spec[] = {
    {1, '1', 'f', "PW"},
    {2, '4', '-', "PW"},
    {3, 's', '-', "PW"},
    {8, 's', 't', "PW"},
    {9, 'b', '-', "PW"},
    {11, 'v', 'n', "Ps"},
    {17, '4', '-', "cCD"},
    {18, 's', '-', "C"},
    {19, '2', '-', "C"},
    {21, 's', '-', "cCA"},
    {22, 'b', '-', "cCA"},
    {23, '1', 'f', "c"},
    {24, '4', '-', "W"},
    {25, '1', 'f', "c"},
    {26, 's', '-', "C"},
    {28, 's', '-', "CD"},
    {31, 's', '-', "CakrpSUDA"},
    {33, '2', 'n', "cC"},
    {34, '2', '-', "cC"},
    {35, '2', '-', "P"},
    {36, '1', 'f', "C"},
    {37, '1', 'f', "C"},
    {38, 'p', '-', "cCPWakrpsSuUDA"},
    {39, '4', 'n', "cC"},
    {40, '1', 'f', "C"},
    {41, '1', 'f', "C"},
    {42, '1', 'f', "C"},
};

static inline const struct property_spec *property_spec_find(unsigned id)
{
    for (size_t i = 0; i < COUNT_OF(property_spec); i++) {
        if (property_spec[i].id == id) {
            return &property_spec[i];
        }
    }
    return NULL;
}

static inline bool property_spec_allows(const struct property_spec *spec, unsigned packet)
{
    return strchr(spec->packets, PROPERTY_SPEC_PACKETS[packet]) != NULL;
}

/* A UTF-8 string at p: bytes it takes with its length, or 0. */
static inline size_t property_spec_text(const uint8_t *p, size_t left, bool utf8)
{
    if (left < 2) {
        return 0;
    }
    size_t len = (size_t)(p[0] * 256 + p[1]);
    if (left - 2 < len || (utf8 && !utf8_valid(slice_of(p + 2, len)))) {
        return 0;
    }
    return len + 2;
}

/* Bytes that the value at p takes, or 0 when it is cut short or ill-formed. */
static inline size_t property_spec_value(const struct property_spec *spec, const uint8_t *p, size_t left)
{
    if (spec->type >= '1' && spec->type <= '4') {
        size_t size = (size_t)(spec->type - '0');
        return left >= size ? size : 0;
    }
    if (spec->type == 'v') {
        struct cursor c = cursor_at(slice_of(p, left));
        (void)cursor_varint(&c);
        return c.failed ? 0 : left - cursor_left(&c);
    }
    size_t first = property_spec_text(p, left, spec->type != 'b');
    if (spec->type != 'p' || first == 0) {
        return first;
    }
    size_t second = property_spec_text(p + first, left - first, true);
    return second ? first + second : 0;
}

/* Whether a value of `size` bytes at p is one that the specification lets stand. */
static inline bool property_spec_legal(const struct property_spec *spec, const uint8_t *p, size_t size)
{
    bool any = false, wildcard = false;
    for (size_t i = 0; i < size; i++) {
        any = any || p[i] != 0;
        wildcard = wildcard || (i >= 2 && (p[i] == '+' || p[i] == '#'));
    }
    switch (spec->rule) {
    case 'f':
        return p[0] <= 1;
    case 'n':
        return any;
    case 't':
        return !wildcard;
    default:
        return true;
    }
}

/* Whether a block of properties, its length left aside, is one that `packet` may carry. */
static inline bool property_spec_block(struct slice block, unsigned packet)
{
    bool seen[256] = {false};
    for (size_t i = 0; i < block.len;) {
        uint8_t id = block.ptr[i++];
        const struct property_spec *spec = property_spec_find(id);
        size_t size = spec ? property_spec_value(spec, block.ptr + i, block.len - i) : 0;
        if (size == 0 || !property_spec_allows(spec, packet) || !property_spec_legal(spec, block.ptr + i, size)) {
            return false;
        }
        bool repeats = id == 38 || (id == 11 && PROPERTY_SPEC_PACKETS[packet] == 'P');
        if (seen[id] && !repeats) {
            return false;
        }
        seen[id] = true;
        i += size;
    }
    return seen[21] || !seen[22];
}

#endif
