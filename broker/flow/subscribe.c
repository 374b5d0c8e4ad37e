/* The way of a SUBSCRIBE and an UNSUBSCRIBE (3.8 to 3.11). */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "broker/flow/access.h"
#include "broker/flow/dispatch.h"
#include "broker/flow/flow.h"
#include "broker/flow/login.h"
#include "broker/flow/trace.h"
#include "proto/base/log.h"
#include "proto/mqtt/subscribe.h"
#include "proto/mqtt/topic.h"

/* What a SUBSCRIBE waits for. */
enum subscribe_stage {
    SUBSCRIBE_ROUTES,    /* every filter in the route table */
    SUBSCRIBE_SNAPSHOTS, /* the retained messages that are to be sent are known; then the SUBACK */
    SUBSCRIBE_RETAINED,  /* they are sent, or so many that the rest goes on behind what the client sends next */
};

/* A SUBSCRIBE on its way. Its connection reads nothing meanwhile, so that packets keep their order. */
struct subscribe_job {
    struct list in_broker;
    struct conn *conn; /* NULL when gone */
    enum subscribe_stage stage;
    uint32_t pending; /* answers that are awaited; one more while the stage is being begun */
    uint64_t started_ns;
    struct mqtt_subscribe packet; /* its filters lie in body */
    uint8_t *codes;               /* one a filter; inside the same allocation, like the next two */
    bool *replay;                 /* retained messages are to be sent for this filter */
    uint8_t body[];
};

static struct subscribe_job *job_new(struct conn *conn, const struct mqtt_subscribe *s)
{
    struct subscribe_job *job = calloc(1, sizeof(*job) + s->filters.len + 2 * (size_t)s->count);
    if (!job) {
        return NULL;
    }
    job->conn = conn;
    job->started_ns = conn->shard->now_ns;
    job->packet = *s;
    memcpy(job->body, s->filters.ptr, s->filters.len);
    job->packet.filters.ptr = job->body;
    job->codes = job->body + s->filters.len;
    job->replay = (bool *)(job->codes + s->count);
    job->pending = 1;
    list_append(&broker_of(conn)->jobs, &job->in_broker);
    return job;
}

static uint8_t code_of_error(int error)
{
    switch (error) {
    case -EDQUOT:
    case -ENOSPC:
        return MQTT_QUOTA_EXCEEDED;
    case -ENOMEM:
        return MQTT_IMPLEMENTATION_SPECIFIC_ERROR;
    default:
        return MQTT_UNSPECIFIED_ERROR;
    }
}

static struct subscription_options options_of(const struct broker *b, const struct subscribe_job *job,
                                              const struct mqtt_subscription *s)
{
    return (struct subscription_options){
        .id = job->packet.properties.subscription_id,
        .qos = (uint8_t)(s->qos < b->config->mqtt.maximum_qos ? s->qos : b->config->mqtt.maximum_qos),
        .retain_handling = s->retain_handling,
        .no_local = s->no_local,
        .retain_as_published = s->retain_as_published,
    };
}

/* Take back a subscription whose route could not be made. */
static void undo(struct broker *b, struct session *session, struct slice filter)
{
    struct command command = {.type = COMMAND_UNSUBSCRIBE, .session = session, .unsubscribe = filter};
    struct outcome outcome;

    broker_apply(b, &command, &outcome);
    if (outcome.subscription) {
        broker_metric(b, METRIC_SUBSCRIPTIONS, -1);
        if (topic_tree_unsubscribe(b->tree, outcome.subscription)) {
            route_withdraw(b, ROUTE_REMOVE, filter, 0);
        }
    }
}

