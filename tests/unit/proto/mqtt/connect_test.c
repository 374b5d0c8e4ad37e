/* connect_test.c -- the fields of CONNECT and CONNACK; most refusals are golden packets (tests/vectors). */
#include "proto/mqtt/connect.h"

#include "tests/lib/unit.h"

#include <stdlib.h>

static const struct {
    const char *name, *hex;
    enum mqtt_reason want;
    uint8_t version; /* that the refusal is to be written in */
} rows[] = {
    {"3.1", "0006 4d5149736470 03 02 003c 0001 61", MQTT_SUCCESS, 3},
    {"3.1.1", "0004 4d515454 04 02 003c 0001 61", MQTT_SUCCESS, 4},
    {"5", "0004 4d515454 05 02 003c 00 0001 61", MQTT_SUCCESS, 5},
    {"nothing", "", MQTT_MALFORMED_PACKET, 0},
    {"name cut", "0004 4d51", MQTT_MALFORMED_PACKET, 0},
    {"name ill-formed", "0004 4d5154ff 05 02 003c 00 0001 61", MQTT_MALFORMED_PACKET, 0},
    {"no level", "0004 4d515454", MQTT_MALFORMED_PACKET, 0},
    {"another name [MQTT-3.1.2-1]", "0004 4d515458 05 02 003c 00 0001 61", MQTT_UNSUPPORTED_PROTOCOL_VERSION, 0},
    {"empty name [MQTT-3.1.2-1]", "0000 05 02 003c 00 0001 61", MQTT_UNSUPPORTED_PROTOCOL_VERSION, 0},
    {"level 3 by the new name [MQTT-3.1.2-2]", "0004 4d515454 03 02 003c", MQTT_UNSUPPORTED_PROTOCOL_VERSION, 0},
    {"level 6 [MQTT-3.1.2-2]", "0004 4d515454 06", MQTT_UNSUPPORTED_PROTOCOL_VERSION, 0},
    {"level 4 by the old name", "0006 4d5149736470 04 02 003c", MQTT_UNSUPPORTED_PROTOCOL_VERSION, 0},
    {"bridge of 3.1.1", "0004 4d515454 84 02 003c 0001 61", MQTT_UNSUPPORTED_PROTOCOL_VERSION, 0},
    {"ends behind the level", "0004 4d515454 05", MQTT_MALFORMED_PACKET, 5},
    {"reserved flag [MQTT-3.1.2-3]", "0004 4d515454 04 03 003c 0001 61", MQTT_MALFORMED_PACKET, 4},
    {"receive maximum 0", "0004 4d515454 05 02 003c 03 210000 0001 61", MQTT_PROTOCOL_ERROR, 5},
    {"left over", "0004 4d515454 05 02 003c 00 0001 61 00", MQTT_MALFORMED_PACKET, 5},
};

static void test_version(void)
{
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct slice body = unit_hex(rows[i].hex);
        struct mqtt_connect c, before;
        uint8_t version = 77;
        memset(&c, 0xa5, sizeof(c));
        memset(&before, 0xa5, sizeof(before));
        CHECK_CASE(rows[i].name, mqtt_connect_decode(body, 0, &version, &c) == rows[i].want);
        CHECK_CASE(rows[i].name, version == rows[i].version);
        if (rows[i].want == MQTT_SUCCESS) {
            CHECK_CASE(rows[i].name, c.version == version && slice_eq(c.client_id, SLICE("a")));
        } else {
            CHECK_CASE(rows[i].name, memcmp(&c, &before, sizeof(c)) == 0);
        }
        free((void *)body.ptr);
    }
}

