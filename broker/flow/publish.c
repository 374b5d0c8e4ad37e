/* The way of a PUBLISH (3.3): from the client that sent it, or from another shard, to everybody who wants it. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "broker/flow/access.h"
#include "broker/flow/cluster.h"
#include "broker/flow/dispatch.h"
#include "broker/flow/durable.h"
#include "broker/flow/flow.h"
#include "broker/flow/login.h"
#include "broker/flow/trace.h"
#include "proto/base/log.h"
#include "proto/base/utf8.h"
#include "proto/mqtt/topic.h"

/* The third scratch buffer of the broker; the first two are deliver.c's. */
#define SCRATCH_PROPERTIES 2

#define HELD_AT_ONCE 32u /* messages of one publisher that may wait for a slow subscriber */

/* A publisher that is to wait for a slow subscriber is not read any more, but what has come already waits together:
 * then it is acknowledged together too, and not message by message in as many writes. */
static bool may_read_on(const struct conn *conn)
{
    return conn->state == CONN_OPEN &&
           (!conn->paused || (conn->paused == PAUSE_HOLD && conn->held_count < HELD_AT_ONCE));
}

/* ---- what a client may not do ---- */

/* Put the topic in place that an alias stands for (3.3.2.3.4). */
static enum mqtt_reason resolve_alias(struct broker *b, struct conn *conn, struct mqtt_publish *p)
{
    uint16_t alias = p->properties.topic_alias;

    if (alias == 0 || alias > conn->in_alias_max) { /* [MQTT-3.3.2-8] [MQTT-3.3.2-9] */
        return MQTT_TOPIC_ALIAS_INVALID;
    }
    broker_metric(b, METRIC_FEATURE_TOPIC_ALIAS_IN, 1);
    struct conn_more *more = conn_more(conn);
    if (!more || (!more->alias_in && !(more->alias_in = alias_in_new(conn->in_alias_max)))) {
        return MQTT_SERVER_BUSY;
    }
    if (p->topic.len == 0) {
        p->topic = alias_in_get(more->alias_in, alias);
        return p->topic.len > 0 ? MQTT_SUCCESS : MQTT_PROTOCOL_ERROR;
    }
    if (!mqtt_topic_valid(p->topic, b->config->mqtt.max_topic_levels)) {
        return MQTT_TOPIC_NAME_INVALID;
    }
    return alias_in_set(more->alias_in, alias, p->topic) == 0 ? MQTT_SUCCESS : MQTT_SERVER_BUSY;
}

static enum mqtt_reason check_properties(struct broker *b, struct conn *conn, struct mqtt_publish *p)
{
    const struct mqtt_properties *props = &p->properties;

    if (mqtt_property_has(props, MQTT_PROP_SUBSCRIPTION_ID)) { /* [MQTT-3.3.4-6] */
        return MQTT_PROTOCOL_ERROR;
    }
    if (mqtt_property_has(props, MQTT_PROP_RESPONSE_TOPIC)) {
        broker_metric(b, METRIC_FEATURE_RESPONSE_TOPIC, 1);
        if (!mqtt_topic_valid(props->response_topic, UINT16_MAX)) { /* [MQTT-3.3.2-14] */
            return MQTT_PROTOCOL_ERROR;
        }
    }
    if (props->user_count > 0) {
        broker_metric(b, METRIC_FEATURE_USER_PROPERTY, 1);
        if (props->user_count > b->config->limits.max_user_properties ||
            props->user_bytes > b->config->limits.max_user_property_bytes) {
            return MQTT_QUOTA_EXCEEDED;
        }
    }
    if (mqtt_property_has(props, MQTT_PROP_MESSAGE_EXPIRY)) {
        broker_metric(b, METRIC_FEATURE_MESSAGE_EXPIRY, 1);
    }
    if (mqtt_property_has(props, MQTT_PROP_TOPIC_ALIAS)) {
        return resolve_alias(b, conn, p);
    }
    return MQTT_SUCCESS;
}

/* What ends the connection. */
static enum mqtt_reason check_publish(struct broker *b, struct conn *conn, struct mqtt_publish *p)
{
    if (p->properties.present || p->properties.user_count) {
        enum mqtt_reason reason = check_properties(b, conn, p);
        if (reason != MQTT_SUCCESS) {
            return reason;
        }
    }
    if (!mqtt_topic_valid(p->topic, b->config->mqtt.max_topic_levels)) { /* [MQTT-3.3.2-2] [MQTT-4.7.3-1] */
        return MQTT_TOPIC_NAME_INVALID;
    }
    if (p->retain && !b->config->mqtt.retain_available) {
        return MQTT_RETAIN_NOT_SUPPORTED;
    }
    if (p->qos > b->config->mqtt.maximum_qos) {
        return MQTT_QOS_NOT_SUPPORTED;
    }
    return MQTT_SUCCESS;
}

