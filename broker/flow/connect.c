/* The way of a CONNECT (3.1, 3.2): judge it and find out who it is (login.c) on the shard that accepted the connection,
 * move to the home of its client id, claim the session, answer. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "broker/conn/gate.h"
#include "broker/conn/pipe.h"
#include "broker/flow/access.h"
#include "broker/flow/cluster.h"
#include "broker/flow/dispatch.h"
#include "broker/flow/durable.h"
#include "broker/flow/flow.h"
#include "broker/flow/login.h"
#include "proto/base/clock.h"
#include "proto/base/log.h"
#include "proto/base/utf8.h"
#include "proto/mqtt/connect.h"
#include "proto/mqtt/topic.h"

void connect_arrived(struct conn *conn)
{
    timer_set(conn->shard->timers, &conn->timer,
              conn->shard->now_ms + broker_of(conn)->config->limits.connect_timeout_ms);
}

/* ---- no ---- */

#define REFUSAL_BYTES_MAX 64u /* a CONNACK with one of our reason strings */
#define REFUSAL_BYTES_MIN 5u  /* and without */

/* Refuse in the client's own words (3.2.2.2): a reason code, a return code, or silence. */
static void refuse(struct conn *conn, uint8_t version, enum mqtt_reason reason, const struct mqtt_connect *c,
                   const char *why)
{
    struct broker *b = broker_of(conn);
    struct mqtt_connack connack = {.code = (uint8_t)reason};
    char peer[CONN_PEER_TEXT];
    bool answer = version == MQTT_V5;

    log_event(LOG_INFO, "connect_refused", {"client", LOG_SLICE(c->client_id)},
              {"peer", LOG_STR(conn_peer(conn, peer))}, {"version", LOG_INT(version)},
              {"reason", LOG_STR(mqtt_reason_name(reason))}, {"detail", LOG_STR(why ? why : "")});
    broker_metric(b, METRIC_CONNECTS_REFUSED, 1);
    metric_inc_at(b->shard->metrics, METRIC_CELL_REFUSED_BY_REASON, (uint8_t)reason);
    mishap_refused(conn, c->client_id, (uint8_t)reason, why);
    if (version != MQTT_V5) {
        connack.code = mqtt_connack_code_v3(reason);
        answer = connack.code != 0 && (version != 0 || reason == MQTT_UNSUPPORTED_PROTOCOL_VERSION);
    } else if (mqtt_property_has(&c->properties, MQTT_PROP_MAXIMUM_PACKET_SIZE) &&
               c->properties.packet_bytes_max < REFUSAL_BYTES_MIN) {
        answer = false;
    } else if (!mqtt_property_has(&c->properties, MQTT_PROP_MAXIMUM_PACKET_SIZE) ||
               c->properties.packet_bytes_max >= REFUSAL_BYTES_MAX) { /* [MQTT-3.2.2-19] */
        connack.properties.reason_string = slice_str(mqtt_reason_name(reason));
        connack.properties.present |= 1ull << MQTT_PROP_REASON_STRING;
    }
    if (answer) {
        mqtt_connack_encode(conn_out(conn), version == MQTT_V5 ? MQTT_V5 : MQTT_V311, &connack);
        broker_sent(b, MQTT_CONNACK);
        conn_finish(conn);
    } else {
        conn_hang_up(conn);
    }
}

static enum mqtt_reason check_will(const struct broker *b, const struct mqtt_will *will)
{
    if (!will->present) {
        return MQTT_SUCCESS;
    }
    if (will->qos > b->config->mqtt.maximum_qos) { /* [MQTT-3.2.2-12] */
        return MQTT_QOS_NOT_SUPPORTED;
    }
    if (will->retain && !b->config->mqtt.retain_available) { /* [MQTT-3.2.2-13] */
        return MQTT_RETAIN_NOT_SUPPORTED;
    }
    if (!mqtt_topic_valid(will->topic, b->config->mqtt.max_topic_levels)) {
        return MQTT_TOPIC_NAME_INVALID;
    }
    if (will->topic.len >= 5 && memcmp(will->topic.ptr, "$SYS/", 5) == 0) {
        return MQTT_NOT_AUTHORIZED;
    }
    if (mqtt_property_has(&will->properties, MQTT_PROP_RESPONSE_TOPIC) &&
        !mqtt_topic_valid(will->properties.response_topic, UINT16_MAX)) {
        return MQTT_PROTOCOL_ERROR;
    }
    if (b->config->mqtt.validate_payload_format && mqtt_property_has(&will->properties, MQTT_PROP_PAYLOAD_FORMAT) &&
        will->properties.payload_format == 1 && !utf8_valid(will->payload)) {
        return MQTT_PAYLOAD_FORMAT_INVALID;
    }
    return MQTT_SUCCESS;
}

