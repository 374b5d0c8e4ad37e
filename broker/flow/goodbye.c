/* How connections and sessions end: DISCONNECT both ways (3.14), lost peers, timeouts, expiry, wills (3.1.2.5). */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "broker/flow/cluster.h"
#include "broker/flow/durable.h"
#include "broker/flow/flow.h"
#include "broker/flow/login.h"
#include "broker/flow/trace.h"
#include "proto/base/log.h"
#include "proto/mqtt/control.h"

#define TICKS_A_TURN 256u
#define EXPIRY_STEP_MS 60000u

void goodbye_session(struct broker *b, struct outcome *out)
{
    struct session *ended = out->ended;
    struct will *will = out->will;

    out->ended = NULL;
    out->will = NULL;
    if (ended) {
        broker_metric(b, METRIC_SESSIONS, -1);
        replay_forget(b, ended);
        subscribe_forget(b, ended);
        checkpoint_forget(b, ended);
        broker_metric(b, METRIC_QUEUED, ended->queue ? -(int64_t)queue_count(ended->queue) : 0);
        broker_metric(b, METRIC_QUEUED_BYTES, ended->queue ? -(int64_t)ended->queue->bytes : 0);
        session_free(ended);
    }
    publish_will(b, will);
}

void goodbye_arm(struct broker *b)
{
    uint64_t due = UINT64_MAX;

    for (unsigned g = b->shard->index; g < GROUPS; g += b->shard->count) {
        uint64_t group_due = group_due_ms(&b->groups[g]);
        due = group_due < due ? group_due : due;
    }
    if (due == UINT64_MAX) {
        timer_cancel(b->shard->timers, &b->due_timer);
        return;
    }
    uint64_t in_ms = due > b->shard->wall_ms ? due - b->shard->wall_ms : 0;
    timer_set(b->shard->timers, &b->due_timer, b->shard->now_ms + in_ms);
}

void goodbye_tick(struct timer *timer, uint64_t now_ms)
{
    struct broker *b = CONTAINER_OF(timer, struct broker, due_timer);
    unsigned ticks = 0;

    (void)now_ms;
    for (unsigned g = b->shard->index; g < GROUPS; g += b->shard->count) {
        while (group_due_ms(&b->groups[g]) <= b->shard->wall_ms && ticks++ < TICKS_A_TURN) {
            struct command command = {.type = COMMAND_TICK, .wall_ms = b->shard->wall_ms};
            struct outcome out;
            journal_apply(b, &b->groups[g], &command, &out);
            if (out.ended) {
                broker_metric(b, METRIC_SESSIONS_EXPIRED, 1);
                log_event(LOG_INFO, "session_expired", {"client", LOG_SLICE(session_client_id(out.ended))});
            }
            goodbye_session(b, &out);
        }
    }
    goodbye_arm(b);
}

/* How a connection lets go of its session. */
struct parting {
    bool discard_will;
    bool set_expiry;
    uint32_t expiry_s;
};

/* Separate a connection from everything that belongs to its session. The connection itself stays. */
static void detach(struct conn *conn, const struct parting *parting)
{
    struct broker *b = broker_of(conn);
    struct session *session = conn->session;
    struct command command = {.type = COMMAND_DETACH, .session = session};
    struct outcome out;

    attach_lost(conn);
    if (!session) {
        return;
    }
    receipt_orphan(conn);
    subscribe_conn_gone(conn);
    conn->session = NULL;
    session->front = NULL;
    session->since_s = (uint32_t)(b->shard->wall_ms / 1000);
    hold_release(b, session);
    share_online(b, session, false);
    share_hand_on(b, session);
    command.detach.discard_will = parting->discard_will;
    command.detach.set_expiry = parting->set_expiry;
    command.detach.expiry_s = parting->expiry_s;
    broker_apply(b, &command, &out);
    broker_metric(b, METRIC_CONNECTED, -1);
    goodbye_session(b, &out);
    goodbye_arm(b);
}

