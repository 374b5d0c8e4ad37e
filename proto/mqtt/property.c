/* property.c -- one table says all: which type a property has, which packets may carry it, which values are legal and
 * where it is kept. Decoding, encoding and walking read the table. */
#include "proto/mqtt/property.h"

#include <assert.h>

#include "proto/mqtt/packet.h"

enum property_type {
    TYPE_NONE,
    TYPE_BYTE,
    TYPE_TWO_BYTES,
    TYPE_FOUR_BYTES,
    TYPE_VARINT,
    TYPE_STRING,
    TYPE_BINARY,
    TYPE_PAIR
};
enum property_rule { RULE_ANY, RULE_FLAG, RULE_NOT_ZERO, RULE_TOPIC };

struct property_info {
    uint8_t type, rule;
    uint16_t offset;  /* in struct mqtt_properties */
    uint32_t packets; /* bit = packet type; bit 0 = the will */
};

#define IN(packet) (1u << (packet))
#define IN_WILL IN(MQTT_WILL_PROPERTIES)
#define IN_MESSAGE (IN(MQTT_PUBLISH) | IN_WILL)
#define IN_HANDSHAKE (IN(MQTT_CONNECT) | IN(MQTT_CONNACK))
#define IN_ANSWERS \
    (IN(MQTT_CONNACK) | IN(MQTT_PUBACK) | IN(MQTT_PUBREC) | IN(MQTT_PUBREL) | IN(MQTT_PUBCOMP) | IN(MQTT_SUBACK) | \
     IN(MQTT_UNSUBACK) | IN(MQTT_DISCONNECT) | IN(MQTT_AUTH))
#define IN_ALL (IN_ANSWERS | IN(MQTT_CONNECT) | IN_MESSAGE | IN(MQTT_SUBSCRIBE) | IN(MQTT_UNSUBSCRIBE))
#define AT(member) offsetof(struct mqtt_properties, member)

/* 5.0, table 2-4. */
static const struct property_info table[] = {
    [MQTT_PROP_PAYLOAD_FORMAT] = {TYPE_BYTE, RULE_FLAG, AT(payload_format), IN_MESSAGE},
    [MQTT_PROP_MESSAGE_EXPIRY] = {TYPE_FOUR_BYTES, RULE_ANY, AT(message_expiry_s), IN_MESSAGE},
    [MQTT_PROP_CONTENT_TYPE] = {TYPE_STRING, RULE_ANY, AT(content_type), IN_MESSAGE},
    [MQTT_PROP_RESPONSE_TOPIC] = {TYPE_STRING, RULE_TOPIC, AT(response_topic), IN_MESSAGE},
    [MQTT_PROP_CORRELATION_DATA] = {TYPE_BINARY, RULE_ANY, AT(correlation_data), IN_MESSAGE},
    [MQTT_PROP_SUBSCRIPTION_ID] = {TYPE_VARINT, RULE_NOT_ZERO, AT(subscription_id),
                                   IN(MQTT_PUBLISH) | IN(MQTT_SUBSCRIBE)},
    [MQTT_PROP_SESSION_EXPIRY] = {TYPE_FOUR_BYTES, RULE_ANY, AT(session_expiry_s), IN_HANDSHAKE | IN(MQTT_DISCONNECT)},
    [MQTT_PROP_ASSIGNED_CLIENT_ID] = {TYPE_STRING, RULE_ANY, AT(assigned_client_id), IN(MQTT_CONNACK)},
    [MQTT_PROP_SERVER_KEEP_ALIVE] = {TYPE_TWO_BYTES, RULE_ANY, AT(server_keep_alive_s), IN(MQTT_CONNACK)},
    [MQTT_PROP_AUTH_METHOD] = {TYPE_STRING, RULE_ANY, AT(auth_method), IN_HANDSHAKE | IN(MQTT_AUTH)},
    [MQTT_PROP_AUTH_DATA] = {TYPE_BINARY, RULE_ANY, AT(auth_data), IN_HANDSHAKE | IN(MQTT_AUTH)},
    [MQTT_PROP_REQUEST_PROBLEM_INFO] = {TYPE_BYTE, RULE_FLAG, AT(request_problem_info), IN(MQTT_CONNECT)},
    [MQTT_PROP_WILL_DELAY] = {TYPE_FOUR_BYTES, RULE_ANY, AT(will_delay_s), IN_WILL},
    [MQTT_PROP_REQUEST_RESPONSE_INFO] = {TYPE_BYTE, RULE_FLAG, AT(request_response_info), IN(MQTT_CONNECT)},
    [MQTT_PROP_RESPONSE_INFO] = {TYPE_STRING, RULE_ANY, AT(response_info), IN(MQTT_CONNACK)},
    [MQTT_PROP_SERVER_REFERENCE] = {TYPE_STRING, RULE_ANY, AT(server_reference),
                                    IN(MQTT_CONNACK) | IN(MQTT_DISCONNECT)},
    [MQTT_PROP_REASON_STRING] = {TYPE_STRING, RULE_ANY, AT(reason_string), IN_ANSWERS},
    [MQTT_PROP_RECEIVE_MAX] = {TYPE_TWO_BYTES, RULE_NOT_ZERO, AT(receive_max), IN_HANDSHAKE},
    [MQTT_PROP_TOPIC_ALIAS_MAX] = {TYPE_TWO_BYTES, RULE_ANY, AT(topic_alias_max), IN_HANDSHAKE},
    [MQTT_PROP_TOPIC_ALIAS] = {TYPE_TWO_BYTES, RULE_ANY, AT(topic_alias), IN(MQTT_PUBLISH)},
    [MQTT_PROP_MAXIMUM_QOS] = {TYPE_BYTE, RULE_FLAG, AT(maximum_qos), IN(MQTT_CONNACK)},
    [MQTT_PROP_RETAIN_AVAILABLE] = {TYPE_BYTE, RULE_FLAG, AT(retain_available), IN(MQTT_CONNACK)},
    [MQTT_PROP_USER_PROPERTY] = {TYPE_PAIR, RULE_ANY, 0, IN_ALL},
    [MQTT_PROP_MAXIMUM_PACKET_SIZE] = {TYPE_FOUR_BYTES, RULE_NOT_ZERO, AT(packet_bytes_max), IN_HANDSHAKE},
    [MQTT_PROP_WILDCARD_AVAILABLE] = {TYPE_BYTE, RULE_FLAG, AT(wildcard_available), IN(MQTT_CONNACK)},
    [MQTT_PROP_SUBSCRIPTION_ID_AVAILABLE] = {TYPE_BYTE, RULE_FLAG, AT(subscription_id_available), IN(MQTT_CONNACK)},
    [MQTT_PROP_SHARED_AVAILABLE] = {TYPE_BYTE, RULE_FLAG, AT(shared_available), IN(MQTT_CONNACK)},
};

