/* The start of a node: what the disk says becomes sessions and retained messages again. One thread, no clients yet.
 *
 * First the state, row by row; of queues only how long they are. Then the log: each entry behind what its group's rows
 * already have is applied as when it was written, with what was decided then. At last the tables that several shards
 * share: routes and shared subscriptions. */
#include <errno.h>
#include <stdlib.h>

#include "broker/flow/cluster.h"
#include "broker/flow/durable.h"
#include "broker/flow/flow.h"
#include "broker/group/snapshot.h"
#include "proto/base/clock.h"
#include "proto/base/log.h"

struct recovery {
    struct node_tables *node;
    struct broker *const *brokers;
    unsigned count;
    struct record_world world;
    struct map by_uid; /* struct session */
    uint64_t applied[GROUPS];
    uint64_t now_ms;
    uint64_t batches, records, damaged, retained;
    int error;
};

static struct broker *home_of(const struct recovery *r, unsigned group)
{
    return r->brokers[group % r->count];
}

static bool has_uid(const void *value, const void *key)
{
    return ((const struct session *)value)->uid == *(const uint64_t *)key;
}

static struct session *find_session(const struct recovery *r, uint64_t uid)
{
    return map_find(&r->by_uid, hash_mix(uid), has_uid, &uid);
}

/* Returns false when there is no going on; what is damaged is named and passed over. */
static bool may_go_on(struct recovery *r, int rc, const char *what, uint64_t number)
{
    if (rc == 0) {
        return true;
    }
    if (rc == -ENOMEM || rc == -EIO || rc == -EPROTONOSUPPORT) {
        log_event(LOG_ERROR, "recovery_failed", {"reading", LOG_STR(what)}, {"error", LOG_STR(strerror(-rc))});
        r->error = rc;
        return false;
    }
    r->damaged++;
    log_event(LOG_ERROR, "record_damaged", {"record", LOG_STR(what)}, {"number", LOG_INT(number)},
              {"kept", LOG_STR("everything else")});
    return true;
}

static const char *listener_name(void *arg, struct slice name)
{
    const struct recovery *r = arg;

    for (unsigned i = 0; i < r->node->listener_count; i++) {
        if (slice_eq(slice_str(r->node->listeners[i].name), name)) {
            return r->node->listeners[i].name;
        }
    }
    return "";
}

/* ---- queues ---- */

/* Read the next page of a queue whose client has answered to, or was sent, what is in it. */
static int read_page(struct recovery *r, struct session *s)
{
    struct store_task task = {.type = STORE_READ, .max_bytes = 1u << 20};
    uint8_t key[SNAPSHOT_KEY_MAX];
    struct slice from = snapshot_key_queue(key, s->group, s->uid, s->queue->cold);

    task.key_len = (uint16_t)from.len;
    task.prefix_len = (uint16_t)(from.len - sizeof(uint64_t));
    memcpy(task.key, from.ptr, from.len);
    int rc = store_read(r->node->store, &task);
    rc = rc && rc != -EBADMSG ? rc : page_load(&task, s, &r->world);
    store_task_deinit(&task);
    return rc;
}

static int make_warm(struct recovery *r, struct session *s, uint64_t number)
{
    int rc = 0;

    while (rc == 0 && s->queue && queue_is_cold(s->queue, number)) {
        rc = read_page(r, s);
    }
    return rc;
}

/* ---- the state ---- */

static bool visit_applied(void *arg, struct slice key, struct slice value)
{
    struct recovery *r = arg;
    unsigned group = (unsigned)key.ptr[0] << 8 | key.ptr[1];
    uint64_t digest = 0;
    int rc = group < GROUPS ? snapshot_get_applied(value, &r->applied[group], &digest) : -EBADMSG;

    if (rc == 0) {
        home_of(r, group)->groups[group].digest = digest;
    }
    return may_go_on(r, rc, "applied", group);
}

