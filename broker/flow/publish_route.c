/* The way of a message through the node (3.3.4): to the sessions here, to other shards, to shares, to the retained
 * store; and of those that the broker itself publishes. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "broker/flow/access.h"
#include "broker/flow/cluster.h"
#include "broker/flow/dispatch.h"
#include "broker/flow/durable.h"
#include "broker/flow/flow.h"
#include "proto/base/log.h"

#define REFUSED_MS 10000u /* between two words about messages that could not be retained */

/* ---- routing ---- */

/* What became of a message among the sessions of this shard. */
struct local_fate {
    unsigned matched;     /* sessions that were to have it */
    struct session *slow; /* the one receiver, if it is the only one and far behind */
    struct delivery how;  /* parked: how slow is to get it; nobody has it yet */
    bool parked;
    bool full;      /* the one receiver's queue is full: it did not take it */
    bool no_memory; /* somebody did not get it for lack of memory */
    bool no_space;  /* or of room on the disk */
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
        fate.no_space |= rc == -ENOSPC;
        if (m->count == 1 && how.qos > 0 && pub->qos > 0) {
            fate.full = rc == -ENOBUFS;
            fate.slow = rc == 0 && hold_wanted(b, session) ? session : NULL;
        }
    }
    return fate;
}

static void log_refused(struct broker *b, const struct publication *pub, int error)
{
    if (b->refused_ms != 0 && b->shard->now_ms - b->refused_ms < REFUSED_MS) {
        return;
    }
    b->refused_ms = b->shard->now_ms;
    log_event(LOG_WARN, "retained_refused", {"topic", LOG_SLICE(pub->topic)},
              {"reason", LOG_STR(error == -EDQUOT ? "limits.max_retained_messages or _bytes" : "no memory")});
}

/* Store or clear the retained message of a topic that is at home here. */
static enum mqtt_reason retain_here(struct broker *b, struct publication *pub)
{
    struct command command = {.type = COMMAND_RETAIN, .wall_ms = b->shard->wall_ms};
    struct outcome outcome = {.error = -ENOMEM};

