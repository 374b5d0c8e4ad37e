/* Shared subscriptions (4.8.2). A share has a home shard, by the hash of its name and filter; there its members are
 * known, wherever their sessions live, and one is picked for each message:
 *
 *     publisher's shard -- SHARE_PUBLISH --> home of the share -- SHARE_DELIVER --> home of the member
 *                                                 ^--------------- SHARE_SETTLED ------------'
 *
 * A member that loses its connection or leaves sends back what it has not finished, as a SHARE_PUBLISH that names it as
 * the one not to pick. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "broker/flow/dispatch.h"
#include "broker/flow/flow.h"
#include "proto/mqtt/property.h"

/* A join on its way to the share's home and back. */
struct share_request {
    struct subscribe_job *job;
    uint32_t index;
    unsigned from;
    int error;
    uint64_t id;
    struct share_member member;
    uint32_t name_len, filter_len;
    uint8_t text[];
};

/* One member's delivery, and where to answer for it. */
struct handing {
    uint64_t share;
    uint64_t except;           /* session not to be picked; 0: any may */
    struct receipt_open *open; /* the publisher is here: answered here */
    struct receipt_ref ref;    /* else: the publisher's receipt, or NULL */
    bool sole;                 /* nobody else gets the message: the publisher may wait for a slow member */
    uint32_t refusals;         /* members that may not have it */
};

/* mail.n of SHARE_PUBLISH and SHARE_DELIVER. */
static uint32_t mail_number(bool sole, uint32_t refusals)
{
    return (sole ? 1u : 0u) | refusals << 1;
}

uint64_t share_id(const struct broker *b, struct slice name, struct slice filter)
{
    const struct hash_key *key = &b->node->route_key; /* all nodes know a share by the same number */
    uint64_t id = hash_mix(hash_keyed(key, name) + 1) ^ hash_keyed(key, filter);
    return id ? id : 1;
}

static unsigned home_of(const struct broker *b, uint64_t id)
{
    return group_of(id) % b->shard->count;
}

/* ---- members at home here ---- */

struct member_key {
    uint64_t share, session;
};

static uint64_t member_hash(uint64_t share, uint64_t session)
{
    return hash_mix(share ^ hash_mix(session));
}

static bool is_member(const void *value, const void *key)
{
    const struct session_share *s = value;
    const struct member_key *k = key;
    return s->share == k->share && s->session->uid == k->session;
}

static struct session_share *find_member(struct broker *b, uint64_t share, uint64_t session)
{
    struct member_key key = {share, session};
    return map_find(&b->share_subscriptions, member_hash(share, session), is_member, &key);
}

static void tell_home(struct broker *b, struct mail *mail, uint64_t share)
{
    mail->a = share;
    /* What many members refuse goes round by mail, even on one shard: a call within a call for each would end the
     * stack. */
    bool round = mail->kind == MAIL_SHARE_PUBLISH && mail->n >> 1 > 0;

    if (home_of(b, share) == b->shard->index && !round) {
        mail->from = (uint16_t)b->shard->index;
        share_mail(b, mail);
    } else if (mail->kind != MAIL_SHARE_PUBLISH) {
        broker_answer(b, home_of(b, share), mail);
    } else if (shard_post(b->shard, home_of(b, share), mail) !=
               0) { /* handed back by a member, and no memory to hand it on */
        message_unref(mail->ptr);
        broker_metric(b, METRIC_DROPPED_NO_MEMORY, 1);
    }
}