/* What the rules say. Returns false if that is not known yet: the packet is handled again. */
static bool check_rules(struct broker *b, struct conn *conn, const struct mqtt_publish *p,
                        enum acl_verdict *ret_verdict)
{
    struct acl_request request = {.action = ACL_PUBLISH, .topic = p->topic, .qos = p->qos, .retain = p->retain};
    uint64_t hash;

    if (conn->session->seen_version == b->policy->version && !conn->session->ruled) {
        *ret_verdict = ACL_ALLOW;
        return true;
    }
    hash = broker_hash(b, p->topic);
    *ret_verdict = access_publish(b, conn->session, p->topic, hash, p->qos, p->retain);
    if (*ret_verdict == ACL_NONE) {
        *ret_verdict = access_ask(b, conn, &request, hash);
    }
    return *ret_verdict != ACL_NONE;
}

/* What is refused with the acknowledgement, so that the connection lives on. */
static enum mqtt_reason check_access(struct broker *b, struct conn *conn, const struct mqtt_publish *p,
                                     enum acl_verdict verdict)
{
    if (verdict == ACL_DENY) {
        broker_metric(b, METRIC_PUBLISH_DENIED, 1);
        access_refused(b, conn->session, "publish", p->topic);
        return MQTT_NOT_AUTHORIZED;
    }
    if (p->topic.len >= 5 && memcmp(p->topic.ptr, "$SYS/", 5) == 0) { /* ours alone (4.7.2) */
        return MQTT_NOT_AUTHORIZED;
    }
    if (b->config->mqtt.validate_payload_format && p->properties.payload_format == 1 &&
        mqtt_property_has(&p->properties, MQTT_PROP_PAYLOAD_FORMAT) && !utf8_valid(p->payload)) {
        return MQTT_PAYLOAD_FORMAT_INVALID;
    }
    return MQTT_SUCCESS;
}

/* Take one PUBLISH out of a pair of buckets. Returns how long to wait, in nanoseconds. */
static uint64_t take(struct rate *packets, uint64_t packets_a_second, struct rate *bytes, uint64_t bytes_a_second,
                     uint32_t size, uint64_t now_ns)
{
    uint64_t wait_ns = packets_a_second ? rate_take(packets, packets_a_second, 1, now_ns) : 0;
    uint64_t more_ns = bytes_a_second ? rate_take(bytes, bytes_a_second, size, now_ns) : 0;

    return wait_ns > more_ns ? wait_ns : more_ns;
}

/* The rates of the client, its user and its listener: when one is used up, reading pauses until it is not. Nothing is
 * dropped. */
static void count_rate(struct broker *b, struct conn *conn, uint32_t size)
{
    const struct config *c = b->config;
    struct listener *l = (struct listener *)conn->listener;
    const struct principal *p = conn->session->principal;
    uint64_t now_ns = b->shard->now_ns, wait_ns = 0, other_ns;

    if (c->limits.max_publish_rate || c->limits.max_publish_byte_rate) {
        struct conn_more *more = conn_more(conn);
        wait_ns = more ? take(&more->publish_rate, c->limits.max_publish_rate, &more->publish_byte_rate,
                              c->limits.max_publish_byte_rate, size, now_ns)
                       : 0;
    }
    if (p && p->rate && (c->limits.max_user_publish_rate || c->limits.max_user_publish_byte_rate)) {
        other_ns = take(&p->rate->publish, c->limits.max_user_publish_rate, &p->rate->publish_bytes,
                        c->limits.max_user_publish_byte_rate, size, now_ns);
        wait_ns = other_ns > wait_ns ? other_ns : wait_ns;
    }
    if (l->config->max_publish_rate || l->config->max_publish_byte_rate) {
        other_ns = take(&l->publish_rate, l->config->max_publish_rate, &l->publish_byte_rate,
                        l->config->max_publish_byte_rate, size, now_ns);
        wait_ns = other_ns > wait_ns ? other_ns : wait_ns;
    }
    if (wait_ns > 0 && conn_more(conn)) {
        conn->more->read_at_ms = b->shard->now_ms + wait_ns / 1000000 + 1;
        conn_pause(conn, PAUSE_RATE);
        goodbye_watch(conn);
    }
}

/* ---- the head ---- */

static void make_publication(struct broker *b, const struct conn *conn, const struct mqtt_publish *p,
                             struct publication *ret_pub)
{
    struct slice properties = p->properties.raw;

