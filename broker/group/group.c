#include "broker/group/group.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "proto/mqtt/mqtt.h"

void group_init(struct group *g, uint16_t id, struct group_context *context)
{
    *g = (struct group){.id = id, .context = context};
    list_init(&g->changed);
    list_init(&g->gone);
}

void group_deinit(struct group *g)
{
    assert(g->sessions.count == 0);
    assert(g->due_count == 0);
    map_deinit(&g->sessions);
    free(g->due);
}

static bool has_client_id(const void *value, const void *key)
{
    return slice_eq(session_client_id(value), *(const struct slice *)key);
}

struct session *group_find(const struct group *g, struct slice client_id, uint64_t hash)
{
    return map_find(&g->sessions, hash, has_client_id, &client_id);
}

/* Take a session out of the group's tables. The will, if it is still there, is published now: the session ends
 * before its delay does [MQTT-3.1.2-8]. */
static void session_end(struct group *g, struct session *s, struct outcome *out)
{
    group_due_clear(g, s);
    bool there = map_remove(&g->sessions, s->hash, s);
    assert(there);
    atomic_fetch_sub(&g->context->session_quota->count, 1);
    out->will = s->will;
    s->will = NULL;
    out->ended = s;
}

static int quota_take(struct session_quota *quota)
{
    if (atomic_fetch_add(&quota->count, 1) >= quota->max && quota->max != 0) {
        atomic_fetch_sub(&quota->count, 1);
        return -EDQUOT;
    }
    return 0;
}

/* A new session. In place of one that is about to end, or read from the log, it is allowed whatever the quota says. */
static int session_make(struct group *g, const struct command *c, bool in_place, struct session **ret_session)
{
    const struct command_claim *claim = &c->claim;
    uint64_t uid = c->decided ? c->decided->uid : g->context->next_uid + 1;

    if (in_place || c->decided) {
        atomic_fetch_add(&g->context->session_quota->count, 1);
    } else if (quota_take(g->context->session_quota) != 0) {
        return -EDQUOT;
    }
    struct session *s = session_new(claim->client_id, claim->hash, uid);
    if (!s || group_due_reserve(g, g->sessions.count + 1) || map_add(&g->sessions, s->hash, s)) {
        session_free(s);
        atomic_fetch_sub(&g->context->session_quota->count, 1);
        return -ENOMEM;
    }
    g->context->next_uid += !c->decided;
    s->group = g->id;
    *ret_session = s;
    return 0;
}

static void apply_claim(struct group *g, const struct command *c, struct outcome *out)
{
    const struct command_claim *claim = &c->claim;
    struct session *earlier = group_find(g, claim->client_id, claim->hash), *s = earlier;

    assert(!s || !s->front); /* the earlier connection was detached first [MQTT-3.1.4-3] */
    if (c->decided && s && !claim->clean_start && s->uid != c->decided->uid) {
        out->error = -EBADMSG;
        return;
    }
    if (!s || claim->clean_start) {
        out->error = session_make(g, c, earlier != NULL, &s);
        if (out->error) {
            return;
        }
        if (earlier) {
            session_end(g, earlier, out); /* [MQTT-3.1.2-4]: only now, so that a client that is refused loses nothing */
        }
    }
    out->existed = s == earlier;
    group_due_clear(g, s);
    will_free(s->will); /* connected again before the delay was over [MQTT-3.1.3-9] */
    s->will = claim->will;
    if (s->will) {
        s->will->message->publisher = s->uid; /* nobody else has it yet */
    }
    principal_ref(claim->principal);
    principal_unref(s->principal);
    s->principal = claim->principal;
    s->open_version = s->seen_version = 0;
    s->durable |= claim->durable;
    s->attached_before = c->decided != NULL;
    s->expiry_s = claim->expiry_s;
    s->receive_max = claim->receive_max;
    out->session = s;
}

