/* connect_test.c -- CONNECT and CONNACK: fields, the version that is known when refusing, bytes. */
#include <stdlib.h>

#include "proto/mqtt/connect.h"
#include "proto/mqtt/frame.h"
#include "tests/lib/unit.h"

static const struct {
    const char *name, *hex;
    uint8_t version;
    enum mqtt_reason want;
} cases[] = {
    {"3.1", "0006 4d5149736470 03 02 003c 0001 61", MQTT_V31, MQTT_SUCCESS},
    {"3.1.1", "0004 4d515454 04 02 003c 0001 61", MQTT_V311, MQTT_SUCCESS},
    {"5.0", "0004 4d515454 05 02 003c 00 0001 61", MQTT_V5, MQTT_SUCCESS},
    {"level 6 [MQTT-3.1.2-2]", "0004 4d515454 06 02 003c 00 0001 61", 0, MQTT_UNSUPPORTED_PROTOCOL_VERSION},
    {"level 6 and nothing else", "0004 4d515454 06", 0, MQTT_UNSUPPORTED_PROTOCOL_VERSION},
    {"bridge bit", "0006 4d5149736470 83 02 003c 0001 61", 0, MQTT_UNSUPPORTED_PROTOCOL_VERSION},
    {"name [MQTT-3.1.2-1]", "0004 4d515458 04 02 003c 0001 61", 0, MQTT_UNSUPPORTED_PROTOCOL_VERSION},
    {"name is cut", "0006 4d51", 0, MQTT_MALFORMED_PACKET},
    {"level is cut", "0004 4d515454", 0, MQTT_MALFORMED_PACKET},
    {"reserved flag [MQTT-3.1.2-3]", "0004 4d515454 05 03 003c 00 0001 61", MQTT_V5, MQTT_MALFORMED_PACKET},
    {"password alone [MQTT311-3.1.2-22]", "0004 4d515454 04 42 003c 0001 61 0001 70", MQTT_V311, MQTT_MALFORMED_PACKET},
    {"property twice", "0004 4d515454 05 02 003c 06 210001 210001 0001 61", MQTT_V5, MQTT_PROTOCOL_ERROR},
    {"will topic with wildcard", "0004 4d515454 04 06 003c 0001 61 0001 23 0000", MQTT_V311, MQTT_PROTOCOL_ERROR},
};

/* A refusal is put in the client's words, so the version must be known as far as it was read. */
static void test_version(void)
{
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct slice body = unit_hex(cases[i].hex);
        struct mqtt_connect c = {.keep_alive_s = 4321};
        uint8_t version = 99;
        CHECK_CASE(cases[i].name, mqtt_connect_decode(body, 0, &version, &c) == cases[i].want);
        CHECK_CASE(cases[i].name, version == cases[i].version);
        CHECK_CASE(cases[i].name, c.keep_alive_s == (cases[i].want == MQTT_SUCCESS ? 60 : 4321));
        free((void *)body.ptr);
    }
}

static struct mqtt_connect full_connect(enum mqtt_version version)
{
    struct mqtt_connect c = {
        .version = version,
        .clean_start = true,
        .has_user_name = true,
        .has_password = true,
        .keep_alive_s = 0x0102,
        .client_id = SLICE("id"),
        .user_name = SLICE("u"),
        .password = SLICE("p\0w"),
        .will = {.present = true, .retain = true, .qos = 2, .topic = SLICE("w"), .payload = SLICE("x")}};
    if (version == MQTT_V5) {
        c.properties.present = 1ull << MQTT_PROP_SESSION_EXPIRY;
        c.properties.session_expiry_s = 9;
        c.will.properties.present = 1ull << MQTT_PROP_WILL_DELAY;
        c.will.properties.will_delay_s = 8;
    }
    return c;
}

static const struct {
    enum mqtt_version version;
    const char *name, *hex;
} encodings[] = {
    {MQTT_V31, "3.1", "10 1e 0006 4d5149736470 03 f6 0102 0002 6964 0001 77 0001 78 0001 75 0003 700077"},
    {MQTT_V311, "3.1.1", "10 1c 0004 4d515454 04 f6 0102 0002 6964 0001 77 0001 78 0001 75 0003 700077"},
    {MQTT_V5, "5.0",
     "10 28 0004 4d515454 05 f6 0102 05 1100000009 0002 6964 05 1800000008 0001 77 0001 78 0001 75 0003 700077"},
};

