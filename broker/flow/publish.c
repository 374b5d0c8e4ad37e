/* The way of a PUBLISH (3.3): from the client that sent it, or from another shard, to everybody who wants it. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "broker/flow/dispatch.h"
#include "broker/flow/flow.h"
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
    if (!conn->alias_in) {
        conn->alias_in = alias_in_new(conn->in_alias_max);
        if (!conn->alias_in) {
            return MQTT_SERVER_BUSY;
        }
    }
    if (p->topic.len == 0) {
        p->topic = alias_in_get(conn->alias_in, alias);
        return p->topic.len > 0 ? MQTT_SUCCESS : MQTT_PROTOCOL_ERROR;
    }
    if (!mqtt_topic_valid(p->topic, b->config->mqtt.max_topic_levels)) {
        return MQTT_TOPIC_NAME_INVALID;
    }
    return alias_in_set(conn->alias_in, alias, p->topic) == 0 ? MQTT_SUCCESS : MQTT_SERVER_BUSY;
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

/* What is refused with the acknowledgement, so that the connection lives on. */
static enum mqtt_reason check_access(struct broker *b, const struct mqtt_publish *p)
{
    if (p->topic.len >= 5 && memcmp(p->topic.ptr, "$SYS/", 5) == 0) { /* ours alone (4.7.2) */
        return MQTT_NOT_AUTHORIZED;
    }
    if (b->config->mqtt.validate_payload_format && p->properties.payload_format == 1 &&
        mqtt_property_has(&p->properties, MQTT_PROP_PAYLOAD_FORMAT) && !utf8_valid(p->payload)) {
        return MQTT_PAYLOAD_FORMAT_INVALID;
    }
    return MQTT_SUCCESS;
}

/* limits.max_publish_rate: a bucket of one second's tokens; when it is empty, reading pauses until there is one again.
 */
static void count_rate(struct broker *b, struct conn *conn)
{
    uint32_t rate = b->config->limits.max_publish_rate;

    if (rate == 0) {
        return;
    }
    uint64_t elapsed_ms = b->shard->now_ms - conn->rate_at_ms;
    uint64_t gained = elapsed_ms > 1000 ? rate : elapsed_ms * rate / 1000;
    if (gained > 0) {
        conn->rate_tokens = (uint32_t)(conn->rate_tokens + gained > rate ? rate : conn->rate_tokens + gained);
        conn->rate_at_ms = b->shard->now_ms;
    }
    if (conn->rate_tokens > 0) {
        conn->rate_tokens--;
    }
    if (conn->rate_tokens == 0) {
        conn_pause(conn, PAUSE_RATE);
        timer_set(b->shard->timers, &conn->timer, b->shard->now_ms + 1000 / rate + 1);
    }
}

/* ---- routing ---- */

/* What became of a message among the sessions of this shard. */
struct local_fate {
    unsigned matched;     /* sessions that were to have it */
    struct session *slow; /* the one receiver, if it is the only one and far behind */
    struct delivery how;  /* parked: how slow is to get it; nobody has it yet */
    bool parked;
    bool full;      /* the one receiver's queue is full: it did not take it */
    bool no_memory; /* somebody did not get it for lack of memory */
};

/* Hand a message to the matching sessions at home here. may_wait: its publisher can wait for its one receiver. */
static struct local_fate route_local(struct broker *b, struct publication *pub, bool may_wait)
{
    const struct match *m = match_cache_local(b->cache, b->tree, pub->topic, pub->topic_hash);
    struct local_fate fate = {0};