static enum mqtt_reason check_client_id(const struct broker *b, const struct mqtt_connect *c)
{
    if (c->client_id.len > b->config->mqtt.max_client_id_bytes) {
        return MQTT_CLIENT_IDENTIFIER_NOT_VALID;
    }
    if (c->client_id.len == 0 && (c->version == MQTT_V31 || (c->version == MQTT_V311 && !c->clean_start))) {
        return MQTT_CLIENT_IDENTIFIER_NOT_VALID; /* [MQTT311-3.1.3-8] */
    }
    return MQTT_SUCCESS;
}

static bool version_taken(const struct conn *conn, enum mqtt_version version)
{
    unsigned bit = version == MQTT_V5 ? VERSION_5_0 : version == MQTT_V311 ? VERSION_3_1_1 : VERSION_3_1;
    return conn->listener->config->version_bits & bit;
}

static enum mqtt_reason check_connect(const struct broker *b, const struct conn *conn, const struct mqtt_connect *c)
{
    enum mqtt_reason reason =
        version_taken(conn, c->version) ? check_client_id(b, c) : MQTT_UNSUPPORTED_PROTOCOL_VERSION;

    if (reason == MQTT_SUCCESS) {
        reason = check_will(b, &c->will);
    }
    if (reason == MQTT_SUCCESS &&
        (c->properties.user_count + c->will.properties.user_count > b->config->limits.max_user_properties ||
         c->properties.user_bytes + c->will.properties.user_bytes > b->config->limits.max_user_property_bytes)) {
        reason = MQTT_QUOTA_EXCEEDED;
    }
    return reason;
}

/* Once it is known who this is: what is then still against it. */
static enum mqtt_reason check_known(struct broker *b, const struct conn *conn, const struct mqtt_connect *c,
                                    const char **ret_why)
{
    struct ban_list *bans = b->node->auth->bans;
    const struct principal *p = login_principal(conn);
    struct slice demanded = login_client_id(conn);

    if (demanded.len > 0 && !slice_eq(demanded, c->client_id)) {
        *ret_why = "not the client id that the certificate or token is for";
        return MQTT_CLIENT_IDENTIFIER_NOT_VALID;
    }
    if (ban_has(bans, BAN_CLIENT_ID, c->client_id, b->shard->wall_ms) ||
        (p && p->user.len > 0 && ban_has(bans, BAN_USER, p->user, b->shard->wall_ms))) {
        *ret_why = "banned";
        return MQTT_BANNED;
    }
    return MQTT_SUCCESS;
}

/* ---- yes ---- */

#define ASSIGNED_BYTES 26

/* A client id for a client that brought none [MQTT-3.1.3-6]: random, and at home on this shard, so that it need not
 * move. */
static struct slice assign_client_id(const struct broker *b, char text[ASSIGNED_BYTES + 1])
{
    struct slice id;
    do {
        uint64_t random[2];
        clock_random(random, sizeof(random));
        snprintf(text, ASSIGNED_BYTES + 1, "tern-%016llx%05llx", (unsigned long long)random[0],
                 (unsigned long long)(random[1] & 0xfffff));
        id = slice_of(text, ASSIGNED_BYTES);
    } while (broker_home(b, broker_hash(b, id)) != b->shard->index);
    return id;
}

