/* publish.c -- PUBLISH (3.3), the packet all speed is about.
 *
 * Most of them have no properties: then none are decoded, none cleared and none copied. */
#include "proto/mqtt/publish.h"

#include <assert.h>

#include "proto/mqtt/packet.h"

/* The fields of 5.0 behind the packet identifier. *ret_p is written on success only. */
static enum mqtt_reason publish_properties(struct cursor *c, struct slice topic, struct mqtt_properties *ret_p)
{
    if (cursor_left(c) > 0 && c->at[0] == 0) {
        c->at++;
        if (topic.len == 0) {
            return MQTT_PROTOCOL_ERROR; /* no alias to stand for it (3.3.2.1) */
        }
        mqtt_properties_none(ret_p);
        return MQTT_SUCCESS;
    }
    struct mqtt_properties p;
    enum mqtt_reason reason = mqtt_properties_decode(c, MQTT_PUBLISH, &p);
    if (reason != MQTT_SUCCESS) {
        return reason;
    }
    if (topic.len == 0 && !mqtt_property_has(&p, MQTT_PROP_TOPIC_ALIAS)) {
        return MQTT_PROTOCOL_ERROR;
    }
    *ret_p = p;
    return MQTT_SUCCESS;
}

enum mqtt_reason mqtt_publish_decode(struct slice body, uint8_t flags, enum mqtt_version version,
                                     struct mqtt_publish *ret_publish)
{
    struct cursor c = cursor_at(body);
    bool dup = flags >> 3 & 1, retain = flags & 1;
    uint8_t qos = flags >> 1 & 3;
    uint16_t packet_id = 0;

    struct slice topic = cursor_string(&c); /* [MQTT-3.3.2-1] */
    if (qos > 0) {
        packet_id = cursor_u16(&c); /* [MQTT-2.2.1-2] */
    }
    if (c.failed || qos == 3) { /* [MQTT-3.3.1-4] */
        return MQTT_MALFORMED_PACKET;
    }
    if (dup && qos == 0) { /* [MQTT-3.3.1-2] */
        return MQTT_MALFORMED_PACKET;
    }
    if (qos > 0 && packet_id == 0) { /* [MQTT-2.2.1-3] */
        return MQTT_PROTOCOL_ERROR;
    }
    if (version == MQTT_V5) {
        enum mqtt_reason reason = publish_properties(&c, topic, &ret_publish->properties);
        if (reason != MQTT_SUCCESS) {
            return reason;
        }
    } else if (topic.len == 0) {
        return MQTT_MALFORMED_PACKET;
    } else {
        mqtt_properties_none(&ret_publish->properties);
    }
    ret_publish->dup = dup;
    ret_publish->retain = retain;
    ret_publish->qos = qos;
    ret_publish->packet_id = packet_id;
    ret_publish->topic = topic;
    ret_publish->payload = cursor_rest(&c);
    return MQTT_SUCCESS;
}

/* For lengths that may be too large to send; their packet is refused by its size. */
static inline size_t varint_size_capped(size_t value)
{
    return value > MQTT_REMAINING_LENGTH_MAX ? 4 : mqtt_varint_size((uint32_t)value);
}

/* The lengths inside a delivery: what stands behind the property length, and behind the fixed header. */
struct delivery_shape {
    size_t topic, properties, remaining;
};

static inline struct delivery_shape delivery_shape(enum mqtt_version version, const struct mqtt_delivery *d)
{
    struct delivery_shape shape = {.topic = d->topic.len};
    if (version != MQTT_V5) {
        shape.remaining = 2 + shape.topic + (d->qos > 0 ? 2 : 0) + d->payload.len;
        return shape;
    }
    if (d->alias_only) {
        shape.topic = 0;
    }
    shape.properties =
        (d->has_expiry ? 5u : 0) + (d->topic_alias ? 3u : 0) + d->subscription_ids.len + d->properties.len;
    size_t properties_head = varint_size_capped(shape.properties);
    shape.remaining = 2 + shape.topic + (d->qos > 0 ? 2 : 0) + properties_head + shape.properties + d->payload.len;
    return shape;
}

size_t mqtt_delivery_size(enum mqtt_version version, const struct mqtt_delivery *d)
{
    size_t remaining = delivery_shape(version, d).remaining;
    return 1 + varint_size_capped(remaining) + remaining;
}

static inline uint8_t *write_u16(uint8_t *at, uint16_t value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
    return at + 2;
}

static inline uint8_t *write_slice(uint8_t *at, struct slice s)
{
    if (s.len > 0) {
        memcpy(at, s.ptr, s.len);
    }
    return at + s.len;
}

static inline uint8_t *write_properties(uint8_t *at, const struct mqtt_delivery *d, size_t properties_len)
{
    at = mqtt_varint_write(at, (uint32_t)properties_len);
    if (d->has_expiry) {
        *at++ = MQTT_PROP_MESSAGE_EXPIRY;
        at = write_u16(at, (uint16_t)(d->message_expiry_s >> 16));
        at = write_u16(at, (uint16_t)d->message_expiry_s);
    }
    if (d->topic_alias) {
        *at++ = MQTT_PROP_TOPIC_ALIAS;
        at = write_u16(at, d->topic_alias);
    }
    at = write_slice(at, d->subscription_ids);
    return write_slice(at, d->properties);
}

/* Append the packet up to its payload, and that too if it is to be copied. */
static inline void delivery_encode(struct buf *out, enum mqtt_version version, const struct mqtt_delivery *d,
                                   bool with_payload)
{
    struct delivery_shape shape = delivery_shape(version, d);
    assert(d->qos <= 2);
    assert(d->qos == 0 || d->packet_id != 0); /* [MQTT-2.2.1-4] */
    assert(d->qos > 0 || !d->dup);            /* [MQTT-3.3.1-2] */
    assert(d->topic.len <= MQTT_STRING_BYTES_MAX);
    assert(!d->alias_only || d->topic_alias != 0);
    assert(shape.remaining <= MQTT_REMAINING_LENGTH_MAX);

    size_t size = 1 + mqtt_varint_size((uint32_t)shape.remaining) + shape.remaining;
    if (!with_payload) {
        size -= d->payload.len;
    }
    uint8_t *at = buf_extend(out, size);
    if (!at) {
        return;
    }
    const uint8_t *end = at + size;
    *at++ = (uint8_t)(MQTT_PUBLISH << 4 | d->dup << 3 | d->qos << 1 | d->retain);
    at = mqtt_varint_write(at, (uint32_t)shape.remaining);
    at = write_u16(at, (uint16_t)shape.topic);
    at = write_slice(at, (struct slice){d->topic.ptr, shape.topic});
    if (d->qos > 0) {
        at = write_u16(at, d->packet_id);
    }
    if (version == MQTT_V5) {
        at = write_properties(at, d, shape.properties);
    }
    if (with_payload) {
        at = write_slice(at, d->payload);
    }
    assert(at == end);
}

void mqtt_delivery_encode(struct buf *out, enum mqtt_version version, const struct mqtt_delivery *d)
{
    delivery_encode(out, version, d, true);
}

void mqtt_delivery_encode_head(struct buf *out, enum mqtt_version version, const struct mqtt_delivery *d)
{
    delivery_encode(out, version, d, false);
}
