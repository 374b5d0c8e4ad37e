/* connect.c -- CONNECT and CONNACK, in the order of the wire. */
#include "proto/mqtt/connect.h"

#include <assert.h>
#include <limits.h>

#include "proto/mqtt/packet.h"
#include "proto/mqtt/topic.h"

/* Connect Flags (3.1.2.3). */
#define FLAG_RESERVED 0x01
#define FLAG_CLEAN_START 0x02
#define FLAG_WILL 0x04
#define FLAG_WILL_QOS_SHIFT 3
#define FLAG_WILL_RETAIN 0x20
#define FLAG_PASSWORD 0x40
#define FLAG_USER_NAME 0x80

/* The version that name and level stand for, or 0. */
static uint8_t version_of(struct slice name, uint8_t level)
{
    if (slice_eq(name, SLICE("MQTT")) && (level == MQTT_V311 || level == MQTT_V5)) {
        return level; /* [MQTT-3.1.2-1] [MQTT-3.1.2-2] */
    }
    return slice_eq(name, SLICE("MQIsdp")) && level == MQTT_V31 ? MQTT_V31 : 0;
}

/* Take the flags apart. 3.1 says of several bits that nobody looks at them. */
static enum mqtt_reason connect_flags_decode(uint8_t flags, struct mqtt_connect *c)
{
    bool strict = c->version != MQTT_V31;

    c->clean_start = flags & FLAG_CLEAN_START;
    c->has_user_name = flags & FLAG_USER_NAME;
    c->has_password = flags & FLAG_PASSWORD;
    c->will.present = flags & FLAG_WILL;
    c->will.qos = flags >> FLAG_WILL_QOS_SHIFT & 3;
    c->will.retain = flags & FLAG_WILL_RETAIN;

    if (strict && flags & FLAG_RESERVED) { /* [MQTT-3.1.2-3] */
        return MQTT_MALFORMED_PACKET;
    }
    if (c->will.present && c->will.qos == 3) { /* [MQTT-3.1.2-12] */
        return MQTT_MALFORMED_PACKET;
    }
    if (!c->will.present && (c->will.qos || c->will.retain)) {
        if (strict) { /* [MQTT-3.1.2-11] [MQTT-3.1.2-13] */
            return MQTT_MALFORMED_PACKET;
        }
        c->will.qos = 0;
        c->will.retain = false;
    }
    if (c->version != MQTT_V5 && c->has_password && !c->has_user_name) { /* [MQTT311-3.1.2-22] */
        return MQTT_MALFORMED_PACKET;
    }
    return MQTT_SUCCESS;
}

static enum mqtt_reason will_decode(struct cursor *body, enum mqtt_version version, struct mqtt_will *will)
{
    if (version == MQTT_V5) { /* [MQTT-3.1.2-9] */
        enum mqtt_reason reason = mqtt_properties_decode(body, MQTT_WILL_PROPERTIES, &will->properties);
        if (reason != MQTT_SUCCESS) {
            return reason;
        }
    }
    will->topic = cursor_string(body); /* [MQTT-3.1.3-11] */
    will->payload = cursor_binary(body);
    if (body->failed) {
        return MQTT_MALFORMED_PACKET;
    }
    return mqtt_topic_valid(will->topic, UINT_MAX) ? MQTT_SUCCESS : MQTT_PROTOCOL_ERROR;
}

/* Whether a field that is flagged is there to be read. In 3.1 the remaining length outweighs the flags of user name and
 * password: where the packet has ended they count as not set. */
static bool field_follows(const struct cursor *body, enum mqtt_version version, bool flagged)
{
    return flagged && (version != MQTT_V31 || cursor_left(body) > 0);
}

/* The payload, [MQTT-3.1.3-1] fixes its order. */
static enum mqtt_reason connect_payload_decode(struct cursor *body, struct mqtt_connect *c)
{
    c->client_id = cursor_string(body); /* [MQTT-3.1.3-3] [MQTT-3.1.3-4] */
    if (body->failed) {
        return MQTT_MALFORMED_PACKET;
    }
    if (c->will.present) {
        enum mqtt_reason reason = will_decode(body, c->version, &c->will);
        if (reason != MQTT_SUCCESS) {
            return reason;
        }
    }
    c->has_user_name = field_follows(body, c->version, c->has_user_name);
    if (c->has_user_name) {
        c->user_name = cursor_string(body); /* [MQTT-3.1.2-17] [MQTT-3.1.3-12] */
    }
    c->has_password = field_follows(body, c->version, c->has_password);
    if (c->has_password) {
        c->password = cursor_binary(body); /* [MQTT-3.1.2-19] */
    }
    if (body->failed || cursor_left(body) > 0) { /* [MQTT-3.1.2-16] [MQTT-3.1.2-18] */
        return MQTT_MALFORMED_PACKET;
    }
    return MQTT_SUCCESS;
}

enum mqtt_reason mqtt_connect_decode(struct slice body, uint8_t flags, uint8_t *ret_version,
                                     struct mqtt_connect *ret_connect)
{
    struct cursor cursor = cursor_at(body);

    *ret_version = 0;
    struct slice name = cursor_string(&cursor);
    uint8_t level = cursor_u8(&cursor);
    if (cursor.failed) {
        return MQTT_MALFORMED_PACKET;
    }
    *ret_version = version_of(name, level);
    if (*ret_version == 0) {
        return MQTT_UNSUPPORTED_PROTOCOL_VERSION;
    }