static struct will *make_will(struct broker *b, const struct conn *conn, const struct mqtt_connect *c)
{
    const struct mqtt_will *w = &c->will;
    struct slice topic = mount_topic(b, conn, w->topic);
    struct will *will = calloc(1, sizeof(*will) + c->client_id.len);
    if (!will || !topic.ptr) {
        free(will);
        return NULL;
    }
    memcpy(will->client_id, c->client_id.ptr, c->client_id.len);
    will->client_id_len = (uint32_t)c->client_id.len;
    will->principal = principal_ref(login_principal(conn));
    will->message = message_new(&(struct message_source){
        .topic = topic,
        .payload = w->payload,
        .properties_raw = w->properties.raw,
        .topic_hash = broker_hash(b, topic),
        .expires_at_ms = MESSAGE_NEVER,
        .qos = w->qos,
        .retain = w->retain,
    });
    if (!will->message) {
        will_free(will);
        return NULL;
    }
    will->has_expiry = mqtt_property_has(&w->properties, MQTT_PROP_MESSAGE_EXPIRY);
    will->expiry_s = w->properties.message_expiry_s;
    will->delay_s = mqtt_property_has(&w->properties, MQTT_PROP_WILL_DELAY) ? w->properties.will_delay_s : 0;
    broker_metric(b, METRIC_FEATURE_WILL_DELAY, will->delay_s > 0);
    return will;
}

/* Session Expiry Interval as it will be held, of what was asked for (3.1.2.11.2; Clean Session in 3.x). */
static uint32_t expiry_granted(const struct broker *b, const struct mqtt_connect *c)
{
    uint32_t asked = 0;

    if (c->version != MQTT_V5) {
        asked = c->clean_start ? 0 : MQTT_EXPIRY_NEVER; /* [MQTT311-3.1.2-4] [MQTT311-3.1.2-6] */
    } else if (mqtt_property_has(&c->properties, MQTT_PROP_SESSION_EXPIRY)) {
        asked = c->properties.session_expiry_s;
    }
    return asked < b->config->mqtt.max_session_expiry_s ? asked : (uint32_t)b->config->mqtt.max_session_expiry_s;
}

static uint16_t receive_max_granted(const struct broker *b, const struct mqtt_connect *c)
{
    uint32_t max = mqtt_property_has(&c->properties, MQTT_PROP_RECEIVE_MAX) ? c->properties.receive_max : 65535;
    return (uint16_t)(max < b->config->mqtt.max_inflight ? max : b->config->mqtt.max_inflight);
}

static bool in_list(const char *list, struct slice wanted)
{
    struct slice rest = slice_str(list), word;

    while (config_list_next(&rest, &word)) {
        if (slice_eq(word, wanted)) {
            return true;
        }
    }
    return false;
}

/* Whether a session that is made now is to survive the node's end. */
static bool durable_wanted(const struct broker *b, const struct conn *conn, const struct mqtt_connect *c)
{
    const struct principal *p = login_principal(conn);

    return b->node->store && expiry_granted(b, c) > 0 && conn->listener->config->durability == DURABILITY_DISK &&
           !(p && p->user.len > 0 && in_list(b->config->memory_users, p->user));
}

/* Find or make the session. The earlier connection of the same client, always on this very shard, is sent away first
 * [MQTT-3.1.4-3]. */
static enum mqtt_reason claim(struct broker *b, struct conn *conn, const struct mqtt_connect *c, struct outcome *out)
{
    uint64_t hash = broker_hash(b, c->client_id);
    struct group *group = &b->groups[group_of(hash)];

    recover_turn(b); /* it may come in the very first turn */
    struct session *earlier = group_find(group, c->client_id, hash);
    struct command command = {.type = COMMAND_CLAIM, .wall_ms = b->shard->wall_ms};

