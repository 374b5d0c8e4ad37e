#include <assert.h>
#include <errno.h>

#include "broker/flow/access.h"
#include "broker/flow/durable.h"
#include "broker/flow/flow.h"
#include "broker/flow/trace.h"

/* Which of the scratch frames holds the QoS 0 frame for this kind of connection. */
enum frame_kind { FRAME_V3, FRAME_V5, FRAME_KINDS };

void publication_of_message(struct publication *pub, struct message *m)
{
    *pub = (struct publication){
        .topic = message_topic(m),
        .payload = message_payload(m),
        .properties = message_properties(m),
        .topic_hash = m->topic_hash,
        .publisher = m->publisher,
        .expires_at_ms = m->expires_at_ms,
        .stamp = message_stamp(m),
        .message = m,
        .packet_id = m->packet_id,
        .qos = m->qos,
        .retain = m->retain,
        .again = m->again,
    };
}

struct message *publication_message(struct publication *pub)
{
    if (!pub->message) {
        pub->message = message_new(&(struct message_source){
            .topic = pub->topic,
            .payload = pub->payload,
            .properties_raw = pub->properties,
            .topic_hash = pub->topic_hash,
            .publisher = pub->publisher,
            .expires_at_ms = pub->expires_at_ms,
            .stamp = pub->stamp,
            .packet_id = pub->packet_id,
            .qos = pub->qos,
            .retain = pub->retain,
            .again = pub->again,
        });
    }
    return pub->message;
}

void publication_end(struct publication *pub)
{
    message_unref(pub->message);
    pub->message = NULL;
}

void deliver_begin(struct broker *b)
{
    for (int i = 0; i < FRAME_KINDS; i++) {
        b->frame[i].len = 0;
    }
}

/* A delivery is dropped, for this reason. */
static void drop(struct broker *b, struct session *session, struct slice topic, enum metric reason)
{
    broker_metric(b, reason, 1);
    session->dropped++;
    if (b->traces) {
        trace_session(b, TRACE_DROP, session, topic, 0, metric_help(reason));
    }
}

static void trace_out(struct broker *b, const struct conn *conn, struct slice topic, struct slice payload, uint8_t qos,
                      bool retain)
{
    trace_event(b, &(struct trace_event){.kind = TRACE_PUBLISH_OUT,
                                         .qos = qos,
                                         .retain = retain,
                                         .client_id = session_client_id(conn->session),
                                         .topic = topic,
                                         .payload = payload,
                                         .address = &conn->peer});
}

/* Whole seconds left of a message's life, at least one [MQTT-3.3.2-6]. */
static uint32_t expiry_left_s(uint64_t expires_at_ms, uint64_t wall_ms)
{
    uint64_t left = expires_at_ms > wall_ms ? (expires_at_ms - wall_ms + 999) / 1000 : 1;
    return left > UINT32_MAX ? UINT32_MAX : (uint32_t)left;
}

/* Whether a packet is above what the client takes. Most clients take all that MQTT allows, and most messages are far
 * below. */
static bool too_large(const struct conn *conn, const struct mqtt_delivery *d)
{
    return (conn->packet_bytes_max < MQTT_PACKET_BYTES_MAX || d->payload.len > MQTT_PACKET_BYTES_MAX / 2) &&
           mqtt_delivery_size(conn->version, d) > conn->packet_bytes_max;
}

/* Put one PUBLISH into the outbox; d has the payload of m, or m is NULL. Returns false if the client does not take
 * packets of this size [MQTT-3.1.2-24]. */
static bool send_publish(struct broker *b, struct conn *conn, struct mqtt_delivery *d, uint64_t topic_hash,
                         struct message *m)
{
    if (!mount_strip(conn, &d->topic)) { /* subscribed to through another listener */
        drop(b, conn->session, d->topic, METRIC_DROPPED_DENIED);
        return false;
    }
    if (too_large(conn, d)) {
        drop(b, conn->session, d->topic, METRIC_DROPPED_TOO_LARGE);
        return false;
    }
    struct alias_out *alias_out = conn->more ? conn->more->alias_out : NULL;
    if (alias_out) {
        d->topic_alias = alias_out_use(alias_out, topic_hash, d->topic.len, &d->alias_only);
        if (d->topic_alias && !d->alias_only && too_large(conn, d)) {
            alias_out_forget(alias_out, d->topic_alias); /* no room to say the number */
            d->topic_alias = 0;
        }
        broker_metric(b, METRIC_FEATURE_TOPIC_ALIAS_OUT, d->topic_alias != 0);
    }
    if (m && d->payload.len >= OUTBOX_SHARED_BYTES_MIN) {
        mqtt_delivery_encode_head(conn_out(conn), conn->version, d);
        conn_out_payload(conn, m);
    } else {
        mqtt_delivery_encode(conn_out(conn), conn->version, d);
    }
    broker_sent(b, MQTT_PUBLISH);
    metric_inc_at(b->shard->metrics, METRIC_CELL_SENT_BY_QOS, d->qos);
    broker_metric(b, METRIC_PUBLISH_SENT, 1);
    conn->send_msg++;
    broker_metric(b, METRIC_PUBLISH_BYTES_SENT, (int64_t)d->payload.len);
    if (b->traces) {
        trace_out(b, conn, d->topic, d->payload, d->qos, d->retain);
    }
    return true;
}

