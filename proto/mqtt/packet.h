/* packet.h -- what the encoders of this folder share: a packet written before its length is known.
 *
 * Why: only PUBLISH and the plain acknowledgements are worth computing their length first. The others are written
 * behind room for the longest fixed header, which is then closed up. Used inside proto/mqtt only. */
#ifndef TERN_PROTO_MQTT_PACKET_H
#define TERN_PROTO_MQTT_PACKET_H

#include "proto/base/buf.h"
#include "proto/mqtt/mqtt.h"
#include "proto/mqtt/property.h"

#define MQTT_REMAINING_LENGTH_MAX 268435455u

/* Bytes of a variable byte integer. */
static inline size_t mqtt_varint_size(uint32_t value)
{
    return 1u + (value > 0x7f) + (value > 0x3fff) + (value > 0x1fffff);
}

/* Write a variable byte integer at `at`; returns the place behind it. */
static inline uint8_t *mqtt_varint_write(uint8_t *at, uint32_t value)
{
    while (value > 0x7f) {
        *at++ = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    *at++ = (uint8_t)value;
    return at;
}

/* Start a packet; returns its place in out for mqtt_packet_end. */
uint32_t mqtt_packet_begin(struct buf *out);

/* Put the fixed header in front of what was appended since. When memory ran out, or the packet is longer than MQTT
 * knows, out->failed is set and the whole packet is taken back. */
void mqtt_packet_end(struct buf *out, uint32_t begin, enum mqtt_type type, uint8_t flags);

/* Whether the flags are the ones reserved for this type [MQTT-2.1.3-1]: 2 for PUBREL, SUBSCRIBE and UNSUBSCRIBE, else
 * 0. In 3.1 those three may carry DUP as well. Not for PUBLISH. */
bool mqtt_flags_valid(enum mqtt_type type, uint8_t flags, enum mqtt_version version);

/* Whether p would be encoded as a property length of zero. NULL counts as empty. */
static inline bool mqtt_properties_empty(const struct mqtt_properties *p)
{
    return !p || ((p->present & ~(1ull << MQTT_PROP_USER_PROPERTY)) == 0 && p->user.len == 0);
}

/* Properties that are known to be none: the three fields that say so, without touching the rest. */
static inline void mqtt_properties_none(struct mqtt_properties *p)
{
    p->present = 0;
    p->raw = (struct slice){NULL, 0};
    p->user_count = 0;
}

/* Whether reason is in a list that ends with the terminator 0xff. */
bool mqtt_reason_in(uint8_t reason, const uint8_t *list);

#endif
