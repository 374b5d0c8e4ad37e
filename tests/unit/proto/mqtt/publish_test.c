#include "proto/mqtt/publish.h"

#include "tests/lib/unit.h"

#include <stdlib.h>

static const struct {
    const char *name, *hex;
    uint8_t flags;
    enum mqtt_version version;
    enum mqtt_reason want;
} rows[] = {
    {"qos 0", "0001 61 78", 0x0, MQTT_V311, MQTT_SUCCESS},
    {"qos 1, v5, no properties", "0001 61 0007 00", 0x2, MQTT_V5, MQTT_SUCCESS},
    {"alias for the topic", "0000 03 23 0001", 0x0, MQTT_V5, MQTT_SUCCESS},
    {"subscription identifier is the flow's to refuse", "0001 61 02 0b 01", 0x0, MQTT_V5, MQTT_SUCCESS},
    {"property length is payload in 3.x", "0001 61 80 00", 0x0, MQTT_V31, MQTT_SUCCESS},
    {"both qos bits [MQTT-3.3.1-4]", "0001 61 0007 00", 0x6, MQTT_V5, MQTT_MALFORMED_PACKET},
    {"dup with qos 0 [MQTT-3.3.1-2]", "0001 61", 0x8, MQTT_V311, MQTT_MALFORMED_PACKET},
    {"packet identifier 0 [MQTT-2.2.1-3]", "0001 61 0000 00", 0x4, MQTT_V5, MQTT_PROTOCOL_ERROR},
    {"packet identifier cut [MQTT-2.2.1-2]", "0001 61 00", 0x2, MQTT_V311, MQTT_MALFORMED_PACKET},
    {"topic longer than the packet", "0009 61", 0x0, MQTT_V311, MQTT_MALFORMED_PACKET},
    {"nothing [MQTT-3.3.2-1]", "", 0x0, MQTT_V311, MQTT_MALFORMED_PACKET},
    {"topic ill-formed [MQTT-3.3.2-1]", "0001 ff", 0x0, MQTT_V311, MQTT_MALFORMED_PACKET},
    {"no topic, 3.1.1", "0000 78", 0x0, MQTT_V311, MQTT_MALFORMED_PACKET},
    {"no topic, no properties", "0000 00 78", 0x0, MQTT_V5, MQTT_PROTOCOL_ERROR},
    {"no topic, no alias", "0000 02 01 00 78", 0x0, MQTT_V5, MQTT_PROTOCOL_ERROR},
    {"no property length", "0001 61", 0x0, MQTT_V5, MQTT_MALFORMED_PACKET},
    {"property length of two bytes [MQTT-1.5.5-1]", "0001 61 8000", 0x0, MQTT_V5, MQTT_MALFORMED_PACKET},
    {"properties cut", "0001 61 03 23 00", 0x0, MQTT_V5, MQTT_MALFORMED_PACKET},
    {"a property of CONNECT", "0001 61 03 21 0001", 0x0, MQTT_V5, MQTT_MALFORMED_PACKET},
};

static void test_decode(void)
{
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct slice body = unit_hex(rows[i].hex);
        struct mqtt_publish p, before;
        memset(&p, 0xa5, sizeof(p));
        memset(&before, 0xa5, sizeof(before));
        CHECK_CASE(rows[i].name, mqtt_publish_decode(body, rows[i].flags, rows[i].version, &p) == rows[i].want);
        bool untouched = memcmp(&p, &before, sizeof(p)) == 0;
        CHECK_CASE(rows[i].name, untouched == (rows[i].want != MQTT_SUCCESS));
        free((void *)body.ptr);
    }
}

static void test_fields(void)
{
    struct slice body = unit_hex("0003 612f62 0102 05 02 0000000a 7879");
    struct mqtt_publish p;

    CU_ASSERT_FATAL(mqtt_publish_decode(body, 0xd, MQTT_V5, &p) == MQTT_SUCCESS);
    CHECK(p.dup && p.retain && p.qos == 2 && p.packet_id == 0x102);
    CHECK(slice_eq(p.topic, SLICE("a/b")) && p.topic.ptr == body.ptr + 2);
    CHECK(slice_eq(p.payload, SLICE("xy")) && p.payload.ptr == body.ptr + 13);
    CHECK(p.properties.message_expiry_s == 10 && p.properties.raw.len == 5);

    CU_ASSERT_FATAL(mqtt_publish_decode(body, 0x0, MQTT_V311, &p) == MQTT_SUCCESS);
    CHECK(!p.dup && !p.retain && p.qos == 0 && p.packet_id == 0);
    CHECK(p.payload.len == 10);
    CHECK(p.properties.present == 0 && p.properties.raw.len == 0 && p.properties.user_count == 0);
    free((void *)body.ptr);
}