static void fill_delivery(struct mqtt_delivery *d, const struct publication *pub, uint64_t wall_ms)
{
    *d = (struct mqtt_delivery){
        .topic = pub->topic,
        .payload = pub->payload,
        .properties = pub->properties,
    };
    if (pub->expires_at_ms != MESSAGE_NEVER) {
        d->has_expiry = true;
        d->message_expiry_s = expiry_left_s(pub->expires_at_ms, wall_ms);
    }
}

/* Many connections get the same bytes: encode them once, copy them often. */
static bool send_shared_frame(struct broker *b, struct conn *conn, const struct publication *pub)
{
    enum frame_kind kind = conn->version == MQTT_V5 ? FRAME_V5 : FRAME_V3;
    struct buf *frame = &b->frame[kind];

    if (frame->len == 0) {
        struct mqtt_delivery d;
        fill_delivery(&d, pub, b->shard->wall_ms);
        if (too_large(conn, &d)) {
            return false; /* for send_publish to judge */
        }
        mqtt_delivery_encode(frame, conn->version, &d);
        if (frame->failed) {
            frame->failed = false;
            frame->len = 0;
            return false;
        }
    }
    if (frame->len > conn->packet_bytes_max) {
        drop(b, conn->session, pub->topic, METRIC_DROPPED_TOO_LARGE);
        return true;
    }
    buf_put(conn_out(conn), buf_slice(frame));
    broker_sent(b, MQTT_PUBLISH);
    metric_inc_at(b->shard->metrics, METRIC_CELL_SENT_BY_QOS, 0);
    broker_metric(b, METRIC_PUBLISH_SENT, 1);
    conn->send_msg++;
    broker_metric(b, METRIC_PUBLISH_BYTES_SENT, (int64_t)pub->payload.len);
    if (b->traces) {
        trace_out(b, conn, pub->topic, pub->payload, 0, false);
    }
    return true;
}

static int deliver_qos0(struct broker *b, struct session *session, struct publication *pub, const struct delivery *how)
{
    struct conn *conn = session->front;

    if (!conn) {
        drop(b, session, pub->topic, METRIC_DROPPED_OFFLINE);
        return -ENOTCONN;
    }
    if (conn_out_bytes(conn) > b->config->limits.max_outbox_bytes) {
        drop(b, session, pub->topic, METRIC_DROPPED_OUTBOX_FULL);
        return -EAGAIN;
    }
    bool large = pub->payload.len >= OUTBOX_SHARED_BYTES_MIN;
    if (how->shared_frame && !large && !how->retain && how->ids.len == 0 && !(conn->more && conn->more->alias_out) &&
        conn->listener->mount.len == 0 && send_shared_frame(b, conn, pub)) {
        return 0;
    }
    struct mqtt_delivery d;
    fill_delivery(&d, pub, b->shard->wall_ms);
    d.retain = how->retain;
    d.subscription_ids = how->ids;
    /* For one receiver the first copy is the last; when memory is out for a message of many, each gets its own copy. */
    struct message *m = large && how->shared_frame ? publication_message(pub) : pub->message;
    return send_publish(b, conn, &d, pub->topic_hash, m) ? 0 : -EMSGSIZE;
}

static void count_queue(struct broker *b, const struct queue *q, int64_t count, uint64_t bytes_before)
{
    broker_metric(b, METRIC_QUEUED, count);
    broker_metric(b, METRIC_QUEUED_BYTES, (int64_t)(q->bytes - bytes_before));
}