static int subscribe_plain(struct broker *b, struct subscribe_job *job, uint32_t index,
                           const struct mqtt_subscription *s)
{
    struct command command = {.type = COMMAND_SUBSCRIBE, .session = job->conn->session};
    struct outcome outcome;

    command.subscribe.filter = s->filter;
    command.subscribe.options = options_of(b, job, s);
    broker_apply(b, &command, &outcome);
    if (outcome.error) {
        return outcome.error;
    }
    job->replay[index] =
        b->config->mqtt.retain_available &&
        (s->retain_handling == 0 || (s->retain_handling == 1 && !outcome.existed)); /* [MQTT-3.3.1-9] .. -11 */
    broker_metric(b, METRIC_SUBSCRIPTIONS, !outcome.existed);
    if (!outcome.announce && b->routes_pending == 0) {
        return 0;
    }
    struct route_wait wait = {.job = job, .index = index};
    job->pending++;
    int rc = route_announce(b, outcome.announce ? ROUTE_ADD : ROUTE_BARRIER, s->filter, NULL, &wait);
    if (rc) {
        job->pending--;
        undo(b, command.session, s->filter);
    }
    return rc;
}

static int subscribe_share(struct broker *b, struct subscribe_job *job, uint32_t index,
                           const struct mqtt_subscription *s, struct slice name, struct slice filter)
{
    struct command command = {.type = COMMAND_SHARE_JOIN, .session = job->conn->session};
    struct outcome outcome;

    command.share.name = name;
    command.share.filter = filter;
    command.share.options = options_of(b, job, s);
    broker_apply(b, &command, &outcome);
    if (outcome.error) {
        return outcome.error;
    }
    broker_metric(b, METRIC_FEATURE_SHARED, 1);
    job->pending++;
    int rc = share_subscribe(b, outcome.share, outcome.existed, job, index);
    if (rc) {
        job->pending--;
    }
    return rc;
}

/* Whether a filter may be subscribed to at all; MQTT_SUCCESS or the code for the SUBACK. */
static enum mqtt_reason check_filter(const struct broker *b, struct slice text, struct slice *ret_name,
                                     struct slice *ret_filter)
{
    int share = mqtt_share_split(text, ret_name, ret_filter);

    if (share < 0 || slice_eq(text, SLICE("$share")) ||
        !mqtt_filter_valid(*ret_filter, b->config->mqtt.max_topic_levels)) { /* [MQTT-4.8.2-1] [MQTT-4.8.2-2] */
        return MQTT_TOPIC_FILTER_INVALID;
    }
    if (share > 0 && !b->config->mqtt.shared_available) {
        return MQTT_SHARED_SUBSCRIPTIONS_NOT_SUPPORTED;
    }
    if (!b->config->mqtt.wildcard_available && mqtt_filter_has_wildcard(*ret_filter)) {
        return MQTT_WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED;
    }
    return MQTT_SUCCESS;
}

static void log_filter(const struct conn *conn, const char *event, struct slice filter, uint8_t code)
{
    if (broker_of(conn)->traces) {
        trace_session(broker_of(conn), event[0] == 's' ? TRACE_SUBSCRIBE : TRACE_UNSUBSCRIBE, conn->session, filter,
                      code, NULL);
    }
    log_event(LOG_DEBUG, event, {"client", LOG_SLICE(session_client_id(conn->session))}, {"filter", LOG_SLICE(filter)},
              {"code", LOG_INT(code)});
}

/* What the rules say of a filter; ACL_NONE: that is not known yet, the packet is handled again. */
static enum acl_verdict check_rules(struct broker *b, struct conn *conn, const struct mqtt_subscription *s,
                                    struct slice filter)
{
    struct acl_request request = {.action = ACL_SUBSCRIBE, .topic = filter, .qos = s->qos};
    enum acl_verdict verdict = access_subscribe(b, conn->session, filter, s->qos);

    return verdict == ACL_NONE ? access_ask(b, conn, &request, broker_hash(b, filter)) : verdict;
}

/* Whether the rules' answer is known for every filter. */
static bool rules_known(struct broker *b, struct conn *conn, struct mqtt_subscribe walk)
{
    struct mqtt_subscription sub;
    struct slice name, filter;

    while (*b->policy->rule_url && mqtt_subscribe_next(&walk, &sub)) {
        if (check_filter(b, sub.filter, &name, &filter) == MQTT_SUCCESS &&
            check_rules(b, conn, &sub, filter) == ACL_NONE) {
            return false;
        }
    }
    return true;
}