    *out = (struct outcome){0}; /* the caller settles what has ended, whatever the answer */
    bool foreign = earlier && !principal_same(earlier->principal, login_principal(conn));
    if (foreign && b->config->auth.client_id_binding == BINDING_REFUSE) {
        return MQTT_CLIENT_IDENTIFIER_NOT_VALID;
    }
    command.claim = (struct command_claim){
        .client_id = c->client_id,
        .hash = hash,
        .clean_start = c->clean_start || (foreign && b->config->auth.client_id_binding == BINDING_REPLACE),
        .expiry_s = expiry_granted(b, c),
        .receive_max = receive_max_granted(b, c),
        .durable = durable_wanted(b, conn, c),
        .will = c->will.present ? make_will(b, conn, c) : NULL,
        .principal = login_principal(conn),
    };
    bool logged = command.claim.durable || (earlier && earlier->durable);
    if ((c->will.present && !command.claim.will) || (logged && gate_make(conn) != 0)) {
        will_free(command.claim.will);
        return MQTT_SERVER_UNAVAILABLE;
    }
    if (command.claim.will && !access_will(b, command.claim.will)) {
        will_free(command.claim.will);
        broker_metric(b, METRIC_PUBLISH_DENIED, 1);
        return MQTT_NOT_AUTHORIZED;
    }
    if (earlier && earlier->front) {
        broker_metric(b, METRIC_TAKEOVERS, 1);
        conn->more->takes_over = true;
        goodbye(earlier->front, MQTT_SESSION_TAKEN_OVER, NULL);
    }
    journal_apply(b, group, &command, out);
    if (out->error) {
        will_free(command.claim.will);
        return out->error == -EDQUOT || out->error == -ENOSPC ? MQTT_QUOTA_EXCEEDED : MQTT_SERVER_UNAVAILABLE;
    }
    broker_metric(b, METRIC_SESSIONS, !out->existed);
    return MQTT_SUCCESS;
}

static void set_number(struct mqtt_properties *p, enum mqtt_property_id id)
{
    p->present |= 1ull << id;
}

/* What a 5.0 client is told (3.2.2.3): only what differs from what it would assume. */
static void fill_connack(const struct broker *b, const struct conn *conn, const struct mqtt_connect *c,
                         struct mqtt_properties *p)
{
    const struct config *config = b->config;
    uint32_t asked = mqtt_property_has(&c->properties, MQTT_PROP_SESSION_EXPIRY) ? c->properties.session_expiry_s : 0;

    if ((p->session_expiry_s = expiry_granted(b, c)) != asked) {
        set_number(p, MQTT_PROP_SESSION_EXPIRY);
    }
    if ((p->receive_max = conn->in_receive_max) != UINT16_MAX) {
        set_number(p, MQTT_PROP_RECEIVE_MAX);
    }
    if ((p->maximum_qos = (uint8_t)config->mqtt.maximum_qos) < 2) { /* [MQTT-3.2.2-9] */
        set_number(p, MQTT_PROP_MAXIMUM_QOS);
    }
    if (!config->mqtt.retain_available) {
        set_number(p, MQTT_PROP_RETAIN_AVAILABLE);
    }
    p->packet_bytes_max = conn->in_bytes_max;
    set_number(p, MQTT_PROP_MAXIMUM_PACKET_SIZE);
    if ((p->topic_alias_max = conn->in_alias_max) > 0) {
        set_number(p, MQTT_PROP_TOPIC_ALIAS_MAX);
    }
    if (!config->mqtt.wildcard_available) {
        set_number(p, MQTT_PROP_WILDCARD_AVAILABLE);
    }
    if (!config->mqtt.shared_available) {
        set_number(p, MQTT_PROP_SHARED_AVAILABLE);
    }
    if (p->session_expiry_s > 0) { /* our own: the specification has no word for it */
        static const char disk[] = "\x26\0\x0a"
                                   "durability"
                                   "\0\x04"
                                   "disk";
        static const char memory[] = "\x26\0\x0a"
                                     "durability"
                                     "\0\x06"
                                     "memory";
        bool kept = conn->session ? conn->session->durable : durable_wanted(b, conn, c);
        p->user = kept ? slice_of(disk, sizeof(disk) - 1) : slice_of(memory, sizeof(memory) - 1);
    }
    if (config->mqtt.max_keep_alive_s && (c->keep_alive_s == 0 || c->keep_alive_s > config->mqtt.max_keep_alive_s)) {
        p->server_keep_alive_s = (uint16_t)config->mqtt.max_keep_alive_s;
        set_number(p, MQTT_PROP_SERVER_KEEP_ALIVE);
    }
    if (mqtt_property_has(&c->properties, MQTT_PROP_REQUEST_RESPONSE_INFO) && c->properties.request_response_info &&
        config->mqtt.response_information[0] != '\0') { /* [MQTT-3.1.2-28] */
        p->response_info = slice_str(config->mqtt.response_information);
        set_number(p, MQTT_PROP_RESPONSE_INFO);
    }
}