static void test_fields(void)
{
    struct slice body = unit_hex("0004 4d515454 05 f6 0102 05 11 0000000a 0002 6964"
                                 "05 18 00000007 0001 77 0002 0001 0001 75 0003 7000ff");
    struct mqtt_connect c;
    uint8_t version;
    struct buf out = {0};

    CU_ASSERT_FATAL(mqtt_connect_decode(body, 0, &version, &c) == MQTT_SUCCESS);
    CHECK(c.clean_start && c.has_user_name && c.has_password && c.keep_alive_s == 0x102);
    CHECK(c.properties.session_expiry_s == 10);
    CHECK(slice_eq(c.client_id, SLICE("id")) && c.client_id.ptr == body.ptr + 18);
    CHECK(c.will.present && c.will.retain && c.will.qos == 2);
    CHECK(c.will.properties.will_delay_s == 7);
    CHECK(slice_eq(c.will.topic, SLICE("w")) && slice_eq(c.will.payload, SLICE("\0\1")));
    CHECK(slice_eq(c.user_name, SLICE("u")) && slice_eq(c.password, SLICE("p\0\xff")));

    mqtt_connect_encode(&out, &c);
    CHECK(out.len == 2 + body.len && out.ptr[0] == 0x10 && out.ptr[1] == body.len);
    CHECK(slice_eq(slice_drop(buf_slice(&out), 2), body));
    buf_deinit(&out);
    free((void *)body.ptr);
}

/* Each of the 256 flag bytes, with every field there that it announces. */
static void test_flags(void)
{
    for (unsigned flags = 0; flags < 256; flags++) {
        for (uint8_t level = MQTT_V311; level <= MQTT_V5; level++) {
            struct buf b = {0};
            struct mqtt_connect c;
            uint8_t version;
            bool will = flags & 4, user = flags & 0x80, password = flags & 0x40;
            unsigned qos = flags >> 3 & 3;
            buf_string(&b, SLICE("MQTT"));
            buf_u8(&b, level);
            buf_u8(&b, (uint8_t)flags);
            buf_u16(&b, 60);
            buf_put(&b, level == MQTT_V5 ? SLICE("\0\0\1a") : SLICE("\0\1a"));
            if (will) {
                buf_put(&b, level == MQTT_V5 ? SLICE("\0\0\1w\0\1m") : SLICE("\0\1w\0\1m"));
            }
            buf_put(&b, user ? SLICE("\0\1u") : SLICE(""));
            buf_put(&b, password ? SLICE("\0\1p") : SLICE(""));
            bool legal =
                !(flags & 1) && qos < 3 && (will || !(flags & 0x38)) && (user || !password || level == MQTT_V5);
            enum mqtt_reason got = mqtt_connect_decode(buf_slice(&b), 0, &version, &c);
            CHECK(got == (legal ? MQTT_SUCCESS : MQTT_MALFORMED_PACKET));
            if (legal) {
                CHECK(c.clean_start == (flags >> 1 & 1) && c.will.present == will && c.will.qos == qos);
                CHECK(c.has_user_name == user && c.has_password == password);
                CHECK(c.user_name.len == user && c.password.len == password && c.will.topic.len == will);
            }
            buf_deinit(&b);
        }
    }
}

/* What an old client leaves away or sets at random is not held against it. */
static void test_31_tolerance(void)
{
    static const struct {
        const char *name, *hex;
        bool user, password;
    } old[] = {
        {"both flagged, none there", "0006 4d5149736470 03 c2 003c 0001 61", false, false},
        {"both flagged, user name there", "0006 4d5149736470 03 c2 003c 0001 61 0001 75", true, false},
        {"both there", "0006 4d5149736470 03 c2 003c 0001 61 0001 75 0001 70", true, true},
        {"will qos and retain without will", "0006 4d5149736470 03 3b 003c 0001 61", false, false},
    };
    for (size_t i = 0; i < COUNT_OF(old); i++) {
        struct slice body = unit_hex(old[i].hex);
        struct mqtt_connect c = {0};
        uint8_t version;
        CHECK_CASE(old[i].name, mqtt_connect_decode(body, 0, &version, &c) == MQTT_SUCCESS);
        CHECK_CASE(old[i].name, c.has_user_name == old[i].user && c.has_password == old[i].password);
        CHECK_CASE(old[i].name, !c.will.present && c.will.qos == 0 && !c.will.retain);
        free((void *)body.ptr);
    }
}

