/* cursor.h -- bounded reading of a packet, with one sticky failure.
 *
 * Why: a decoder reads its fields in wire order and asks once, at the end, whether all of them
 * were there. After a failure every read returns zero or an empty slice and moves nothing.
 * Numbers are big-endian, strings are preceded by two bytes of length (MQTT 5.0, 1.5). */
#ifndef TERN_PROTO_BASE_CURSOR_H
#define TERN_PROTO_BASE_CURSOR_H

#include "proto/base/slice.h"

struct cursor {
    const uint8_t *at, *end;
    bool failed;
};

static inline struct cursor cursor_at(struct slice s)
{
    return (struct cursor){s.ptr, s.len ? s.ptr + s.len : s.ptr, false}; /* C adds nothing to NULL, not even 0 */
}

static inline size_t cursor_left(const struct cursor *c)
{
    return (size_t)(c->end - c->at);
}

static inline bool cursor_has(struct cursor *c, size_t n)
{
    if (c->failed || cursor_left(c) < n) {
        c->failed = true;
        return false;
    }
    return true;
}

static inline uint8_t cursor_u8(struct cursor *c)
{
    return cursor_has(c, 1) ? *c->at++ : 0;
}

static inline uint16_t cursor_u16(struct cursor *c)
{
    if (!cursor_has(c, 2)) {
        return 0;
    }
    uint16_t value = (uint16_t)(c->at[0] << 8 | c->at[1]);
    c->at += 2;
    return value;
}

static inline uint32_t cursor_u32(struct cursor *c)
{
    uint32_t high = cursor_u16(c);
    return high << 16 | cursor_u16(c);
}

static inline uint64_t cursor_u64(struct cursor *c)
{
    uint64_t high = cursor_u32(c);
    return high << 32 | cursor_u32(c);
}

/* The next n bytes. */
static inline struct slice cursor_take(struct cursor *c, size_t n)
{
    if (!cursor_has(c, n)) {
        return (struct slice){NULL, 0};
    }
    struct slice s = {c->at, n};
    c->at = n ? c->at + n : c->at;
    return s;
}

static inline struct slice cursor_rest(struct cursor *c)
{
    return cursor_take(c, c->failed ? 0 : cursor_left(c));
}

/* Binary data: any bytes [MQTT-1.5.6]. */
static inline struct slice cursor_binary(struct cursor *c)
{
    return cursor_take(c, cursor_u16(c));
}

/* A variable byte integer of one to four bytes; a longer than minimal one fails [MQTT-1.5.5-1]. */
uint32_t cursor_varint(struct cursor *c);

/* A UTF-8 string; ill-formed UTF-8 or U+0000 fails [MQTT-1.5.4-1] [MQTT-1.5.4-2]. */
struct slice cursor_string(struct cursor *c);

#endif