    struct mqtt_connect c = {.version = *ret_version};
    uint8_t connect_flags = cursor_u8(&cursor);
    c.keep_alive_s = cursor_u16(&cursor);
    if (cursor.failed || !mqtt_flags_valid(MQTT_CONNECT, flags, c.version)) { /* [MQTT-2.1.3-1] */
        return MQTT_MALFORMED_PACKET;
    }
    enum mqtt_reason reason = connect_flags_decode(connect_flags, &c);
    if (reason == MQTT_SUCCESS && c.version == MQTT_V5) {
        reason = mqtt_properties_decode(&cursor, MQTT_CONNECT, &c.properties);
    }
    if (reason == MQTT_SUCCESS) {
        reason = connect_payload_decode(&cursor, &c);
    }
    if (reason == MQTT_SUCCESS) {
        *ret_connect = c;
    }
    return reason;
}

static uint8_t connect_flags_encode(const struct mqtt_connect *c)
{
    uint8_t flags = 0;
    flags |= c->clean_start ? FLAG_CLEAN_START : 0;
    flags |= c->has_user_name ? FLAG_USER_NAME : 0;
    flags |= c->has_password ? FLAG_PASSWORD : 0;
    if (c->will.present) {
        flags |= FLAG_WILL | (uint8_t)(c->will.qos << FLAG_WILL_QOS_SHIFT);
        flags |= c->will.retain ? FLAG_WILL_RETAIN : 0;
    }
    return flags;
}

void mqtt_connect_encode(struct buf *out, const struct mqtt_connect *c)
{
    assert(c->will.qos <= 2);
    assert(c->version == MQTT_V5 || c->has_user_name || !c->has_password); /* [MQTT311-3.1.2-22] */
    uint32_t begin = mqtt_packet_begin(out);
    buf_string(out, c->version == MQTT_V31 ? SLICE("MQIsdp") : SLICE("MQTT"));
    buf_u8(out, (uint8_t)c->version);
    buf_u8(out, connect_flags_encode(c));
    buf_u16(out, c->keep_alive_s);
    if (c->version == MQTT_V5) {
        mqtt_properties_encode(out, &c->properties);
    }
    buf_string(out, c->client_id);
    if (c->will.present) {
        if (c->version == MQTT_V5) {
            mqtt_properties_encode(out, &c->will.properties);
        }
        buf_string(out, c->will.topic);
        buf_string(out, c->will.payload);
    }
    if (c->has_user_name) {
        buf_string(out, c->user_name);
    }
    if (c->has_password) {
        buf_string(out, c->password);
    }
    mqtt_packet_end(out, begin, MQTT_CONNECT, 0);
}

/* [MQTT-3.2.2-8] */
static const uint8_t connack_reasons[] = {0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a,
                                          0x8c, 0x90, 0x95, 0x97, 0x99, 0x9a, 0x9b, 0x9c, 0x9d, 0x9f, 0xff};

enum mqtt_reason mqtt_connack_decode(struct slice body, uint8_t flags, enum mqtt_version version,
                                     struct mqtt_connack *ret_connack)
{
    struct cursor cursor = cursor_at(body);
    struct mqtt_connack c = {0};

    uint8_t acknowledge_flags = cursor_u8(&cursor);
    if (version == MQTT_V31) {
        acknowledge_flags = 0; /* a reserved byte there, not to be looked at */
    }
    c.session_present = acknowledge_flags & 1;
    c.code = cursor_u8(&cursor);
    if (cursor.failed || acknowledge_flags > 1 || !mqtt_flags_valid(MQTT_CONNACK, flags, version)) {
        return MQTT_MALFORMED_PACKET; /* [MQTT-3.2.2-1] [MQTT-2.1.3-1] */
    }
    if (version == MQTT_V5) {
        enum mqtt_reason reason = mqtt_properties_decode(&cursor, MQTT_CONNACK, &c.properties);
        if (reason != MQTT_SUCCESS) {
            return reason;
        }
    }
    if (cursor_left(&cursor) > 0) {
        return MQTT_MALFORMED_PACKET;
    }
    if (c.session_present && c.code != 0) { /* [MQTT-3.2.2-6] */
        return MQTT_PROTOCOL_ERROR;
    }
    if (version == MQTT_V5 ? !mqtt_reason_in(c.code, connack_reasons) : c.code > 5) {
        return MQTT_PROTOCOL_ERROR;
    }
    *ret_connack = c;
    return MQTT_SUCCESS;
}

void mqtt_connack_encode(struct buf *out, enum mqtt_version version, const struct mqtt_connack *c)
{
    assert(!c->session_present || c->code == 0); /* [MQTT-3.2.2-6] */
    assert(version == MQTT_V5 ? mqtt_reason_in(c->code, connack_reasons) : c->code <= 5);
    uint32_t begin = mqtt_packet_begin(out);
    buf_u8(out, c->session_present && version != MQTT_V31);
    buf_u8(out, c->code);
    if (version == MQTT_V5) {
        mqtt_properties_encode(out, &c->properties);
    }
    mqtt_packet_end(out, begin, MQTT_CONNACK, 0);
}