/* What was agreed with the client goes into its connection. Returns 0 or -ENOMEM. */
static int settle_terms(struct broker *b, struct conn *conn, const struct mqtt_connect *c)
{
    const struct mqtt_properties *p = &c->properties;
    uint32_t keep_alive_s = c->keep_alive_s;

    if (c->version == MQTT_V5 && b->config->mqtt.max_keep_alive_s &&
        (keep_alive_s == 0 || keep_alive_s > b->config->mqtt.max_keep_alive_s)) {
        keep_alive_s = (uint32_t)b->config->mqtt.max_keep_alive_s; /* [MQTT-3.2.2-21] */
    }
    conn->version = (uint8_t)c->version;
    conn->keep_alive_s = (uint16_t)keep_alive_s;
    conn->in_receive_max = (uint16_t)b->config->mqtt.receive_maximum;
    conn->in_alias_max = (uint16_t)b->config->mqtt.topic_alias_maximum;
    if (mqtt_property_has(p, MQTT_PROP_MAXIMUM_PACKET_SIZE)) {
        conn->packet_bytes_max =
            p->packet_bytes_max < MQTT_PACKET_BYTES_MAX ? p->packet_bytes_max : MQTT_PACKET_BYTES_MAX;
    }
    if (mqtt_property_has(p, MQTT_PROP_REQUEST_PROBLEM_INFO)) {
        conn->problem_info = p->request_problem_info != 0;
    }
    if (mqtt_property_has(p, MQTT_PROP_TOPIC_ALIAS_MAX) && p->topic_alias_max > 0 &&
        b->config->mqtt.topic_alias_out > 0) {
        uint32_t max =
            p->topic_alias_max < b->config->mqtt.topic_alias_out ? p->topic_alias_max : b->config->mqtt.topic_alias_out;
        struct conn_more *more = conn_more(conn);
        if (!more || (!more->alias_out && !(more->alias_out = alias_out_new((uint16_t)max)))) {
            return -ENOMEM;
        }
    }
    broker_metric(b, METRIC_FEATURE_SESSION_EXPIRY, mqtt_property_has(p, MQTT_PROP_SESSION_EXPIRY));
    broker_metric(b, METRIC_FEATURE_RECEIVE_MAX, mqtt_property_has(p, MQTT_PROP_RECEIVE_MAX));
    return 0;
}

static void encode_connack(const struct broker *b, const struct conn *conn, const struct mqtt_connect *c, bool present,
                           bool assigned, struct buf *out)
{
    struct mqtt_connack connack = {.session_present = present && c->version != MQTT_V31}; /* 3.1 has no such flag */

    if (c->version == MQTT_V5) {
        fill_connack(b, conn, c, &connack.properties);
        login_connack(conn, &connack.properties);
        if (assigned) { /* [MQTT-3.2.2-16] */
            connack.properties.assigned_client_id = c->client_id;
            set_number(&connack.properties, MQTT_PROP_ASSIGNED_CLIENT_ID);
        }
    }
    mqtt_connack_encode(out, c->version, &connack);
}

/* Whether the client may be sent its CONNACK: nothing in it can be left away [MQTT-3.1.2-24]. */
static bool connack_fits(const struct broker *b, const struct conn *conn, const struct mqtt_connect *c, bool assigned)
{
    struct buf connack = {0};

    if (conn->packet_bytes_max == MQTT_PACKET_BYTES_MAX) {
        return true;
    }
    encode_connack(b, conn, c, false, assigned, &connack);
    bool fits = connack.len <= conn->packet_bytes_max;
    buf_deinit(&connack);
    return fits;
}

static void log_connected(const struct conn *conn, const struct mqtt_connect *c, bool present)
{
    const struct principal *p = conn->session->principal;
    char peer[CONN_PEER_TEXT];

    log_event(LOG_INFO, "client_connected", {"client", LOG_SLICE(c->client_id)},
              {"peer", LOG_STR(conn_peer(conn, peer))}, {"listener", LOG_STR(conn->listener->name)},
              {"user", LOG_SLICE(p ? p->user : SLICE(""))}, {"version", LOG_INT(c->version)},
              {"clean", LOG_INT(c->clean_start)}, {"keepalive", LOG_INT(conn->keep_alive_s)},
              {"present", LOG_INT(present)});
}

