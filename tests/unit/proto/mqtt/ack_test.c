#include "proto/mqtt/ack.h"

#include "tests/lib/unit.h"

#include <stdlib.h>

#define RECEIVED (1u << MQTT_PUBACK | 1u << MQTT_PUBREC)
#define RELEASED (1u << MQTT_PUBREL | 1u << MQTT_PUBCOMP)
#define ALL (RECEIVED | RELEASED)

static const struct {
    const char *name, *hex;
    unsigned types;
    enum mqtt_version version;
    enum mqtt_reason want;
    uint8_t code;
} rows[] = {
    {"two bytes, 3.1", "0001", ALL, MQTT_V31, MQTT_SUCCESS, 0},
    {"two bytes, 3.1.1", "0001", ALL, MQTT_V311, MQTT_SUCCESS, 0},
    {"two bytes, 5", "0001", ALL, MQTT_V5, MQTT_SUCCESS, 0},
    {"reason 0", "0001 00", ALL, MQTT_V5, MQTT_SUCCESS, 0},
    {"reason 0, no properties", "0001 00 00", ALL, MQTT_V5, MQTT_SUCCESS, 0},
    {"no matching subscribers", "0001 10", RECEIVED, MQTT_V5, MQTT_SUCCESS, 0x10},
    {"not authorized, reason string", "0001 87 04 1f 0001 61", RECEIVED, MQTT_V5, MQTT_SUCCESS, 0x87},
    {"packet identifier not found", "0001 92", RELEASED, MQTT_V5, MQTT_SUCCESS, 0x92},
    {"nothing", "", ALL, MQTT_V5, MQTT_MALFORMED_PACKET, 0},
    {"one byte", "00", ALL, MQTT_V311, MQTT_MALFORMED_PACKET, 0},
    {"packet identifier 0 [MQTT-2.2.1-5]", "0000", ALL, MQTT_V311, MQTT_PROTOCOL_ERROR, 0},
    {"three bytes in 3.x", "0001 00", ALL, MQTT_V311, MQTT_MALFORMED_PACKET, 0},
    {"not one of its reasons [MQTT-3.4.2-1] [MQTT-3.5.2-1]", "0001 92", RECEIVED, MQTT_V5, MQTT_PROTOCOL_ERROR, 0},
    {"not one of its reasons [MQTT-3.6.2-1] [MQTT-3.7.2-1]", "0001 87", RELEASED, MQTT_V5, MQTT_PROTOCOL_ERROR, 0},
    {"no reason at all", "0001 ff", ALL, MQTT_V5, MQTT_PROTOCOL_ERROR, 0},
    {"property length beyond the end", "0001 00 05", ALL, MQTT_V5, MQTT_MALFORMED_PACKET, 0},
    {"bytes left over", "0001 00 00 00", ALL, MQTT_V5, MQTT_MALFORMED_PACKET, 0},
    {"reason string twice", "0001 00 08 1f 0001 61 1f 0001 61", ALL, MQTT_V5, MQTT_PROTOCOL_ERROR, 0},
    {"a property of PUBLISH", "0001 00 03 23 0001", ALL, MQTT_V5, MQTT_MALFORMED_PACKET, 0},
};

static void test_decode(void)
{
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        for (enum mqtt_type type = MQTT_PUBACK; type <= MQTT_PUBCOMP; type++) {
            if (!(rows[i].types >> type & 1)) {
                continue;
            }
            struct slice body = unit_hex(rows[i].hex);
            struct mqtt_ack ack, before;
            memset(&ack, 0xa5, sizeof(ack));
            memset(&before, 0xa5, sizeof(before));
            uint8_t flags = type == MQTT_PUBREL ? 2 : 0;
            CHECK_CASE(rows[i].name, mqtt_ack_decode(type, body, flags, rows[i].version, &ack) == rows[i].want);
            if (rows[i].want == MQTT_SUCCESS) {
                CHECK_CASE(rows[i].name, ack.packet_id == 1 && ack.reason == rows[i].code);
                CHECK_CASE(rows[i].name, (ack.properties.present != 0) == (body.len > 4));
            } else {
                CHECK_CASE(rows[i].name, memcmp(&ack, &before, sizeof(ack)) == 0);
            }
            free((void *)body.ptr);
        }
    }
}