int share_subscribe(struct broker *b, struct session_share *share, bool existed, struct subscribe_job *job,
                    uint32_t index)
{
    struct slice name = session_share_name(share), filter = session_share_filter(share);
    struct session *session = share->session;

    share->share = share_id(b, name, filter);
    share->home = home_of(b, share->share);
    struct share_request *r = malloc(sizeof(*r) + name.len + filter.len);
    if (!r || (!existed && map_add(&b->share_subscriptions, member_hash(share->share, session->uid), share) != 0)) {
        free(r);
        if (!existed) {
            struct command command = {.type = COMMAND_SHARE_LEAVE, .session = session, .share_leave = share};
            struct outcome outcome;
            broker_apply(b, &command, &outcome);
            free(share);
        }
        return -ENOMEM;
    }
    broker_metric(b, METRIC_SUBSCRIPTIONS, !existed);
    broker_metric(b, METRIC_SHARED_SUBSCRIPTIONS, !existed);
    *r = (struct share_request){
        .job = job,
        .index = index,
        .from = b->shard->index,
        .id = share->share,
        .member = {.session = session->uid,
                   .shard = b->shard->index,
                   .window = session->receive_max,
                   .online = session->front != NULL,
                   .options = share->options},
        .name_len = (uint32_t)name.len,
        .filter_len = (uint32_t)filter.len,
    };
    memcpy(r->text, name.ptr, name.len);
    memcpy(r->text + name.len, filter.ptr, filter.len);
    struct mail mail = {.kind = MAIL_SHARE_JOIN, .ptr = r};
    if (share->home != b->shard->index && shard_post(b->shard, share->home, &mail) != 0) {
        free(r);
        share_unsubscribe(b, share, false);
        return -ENOMEM;
    }
    if (share->home == b->shard->index) {
        mail.from = (uint16_t)b->shard->index;
        share_mail(b, &mail);
    }
    return 0;
}

/* Send an entry of a session's queue back to its share, for somebody else. */
static void return_entry(struct broker *b, struct session *session, uint64_t number, uint64_t share)
{
    struct message *message = message_ref(queue_at(session->queue, number)->message);
    struct command command = {.type = COMMAND_DISCARD, .session = session, .number = number};
    struct outcome outcome;
    uint64_t bytes_before = session->queue->bytes;

    struct receipt *wait = session->durable ? receipt_return(b, session, number) : NULL;
    if (wait) { /* logged when somebody else has it */
        group_apply(broker_group(b, session), &command, &outcome);
    } else {
        broker_apply(b, &command, &outcome);
    }
    broker_metric(b, METRIC_QUEUED, -1);
    broker_metric(b, METRIC_QUEUED_BYTES, (int64_t)(session->queue->bytes - bytes_before));
    share_settled(b, session, share);
    share_flush(b);
    struct mail mail = {.kind = MAIL_SHARE_PUBLISH, .ptr = message, .ptr2 = wait, .b = session->uid};
    tell_home(b, &mail, share);
}

/* Give back what may still go to another member: QoS 1 unless it must be finished here, QoS 2 only if its delivery has
 * not begun [MQTT-4.8.2-5]. share 0: of all shares. */
static void return_entries(struct broker *b, struct session *session, uint64_t share, bool sent_too)
{
    struct queue *q = session->queue;

    if (!q) {
        return;
    }
    uint64_t end = q->tail; /* what comes back to this very session is put behind */
    for (uint64_t n = q->head; n != end; n++) {
        if (n < q->head || queue_is_cold(q, n)) {
            continue; /* cold: it came while nobody in the share was there */
        }
        struct queue_entry *e = queue_at(q, n);
        if (!e->extra || e->extra->share == 0 || (share && e->extra->share != share)) {
            continue;
        }
        if (e->state == QUEUE_WAITING || (e->state == QUEUE_SENT && e->qos == 1 && sent_too)) {
            return_entry(b, session, n, e->extra->share);
        }
    }
}

void share_hand_on(struct broker *b, struct session *session)
{
    if (!list_empty(&session->shares)) {
        return_entries(b, session, 0, true);
    }
}

void share_unsubscribe(struct broker *b, struct session_share *share, bool ended)
{
    struct session *session = share->session;
    uint64_t id = share->share;
    struct mail leave = {.kind = MAIL_SHARE_LEAVE, .b = session->uid};
    struct command command = {.type = COMMAND_SHARE_LEAVE, .session = session, .share_leave = share};
    struct outcome outcome;

    map_remove(&b->share_subscriptions, member_hash(id, session->uid), share);
    broker_metric(b, METRIC_SUBSCRIPTIONS, -1);
    broker_metric(b, METRIC_SHARED_SUBSCRIPTIONS, -1);
    broker_apply(b, &command, &outcome);
    free(share);
    share_flush(b);
    tell_home(b, &leave, id);
    return_entries(b, session, id, ended); /* [MQTT-3.10.4-3]: what was sent is finished here while the session lives */
}

void share_online(struct broker *b, struct session *session, bool online)
{
    for (struct list *at = session->shares.next; at != &session->shares; at = at->next) {
        struct session_share *share = CONTAINER_OF(at, struct session_share, in_session);
        struct mail mail = {.kind = MAIL_SHARE_PRESENCE, .b = session->uid, .n = session->receive_max, .c = online};
        tell_home(b, &mail, share->share);
    }
}