/* At home: from here on the client is served. */
static void open_session(struct broker *b, struct conn *conn, const struct mqtt_connect *c, bool assigned)
{
    struct outcome out;

    if (settle_terms(b, conn, c) != 0) {
        refuse(conn, (uint8_t)c->version, MQTT_SERVER_UNAVAILABLE, c, "out of memory");
        return;
    }
    if (!connack_fits(b, conn, c, assigned)) {
        refuse(conn, (uint8_t)c->version, MQTT_PACKET_TOO_LARGE, c, NULL);
        return;
    }
    enum mqtt_reason reason = claim(b, conn, c, &out);
    if (reason != MQTT_SUCCESS) {
        refuse(conn, (uint8_t)c->version, reason, c,
               reason == MQTT_CLIENT_IDENTIFIER_NOT_VALID ? "the session is another user's"
               : reason == MQTT_NOT_AUTHORIZED            ? "the will may not be published"
                                                          : NULL);
        goodbye_session(b, &out);
        return;
    }
    struct session *session = out.session;
    session->front = conn;
    conn->session = session;
    conn->clean = c->clean_start;
    if (session->durable) {
        gate_close(conn, GATE_THIS_TURN);
    }
    encode_connack(b, conn, c, out.existed, assigned, conn_out(conn)); /* [MQTT-3.2.0-1]: before anything else */
    broker_sent(b, MQTT_CONNACK);
    log_connected(conn, c, out.existed);
    broker_metric(b, METRIC_CONNECTS, 1);
    metric_inc_at(b->shard->metrics, METRIC_CELL_CONNECTS_BY_VERSION, (unsigned)conn->version - MQTT_V31);
    broker_metric(b, METRIC_CONNECTED, 1);
    metric_observe(b->shard->metrics, METRIC_HISTOGRAM_CONNECT, b->shard->now_ns - conn->more->accepted_ns);
    if (conn->more->takes_over) {
        metric_observe(b->shard->metrics, METRIC_HISTOGRAM_TAKEOVER, b->shard->now_ns - conn->more->accepted_ns);
    }
    if (ban_connected(b->node->auth->bans, c->client_id, b->shard->wall_ms)) {
        log_event(LOG_WARN, "banned", {"client", LOG_SLICE(c->client_id)},
                  {"reason", LOG_STR("connects over and over")});
    }
    claim_tell(b, session, c->clean_start);
    login_opened(conn);
    conn_opened(conn);
    goodbye_watch(conn);
    goodbye_session(b, &out); /* of an earlier session that Clean Start has ended */
    access_visit(b, session);
    if (conn->state != CONN_OPEN) {
        return;
    }
    share_online(b, session, true);
    deliver_pump(conn); /* [MQTT-4.4.0-1] */
    replay_wake(b, session);
}

/* Whether the will may be published, as far as the HTTP service decides that. Returns false if it may not, or the
 * answer is not there yet. */
static bool admit_will(struct broker *b, struct conn *conn, const struct mqtt_connect *c)
{
    struct acl_request request = {.action = ACL_PUBLISH, .qos = c->will.qos, .retain = c->will.retain};

    request.topic = mount_topic(b, conn, c->will.topic);
    enum acl_verdict verdict =
        request.topic.ptr ? access_will_ask(b, conn, login_principal(conn), c->client_id, &request) : ACL_DENY;
    if (verdict == ACL_DENY) {
        broker_metric(b, METRIC_PUBLISH_DENIED, 1);
        refuse(conn, (uint8_t)c->version, MQTT_NOT_AUTHORIZED, c, "the will may not be published");
    }
    return verdict == ACL_ALLOW;
}