static bool visit_session(void *arg, struct slice key, struct slice value)
{
    struct recovery *r = arg;
    unsigned group = (unsigned)key.ptr[0] << 8 | key.ptr[1];
    struct snapshot_session row;
    struct session *s = NULL;
    int rc = snapshot_get_session(value, &r->world, &row);

    if (rc == 0) {
        rc = group_restore(&home_of(r, group)->groups[group], r->world.key, &row, &s);
        will_free(row.will);
        principal_unref(row.principal);
    }
    if (s && map_add(&r->by_uid, hash_mix(s->uid), s) != 0) {
        rc = -ENOMEM;
    }
    if (rc == 0 && row.queue_inflight > 0) { /* what was sent is not cold */
        rc = make_warm(r, s, s->queue->head);
    }
    return may_go_on(r, rc, "session", group);
}

static bool visit_retained(void *arg, struct slice key, struct slice value)
{
    struct recovery *r = arg;
    unsigned group = (unsigned)key.ptr[0] << 8 | key.ptr[1];
    struct broker *b = home_of(r, group);
    struct message *m = NULL;
    int rc = snapshot_get_retained(value, &r->world, &m);

    if (rc == 0) {
        struct command c = {.type = COMMAND_RETAIN, .wall_ms = r->now_ms, .retain = m};
        struct outcome out = {0};
        stamp_seen(b, message_stamp(m).at);
        if (m->expires_at_ms <= r->now_ms || (m->payload_len == 0 && !r->node->retained_quota.replica)) {
            rc = checkpoint_reserve(b, &b->groups[group], &c); /* its row is to go */
        } else {
            group_apply(&b->groups[group], &c, &out);
            rc = out.error == -ESTALE ? -EBADMSG : out.error;
            r->retained += m->payload_len > 0;
        }
        message_unref(m);
    }
    return may_go_on(r, rc, "retained message", group);
}

static int read_state(struct recovery *r)
{
    static const struct {
        enum snapshot_kind kind;
        store_row_visitor *visit;
    } kinds[] = {
        {SNAPSHOT_APPLIED, visit_applied}, {SNAPSHOT_SESSION, visit_session}, {SNAPSHOT_RETAINED, visit_retained}};
    uint8_t key[SNAPSHOT_KEY_MAX];

    for (uint16_t g = 0; g < GROUPS; g++) {
        for (unsigned k = 0; k < COUNT_OF(kinds); k++) {
            struct slice prefix = snapshot_key_group(key, g, kinds[k].kind);
            int rc = store_scan(r->node->store, prefix, kinds[k].visit, r);
            if (rc || r->error) {
                return rc ? rc : r->error;
            }
        }
    }
    return 0;
}

/* ---- the log ---- */

static void end_session(struct recovery *r, struct broker *b, struct session *s)
{
    struct list *at;

    map_remove(&r->by_uid, hash_mix(s->uid), s);
    while ((at = list_pop(&s->subscriptions)) != NULL) {
        topic_tree_unsubscribe(b->tree, CONTAINER_OF(at, struct subscription, in_owner));
    }
    while ((at = list_pop(&s->shares)) != NULL) {
        free(CONTAINER_OF(at, struct session_share, in_session));
    }
    checkpoint_forget(b, s);
    session_free(s);
}

static struct session_share *find_share(const struct session *s, const struct record *rec)
{
    for (struct list *at = s->shares.next; at != &s->shares; at = at->next) {
        struct session_share *share = CONTAINER_OF(at, struct session_share, in_session);
        if (slice_eq(session_share_name(share), rec->share_name) &&
            slice_eq(session_share_filter(share), rec->share_filter)) {
            return share;
        }
    }
    return NULL;
}