static void test_flags(void)
{
    static const uint8_t body[] = {0, 1};
    struct mqtt_ack ack;
    for (enum mqtt_type type = MQTT_PUBACK; type <= MQTT_PUBCOMP; type++) {
        for (uint8_t flags = 0; flags < 16; flags++) { /* [MQTT-2.1.3-1], PUBREL [MQTT-3.6.1-1] */
            bool want = flags == (type == MQTT_PUBREL ? 2 : 0);
            enum mqtt_reason got = mqtt_ack_decode(type, slice_of(body, 2), flags, MQTT_V5, &ack);
            CHECK_CASE(mqtt_type_name(type), got == (want ? MQTT_SUCCESS : MQTT_MALFORMED_PACKET));
        }
    }
    /* A 3.1 client sends PUBREL again with DUP. */
    CHECK(mqtt_ack_decode(MQTT_PUBREL, slice_of(body, 2), 0xa, MQTT_V31, &ack) == MQTT_SUCCESS);
    CHECK(mqtt_ack_decode(MQTT_PUBREL, slice_of(body, 2), 0xa, MQTT_V311, &ack) == MQTT_MALFORMED_PACKET);
}

/* 256 codes and 4 types: the legal ones are those of tables 3-4 to 3-7. */
static void test_codes(void)
{
    for (unsigned code = 0; code < 256; code++) {
        uint8_t body[] = {0, 1, (uint8_t)code};
        struct mqtt_ack ack;
        bool received = code == 0 || code == 0x10 || code == 0x80 || code == 0x83 || code == 0x87 || code == 0x90 ||
                        code == 0x91 || code == 0x97 || code == 0x99;
        bool released = code == 0 || code == 0x92;
        for (enum mqtt_type type = MQTT_PUBACK; type <= MQTT_PUBCOMP; type++) {
            bool want = RECEIVED >> type & 1 ? received : released;
            uint8_t flags = type == MQTT_PUBREL ? 2 : 0;
            enum mqtt_reason got = mqtt_ack_decode(type, slice_of(body, 3), flags, MQTT_V5, &ack);
            CHECK(got == (want ? MQTT_SUCCESS : MQTT_PROTOCOL_ERROR));
        }
    }
}

static void test_encode(void)
{
    static const struct {
        const char *name;
        enum mqtt_type type;
        enum mqtt_version version;
        struct mqtt_ack ack;
        const char *hex;
    } encode_rows[] = {
        {"nothing to say", MQTT_PUBACK, MQTT_V5, {.packet_id = 0x102}, "40 02 0102"},
        {"PUBREL has flags", MQTT_PUBREL, MQTT_V5, {.packet_id = 1}, "62 02 0001"},
        {"reason alone", MQTT_PUBREC, MQTT_V5, {.packet_id = 1, .reason = 0x97}, "50 03 0001 97"},
        {"PUBREL with reason", MQTT_PUBREL, MQTT_V5, {.packet_id = 1, .reason = 0x92}, "62 03 0001 92"},
        {"3.x cannot say it", MQTT_PUBREC, MQTT_V311, {.packet_id = 1, .reason = 0x97}, "50 02 0001"},
        {"reason string",
         MQTT_PUBACK,
         MQTT_V5,
         {.packet_id = 1,
          .reason = 0x87,
          .properties = {.present = 1ull << MQTT_PROP_REASON_STRING, .reason_string = SLICE("no")}},
         "40 09 0001 87 05 1f 0002 6e6f"},
        {"properties without a reason",
         MQTT_PUBCOMP,
         MQTT_V5,
         {.packet_id = 1, .properties = {.user = SLICE("\x26\0\1k\0\0")}},
         "70 0a 0001 00 06 26 0001 6b 0000"},
    };
    for (size_t i = 0; i < COUNT_OF(encode_rows); i++) {
        struct slice want = unit_hex(encode_rows[i].hex);
        struct buf out = {0};
        mqtt_ack_encode(&out, encode_rows[i].type, encode_rows[i].version, &encode_rows[i].ack);
        CHECK_CASE(encode_rows[i].name, slice_eq(buf_slice(&out), want));
        buf_deinit(&out);
        free((void *)want.ptr);
    }
}

static void test_encode_plain(void)
{
    struct buf out = {0};
    mqtt_ack_encode_plain(&out, MQTT_PUBACK, 0x102);
    mqtt_ack_encode_plain(&out, MQTT_PUBREC, 1);
    mqtt_ack_encode_plain(&out, MQTT_PUBREL, 0xffff);
    mqtt_ack_encode_plain(&out, MQTT_PUBCOMP, 0x8000);
    CHECK(slice_eq(buf_slice(&out), SLICE("\x40\2\1\2"
                                          "\x50\2\0\1"
                                          "\x62\2\xff\xff"
                                          "\x70\2\x80\0")));
    buf_deinit(&out);
}

UNIT_MAIN("proto/mqtt/ack", {"decoding", test_decode}, {"flags", test_flags}, {"reason codes", test_codes},
          {"encoding", test_encode}, {"plain", test_encode_plain})
