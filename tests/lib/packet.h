/* packet.h -- any control packet: decoded by its type, encoded again, compared.
 *
 * Why: golden vectors and fuzzing ask the same of every type: what was decoded can be written, and reads the same
 * again. Only the header, for fuzz targets link nothing of tests/lib. */
#ifndef TERN_TESTS_LIB_PACKET_H
#define TERN_TESTS_LIB_PACKET_H

#include <assert.h>
#include <stdlib.h>

#include "proto/mqtt/ack.h"
#include "proto/mqtt/connect.h"
#include "proto/mqtt/control.h"
#include "proto/mqtt/frame.h"
#include "proto/mqtt/publish.h"
#include "proto/mqtt/subscribe.h"

struct packet {
    enum mqtt_type type;
    enum mqtt_version version; /* a CONNECT's own, else the one it was decoded by */
    union {
        struct mqtt_connect connect;
        struct mqtt_connack connack;
        struct mqtt_publish publish;
        struct mqtt_ack ack;
        struct mqtt_subscribe subscribe;
        struct mqtt_suback suback;
        struct mqtt_disconnect disconnect;
        struct mqtt_auth auth;
    } as;
};

/* Decode by type; p->as keeps what it held when the answer is not MQTT_SUCCESS. */
static inline enum mqtt_reason packet_decode(const struct mqtt_frame *f, enum mqtt_version version, bool from_client,
                                             struct packet *p)
{
    uint8_t connect_version;
    p->type = f->type;
    p->version = version;
    switch (p->type) {
    case MQTT_CONNECT: {
        enum mqtt_reason reason = mqtt_connect_decode(f->body, f->flags, &connect_version, &p->as.connect);
        assert(reason != MQTT_SUCCESS || connect_version == p->as.connect.version);
        p->version = connect_version;
        return reason;
    }
    case MQTT_CONNACK:
        return mqtt_connack_decode(f->body, f->flags, version, &p->as.connack);
    case MQTT_PUBLISH:
        return mqtt_publish_decode(f->body, f->flags, version, &p->as.publish);
    case MQTT_PUBACK:
    case MQTT_PUBREC:
    case MQTT_PUBREL:
    case MQTT_PUBCOMP:
        return mqtt_ack_decode(p->type, f->body, f->flags, version, &p->as.ack);
    case MQTT_SUBSCRIBE:
        return mqtt_subscribe_decode(f->body, f->flags, version, &p->as.subscribe);
    case MQTT_UNSUBSCRIBE:
        return mqtt_unsubscribe_decode(f->body, f->flags, version, &p->as.subscribe);
    case MQTT_SUBACK:
    case MQTT_UNSUBACK:
        return mqtt_suback_decode(p->type, f->body, f->flags, version, &p->as.suback);
    case MQTT_PINGREQ:
    case MQTT_PINGRESP:
        return mqtt_ping_decode(f->body, f->flags);
    case MQTT_DISCONNECT:
        return mqtt_disconnect_decode(f->body, f->flags, version, from_client, &p->as.disconnect);
    case MQTT_AUTH:
        p->version = MQTT_V5; /* no other version has it */
        return mqtt_auth_decode(f->body, f->flags, &p->as.auth);
    }
    abort(); /* the frame lets no other type through */
}

/* The properties of a decoded packet; none for the types and versions without. */
static inline const struct mqtt_properties *packet_properties(const struct packet *p)
{
    static const struct mqtt_properties none;
    if (p->version != MQTT_V5) {
        return &none;
    }
    switch (p->type) {
    case MQTT_CONNECT:
        return &p->as.connect.properties;
    case MQTT_CONNACK:
        return &p->as.connack.properties;
    case MQTT_PUBLISH:
        return &p->as.publish.properties;
    case MQTT_PUBACK:
    case MQTT_PUBREC:
    case MQTT_PUBREL:
    case MQTT_PUBCOMP:
        return &p->as.ack.properties;
    case MQTT_SUBSCRIBE:
    case MQTT_UNSUBSCRIBE:
        return &p->as.subscribe.properties;
    case MQTT_SUBACK:
    case MQTT_UNSUBACK:
        return &p->as.suback.properties;
    case MQTT_DISCONNECT:
        return &p->as.disconnect.properties;
    case MQTT_AUTH:
        return &p->as.auth.properties;
    default:
        return &none;
    }
}