static void log_gone(struct conn *conn, enum log_level level, enum mqtt_reason code, const char *reason,
                     const char *text)
{
    char peer[CONN_PEER_TEXT];
    struct slice client = conn->session ? session_client_id(conn->session) : SLICE("");

    if (conn->session && broker_of(conn)->traces) {
        trace_session(broker_of(conn), TRACE_DISCONNECT, conn->session, SLICE(""), (uint8_t)code, text ? text : reason);
    }
    log_event(level, "client_disconnected", {"client", LOG_SLICE(client)}, {"peer", LOG_STR(conn_peer(conn, peer))},
              {"reason", LOG_STR(reason)}, {"detail", LOG_STR(text ? text : "")});
}

/* A last word for a 5.0 client, within its Maximum Packet Size [MQTT-3.14.2-3]. */
static void send_disconnect(struct broker *b, struct conn *conn, enum mqtt_reason reason, const char *text)
{
    struct mqtt_disconnect d = {.reason = (uint8_t)reason};
    struct buf *out = conn_out(conn);
    uint32_t before = out->len;

    if (text && conn->problem_info) {
        d.properties.reason_string = slice_str(text);
        d.properties.present |= 1ull << MQTT_PROP_REASON_STRING;
    }
    mqtt_disconnect_encode(out, MQTT_V5, &d);
    if (out->len - before > conn->packet_bytes_max && !out->failed) {
        out->len = before;
        d.properties.present = 0;
        mqtt_disconnect_encode(out, MQTT_V5, &d);
    }
    broker_sent(b, MQTT_DISCONNECT);
}

void goodbye(struct conn *conn, enum mqtt_reason reason, const char *text)
{
    struct broker *b = broker_of(conn);

    if (conn->state == CONN_FINISHING || conn->state == CONN_CLOSED) {
        return;
    }
    log_gone(conn, LOG_INFO, reason, mqtt_reason_name(reason), text);
    if (conn->session) {
        metric_inc_at(b->shard->metrics, METRIC_CELL_DISCONNECTS_BY_REASON, (uint8_t)reason);
        mishap_note(b, session_client_id(conn->session), (uint8_t)reason, text);
    }
    if (conn->state == CONN_GUEST) { /* [MQTT-3.14.0-1] */
        conn_hang_up(conn);
        return;
    }
    if (conn->version == MQTT_V5 && !attach_is(conn)) { /* there the last bytes may be half a packet */
        send_disconnect(b, conn, reason, text);
    }
    detach(conn, &(struct parting){0});
    if (conn_out_bytes(conn) > 0) {
        conn_finish(conn); /* [MQTT-3.14.4-2] */
    } else {               /* a 3.x client: there is no last word to be lost */
        conn_hang_up(conn);
    }
}

void goodbye_lost(struct conn *conn, int error)
{
    if (conn->state == CONN_FINISHING || conn->state == CONN_CLOSED) {
        if (error) {
            conn_drop(conn);
        }
        return;
    }
    log_gone(conn, conn->state == CONN_GUEST ? LOG_DEBUG : LOG_INFO, MQTT_UNSPECIFIED_ERROR, "connection lost",
             error ? strerror(-error) : "closed by the peer without DISCONNECT");
    if (conn->session) {
        metric_inc_at(conn->shard->metrics, METRIC_CELL_DISCONNECTS_BY_REASON, METRIC_DISCONNECT_LOST);
        mishap_note(broker_of(conn), session_client_id(conn->session), MQTT_UNSPECIFIED_ERROR,
                    error ? strerror(-error) : "closed by the peer without DISCONNECT");
    }
    detach(conn, &(struct parting){0});
    if (conn_has_last_word(conn)) {
        conn_finish(conn);
    } else {
        conn_drop(conn);
    }
}

