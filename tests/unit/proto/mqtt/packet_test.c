#include "proto/mqtt/packet.h"

#include "tests/lib/unit.h"

#include <stdlib.h>

static void test_varint(void)
{
    static const struct {
        const char *name;
        uint32_t value;
        size_t size;
        uint8_t bytes[4];
    } rows[] = {
        {"0", 0, 1, {0}},
        {"127", 127, 1, {0x7f}},
        {"128", 128, 2, {0x80, 0x01}},
        {"16383", 16383, 2, {0xff, 0x7f}},
        {"16384", 16384, 3, {0x80, 0x80, 0x01}},
        {"2097151", 2097151, 3, {0xff, 0xff, 0x7f}},
        {"2097152", 2097152, 4, {0x80, 0x80, 0x80, 0x01}},
        {"268435455", 268435455, 4, {0xff, 0xff, 0xff, 0x7f}},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        uint8_t out[8] = {0};
        CHECK_CASE(rows[i].name, mqtt_varint_size(rows[i].value) == rows[i].size);
        CHECK_CASE(rows[i].name, mqtt_varint_write(out, rows[i].value) == out + rows[i].size);
        CHECK_CASE(rows[i].name, memcmp(out, rows[i].bytes, 4) == 0);
    }
}

/* The room left for the fixed header is closed up for every length of the length. */
static void test_begin_end(void)
{
    static const struct {
        const char *name, *head;
        size_t body_len;
    } rows[] = {
        {"no body", "a2 00", 0},
        {"one byte", "a2 7f", 127},
        {"two bytes", "a2 8001", 128},
        {"three bytes", "a2 808001", 16384},
        {"four bytes", "a2 80808001", 2097152},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct slice head = unit_hex(rows[i].head);
        struct buf out = {0};
        buf_u16(&out, 0x1234); /* what stood before stays */
        uint32_t begin = mqtt_packet_begin(&out);
        CHECK_CASE(rows[i].name, begin == 2);
        uint8_t *body = rows[i].body_len ? buf_extend(&out, rows[i].body_len) : NULL;
        if (body) {
            memset(body, 'x', rows[i].body_len);
            body[0] = 'a';
            body[rows[i].body_len - 1] = 'z';
        }
        mqtt_packet_end(&out, begin, MQTT_UNSUBSCRIBE, 2);
        CU_ASSERT_FATAL(!out.failed && out.len == 2 + head.len + rows[i].body_len);
        CHECK_CASE(rows[i].name, memcmp(out.ptr, "\x12\x34", 2) == 0);
        CHECK_CASE(rows[i].name, memcmp(out.ptr + 2, head.ptr, head.len) == 0);
        CHECK_CASE(rows[i].name, !body || out.ptr[2 + head.len] == 'a');
        CHECK_CASE(rows[i].name, !body || out.ptr[out.len - 1] == 'z');
        buf_deinit(&out);
        free((void *)head.ptr);
    }
}

static void test_failure_takes_all_back(void)
{
    struct buf out = {0};
    buf_u16(&out, 0x1234);
    uint32_t begin = mqtt_packet_begin(&out);
    buf_u32(&out, 1);
    CHECK(buf_extend(&out, SIZE_MAX) == NULL); /* as if memory were out */
    buf_u16(&out, 2);
    mqtt_packet_end(&out, begin, MQTT_SUBACK, 0);
    CHECK(out.failed);
    CHECK(slice_eq(buf_slice(&out), SLICE("\x12\x34")));
    buf_deinit(&out);
}

static void test_flags(void)
{
    for (unsigned type = MQTT_CONNECT; type <= MQTT_AUTH; type++) {
        bool two = type == MQTT_PUBREL || type == MQTT_SUBSCRIBE || type == MQTT_UNSUBSCRIBE;
        for (uint8_t flags = 0; type != MQTT_PUBLISH && flags < 16; flags++) {
            bool want = flags == (two ? 2 : 0), want_31 = want || (two && flags == 0xa);
            const char *name = mqtt_type_name((enum mqtt_type)type);
            CHECK_CASE(name, mqtt_flags_valid((enum mqtt_type)type, flags, MQTT_V5) == want); /* [MQTT-2.1.3-1] */
            CHECK_CASE(name, mqtt_flags_valid((enum mqtt_type)type, flags, MQTT_V311) == want);
            CHECK_CASE(name, mqtt_flags_valid((enum mqtt_type)type, flags, MQTT_V31) == want_31);
        }
    }
}

static void test_small_answers(void)
{
    static const uint8_t list[] = {0x00, 0x87, 0xff};
    CHECK(mqtt_reason_in(0x00, list) && mqtt_reason_in(0x87, list));
    CHECK(!mqtt_reason_in(0x01, list) && !mqtt_reason_in(0xff, list));

    struct mqtt_properties p = {.present = 1ull << MQTT_PROP_USER_PROPERTY, .user_count = 1, .raw = SLICE("x")};
    CHECK(mqtt_properties_empty(NULL));
    CHECK(mqtt_properties_empty(&p)); /* no bytes in user: decoded, not to be sent */
    p.user = SLICE("x");
    CHECK(!mqtt_properties_empty(&p));
    p = (struct mqtt_properties){.present = 1ull << MQTT_PROP_REASON_STRING};
    CHECK(!mqtt_properties_empty(&p));
    mqtt_properties_none(&p);
    CHECK(p.present == 0 && p.raw.len == 0 && p.user_count == 0);
}

UNIT_MAIN("proto/mqtt/packet", {"variable byte integers", test_varint}, {"closing up", test_begin_end},
          {"out of memory", test_failure_takes_all_back}, {"flags", test_flags}, {"small answers", test_small_answers})
