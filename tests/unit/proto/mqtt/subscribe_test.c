/* subscribe_test.c -- SUBSCRIBE and its relatives: options, walking the filters, bytes. */
#include <stdio.h>
#include <stdlib.h>

#include "proto/mqtt/subscribe.h"
#include "tests/lib/unit.h"

/* Every options byte in every version, against the text of 3.8.3.1 (5.0) and 3.8.3 (3.1.1). */
static void test_options(void)
{
    static const enum mqtt_version versions[] = {MQTT_V31, MQTT_V311, MQTT_V5};
    for (size_t i = 0; i < COUNT_OF(versions); i++) {
        for (unsigned options = 0; options < 256; options++) {
            struct buf body = {0};
            struct mqtt_subscribe s = {0};
            buf_u16(&body, 1);
            if (versions[i] == MQTT_V5) {
                buf_u8(&body, 0);
            }
            buf_string(&body, SLICE("a"));
            buf_u8(&body, (uint8_t)options);
            enum mqtt_reason want = options > 2 ? MQTT_MALFORMED_PACKET : MQTT_SUCCESS;
            if (versions[i] == MQTT_V5) {
                bool three = options % 4 == 3 || options / 16 % 4 == 3;
                want = options >= 64 ? MQTT_MALFORMED_PACKET : three ? MQTT_PROTOCOL_ERROR : MQTT_SUCCESS;
            }
            char name[64];
            snprintf(name, sizeof(name), "options 0x%02x, version %d", options, versions[i]);
            CHECK_CASE(name, mqtt_subscribe_decode(buf_slice(&body), 2, versions[i], &s) == want);
            CHECK_CASE(name, s.count == (want == MQTT_SUCCESS));
            buf_deinit(&body);
        }
    }
}

static void test_walk(void)
{
    struct slice body = unit_hex("0102 02 0b07 0003 612f62 2d 0000 02 0001 23 18");
    struct mqtt_subscribe s;
    struct mqtt_subscription one;
    CHECK(mqtt_subscribe_decode(body, 2, MQTT_V5, &s) == MQTT_SUCCESS);
    CHECK(s.packet_id == 0x0102 && s.count == 3 && s.properties.subscription_id == 7);
    CHECK(mqtt_subscribe_next(&s, &one) && slice_eq(one.filter, SLICE("a/b")));
    CHECK(one.qos == 1 && one.no_local && one.retain_as_published && one.retain_handling == 2);
    CHECK(mqtt_subscribe_next(&s, &one) && one.filter.len == 0);
    CHECK(one.qos == 2 && !one.no_local && !one.retain_as_published && one.retain_handling == 0);
    CHECK(mqtt_subscribe_next(&s, &one) && slice_eq(one.filter, SLICE("#")));
    CHECK(one.qos == 0 && !one.no_local && one.retain_as_published && one.retain_handling == 1);
    CHECK(!mqtt_subscribe_next(&s, &one));
    free((void *)body.ptr);

    struct slice filter;
    body = unit_hex("0102 0001 61 0002 6263");
    CHECK(mqtt_unsubscribe_decode(body, 2, MQTT_V311, &s) == MQTT_SUCCESS);
    CHECK(s.packet_id == 0x0102 && s.count == 2);
    CHECK(mqtt_unsubscribe_next(&s, &filter) && slice_eq(filter, SLICE("a")));
    CHECK(mqtt_unsubscribe_next(&s, &filter) && slice_eq(filter, SLICE("bc")));
    CHECK(!mqtt_unsubscribe_next(&s, &filter));
    free((void *)body.ptr);
}

static bool holds(struct buf *out, const char *hex)
{
    struct slice want = unit_hex(hex);
    bool same = slice_eq(buf_slice(out), want) && !out->failed;
    free((void *)want.ptr);
    out->len = 0;
    return same;
}

