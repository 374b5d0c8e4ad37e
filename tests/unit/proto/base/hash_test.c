/* hash_test.c -- SipHash-1-3 against values of an independent implementation (CPython's). */
#include <stdlib.h>

#include "proto/base/hash.h"
#include "tests/lib/unit.h"

#define K0 0xdc504fd368cd90afu
#define K1 0xb920bb9ffe99e9c1u

static const struct {
    const char *name;
    struct hash_key key;
    const char *hex;
    uint64_t want;
} cases[] = {
    {"one byte, key 0", {0, 0}, "61", 0x407448d2b89b1813},
    {"seven bytes, key 0", {0, 0}, "61626364656667", 0x6db12aae9070f506},
    {"eight bytes, key 0", {0, 0}, "6162636465666768", 0x3f7b849c0b8e35ea},
    {"one byte", {K0, K1}, "61", 0xfe4a47335692551e},
    {"seven bytes", {K0, K1}, "61626364656667", 0x13162120b6bf06ed},
    {"eight bytes", {K0, K1}, "6162636465666768", 0xb441be6d79f21056},
    {"27 bytes", {K0, K1}, "73656e736f72732f6b69746368656e2f74656d7065726174757265", 0xd146b5b4a9ee4eb7},
    {"sixteen zeros", {K0, K1}, "00000000000000000000000000000000", 0xb43d0a00e2df88b5},
};

static void test_known_values(void)
{
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct slice s = unit_hex(cases[i].hex);
        CHECK_CASE(cases[i].name, hash_keyed(&cases[i].key, s) == cases[i].want);
        free((void *)s.ptr);
    }
}

/* Every bit of the key and the length count. */
static void test_key_and_length_matter(void)
{
    static const uint8_t zeros[32];
    struct hash_key key = {K0, K1};
    uint64_t seen[64 * 2 + 33];
    size_t count = 0;
    for (unsigned bit = 0; bit < 64; bit++) {
        struct hash_key low = {K0 ^ 1ull << bit, K1}, high = {K0, K1 ^ 1ull << bit};
        seen[count++] = hash_keyed(&low, SLICE("topic"));
        seen[count++] = hash_keyed(&high, SLICE("topic"));
    }
    for (size_t len = 0; len <= 32; len++) {
        seen[count++] = hash_keyed(&key, slice_of(zeros, len));
    }
    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; j < i; j++) {
            CHECK(seen[i] != seen[j]);
        }
    }
    CHECK(hash_keyed(&key, (struct slice){NULL, 0}) == hash_keyed(&key, slice_of(zeros, 0)));
}

static void test_mix_spreads_low_bits(void)
{
    unsigned used[256] = {0};
    for (uint64_t i = 0; i < 4096; i++) {
        used[hash_mix(i << 12) & 255]++; /* like pointers to pages */
    }
    for (unsigned i = 0; i < 256; i++) {
        CHECK(used[i] > 0 && used[i] < 64);
    }
}

UNIT_MAIN("proto/base/hash", {"known values", test_known_values}, {"key and length matter", test_key_and_length_matter},
          {"mix spreads low bits", test_mix_spreads_low_bits})