bool disconnect_from_client(struct conn *conn, const struct mqtt_frame *frame)
{
    struct broker *b = broker_of(conn);
    struct mqtt_disconnect d;
    enum mqtt_reason reason = mqtt_disconnect_decode(frame->body, frame->flags, conn->version, true, &d);
    struct parting parting = {.discard_will = d.reason == MQTT_SUCCESS};

    if (reason == MQTT_SUCCESS && mqtt_property_has(&d.properties, MQTT_PROP_SESSION_EXPIRY)) {
        if (conn->session->expiry_s == 0 && d.properties.session_expiry_s != 0) { /* 3.14.2.2.2 */
            reason = MQTT_PROTOCOL_ERROR;
        }
        parting.set_expiry = true;
        parting.expiry_s = d.properties.session_expiry_s;
        if (parting.expiry_s > b->config->mqtt.max_session_expiry_s) {
            parting.expiry_s = (uint32_t)b->config->mqtt.max_session_expiry_s;
        }
    }
    if (reason != MQTT_SUCCESS) {
        goodbye(conn, reason, "DISCONNECT refused");
        return false;
    }
    log_gone(conn, LOG_INFO, (enum mqtt_reason)d.reason,
             d.reason == MQTT_SUCCESS ? "disconnected" : mqtt_reason_name(d.reason), "DISCONNECT received");
    metric_inc_at(b->shard->metrics, METRIC_CELL_DISCONNECTS_BY_REASON, METRIC_DISCONNECT_NORMAL);
    detach(conn, &parting);
    conn_finish(conn);
    return false;
}

/* One and a half times the Keep Alive [MQTT-3.1.2-22]. */
static uint64_t silence_ms(const struct conn *conn)
{
    return conn->keep_alive_s * 1500u;
}

void goodbye_timeout(struct conn *conn)
{
    struct broker *b = broker_of(conn);
    char peer[CONN_PEER_TEXT];

    if (conn->state == CONN_GUEST || attach_is(conn)) { /* or its session's node does not answer */
        log_event(LOG_INFO, "connect_timeout", {"peer", LOG_STR(conn_peer(conn, peer))});
        conn_drop(conn);
        return;
    }
    const struct principal *p = conn->session->principal;
    if (p && p->expires_at_ms <= b->shard->wall_ms) {
        broker_metric(b, METRIC_CLIENTS_REVOKED, 1);
        goodbye(conn, MQTT_NOT_AUTHORIZED, "the token or certificate has expired");
        return;
    }
    if (conn->paused & PAUSE_RATE && conn->more->read_at_ms <= b->shard->now_ms) {
        conn_resume(conn, PAUSE_RATE);
    }
    if (conn->keep_alive_s && !conn->paused && conn->heard_ms + silence_ms(conn) <= b->shard->now_ms) {
        goodbye(conn, MQTT_KEEP_ALIVE_TIMEOUT, NULL);
        return;
    }
    goodbye_watch(conn);
}

void goodbye_watch(struct conn *conn)
{
    struct broker *b = broker_of(conn);
    const struct principal *p = conn->session->principal;
    uint64_t now_ms = b->shard->now_ms, due_ms = UINT64_MAX;

    if (conn->keep_alive_s) { /* while nothing is read silence proves nothing */
        due_ms = (conn->paused ? now_ms : conn->heard_ms) + silence_ms(conn);
    }
    if (p && p->expires_at_ms != UINT64_MAX) {
        uint64_t left_ms = p->expires_at_ms > b->shard->wall_ms ? p->expires_at_ms - b->shard->wall_ms : 0;
        left_ms = left_ms < EXPIRY_STEP_MS ? left_ms : EXPIRY_STEP_MS; /* the wall clock may be set meanwhile */
        due_ms = now_ms + left_ms < due_ms ? now_ms + left_ms : due_ms;
    }
    if (conn->paused & PAUSE_RATE && conn->more->read_at_ms < due_ms) {
        due_ms = conn->more->read_at_ms;
    }
    if (due_ms == UINT64_MAX) {
        timer_cancel(b->shard->timers, &conn->timer);
    } else {
        timer_set(b->shard->timers, &conn->timer, due_ms);
    }
}

void goodbye_leave(struct conn *conn, enum mqtt_reason reason)
{
    if (conn->state != CONN_OPEN || !attach_is(conn) || (!attach_leaving(conn) && !attach_leave(conn, reason))) {
        goodbye(conn, reason, NULL);
    }
}

void goodbye_all(struct broker *b)
{
    for (struct list *at = b->conns.all.next, *next; at != &b->conns.all; at = next) {
        next = at->next;
        goodbye_leave(CONTAINER_OF(at, struct conn, in_shard), MQTT_SERVER_SHUTTING_DOWN);
    }
}