static void test_encode(void)
{
    static const struct mqtt_subscription subs[] = {
        {.filter = SLICE("a"), .qos = 1, .no_local = true, .retain_as_published = true, .retain_handling = 2},
        {.filter = SLICE("#"), .qos = 2}};
    struct mqtt_properties p = {.present = 1ull << MQTT_PROP_SUBSCRIPTION_ID, .subscription_id = 128};
    struct buf out = {0};
    mqtt_subscribe_encode(&out, MQTT_V311, 7, NULL, subs, 2);
    CHECK(holds(&out, "82 0a 0007 0001 61 01 0001 23 02"));
    mqtt_subscribe_encode(&out, MQTT_V5, 7, NULL, subs, 1);
    CHECK(holds(&out, "82 07 0007 00 0001 61 2d"));
    mqtt_subscribe_encode(&out, MQTT_V5, 7, &p, subs, 1);
    CHECK(holds(&out, "82 0a 0007 03 0b8001 0001 61 2d"));
    mqtt_unsubscribe_encode(&out, MQTT_V31, 7, NULL, subs, 2);
    CHECK(holds(&out, "a2 08 0007 0001 61 0001 23"));
    mqtt_unsubscribe_encode(&out, MQTT_V5, 7, NULL, subs, 1);
    CHECK(holds(&out, "a2 06 0007 00 0001 61"));
    buf_deinit(&out);
}

static void test_suback(void)
{
    struct mqtt_suback s = {.packet_id = 7, .codes = SLICE("\x00\x02\x87\x8f")}, again;
    struct buf out = {0};
    mqtt_suback_encode(&out, MQTT_SUBACK, MQTT_V5, &s);
    CHECK(mqtt_suback_decode(MQTT_SUBACK, slice_drop(buf_slice(&out), 2), 0, MQTT_V5, &again) == MQTT_SUCCESS);
    CHECK(again.packet_id == 7 && slice_eq(again.codes, s.codes));
    CHECK(holds(&out, "90 07 0007 00 00 02 87 8f"));
    mqtt_suback_encode(&out, MQTT_SUBACK, MQTT_V311, &s); /* every failure is 0x80 there */
    CHECK(holds(&out, "90 06 0007 00 02 80 80"));
    s.codes = SLICE("\x00\x11");
    mqtt_suback_encode(&out, MQTT_UNSUBACK, MQTT_V5, &s);
    CHECK(holds(&out, "b0 05 0007 00 00 11"));
    mqtt_suback_encode(&out, MQTT_UNSUBACK, MQTT_V311, &s);
    CHECK(holds(&out, "b0 02 0007"));
    buf_deinit(&out);
}

static const struct {
    enum mqtt_type type;
    enum mqtt_version version;
    const char *legal; /* hex, every code that is */
} acks[] = {
    {MQTT_SUBACK, MQTT_V31, "00 01 02 80"},
    {MQTT_SUBACK, MQTT_V311, "00 01 02 80"},
    {MQTT_SUBACK, MQTT_V5, "00 01 02 80 83 87 8f 91 97 9e a1 a2"}, /* [MQTT-3.9.3-2] */
    {MQTT_UNSUBACK, MQTT_V5, "00 11 80 83 87 8f 91"},              /* [MQTT-3.11.3-2] */
};

static void test_codes(void)
{
    for (size_t i = 0; i < COUNT_OF(acks); i++) {
        struct slice legal = unit_hex(acks[i].legal);
        for (unsigned code = 0; code < 256; code++) {
            uint8_t v5[4] = {0, 1, 0, (uint8_t)code}, v3[3] = {0, 1, (uint8_t)code};
            struct slice body = acks[i].version == MQTT_V5 ? slice_of(v5, sizeof(v5)) : slice_of(v3, sizeof(v3));
            struct mqtt_suback s;
            bool good = memchr(legal.ptr, (int)code, legal.len) != NULL;
            enum mqtt_reason got = mqtt_suback_decode(acks[i].type, body, 0, acks[i].version, &s);
            CHECK_CASE(acks[i].legal, got == (good ? MQTT_SUCCESS : MQTT_PROTOCOL_ERROR));
        }
        free((void *)legal.ptr);
    }
}

UNIT_MAIN("proto/mqtt/subscribe", {"options", test_options}, {"walk", test_walk}, {"encode", test_encode},
          {"SUBACK", test_suback}, {"codes", test_codes})
