/* subscribe_test.c -- filters, options and codes; most refusals are golden packets (tests/vectors). */
#include "proto/mqtt/subscribe.h"

#include "tests/lib/unit.h"

#include <stdlib.h>

static void test_walk(void)
{
    struct slice body = unit_hex("0102 02 0b 05 0001 61 00 0003 622f23 2e 0000 11 0006 247368617265 02");
    static const struct {
        const char *filter;
        uint8_t qos, retain_handling;
        bool no_local, retain_as_published;
    } want[] = {
        {"a", 0, 0, false, false}, {"b/#", 2, 2, true, true}, {"", 1, 1, false, false}, {"$share", 2, 0, false, false}};
    struct mqtt_subscribe s;
    struct mqtt_subscription sub;

    CU_ASSERT_FATAL(mqtt_subscribe_decode(body, 2, MQTT_V5, &s) == MQTT_SUCCESS);
    CHECK(s.packet_id == 0x102 && s.count == COUNT_OF(want) && s.properties.subscription_id == 5);
    for (size_t i = 0; i < COUNT_OF(want); i++) {
        CHECK_CASE(want[i].filter, mqtt_subscribe_next(&s, &sub));
        CHECK_CASE(want[i].filter, slice_eq(sub.filter, slice_str(want[i].filter)));
        CHECK_CASE(want[i].filter, sub.qos == want[i].qos && sub.retain_handling == want[i].retain_handling);
        CHECK_CASE(want[i].filter, sub.no_local == want[i].no_local);
        CHECK_CASE(want[i].filter, sub.retain_as_published == want[i].retain_as_published);
    }
    CHECK(!mqtt_subscribe_next(&s, &sub));
    free((void *)body.ptr);
}

static void test_walk_unsubscribe(void)
{
    struct slice body = unit_hex("0001 0001 61 0000 0003 622f23");
    struct mqtt_subscribe s;
    struct slice filter;
    static const char *const want[] = {"a", "", "b/#"};

    CU_ASSERT_FATAL(mqtt_unsubscribe_decode(body, 2, MQTT_V311, &s) == MQTT_SUCCESS);
    CHECK(s.packet_id == 1 && s.count == 3);
    for (size_t i = 0; i < COUNT_OF(want); i++) {
        CHECK_CASE(want[i], mqtt_unsubscribe_next(&s, &filter));
        CHECK_CASE(want[i], slice_eq(filter, slice_str(want[i])));
    }
    CHECK(!mqtt_unsubscribe_next(&s, &filter));
    free((void *)body.ptr);
}

/* Each of the 256 options bytes, on a plain and on a shared subscription. */
static void test_options(void)
{
    for (unsigned options = 0; options < 256; options++) {
        struct slice plain = unit_hex("0001 00 0001 61 00"), shared = unit_hex("0001 00 000a 2473686172652f672f61 00");
        ((uint8_t *)plain.ptr)[plain.len - 1] = (uint8_t)options;
        ((uint8_t *)shared.ptr)[shared.len - 1] = (uint8_t)options;
        struct mqtt_subscribe s;
        enum mqtt_reason want = MQTT_SUCCESS;
        if (options >> 6) { /* [MQTT-3.8.3-5] */
            want = MQTT_MALFORMED_PACKET;
        } else if ((options & 3) == 3 || (options >> 4) == 3) {
            want = MQTT_PROTOCOL_ERROR;
        }
        CHECK(mqtt_subscribe_decode(plain, 2, MQTT_V5, &s) == want);
        want = want == MQTT_SUCCESS && options & 4 ? MQTT_PROTOCOL_ERROR : want; /* [MQTT-3.8.3-4] */
        CHECK(mqtt_subscribe_decode(shared, 2, MQTT_V5, &s) == want);

        uint8_t old[] = {0, 1, 0, 1, 'a', (uint8_t)options};
        want = options <= 2 ? MQTT_SUCCESS : MQTT_MALFORMED_PACKET; /* [MQTT311-3.8.3-4] */
        CHECK(mqtt_subscribe_decode(slice_of(old, sizeof(old)), 2, MQTT_V311, &s) == want);
        CHECK(mqtt_subscribe_decode(slice_of(old, sizeof(old)), 2, MQTT_V31, &s) == want);
        free((void *)plain.ptr);
        free((void *)shared.ptr);
    }
}

