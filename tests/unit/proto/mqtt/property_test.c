#include "proto/mqtt/property.h"

#include "tests/lib/unit.h"

#include <stdio.h>
#include <stdlib.h>

/* Every property that some packet may carry, well-formed, with a packet that may. */
static const struct {
    uint8_t id;
    const char *hex;
    uint16_t packets; /* bit = packet type, bit 0 = the will: table 2-4 of 5.0, read once more */
} known[] = {
    {MQTT_PROP_PAYLOAD_FORMAT, "01 01", 0x0009},
    {MQTT_PROP_MESSAGE_EXPIRY, "02 01020304", 0x0009},
    {MQTT_PROP_CONTENT_TYPE, "03 0001 61", 0x0009},
    {MQTT_PROP_RESPONSE_TOPIC, "08 0001 62", 0x0009},
    {MQTT_PROP_CORRELATION_DATA, "09 0002 00ff", 0x0009},
    {MQTT_PROP_SUBSCRIPTION_ID, "0b 8001", 0x0108},
    {MQTT_PROP_SESSION_EXPIRY, "11 ffffffff", 0x4006},
    {MQTT_PROP_ASSIGNED_CLIENT_ID, "12 0001 63", 0x0004},
    {MQTT_PROP_SERVER_KEEP_ALIVE, "13 0102", 0x0004},
    {MQTT_PROP_AUTH_METHOD, "15 0001 64", 0x8006},
    {MQTT_PROP_REQUEST_PROBLEM_INFO, "17 00", 0x0002},
    {MQTT_PROP_WILL_DELAY, "18 00000005", 0x0001},
    {MQTT_PROP_REQUEST_RESPONSE_INFO, "19 01", 0x0002},
    {MQTT_PROP_RESPONSE_INFO, "1a 0001 65", 0x0004},
    {MQTT_PROP_SERVER_REFERENCE, "1c 0001 66", 0x4004},
    {MQTT_PROP_REASON_STRING, "1f 0001 67", 0xcaf4},
    {MQTT_PROP_RECEIVE_MAX, "21 0014", 0x0006},
    {MQTT_PROP_TOPIC_ALIAS_MAX, "22 000a", 0x0006},
    {MQTT_PROP_TOPIC_ALIAS, "23 0003", 0x0008},
    {MQTT_PROP_MAXIMUM_QOS, "24 01", 0x0004},
    {MQTT_PROP_RETAIN_AVAILABLE, "25 00", 0x0004},
    {MQTT_PROP_USER_PROPERTY, "26 0001 6b 0001 76", 0xcfff},
    {MQTT_PROP_MAXIMUM_PACKET_SIZE, "27 00010000", 0x0006},
    {MQTT_PROP_WILDCARD_AVAILABLE, "28 01", 0x0004},
    {MQTT_PROP_SUBSCRIPTION_ID_AVAILABLE, "29 00", 0x0004},
    {MQTT_PROP_SHARED_AVAILABLE, "2a 01", 0x0004},
};

/* The properties of hex, `times` over, behind their length. */
static struct slice with_length(const char *hex, unsigned times)
{
    struct slice s = unit_hex(hex);
    uint8_t *bytes = malloc(1 + s.len * times);
    CU_ASSERT_PTR_NOT_NULL_FATAL(bytes);
    CU_ASSERT_FATAL(s.len * times < 128);
    bytes[0] = (uint8_t)(s.len * times);
    for (unsigned i = 0; i < times; i++) {
        memcpy(bytes + 1 + s.len * i, s.ptr, s.len);
    }
    struct slice all = slice_of(bytes, 1 + s.len * times);
    free((void *)s.ptr);
    return all;
}

static enum mqtt_reason decode(const char *hex, unsigned times, unsigned packet)
{
    struct slice s = with_length(hex, times);
    struct cursor c = cursor_at(s);
    struct mqtt_properties p;
    enum mqtt_reason reason = mqtt_properties_decode(&c, packet, &p);
    free((void *)s.ptr);
    return reason;
}

