#include "broker/flow/operate.h"

#include <errno.h>

#include "broker/flow/durable.h"
#include "broker/flow/trace.h"
#include "proto/base/log.h"
#include "proto/base/utf8.h"
#include "proto/mqtt/topic.h"

enum operate_kicked operate_kick(struct broker *b, struct slice client_id, bool end_session)
{
    uint64_t hash = broker_hash(b, client_id);
    struct group *group = &b->groups[group_of(hash)];

    recover_turn(b); /* it may come in the very first turn */
    if (broker_home(b, hash) != b->shard->index) {
        return OPERATE_UNKNOWN;
    }
    struct session *session = group_find(group, client_id, hash);
    if (!session) {
        return OPERATE_UNKNOWN;
    }
    bool kicked = session->front != NULL;
    if (kicked) {
        goodbye(session->front, MQTT_ADMINISTRATIVE_ACTION, "sent away by an operator");
        session = group_find(group, client_id, hash); /* it may have ended with the connection */
    }
    if (session && end_session) {
        struct command command = {.type = COMMAND_END, .session = session};
        struct outcome out;
        broker_apply(b, &command, &out);
        goodbye_session(b, &out);
        goodbye_arm(b);
        kicked = true;
    }
    return kicked ? OPERATE_KICKED : OPERATE_AWAY;
}

static const char *check(const struct broker *b, const struct operate_message *m)
{
    if (!utf8_valid(m->topic) || !mqtt_topic_valid(m->topic, b->config->mqtt.max_topic_levels)) {
        return "topic is no topic name: it may be neither empty nor too deep, and has no + or #";
    }
    if (m->topic.len >= 5 && memcmp(m->topic.ptr, "$SYS/", 5) == 0) {
        return "topics that begin with $SYS/ are the broker's own";
    }
    if (m->qos > b->config->mqtt.maximum_qos) {
        return "qos is above mqtt.maximum_qos";
    }
    if (m->retain && !b->config->mqtt.retain_available) {
        return "retained messages are switched off (mqtt.retain_available)";
    }
    if (m->topic.len + m->payload.len + 64 > b->config->mqtt.max_packet_size) {
        return "the message is above mqtt.max_packet_size";
    }
    if (mqtt_property_has(&m->properties, MQTT_PROP_RESPONSE_TOPIC) &&
        !(utf8_valid(m->properties.response_topic) && mqtt_topic_valid(m->properties.response_topic, UINT16_MAX))) {
        return "response_topic is no topic name";
    }
    if (m->properties.payload_format == 1 && !utf8_valid(m->payload)) {
        return "payload_format_indicator is 1, but the payload is not UTF-8";
    }
    return NULL;
}

int operate_publish(struct broker *b, const struct operate_message *m, enum mqtt_reason *ret_reason,
                    const char **ret_why)
{
    struct buf properties = {0};
    struct cursor c;

    *ret_why = check(b, m);
    if (*ret_why) {
        return -EINVAL;
    }
    struct mqtt_properties handed_on = m->properties;
    handed_on.present &= ~(1ull << MQTT_PROP_MESSAGE_EXPIRY); /* it travels as a time */
    mqtt_properties_encode(&properties, &handed_on);
    if (properties.failed) {
        buf_deinit(&properties);
        return -ENOMEM;
    }
    c = cursor_at(buf_slice(&properties));
    (void)cursor_varint(&c);
    struct publication pub = {
        .topic = m->topic,
        .payload = m->payload,
        .properties = cursor_rest(&c),
        .topic_hash = broker_hash(b, m->topic),
        .expires_at_ms = MESSAGE_NEVER,
        .qos = m->qos,
        .retain = m->retain,
    };
    if (mqtt_property_has(&m->properties, MQTT_PROP_MESSAGE_EXPIRY)) {
        pub.expires_at_ms = b->shard->wall_ms + (uint64_t)m->properties.message_expiry_s * 1000;
    }
    if (b->traces) {
        trace_event(b, &(struct trace_event){.kind = TRACE_PUBLISH_IN,
                                             .qos = pub.qos,
                                             .retain = pub.retain,
                                             .client_id = SLICE(""),
                                             .topic = pub.topic,
                                             .payload = pub.payload,
                                             .text = "published by an operator"});
    }
    *ret_reason = publish_route(b, &pub, NULL) ? MQTT_SUCCESS : MQTT_NO_MATCHING_SUBSCRIBERS;
    publication_end(&pub);
    buf_deinit(&properties);
    return 0;
}

struct message *operate_retained(struct broker *b, struct slice topic)
{
    uint64_t hash = broker_hash(b, topic);

    return broker_home(b, hash) == b->shard->index ? retained_get(b->retained, topic, hash, b->shard->wall_ms) : NULL;
}