static void subscribe_one(struct broker *b, struct subscribe_job *job, uint32_t index,
                          const struct mqtt_subscription *s)
{
    struct slice name, filter;
    enum mqtt_reason reason = check_filter(b, s->filter, &name, &filter);

    if (reason == MQTT_SUCCESS && check_rules(b, job->conn, s, filter) != ACL_ALLOW) {
        broker_metric(b, METRIC_SUBSCRIBE_DENIED, 1);
        access_refused(b, job->conn->session, "subscribe", s->filter);
        reason = MQTT_NOT_AUTHORIZED;
        if (job->conn->version == MQTT_V31) { /* it has no code for failure: it is granted, and nothing comes */
            job->codes[index] = s->qos;
            return;
        }
    }
    if (reason != MQTT_SUCCESS) {
        job->codes[index] = (uint8_t)reason;
        return;
    }
    job->codes[index] = options_of(b, job, s).qos; /* [MQTT-3.8.4-7]; subscribe_settled may still change it */
    int rc = name.len > 0 ? subscribe_share(b, job, index, s, name, filter) : subscribe_plain(b, job, index, s);
    if (rc) {
        job->codes[index] = code_of_error(rc);
    }
}

static bool too_many_properties(const struct broker *b, const struct mqtt_subscribe *s)
{
    return s->properties.user_count > b->config->limits.max_user_properties ||
           s->properties.user_bytes > b->config->limits.max_user_property_bytes;
}

/* What closes the connection instead of being answered filter by filter. */
static enum mqtt_reason check_packet(struct broker *b, const struct conn *conn, const struct mqtt_subscribe *s)
{
    struct mqtt_subscribe walk = *s;
    struct mqtt_subscription sub;
    struct slice name, filter;

    if (too_many_properties(b, s)) {
        return MQTT_QUOTA_EXCEEDED;
    }
    while (mqtt_subscribe_next(&walk, &sub)) {
        if (sub.no_local && mqtt_share_split(sub.filter, &name, &filter) == 1) { /* [MQTT-3.8.3-4] */
            return MQTT_PROTOCOL_ERROR;
        }
        if (conn->version == MQTT_V31 && check_filter(b, sub.filter, &name, &filter) != MQTT_SUCCESS) {
            return MQTT_TOPIC_FILTER_INVALID; /* 3.1 has no code for failure */
        }
    }
    return MQTT_SUCCESS;
}

static void send_suback(struct broker *b, struct subscribe_job *job)
{
    struct mqtt_suback suback = {.packet_id = job->packet.packet_id, .codes = slice_of(job->codes, job->packet.count)};

    struct mqtt_subscribe walk = job->packet;
    struct mqtt_subscription sub;

    for (uint32_t i = 0; mqtt_subscribe_next(&walk, &sub); i++) {
        log_filter(job->conn, "subscribed", sub.filter, job->codes[i]);
    }
    mqtt_suback_encode(conn_out(job->conn), MQTT_SUBACK, job->conn->version, &suback);
    broker_sent(b, MQTT_SUBACK);
    metric_observe(b->shard->metrics, METRIC_HISTOGRAM_ROUTE, b->shard->now_ns - job->started_ns);
}

static void start_replays(struct broker *b, struct subscribe_job *job)
{
    struct mqtt_subscribe walk = job->packet;
    struct mqtt_subscription sub;

    for (uint32_t i = 0; mqtt_subscribe_next(&walk, &sub); i++) {
        struct subscription_options options = options_of(b, job, &sub);
        if (!job->conn || job->codes[i] >= 0x80 || !job->replay[i]) {
            continue;
        }
        job->pending++;
        if (replay_start(b, job->conn->session, sub.filter, &options, job) != 0) {
            job->pending--;
            broker_metric(b, METRIC_DROPPED_NO_MEMORY, 1);
            log_event(LOG_WARN, "retained_not_sent", {"filter", LOG_SLICE(sub.filter)},
                      {"reason", LOG_STR("no memory")});
        }
    }
}

