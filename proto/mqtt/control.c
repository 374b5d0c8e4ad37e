/* control.c -- PINGREQ, PINGRESP, DISCONNECT, AUTH: the packets about the connection itself. */
#include "proto/mqtt/control.h"

#include <assert.h>

#include "proto/mqtt/packet.h"

/* [MQTT-3.14.2-1], table 3-10. */
static const uint8_t client_reasons[] = {0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93,
                                         0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0xff};
static const uint8_t server_reasons[] = {0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8b, 0x8d, 0x8e, 0x8f,
                                         0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9a, 0x9b,
                                         0x9c, 0x9d, 0x9e, 0x9f, 0xa0, 0xa1, 0xa2, 0xff};
/* [MQTT-3.15.2-1] */
static const uint8_t auth_reasons[] = {0x00, 0x18, 0x19, 0xff};

enum mqtt_reason mqtt_ping_decode(struct slice body, uint8_t flags)
{
    return flags == 0 && body.len == 0 ? MQTT_SUCCESS : MQTT_MALFORMED_PACKET; /* [MQTT-2.1.3-1] */
}

void mqtt_ping_encode(struct buf *out, enum mqtt_type type)
{
    assert(type == MQTT_PINGREQ || type == MQTT_PINGRESP);
    uint8_t *at = buf_extend(out, 2);
    if (at) {
        at[0] = (uint8_t)(type << 4);
        at[1] = 0;
    }
}

enum mqtt_reason mqtt_disconnect_decode(struct slice body, uint8_t flags, enum mqtt_version version, bool from_client,
                                        struct mqtt_disconnect *ret_disconnect)
{
    struct cursor c = cursor_at(body);
    struct mqtt_disconnect d = {0};

    if (!mqtt_flags_valid(MQTT_DISCONNECT, flags, version)) { /* [MQTT-3.14.1-1] */
        return MQTT_MALFORMED_PACKET;
    }
    if (version != MQTT_V5) {
        if (body.len > 0) {
            return MQTT_MALFORMED_PACKET;
        }
        if (!from_client) { /* a 3.x server closes, it has no packet for that */
            return MQTT_PROTOCOL_ERROR;
        }
    }
    if (body.len > 0) { /* else Normal disconnection (3.14.2.1) */
        d.reason = cursor_u8(&c);
    }
    if (body.len > 1) {
        enum mqtt_reason reason = mqtt_properties_decode(&c, MQTT_DISCONNECT, &d.properties);
        if (reason != MQTT_SUCCESS) {
            return reason;
        }
    }
    if (cursor_left(&c) > 0) {
        return MQTT_MALFORMED_PACKET;
    }
    if (!mqtt_reason_in(d.reason, from_client ? client_reasons : server_reasons)) {
        return MQTT_PROTOCOL_ERROR;
    }
    if (mqtt_property_has(&d.properties, from_client ? MQTT_PROP_SERVER_REFERENCE : MQTT_PROP_SESSION_EXPIRY)) {
        return MQTT_PROTOCOL_ERROR; /* [MQTT-3.14.2-2], and 3.14.2.2.5: only a server refers to another */
    }
    *ret_disconnect = d;
    return MQTT_SUCCESS;
}

void mqtt_disconnect_encode(struct buf *out, enum mqtt_version version, const struct mqtt_disconnect *d)
{
    bool has_properties = !mqtt_properties_empty(&d->properties);
    assert(mqtt_reason_in(d->reason, client_reasons) || mqtt_reason_in(d->reason, server_reasons));
    uint32_t begin = mqtt_packet_begin(out);
    if (version == MQTT_V5 && (d->reason != 0 || has_properties)) {
        buf_u8(out, d->reason);
        if (has_properties) {
            mqtt_properties_encode(out, &d->properties);
        }
    }
    mqtt_packet_end(out, begin, MQTT_DISCONNECT, 0);
}

enum mqtt_reason mqtt_auth_decode(struct slice body, uint8_t flags, struct mqtt_auth *ret_auth)
{
    struct cursor c = cursor_at(body);
    struct mqtt_auth a = {0};

    if (flags != 0) { /* [MQTT-3.15.1-1] */
        return MQTT_MALFORMED_PACKET;
    }
    if (body.len > 0) { /* else Success (3.15.2.1) */
        a.reason = cursor_u8(&c);
        enum mqtt_reason reason = mqtt_properties_decode(&c, MQTT_AUTH, &a.properties);
        if (reason != MQTT_SUCCESS) {
            return reason;
        }
        if (!mqtt_property_has(&a.properties, MQTT_PROP_AUTH_METHOD)) { /* 3.15.2.2.2 */
            return MQTT_PROTOCOL_ERROR;
        }
    }
    if (cursor_left(&c) > 0) {
        return MQTT_MALFORMED_PACKET;
    }
    if (!mqtt_reason_in(a.reason, auth_reasons)) { /* [MQTT-3.15.2-1] */
        return MQTT_PROTOCOL_ERROR;
    }
    *ret_auth = a;
    return MQTT_SUCCESS;
}

void mqtt_auth_encode(struct buf *out, const struct mqtt_auth *a)
{
    assert(mqtt_reason_in(a->reason, auth_reasons));
    uint32_t begin = mqtt_packet_begin(out);
    if (a->reason != 0 || !mqtt_properties_empty(&a->properties)) {
        buf_u8(out, a->reason);
        mqtt_properties_encode(out, &a->properties);
    }
    mqtt_packet_end(out, begin, MQTT_AUTH, 0);
}
