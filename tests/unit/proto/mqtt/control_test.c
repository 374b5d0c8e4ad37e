/* control_test.c -- PINGREQ, PINGRESP, DISCONNECT, AUTH. */
#include "proto/mqtt/control.h"

#include "tests/lib/unit.h"

#include <stdlib.h>

static void check_bytes(const char *name, struct buf *out, const char *hex)
{
    struct slice want = unit_hex(hex);
    CHECK_CASE(name, slice_eq(buf_slice(out), want));
    buf_deinit(out);
    free((void *)want.ptr);
}

static void test_ping(void)
{
    struct buf out = {0};
    mqtt_ping_encode(&out, MQTT_PINGREQ);
    mqtt_ping_encode(&out, MQTT_PINGRESP);
    check_bytes("both", &out, "c000 d000");
    CHECK(mqtt_ping_decode(SLICE(""), 0) == MQTT_SUCCESS);
    CHECK(mqtt_ping_decode(SLICE("x"), 0) == MQTT_MALFORMED_PACKET);
    for (uint8_t flags = 1; flags < 16; flags++) { /* [MQTT-2.1.3-1] */
        CHECK(mqtt_ping_decode(SLICE(""), flags) == MQTT_MALFORMED_PACKET);
    }
}

static const struct {
    const char *name, *hex;
    uint8_t flags;
    enum mqtt_version version;
    bool from_client;
    enum mqtt_reason want;
    uint8_t code;
} rows[] = {
    {"3.1", "", 0, MQTT_V31, true, MQTT_SUCCESS, 0},
    {"3.1.1", "", 0, MQTT_V311, true, MQTT_SUCCESS, 0},
    {"empty is normal", "", 0, MQTT_V5, true, MQTT_SUCCESS, 0},
    {"reason alone", "04", 0, MQTT_V5, true, MQTT_SUCCESS, 4},
    {"reason, no properties", "04 00", 0, MQTT_V5, true, MQTT_SUCCESS, 4},
    {"session expiry", "00 05 11 0000000a", 0, MQTT_V5, true, MQTT_SUCCESS, 0},
    {"server moved", "9d 04 1c 0001 62", 0, MQTT_V5, false, MQTT_SUCCESS, 0x9d},
    {"flags [MQTT-3.14.1-1]", "", 1, MQTT_V5, true, MQTT_MALFORMED_PACKET, 0},
    {"flags [MQTT-2.1.3-1]", "", 8, MQTT_V311, true, MQTT_MALFORMED_PACKET, 0},
    {"3.1.1 with a body", "00", 0, MQTT_V311, true, MQTT_MALFORMED_PACKET, 0},
    {"a 3.1.1 server has none", "", 0, MQTT_V311, false, MQTT_PROTOCOL_ERROR, 0},
    {"left over", "00 00 00", 0, MQTT_V5, true, MQTT_MALFORMED_PACKET, 0},
    {"properties cut", "00 06 11 000000", 0, MQTT_V5, true, MQTT_MALFORMED_PACKET, 0},
    {"a property of CONNECT", "00 03 21 0001", 0, MQTT_V5, true, MQTT_MALFORMED_PACKET, 0},
    {"server reference from a client", "00 04 1c 0001 62", 0, MQTT_V5, true, MQTT_PROTOCOL_ERROR, 0},
    {"session expiry from a server [MQTT-3.14.2-2]", "8b 05 11 00000000", 0, MQTT_V5, false, MQTT_PROTOCOL_ERROR, 0},
};

static void test_disconnect_decode(void)
{
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct slice body = unit_hex(rows[i].hex);
        struct mqtt_disconnect d = {.reason = 77};
        enum mqtt_reason got = mqtt_disconnect_decode(body, rows[i].flags, rows[i].version, rows[i].from_client, &d);
        CHECK_CASE(rows[i].name, got == rows[i].want);
        CHECK_CASE(rows[i].name, d.reason == (got == MQTT_SUCCESS ? rows[i].code : 77));
        free((void *)body.ptr);
    }
}

/* Who may give which reason: table 3-10 [MQTT-3.14.2-1]. */
static void test_disconnect_codes(void)
{
    static const uint8_t client[] = {0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x90,
                                     0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99};
    static const uint8_t server[] = {0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8b, 0x8d, 0x8e, 0x8f, 0x90, 0x93, 0x94, 0x95,
                                     0x96, 0x97, 0x98, 0x99, 0x9a, 0x9b, 0x9c, 0x9d, 0x9e, 0x9f, 0xa0, 0xa1, 0xa2};
    for (unsigned code = 0; code < 256; code++) {
        uint8_t body[] = {(uint8_t)code};
        struct mqtt_disconnect d;
        bool want = memchr(client, (int)code, sizeof(client)) != NULL;
        enum mqtt_reason got = mqtt_disconnect_decode(slice_of(body, 1), 0, MQTT_V5, true, &d);
        CHECK(got == (want ? MQTT_SUCCESS : MQTT_PROTOCOL_ERROR));
        want = memchr(server, (int)code, sizeof(server)) != NULL;
        got = mqtt_disconnect_decode(slice_of(body, 1), 0, MQTT_V5, false, &d);
        CHECK(got == (want ? MQTT_SUCCESS : MQTT_PROTOCOL_ERROR));
    }
}