/* When a detached session is due: at the end of its will delay, else of its expiry interval. */
static void arm_due(struct group *g, struct session *s, uint64_t detached_ms)
{
    uint64_t due = s->expires_at_ms;
    if (s->will) {
        uint64_t will_ms = detached_ms + (uint64_t)s->will->delay_s * 1000;
        due = will_ms < due ? will_ms : due;
    }
    if (due != UINT64_MAX) {
        group_due_set(g, s, due);
    }
}

/* What was sent may have to be sent again. */
static void let_go_of_queue(struct queue *q, const struct command *c, struct outcome *out)
{
    uint64_t sent = c->decided ? c->decided->sent : q->sent;

    if (q->resend_below < sent) {
        q->resend_below = sent;
    }
    out->number = q->resend_below > sent ? q->resend_below : sent;
    queue_rewind(q);
}

static void apply_detach(struct group *g, const struct command *c, struct outcome *out)
{
    struct session *s = c->session;

    s->front = NULL;
    s->attached_before = false;
    if (c->detach.set_expiry) {
        s->expiry_s = c->detach.expiry_s;
    }
    if (s->will && c->detach.discard_will) { /* [MQTT-3.14.4-3] */
        will_free(s->will);
        s->will = NULL;
    }
    if (s->queue) {
        let_go_of_queue(s->queue, c, out);
    }
    if (s->expiry_s == 0) { /* [MQTT-4.1.0-2] */
        session_end(g, s, out);
        return;
    }
    if (s->will && s->will->delay_s == 0) {
        out->will = s->will;
        s->will = NULL;
    }
    s->expires_at_ms = s->expiry_s == MQTT_EXPIRY_NEVER ? UINT64_MAX : c->wall_ms + (uint64_t)s->expiry_s * 1000;
    arm_due(g, s, c->wall_ms);
}

static void apply_tick(struct group *g, const struct command *c, struct outcome *out)
{
    if (!c->decided && group_due_ms(g) > c->wall_ms) {
        return;
    }
    struct session *s = c->decided ? c->session : g->due[0];
    assert(!s->front);
    out->session = s;
    if (c->decided ? c->decided->ended : s->expires_at_ms <= c->wall_ms) {
        session_end(g, s, out);
        return;
    }
    if (!s->will) { /* due before its expiry: the will delay is over */
        assert(c->decided);
        out->error = -EBADMSG;
        return;
    }
    out->will = s->will;
    s->will = NULL;
    group_due_clear(g, s);
    arm_due(g, s, c->wall_ms);
}

static void apply_subscribe(struct group *g, const struct command *c, struct outcome *out)
{
    struct session *s = c->session;

    if (!c->decided && s->subscription_count >= g->context->subscriptions_max &&
        !topic_tree_find(g->context->tree, s, c->subscribe.filter)) {
        out->error = -EDQUOT;
        return;
    }
    out->error = topic_tree_subscribe(g->context->tree, s, c->subscribe.filter, &c->subscribe.options,
                                      &out->subscription, &out->existed, &out->announce);
    if (out->error == 0 && !out->existed) {
        list_append(&s->subscriptions, &out->subscription->in_owner);
        s->subscription_count++;
    }
}

static void apply_unsubscribe(struct group *g, const struct command *c, struct outcome *out)
{
    out->subscription = topic_tree_find(g->context->tree, c->session, c->unsubscribe);
    if (out->subscription) {
        list_remove(&out->subscription->in_owner);
        c->session->subscription_count--;
    }
}

static struct session_share *find_share(struct session *s, struct slice name, struct slice filter)
{
    for (struct list *at = s->shares.next; at != &s->shares; at = at->next) {
        struct session_share *share = CONTAINER_OF(at, struct session_share, in_session);
        if (slice_eq(session_share_filter(share), filter) && slice_eq(session_share_name(share), name)) {
            return share;
        }
    }
    return NULL;
}