static const struct {
    const char *name, *hex;
    uint8_t flags;
    enum mqtt_reason want;
} unsubscribe_rows[] = {
    {"one filter", "0001 00 0001 61", 2, MQTT_SUCCESS},
    {"user property", "0001 07 26 0001 6b 0001 76 0001 61", 2, MQTT_SUCCESS},
    {"flags 0 [MQTT-3.10.1-1]", "0001 00 0001 61", 0, MQTT_MALFORMED_PACKET},
    {"flags 3 [MQTT-3.10.1-1]", "0001 00 0001 61", 3, MQTT_MALFORMED_PACKET},
    {"packet identifier 0 [MQTT-2.2.1-3]", "0000 00 0001 61", 2, MQTT_PROTOCOL_ERROR},
    {"no filter [MQTT-3.10.3-2]", "0001 00", 2, MQTT_PROTOCOL_ERROR},
    {"filter cut", "0001 00 0002 61", 2, MQTT_MALFORMED_PACKET},
    {"filter ill-formed [MQTT-3.10.3-1]", "0001 00 0001 61 0001 ff", 2, MQTT_MALFORMED_PACKET},
    {"subscription identifier", "0001 02 0b 01 0001 61", 2, MQTT_MALFORMED_PACKET},
};

static void test_unsubscribe_decode(void)
{
    for (size_t i = 0; i < COUNT_OF(unsubscribe_rows); i++) {
        struct slice body = unit_hex(unsubscribe_rows[i].hex);
        struct mqtt_subscribe s, before;
        memset(&s, 0xa5, sizeof(s));
        memset(&before, 0xa5, sizeof(before));
        enum mqtt_reason got = mqtt_unsubscribe_decode(body, unsubscribe_rows[i].flags, MQTT_V5, &s);
        CHECK_CASE(unsubscribe_rows[i].name, got == unsubscribe_rows[i].want);
        CHECK_CASE(unsubscribe_rows[i].name, (memcmp(&s, &before, sizeof(s)) != 0) == (got == MQTT_SUCCESS));
        free((void *)body.ptr);
    }
}

static void check_bytes(const char *name, struct buf *out, const char *hex)
{
    struct slice want = unit_hex(hex);
    CHECK_CASE(name, slice_eq(buf_slice(out), want));
    buf_deinit(out);
    free((void *)want.ptr);
}

static void test_encode(void)
{
    struct mqtt_subscription subs[] = {
        {.filter = SLICE("a"), .qos = 1},
        {.filter = SLICE("b"), .qos = 2, .retain_handling = 2, .no_local = true, .retain_as_published = true},
    };
    struct mqtt_properties p = {.present = 1ull << MQTT_PROP_SUBSCRIPTION_ID, .subscription_id = 128};
    struct buf out = {0};

    mqtt_subscribe_encode(&out, MQTT_V5, 0x102, &p, subs, 2);
    check_bytes("SUBSCRIBE, 5", &out, "82 0e 0102 03 0b 8001 0001 61 01 0001 62 2e");
    mqtt_subscribe_encode(&out, MQTT_V5, 1, NULL, subs, 1);
    check_bytes("SUBSCRIBE, no properties", &out, "82 07 0001 00 0001 61 01");
    mqtt_subscribe_encode(&out, MQTT_V311, 1, &p, subs, 2);
    check_bytes("SUBSCRIBE, 3.1.1: qos alone", &out, "82 0a 0001 0001 61 01 0001 62 02");
    mqtt_unsubscribe_encode(&out, MQTT_V5, 1, NULL, subs, 2);
    check_bytes("UNSUBSCRIBE, 5", &out, "a2 09 0001 00 0001 61 0001 62");
    mqtt_unsubscribe_encode(&out, MQTT_V31, 1, NULL, subs, 1);
    check_bytes("UNSUBSCRIBE, 3.1", &out, "a2 05 0001 0001 61");
}

