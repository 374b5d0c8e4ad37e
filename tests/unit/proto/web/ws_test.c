/* ws_test.c -- frame heads and masks of RFC 6455, its examples (5.7) among them. */
#include "proto/web/ws.h"

#include <errno.h>
#include <stdlib.h>

#include "tests/lib/unit.h"

enum { MORE = 0, WHOLE = 1 };

static const struct {
    const char *name, *hex;
    int want; /* WHOLE: all of hex */
    bool fin;
    uint8_t opcode;
    bool masked;
    uint64_t payload_len;
} heads[] = {
    {"5.7: Hello in one unmasked frame", "81 05", WHOLE, true, WS_TEXT, false, 5},
    {"5.7: Hello masked", "81 85 37fa213d", WHOLE, true, WS_TEXT, true, 5},
    {"5.7: first fragment", "01 03", WHOLE, false, WS_TEXT, false, 3},
    {"5.7: last fragment", "80 02", WHOLE, true, WS_CONTINUATION, false, 2},
    {"5.7: Ping", "89 05", WHOLE, true, WS_PING, false, 5},
    {"5.7: Pong, masked", "8a 85 37fa213d", WHOLE, true, WS_PONG, true, 5},
    {"5.7: 256 bytes", "82 7e 0100", WHOLE, true, WS_BINARY, false, 256},
    {"5.7: 64 KiB", "82 7f 0000000000010000", WHOLE, true, WS_BINARY, false, 65536},
    {"no payload", "82 80 00000000", WHOLE, true, WS_BINARY, true, 0},
    {"largest in 7 bits", "82 7d", WHOLE, true, WS_BINARY, false, 125},
    {"smallest in 16 bits", "82 7e 007e", WHOLE, true, WS_BINARY, false, 126},
    {"largest in 16 bits", "82 fe ffff 01020304", WHOLE, true, WS_BINARY, true, 65535},
    {"smallest in 64 bits", "82 ff 0000000000010000 01020304", WHOLE, true, WS_BINARY, true, 65536},
    {"largest of all", "82 7f 7fffffffffffffff", WHOLE, true, WS_BINARY, false, INT64_MAX},
    {"largest control frame", "88 7d", WHOLE, true, WS_CLOSE, false, 125},
    {"nothing yet", "", MORE, false, 0, false, 0},
    {"no length yet", "82", MORE, false, 0, false, 0},
    {"half a length", "82 7e 01", MORE, false, 0, false, 0},
    {"seven eighths of a length", "82 7f 00000000000100", MORE, false, 0, false, 0},
    {"no mask yet", "82 85", MORE, false, 0, false, 0},
    {"most of a mask", "82 85 010203", MORE, false, 0, false, 0},
    {"RSV1 (5.2)", "c2", -EBADMSG, false, 0, false, 0},
    {"RSV2 (5.2)", "a2", -EBADMSG, false, 0, false, 0},
    {"RSV3 (5.2)", "92", -EBADMSG, false, 0, false, 0},
    {"opcode 3", "83", -EBADMSG, false, 0, false, 0},
    {"opcode 7", "87", -EBADMSG, false, 0, false, 0},
    {"opcode 11", "8b", -EBADMSG, false, 0, false, 0},
    {"opcode 15", "8f", -EBADMSG, false, 0, false, 0},
    {"fragmented Ping (5.5)", "09", -EBADMSG, false, 0, false, 0},
    {"fragmented Close (5.5)", "08", -EBADMSG, false, 0, false, 0},
    {"long Ping (5.5)", "89 7e", -EBADMSG, false, 0, false, 0},
    {"longer Close (5.5)", "88 ff", -EBADMSG, false, 0, false, 0},
    {"125 in 16 bits (5.2)", "82 7e 007d", -EBADMSG, false, 0, false, 0},
    {"0 in 16 bits (5.2)", "82 fe 0000", -EBADMSG, false, 0, false, 0},
    {"65535 in 64 bits (5.2)", "82 7f 000000000000ffff", -EBADMSG, false, 0, false, 0},
    {"highest bit (5.2)", "82 7f 8000000000000000", -EBADMSG, false, 0, false, 0},
};