/* Append the properties of one identifier as they stand in raw. */
static inline void raw_pick(struct buf *out, struct slice raw, uint8_t id)
{
    struct mqtt_property property;
    while (mqtt_property_next(&raw, &property)) {
        if (property.id == id) {
            buf_put(out, property.wire);
        }
    }
}

/* What is to be encoded of decoded properties: their fields, and the User Properties put into `user`. */
static inline struct mqtt_properties properties_again(const struct mqtt_properties *decoded, struct buf *user)
{
    struct mqtt_properties p = {0};
    if (decoded->raw.len > 0) { /* else a PUBLISH leaves the rest unset */
        p = *decoded;
    }
    raw_pick(user, p.raw, MQTT_PROP_USER_PROPERTY);
    p.user = buf_slice(user);
    return p;
}

static inline void publish_again(struct buf *out, enum mqtt_version version, const struct mqtt_publish *publish)
{
    struct buf ids = {0}, forwarded = {0};
    const struct mqtt_properties *p = &publish->properties;
    struct mqtt_delivery d = {.qos = publish->qos,
                              .dup = publish->dup,
                              .retain = publish->retain,
                              .packet_id = publish->packet_id,
                              .topic = publish->topic,
                              .payload = publish->payload};
    if (mqtt_property_has(p, MQTT_PROP_MESSAGE_EXPIRY)) {
        d.has_expiry = true;
        d.message_expiry_s = p->message_expiry_s;
    }
    if (mqtt_property_has(p, MQTT_PROP_TOPIC_ALIAS)) {
        d.topic_alias = p->topic_alias;
    }
    d.alias_only = d.topic.len == 0 && d.topic_alias != 0;
    raw_pick(&ids, p->raw, MQTT_PROP_SUBSCRIPTION_ID);
    mqtt_properties_forward(&forwarded, p->raw);
    assert(forwarded.len == mqtt_properties_forward_size(p->raw));
    d.subscription_ids = buf_slice(&ids);
    d.properties = buf_slice(&forwarded);

    uint32_t before = out->len;
    mqtt_delivery_encode(out, version, &d);
    assert(out->len - before == mqtt_delivery_size(version, &d));
    buf_deinit(&ids);
    buf_deinit(&forwarded);
}

static inline void subscribe_again(struct buf *out, const struct packet *p, const struct mqtt_properties *properties)
{
    struct mqtt_subscribe s = p->as.subscribe;
    struct mqtt_subscription *subs = calloc(s.count, sizeof(*subs));
    uint32_t count = 0;
    assert(subs);
    if (p->type == MQTT_SUBSCRIBE) {
        for (; count < s.count && mqtt_subscribe_next(&s, &subs[count]); count++) {
        }
        mqtt_subscribe_encode(out, p->version, s.packet_id, properties, subs, count);
    } else {
        for (; count < s.count && mqtt_unsubscribe_next(&s, &subs[count].filter); count++) {
        }
        mqtt_unsubscribe_encode(out, p->version, s.packet_id, properties, subs, count);
    }
    assert(count == s.count && s.filters.len == 0); /* the decoder's count is the walkers' */
    free(subs);
}

static inline void connect_again(struct buf *out, struct mqtt_connect connect)
{
    struct buf user = {0}, will_user = {0};
    connect.properties = properties_again(&connect.properties, &user);
    connect.will.properties = properties_again(&connect.will.properties, &will_user);
    mqtt_connect_encode(out, &connect);
    buf_deinit(&user);
    buf_deinit(&will_user);
}