static void test_connack_encode(void)
{
    static const struct {
        const char *name;
        enum mqtt_version version;
        struct mqtt_connack connack;
        const char *hex;
    } encode_rows[] = {
        {"accepted, 3.1.1", MQTT_V311, {.session_present = true}, "20 02 01 00"},
        {"3.1 knows no session present", MQTT_V31, {.session_present = true}, "20 02 00 00"},
        {"refused, 3.1.1", MQTT_V311, {.code = 5}, "20 02 00 05"},
        {"accepted, 5", MQTT_V5, {.session_present = true}, "20 03 01 00 00"},
        {"refused, 5",
         MQTT_V5,
         {.code = 0x87, .properties = {.present = 1ull << MQTT_PROP_REASON_STRING, .reason_string = SLICE("no")}},
         "20 08 00 87 05 1f 0002 6e6f"},
        {"limits",
         MQTT_V5,
         {.properties = {.present = 1ull << MQTT_PROP_RECEIVE_MAX | 1ull << MQTT_PROP_MAXIMUM_PACKET_SIZE,
                         .receive_max = 20,
                         .packet_bytes_max = 65536}},
         "20 0b 00 00 08 21 0014 27 00010000"},
    };
    for (size_t i = 0; i < COUNT_OF(encode_rows); i++) {
        struct slice want = unit_hex(encode_rows[i].hex);
        struct buf out = {0};
        mqtt_connack_encode(&out, encode_rows[i].version, &encode_rows[i].connack);
        CHECK_CASE(encode_rows[i].name, slice_eq(buf_slice(&out), want));
        buf_deinit(&out);
        free((void *)want.ptr);
    }
}

/* The legal codes: 0 to 5 in 3.x, table 3-1 in 5.0 [MQTT-3.2.2-8]; none of them beside Session Present but 0. */
static void test_connack_codes(void)
{
    static const uint8_t legal[] = {0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89,
                                    0x8a, 0x8c, 0x90, 0x95, 0x97, 0x99, 0x9a, 0x9b, 0x9c, 0x9d, 0x9f};
    for (unsigned code = 0; code < 256; code++) {
        uint8_t body[] = {0, (uint8_t)code, 0};
        struct mqtt_connack c;
        bool want = memchr(legal, (int)code, sizeof(legal)) != NULL;
        CHECK((mqtt_connack_decode(slice_of(body, 3), 0, MQTT_V5, &c) == MQTT_SUCCESS) == want);
        CHECK((mqtt_connack_decode(slice_of(body, 2), 0, MQTT_V311, &c) == MQTT_SUCCESS) == (code <= 5));
        body[0] = 1; /* [MQTT-3.2.2-6] */
        CHECK((mqtt_connack_decode(slice_of(body, 3), 0, MQTT_V5, &c) == MQTT_SUCCESS) == (code == 0));
        CHECK((mqtt_connack_decode(slice_of(body, 2), 0, MQTT_V311, &c) == MQTT_SUCCESS) == (code == 0));
    }
}

static void test_out_of_memory(void)
{
    struct mqtt_connect c = {.version = MQTT_V5, .client_id = SLICE("a")};
    struct mqtt_connack a = {.code = 0};
    struct buf out = {0};
    CHECK(buf_extend(&out, SIZE_MAX) == NULL);
    mqtt_connect_encode(&out, &c);
    mqtt_connack_encode(&out, MQTT_V5, &a);
    CHECK(out.failed && out.len == 0);
    buf_deinit(&out);
}

UNIT_MAIN("proto/mqtt/connect", {"version", test_version}, {"fields", test_fields}, {"connect flags", test_flags},
          {"what 3.1 leaves open", test_31_tolerance}, {"CONNACK", test_connack_encode},
          {"CONNACK's codes", test_connack_codes}, {"out of memory", test_out_of_memory})