/* Everything that this stage has waited for is there: on to the next ones. */
static void job_advance(struct broker *b, struct subscribe_job *job)
{
    while (job->pending == 0 && job->stage != SUBSCRIBE_RETAINED) {
        job->stage++;
        job->pending = 1;
        if (job->stage == SUBSCRIBE_SNAPSHOTS) {
            start_replays(b, job);
        } else if (job->conn) {
            send_suback(b, job);
            job->pending += replay_release(b, job->conn->session, job);
        }
        job->pending--;
    }
    if (job->pending == 0) {
        list_remove(&job->in_broker);
        if (job->conn) {
            conn_resume(job->conn, PAUSE_BUSY);
        }
        free(job);
    }
}

void subscribe_settled(struct broker *b, struct subscribe_job *job, uint32_t index, int error)
{
    if (error && job->codes[index] < 0x80) {
        job->codes[index] = code_of_error(error);
        struct mqtt_subscribe walk = job->packet;
        struct mqtt_subscription sub = {0};
        for (uint32_t i = 0; i <= index; i++) {
            mqtt_subscribe_next(&walk, &sub);
        }
        if (job->conn && memcmp(sub.filter.ptr, "$share/", sub.filter.len < 7 ? sub.filter.len : 7) != 0) {
            undo(b, job->conn->session, sub.filter);
        }
    }
    assert(job->pending > 0);
    if (--job->pending == 0) {
        job_advance(b, job);
    }
}

bool subscribe_from_client(struct conn *conn, const struct mqtt_frame *frame)
{
    struct broker *b = broker_of(conn);
    struct mqtt_subscribe s;
    struct mqtt_subscription sub;
    enum mqtt_reason reason = mqtt_subscribe_decode(frame->body, frame->flags, conn->version, &s);

    if (reason == MQTT_SUCCESS) {
        reason = check_packet(b, conn, &s);
    }
    if (reason != MQTT_SUCCESS) {
        goodbye(conn, reason, "SUBSCRIBE refused");
        return false;
    }
    struct buf mounted = {0};
    if (conn->listener->mount.len > 0) {
        mount_subscribe(b, conn, &s, &mounted);
    }
    if (!mounted.failed && !rules_known(b, conn, s)) {
        buf_deinit(&mounted);
        return false;
    }
    struct subscribe_job *job = mounted.failed ? NULL : job_new(conn, &s);
    buf_deinit(&mounted);
    if (!job) {
        goodbye(conn, MQTT_SERVER_BUSY, "out of memory");
        return false;
    }
    broker_metric(b, METRIC_FEATURE_SUBSCRIPTION_ID, s.properties.subscription_id != 0);
    conn_pause(conn, PAUSE_BUSY);
    struct mqtt_subscribe walk = job->packet;
    for (uint32_t i = 0; mqtt_subscribe_next(&walk, &sub); i++) { /* [MQTT-3.8.4-5] */
        subscribe_one(b, job, i, &sub);
    }
    if (conn->more && conn->more->login) {
        login_packet_done(conn);
    }
    if (--job->pending == 0) {
        job_advance(b, job);
    }
    if (!conn->paused) {
        list_remove(&conn->in_ready); /* it never stopped */
    }
    return conn->state == CONN_OPEN && !conn->paused;
}

void subscribe_conn_gone(struct conn *conn)
{
    struct list *jobs = &broker_of(conn)->jobs;

    for (struct list *at = jobs->next, *next; at != jobs; at = next) {
        struct subscribe_job *job = CONTAINER_OF(at, struct subscribe_job, in_broker);
        next = at->next;
        if (job->conn == conn) {
            job->pending -= replay_disown(conn->session, job);
            job->conn = NULL;
            if (job->pending == 0) {
                job_advance(broker_of(conn), job);
            }
        }
    }
}

void subscribe_deinit(struct broker *b)
{
    struct list *at;

    while ((at = list_pop(&b->jobs)) != NULL) {
        free(CONTAINER_OF(at, struct subscribe_job, in_broker));
    }
}

/* ---- the other way ---- */