static void test_disconnect_encode(void)
{
    struct mqtt_disconnect d = {0};
    struct buf out = {0};

    mqtt_disconnect_encode(&out, MQTT_V5, &d);
    check_bytes("nothing to say", &out, "e0 00");
    d.reason = MQTT_SESSION_TAKEN_OVER;
    mqtt_disconnect_encode(&out, MQTT_V5, &d);
    check_bytes("reason alone", &out, "e0 01 8e");
    mqtt_disconnect_encode(&out, MQTT_V311, &d);
    check_bytes("3.1.1 cannot say it", &out, "e0 00");
    d.properties = (struct mqtt_properties){.present = 1ull << MQTT_PROP_REASON_STRING, .reason_string = SLICE("r")};
    mqtt_disconnect_encode(&out, MQTT_V5, &d);
    check_bytes("reason string", &out, "e0 06 8e 04 1f 0001 72");
    d.reason = 0;
    d.properties = (struct mqtt_properties){.present = 1ull << MQTT_PROP_SESSION_EXPIRY, .session_expiry_s = 10};
    mqtt_disconnect_encode(&out, MQTT_V5, &d);
    check_bytes("properties alone", &out, "e0 07 00 05 11 0000000a");
}

static const struct {
    const char *name, *hex;
    uint8_t flags;
    enum mqtt_reason want;
    uint8_t code;
} auth_rows[] = {
    {"empty is success", "", 0, MQTT_SUCCESS, 0},
    {"continue", "18 09 15 0001 6d 16 0002 00ff", 0, MQTT_SUCCESS, 0x18},
    {"again", "19 04 15 0001 6d", 0, MQTT_SUCCESS, 0x19},
    {"success with method", "00 04 15 0001 6d", 0, MQTT_SUCCESS, 0},
    {"flags [MQTT-3.15.1-1]", "", 2, MQTT_MALFORMED_PACKET, 0},
    {"no property length", "18", 0, MQTT_MALFORMED_PACKET, 0},
    {"left over", "18 04 15 0001 6d 00", 0, MQTT_MALFORMED_PACKET, 0},
    {"no method", "18 00", 0, MQTT_PROTOCOL_ERROR, 0},
    {"success without method", "00 00", 0, MQTT_PROTOCOL_ERROR, 0},
    {"data without method", "18 04 16 0001 64", 0, MQTT_PROTOCOL_ERROR, 0},
    {"reason 0x80 [MQTT-3.15.2-1]", "80 04 15 0001 6d", 0, MQTT_PROTOCOL_ERROR, 0},
    {"reason 0x1a [MQTT-3.15.2-1]", "1a 04 15 0001 6d", 0, MQTT_PROTOCOL_ERROR, 0},
};

static void test_auth_decode(void)
{
    for (size_t i = 0; i < COUNT_OF(auth_rows); i++) {
        struct slice body = unit_hex(auth_rows[i].hex);
        struct mqtt_auth a = {.reason = 77};
        enum mqtt_reason got = mqtt_auth_decode(body, auth_rows[i].flags, &a);
        CHECK_CASE(auth_rows[i].name, got == auth_rows[i].want);
        CHECK_CASE(auth_rows[i].name, a.reason == (got == MQTT_SUCCESS ? auth_rows[i].code : 77));
        free((void *)body.ptr);
    }
}

static void test_auth_encode(void)
{
    struct mqtt_auth a = {0};
    struct buf out = {0};
    mqtt_auth_encode(&out, &a);
    check_bytes("success", &out, "f0 00");
    a.reason = MQTT_CONTINUE_AUTHENTICATION;
    a.properties = (struct mqtt_properties){.present = 1ull << MQTT_PROP_AUTH_METHOD | 1ull << MQTT_PROP_AUTH_DATA,
                                            .auth_method = SLICE("m"),
                                            .auth_data = SLICE("\0\xff")};
    mqtt_auth_encode(&out, &a);
    check_bytes("continue", &out, "f0 0b 18 09 15 0001 6d 16 0002 00ff");
}

UNIT_MAIN("proto/mqtt/control", {"ping", test_ping}, {"DISCONNECT", test_disconnect_decode},
          {"DISCONNECT's codes", test_disconnect_codes}, {"DISCONNECT written", test_disconnect_encode},
          {"AUTH", test_auth_decode}, {"AUTH written", test_auth_encode})
