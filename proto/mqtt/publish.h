/* publish.h -- PUBLISH (3.3). */
#ifndef TERN_PROTO_MQTT_PUBLISH_H
#define TERN_PROTO_MQTT_PUBLISH_H

#include "proto/mqtt/property.h"

struct mqtt_publish {
    bool dup, retain;
    uint8_t qos;
    uint16_t packet_id; /* 0 with QoS 0 */
    struct slice topic, payload;
    struct mqtt_properties properties; /* only `present`, `raw` and `user_count` are set when there are none */
};

/* Decode the body of a PUBLISH; flags are the low four bits of its first byte.
 *
 * Borrows from body. Checks the form alone: that the topic is legal, the alias known, the payload what its format
 * indicator says, is for the caller. Topic empty without alias: MQTT_PROTOCOL_ERROR (5.0) or MALFORMED (3.x). */
enum mqtt_reason mqtt_publish_decode(struct slice body, uint8_t flags, enum mqtt_version version,
                                     struct mqtt_publish *ret_publish);

/* A PUBLISH as it is to leave: its properties come in the three parts that a broker has at hand. */
struct mqtt_delivery {
    uint8_t qos;
    bool dup, retain;
    bool has_expiry;      /* message_expiry_s is to be sent */
    bool alias_only;      /* topic_alias stands for the topic, which is sent empty */
    uint16_t packet_id;   /* with QoS 1 and 2 */
    uint16_t topic_alias; /* 0: none */
    uint32_t message_expiry_s;
    struct slice topic, payload;
    struct slice subscription_ids; /* encoded properties, each identifier and number */
    struct slice properties;       /* encoded properties, from mqtt_properties_forward */
};

/* Size of the whole packet in bytes; more than MQTT_PACKET_BYTES_MAX cannot be sent. */
size_t mqtt_delivery_size(enum mqtt_version version, const struct mqtt_delivery *d);

/* Append the whole packet; allocates at most once. 3.x leaves all properties away. */
void mqtt_delivery_encode(struct buf *out, enum mqtt_version version, const struct mqtt_delivery *d);

/* The same without the payload, with which the packet ends: it is sent from where it lies. */
void mqtt_delivery_encode_head(struct buf *out, enum mqtt_version version, const struct mqtt_delivery *d);

#endif