static inline void packet_encode(struct buf *out, const struct packet *p)
{
    struct buf user = {0};
    struct mqtt_properties properties = properties_again(packet_properties(p), &user);
    struct packet copy = *p;
    switch (p->type) {
    case MQTT_CONNECT:
        connect_again(out, p->as.connect);
        break;
    case MQTT_CONNACK:
        copy.as.connack.properties = properties;
        mqtt_connack_encode(out, p->version, &copy.as.connack);
        break;
    case MQTT_PUBLISH:
        publish_again(out, p->version, &p->as.publish);
        break;
    case MQTT_PUBACK:
    case MQTT_PUBREC:
    case MQTT_PUBREL:
    case MQTT_PUBCOMP:
        copy.as.ack.properties = properties;
        mqtt_ack_encode(out, p->type, p->version, &copy.as.ack);
        break;
    case MQTT_SUBSCRIBE:
    case MQTT_UNSUBSCRIBE:
        subscribe_again(out, p, &properties);
        break;
    case MQTT_SUBACK:
    case MQTT_UNSUBACK:
        copy.as.suback.properties = properties;
        mqtt_suback_encode(out, p->type, p->version, &copy.as.suback);
        break;
    case MQTT_PINGREQ:
    case MQTT_PINGRESP:
        mqtt_ping_encode(out, p->type);
        break;
    case MQTT_DISCONNECT:
        copy.as.disconnect.properties = properties;
        mqtt_disconnect_encode(out, p->version, &copy.as.disconnect);
        break;
    case MQTT_AUTH:
        copy.as.auth.properties = properties;
        mqtt_auth_encode(out, &copy.as.auth);
        break;
    }
    buf_deinit(&user);
}

/* Whether both have the same properties, whatever the order; those that repeat in the same order among themselves. */
static inline bool properties_equal(const struct mqtt_properties *a, const struct mqtt_properties *b)
{
    bool equal = a->present == b->present && a->user_count == b->user_count;
    for (unsigned id = 0; equal && id < 64; id++) {
        struct buf left = {0}, right = {0};
        raw_pick(&left, a->raw, (uint8_t)id);
        raw_pick(&right, b->raw, (uint8_t)id);
        equal = slice_eq(buf_slice(&left), buf_slice(&right));
        buf_deinit(&left);
        buf_deinit(&right);
    }
    return equal;
}

static inline bool connect_equal(const struct mqtt_connect *a, const struct mqtt_connect *b)
{
    return a->version == b->version && a->clean_start == b->clean_start && a->has_user_name == b->has_user_name &&
           a->has_password == b->has_password && a->keep_alive_s == b->keep_alive_s &&
           slice_eq(a->client_id, b->client_id) && slice_eq(a->user_name, b->user_name) &&
           slice_eq(a->password, b->password) && a->will.present == b->will.present &&
           a->will.retain == b->will.retain && a->will.qos == b->will.qos && slice_eq(a->will.topic, b->will.topic) &&
           slice_eq(a->will.payload, b->will.payload) && properties_equal(&a->will.properties, &b->will.properties);
}

static inline bool publish_equal(const struct mqtt_publish *a, const struct mqtt_publish *b)
{
    return a->dup == b->dup && a->retain == b->retain && a->qos == b->qos && a->packet_id == b->packet_id &&
           slice_eq(a->topic, b->topic) && slice_eq(a->payload, b->payload);
}

/* Whether two decoded packets say the same. */
static inline bool packet_equal(const struct packet *a, const struct packet *b)
{
    if (a->type != b->type || a->version != b->version ||
        !properties_equal(packet_properties(a), packet_properties(b))) {
        return false;
    }
    switch (a->type) {
    case MQTT_CONNECT:
        return connect_equal(&a->as.connect, &b->as.connect);
    case MQTT_CONNACK:
        return a->as.connack.session_present == b->as.connack.session_present &&
               a->as.connack.code == b->as.connack.code;
    case MQTT_PUBLISH:
        return publish_equal(&a->as.publish, &b->as.publish);
    case MQTT_PUBACK:
    case MQTT_PUBREC:
    case MQTT_PUBREL:
    case MQTT_PUBCOMP:
        return a->as.ack.packet_id == b->as.ack.packet_id && a->as.ack.reason == b->as.ack.reason;
    case MQTT_SUBSCRIBE:
    case MQTT_UNSUBSCRIBE:
        return a->as.subscribe.packet_id == b->as.subscribe.packet_id &&
               a->as.subscribe.count == b->as.subscribe.count &&
               slice_eq(a->as.subscribe.filters, b->as.subscribe.filters);
    case MQTT_SUBACK:
    case MQTT_UNSUBACK:
        return a->as.suback.packet_id == b->as.suback.packet_id && slice_eq(a->as.suback.codes, b->as.suback.codes);
    case MQTT_DISCONNECT:
        return a->as.disconnect.reason == b->as.disconnect.reason;
    case MQTT_AUTH:
        return a->as.auth.reason == b->as.auth.reason;
    default:
        return true;
    }
}

#endif
