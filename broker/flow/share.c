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

#include "broker/flow/share_inside.h"
#include "proto/mqtt/property.h"

uint64_t share_id(const struct broker *b, struct slice name, struct slice filter)
{
    const struct hash_key *key = &b->node->route_key; /* all nodes know a share by the same number */
    uint64_t id = hash_mix(hash_keyed(key, name) + 1) ^ hash_keyed(key, filter);
    return id ? id : 1;
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

struct session_share *share_find_member(struct broker *b, uint64_t share, uint64_t session)
{
    struct member_key key = {share, session};
    return map_find(&b->share_subscriptions, member_hash(share, session), is_member, &key);
}

int share_add_member(struct broker *b, struct session_share *share)
{
    return map_add(&b->share_subscriptions, member_hash(share->share, share->session->uid), share);
}

/* Returns 0, or -ENOMEM if it is a message: it is lost to the share. */
static int tell_home(struct broker *b, struct mail *mail, uint64_t share)
{
    mail->a = share;
    /* What many members refuse goes round by mail, even on one shard: a call within a call for each would end the
     * stack. */
    bool round = mail->kind == MAIL_SHARE_PUBLISH && mail->n >> 3 > 0;

    if (share_home(b, share) == b->shard->index && !round) {
        mail->from = (uint16_t)b->shard->index;
        share_mail(b, mail);
    } else if (mail->kind != MAIL_SHARE_PUBLISH) {
        broker_answer(b, share_home(b, share), mail);
    } else if (shard_post(b->shard, share_home(b, share), mail) != 0) {
        message_unref(mail->ptr);
        broker_metric(b, METRIC_DROPPED_NO_MEMORY, 1);
        return -ENOMEM;
    }
    return 0;
}

int share_subscribe(struct broker *b, struct session_share *share, bool existed, struct subscribe_job *job,
                    uint32_t index)
{
    struct slice name = session_share_name(share), filter = session_share_filter(share);
    struct session *session = share->session;

    share->share = share_id(b, name, filter);
    share->home = share_home(b, share->share);
    struct share_request *r = malloc(sizeof(*r) + name.len + filter.len);
    if (!r || (!existed && share_add_member(b, share) != 0)) {
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
    (void)tell_home(b, &mail, share); /* else: it is still in the session's log */
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
    (void)tell_home(b, &leave, id);
    return_entries(b, session, id, ended); /* [MQTT-3.10.4-3]: what was sent is finished here while the session lives */
}

void share_online(struct broker *b, struct session *session, bool online)
{
    for (struct list *at = session->shares.next; at != &session->shares; at = at->next) {
        struct session_share *share = CONTAINER_OF(at, struct session_share, in_session);
        struct mail mail = {.kind = MAIL_SHARE_PRESENCE, .b = session->uid, .n = session->receive_max, .c = online};
        (void)tell_home(b, &mail, share->share);
    }
}

void share_flush(struct broker *b)
{
    if (b->share_settled.count > 0) {
        struct mail mail = {.kind = MAIL_SHARE_SETTLED, .b = b->share_settled.session, .n = b->share_settled.count};
        b->share_settled.count = 0;
        (void)tell_home(b, &mail, b->share_settled.share);
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

void share_refuse(struct broker *b, const struct handing *h, enum mqtt_reason reason)
{
    if (h->open) {
        h->open->reason = (uint8_t)reason;
    }
    receipt_reason(b, h->ref, reason);
}

void share_tell_slow(struct broker *b, struct receipt_ref ref)
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
    struct receipt_ref ref = h->ref;
    struct share_way way = h->way;

    if (message && h->open && pub->qos > 0) {
        ref = (struct receipt_ref){receipt_wait(b, h->open), b->shard->index};
    }
    way.sole = false;
    struct mail mail = {.kind = MAIL_SHARE_PUBLISH,
                        .ptr = message ? message_ref(message) : NULL,
                        .b = session_uid,
                        .n = share_mail_number(&way),
                        .ptr2 = ref.receipt, /* whoever has it in the end answers */
                        .c = ref.from + 1};
    if (!message) {
        broker_metric(b, METRIC_DROPPED_NO_MEMORY, 1);
        share_refuse(b, h, RECEIPT_NO_MEMORY);
        receipt_answer(b, h->ref);
    } else if (tell_home(b, &mail, way.share) != 0) {
        receipt_reason(b, ref, RECEIPT_NO_MEMORY);
        receipt_answer(b, ref);
    }
}

void share_deliver(struct broker *b, uint64_t session_uid, struct publication *pub, const struct handing *h)
{
    struct session_share *share = share_find_member(b, h->way.share, session_uid);

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
        .share = qos > 0 ? h->way.share : 0,
        .qos = qos,
        .retain = pub->retain && share->options.retain_as_published,
    };
    int rc = ids.failed ? -ENOMEM : deliver(b, session, pub, &how);
    bool taken = rc == 0;
    broker_metric(b, METRIC_DROPPED_NO_MEMORY, ids.failed); /* deliver counts its own */
    buf_deinit(&ids);
    if (rc == -ENOMEM) {
        share_refuse(b, h, RECEIPT_NO_MEMORY);
    } else if (rc == -ENOSPC) {
        share_refuse(b, h, RECEIPT_NO_SPACE);
    } else if (rc == -ENOBUFS && h->way.sole) {
        share_refuse(b, h, MQTT_QUOTA_EXCEEDED);
    }
    if (!taken && qos > 0) {
        share_settled(b, session, h->way.share);
    }
    if (rc == -EACCES) {
        struct handing next = *h;
        next.way.refusals++;
        share_flush(b);
        pass_on(b, session_uid, pub, &next);
        return;
    }
    struct receipt_ref ref = h->ref;
    bool hold = h->way.sole && taken && qos > 0 && hold_wanted(b, session);
    if (h->open && hold) {
        ref = (struct receipt_ref){receipt_wait(b, h->open), b->shard->index};
    }
    if (ref.receipt && hold) {
        share_tell_slow(b, ref);
        hold_add(b, session, ref);
    } else {
        receipt_answer(b, ref);
    }
}