static void test_each_packet(void)
{
    for (size_t i = 0; i < COUNT_OF(known); i++) {
        for (unsigned packet = 0; packet < 16; packet++) {
            bool allowed = known[i].packets >> packet & 1;
            bool repeats = known[i].id == MQTT_PROP_USER_PROPERTY ||
                           (known[i].id == MQTT_PROP_SUBSCRIPTION_ID && packet == MQTT_PUBLISH);
            enum mqtt_reason once = allowed ? MQTT_SUCCESS : MQTT_MALFORMED_PACKET;
            enum mqtt_reason twice = allowed && !repeats ? MQTT_PROTOCOL_ERROR : once;
            CHECK_CASE(known[i].hex, decode(known[i].hex, 1, packet) == once);
            CHECK_CASE(known[i].hex, decode(known[i].hex, 2, packet) == twice);
        }
    }
}

static bool is_known(unsigned id)
{
    for (size_t i = 0; i < COUNT_OF(known); i++) {
        if (known[i].id == id) {
            return true;
        }
    }
    return id == MQTT_PROP_AUTH_DATA; /* needs the method beside it, so it has no row */
}

static void test_unknown(void)
{
    for (unsigned id = 0; id < 256; id++) {
        char hex[32];
        snprintf(hex, sizeof(hex), "%02x 00 00 00 01 00 00", id);
        for (unsigned packet = 0; !is_known(id) && packet < 16; packet++) {
            CHECK_CASE(hex, decode(hex, 1, packet) == MQTT_MALFORMED_PACKET);
        }
    }
}

static const struct {
    const char *name, *hex; /* property length and all */
    unsigned packet;
    enum mqtt_reason want;
} bad_rows[] = {
    {"none", "00", MQTT_CONNECT, MQTT_SUCCESS},
    {"method and data", "08 15 0001 6d 16 0001 64", MQTT_AUTH, MQTT_SUCCESS},
    {"data in front of the method", "08 16 0001 64 15 0001 6d", MQTT_AUTH, MQTT_SUCCESS},
    {"empty strings", "05 26 0000 0000", MQTT_CONNECT, MQTT_SUCCESS},
    {"topic alias 0 is left to the caller", "03 23 0000", MQTT_PUBLISH, MQTT_SUCCESS},
    {"no length", "", MQTT_CONNECT, MQTT_MALFORMED_PACKET},
    {"length cut", "80", MQTT_CONNECT, MQTT_MALFORMED_PACKET},
    {"length not minimal [MQTT-1.5.5-1]", "8000", MQTT_CONNECT, MQTT_MALFORMED_PACKET},
    {"length beyond the end", "03 11 00", MQTT_CONNECT, MQTT_MALFORMED_PACKET},
    {"identifier alone", "01 11", MQTT_CONNECT, MQTT_MALFORMED_PACKET},
    {"value goes beyond the length", "04 11 000000 01", MQTT_CONNECT, MQTT_MALFORMED_PACKET},
    {"string goes beyond the length", "04 1f 0002 61 62", MQTT_PUBACK, MQTT_MALFORMED_PACKET},
    {"data without method", "04 16 0001 64", MQTT_AUTH, MQTT_PROTOCOL_ERROR},
    {"receive maximum 0", "03 21 0000", MQTT_CONNECT, MQTT_PROTOCOL_ERROR},
    {"maximum packet size 0", "05 27 00000000", MQTT_CONNACK, MQTT_PROTOCOL_ERROR},
    {"subscription identifier 0", "02 0b 00", MQTT_SUBSCRIBE, MQTT_PROTOCOL_ERROR},
    {"subscription identifier of five bytes", "06 0b 8080808001", MQTT_SUBSCRIBE, MQTT_MALFORMED_PACKET},
    {"payload format 2", "02 01 02", MQTT_PUBLISH, MQTT_PROTOCOL_ERROR},
    {"request problem information 255", "02 17 ff", MQTT_CONNECT, MQTT_PROTOCOL_ERROR},
    {"maximum qos 2", "02 24 02", MQTT_CONNACK, MQTT_PROTOCOL_ERROR},
    {"response topic a/+ [MQTT-3.3.2-14]", "06 08 0003 612f2b", MQTT_PUBLISH, MQTT_PROTOCOL_ERROR},
    {"response topic # [MQTT-3.3.2-14]", "04 08 0001 23", MQTT_WILL_PROPERTIES, MQTT_PROTOCOL_ERROR},
    {"ill-formed string [MQTT-1.5.4-1]", "04 1f 0001 80", MQTT_PUBACK, MQTT_MALFORMED_PACKET},
    {"ill-formed user property name [MQTT-1.5.7-1]", "06 26 0001 ff 0000", MQTT_PUBACK, MQTT_MALFORMED_PACKET},
    {"ill-formed user property value [MQTT-1.5.7-1]", "06 26 0000 0001 00", MQTT_PUBACK, MQTT_MALFORMED_PACKET},
    {"first fault decides", "08 21 0000 11 00000000", MQTT_CONNECT, MQTT_PROTOCOL_ERROR},
};

