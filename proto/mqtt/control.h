/* control.h -- PINGREQ, PINGRESP, DISCONNECT, AUTH (3.12 to 3.15). */
#ifndef TERN_PROTO_MQTT_CONTROL_H
#define TERN_PROTO_MQTT_CONTROL_H

#include "proto/mqtt/property.h"

/* Whether a PINGREQ or PINGRESP is well formed: no flags, no body. */
enum mqtt_reason mqtt_ping_decode(struct slice body, uint8_t flags);
void mqtt_ping_encode(struct buf *out, enum mqtt_type type);

struct mqtt_disconnect {
    uint8_t reason; /* 0 in 3.x */
    struct mqtt_properties properties;
};

/* from_client: a client's DISCONNECT may carry other reason codes and properties than a server's
 * [MQTT-3.14.2-1] [MQTT-3.14.2-2]. */
enum mqtt_reason mqtt_disconnect_decode(struct slice body, uint8_t flags, enum mqtt_version version, bool from_client,
                                        struct mqtt_disconnect *ret_disconnect);
void mqtt_disconnect_encode(struct buf *out, enum mqtt_version version, const struct mqtt_disconnect *disconnect);

struct mqtt_auth {
    uint8_t reason; /* 0x00, 0x18 or 0x19 [MQTT-3.15.2-1] */
    struct mqtt_properties properties;
};

enum mqtt_reason mqtt_auth_decode(struct slice body, uint8_t flags, struct mqtt_auth *ret_auth);
void mqtt_auth_encode(struct buf *out, const struct mqtt_auth *auth);

#endif