/* What a command needs beside its session. Returns 0, or what kept it from being there. */
static int prepare(struct recovery *r, struct record *rec)
{
    struct session *s = rec->command.session;

    switch (rec->command.type) {
    case COMMAND_ACK:
    case COMMAND_REJECTED:
    case COMMAND_RECEIVED:
    case COMMAND_COMPLETE:
        return make_warm(r, s, rec->decided.number);
    case COMMAND_DISCARD:
        return make_warm(r, s, rec->command.number);
    case COMMAND_PUBLISH:
        return rec->decided.dropped == UINT64_MAX ? 0 : make_warm(r, s, rec->decided.dropped);
    case COMMAND_SHARE_LEAVE:
        rec->command.share_leave = find_share(s, rec);
        return rec->command.share_leave ? 0 : -ENOENT;
    default:
        return 0;
    }
}

static void settle(struct recovery *r, struct broker *b, struct record *rec, struct outcome *out)
{
    if (rec->command.type == COMMAND_UNSUBSCRIBE && out->subscription) {
        topic_tree_unsubscribe(b->tree, out->subscription);
    }
    if (rec->command.type == COMMAND_SHARE_LEAVE) {
        free(rec->command.share_leave);
    }
    will_free(out->will); /* it was published then */
    if (out->ended) {
        end_session(r, b, out->ended);
    }
}

static int apply_record(struct recovery *r, struct record *rec)
{
    struct broker *b = home_of(r, rec->group);
    struct group *group = &b->groups[rec->group];
    struct command *c = &rec->command;
    struct outcome out;
    int rc = 0;

    if (c->type == COMMAND_RETAIN) {
        stamp_seen(b, message_stamp(c->retain).at);
        rc = checkpoint_reserve(b, group, c);
    } else if (c->type != COMMAND_CLAIM) {
        c->session = find_session(r, rec->uid);
        if (!c->session) {
            return 0; /* it has ended in the meantime of two turns, or its record was damaged and named */
        }
        rc = prepare(r, rec);
    }
    if (rc == -ENOENT) {
        return 0;
    }
    if (rc == 0) {
        group_apply(group, c, &out);
        rc = out.error == -ENOENT || out.error == -ESTALE ? 0 : out.error;
    }
    if (rc) {
        will_free(c->type == COMMAND_CLAIM ? c->claim.will : NULL);
        return rc;
    }
    if (out.error) {
        return 0;
    }
    if (c->type == COMMAND_CLAIM && find_session(r, out.session->uid) != out.session) {
        rc = map_add(&r->by_uid, hash_mix(out.session->uid), out.session);
    }
    if (c->type == COMMAND_PUBLISH && rc == 0) {
        rc = repeat_note(b, c->publish.message, c->session);
    } else if (c->type == COMMAND_QOS2_IN) {
        for (unsigned i = 0; i < r->count; i++) {
            repeat_taken(r->brokers[i], rec->uid, c->packet_id);
        }
    }
    group_digest(group, rec->body);
    checkpoint_note(b, group, c, &out, rec->body.len);
    settle(r, b, rec, &out);
    r->records++;
    return rc;
}

static bool visit_batch(void *arg, uint64_t lsn, struct slice bytes)
{
    struct recovery *r = arg;
    struct record_reader reader;
    struct record rec;
    int rc = record_open(&reader, bytes, &r->world), more = 0;

    r->batches++;
    while (rc == 0 && (more = record_next(&reader, &rec)) > 0) {
        if (rec.group >= GROUPS || lsn <= r->applied[rec.group]) {
            if (rec.command.type == COMMAND_CLAIM) {
                will_free(rec.command.claim.will);
            }
            continue;
        }
        int applied = apply_record(r, &rec);
        if (!may_go_on(r, applied, "command", lsn)) {
            break;
        }
    }
    record_close(&reader);
    return !r->error && may_go_on(r, rc ? rc : more, "batch", lsn);
}

/* ---- what shards share ---- */

static int join_session(struct recovery *r, struct session *s)
{
    unsigned shard = s->group % r->count;
    int rc = 0;

    for (struct list *at = s->subscriptions.next; at != &s->subscriptions && rc == 0; at = at->next) {
        rc = route_table_add(r->node->routes, subscription_filter(CONTAINER_OF(at, struct subscription, in_owner)),
                             shard);
    }
    for (struct list *at = s->shares.next; at != &s->shares && rc == 0; at = at->next) {
        rc = share_recover(r->brokers, r->count, shard, CONTAINER_OF(at, struct session_share, in_session));
    }
    return rc;
}