static void test_suback_encode(void)
{
    struct mqtt_suback s = {.packet_id = 0x102, .codes = SLICE("\x00\x01\x02\x8f\x87")};
    struct buf out = {0};

    mqtt_suback_encode(&out, MQTT_SUBACK, MQTT_V5, &s);
    check_bytes("SUBACK, 5", &out, "90 08 0102 00 00 01 02 8f 87");
    mqtt_suback_encode(&out, MQTT_SUBACK, MQTT_V311, &s);
    check_bytes("SUBACK, 3.1.1: one word for failure", &out, "90 07 0102 00 01 02 80 80");
    mqtt_suback_encode(&out, MQTT_UNSUBACK, MQTT_V311, &s);
    check_bytes("UNSUBACK, 3.1.1: no codes", &out, "b0 02 0102");
    s.codes = SLICE("\x00\x11");
    s.properties = (struct mqtt_properties){.present = 1ull << MQTT_PROP_REASON_STRING, .reason_string = SLICE("r")};
    mqtt_suback_encode(&out, MQTT_UNSUBACK, MQTT_V5, &s);
    check_bytes("UNSUBACK, 5", &out, "b0 09 0102 04 1f 0001 72 00 11");
}

/* The legal codes: tables 3-8 [MQTT-3.9.3-2] and 3-9 [MQTT-3.11.3-2] of 5.0. */
static void test_suback_codes(void)
{
    static const uint8_t subscribed[] = {0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8f, 0x91, 0x97, 0x9e, 0xa1, 0xa2};
    static const uint8_t unsubscribed[] = {0x00, 0x11, 0x80, 0x83, 0x87, 0x8f, 0x91};
    for (unsigned code = 0; code < 256; code++) {
        uint8_t v5[] = {0, 1, 0, (uint8_t)code}, v3[] = {0, 1, (uint8_t)code};
        struct mqtt_suback s;
        bool want = memchr(subscribed, (int)code, sizeof(subscribed)) != NULL, want_3 = code <= 2 || code == 0x80;
        enum mqtt_reason got = mqtt_suback_decode(MQTT_SUBACK, slice_of(v5, 4), 0, MQTT_V5, &s);
        CHECK(got == (want ? MQTT_SUCCESS : MQTT_PROTOCOL_ERROR));
        got = mqtt_suback_decode(MQTT_SUBACK, slice_of(v3, 3), 0, MQTT_V311, &s);
        CHECK(got == (want_3 ? MQTT_SUCCESS : MQTT_PROTOCOL_ERROR));
        want = memchr(unsubscribed, (int)code, sizeof(unsubscribed)) != NULL;
        got = mqtt_suback_decode(MQTT_UNSUBACK, slice_of(v5, 4), 0, MQTT_V5, &s);
        CHECK(got == (want ? MQTT_SUCCESS : MQTT_PROTOCOL_ERROR));
        CHECK(mqtt_suback_decode(MQTT_UNSUBACK, slice_of(v3, 3), 0, MQTT_V311, &s) == MQTT_MALFORMED_PACKET);
    }
}

UNIT_MAIN("proto/mqtt/subscribe", {"filters", test_walk}, {"filters of UNSUBSCRIBE", test_walk_unsubscribe},
          {"options", test_options}, {"UNSUBSCRIBE", test_unsubscribe_decode}, {"encoding", test_encode},
          {"acknowledgements", test_suback_encode}, {"codes", test_suback_codes})
