/* utf8.c -- one pass: words of ASCII while they last, then character by character.
 *
 * Nearly every topic and client id is ASCII, so that is the road kept short. */
#include "proto/base/utf8.h"

#define EACH_BYTE(value) (0x0101010101010101u * (value))

/* Whether the eight bytes at p are all 0x01..0x7f. With every byte below 0x80, taking 1 from each borrows into a high
 * bit exactly if one of them was zero. */
static inline bool word_is_ascii(const uint8_t *p)
{
    uint64_t word;
    memcpy(&word, p, sizeof(word));
    return ((word | (word - EACH_BYTE(1))) & EACH_BYTE(0x80)) == 0;
}

static inline bool is_continuation(uint8_t byte)
{
    return (byte & 0xc0) == 0x80;
}

/* Length of the well-formed character at p, or 0. The bounds of the second byte keep out overlong forms, surrogates
 * and what lies above U+10FFFF (RFC 3629, 4). */
static size_t character_len(const uint8_t *p, size_t left)
{
    uint8_t first = p[0];
    if (first < 0x80) {
        return first != 0; /* [MQTT-1.5.4-2] */
    }
    if (first < 0xc2 || first > 0xf4) {
        return 0;
    }
    if (first < 0xe0) {
        return left >= 2 && is_continuation(p[1]) ? 2 : 0;
    }
    if (left < 3 || !is_continuation(p[1]) || !is_continuation(p[2])) {
        return 0;
    }
    if (first < 0xf0) {
        bool overlong = first == 0xe0 && p[1] < 0xa0;
        bool surrogate = first == 0xed && p[1] > 0x9f;
        return overlong || surrogate ? 0 : 3;
    }
    if (left < 4 || !is_continuation(p[3])) {
        return 0;
    }
    bool overlong = first == 0xf0 && p[1] < 0x90;
    bool beyond = first == 0xf4 && p[1] > 0x8f;
    return overlong || beyond ? 0 : 4;
}

bool utf8_valid(struct slice s)
{
    size_t i = 0;
    while (i < s.len) {
        if (s.len - i >= 8) {
            if (word_is_ascii(s.ptr + i)) {
                i += 8;
                continue;
            }
        } else if (s.len >= 8 && word_is_ascii(s.ptr + s.len - 8)) {
            return true; /* the last word reaches back over characters that are already known to be good */
        }
        size_t len = character_len(s.ptr + i, s.len - i);
        if (len == 0) {
            return false;
        }
        i += len;
    }
    return true;
}