    if (properties.len > 0 && mqtt_properties_forward_size(properties) != properties.len) {
        struct buf *scratch = &b->frame[SCRATCH_PROPERTIES];
        scratch->len = 0;
        mqtt_properties_forward(scratch, properties);
        properties = buf_slice(scratch);
    }
    *ret_pub = (struct publication){
        .topic = p->topic,
        .payload = p->payload,
        .properties = properties,
        .topic_hash = broker_hash(b, p->topic),
        .publisher = conn->session->uid,
        .expires_at_ms = MESSAGE_NEVER,
        .packet_id = p->qos == 2 && conn->session->durable ? p->packet_id : 0,
        .qos = p->qos,
        .retain = p->retain,
        .again = p->qos == 2 && p->dup && conn->session->durable,
    };
    if (mqtt_property_has(&p->properties, MQTT_PROP_MESSAGE_EXPIRY)) {
        ret_pub->expires_at_ms = b->shard->wall_ms + (uint64_t)p->properties.message_expiry_s * 1000;
    }
}

/* QoS 2: remember the identifier. Returns false if it is a repetition, which is only acknowledged again
 * [MQTT-4.3.3-10]. */
static bool remember_qos2(struct broker *b, struct conn *conn, uint16_t packet_id, struct receipt_open *open)
{
    struct command command = {.type = COMMAND_QOS2_IN, .session = conn->session, .packet_id = packet_id};
    struct outcome outcome;

    group_apply(broker_group(b, conn->session), &command, &outcome);
    open->failed = outcome.error != 0;
    open->remember = conn->session->durable; /* also a repetition: the first may have been given up before PUBREC */
    return !outcome.existed && !open->failed;
}

/* QoS 2, and nobody else is asked: the identifier is logged together with what became of the message. */
static void log_qos2(struct broker *b, struct conn *conn, struct receipt_open *open)
{
    struct command command = {
        .type = COMMAND_QOS2_IN, .wall_ms = b->shard->wall_ms, .session = conn->session, .packet_id = open->packet_id};

    if (open->remember && !open->receipt && open->reason < 0x80 && !open->failed) {
        open->failed = journal_record(b, &command) != 0;
        open->remember = false;
    }
}

/* QoS 1 and 2: route it and owe the acknowledgement. */
static void publish_acknowledged(struct broker *b, struct conn *conn, const struct mqtt_publish *p,
                                 enum mqtt_reason refusal)
{
    struct receipt_open open = {
        .conn = conn, .packet_id = p->packet_id, .type = p->qos == 1 ? MQTT_PUBACK : MQTT_PUBREC};
    enum mqtt_reason reason = refusal;

    if (p->qos == 2 && refusal == MQTT_SUCCESS && receipt_adopt(b, conn, p->packet_id)) {
        return; /* who has not answered yet has to, before PUBREC */
    }
    if (refusal == MQTT_SUCCESS && (p->qos == 1 || remember_qos2(b, conn, p->packet_id, &open))) {
        struct publication pub;
        make_publication(b, conn, p, &pub);
        if (!publish_route(b, &pub, &open)) {
            broker_metric(b, METRIC_UNROUTED, 1);
            reason = MQTT_NO_MATCHING_SUBSCRIBERS;
        }
        log_qos2(b, conn, &open);
        publication_end(&pub);
    }
    if (!open.failed) {
        receipt_close(b, &open, open.reason != MQTT_SUCCESS ? open.reason : reason);
        return;
    }
    if (open.receipt) { /* what it waited for will answer; the client is sent away without an acknowledgement */
        open.receipt->waiting--;
    }
    if (p->qos == 2) { /* it is to come again, and not to be taken for a repetition */
        struct command command = {.type = COMMAND_QOS2_RELEASE, .session = conn->session, .packet_id = p->packet_id};
        struct outcome outcome;
        broker_apply(b, &command, &outcome);
    }
    goodbye(conn, MQTT_SERVER_BUSY, "out of memory");
}

/* What ends the connection; also: Receive Maximum. The topic is put behind its mount point. */
static enum mqtt_reason check_packet(struct broker *b, struct conn *conn, struct mqtt_publish *p)
{
    enum mqtt_reason reason = check_publish(b, conn, p);

    if (reason == MQTT_SUCCESS && p->qos > 0 && conn->version == MQTT_V5 &&
        conn->session->qos2.count + conn->puback_count >= conn->in_receive_max &&
        !(p->qos == 2 && packet_ids_has(&conn->session->qos2, p->packet_id))) {
        return MQTT_RECEIVE_MAXIMUM_EXCEEDED; /* [MQTT-3.3.4-7] */
    }
    if (reason == MQTT_SUCCESS && conn->listener->mount.len > 0) {
        p->topic = mount_topic(b, conn, p->topic);
        if (!p->topic.ptr) {
            return MQTT_SERVER_BUSY;
        }
        if (p->topic.len > MQTT_STRING_BYTES_MAX) {
            return MQTT_TOPIC_NAME_INVALID;
        }
    }
    return reason;
}