static int join_all(struct recovery *r, uint64_t *ret_sessions, uint64_t *ret_waiting)
{
    struct session *s;

    for (unsigned g = 0; g < GROUPS; g++) {
        for (size_t i = 0; (s = map_next(&home_of(r, g)->groups[g].sessions, &i)) != NULL;) {
            int rc = join_session(r, s);
            if (rc) {
                return rc;
            }
            ++*ret_sessions;
            *ret_waiting += session_waiting(s);
        }
    }
    return 0;
}

int recover(struct node_tables *node, struct broker *const *brokers, unsigned count)
{
    struct recovery r = {.node = node, .brokers = brokers, .count = count};
    struct retained_quota quota = {.count_max = node->retained_quota.count_max,
                                   .bytes_max = node->retained_quota.bytes_max};
    uint64_t started_ns = clock_mono_ns(), sessions = 0, waiting = 0;

    r.now_ms = clock_wall_ms();
    r.world = (struct record_world){
        .rates = node->auth->rates, .listener = listener_name, .arg = &r, .key = &node->key, .origin = node->origin};
    node->retained_quota.count_max = node->retained_quota.bytes_max = UINT64_MAX; /* it was allowed when it came */
    int rc = read_state(&r);
    rc = rc ? rc : store_replay(node->store, visit_batch, &r);
    rc = rc ? rc : r.error;
    rc = rc ? rc : join_all(&r, &sessions, &waiting);
    node->retained_quota.count_max = quota.count_max;
    node->retained_quota.bytes_max = quota.bytes_max;
    map_deinit(&r.by_uid);
    if (rc == 0) {
        log_event(LOG_INFO, "recovered", {"sessions", LOG_INT(sessions)}, {"messages", LOG_INT(waiting)},
                  {"batches", LOG_INT(r.batches)}, {"commands", LOG_INT(r.records)}, {"damaged", LOG_INT(r.damaged)},
                  {"ms", LOG_INT((clock_mono_ns() - started_ns) / 1000000)});
    }
    return rc;
}

/* ---- the first turn of a shard ---- */

/* Returns whether the session has ended over it. */
static bool detach(struct broker *b, struct group *group, struct session *s)
{
    struct command command = {.type = COMMAND_DETACH, .wall_ms = b->shard->wall_ms, .session = s};
    struct outcome out;

    if (s->queue) {
        s->queue->resend_below = s->queue->tail; /* so much may have been sent */
    }
    journal_apply(b, group, &command, &out);
    bool ended = out.ended != NULL;
    goodbye_session(b, &out);
    return ended;
}

static void detach_all(struct broker *b, struct group *group)
{
    struct session *s;
    bool ended;

    do {
        ended = false;
        for (size_t i = 0; (s = map_next(&group->sessions, &i)) != NULL;) {
            ended |= s->attached_before && detach(b, group, s);
        }
    } while (ended); /* those behind it have moved: one may have been passed over */
}

void recover_turn(struct broker *b)
{
    struct session *s;

    if (!b->node->store || b->recovered) {
        return;
    }
    b->recovered = true;
    for (unsigned g = b->shard->index; g < GROUPS; g += b->shard->count) {
        struct group *group = &b->groups[g];
        for (size_t i = 0; (s = map_next(&group->sessions, &i)) != NULL;) {
            broker_metric(b, METRIC_SESSIONS, 1);
            broker_metric(b, METRIC_SUBSCRIPTIONS, s->subscription_count);
            broker_metric(b, METRIC_QUEUED, s->queue ? (int64_t)queue_count(s->queue) : 0);
            broker_metric(b, METRIC_QUEUED_BYTES, s->queue ? (int64_t)s->queue->bytes : 0);
        }
        detach_all(b, group);
    }
    goodbye_arm(b);
}