static void test_bytes(void)
{
    for (size_t i = 0; i < COUNT_OF(encodings); i++) {
        struct mqtt_connect c = full_connect(encodings[i].version), again;
        struct buf out = {0};
        struct slice want = unit_hex(encodings[i].hex);
        struct mqtt_frame frame;
        uint8_t version;
        mqtt_connect_encode(&out, &c);
        CHECK_CASE(encodings[i].name, slice_eq(buf_slice(&out), want));
        CHECK(mqtt_frame_next(want, 1000, &frame) == MQTT_FRAME_WHOLE && frame.type == MQTT_CONNECT);
        CHECK(mqtt_connect_decode(frame.body, frame.flags, &version, &again) == MQTT_SUCCESS);
        CHECK(again.clean_start && again.has_user_name && again.has_password && again.keep_alive_s == 0x0102);
        CHECK(slice_eq(again.client_id, c.client_id) && slice_eq(again.user_name, c.user_name));
        CHECK(slice_eq(again.password, c.password));
        CHECK(again.will.present && again.will.retain && again.will.qos == 2);
        CHECK(slice_eq(again.will.topic, c.will.topic) && slice_eq(again.will.payload, c.will.payload));
        CHECK(again.properties.session_expiry_s == c.properties.session_expiry_s);
        CHECK(again.will.properties.will_delay_s == c.will.properties.will_delay_s);
        free((void *)want.ptr);
        buf_deinit(&out);
    }
}

/* 3.1 lets the remaining length outweigh the flags of user name and password. */
static void test_missing_user_name_in_3_1(void)
{
    struct slice body = unit_hex("0006 4d5149736470 03 c2 003c 0001 61");
    struct mqtt_connect c;
    uint8_t version;
    CHECK(mqtt_connect_decode(body, 0, &version, &c) == MQTT_SUCCESS);
    CHECK(!c.has_user_name && !c.has_password);
    free((void *)body.ptr);
}

static const struct {
    const char *name;
    enum mqtt_version version;
    struct mqtt_connack connack;
    const char *hex;
} connacks[] = {
    {"accepted, 3.1.1", MQTT_V311, {.session_present = true}, "20 02 01 00"},
    {"refused, 3.1.1", MQTT_V311, {.code = 5}, "20 02 00 05"},
    {"3.1 knows no session present", MQTT_V31, {.session_present = true}, "20 02 00 00"},
    {"accepted, 5.0", MQTT_V5, {.session_present = true}, "20 03 01 00 00"},
    {"properties, 5.0",
     MQTT_V5,
     {.properties = {.present = 1ull << MQTT_PROP_SERVER_KEEP_ALIVE, .server_keep_alive_s = 30}},
     "20 06 00 00 03 13001e"},
};

static void test_connack(void)
{
    for (size_t i = 0; i < COUNT_OF(connacks); i++) {
        struct buf out = {0};
        struct slice want = unit_hex(connacks[i].hex);
        struct mqtt_connack again;
        mqtt_connack_encode(&out, connacks[i].version, &connacks[i].connack);
        CHECK_CASE(connacks[i].name, slice_eq(buf_slice(&out), want));
        CHECK(mqtt_connack_decode(slice_drop(want, 2), 0, connacks[i].version, &again) == MQTT_SUCCESS);
        CHECK_CASE(connacks[i].name, again.code == connacks[i].connack.code);
        CHECK_CASE(connacks[i].name, again.session_present == (want.ptr[2] == 1));
        free((void *)want.ptr);
        buf_deinit(&out);
    }
}

/* When memory is out nothing of the packet remains. */
static void test_no_memory(void)
{
    struct mqtt_connect c = full_connect(MQTT_V5);
    struct buf out = {0};
    buf_u16(&out, 7);
    out.failed = true;
    mqtt_connect_encode(&out, &c);
    CHECK(out.len == 2 && out.failed);
    buf_deinit(&out);
}

UNIT_MAIN("proto/mqtt/connect", {"version", test_version}, {"bytes", test_bytes},
          {"missing user name in 3.1", test_missing_user_name_in_3_1}, {"CONNACK", test_connack},
          {"no memory", test_no_memory})