/* No identifier has a second byte, so one that says it goes on is unknown like any other that is not in the table. */
static inline const struct property_info *property_info(uint8_t id)
{
    return id < COUNT_OF(table) && table[id].type != TYPE_NONE ? &table[id] : NULL;
}

/* Read the value behind an identifier. Strings are checked if `strict`; the walker sees only what passed before. */
static void property_read(struct cursor *c, const struct property_info *info, bool strict, struct mqtt_property *p)
{
    p->number = 0;
    p->text = p->value = (struct slice){NULL, 0};
    switch (info->type) {
    case TYPE_BYTE:
        p->number = cursor_u8(c);
        break;
    case TYPE_TWO_BYTES:
        p->number = cursor_u16(c);
        break;
    case TYPE_FOUR_BYTES:
        p->number = cursor_u32(c);
        break;
    case TYPE_VARINT:
        p->number = cursor_varint(c);
        break;
    case TYPE_STRING:
        p->text = strict ? cursor_string(c) : cursor_binary(c);
        break;
    case TYPE_BINARY:
        p->text = cursor_binary(c);
        break;
    case TYPE_PAIR: /* [MQTT-1.5.7-1] */
        p->text = strict ? cursor_string(c) : cursor_binary(c);
        p->value = strict ? cursor_string(c) : cursor_binary(c);
        break;
    }
}

static bool property_value_legal(const struct property_info *info, const struct mqtt_property *p)
{
    switch (info->rule) {
    case RULE_FLAG:
        return p->number <= 1;
    case RULE_NOT_ZERO:
        return p->number != 0;
    case RULE_TOPIC: /* [MQTT-3.3.2-14] */
        return p->text.len == 0 || (!memchr(p->text.ptr, '+', p->text.len) && !memchr(p->text.ptr, '#', p->text.len));
    default:
        return true;
    }
}

static void property_store(const struct property_info *info, const struct mqtt_property *p, struct mqtt_properties *all)
{
    void *member = (char *)all + info->offset;
    switch (info->type) {
    case TYPE_BYTE:
        *(uint8_t *)member = (uint8_t)p->number;
        break;
    case TYPE_TWO_BYTES:
        *(uint16_t *)member = (uint16_t)p->number;
        break;
    case TYPE_FOUR_BYTES:
    case TYPE_VARINT:
        *(uint32_t *)member = p->number;
        break;
    case TYPE_STRING:
    case TYPE_BINARY:
        *(struct slice *)member = p->text;
        break;
    case TYPE_PAIR:
        all->user_count++;
        all->user_bytes += (uint32_t)(p->text.len + p->value.len);
        break;
    }
}