    if (!m) {
        broker_metric(b, METRIC_DROPPED_NO_MEMORY, 1);
        fate.no_memory = true;
        return fate;
    }
    for (uint32_t i = 0; i < m->count; i++) {
        const struct match_entry *e = &m->entries[i];
        struct session *session = e->owner;
        bool self = session->uid == pub->publisher;
        struct delivery how = {
            .ids = slice_of(m->ids + (self ? e->self_ids_at : e->ids_at), self ? e->self_ids_len : e->ids_len),
            .qos = self ? e->self_qos : e->qos,
            .retain = pub->retain && (self ? e->self_retain_as_published : e->retain_as_published),
            .shared_frame = m->count > 1,
        };
        if (how.qos == MATCH_NONE) { /* [MQTT-3.8.3-3] */
            continue;
        }
        fate.matched++;
        if (may_wait && m->count == 1 && how.qos > 0) {
            fate.parked = hold_park_wanted(b, session, publication_bytes(pub));
            if (fate.parked) {
                fate.slow = session;
                fate.how = how;
                break;
            }
            if (session->parked_count > 0) { /* it cannot wait, and must not overtake those that do */
                broker_metric(b, METRIC_DROPPED_QUEUE_FULL, 1);
                fate.full = true;
                break;
            }
        }
        int rc = deliver(b, session, pub, &how);
        fate.no_memory |= rc == -ENOMEM;
        if (m->count == 1 && how.qos > 0 && pub->qos > 0) {
            fate.full = rc == -ENOBUFS;
            fate.slow = rc == 0 && hold_wanted(b, session) ? session : NULL;
        }
    }
    return fate;
}

/* Store or clear the retained message of a topic that is at home here. */
static enum mqtt_reason retain_here(struct broker *b, struct publication *pub)
{
    struct command command = {.type = COMMAND_RETAIN, .wall_ms = b->shard->wall_ms};
    struct outcome outcome = {.error = -ENOMEM};

    command.retain = publication_message(pub);
    if (command.retain) {
        group_apply(&b->groups[group_of(pub->topic_hash)], &command, &outcome);
    }
    if (outcome.error) {
        broker_metric(b, METRIC_DROPPED_RETAIN_QUOTA, 1);
        log_event(
            LOG_WARN, "retained_refused", {"topic", LOG_SLICE(pub->topic)},
            {"reason", LOG_STR(outcome.error == -EDQUOT ? "limits.max_retained_messages or _bytes" : "no memory")});
        return outcome.error == -EDQUOT ? MQTT_QUOTA_EXCEEDED : RECEIPT_NO_MEMORY;
    }
    return MQTT_SUCCESS;
}

/* One mail to another shard: to deliver, to store, or both. */
static void mail_publication(struct broker *b, struct publication *pub, struct receipt_open *open, unsigned shard,
                             unsigned flags)
{
    if (!open && pub->qos == 0 && !(flags & PUBLISH_RETAIN) && parcel_put(b, shard, pub)) {
        return;
    }
    parcel_post(b, shard); /* nothing overtakes what was published before */
    struct message *message = publication_message(pub);
    struct mail mail = {.kind = MAIL_PUBLISH, .n = flags};

    if (!message) {
        broker_metric(b, METRIC_DROPPED_NO_MEMORY, 1);
        if (open) {
            open->failed = true;
        }
        return;
    }
    if (open) {
        mail.ptr2 = receipt_wait_shard(b, open, shard);
        if (!mail.ptr2) {
            return;
        }
        mail.n |= PUBLISH_RECEIPT;
    }
    mail.ptr = message_ref(message);
    if (shard_post(b->shard, shard, &mail) != 0) {
        message_unref(message);
        broker_metric(b, METRIC_DROPPED_NO_MEMORY, 1);
        if (open) {
            receipt_unwait_shard(b, open, shard);
            open->failed = true;
        }
    }
}

/* The publisher waits until its one receiver has caught up, or has room. */
static void hold(struct broker *b, const struct local_fate *fate, struct publication *pub, struct receipt_ref ref)
{
    if (fate->parked) {
        hold_park(b, fate->slow, ref, pub, &fate->how);
    } else {
        hold_add(b, fate->slow, ref);
    }
}

