/* ack.h -- PUBACK, PUBREC, PUBREL, PUBCOMP (3.4 to 3.7): one shape, four types. */
#ifndef TERN_PROTO_MQTT_ACK_H
#define TERN_PROTO_MQTT_ACK_H

#include "proto/mqtt/property.h"

struct mqtt_ack {
    uint16_t packet_id;
    uint8_t reason; /* always 0 in 3.x */
    struct mqtt_properties properties;
};

/* Checks flags, packet identifier not 0, and that the reason code is one that this type may carry. */
enum mqtt_reason mqtt_ack_decode(enum mqtt_type type, struct slice body, uint8_t flags, enum mqtt_version version,
                                 struct mqtt_ack *ret_ack);

/* Append a whole packet; reason must be one that this type may carry. 5.0 leaves reason and properties away when they
 * say nothing. */
void mqtt_ack_encode(struct buf *out, enum mqtt_type type, enum mqtt_version version, const struct mqtt_ack *ack);

/* The common case, in 4 bytes: reason 0, no properties. */
static inline void mqtt_ack_encode_plain(struct buf *out, enum mqtt_type type, uint16_t packet_id)
{
    uint8_t *at = buf_extend(out, 4);
    if (at) {
        at[0] = (uint8_t)(type << 4 | (type == MQTT_PUBREL ? 2 : 0));
        at[1] = 2;
        at[2] = (uint8_t)(packet_id >> 8);
        at[3] = (uint8_t)packet_id;
    }
}

#endif