static void apply_share_join(struct group *g, const struct command *c, struct outcome *out)
{
    struct slice name = c->share.name, filter = c->share.filter;
    struct session_share *share = find_share(c->session, name, filter);

    out->existed = share != NULL;
    if (!share) {
        if (!c->decided && c->session->subscription_count >= g->context->subscriptions_max) {
            out->error = -EDQUOT;
            return;
        }
        share = calloc(1, sizeof(*share) + name.len + filter.len);
        if (!share) {
            out->error = -ENOMEM;
            return;
        }
        share->session = c->session;
        share->name_len = (uint16_t)name.len;
        share->filter_len = (uint16_t)filter.len;
        memcpy(share->text, name.ptr, name.len);
        memcpy(share->text + name.len, filter.ptr, filter.len);
        list_append(&c->session->shares, &share->in_session);
        c->session->subscription_count++;
    }
    share->options = c->share.options;
    out->share = share;
}

/* Whether the queue, `bytes` with the new message, keeps its limit without this entry. If it is beyond already, for the
 * limit was lowered, it is enough that it does not grow. */
static bool makes_room(const struct group_context *x, const struct queue *q, uint64_t number, uint64_t bytes)
{
    uint64_t after = bytes - queue_entry_bytes(q, number);
    return after <= x->waiting_bytes_max || after <= q->bytes;
}

/* The share that one message of the queue came from has one less outstanding, for it leaves the queue. */
static void leave_queue(struct queue *q, uint64_t number, struct outcome *out)
{
    const struct queue_extra *extra = queue_is_cold(q, number) ? NULL : queue_at(q, number)->extra;

    out->share_settled = extra ? extra->share : 0;
    queue_finish(q, number);
}

/* Whether this number is one that was put in and has not been finished. */
static bool in_queue(const struct queue *q, uint64_t number)
{
    return q && number >= q->head && number < q->tail &&
           (queue_is_cold(q, number) || queue_at(q, number)->state != QUEUE_DONE);
}

static void apply_publish_decided(const struct command *c, struct outcome *out)
{
    struct queue *q = c->session->queue;
    uint64_t dropped = c->decided->dropped;

    if (dropped != UINT64_MAX && dropped >= q->tail) {
        out->error = -EBADMSG;
        return;
    }
    out->error = queue_push_at(q, &c->publish, c->decided->number);
    if (dropped != UINT64_MAX && !out->error) {
        if (in_queue(q, dropped)) { /* else a number without a message, which was cold when it was decided */
            leave_queue(q, dropped, out);
        }
        out->replaced_oldest = true;
    }
}

static void apply_publish(struct group *g, const struct command *c, struct outcome *out)
{
    const struct group_context *x = g->context;
    struct session *s = c->session;

    if (!s->queue) {
        s->queue = queue_new();
        if (!s->queue) {
            out->error = -ENOMEM;
            return;
        }
    }
    struct queue *q = s->queue;
    if (c->decided) {
        apply_publish_decided(c, out);
        return;
    }
    uint64_t bytes = q->bytes + message_size(c->publish.message), oldest;
    bool full = q->waiting >= x->waiting_max || bytes > x->waiting_bytes_max;
    if (full && (!x->drop_oldest || !queue_oldest_waiting(q, &oldest) || !makes_room(x, q, oldest, bytes))) {
        out->error = -ENOBUFS;
        return;
    }
    out->error = queue_push(q, &c->publish);
    out->number = q->tail - 1;
    out->dropped = UINT64_MAX;
    if (full && !out->error) {
        out->dropped = oldest;
        out->replaced_oldest = true;
        leave_queue(q, oldest, out);
    }
}

/* The entry that is acknowledged, and its number. */
static struct queue_entry *acknowledged(struct queue *q, const struct command *c, uint64_t *ret_number)
{
    if (!c->decided) {
        return q ? queue_find(q, c->packet_id, ret_number) : NULL;
    }
    *ret_number = c->decided->number;
    return in_queue(q, *ret_number) && queue_was_sent(q, *ret_number) ? queue_at(q, *ret_number) : NULL;
}

