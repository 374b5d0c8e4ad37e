/* Shares at home here (4.8.2): who is a member, and who gets the next message: on this node or, in a cluster, on
 * another one (share_nodes.c). */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "broker/flow/share_inside.h"

/* Nobody can have it. Another node is told so: it may know of somebody. */
static void drop(struct broker *b, const struct handing *h)
{
    if (h->way.here && (h->open || h->ref.receipt)) {
        share_refuse(b, h, RECEIPT_NO_MEMBER);
    } else if (h->reason) {
        share_refuse(b, h, h->reason);
    } else {
        broker_metric(b, METRIC_DROPPED_NO_MEMBER, 1);
    }
    receipt_answer(b, h->ref);
}

/* A member for a message; one after the other for one that the first may not have. NULL: there is none, or all were
 * asked. */
static const struct share_member *pick(struct broker *b, struct share_group *group, const struct publication *pub,
                                       const struct handing *h)
{
    if (h->way.refusals >= share_group_count(group)) {
        return NULL;
    }
    if (h->way.refusals > 0) {
        return share_group_next(group, h->way.except, pub->qos);
    }
    return share_group_pick(group, (enum share_strategy)b->config->mqtt.share_strategy, pub->topic_hash, pub->qos,
                            h->way.except, &b->prng);
}

void share_dispatch(struct broker *b, struct publication *pub, struct handing *h)
{
    struct share_group *group = share_table_by_id(b->shares, h->way.share);

    if (b->cluster && share_to_node(b, group, pub, h)) {
        return;
    }
    const struct share_member *m = group ? pick(b, group, pub, h) : NULL;

    if (!m) {
        drop(b, h);
        return;
    }
    if (m->shard == b->shard->index) {
        share_deliver(b, m->session, pub, h);
        return;
    }
    uint32_t shard = m->shard;
    uint64_t session = m->session;
    uint8_t qos = m->options.qos < pub->qos ? m->options.qos : pub->qos;
    struct message *message = publication_message(pub);
    struct mail mail = {.kind = MAIL_SHARE_DELIVER, .a = h->way.share, .b = session, .n = share_mail_number(&h->way)};
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
        share_refuse(b, h, RECEIPT_NO_MEMORY);
        receipt_answer(b, h->ref);
    }
}

void share_publish(struct broker *b, const struct share_way *way, const struct spread_mask *nodes,
                   struct publication *pub, struct receipt_open *open)
{
    unsigned home = share_home(b, way->share);

    if (home == b->shard->index) {
        struct handing h = {.way = *way, .nodes = *nodes, .nodes_known = true, .open = open};
        share_dispatch(b, pub, &h);
        return;
    }
    struct message *message = publication_message(pub);
    struct mail mail = {.kind = MAIL_SHARE_PUBLISH,
                        .ptr = message,
                        .a = way->share,
                        .b = nodes->bits[0],
                        .c = nodes->bits[1],
                        .n = share_mail_number(way) | SHARE_MAIL_FRESH};
    if (message && open) {
        mail.ptr2 = receipt_wait(b, open); /* settled once, by whoever has the message in the end */
    }
    if (!message || (open && !mail.ptr2) || shard_post(b->shard, home, &mail) != 0) {
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
    struct handing h = {.way = share_way_of(mail)};

    publication_of_message(&pub, message);
    h.ref = (struct receipt_ref){mail->ptr2, mail->from};
    if (mail->n & SHARE_MAIL_FRESH) {
        h.nodes = (struct spread_mask){{mail->b, mail->c}};
        h.nodes_known = true;
    } else {
        h.way.except = mail->b;
        h.ref.from = mail->c ? (unsigned)mail->c - 1 : mail->from;
    }
    deliver_begin(b);
    share_dispatch(b, &pub, &h);
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
        struct session_share *share = share_find_member(b, r->id, r->member.session);
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
    int rc = share_add_member(b, share);
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
        share_nodes_left(b, id);
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
        h = (struct handing){.way = share_way_of(mail), .ref = {mail->ptr2, (unsigned)mail->c}};
        deliver_begin(b);
        share_deliver(b, mail->b, &pub, &h);
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