void share_flush(struct broker *b)
{
    if (b->share_settled.count > 0) {
        struct mail mail = {.kind = MAIL_SHARE_SETTLED, .b = b->share_settled.session, .n = b->share_settled.count};
        b->share_settled.count = 0;
        tell_home(b, &mail, b->share_settled.share);
    }
}

void share_settled(struct broker *b, struct session *session, uint64_t share)
{
    if (b->share_settled.share != share || b->share_settled.session != session->uid) {
        share_flush(b);
        b->share_settled.share = share;
        b->share_settled.session = session->uid;
    }
    b->share_settled.count++;
}

/* Memory was out: the publisher is not to be told that all is well. */
static void refuse(struct broker *b, const struct handing *h, enum mqtt_reason reason)
{
    if (h->open) {
        h->open->reason = (uint8_t)reason;
    }
    receipt_reason(b, h->ref, reason);
}

/* The publisher is not to be read until this one has caught up. */
static void tell_slow(struct broker *b, struct receipt_ref ref)
{
    struct mail mail = {.kind = MAIL_RECEIPT_SLOW, .ptr = ref.receipt};

    if (ref.from == b->shard->index) {
        receipt_hold(ref.receipt);
    } else {
        broker_answer(b, ref.from, &mail); /* before the settlement, by the same way */
    }
}

/* The member that was picked has left while the message was on its way, or may not have it: it goes to another one. */
static void pass_on(struct broker *b, uint64_t session_uid, struct publication *pub, const struct handing *h)
{
    struct message *message = publication_message(pub);

    if (message) {
        struct mail mail = {.kind = MAIL_SHARE_PUBLISH,
                            .ptr = message_ref(message),
                            .b = session_uid,
                            .n = mail_number(false, h->refusals)};
        tell_home(b, &mail, h->share);
    } else {
        broker_metric(b, METRIC_DROPPED_NO_MEMORY, 1);
        refuse(b, h, RECEIPT_NO_MEMORY);
    }
    receipt_answer(b, h->ref);
}

/* The member that was picked is at home here. */
static void deliver_member(struct broker *b, uint64_t session_uid, struct publication *pub, const struct handing *h)
{
    struct session_share *share = find_member(b, h->share, session_uid);

    if (!share) {
        pass_on(b, session_uid, pub, h);
        return;
    }
    struct buf ids = {0};
    if (share->options.id) {
        buf_u8(&ids, MQTT_PROP_SUBSCRIPTION_ID);
        buf_varint(&ids, share->options.id);
    }
    struct session *session = share->session;
    uint8_t qos = share->options.qos < pub->qos ? share->options.qos : pub->qos;
    struct delivery how = {
        .ids = buf_slice(&ids),
        .share = qos > 0 ? h->share : 0,
        .qos = qos,
        .retain = pub->retain && share->options.retain_as_published,
    };
    int rc = ids.failed ? -ENOMEM : deliver(b, session, pub, &how);
    bool taken = rc == 0;
    broker_metric(b, METRIC_DROPPED_NO_MEMORY, ids.failed); /* deliver counts its own */
    buf_deinit(&ids);
    if (rc == -ENOMEM) {
        refuse(b, h, RECEIPT_NO_MEMORY);
    } else if (rc == -ENOSPC) {
        refuse(b, h, RECEIPT_NO_SPACE);
    } else if (rc == -ENOBUFS && h->sole) {
        refuse(b, h, MQTT_QUOTA_EXCEEDED);
    }
    if (!taken && qos > 0) {
        share_settled(b, session, h->share);
    }
    if (rc == -EACCES) {
        struct handing next = *h;
        next.refusals++;
        share_flush(b);
        pass_on(b, session_uid, pub, &next);
        return;
    }
    struct receipt_ref ref = h->ref;
    bool hold = h->sole && taken && qos > 0 && hold_wanted(b, session);
    if (h->open && hold) {
        ref = (struct receipt_ref){receipt_wait(b, h->open), b->shard->index};
    }
    if (ref.receipt && hold) {
        tell_slow(b, ref);
        hold_add(b, session, ref);
    } else {
        receipt_answer(b, ref);
    }
}

/* ---- shares at home here ---- */

