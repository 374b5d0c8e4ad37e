/* property.h -- the properties of MQTT 5.0 (2.2.2), all packets' in one table.
 *
 * One struct holds any packet's properties: `present` says which are there (bit = property identifier). Slices are
 * borrowed. User Properties and Subscription Identifiers may repeat; `raw` keeps all bytes in order, and
 * mqtt_property_next walks them. */
#ifndef TERN_PROTO_MQTT_PROPERTY_H
#define TERN_PROTO_MQTT_PROPERTY_H

#include "proto/base/buf.h"
#include "proto/base/cursor.h"
#include "proto/mqtt/mqtt.h"

enum mqtt_property_id {
    MQTT_PROP_PAYLOAD_FORMAT = 0x01,
    MQTT_PROP_MESSAGE_EXPIRY = 0x02,
    MQTT_PROP_CONTENT_TYPE = 0x03,
    MQTT_PROP_RESPONSE_TOPIC = 0x08,
    MQTT_PROP_CORRELATION_DATA = 0x09,
    MQTT_PROP_SUBSCRIPTION_ID = 0x0B,
    MQTT_PROP_SESSION_EXPIRY = 0x11,
    MQTT_PROP_ASSIGNED_CLIENT_ID = 0x12,
    MQTT_PROP_SERVER_KEEP_ALIVE = 0x13,
    MQTT_PROP_AUTH_METHOD = 0x15,
    MQTT_PROP_AUTH_DATA = 0x16,
    MQTT_PROP_REQUEST_PROBLEM_INFO = 0x17,
    MQTT_PROP_WILL_DELAY = 0x18,
    MQTT_PROP_REQUEST_RESPONSE_INFO = 0x19,
    MQTT_PROP_RESPONSE_INFO = 0x1A,
    MQTT_PROP_SERVER_REFERENCE = 0x1C,
    MQTT_PROP_REASON_STRING = 0x1F,
    MQTT_PROP_RECEIVE_MAX = 0x21,
    MQTT_PROP_TOPIC_ALIAS_MAX = 0x22,
    MQTT_PROP_TOPIC_ALIAS = 0x23,
    MQTT_PROP_MAXIMUM_QOS = 0x24,
    MQTT_PROP_RETAIN_AVAILABLE = 0x25,
    MQTT_PROP_USER_PROPERTY = 0x26,
    MQTT_PROP_MAXIMUM_PACKET_SIZE = 0x27,
    MQTT_PROP_WILDCARD_AVAILABLE = 0x28,
    MQTT_PROP_SUBSCRIPTION_ID_AVAILABLE = 0x29,
    MQTT_PROP_SHARED_AVAILABLE = 0x2A,
};

struct mqtt_properties {
    uint64_t present;
    uint32_t message_expiry_s, session_expiry_s, will_delay_s, packet_bytes_max;
    uint32_t subscription_id; /* the first one, when decoded */
    uint16_t server_keep_alive_s, receive_max, topic_alias_max, topic_alias;
    uint8_t payload_format, request_problem_info, request_response_info, maximum_qos, retain_available;
    uint8_t wildcard_available, subscription_id_available, shared_available;
    struct slice content_type, response_topic, correlation_data, assigned_client_id, auth_method, auth_data;
    struct slice response_info, server_reference, reason_string;
    struct slice user;               /* encode only: encoded User Properties, written last as they are */
    uint32_t user_count, user_bytes; /* decode only: number of User Properties, bytes of their names and values */
    struct slice raw;                /* decode only: every property as it came, without the length in front */
};

static inline bool mqtt_property_has(const struct mqtt_properties *p, enum mqtt_property_id id)
{
    return p->present >> id & 1;
}

/* The set of properties of the will is no packet's; it is asked for by this number. */
#define MQTT_WILL_PROPERTIES 0

/* Read a property length and the properties behind it, for packet type `packet` (or MQTT_WILL_PROPERTIES).
 *
 * MQTT_MALFORMED_PACKET: cut short, ill-formed value, identifier that is unknown or not of this packet.
 * MQTT_PROTOCOL_ERROR: given twice (User Property and, in PUBLISH, Subscription Identifier may repeat), or a value that
 * the specification forbids: Receive Maximum 0, Maximum Packet Size 0, Topic Alias 0 is left to the caller (0x94),
 * Subscription Identifier 0, a flag that is neither 0 nor 1, Authentication Data without Authentication Method.
 * The cursor is left anywhere then; ret_properties is set only on MQTT_SUCCESS. */
enum mqtt_reason mqtt_properties_decode(struct cursor *c, unsigned packet, struct mqtt_properties *ret_properties);

/* Append the property length and all that is present, in the order of their identifiers, User Properties last. */
void mqtt_properties_encode(struct buf *out, const struct mqtt_properties *p);

/* One property of raw, as it stands on the wire. */
struct mqtt_property {
    uint8_t id;
    uint32_t number;          /* for numbers of one, two, four bytes and variable byte integers */
    struct slice text, value; /* string or binary data; the value of a User Property */
    struct slice wire;        /* identifier and all */
};

/* Take the next property off *raw, which passed the decoder before. False at the end. */
bool mqtt_property_next(struct slice *raw, struct mqtt_property *ret_property);

/* Append what a broker hands on unread from a PUBLISH's (or will's) raw: payload format, content type, response topic,
 * correlation data and user properties, bytes and order kept [MQTT-3.3.2-4] [MQTT-3.3.2-15] to [MQTT-3.3.2-20]. */
void mqtt_properties_forward(struct buf *out, struct slice raw);

/* Number of bytes that mqtt_properties_forward writes. */
size_t mqtt_properties_forward_size(struct slice raw);

#endif
