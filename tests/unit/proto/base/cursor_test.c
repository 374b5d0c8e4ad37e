/* cursor_test.c -- bounded reading and its sticky failure. */
#include <stdlib.h>

#include "proto/base/cursor.h"
#include "tests/lib/unit.h"

static const struct {
    const char *name, *hex;
    bool good;
    uint32_t want;
    size_t left;
} varints[] = {
    {"zero", "00", true, 0, 0},
    {"largest of one byte", "7f", true, 127, 0},
    {"smallest of two", "8001", true, 128, 0},
    {"largest of two", "ff7f", true, 16383, 0},
    {"smallest of three", "808001", true, 16384, 0},
    {"largest of three", "ffff7f", true, 2097151, 0},
    {"smallest of four", "80808001", true, 2097152, 0},
    {"largest of four", "ffffff7f", true, 268435455, 0},
    {"what follows stays", "05ff", true, 5, 1},
    {"nothing there", "", false, 0, 0},
    {"cut after one byte", "80", false, 0, 0},
    {"cut after three bytes", "808080", false, 0, 0},
    {"five bytes", "8080808001", false, 0, 0},
    {"zero in two bytes [MQTT-1.5.5-1]", "8000", false, 0, 0},
    {"127 in two bytes [MQTT-1.5.5-1]", "ff00", false, 0, 0},
    {"zero in four bytes [MQTT-1.5.5-1]", "80808000", false, 0, 0},
};

static void test_varint(void)
{
    for (size_t i = 0; i < COUNT_OF(varints); i++) {
        struct slice s = unit_hex(varints[i].hex);
        struct cursor c = cursor_at(s);
        uint32_t got = cursor_varint(&c);
        CHECK_CASE(varints[i].name, c.failed == !varints[i].good);
        CHECK_CASE(varints[i].name, got == varints[i].want);
        CHECK_CASE(varints[i].name, !varints[i].good || cursor_left(&c) == varints[i].left);
        free((void *)s.ptr);
    }
}

static const struct {
    const char *name, *hex, *want; /* NULL: fails */
} strings[] = {
    {"empty", "0000", ""},
    {"one letter", "0001 61", "a"},
    {"what follows stays", "0002 6162 63", "ab"},
    {"two-byte character", "0002 c3a9", "\xc3\xa9"},
    {"U+FEFF is kept [MQTT-1.5.4-3]", "0004 efbbbf 61",
     "\xef\xbb\xbf"
     "a"},
    {"no length", "", NULL},
    {"half a length", "00", NULL},
    {"length beyond the end", "0002 61", NULL},
    {"U+0000 [MQTT-1.5.4-2]", "0001 00", NULL},
    {"surrogate [MQTT-1.5.4-1]", "0003 eda080", NULL},
};

static void test_string(void)
{
    for (size_t i = 0; i < COUNT_OF(strings); i++) {
        struct slice s = unit_hex(strings[i].hex);
        struct cursor c = cursor_at(s);
        struct slice got = cursor_string(&c);
        CHECK_CASE(strings[i].name, c.failed == !strings[i].want);
        CHECK_CASE(strings[i].name, slice_eq(got, slice_str(strings[i].want ? strings[i].want : "")));
        free((void *)s.ptr);
    }
}

static void test_numbers(void)
{
    struct slice s = unit_hex("01 0203 04050607 08");
    struct cursor c = cursor_at(s);
    CHECK(cursor_u8(&c) == 0x01);
    CHECK(cursor_u16(&c) == 0x0203);
    CHECK(cursor_u32(&c) == 0x04050607);
    struct slice rest = cursor_rest(&c);
    CHECK(rest.len == 1 && rest.ptr[0] == 8);
    CHECK(!c.failed);
    CHECK(cursor_left(&c) == 0);
    free((void *)s.ptr);
}

static void test_failure_is_sticky(void)
{
    struct slice s = unit_hex("01 02 03");
    struct cursor c = cursor_at(s);
    CHECK(cursor_u32(&c) == 0 || c.failed);
    CHECK(c.failed);
    const uint8_t *at = c.at;
    CHECK(cursor_u8(&c) == 0);
    CHECK(cursor_u16(&c) == 0);
    CHECK(cursor_varint(&c) == 0);
    CHECK(cursor_binary(&c).len == 0);
    CHECK(cursor_string(&c).len == 0);
    CHECK(cursor_rest(&c).len == 0);
    CHECK(c.at == at);
    free((void *)s.ptr);
}

static void test_no_bytes_at_all(void)
{
    struct cursor c = cursor_at(slice_of(NULL, 0));
    CHECK(cursor_left(&c) == 0);
    CHECK(cursor_rest(&c).len == 0);
    CHECK(!c.failed);
    CHECK(cursor_u8(&c) == 0);
    CHECK(c.failed);
}

UNIT_MAIN("proto/base/cursor", {"varint", test_varint}, {"string", test_string}, {"numbers", test_numbers},
          {"failure is sticky", test_failure_is_sticky}, {"no bytes at all", test_no_bytes_at_all})