    command.retain = publication_message(pub);
    if (command.retain) {
        journal_apply(b, &b->groups[group_of(pub->topic_hash)], &command, &outcome);
    }
    if (outcome.error == -ESTALE) { /* what is here is later, and it may not be on the disk yet */
        journal_lean(b);
        return MQTT_SUCCESS;
    }
    if (outcome.error == -ENOSPC) {
        return RECEIPT_NO_SPACE;
    }
    if (outcome.error) {
        broker_metric(b, METRIC_DROPPED_RETAIN_QUOTA, 1);
        log_refused(b, pub, outcome.error);
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

/* To the sessions here: what the publisher is to be told of it goes into open. */
static bool deliver_here(struct broker *b, struct publication *pub, struct receipt_open *open, bool sole)
{
    struct local_fate fate = route_local(b, pub, sole && open && pub->qos > 0);

    if (sole && open && fate.full) {
        open->reason = MQTT_QUOTA_EXCEEDED;
    }
    if (open && fate.no_memory) {
        open->reason = RECEIPT_NO_MEMORY;
    }
    if (open && fate.no_space) {
        open->reason = RECEIPT_NO_SPACE;
    }
    struct receipt *r = sole && open && fate.slow ? receipt_wait(b, open) : NULL;
    if (r) {
        receipt_hold(r);
        hold(b, &fate, pub, (struct receipt_ref){r, b->shard->index});
    }
    return fate.matched > 0;
}

/* To the sessions of all shards of this node, and into its retained store. sole: nobody else gets it. */
static bool route_shards(struct broker *b, struct publication *pub, struct receipt_open *open, uint64_t shards,
                         bool store, bool sole)
{
    unsigned self = b->shard->index;
    unsigned home = store ? broker_home(b, pub->topic_hash) : self;
    uint64_t mails = (shards & ~(1ull << self)) | (home != self ? 1ull << home : 0);
    bool matched = (shards & ~(1ull << self)) != 0;

    while (mails) {
        unsigned shard = (unsigned)__builtin_ctzll(mails);
        mails &= mails - 1;
        mail_publication(b, pub, open, shard,
                         (shards >> shard & 1 ? PUBLISH_DELIVER : 0u) | (store && shard == home ? PUBLISH_RETAIN : 0u) |
                             (sole ? PUBLISH_SOLE : 0u));
    }
    enum mqtt_reason retained = store && home == self ? retain_here(b, pub) : MQTT_SUCCESS;
    if (retained != MQTT_SUCCESS && open) {
        open->reason = (uint8_t)retained;
    }
    return (shards >> self & 1 && deliver_here(b, pub, open, sole)) || matched;
}

/* The routes of its topic; NULL: memory is out, and open knows. */
static const struct route_match *find_routes(struct broker *b, const struct publication *pub, struct receipt_open *open)
{
    const struct route_match *routes = match_cache_routes(b->cache, b->node->routes, pub->topic, pub->topic_hash);

    deliver_begin(b);
    if (!routes) {
        broker_metric(b, METRIC_DROPPED_NO_MEMORY, 1);
        if (open) {
            open->failed = true;
        }
    }
    return routes;
}

#define SHARES_AT_ONCE 8u

/* To each share with members on any node. Copied first: the routes are borrowed, and a member that hands on what it is
 * given looks for others. Returns whether there was one. */
static bool route_shares(struct broker *b, const struct route_match *routes, struct publication *pub,
                         struct receipt_open *open, bool sole)
{
    struct share_target {
        struct share_way way;
        struct spread_mask nodes;
    } few[SHARES_AT_ONCE], *to = few;
    uint32_t count = routes->share_count;

    if (count > SHARES_AT_ONCE) {
        to = malloc(count * sizeof(*to));
        if (!to) {
            broker_metric(b, METRIC_DROPPED_NO_MEMORY, 1);
            if (open) {
                open->failed = true;
            }
            return true;
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        to[i] = (struct share_target){.way = {.share = routes->shares[i].id, .sole = sole}};
        to[i].nodes = forward_nodes(b, pub, routes->shares[i].slots);
    }
    for (uint32_t i = 0; i < count; i++) {
        share_publish(b, &to[i].way, &to[i].nodes, pub, open);
    }
    if (to != few) {
        free(to);
    }
    return count > 0;
}

bool publish_route(struct broker *b, struct publication *pub, struct receipt_open *open)
{
    const struct route_match *routes = find_routes(b, pub, open);
    uint64_t records = journal_records(b);

    if (!routes) {
        return false;
    }
    struct spread_mask nodes = forward_nodes(b, pub, routes->slots);
    bool others = nodes.bits[0] | nodes.bits[1];
    uint64_t shards = routes->shards;
    bool sole = (unsigned)__builtin_popcountll(shards) + routes->share_count + others == 1;
    bool matched = others;
    if (pub->retain && !topic_is_own(pub->topic)) {
        assert(!pub->message);
        pub->stamp = (struct message_stamp){stamp_next(b), b->node->origin};
        forward_everyone(b, &nodes);
    }
    if (nodes.bits[0] | nodes.bits[1]) {
        forward_publication(b, pub, &nodes, open);
    }
    if (routes->share_count > 0) {
        matched |= route_shares(b, routes, pub, open, sole);
    }
    matched |= route_shards(b, pub, open, shards, pub->retain, sole);
    if (open && records != journal_records(b)) {
        open->logged = true;
    }
    return matched;
}

void publish_arrived(struct broker *b, struct publication *pub, struct receipt_open *open, bool keep)
{
    const struct route_match *routes = find_routes(b, pub, open);
    uint64_t records = journal_records(b);

    if (!routes) {
        return;
    }
    route_shards(b, pub, open, routes->shards, keep, __builtin_popcountll(routes->shards) == 1);
    if (open && records != journal_records(b)) {
        open->logged = true;
    }
}

void publish_keep(struct broker *b, struct publication *pub, struct receipt_open *open)
{
    uint64_t records = journal_records(b);

    (void)route_shards(b, pub, open, 0, true, false);
    open->logged |= records != journal_records(b);
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
    uint64_t records = journal_records(b);

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
        if (fate.no_space) {
            answer_reason(b, mail, RECEIPT_NO_SPACE);
        }
        if (fate.slow && may_wait) {
            hold_remote(b, &fate, &pub, mail);
        }
    }
    if (mail->n & PUBLISH_RECEIPT) {
        b->settled[mail->from]++;
        b->settled_logged |= (uint64_t)(records != journal_records(b)) << mail->from;
    }
    message_unref(message);
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
    if (!access_will(b, will)) { /* whoever set it may no longer publish it */
        broker_metric(b, METRIC_PUBLISH_DENIED, 1);
        log_event(LOG_INFO, "access_denied", {"client", LOG_SLICE(slice_of(will->client_id, will->client_id_len))},
                  {"action", LOG_STR("will")}, {"topic", LOG_SLICE(pub.topic)});
        will_free(will);
        return;
    }
    if (will->has_expiry) { /* the interval counts from now: another message than the one that was kept */
        pub.expires_at_ms = b->shard->wall_ms + (uint64_t)will->expiry_s * 1000;
    }
    if (will->has_expiry || pub.retain) { /* and so is one with a stamp */
        pub.message = NULL;
    }
    broker_metric(b, METRIC_UNROUTED, !publish_route(b, &pub, NULL));
    if (pub.message != will->message) {
        publication_end(&pub);
    }
    will_free(will);
}