/* PUBACK ends QoS 1, a PUBREC with a failure ends QoS 2 before its time [MQTT-4.4.0-2], PUBCOMP ends it in time. */
static void apply_ack(const struct command *c, struct outcome *out)
{
    struct queue *q = c->session->queue;
    uint64_t number;
    struct queue_entry *e = acknowledged(q, c, &number);

    if (!e) {
        out->error = -ENOENT;
        return;
    }
    out->number = number;
    if (c->type == COMMAND_RECEIVED) {
        if (e->qos != 2) {
            out->error = -EPROTO;
        } else if (e->state == QUEUE_SENT) {
            queue_release(q, e);
        }
        return;
    }
    if ((c->type == COMMAND_ACK && e->qos != 1) || (c->type == COMMAND_REJECTED && e->qos != 2) ||
        (c->type == COMMAND_COMPLETE && e->state != QUEUE_RELEASED)) {
        out->error = -EPROTO;
        return;
    }
    leave_queue(q, number, out);
}

static void apply_discard(const struct command *c, struct outcome *out)
{
    if (c->decided && !in_queue(c->session->queue, c->number)) {
        out->error = -EBADMSG;
        return;
    }
    leave_queue(c->session->queue, c->number, out);
}

static void apply_qos2(const struct command *c, struct outcome *out)
{
    struct packet_ids *ids = &c->session->qos2;

    if (c->type == COMMAND_QOS2_RELEASE) {
        out->error = packet_ids_remove(ids, c->packet_id) ? 0 : -ENOENT;
        return;
    }
    out->existed = packet_ids_has(ids, c->packet_id);
    if (!out->existed) {
        out->error = packet_ids_add(ids, c->packet_id);
    }
}

static void apply_retain(struct group *g, const struct command *c, struct outcome *out)
{
    if (c->retain->payload_len == 0) { /* [MQTT-3.3.1-6] [MQTT-3.3.1-7] */
        int rc = retained_clear(g->context->retained, message_topic(c->retain), c->retain->topic_hash,
                                message_stamp(c->retain));
        out->existed = rc > 0;
        out->error = rc < 0 ? rc : 0;
        return;
    }
    out->error = retained_set(g->context->retained, c->retain);
}

void group_digest(struct group *g, struct slice entry)
{
    static const struct hash_key chain = {0x7465726e, 0x67726f7570}; /* the same on every node */

    g->digest = hash_mix(g->digest ^ hash_keyed(&chain, entry)) + 1;
}

void group_apply(struct group *g, const struct command *c, struct outcome *out)
{
    *out = (struct outcome){0};
    switch (c->type) {
    case COMMAND_CLAIM:
        apply_claim(g, c, out);
        break;
    case COMMAND_DETACH:
        apply_detach(g, c, out);
        break;
    case COMMAND_END:
        session_end(g, c->session, out);
        break;
    case COMMAND_SUBSCRIBE:
        apply_subscribe(g, c, out);
        break;
    case COMMAND_UNSUBSCRIBE:
        apply_unsubscribe(g, c, out);
        break;
    case COMMAND_SHARE_JOIN:
        apply_share_join(g, c, out);
        break;
    case COMMAND_SHARE_LEAVE:
        list_remove(&c->share_leave->in_session);
        c->session->subscription_count--;
        break;
    case COMMAND_PUBLISH:
        apply_publish(g, c, out);
        break;
    case COMMAND_ACK:
    case COMMAND_REJECTED:
    case COMMAND_RECEIVED:
    case COMMAND_COMPLETE:
        apply_ack(c, out);
        break;
    case COMMAND_DISCARD:
        apply_discard(c, out);
        break;
    case COMMAND_QOS2_IN:
    case COMMAND_QOS2_RELEASE:
        apply_qos2(c, out);
        break;
    case COMMAND_TICK:
        apply_tick(g, c, out);
        break;
    case COMMAND_RETAIN:
        apply_retain(g, c, out);
        break;
    }
}
