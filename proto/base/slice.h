/* slice.h -- a pointer and a length: bytes that somebody else owns.
 *
 * Why: MQTT strings are counted, not terminated, and nearly everything that the codec returns is
 * borrowed from the packet it was read from. Who receives a slice copies what it keeps. */
#ifndef TERN_PROTO_BASE_SLICE_H
#define TERN_PROTO_BASE_SLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct slice {
    const uint8_t *ptr;
    size_t len;
};

/* The bytes of a string literal, without its NUL. */
#define SLICE(literal) ((struct slice){(const uint8_t *)(literal), sizeof(literal) - 1})

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

static inline struct slice slice_of(const void *ptr, size_t len)
{
    return (struct slice){ptr, len};
}

static inline struct slice slice_str(const char *text)
{
    return (struct slice){(const uint8_t *)text, strlen(text)};
}

static inline bool slice_eq(struct slice a, struct slice b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

/* What is left of s behind its first n bytes; n must not exceed s.len. */
static inline struct slice slice_drop(struct slice s, size_t n)
{
    return (struct slice){n ? s.ptr + n : s.ptr, s.len - n}; /* C adds nothing to NULL, not even 0 */
}

/* Without the spaces and tabs around it. */
static inline struct slice slice_trim(struct slice s)
{
    while (s.len > 0 && (s.ptr[0] == ' ' || s.ptr[0] == '\t')) {
        s = slice_drop(s, 1);
    }
    while (s.len > 0 && (s.ptr[s.len - 1] == ' ' || s.ptr[s.len - 1] == '\t')) {
        s.len--;
    }
    return s;
}

#endif