static void drop(struct broker *b, const struct handing *h)
{
    broker_metric(b, METRIC_DROPPED_NO_MEMBER, 1);
    receipt_answer(b, h->ref);
}

/* A member for a message; one after the other for one that the first may not have. NULL: there is none, or all were
 * asked. */
static const struct share_member *pick(struct broker *b, struct share_group *group, const struct publication *pub,
                                       const struct handing *h)
{
    if (h->refusals >= share_group_count(group)) {
        return NULL;
    }
    if (h->refusals > 0) {
        return share_group_next(group, h->except, pub->qos);
    }
    return share_group_pick(group, (enum share_strategy)b->config->mqtt.share_strategy, pub->topic_hash, pub->qos,
                            h->except, &b->prng);
}

/* Pick a member and pass the message on to it. */
static void dispatch(struct broker *b, struct publication *pub, struct handing *h)
{
    struct share_group *group = share_table_by_id(b->shares, h->share);
    const struct share_member *m = group ? pick(b, group, pub, h) : NULL;

    if (!m) {
        drop(b, h);
        return;
    }
    if (m->shard == b->shard->index) {
        deliver_member(b, m->session, pub, h);
        return;
    }
    uint32_t shard = m->shard;
    uint64_t session = m->session;
    uint8_t qos = m->options.qos < pub->qos ? m->options.qos : pub->qos;
    struct message *message = publication_message(pub);
    struct mail mail = {
        .kind = MAIL_SHARE_DELIVER, .a = h->share, .b = session, .n = mail_number(h->sole, h->refusals)};
    if (message && pub->qos > 0) { /* the member's shard answers for it */
        if (h->open) {
            mail.ptr2 = receipt_wait(b, h->open);
            mail.c = b->shard->index;
        } else if (h->ref.receipt) {
            mail.ptr2 = h->ref.receipt;
            mail.c = h->ref.from;
        }
    }
    mail.ptr = message ? message_ref(message) : NULL;
    if (!message || shard_post(b->shard, shard, &mail) != 0) {
        message_unref(message);
        if (qos > 0) {
            share_group_settle(group, session, 1);
        }
        if (h->open && mail.ptr2) {
            h->open->receipt->waiting--;
        }
        broker_metric(b, METRIC_DROPPED_NO_MEMORY, 1);
        refuse(b, h, RECEIPT_NO_MEMORY);
        receipt_answer(b, h->ref);
    }
}

void share_publish(struct broker *b, const struct route_share *share, struct publication *pub,
                   struct receipt_open *open, bool sole)
{
    if (share->home == b->shard->index) {
        struct handing h = {.share = share->id, .open = open, .sole = sole};
        dispatch(b, pub, &h);
        return;
    }
    struct message *message = publication_message(pub);
    struct mail mail = {.kind = MAIL_SHARE_PUBLISH, .ptr = message, .a = share->id, .n = mail_number(sole, 0)};
    if (message && open) {
        mail.ptr2 = receipt_wait(b, open); /* settled once, by whoever has the message in the end */
    }
    if (!message || (open && !mail.ptr2) || shard_post(b->shard, share->home, &mail) != 0) {
        broker_metric(b, METRIC_DROPPED_NO_MEMORY, 1);
        if (mail.ptr2) {
            open->receipt->waiting--;
        }
        if (open) {
            open->failed = true;
        }
        return;
    }
    message_ref(message);
}

/* A message from another shard's publisher, or one that a member gave back. */
static void published(struct broker *b, const struct mail *mail)
{
    struct message *message = mail->ptr;
    struct publication pub;
    struct handing h = {.share = mail->a, .except = mail->b, .sole = mail->n & 1, .refusals = mail->n >> 1};

    publication_of_message(&pub, message);
    h.ref = (struct receipt_ref){mail->ptr2, mail->from};
    deliver_begin(b);
    dispatch(b, &pub, &h);
    message_unref(message);
}

static void request_done(struct broker *b, struct share_request *r)
{
    if (r->from != b->shard->index) {
        struct mail mail = {.kind = MAIL_SHARE_JOINED, .ptr = r};
        broker_answer(b, r->from, &mail);
        return;
    }
    if (r->error) { /* no member after all */
        struct session_share *share = find_member(b, r->id, r->member.session);
        if (share) {
            share_unsubscribe(b, share, false);
        }
    }
    subscribe_settled(b, r->job, r->index, r->error);
    free(r);
}