/* 3.x cannot say no: the message is acknowledged and goes nowhere [MQTT311-3.3.5-2], or the connection ends, as
 * auth.denied_publish says. */
static void refuse_v3(struct broker *b, struct conn *conn, const struct mqtt_publish *p, enum mqtt_reason reason)
{
    struct receipt_open open = {
        .conn = conn, .packet_id = p->packet_id, .type = p->qos == 1 ? MQTT_PUBACK : MQTT_PUBREC};

    if (reason == MQTT_NOT_AUTHORIZED && b->config->auth.denied_publish == DENIED_CLOSE) {
        goodbye(conn, reason, "PUBLISH denied");
    } else if (p->qos > 0) {
        receipt_close(b, &open, MQTT_SUCCESS);
    }
}

/* It is a good one: route it, or refuse it without ending the connection. */
static void publish_checked(struct broker *b, struct conn *conn, const struct mqtt_publish *p, enum mqtt_reason reason)
{
    if (reason != MQTT_SUCCESS && conn->version != MQTT_V5) {
        refuse_v3(b, conn, p, reason);
    } else if (p->qos > 0) {
        publish_acknowledged(b, conn, p, reason);
    } else if (reason == MQTT_SUCCESS) {
        struct publication pub;
        make_publication(b, conn, p, &pub);
        broker_metric(b, METRIC_UNROUTED, !publish_route(b, &pub, NULL));
        publication_end(&pub);
    } else if (reason == MQTT_PAYLOAD_FORMAT_INVALID) {
        goodbye(conn, reason, "payload is not UTF-8");
    }
}

bool publish_from_client(struct conn *conn, const struct mqtt_frame *frame)
{
    struct broker *b = broker_of(conn);
    struct mqtt_publish p;
    enum acl_verdict verdict;
    enum mqtt_reason reason = mqtt_publish_decode(frame->body, frame->flags, conn->version, &p);

    if (reason == MQTT_SUCCESS) {
        reason = check_packet(b, conn, &p);
    }
    if (reason != MQTT_SUCCESS) {
        goodbye(conn, reason, "PUBLISH refused");
        return false;
    }
    if (!check_rules(b, conn, &p, &verdict)) {
        return false;
    }
    if (conn->more && conn->more->login) {
        login_packet_done(conn);
    }
    broker_metric(b, METRIC_PUBLISH_RECEIVED, 1);
    metric_inc_at(b->shard->metrics, METRIC_CELL_RECEIVED_BY_QOS, p.qos);
    conn->recv_msg++;
    if (b->traces) {
        trace_event(b, &(struct trace_event){.kind = TRACE_PUBLISH_IN,
                                             .qos = p.qos,
                                             .code = verdict == ACL_DENY ? MQTT_NOT_AUTHORIZED : MQTT_SUCCESS,
                                             .retain = p.retain,
                                             .client_id = session_client_id(conn->session),
                                             .topic = p.topic,
                                             .payload = p.payload,
                                             .address = &conn->peer});
    }
    broker_metric(b, METRIC_PUBLISH_BYTES_RECEIVED, (int64_t)p.payload.len);
    publish_checked(b, conn, &p, check_access(b, conn, &p, verdict));
    if (conn->state == CONN_OPEN) {
        count_rate(b, conn, frame->size);
    }
    forward_pause(b, conn);
    if (mail_congested(b->shard->office, b->shard->index) && conn->state == CONN_OPEN && list_empty(&conn->in_ready)) {
        conn_pause(conn, PAUSE_CONGESTION);
        list_append(&b->congested, &conn->in_ready);
    }
    return may_read_on(conn);
}

bool publish_release(struct conn *conn, const struct mqtt_frame *frame)
{
    struct broker *b = broker_of(conn);
    struct mqtt_ack ack;
    enum mqtt_reason reason = mqtt_ack_decode(MQTT_PUBREL, frame->body, frame->flags, conn->version, &ack);

    if (reason != MQTT_SUCCESS) {
        goodbye(conn, reason, "PUBREL refused");
        return false;
    }
    struct command command = {.type = COMMAND_QOS2_RELEASE, .session = conn->session, .packet_id = ack.packet_id};
    struct outcome outcome;
    broker_apply(b, &command, &outcome);
    if (outcome.error && conn->version == MQTT_V5) {
        struct mqtt_ack complete = {.packet_id = ack.packet_id, .reason = MQTT_PACKET_IDENTIFIER_NOT_FOUND};
        mqtt_ack_encode(conn_out(conn), MQTT_PUBCOMP, conn->version, &complete);
    } else {
        mqtt_ack_encode_plain(conn_out(conn), MQTT_PUBCOMP, ack.packet_id); /* [MQTT-4.3.3-11] */
    }
    broker_sent(b, MQTT_PUBCOMP);
    return may_read_on(conn);
}
