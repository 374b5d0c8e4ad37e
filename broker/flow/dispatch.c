#include "broker/flow/dispatch.h"

#include <assert.h>
#include <stdlib.h>

#include "broker/flow/cluster.h"
#include "broker/flow/flow.h"
#include "broker/flow/inquire.h"
#include "broker/flow/login.h"
#include "proto/base/log.h"
#include "proto/mqtt/control.h"

static bool ping(struct conn *conn, const struct mqtt_frame *frame)
{
    enum mqtt_reason reason = mqtt_ping_decode(frame->body, frame->flags);

    if (reason != MQTT_SUCCESS) {
        goodbye(conn, reason, "PINGREQ refused");
        return false;
    }
    mqtt_ping_encode(conn_out(conn), MQTT_PINGRESP); /* [MQTT-3.12.4-1] */
    broker_sent(broker_of(conn), MQTT_PINGRESP);
    return true;
}

/* Answers to a client that sends too fast for its own socket: stop reading until it has read. */
static bool mind_outbox(struct conn *conn, bool more)
{
    if (conn->state == CONN_OPEN && conn_out_bytes(conn) > broker_of(conn)->config->limits.max_outbox_bytes) {
        conn_pause(conn, PAUSE_OUTBOX);
        return false;
    }
    return more;
}

/* Between CONNECT and CONNACK, when the client has named an Authentication Method. */
static bool dispatch_login(struct conn *conn, const struct mqtt_frame *frame)
{
    if (frame->type == MQTT_AUTH) {
        return login_auth(conn, frame);
    }
    goodbye(conn, MQTT_PROTOCOL_ERROR, /* [MQTT-3.1.2-30] */
            frame->type == MQTT_DISCONNECT ? "DISCONNECT before CONNACK"
                                           : "neither AUTH nor DISCONNECT before CONNACK");
    return false;
}

static bool dispatch_packet(struct conn *conn, const struct mqtt_frame *frame)
{
    if (conn->state == CONN_GUEST) {
        if (login_exchanging(conn)) {
            return dispatch_login(conn, frame);
        }
        if (frame->type != MQTT_CONNECT) { /* [MQTT-3.1.0-1] */
            goodbye(conn, MQTT_PROTOCOL_ERROR, "first packet is not CONNECT");
            return false;
        }
        return connect_from_client(conn, frame);
    }
    assert(conn->state == CONN_OPEN && conn->session);
    switch (frame->type) {
    case MQTT_PUBLISH:
        return mind_outbox(conn, publish_from_client(conn, frame));
    case MQTT_PUBACK:
    case MQTT_PUBREC:
    case MQTT_PUBCOMP:
        return mind_outbox(conn, ack_from_client(conn, frame));
    case MQTT_PUBREL:
        return mind_outbox(conn, publish_release(conn, frame));
    case MQTT_SUBSCRIBE:
        return mind_outbox(conn, subscribe_from_client(conn, frame));
    case MQTT_UNSUBSCRIBE:
        return mind_outbox(conn, unsubscribe_from_client(conn, frame));
    case MQTT_PINGREQ:
        return mind_outbox(conn, ping(conn, frame));
    case MQTT_DISCONNECT:
        return disconnect_from_client(conn, frame);
    case MQTT_AUTH:
        return login_auth(conn, frame);
    case MQTT_CONNECT: /* [MQTT-3.1.0-2] */
        goodbye(conn, MQTT_PROTOCOL_ERROR, "second CONNECT");
        return false;
    case 0:
        goodbye(conn, MQTT_MALFORMED_PACKET, "packet type 0");
        return false;
    default: /* only a server may send the others */
        goodbye(conn, MQTT_PROTOCOL_ERROR, mqtt_type_name(frame->type));
        return false;
    }
}

static void dispatch_broken(struct conn *conn, enum mqtt_reason reason, const struct mqtt_frame *frame)
{
    if (conn->state == CONN_GUEST && frame->type != MQTT_CONNECT && !login_exchanging(conn)) {
        goodbye(conn, MQTT_PROTOCOL_ERROR, "first packet is not CONNECT");
        return;
    }
    goodbye(conn, reason, reason == MQTT_PACKET_TOO_LARGE ? "packet above mqtt.max_packet_size" : "no MQTT packet");
}

static void dispatch_drained(struct conn *conn)
{
    if (attach_is(conn)) {
        attach_drained(conn);
        return;
    }
    if (conn->state != CONN_OPEN || !conn->session) {
        return;
    }
    struct session *session = conn->session;
    if (conn->paused & PAUSE_OUTBOX && conn_out_bytes(conn) < broker_of(conn)->config->limits.max_outbox_bytes / 2) {
        conn_resume(conn, PAUSE_OUTBOX);
    }
    if (session->queue && session->queue->sent != session->queue->tail) {
        deliver_pump(conn);
        hold_release(broker_of(conn), session);
    }
    if (session->replays) {
        replay_wake(broker_of(conn), session);
    }
}