int share_recover(struct broker *const *brokers, unsigned count, unsigned shard, struct session_share *share)
{
    struct broker *b = brokers[shard];
    struct share_group *group;
    struct session *session = share->session;
    bool created = false, existed;

    share->share = share_id(b, session_share_name(share), session_share_filter(share));
    share->home = group_of(share->share) % count;
    struct broker *home = brokers[share->home];
    uint64_t id = share->share;
    struct share_member member = {.session = session->uid, .shard = shard, .options = share->options};
    int rc = map_add(&b->share_subscriptions, member_hash(share->share, session->uid), share);
    rc = rc ? rc
            : share_table_open(home->shares, session_share_name(share), session_share_filter(share), &id, &group,
                               &created);
    rc = rc ? rc : share_group_join(group, &member, &existed);
    if (rc == 0 && created) {
        struct route_share route = {.id = share->share, .home = share->home};
        rc = route_table_add_share(b->node->routes, session_share_filter(share), &route);
    }
    return rc;
}

static void leave(struct broker *b, uint64_t id, uint64_t session)
{
    struct share_group *group = share_table_by_id(b->shares, id);

    if (group && share_group_leave(group, session)) {
        route_withdraw(b, ROUTE_REMOVE_SHARE, share_group_filter(group), id);
        share_table_close(b->shares, group);
    }
}

static void join(struct broker *b, struct share_request *r)
{
    struct slice name = slice_of(r->text, r->name_len), filter = slice_of(r->text + r->name_len, r->filter_len);
    struct share_group *group;
    uint64_t id = r->id;
    bool created = false, existed;

    r->error = share_table_open(b->shares, name, filter, &id, &group, &created);
    if (r->error == 0) {
        r->error = share_group_join(group, &r->member, &existed);
        if (r->error && created) {
            share_table_close(b->shares, group);
        }
    }
    if (r->error || (!created && b->routes_pending == 0)) {
        request_done(b, r);
        return;
    }
    struct route_wait wait = {.request = r};
    struct route_share route = {.id = r->id, .home = b->shard->index};
    int rc = route_announce(b, created ? ROUTE_ADD_SHARE : ROUTE_BARRIER, filter, &route, &wait);
    if (rc) { /* else r is answered, perhaps already */
        leave(b, r->id, r->member.session);
        r->error = rc;
        request_done(b, r);
    }
}

void share_announced(struct broker *b, struct share_request *r, int error)
{
    if (error) {
        leave(b, r->id, r->member.session);
    }
    r->error = error;
    request_done(b, r);
}

void share_mail(struct broker *b, const struct mail *mail)
{
    struct share_group *group;
    struct publication pub;
    struct handing h;

    switch (mail->kind) {
    case MAIL_SHARE_JOIN:
        join(b, mail->ptr);
        break;
    case MAIL_SHARE_JOINED:
        ((struct share_request *)mail->ptr)->from = b->shard->index;
        request_done(b, mail->ptr);
        break;
    case MAIL_SHARE_LEAVE:
        leave(b, mail->a, mail->b);
        break;
    case MAIL_SHARE_PRESENCE:
        group = share_table_by_id(b->shares, mail->a);
        if (group) {
            share_group_presence(group, mail->b, mail->c != 0, mail->n);
        }
        break;
    case MAIL_SHARE_PUBLISH:
        published(b, mail);
        break;
    case MAIL_SHARE_DELIVER:
        publication_of_message(&pub, mail->ptr);
        h = (struct handing){
            .share = mail->a, .ref = {mail->ptr2, (unsigned)mail->c}, .sole = mail->n & 1, .refusals = mail->n >> 1};
        deliver_begin(b);
        deliver_member(b, mail->b, &pub, &h);
        message_unref(mail->ptr);
        break;
    case MAIL_SHARE_SETTLED:
        group = share_table_by_id(b->shares, mail->a);
        if (group) {
            share_group_settle(group, mail->b, mail->n);
        }
        break;
    default:
        assert(!"a mail of a share");
    }
}

void share_discard(const struct mail *mail)
{
    if (mail->kind == MAIL_SHARE_JOIN || mail->kind == MAIL_SHARE_JOINED) {
        free(mail->ptr);
    } else if (mail->kind == MAIL_SHARE_PUBLISH || mail->kind == MAIL_SHARE_DELIVER) {
        message_unref(mail->ptr);
    }
}
