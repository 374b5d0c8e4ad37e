#include "proto/mqtt/frame.h"

#include "tests/lib/unit.h"

#include <stdlib.h>

#define NO_BOUND MQTT_PACKET_BYTES_MAX

static const struct {
    const char *name, *hex;
    uint32_t bytes_max;
    enum mqtt_frame_state want;
    uint32_t size, body_len;
    uint8_t type, flags;
} rows[] = {
    {"PINGREQ", "c000", NO_BOUND, MQTT_FRAME_WHOLE, 2, 0, MQTT_PINGREQ, 0},
    {"PUBLISH with flags", "3d 02 0000", NO_BOUND, MQTT_FRAME_WHOLE, 4, 2, MQTT_PUBLISH, 0xd},
    {"AUTH", "f000", NO_BOUND, MQTT_FRAME_WHOLE, 2, 0, MQTT_AUTH, 0},
    {"another packet behind it", "40 02 0001 c000", NO_BOUND, MQTT_FRAME_WHOLE, 4, 2, MQTT_PUBACK, 0},
    {"as long as allowed", "40 02 0001", 4, MQTT_FRAME_WHOLE, 4, 2, MQTT_PUBACK, 0},
    {"one byte longer than allowed", "40 02 0001", 3, MQTT_FRAME_TOO_LARGE, 4, 0, MQTT_PUBACK, 0},
    {"too long is seen before the body", "30 c801", 200, MQTT_FRAME_TOO_LARGE, 203, 0, MQTT_PUBLISH, 0},
    {"the longest is not too long", "30 ffffff7f", NO_BOUND, MQTT_FRAME_PARTIAL, 268435460, 0, MQTT_PUBLISH, 0},
    {"the longest is too long here", "30 ffffff7f", NO_BOUND - 1, MQTT_FRAME_TOO_LARGE, 268435460, 0, MQTT_PUBLISH, 0},
    {"first byte alone", "82", NO_BOUND, MQTT_FRAME_PARTIAL, 0, 0, MQTT_SUBSCRIBE, 2},
    {"length goes on", "82 ff", NO_BOUND, MQTT_FRAME_PARTIAL, 0, 0, MQTT_SUBSCRIBE, 2},
    {"length of three bytes goes on", "82 808080", NO_BOUND, MQTT_FRAME_PARTIAL, 0, 0, MQTT_SUBSCRIBE, 2},
    {"no body yet", "82 05", NO_BOUND, MQTT_FRAME_PARTIAL, 7, 0, MQTT_SUBSCRIBE, 2},
    {"one byte missing", "40 02 00", NO_BOUND, MQTT_FRAME_PARTIAL, 4, 0, MQTT_PUBACK, 0},
    {"type 0", "00", NO_BOUND, MQTT_FRAME_MALFORMED, 0, 0, 0, 0},
    {"type 0 with flags", "0f 00", NO_BOUND, MQTT_FRAME_MALFORMED, 0, 0, 0, 0xf},
    {"fourth byte goes on", "30 80808080", NO_BOUND, MQTT_FRAME_MALFORMED, 0, 0, MQTT_PUBLISH, 0},
    {"0 in two bytes [MQTT-1.5.5-1]", "c0 8000", NO_BOUND, MQTT_FRAME_MALFORMED, 0, 0, MQTT_PINGREQ, 0},
    {"127 in two bytes [MQTT-1.5.5-1]", "30 ff00", NO_BOUND, MQTT_FRAME_MALFORMED, 0, 0, MQTT_PUBLISH, 0},
    {"1 in four bytes [MQTT-1.5.5-1]", "30 81808000", NO_BOUND, MQTT_FRAME_MALFORMED, 0, 0, MQTT_PUBLISH, 0},
};

static void test_rows(void)
{
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct slice in = unit_hex(rows[i].hex);
        struct mqtt_frame f = {.size = 77, .type = 77, .flags = 77};
        CHECK_CASE(rows[i].name, mqtt_frame_next(in, rows[i].bytes_max, &f) == rows[i].want);
        CHECK_CASE(rows[i].name, f.size == rows[i].size);
        CHECK_CASE(rows[i].name, f.type == rows[i].type);
        CHECK_CASE(rows[i].name, f.flags == rows[i].flags);
        if (rows[i].want == MQTT_FRAME_WHOLE) {
            CHECK_CASE(rows[i].name, f.body.len == rows[i].body_len);
            CHECK_CASE(rows[i].name, f.body.ptr == in.ptr + f.size - f.body.len);
        }
        free((void *)in.ptr);
    }
}

static void test_nothing(void)
{
    struct mqtt_frame f = {.size = 77};
    CHECK(mqtt_frame_next((struct slice){NULL, 0}, NO_BOUND, &f) == MQTT_FRAME_PARTIAL);
    CHECK(f.size == 77);
}

/* A packet of each length of its length: no prefix is whole, none is malformed. */
static void test_prefixes(void)
{
    static const struct {
        const char *name, *head;
        size_t body_len;
    } packets[] = {
        {"one byte", "30 7f", 127},
        {"two bytes, least", "30 8001", 128},
        {"two bytes, most", "30 ff7f", 16383},
        {"three bytes", "30 808001", 16384},
        {"four bytes", "30 80808001", 2097152},
    };
    for (size_t i = 0; i < COUNT_OF(packets); i++) {
        struct slice head = unit_hex(packets[i].head);
        size_t size = head.len + packets[i].body_len, step = size / 1000 + 1;
        uint8_t *packet = calloc(1, size);
        CU_ASSERT_PTR_NOT_NULL_FATAL(packet);
        memcpy(packet, head.ptr, head.len);
        struct mqtt_frame f;
        bool partial = true;
        for (size_t n = 0; n < size; n += step) {
            partial = partial && mqtt_frame_next(slice_of(packet, n), NO_BOUND, &f) == MQTT_FRAME_PARTIAL;
        }
        CHECK_CASE(packets[i].name, partial);
        CHECK_CASE(packets[i].name, mqtt_frame_next(slice_of(packet, size - 1), NO_BOUND, &f) == MQTT_FRAME_PARTIAL);
        CHECK_CASE(packets[i].name, mqtt_frame_next(slice_of(packet, size), NO_BOUND, &f) == MQTT_FRAME_WHOLE);
        CHECK_CASE(packets[i].name, f.body.len == packets[i].body_len && f.size == size);
        free(packet);
        free((void *)head.ptr);
    }
}

UNIT_MAIN("proto/mqtt/frame", {"states", test_rows}, {"no bytes", test_nothing}, {"prefixes", test_prefixes})
