/* subscribe.h -- SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK (3.8 to 3.11). */
#ifndef TERN_PROTO_MQTT_SUBSCRIBE_H
#define TERN_PROTO_MQTT_SUBSCRIBE_H

#include "proto/mqtt/property.h"

/* One topic filter of a SUBSCRIBE with its subscription options. */
struct mqtt_subscription {
    struct slice filter; /* as sent, `$share/...` and all */
    uint8_t qos, retain_handling;
    bool no_local, retain_as_published;
};

/* A SUBSCRIBE or UNSUBSCRIBE; filters are walked with the two functions below. */
struct mqtt_subscribe {
    uint16_t packet_id;
    uint32_t count; /* of filters, at least 1 [MQTT-3.8.3-2] */
    struct slice filters;
    struct mqtt_properties properties;
};

/* Checks flags, packet identifier, each string, each options byte (reserved bits [MQTT-3.8.3-5], QoS 3, retain handling
 * 3), but not whether a filter is a legal one: that is answered filter by filter in the SUBACK (0x8F) or closes 3.x. */
enum mqtt_reason mqtt_subscribe_decode(struct slice body, uint8_t flags, enum mqtt_version version,
                                       struct mqtt_subscribe *ret_subscribe);
enum mqtt_reason mqtt_unsubscribe_decode(struct slice body, uint8_t flags, enum mqtt_version version,
                                         struct mqtt_subscribe *ret_unsubscribe);

/* Take the next filter off s->filters. False at the end. */
bool mqtt_subscribe_next(struct mqtt_subscribe *s, struct mqtt_subscription *ret_subscription);
bool mqtt_unsubscribe_next(struct mqtt_subscribe *s, struct slice *ret_filter);

/* For clients: properties may be NULL; count filters at subs, of which UNSUBSCRIBE uses only the filter. */
void mqtt_subscribe_encode(struct buf *out, enum mqtt_version version, uint16_t packet_id,
                           const struct mqtt_properties *properties, const struct mqtt_subscription *subs,
                           size_t count);
void mqtt_unsubscribe_encode(struct buf *out, enum mqtt_version version, uint16_t packet_id,
                             const struct mqtt_properties *properties, const struct mqtt_subscription *subs,
                             size_t count);

/* SUBACK and UNSUBACK. A 3.x UNSUBACK has no codes; a 3.x SUBACK says 0x80 for each failure. */
struct mqtt_suback {
    uint16_t packet_id;
    struct slice codes; /* one byte a filter, in the order of the filters [MQTT-3.9.3-1] */
    struct mqtt_properties properties;
};

enum mqtt_reason mqtt_suback_decode(enum mqtt_type type, struct slice body, uint8_t flags, enum mqtt_version version,
                                    struct mqtt_suback *ret_suback);
void mqtt_suback_encode(struct buf *out, enum mqtt_type type, enum mqtt_version version,
                        const struct mqtt_suback *suback);

#endif
