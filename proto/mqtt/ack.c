/* ack.c -- PUBACK, PUBREC, PUBREL, PUBCOMP. Nearly all of them are two bytes long. */
#include "proto/mqtt/ack.h"

#include <assert.h>

#include "proto/mqtt/packet.h"

/* [MQTT-3.4.2-1] [MQTT-3.5.2-1] */
static const uint8_t received_reasons[] = {0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99, 0xff};
/* [MQTT-3.6.2-1] [MQTT-3.7.2-1] */
static const uint8_t released_reasons[] = {0x00, 0x92, 0xff};

static inline bool is_release(enum mqtt_type type)
{
    return type == MQTT_PUBREL || type == MQTT_PUBCOMP;
}

/* Reason code and properties, which only 5.0 has and only a longer body. */
static enum mqtt_reason ack_decode_long(enum mqtt_type type, struct cursor *c, struct mqtt_ack *ret_ack)
{
    uint8_t code = cursor_u8(c);
    struct mqtt_properties p;
    mqtt_properties_none(&p);
    bool has_properties = cursor_left(c) > 0; /* may be left away (3.4.2.2.1) */
    if (has_properties) {
        enum mqtt_reason reason = mqtt_properties_decode(c, type, &p);
        if (reason != MQTT_SUCCESS) {
            return reason;
        }
    }
    if (c->failed || cursor_left(c) > 0) {
        return MQTT_MALFORMED_PACKET;
    }
    if (!mqtt_reason_in(code, is_release(type) ? released_reasons : received_reasons)) {
        return MQTT_PROTOCOL_ERROR;
    }
    ret_ack->reason = code;
    if (has_properties && p.raw.len > 0) {
        ret_ack->properties = p;
    } else {
        mqtt_properties_none(&ret_ack->properties);
    }
    return MQTT_SUCCESS;
}

enum mqtt_reason mqtt_ack_decode(enum mqtt_type type, struct slice body, uint8_t flags, enum mqtt_version version,
                                 struct mqtt_ack *ret_ack)
{
    if (!mqtt_flags_valid(type, flags, version)) { /* [MQTT-3.6.1-1] [MQTT-2.1.3-1] */
        return MQTT_MALFORMED_PACKET;
    }
    struct cursor c = cursor_at(body);
    uint16_t packet_id = cursor_u16(&c);
    if (c.failed) {
        return MQTT_MALFORMED_PACKET;
    }
    if (packet_id == 0) { /* [MQTT-2.2.1-5]: no PUBLISH ever had it */
        return MQTT_PROTOCOL_ERROR;
    }
    if (body.len > 2) {
        if (version != MQTT_V5) {
            return MQTT_MALFORMED_PACKET;
        }
        enum mqtt_reason reason = ack_decode_long(type, &c, ret_ack);
        if (reason != MQTT_SUCCESS) {
            return reason;
        }
    } else {
        ret_ack->reason = MQTT_SUCCESS;
        mqtt_properties_none(&ret_ack->properties);
    }
    ret_ack->packet_id = packet_id;
    return MQTT_SUCCESS;
}

void mqtt_ack_encode(struct buf *out, enum mqtt_type type, enum mqtt_version version, const struct mqtt_ack *ack)
{
    assert(type >= MQTT_PUBACK && type <= MQTT_PUBCOMP);
    assert(ack->packet_id != 0);
    bool has_properties = !mqtt_properties_empty(&ack->properties);
    if (version != MQTT_V5 || (ack->reason == MQTT_SUCCESS && !has_properties)) {
        mqtt_ack_encode_plain(out, type, ack->packet_id);
        return;
    }
    assert(mqtt_reason_in(ack->reason, is_release(type) ? released_reasons : received_reasons));
    uint32_t begin = mqtt_packet_begin(out);
    buf_u16(out, ack->packet_id);
    buf_u8(out, ack->reason);
    if (has_properties) {
        mqtt_properties_encode(out, &ack->properties);
    }
    mqtt_packet_end(out, begin, type, type == MQTT_PUBREL ? 2 : 0);
}