static void dispatch_freed(struct conn *conn)
{
    receipt_orphan(conn);
    login_free(conn);
    seek_end(conn);
    attach_lost(conn);
}

const struct conn_handler dispatch_conn_handler = {
    .packet = dispatch_packet,
    .broken = dispatch_broken,
    .lost = goodbye_lost,
    .timeout = goodbye_timeout,
    .drained = dispatch_drained,
    .elsewhere = attach_bytes,
    .freed = dispatch_freed,
};

static void arrived(struct shard *shard, struct conn *conn)
{
    if (conn_attach(conn, shard) == 0 && conn->state == CONN_GUEST) {
        connect_arrived(conn);
    }
}

void dispatch_mail(struct shard *shard, const struct mail *mail)
{
    struct broker *b = shard->broker;

    switch ((enum mail_kind)mail->kind) {
    case MAIL_CONN:
        arrived(shard, mail->ptr);
        break;
    case MAIL_PUBLISH:
        publish_from_shard(b, mail);
        break;
    case MAIL_PARCEL:
        parcel_open(b, mail);
        break;
    case MAIL_PARCEL_BACK:
        parcel_back(b, mail);
        break;
    case MAIL_PUBLISH_DONE:
        receipt_shard_done(b, mail->from, mail->n, mail->a);
        break;
    case MAIL_RECEIPT_HOLD:
        ((struct receipt *)mail->ptr)->waiting++;
        receipt_hold(mail->ptr);
        break;
    case MAIL_RECEIPT_SLOW:
        receipt_hold(mail->ptr);
        break;
    case MAIL_RECEIPT_SETTLE:
        receipt_settle(b, mail->ptr, mail->a);
        break;
    case MAIL_RECEIPT_REASON:
        ((struct receipt *)mail->ptr)->reason = (uint8_t)mail->n;
        break;
    case MAIL_ROUTE:
        route_requested(b, mail);
        break;
    case MAIL_ROUTE_DONE:
        route_done(b, mail);
        break;
    case MAIL_SHARE_JOIN:
    case MAIL_SHARE_JOINED:
    case MAIL_SHARE_LEAVE:
    case MAIL_SHARE_PRESENCE:
    case MAIL_SHARE_PUBLISH:
    case MAIL_SHARE_DELIVER:
    case MAIL_SHARE_SETTLED:
        share_mail(b, mail);
        break;
    case MAIL_RETAINED_BARRIER:
    case MAIL_RETAINED_PASSED:
    case MAIL_RETAINED_READY:
    case MAIL_RETAINED_PULL:
    case MAIL_RETAINED_PAGE:
    case MAIL_RETAINED_CLOSE:
    case MAIL_RETAINED_CLOSED:
        replay_mail(b, mail);
        break;
    case MAIL_INQUIRE:
    case MAIL_INQUIRED:
    case MAIL_INQUIRE_END:
        inquire_mail(b, mail);
        break;
    case MAIL_PEER_WIRE:
    case MAIL_NEIGHBOUR:
    case MAIL_NEIGHBOUR_LEFT:
    case MAIL_CLAIM:
    case MAIL_SHARE_LOAD:
    case MAIL_SEEK:
    case MAIL_FOUND:
    case MAIL_ATTACH:
    case MAIL_CATCHUP:
        cluster_mail(b, mail);
        break;
    }
}

void dispatch_discard(void *context, const struct mail *mail)
{
    (void)context;
    switch ((enum mail_kind)mail->kind) {
    case MAIL_CONN:
        conn_discard(mail->ptr);
        break;
    case MAIL_PUBLISH:
        message_unref(mail->ptr);
        break;
    case MAIL_PARCEL:
    case MAIL_PARCEL_BACK:
        free(mail->ptr);
        break;
    case MAIL_ROUTE:
    case MAIL_ROUTE_DONE:
        route_discard(mail);
        break;
    case MAIL_SHARE_JOIN:
    case MAIL_SHARE_JOINED:
    case MAIL_SHARE_PUBLISH:
    case MAIL_SHARE_DELIVER:
        share_discard(mail);
        break;
    case MAIL_INQUIRE:
        free(mail->ptr2);
        free(mail->ptr);
        break;
    case MAIL_INQUIRED:
        free(mail->ptr);
        break;
    case MAIL_PEER_WIRE:
    case MAIL_NEIGHBOUR:
    case MAIL_NEIGHBOUR_LEFT:
    case MAIL_CLAIM:
    case MAIL_SHARE_LOAD:
    case MAIL_SEEK:
    case MAIL_FOUND:
    case MAIL_ATTACH:
    case MAIL_CATCHUP:
        cluster_discard(mail);
        break;
    default: /* replays and receipts are freed by their owners */
        break;
    }
}