/* One property: identifier, value, and whether it may stand here. */
static enum mqtt_reason property_decode(struct cursor *c, unsigned packet, struct mqtt_properties *all)
{
    struct mqtt_property p;
    p.id = cursor_u8(c);
    const struct property_info *info = property_info(p.id);
    if (!info || !(info->packets >> packet & 1)) {
        return MQTT_MALFORMED_PACKET;
    }
    property_read(c, info, true, &p);
    if (c->failed) {
        return MQTT_MALFORMED_PACKET;
    }
    if (!property_value_legal(info, &p)) {
        return MQTT_PROTOCOL_ERROR;
    }
    if (all->present >> p.id & 1) {
        bool repeats = p.id == MQTT_PROP_USER_PROPERTY || (p.id == MQTT_PROP_SUBSCRIPTION_ID && packet == MQTT_PUBLISH);
        if (!repeats) {
            return MQTT_PROTOCOL_ERROR;
        }
        if (p.id == MQTT_PROP_SUBSCRIPTION_ID) {
            return MQTT_SUCCESS; /* the first one is kept */
        }
    }
    all->present |= 1ull << p.id;
    property_store(info, &p, all);
    return MQTT_SUCCESS;
}

enum mqtt_reason mqtt_properties_decode(struct cursor *c, unsigned packet, struct mqtt_properties *ret_properties)
{
    struct slice raw = cursor_take(c, cursor_varint(c));
    if (c->failed) {
        return MQTT_MALFORMED_PACKET;
    }
    struct mqtt_properties all = {.raw = raw};
    struct cursor inner = cursor_at(raw);
    while (cursor_left(&inner) > 0) {
        enum mqtt_reason reason = property_decode(&inner, packet, &all);
        if (reason != MQTT_SUCCESS) {
            return reason;
        }
    }
    if (mqtt_property_has(&all, MQTT_PROP_AUTH_DATA) && !mqtt_property_has(&all, MQTT_PROP_AUTH_METHOD)) {
        return MQTT_PROTOCOL_ERROR;
    }
    *ret_properties = all;
    return MQTT_SUCCESS;
}

static size_t property_size(const struct property_info *info, const void *member)
{
    switch (info->type) {
    case TYPE_BYTE:
        return 2;
    case TYPE_TWO_BYTES:
        return 3;
    case TYPE_FOUR_BYTES:
        return 5;
    case TYPE_VARINT:
        return 1 + mqtt_varint_size(*(const uint32_t *)member);
    default:
        return 3 + ((const struct slice *)member)->len;
    }
}

static void property_encode(struct buf *out, uint8_t id, const struct property_info *info, const void *member)
{
    buf_u8(out, id);
    switch (info->type) {
    case TYPE_BYTE:
        buf_u8(out, *(const uint8_t *)member);
        break;
    case TYPE_TWO_BYTES:
        buf_u16(out, *(const uint16_t *)member);
        break;
    case TYPE_FOUR_BYTES:
        buf_u32(out, *(const uint32_t *)member);
        break;
    case TYPE_VARINT:
        buf_varint(out, *(const uint32_t *)member);
        break;
    default:
        buf_string(out, *(const struct slice *)member);
        break;
    }
}

void mqtt_properties_encode(struct buf *out, const struct mqtt_properties *p)
{
    uint64_t present = p->present & ~(1ull << MQTT_PROP_USER_PROPERTY);
    size_t size = p->user.len;

    for (uint64_t left = present; left; left &= left - 1) {
        const struct property_info *info = property_info((uint8_t)__builtin_ctzll(left));
        assert(info);
        size += property_size(info, (const char *)p + info->offset);
    }
    if (size > MQTT_REMAINING_LENGTH_MAX) {
        out->failed = true; /* as if memory had run out: the packet cannot be */
        return;
    }
    buf_varint(out, (uint32_t)size);
    for (uint64_t left = present; left; left &= left - 1) {
        uint8_t id = (uint8_t)__builtin_ctzll(left);
        property_encode(out, id, &table[id], (const char *)p + table[id].offset);
    }
    buf_put(out, p->user);
}

bool mqtt_property_next(struct slice *raw, struct mqtt_property *ret_property)
{
    if (raw->len == 0) {
        return false;
    }
    struct cursor c = cursor_at(*raw);
    struct mqtt_property p;
    p.id = cursor_u8(&c);
    const struct property_info *info = property_info(p.id);
    if (!info) {
        return false;
    }
    property_read(&c, info, false, &p);
    if (c.failed) {
        return false;
    }
    p.wire = slice_of(raw->ptr, (size_t)(c.at - raw->ptr));
    *raw = slice_drop(*raw, p.wire.len);
    *ret_property = p;
    return true;
}

static bool is_forwarded(uint8_t id)
{
    return id == MQTT_PROP_PAYLOAD_FORMAT || id == MQTT_PROP_CONTENT_TYPE || id == MQTT_PROP_RESPONSE_TOPIC ||
           id == MQTT_PROP_CORRELATION_DATA || id == MQTT_PROP_USER_PROPERTY;
}

void mqtt_properties_forward(struct buf *out, struct slice raw)
{
    struct mqtt_property p;
    while (mqtt_property_next(&raw, &p)) {
        if (is_forwarded(p.id)) {
            buf_put(out, p.wire);
        }
    }
}

size_t mqtt_properties_forward_size(struct slice raw)
{
    size_t size = 0;
    struct mqtt_property p;
    while (mqtt_property_next(&raw, &p)) {
        size += is_forwarded(p.id) ? p.wire.len : 0;
    }
    return size;
}