static void test_heads(void)
{
    for (size_t i = 0; i < COUNT_OF(heads); i++) {
        struct slice all = unit_hex(heads[i].hex);
        struct ws_head h = {0};
        int settled = 0;
        for (size_t len = 0; len <= all.len; len++) {
            uint8_t *copy = malloc(len ? len : 1);
            memcpy(copy, all.ptr, len);
            int got = ws_head_parse(slice_of(copy, len), &h);
            CHECK_CASE(heads[i].name, settled == 0 || got == settled);
            settled = got;
            free(copy);
        }
        CHECK_CASE(heads[i].name, settled == (heads[i].want == WHOLE ? (int)all.len : heads[i].want));
        CHECK_CASE(heads[i].name, h.fin == heads[i].fin);
        CHECK_CASE(heads[i].name, h.opcode == heads[i].opcode);
        CHECK_CASE(heads[i].name, h.masked == heads[i].masked);
        CHECK_CASE(heads[i].name, h.payload_len == heads[i].payload_len);
        CHECK_CASE(heads[i].name, !h.masked || memcmp(h.mask, all.ptr + all.len - 4, 4) == 0);
        if (heads[i].want == WHOLE) {
            uint8_t out[WS_HEAD_MAX];
            size_t n = ws_head_write(out, h.opcode, h.fin, h.masked ? h.mask : NULL, h.payload_len);
            CHECK_CASE(heads[i].name, slice_eq(slice_of(out, n), all));
        }
        free((void *)all.ptr);
    }
}

static void test_mask_example(void)
{
    uint8_t hello[] = {0x7f, 0x9f, 0x4d, 0x51, 0x58};
    static const uint8_t mask[4] = {0x37, 0xfa, 0x21, 0x3d};

    ws_mask(hello, hello, sizeof(hello), mask, 0); /* 5.7 */
    CHECK(memcmp(hello, "Hello", 5) == 0);
}

#define LONGEST 70u

/* Every length and place, to the same memory, to other memory and to what begins before and overlaps; each against the
 * definition (5.3). */
static void test_mask(void)
{
    static const uint8_t mask[4] = {0x01, 0x80, 0xfe, 0x37};
    uint8_t plain[LONGEST], want[LONGEST];

    for (size_t i = 0; i < LONGEST; i++) {
        plain[i] = (uint8_t)(i * 7 + 3);
    }
    for (size_t n = 0; n <= LONGEST; n++) {
        for (uint64_t at = 0; at < 9; at++) {
            for (size_t i = 0; i < n; i++) {
                want[i] = plain[i] ^ mask[(at + i) % 4];
            }
            for (size_t before = 0; before <= 9; before++) {
                uint8_t *space = malloc(n + before + 1);
                memcpy(space + before, plain, n);
                space[n + before] = 0x5a;
                ws_mask(space, space + before, n, mask, UINT64_MAX - 7 + at);
                CHECK(memcmp(space, want, n) == 0);
                CHECK(before > 0 || space[n] == 0x5a);
                free(space);
            }
        }
    }
}

static const struct {
    unsigned code;
    bool valid;
} codes[] = {{0, false},    {999, false},  {1000, true},  {1001, true},  {1002, true},  {1003, true},
             {1004, false}, {1005, false}, {1006, false}, {1007, true},  {1008, true},  {1009, true},
             {1010, true},  {1011, true},  {1014, true},  {1015, false}, {1016, false}, {2999, false},
             {3000, true},  {3999, true},  {4000, true},  {4999, true},  {5000, false}, {65535, false}};

static void test_codes(void)
{
    for (size_t i = 0; i < COUNT_OF(codes); i++) {
        CHECK(ws_close_code_valid(codes[i].code) == codes[i].valid);
    }
}

UNIT_MAIN("proto/web/ws", {"heads", test_heads}, {"the mask of 5.7", test_mask_example}, {"masks", test_mask},
          {"close codes", test_codes})