static struct session_share *find_share(struct session *session, uint64_t id)
{
    for (struct list *at = session->shares.next; at != &session->shares; at = at->next) {
        struct session_share *share = CONTAINER_OF(at, struct session_share, in_session);
        if (share->share == id) {
            return share;
        }
    }
    return NULL;
}

static uint8_t unsubscribe_one(struct broker *b, struct session *session, struct slice text)
{
    struct slice name, filter;
    int share = mqtt_share_split(text, &name, &filter);

    if (share < 0 || filter.len == 0) {
        return MQTT_TOPIC_FILTER_INVALID;
    }
    if (share > 0) {
        struct session_share *found = find_share(session, share_id(b, name, filter));
        if (!found) {
            return MQTT_NO_SUBSCRIPTION_EXISTED;
        }
        share_unsubscribe(b, found, false);
        return MQTT_SUCCESS;
    }
    struct command command = {.type = COMMAND_UNSUBSCRIBE, .session = session, .unsubscribe = filter};
    struct outcome outcome;
    broker_apply(b, &command, &outcome);
    if (!outcome.subscription) {
        return MQTT_NO_SUBSCRIPTION_EXISTED;
    }
    replay_cancel(b, session, filter);
    broker_metric(b, METRIC_SUBSCRIPTIONS, -1);
    if (topic_tree_unsubscribe(b->tree, outcome.subscription)) {
        route_withdraw(b, ROUTE_REMOVE, filter, 0);
    }
    return MQTT_SUCCESS;
}

bool unsubscribe_from_client(struct conn *conn, const struct mqtt_frame *frame)
{
    struct broker *b = broker_of(conn);
    struct mqtt_subscribe u;
    struct slice filter;
    enum mqtt_reason reason = mqtt_unsubscribe_decode(frame->body, frame->flags, conn->version, &u);
    struct buf codes = {0};

    if (reason == MQTT_SUCCESS && too_many_properties(b, &u)) {
        reason = MQTT_QUOTA_EXCEEDED;
    }
    if (reason != MQTT_SUCCESS) {
        goodbye(conn, reason, "UNSUBSCRIBE refused");
        return false;
    }
    uint16_t packet_id = u.packet_id;
    while (mqtt_unsubscribe_next(&u, &filter)) { /* [MQTT-3.10.4-6] */
        uint8_t code = unsubscribe_one(b, conn->session, mount_filter(b, conn, filter));
        log_filter(conn, "unsubscribed", filter, code);
        buf_u8(&codes, code);
    }
    if (codes.failed) {
        goodbye(conn, MQTT_SERVER_BUSY, "out of memory");
    } else {
        struct mqtt_suback unsuback = {.packet_id = packet_id, .codes = buf_slice(&codes)};
        mqtt_suback_encode(conn_out(conn), MQTT_UNSUBACK, conn->version, &unsuback);
        broker_sent(b, MQTT_UNSUBACK);
    }
    buf_deinit(&codes);
    return conn->state == CONN_OPEN && !conn->paused;
}

void subscribe_revoke(struct broker *b, struct session *session, struct slice filter)
{
    struct buf text = {0};

    buf_put(&text, filter); /* it goes with the last subscription */
    if (!text.failed) {
        replay_cancel(b, session, buf_slice(&text));
        undo(b, session, buf_slice(&text));
    }
    buf_deinit(&text);
}

void subscribe_forget(struct broker *b, struct session *session)
{
    struct list *at;
    struct buf text = {0};

    while ((at = list_pop(&session->subscriptions)) != NULL) {
        struct subscription *subscription = CONTAINER_OF(at, struct subscription, in_owner);
        text.len = 0;
        buf_put(&text, subscription_filter(subscription)); /* it goes with the last subscription */
        broker_metric(b, METRIC_SUBSCRIPTIONS, -1);
        if (topic_tree_unsubscribe(b->tree, subscription) && !text.failed) {
            route_withdraw(b, ROUTE_REMOVE, buf_slice(&text), 0);
        }
        text.failed = false;
    }
    buf_deinit(&text);
    while (!list_empty(&session->shares)) {
        share_unsubscribe(b, CONTAINER_OF(session->shares.next, struct session_share, in_session), true);
    }
}