bool publish_route(struct broker *b, struct publication *pub, struct receipt_open *open)
{
    const struct route_match *routes = match_cache_routes(b->cache, b->node->routes, pub->topic, pub->topic_hash);
    unsigned self = b->shard->index;
    unsigned home = pub->retain ? broker_home(b, pub->topic_hash) : self;

    deliver_begin(b);
    if (!routes) {
        broker_metric(b, METRIC_DROPPED_NO_MEMORY, 1);
        if (open) {
            open->failed = true;
        }
        return false;
    }
    uint64_t shards = routes->shards;
    bool sole = (unsigned)__builtin_popcountll(shards) + routes->share_count == 1;
    bool matched = (shards & ~(1ull << self)) != 0 || routes->share_count > 0;
    for (uint32_t i = 0; i < routes->share_count; i++) {
        share_publish(b, &routes->shares[i], pub, open, sole);
    }
    uint64_t mails = (shards & ~(1ull << self)) | (home != self ? 1ull << home : 0);
    while (mails) {
        unsigned shard = (unsigned)__builtin_ctzll(mails);
        mails &= mails - 1;
        mail_publication(b, pub, open, shard,
                         (shards >> shard & 1 ? PUBLISH_DELIVER : 0u) |
                             (pub->retain && shard == home ? PUBLISH_RETAIN : 0u) | (sole ? PUBLISH_SOLE : 0u));
    }
    enum mqtt_reason retained = pub->retain && home == self ? retain_here(b, pub) : MQTT_SUCCESS;
    if (retained != MQTT_SUCCESS && open) {
        open->reason = (uint8_t)retained;
    }
    if (shards >> self & 1) {
        struct local_fate fate = route_local(b, pub, sole && open && pub->qos > 0);
        matched |= fate.matched > 0;
        if (sole && open && fate.full) {
            open->reason = MQTT_QUOTA_EXCEEDED;
        }
        if (open && fate.no_memory) {
            open->reason = RECEIPT_NO_MEMORY;
        }
        struct receipt *r = sole && open && fate.slow ? receipt_wait(b, open) : NULL;
        if (r) {
            receipt_hold(r);
            hold(b, &fate, pub, (struct receipt_ref){r, self});
        }
    }
    return matched;
}

/* The publisher is to be told that somebody did not get it. */
static void answer_reason(struct broker *b, const struct mail *mail, enum mqtt_reason reason)
{
    if (reason != MQTT_SUCCESS && mail->n & PUBLISH_RECEIPT) {
        receipt_reason(b, (struct receipt_ref){mail->ptr2, mail->from}, reason);
    }
}

/* The same for a publisher on another shard, which must know before it is told that the message is through. */
static void hold_remote(struct broker *b, const struct local_fate *fate, struct publication *pub,
                        const struct mail *mail)
{
    struct mail wait = {.kind = MAIL_RECEIPT_HOLD, .ptr = mail->ptr2};

    if (shard_post(b->shard, mail->from, &wait) == 0) {
        hold(b, fate, pub, (struct receipt_ref){mail->ptr2, mail->from});
    } else if (fate->parked) { /* it cannot be made to wait */
        answer_reason(b, mail,
                      deliver(b, fate->slow, pub, &fate->how) == -ENOBUFS ? MQTT_QUOTA_EXCEEDED : MQTT_SUCCESS);
    }
}

void publish_deliver(struct broker *b, struct publication *pub)
{
    deliver_begin(b);
    (void)route_local(b, pub, false);
}

void publish_from_shard(struct broker *b, const struct mail *mail)
{
    struct message *message = mail->ptr;
    struct publication pub;

    publication_of_message(&pub, message);
    deliver_begin(b);
    if (mail->n & PUBLISH_RETAIN) {
        answer_reason(b, mail, retain_here(b, &pub));
    }
    if (mail->n & PUBLISH_DELIVER) {
        bool may_wait = mail->n & PUBLISH_SOLE && mail->n & PUBLISH_RECEIPT;
        struct local_fate fate = route_local(b, &pub, may_wait);
        if (fate.full && mail->n & PUBLISH_SOLE) {
            answer_reason(b, mail, MQTT_QUOTA_EXCEEDED);
        }
        if (fate.no_memory) {
            answer_reason(b, mail, RECEIPT_NO_MEMORY);
        }
        if (fate.slow && may_wait) {
            hold_remote(b, &fate, &pub, mail);
        }
    }
    if (mail->n & PUBLISH_RECEIPT) {
        b->settled[mail->from]++;
    }
    message_unref(message);
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
        .qos = p->qos,
        .retain = p->retain,
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

    broker_apply(b, &command, &outcome);
    open->failed = outcome.error != 0;
    return !outcome.existed && !open->failed;
}

