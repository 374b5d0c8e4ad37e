/* control_test.c -- PINGREQ, PINGRESP, DISCONNECT, AUTH. */
#include <stdio.h>
#include <stdlib.h>

#include "proto/mqtt/control.h"
#include "tests/lib/unit.h"

static bool holds(struct buf *out, const char *hex)
{
    struct slice want = unit_hex(hex);
    bool same = slice_eq(buf_slice(out), want) && !out->failed;
    free((void *)want.ptr);
    out->len = 0;
    return same;
}

static void test_ping(void)
{
    struct buf out = {0};
    mqtt_ping_encode(&out, MQTT_PINGREQ);
    mqtt_ping_encode(&out, MQTT_PINGRESP);
    CHECK(holds(&out, "c000 d000"));
    CHECK(mqtt_ping_decode(SLICE(""), 0) == MQTT_SUCCESS);
    CHECK(mqtt_ping_decode(SLICE(""), 1) == MQTT_MALFORMED_PACKET);
    CHECK(mqtt_ping_decode(SLICE("x"), 0) == MQTT_MALFORMED_PACKET);
    buf_deinit(&out);
}

/* [MQTT-3.14.2-1], every code from each side. */
static void test_disconnect_reasons(void)
{
    struct slice client = unit_hex("00 04 80 81 82 83 90 93 94 95 96 97 98 99");
    struct slice server = unit_hex("80 81 82 83 87 89 8b 8d 8e 8f 90 93 94 95 96 97 98 99 9a 9b 9c 9d 9e 9f a0 a1 a2");
    for (unsigned code = 0; code < 256; code++) {
        uint8_t body = (uint8_t)code;
        struct mqtt_disconnect d = {.reason = 0xee};
        char name[32];
        snprintf(name, sizeof(name), "reason 0x%02x", code);
        bool good = memchr(client.ptr, (int)code, client.len) != NULL;
        enum mqtt_reason want = good ? MQTT_SUCCESS : MQTT_PROTOCOL_ERROR;
        CHECK_CASE(name, mqtt_disconnect_decode(slice_of(&body, 1), 0, MQTT_V5, true, &d) == want);
        CHECK_CASE(name, d.reason == (good ? code : 0xee));
        want = memchr(server.ptr, (int)code, server.len) ? MQTT_SUCCESS : MQTT_PROTOCOL_ERROR;
        CHECK_CASE(name, mqtt_disconnect_decode(slice_of(&body, 1), 0, MQTT_V5, false, &d) == want);
    }
    free((void *)client.ptr);
    free((void *)server.ptr);
}

static void test_disconnect(void)
{
    struct slice body = unit_hex("00 05 110000000a");
    struct mqtt_disconnect d;
    struct buf out = {0};
    CHECK(mqtt_disconnect_decode(body, 0, MQTT_V5, true, &d) == MQTT_SUCCESS);
    CHECK(d.reason == 0 && d.properties.session_expiry_s == 10);
    mqtt_disconnect_encode(&out, MQTT_V5, &d);
    CHECK(holds(&out, "e0 07 00 05 110000000a"));
    CHECK(mqtt_disconnect_decode(body, 0, MQTT_V5, false, &d) == MQTT_PROTOCOL_ERROR); /* [MQTT-3.14.2-2] */
    CHECK(mqtt_disconnect_decode(body, 0, MQTT_V311, true, &d) == MQTT_MALFORMED_PACKET);
    CHECK(mqtt_disconnect_decode(SLICE(""), 0, MQTT_V311, true, &d) == MQTT_SUCCESS);
    CHECK(d.reason == 0 && d.properties.present == 0);
    CHECK(mqtt_disconnect_decode(SLICE(""), 0, MQTT_V311, false, &d) == MQTT_PROTOCOL_ERROR);

    d = (struct mqtt_disconnect){.reason = MQTT_SESSION_TAKEN_OVER};
    mqtt_disconnect_encode(&out, MQTT_V5, &d);
    CHECK(holds(&out, "e0 01 8e"));
    d.reason = 0;
    mqtt_disconnect_encode(&out, MQTT_V5, &d);
    CHECK(holds(&out, "e0 00"));
    d.reason = MQTT_DISCONNECT_WITH_WILL;
    mqtt_disconnect_encode(&out, MQTT_V311, &d);
    CHECK(holds(&out, "e0 00"));
    buf_deinit(&out);
    free((void *)body.ptr);
}

static const struct {
    const char *name, *hex;
    uint8_t flags;
    enum mqtt_reason want;
} auths[] = {
    {"success, nothing else", "", 0, MQTT_SUCCESS},
    {"success with method", "00 04 1500016d", 0, MQTT_SUCCESS},
    {"continue with data", "18 08 1500016d 16000164", 0, MQTT_SUCCESS},
    {"re-authenticate", "19 04 1500016d", 0, MQTT_SUCCESS},
    {"flags [MQTT-3.15.1-1]", "18 04 1500016d", 1, MQTT_MALFORMED_PACKET},
    {"another reason [MQTT-3.15.2-1]", "80 04 1500016d", 0, MQTT_PROTOCOL_ERROR},
    {"no method", "18 00", 0, MQTT_PROTOCOL_ERROR},
    {"no property length", "18", 0, MQTT_MALFORMED_PACKET},
    {"property of CONNECT", "18 07 1500016d 210001", 0, MQTT_MALFORMED_PACKET},
};

static void test_auth(void)
{
    struct buf out = {0};
    for (size_t i = 0; i < COUNT_OF(auths); i++) {
        struct slice body = unit_hex(auths[i].hex);
        struct mqtt_auth a = {.reason = 0xee};
        CHECK_CASE(auths[i].name, mqtt_auth_decode(body, auths[i].flags, &a) == auths[i].want);
        CHECK_CASE(auths[i].name, (a.reason == 0xee) == (auths[i].want != MQTT_SUCCESS));
        if (auths[i].want == MQTT_SUCCESS) {
            mqtt_auth_encode(&out, &a);
            CHECK_CASE(auths[i].name, slice_eq(slice_drop(buf_slice(&out), 2), body));
            CHECK_CASE(auths[i].name, out.ptr[0] == 0xf0);
            out.len = 0;
        }
        free((void *)body.ptr);
    }
    buf_deinit(&out);
}

UNIT_MAIN("proto/mqtt/control", {"ping", test_ping}, {"DISCONNECT reasons", test_disconnect_reasons},
          {"DISCONNECT", test_disconnect}, {"AUTH", test_auth})