int deliver(struct broker *b, struct session *session, struct publication *pub, const struct delivery *how)
{
    uint8_t qos = how->qos < pub->qos ? how->qos : pub->qos; /* [MQTT-3.8.4-8] */

    if (session->open_version != b->policy->version && !access_receive(b, session, pub->topic, pub->topic_hash)) {
        drop(b, session, pub->topic, METRIC_DROPPED_DENIED);
        return -EACCES;
    }
    if (qos == 0) {
        return deliver_qos0(b, session, pub, how);
    }
    if (pub->again && repeat_known(b, pub, session)) {
        return 0;
    }
    struct message *message = publication_message(pub);
    if (!message) {
        drop(b, session, pub->topic, METRIC_DROPPED_NO_MEMORY);
        return -ENOMEM;
    }
    struct command command = {
        .type = COMMAND_PUBLISH,
        .session = session,
        .publish = {.message = message, .ids = how->ids, .share = how->share, .qos = qos, .retain = how->retain},
    };
    struct outcome outcome;
    uint64_t bytes_before = session->queue ? session->queue->bytes : 0;
    broker_apply(b, &command, &outcome);
    if (outcome.share_settled) {
        share_settled(b, session, outcome.share_settled);
    }
    if (outcome.replaced_oldest) {
        drop(b, session, pub->topic, METRIC_DROPPED_QUEUE_FULL);
    }
    if (outcome.error) {
        drop(b, session, pub->topic,
             outcome.error == -ENOBUFS  ? METRIC_DROPPED_QUEUE_FULL
             : outcome.error == -ENOSPC ? METRIC_DROPPED_DISK_FULL
                                        : METRIC_DROPPED_NO_MEMORY);
        return outcome.error;
    }
    count_queue(b, session->queue, outcome.replaced_oldest ? 0 : 1, bytes_before);
    if (session->front) {
        deliver_pump(session->front);
    }
    return 0;
}

/* Take an entry out that will not be sent. */
static void give_up(struct broker *b, struct session *session, uint64_t number)
{
    struct command command = {.type = COMMAND_DISCARD, .session = session, .number = number};
    struct outcome outcome;
    uint64_t bytes_before = session->queue->bytes;

    broker_apply(b, &command, &outcome);
    count_queue(b, session->queue, -1, bytes_before);
    if (outcome.share_settled) {
        share_settled(b, session, outcome.share_settled);
    }
}

/* Send one entry of the queue, or give it up. */
static void send_entry(struct broker *b, struct conn *conn, struct queue_entry *e, uint64_t number)
{
    struct session *session = conn->session;

    if (e->state == QUEUE_RELEASED) { /* [MQTT-4.3.3-6]: PUBREL again, never PUBLISH */
        mqtt_ack_encode_plain(conn_out(conn), MQTT_PUBREL, queue_packet_id(number));
        broker_sent(b, MQTT_PUBREL);
        queue_mark_sent(session->queue, number);
        return;
    }
    struct publication pub;
    publication_of_message(&pub, e->message);
    if (!e->sent_before && pub.expires_at_ms <= b->shard->wall_ms) { /* [MQTT-3.3.2-5], [MQTT-4.3.3-7] once sent */
        drop(b, session, pub.topic, METRIC_DROPPED_EXPIRED);
        give_up(b, session, number);
        return;
    }
    if (session->open_version != b->policy->version && !access_receive(b, session, pub.topic, pub.topic_hash)) {
        drop(b, session, pub.topic, METRIC_DROPPED_DENIED); /* it may have been sent before: it is not sent again */
        give_up(b, session, number);
        return;
    }
    struct mqtt_delivery d;
    fill_delivery(&d, &pub, b->shard->wall_ms);
    d.qos = e->qos;
    d.retain = e->retain;
    d.dup = e->sent_before; /* [MQTT-3.3.1-1] */
    d.packet_id = queue_packet_id(number);
    if (e->extra) {
        d.subscription_ids = slice_of(e->extra->ids, e->extra->ids_len);
    }
    if (!send_publish(b, conn, &d, pub.topic_hash, e->message)) { /* [MQTT-3.1.2-25] */
        give_up(b, session, number);
        return;
    }
    queue_mark_sent(session->queue, number);
}

void deliver_pump(struct conn *conn)
{
    struct broker *b = broker_of(conn);
    struct session *session = conn->session;

    if (!session || !session->queue || conn->state != CONN_OPEN) {
        return;
    }
    while (conn_out_bytes(conn) <= b->config->limits.max_outbox_bytes / 2) {
        uint64_t number;
        struct queue_entry *e = queue_next(session->queue, session->receive_max, &number);
        if (!e) {
            break;
        }
        send_entry(b, conn, e, number);
    }
    if (queue_wants_page(session->queue)) {
        page_want(b, session);
    }
}
