/* ops.h -- the input of a fuzz target as a list of operations on a few topics.
 *
 * Why: what matters in a table of topics is that operations meet on the same few levels. A topic is therefore one byte
 * of input, two bits a level, so that every byte is valid and a mutation of one bit is a neighbour. */
#ifndef TERN_TESTS_FUZZ_OPS_H
#define TERN_TESTS_FUZZ_OPS_H

#include <stdlib.h>

#include "proto/base/hash.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct hash_key ops_key = {0x5eed, 0xfeed};

static inline void require(bool held)
{
    if (!held) {
        abort();
    }
}

/* The next byte of the input; 0 at its end. */
static inline uint8_t ops_byte(struct slice *in)
{
    uint8_t byte = in->len > 0 ? in->ptr[0] : 0;
    *in = slice_drop(*in, in->len > 0);
    return byte;
}

#define OPS_TEXT_MAX 24

/* A topic of one to three levels out of `a`, `b`, `$s` and the empty one; with `wild`, a filter: `+` stands for `b` and
 * the fourth pair of bits says whether `#` comes last. */
static inline struct slice ops_text(uint8_t byte, bool wild, char text[OPS_TEXT_MAX])
{
    static const char *const plain_levels[] = {"a", "b", "$s", ""}, *const wild_levels[] = {"a", "+", "$s", ""};
    unsigned levels = 1 + byte % 3;
    size_t len = 0;

    for (unsigned i = 0; i < levels; i++) {
        const char *level = (wild ? wild_levels : plain_levels)[(byte >> 2 * i) & 3];
        if (i > 0) {
            text[len++] = '/';
        }
        memcpy(text + len, level, strlen(level));
        len += strlen(level);
    }
    if (wild && byte >= 192) {
        memcpy(text + len, "/#", 2);
        len += 2;
    }
    if (len == 0 || (wild && byte == 191)) {
        text[0] = wild ? '#' : 'a'; /* a topic has at least one character */
        len = 1;
    }
    return slice_of(text, len);
}

#endif
