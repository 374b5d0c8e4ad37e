/* Acknowledgements from a client for what it was sent: PUBACK, PUBREC, PUBCOMP (3.4, 3.5, 3.7). */
#include <errno.h>

#include "broker/flow/flow.h"

static enum command_type command_of(enum mqtt_type type, uint8_t reason)
{
    switch (type) {
    case MQTT_PUBACK:
        return COMMAND_ACK;
    case MQTT_PUBCOMP:
        return COMMAND_COMPLETE;
    default:
        return reason >= 0x80 ? COMMAND_REJECTED : COMMAND_RECEIVED; /* [MQTT-4.3.3-4] [MQTT-4.4.0-2] */
    }
}

static void answer_pubrec(struct broker *b, struct conn *conn, uint16_t packet_id, bool known)
{
    if (known || conn->version != MQTT_V5) {
        mqtt_ack_encode_plain(conn_out(conn), MQTT_PUBREL, packet_id);
    } else {
        struct mqtt_ack release = {.packet_id = packet_id, .reason = MQTT_PACKET_IDENTIFIER_NOT_FOUND};
        mqtt_ack_encode(conn_out(conn), MQTT_PUBREL, conn->version, &release);
    }
    broker_sent(b, MQTT_PUBREL);
}

bool ack_from_client(struct conn *conn, const struct mqtt_frame *frame)
{
    struct broker *b = broker_of(conn);
    struct session *session = conn->session;
    struct mqtt_ack ack;
    enum mqtt_reason reason = mqtt_ack_decode(frame->type, frame->body, frame->flags, conn->version, &ack);

    if (reason != MQTT_SUCCESS) {
        goodbye(conn, reason, "acknowledgement refused");
        return false;
    }
    struct command command = {
        .type = command_of(frame->type, ack.reason), .session = session, .packet_id = ack.packet_id};
    struct outcome outcome;
    uint64_t bytes_before = session->queue ? session->queue->bytes : 0;
    broker_apply(b, &command, &outcome);
    if (outcome.error == -EPROTO) {
        goodbye(conn, MQTT_PROTOCOL_ERROR, "acknowledgement does not fit the QoS of its message");
        return false;
    }
    if (command.type == COMMAND_RECEIVED) {
        answer_pubrec(b, conn, ack.packet_id, outcome.error == 0);
    }
    if (outcome.error == 0) {
        session->stalled = false;
        broker_metric(b, METRIC_QUEUED, command.type == COMMAND_RECEIVED ? 0 : -1);
        broker_metric(b, METRIC_QUEUED_BYTES, (int64_t)(session->queue->bytes - bytes_before));
        if (outcome.share_settled) {
            share_settled(b, session, outcome.share_settled);
        }
        deliver_pump(conn);
        hold_release(b, session);
        replay_wake(b, session);
    }
    return conn->state == CONN_OPEN && !conn->paused;
}