/* QoS 1 and 2: route it and owe the acknowledgement. */
static void publish_acknowledged(struct broker *b, struct conn *conn, const struct mqtt_publish *p,
                                 enum mqtt_reason refusal)
{
    struct receipt_open open = {
        .conn = conn, .packet_id = p->packet_id, .type = p->qos == 1 ? MQTT_PUBACK : MQTT_PUBREC};
    enum mqtt_reason reason = refusal;

    if (refusal == MQTT_SUCCESS && (p->qos == 1 || remember_qos2(b, conn, p->packet_id, &open))) {
        struct publication pub;
        make_publication(b, conn, p, &pub);
        if (!publish_route(b, &pub, &open)) {
            broker_metric(b, METRIC_UNROUTED, 1);
            reason = MQTT_NO_MATCHING_SUBSCRIBERS;
        }
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

bool publish_from_client(struct conn *conn, const struct mqtt_frame *frame)
{
    struct broker *b = broker_of(conn);
    struct mqtt_publish p;
    enum mqtt_reason reason = mqtt_publish_decode(frame->body, frame->flags, conn->version, &p);

    if (reason == MQTT_SUCCESS) {
        reason = check_publish(b, conn, &p);
    }
    if (reason == MQTT_SUCCESS && p.qos > 0 && conn->version == MQTT_V5 &&
        conn->session->qos2.count + conn->puback_count >= conn->in_receive_max &&
        !(p.qos == 2 && packet_ids_has(&conn->session->qos2, p.packet_id))) {
        reason = MQTT_RECEIVE_MAXIMUM_EXCEEDED; /* [MQTT-3.3.4-7] */
    }
    if (reason != MQTT_SUCCESS) {
        goodbye(conn, reason, "PUBLISH refused");
        return false;
    }
    broker_metric(b, METRIC_PUBLISH_RECEIVED, 1);
    broker_metric(b, METRIC_PUBLISH_BYTES_RECEIVED, (int64_t)p.payload.len);
    reason = check_access(b, &p);
    if (p.qos > 0) {
        if (conn->version != MQTT_V5 && reason != MQTT_SUCCESS) {
            /* 3.x cannot say no: it is acknowledged and goes nowhere [MQTT311-3.3.5-2] */
            struct receipt_open open = {
                .conn = conn, .packet_id = p.packet_id, .type = p.qos == 1 ? MQTT_PUBACK : MQTT_PUBREC};
            receipt_close(b, &open, MQTT_SUCCESS);
        } else {
            publish_acknowledged(b, conn, &p, reason);
        }
    } else if (reason == MQTT_SUCCESS) {
        struct publication pub;
        make_publication(b, conn, &p, &pub);
        broker_metric(b, METRIC_UNROUTED, !publish_route(b, &pub, NULL));
        publication_end(&pub);
    } else if (reason == MQTT_PAYLOAD_FORMAT_INVALID) {
        goodbye(conn, reason, "payload is not UTF-8");
        return false;
    }
    if (conn->state == CONN_OPEN) {
        count_rate(b, conn);
    }
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
    broker_metric(b, METRIC_PACKETS_SENT, 1);
    return may_read_on(conn);
}

/* ---- what the broker itself publishes ---- */

void publish_internal(struct broker *b, struct slice topic, struct slice payload, bool retain)
{
    struct publication pub = {
        .topic = topic,
        .payload = payload,
        .topic_hash = broker_hash(b, topic),
        .expires_at_ms = MESSAGE_NEVER,
        .retain = retain,
    };
    publish_route(b, &pub, NULL);
    publication_end(&pub);
}

void publish_will(struct broker *b, struct will *will)
{
    struct publication pub;

    if (!will) {
        return;
    }
    publication_of_message(&pub, will->message);
    if (will->has_expiry) { /* the interval counts from now: another message than the one that was kept */
        pub.message = NULL;
        pub.expires_at_ms = b->shard->wall_ms + (uint64_t)will->expiry_s * 1000;
    }
    broker_metric(b, METRIC_UNROUTED, !publish_route(b, &pub, NULL));
    if (pub.message != will->message) {
        publication_end(&pub);
    }
    message_unref(will->message);
    free(will);
}