static const struct {
    const char *name;
    struct mqtt_delivery d;
    const char *v5, *v3;
} deliveries[] = {
    {"qos 0", {.topic = SLICE("a"), .payload = SLICE("x")}, "30 05 0001 61 00 78", "30 04 0001 61 78"},
    {"qos 0, retained, no payload", {.retain = true, .topic = SLICE("a")}, "31 04 0001 61 00", "31 03 0001 61"},
    {"qos 1, dup",
     {.qos = 1, .dup = true, .packet_id = 0x102, .topic = SLICE("a")},
     "3a 06 0001 61 0102 00",
     "3a 05 0001 61 0102"},
    {"qos 2", {.qos = 2, .packet_id = 0xffff, .topic = SLICE("a")}, "34 06 0001 61 ffff 00", "34 05 0001 61 ffff"},
    {"expiry",
     {.has_expiry = true, .message_expiry_s = 0x01020304, .topic = SLICE("a")},
     "30 09 0001 61 05 02 01020304",
     "30 03 0001 61"},
    {"expiry 0", {.has_expiry = true, .topic = SLICE("a")}, "30 09 0001 61 05 02 00000000", "30 03 0001 61"},
    {"alias is set", {.topic_alias = 7, .topic = SLICE("a")}, "30 07 0001 61 03 23 0007", "30 03 0001 61"},
    {"alias is used; 3.x has none",
     {.topic_alias = 7, .alias_only = true, .topic = SLICE("a")},
     "30 06 0000 03 23 0007",
     "30 03 0001 61"},
    {"all three parts",
     {.has_expiry = true,
      .message_expiry_s = 1,
      .topic_alias = 2,
      .subscription_ids = SLICE("\x0b\x03\x0b\x04"),
      .properties = SLICE("\x01\x01"),
      .topic = SLICE("a"),
      .payload = SLICE("x")},
     "30 13 0001 61 0e 02 00000001 23 0002 0b 03 0b 04 01 01 78",
     "30 04 0001 61 78"},
};

static void test_delivery(void)
{
    for (size_t i = 0; i < COUNT_OF(deliveries); i++) {
        for (enum mqtt_version version = MQTT_V31; version <= MQTT_V5; version++) {
            struct slice want = unit_hex(version == MQTT_V5 ? deliveries[i].v5 : deliveries[i].v3);
            struct buf out = {0};
            mqtt_delivery_encode(&out, version, &deliveries[i].d);
            CHECK_CASE(deliveries[i].name, slice_eq(buf_slice(&out), want));
            CHECK_CASE(deliveries[i].name, mqtt_delivery_size(version, &deliveries[i].d) == want.len);
            out.len = 0;
            mqtt_delivery_encode_head(&out, version, &deliveries[i].d);
            buf_put(&out, deliveries[i].d.payload);
            CHECK_CASE(deliveries[i].name, slice_eq(buf_slice(&out), want));
            buf_deinit(&out);
            free((void *)want.ptr);
        }
    }
}

/* At each step of both lengths' lengths: the size that was promised is written, and reads back. */
static void test_delivery_lengths(void)
{
    static const size_t lengths[] = {0, 120, 121, 122, 127, 128, 16370, 16383, 16384, 2097140, 2097152};
    uint8_t *bytes = malloc(2097152);
    CU_ASSERT_PTR_NOT_NULL_FATAL(bytes);
    for (size_t i = 0; i < COUNT_OF(lengths); i++) {
        size_t len = lengths[i];
        struct mqtt_delivery d = {.topic = SLICE("a"), .payload = slice_of(bytes, len)};
        memset(bytes, 'x', len);
        struct buf out = {0};
        mqtt_delivery_encode(&out, MQTT_V5, &d);
        CHECK(out.len == mqtt_delivery_size(MQTT_V5, &d));
        CHECK(out.len >= len && out.ptr[out.len - 1] == (len ? 'x' : 0));
        buf_deinit(&out);

        d = (struct mqtt_delivery){.topic = SLICE("a"), .properties = slice_of(bytes, len), .payload = SLICE("end")};
        mqtt_delivery_encode(&out, MQTT_V5, &d);
        CHECK(out.len == mqtt_delivery_size(MQTT_V5, &d));
        CHECK(slice_eq(slice_of(out.ptr + out.len - 3, 3), SLICE("end")));
        buf_deinit(&out);
    }
    free(bytes);
}

/* Sizes beyond what can be sent are told truly, so that the caller can refuse; nothing is read for that. */
static void test_delivery_too_large(void)
{
    struct mqtt_delivery d = {.topic = SLICE("a"), .payload = {(const uint8_t *)"", 268435451}};
    CHECK(mqtt_delivery_size(MQTT_V5, &d) == MQTT_PACKET_BYTES_MAX);
    d.payload.len++;
    CHECK(mqtt_delivery_size(MQTT_V5, &d) > MQTT_PACKET_BYTES_MAX);
    CHECK(mqtt_delivery_size(MQTT_V311, &d) == MQTT_PACKET_BYTES_MAX);
    d.payload.len = (size_t)UINT32_MAX + 1;
    CHECK(mqtt_delivery_size(MQTT_V5, &d) > UINT32_MAX);
}

static void test_delivery_out_of_memory(void)
{
    struct mqtt_delivery d = {.topic = SLICE("a"),
                              .payload = SLICE("xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx")};
    struct buf out = {0};
    CHECK(buf_extend(&out, 60) != NULL);
    CHECK(buf_extend(&out, SIZE_MAX) == NULL);
    mqtt_delivery_encode(&out, MQTT_V5, &d);
    CHECK(out.failed && out.len == 60);
    buf_deinit(&out);
}

UNIT_MAIN("proto/mqtt/publish", {"decoding", test_decode}, {"fields", test_fields}, {"deliveries", test_delivery},
          {"lengths", test_delivery_lengths}, {"too large", test_delivery_too_large},
          {"out of memory", test_delivery_out_of_memory})
