/* connect.h -- CONNECT and CONNACK (3.1, 3.2). Decoded structs borrow from the packet's body. */
#ifndef TERN_PROTO_MQTT_CONNECT_H
#define TERN_PROTO_MQTT_CONNECT_H

#include "proto/mqtt/property.h"

struct mqtt_will {
    bool present, retain;
    uint8_t qos;
    struct slice topic, payload;
    struct mqtt_properties properties; /* 5.0 only */
};

struct mqtt_connect {
    enum mqtt_version version;
    bool clean_start; /* Clean Session in 3.x */
    bool has_user_name, has_password;
    uint16_t keep_alive_s;
    struct slice client_id, user_name, password;
    struct mqtt_will will;
    struct mqtt_properties properties;
};

/* Decode the body of a CONNECT with fixed header flags `flags`.
 *
 * The protocol name and level decide the version: "MQTT" 4 and 5, "MQIsdp" 3. *ret_version is set as soon as it is
 * known (else 0), so that a refusal can be put in the client's own words. Returns MQTT_UNSUPPORTED_PROTOCOL_VERSION for
 * another level or name [MQTT-3.1.2-1] [MQTT-3.1.2-2], MQTT_MALFORMED_PACKET or MQTT_PROTOCOL_ERROR for what the
 * chapter forbids: reserved flag [MQTT-3.1.2-3], will QoS 3, will fields without Will Flag [MQTT-3.1.2-11]
 * [MQTT-3.1.2-13], password without user name in 3.x [MQTT311-3.1.2-22], ill-formed strings, bytes left over, a will
 * topic with wildcards or empty. An empty client id is for the caller to judge, for it depends on the version and on
 * Clean Start. */
enum mqtt_reason mqtt_connect_decode(struct slice body, uint8_t flags, uint8_t *ret_version,
                                     struct mqtt_connect *ret_connect);
void mqtt_connect_encode(struct buf *out, const struct mqtt_connect *connect);

struct mqtt_connack {
    bool session_present;
    uint8_t code; /* one of CONNACK's reason codes in 5.0 [MQTT-3.2.2-8], a return code (0 to 5) in 3.x */
    struct mqtt_properties properties;
};

enum mqtt_reason mqtt_connack_decode(struct slice body, uint8_t flags, enum mqtt_version version,
                                     struct mqtt_connack *ret_connack);
void mqtt_connack_encode(struct buf *out, enum mqtt_version version, const struct mqtt_connack *connack);

#endif