static void test_bad(void)
{
    for (size_t i = 0; i < COUNT_OF(bad_rows); i++) {
        struct slice s = unit_hex(bad_rows[i].hex);
        struct cursor c = cursor_at(s);
        struct mqtt_properties p = {.present = 77};
        CHECK_CASE(bad_rows[i].name, mqtt_properties_decode(&c, bad_rows[i].packet, &p) == bad_rows[i].want);
        CHECK_CASE(bad_rows[i].name, (p.present == 77) == (bad_rows[i].want != MQTT_SUCCESS));
        free((void *)s.ptr);
    }
}

/* One set that all numbers and strings of CONNACK go through: decoded to fields, encoded to the same bytes. */
static void test_fields(void)
{
    struct slice s =
        unit_hex("3f 11 0000000a 12 0001 63 13 0102 15 0001 6d 16 0002 00ff 1a 0001 69 1c 0001 73 1f 0001 72"
                 "21 0014 22 000a 24 01 25 00 27 00010000 28 00 29 01 2a 00 26 0001 6b 0003 767677");
    struct cursor c = cursor_at(s);
    struct mqtt_properties p;
    struct buf out = {0};

    CU_ASSERT_FATAL(mqtt_properties_decode(&c, MQTT_CONNACK, &p) == MQTT_SUCCESS);
    CHECK(cursor_left(&c) == 0);
    CHECK(p.session_expiry_s == 10 && p.server_keep_alive_s == 0x102 && p.receive_max == 20);
    CHECK(p.topic_alias_max == 10 && p.packet_bytes_max == 65536);
    CHECK(p.maximum_qos == 1 && p.retain_available == 0 && p.wildcard_available == 0);
    CHECK(p.subscription_id_available == 1 && p.shared_available == 0);
    CHECK(slice_eq(p.assigned_client_id, SLICE("c")) && slice_eq(p.auth_method, SLICE("m")));
    CHECK(slice_eq(p.auth_data, SLICE("\x00\xff")) && slice_eq(p.response_info, SLICE("i")));
    CHECK(slice_eq(p.server_reference, SLICE("s")) && slice_eq(p.reason_string, SLICE("r")));
    CHECK(p.user_count == 1 && p.user_bytes == 4);
    CHECK(p.raw.ptr == s.ptr + 1 && p.raw.len == s.len - 1);
    CHECK(mqtt_property_has(&p, MQTT_PROP_MAXIMUM_QOS) && !mqtt_property_has(&p, MQTT_PROP_TOPIC_ALIAS));

    p.user = slice_drop(p.raw, p.raw.len - 9);
    mqtt_properties_encode(&out, &p);
    CHECK(slice_eq(buf_slice(&out), s));
    buf_deinit(&out);
    free((void *)s.ptr);
}

/* What may repeat: of Subscription Identifiers the first is kept, User Properties are counted. */
static void test_repeated(void)
{
    struct slice s = with_length("0b 05 0b 8001 26 0001 6b 0002 7677 26 0000 0000", 1);
    struct cursor c = cursor_at(s);
    struct mqtt_properties p;
    CU_ASSERT_FATAL(mqtt_properties_decode(&c, MQTT_PUBLISH, &p) == MQTT_SUCCESS);
    CHECK(p.subscription_id == 5);
    CHECK(p.user_count == 2 && p.user_bytes == 3);
    free((void *)s.ptr);
}