/* It goes to the home shard of its client id, where the CONNECT, still in its buffer, is read again. */
static void move_home(struct broker *b, struct conn *conn, unsigned home, const struct mqtt_connect *c)
{
    struct mail mail = {.kind = MAIL_CONN, .ptr = conn};

    if (!conn_may_move(conn)) { /* TLS or WebSocket has still something to send from here */
        conn->again = true;
    } else if (shard_post(b->shard, home, &mail) != 0) {
        refuse(conn, (uint8_t)c->version, MQTT_SERVER_BUSY, c, NULL);
    } else {
        conn_detach(conn);
    }
}

/* Who this is, and what is against it. Returns false if it is refused, or the answer is not there yet. */
static bool admit(struct broker *b, struct conn *conn, const struct mqtt_frame *frame, struct mqtt_connect *c,
                  bool *ret_assign, char assigned[ASSIGNED_BYTES + 1])
{
    enum mqtt_reason reason;
    const char *why = NULL;

    switch (login_check(conn, c, frame, &reason, &why)) {
    case LOGIN_NO:
        refuse(conn, (uint8_t)c->version, reason, c, why);
        return false;
    case LOGIN_AGAIN:
    case LOGIN_SENT:
        return false;
    case LOGIN_YES:
        break;
    }
    *ret_assign = c->client_id.len == 0;
    if (*ret_assign && login_client_id(conn).len > 0) {
        c->client_id = login_client_id(conn);
    } else if (*ret_assign) {
        c->client_id = assign_client_id(b, assigned);
    }
    reason = check_known(b, conn, c, &why);
    if (reason != MQTT_SUCCESS) {
        refuse(conn, (uint8_t)c->version, reason, c, why);
    }
    return reason == MQTT_SUCCESS;
}

/* A client that wants its session back, which is not here: perhaps another node has it. Returns true if its connection
 * goes on there, or the answer is not there yet. */
static bool goes_elsewhere(struct broker *b, struct conn *conn, const struct mqtt_frame *frame,
                           const struct mqtt_connect *c)
{
    unsigned neighbour;

    if (!b->cluster || c->clean_start || conn_pipe_of(conn)) { /* who was sent here stays */
        return false;
    }
    switch (seek_session(conn, c->client_id, &neighbour)) {
    case SEEK_NOWHERE:
        return false;
    case SEEK_PENDING:
        return true;
    case SEEK_THERE:
        break;
    }
    if (attach_begin(conn, neighbour, frame, c) != 0) {
        refuse(conn, (uint8_t)c->version, MQTT_SERVER_UNAVAILABLE, c, "the way to its session is not open");
    }
    return true;
}

bool connect_from_client(struct conn *conn, const struct mqtt_frame *frame)
{
    struct broker *b = broker_of(conn);
    struct mqtt_connect c = {0};
    uint8_t version = 0;
    char assigned[ASSIGNED_BYTES + 1];
    bool assign;
    enum mqtt_reason reason = mqtt_connect_decode(frame->body, frame->flags, &version, &c);

    if (reason == MQTT_SUCCESS) {
        reason = drain_refusal(b, conn) ? drain_refusal(b, conn) : check_connect(b, conn, &c);
    }
    if (reason != MQTT_SUCCESS) {
        refuse(conn, version, reason, &c, NULL);
        return false;
    }
    if (!admit(b, conn, frame, &c, &assign, assigned)) {
        return login_exchanging(conn) && conn->state == CONN_GUEST && !conn->paused;
    }
    unsigned home = broker_home(b, broker_hash(b, c.client_id));
    if (home != b->shard->index) {
        move_home(b, conn, home, &c);
        return false;
    }
    recover_turn(b); /* it may come in the very first turn */
    struct session *earlier =
        group_find(&b->groups[group_of(broker_hash(b, c.client_id))], c.client_id, broker_hash(b, c.client_id));
    if (!earlier && goes_elsewhere(b, conn, frame, &c)) {
        return false;
    }
    if (c.will.present && !admit_will(b, conn, &c)) {
        return false;
    }
    if (earlier && earlier->front && !conn->waited) {
        /* What the earlier connection has sent before it was given up may still lie in its socket: read that first. */
        conn->waited = conn->again = true;
        conn_pause(conn, PAUSE_BUSY);
        list_append(&b->claims_next, &conn->in_ready);
        return false;
    }
    open_session(b, conn, &c, assign);
    return conn->state == CONN_OPEN && !conn->paused;
}
