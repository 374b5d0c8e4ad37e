/* utf8_test.c -- well-formed UTF-8, at every place that a word of eight bytes can break it. */
#include <stdio.h>
#include <stdlib.h>

#include "proto/base/utf8.h"
#include "tests/lib/unit.h"

static const struct {
    const char *name, *hex;
    bool want;
} cases[] = {
    {"one ASCII character", "61", true},
    {"control character", "01", true},
    {"DEL", "7f", true},
    {"smallest of two bytes", "c280", true},
    {"largest of two bytes", "dfbf", true},
    {"smallest of three bytes", "e0a080", true},
    {"last before the surrogates", "ed9fbf", true},
    {"first behind the surrogates", "ee8080", true},
    {"U+FEFF [MQTT-1.5.4-3]", "efbbbf", true},
    {"non-character U+FFFF", "efbfbf", true},
    {"smallest of four bytes", "f0908080", true},
    {"U+10FFFF", "f48fbfbf", true},
    {"U+0000 [MQTT-1.5.4-2]", "00", false},
    {"lone continuation", "80", false},
    {"overlong slash", "c0af", false},
    {"overlong NUL", "c080", false},
    {"overlong of two bytes", "c1bf", false},
    {"overlong of three bytes", "e09fbf", false},
    {"overlong of four bytes", "f08fbfbf", false},
    {"first surrogate [MQTT-1.5.4-1]", "eda080", false},
    {"last surrogate [MQTT-1.5.4-1]", "edbfbf", false},
    {"above U+10FFFF", "f4908080", false},
    {"lead byte f5", "f5808080", false},
    {"lead byte ff", "ff", false},
    {"two bytes cut", "c3", false},
    {"three bytes cut after two", "e282", false},
    {"four bytes cut after three", "f09f98", false},
    {"second byte is ASCII", "c341", false},
    {"third byte is ASCII", "e28241", false},
    {"fourth byte is ASCII", "f09f9841", false},
};

/* The case's bytes behind `before` and in front of `after` letters, in exact-size memory. */
static bool valid_between(struct slice s, size_t before, size_t after)
{
    size_t len = before + s.len + after;
    uint8_t *bytes = malloc(len);
    memset(bytes, 'x', len);
    memcpy(bytes + before, s.ptr, s.len);
    bool valid = utf8_valid(slice_of(bytes, len));
    free(bytes);
    return valid;
}

static void test_cases_at_every_place(void)
{
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct slice s = unit_hex(cases[i].hex);
        for (size_t before = 0; before <= 17; before++) {
            for (size_t after = 0; after <= 17; after++) {
                char name[128];
                snprintf(name, sizeof(name), "%s, %zu before, %zu after", cases[i].name, before, after);
                CHECK_CASE(name, valid_between(s, before, after) == cases[i].want);
            }
        }
        free((void *)s.ptr);
    }
}

static void test_empty(void)
{
    CHECK(utf8_valid((struct slice){NULL, 0}));
}

/* One bad byte in one word of each ASCII character: whatever bits its neighbours have, they do not hide it. */
static void test_bad_byte_among_each_character(void)
{
    unsigned missed = 0, refused = 0;
    for (unsigned letter = 1; letter < 0x80; letter++) {
        uint8_t word[8];
        memset(word, (int)letter, sizeof(word));
        refused += !utf8_valid(slice_of(word, sizeof(word)));
        for (size_t at = 0; at < sizeof(word); at++) {
            for (unsigned bad = 0x80; bad <= 0x100; bad++) { /* 0x100 is U+0000 */
                word[at] = (uint8_t)bad;
                missed += utf8_valid(slice_of(word, sizeof(word)));
            }
            word[at] = (uint8_t)letter;
        }
    }
    CHECK(missed == 0);
    CHECK(refused == 0);
}

UNIT_MAIN("proto/base/utf8", {"cases at every place", test_cases_at_every_place}, {"empty", test_empty},
          {"bad byte among each character", test_bad_byte_among_each_character})