static void test_next(void)
{
    struct slice s = unit_hex("0b 05 26 0001 6b 0002 7677 02 00000102 09 0002 0000 0b 8001 26 0001 6b 0000");
    static const struct {
        uint8_t id;
        uint32_t number;
        const char *text, *value;
        size_t text_len, wire_len;
    } want[] = {
        {0x0b, 5, "", "", 0, 2},   {0x26, 0, "k", "vw", 1, 8}, {0x02, 258, "", "", 0, 5},
        {0x09, 0, "\0", "", 2, 5}, {0x0b, 128, "", "", 0, 3},  {0x26, 0, "k", "", 1, 6},
    };
    struct slice raw = s;
    struct mqtt_property p;
    size_t at = 0;
    for (size_t i = 0; i < COUNT_OF(want); i++) {
        CHECK(mqtt_property_next(&raw, &p));
        CHECK(p.id == want[i].id && p.number == want[i].number);
        CHECK(p.text.len == want[i].text_len);
        CHECK(p.text.len == 0 || memcmp(p.text.ptr, want[i].text, p.text.len) == 0);
        CHECK(slice_eq(p.value, slice_str(want[i].value)));
        CHECK(p.wire.ptr == s.ptr + at && p.wire.len == want[i].wire_len);
        at += p.wire.len;
    }
    CHECK(!mqtt_property_next(&raw, &p));
    CHECK(raw.len == 0);
    free((void *)s.ptr);
}

static void test_forward(void)
{
    static const struct {
        const char *name, *raw, *want;
    } rows[] = {
        {"nothing", "", ""},
        {"format, type, response topic, correlation [MQTT-3.3.2-4] [MQTT-3.3.2-15] [MQTT-3.3.2-16] [MQTT-3.3.2-20]",
         "01 01 03 0001 61 08 0001 62 09 0001 63", "01 01 03 0001 61 08 0001 62 09 0001 63"},
        {"user properties in their order [MQTT-3.3.2-17] [MQTT-3.3.2-18]",
         "26 0001 62 0000 26 0001 61 0000 26 0001 62 0000", "26 0001 62 0000 26 0001 61 0000 26 0001 62 0000"},
        {"not the expiry, the alias, subscription identifiers", "02 0000000a 23 0001 0b 01 0b 8001", ""},
        {"not a will's delay", "18 00000001 01 00", "01 00"},
        {"the rest closes up", "23 0001 26 0001 61 0000 02 0000000a 01 01", "26 0001 61 0000 01 01"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct slice raw = unit_hex(rows[i].raw), want = unit_hex(rows[i].want);
        struct buf out = {0};
        mqtt_properties_forward(&out, raw);
        CHECK_CASE(rows[i].name, slice_eq(buf_slice(&out), want));
        CHECK_CASE(rows[i].name, mqtt_properties_forward_size(raw) == want.len);
        buf_deinit(&out);
        free((void *)raw.ptr);
        free((void *)want.ptr);
    }
}

static void test_encode(void)
{
    struct buf out = {0};
    struct mqtt_properties p = {0};
    mqtt_properties_encode(&out, &p);
    CHECK(slice_eq(buf_slice(&out), SLICE("\x00")));
    buf_deinit(&out);

    p.user = SLICE("\x26\0\1k\0\0");
    mqtt_properties_encode(&out, &p); /* without its bit: what decoding counts is not what encoding sends */
    CHECK(slice_eq(buf_slice(&out), SLICE("\x06\x26\0\1k\0\0")));
    buf_deinit(&out);

    p = (struct mqtt_properties){.present = 1ull << MQTT_PROP_SUBSCRIPTION_ID, .subscription_id = 268435455};
    mqtt_properties_encode(&out, &p);
    CHECK(slice_eq(buf_slice(&out), SLICE("\x05\x0b\xff\xff\xff\x7f")));
    buf_deinit(&out);

    p = (struct mqtt_properties){.user = {(const uint8_t *)"", 268435456}}; /* longer than any packet: never read */
    mqtt_properties_encode(&out, &p);
    CHECK(out.failed && out.len == 0);
    buf_deinit(&out);
}

UNIT_MAIN("proto/mqtt/property", {"which packets, how often", test_each_packet}, {"unknown", test_unknown},
          {"refused", test_bad}, {"fields", test_fields}, {"repeated", test_repeated}, {"walking", test_next},
          {"handing on", test_forward}, {"encoding", test_encode})
