/* Neighbours: the control shard learns from the membership (driver.c) who is there, and tells the other shards; each
 * keeps a link of its own to each living node. Who is dead is waited for by nobody any more; when it comes back, it is
 * as new. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "broker/flow/cluster.h"
#include "broker/flow/dispatch.h"
#include "broker/flow/driver.h"
#include "broker/flow/flow.h"
#include "broker/flow/inquire.h"
#include "proto/base/log.h"

static struct broker *broker_of_link(const struct peer_link *link)
{
    return CONTAINER_OF(link->room, struct cluster_shard, room)->broker;
}

int neighbour_find(const struct node_cluster *cluster, const struct node_id *id)
{
    for (unsigned i = 0; i < NEIGHBOURS_MAX; i++) {
        if (cluster->neighbours[i].alive && node_id_eq(&cluster->neighbours[i].id, id)) {
            return (int)i;
        }
    }
    return -1;
}

/* The number that a dialled link has. */
static unsigned number_of(const struct peer_link *link)
{
    return ((const struct forward_lane *)link->owner)->neighbour;
}

/* ---- on every shard ---- */

/* Whether the link to this one is to be made when there is memory again. */
static void set_unlinked(struct cluster_shard *cs, unsigned number, bool unlinked)
{
    cs->unlinked_count += unlinked;
    cs->unlinked_count -= cs->unlinked[number].waits;
    cs->unlinked[number].waits = unlinked;
}

static void link_up(struct broker *b, unsigned number, const struct node_id *id, const struct member_address *address)
{
    struct cluster_shard *cs = b->cluster;

    if (cs->links[number]) {
        peer_redial(cs->links[number], address);
        if (b->shard->index == CONTROL_SHARD) {
            feed_peer_back(b, number);
        }
        return;
    }
    struct forward_lane *lane = forward_lane_new(number);
    struct peer_link *link = lane ? peer_dial(&cs->room, id, address) : NULL;
    if (!link) {
        free(lane);
        if (!cs->unlinked[number].waits) {
            log_event(LOG_ERROR, "link_failed", {"reason", LOG_STR("no memory")});
        }
        cs->unlinked[number].id = *id;
        cs->unlinked[number].address = *address;
        set_unlinked(cs, number, true);
        return;
    }
    set_unlinked(cs, number, false);
    link->owner = lane;
    cs->links[number] = link;
    cs->links_end = number >= cs->links_end ? number + 1 : cs->links_end;
    if (b->shard->index == CONTROL_SHARD) {
        feed_peer_up(b, number);
        catchup_peer_up(b, number);
    }
}

/* Those whose links there was no memory for. */
static void link_again(struct broker *b)
{
    struct cluster_shard *cs = b->cluster;

    for (unsigned n = 0; n < NEIGHBOURS_MAX && cs->unlinked_count > 0; n++) {
        if (cs->unlinked[n].waits) {
            struct node_id id = cs->unlinked[n].id;
            struct member_address address = cs->unlinked[n].address;
            link_up(b, n, &id, &address);
        }
    }
}

static void link_down(struct broker *b, unsigned number, const struct node_id *id, uint64_t boot)
{
    struct cluster_shard *cs = b->cluster;

    peer_forget(&cs->room, id, boot);
    set_unlinked(cs, number, false);
    if (cs->links[number]) {
        peer_hang_up(cs->links[number]);
    }
}

/* What the control shard tells the others of a neighbour. */
struct news {
    struct node_id id;
    struct member_address address;
    uint64_t boot;
    unsigned number;
    bool alive;
};

/* It fits into a mail: what all shards must know needs no memory. */
_Static_assert(NEIGHBOURS_MAX <= 0x80 && sizeof(void *) == 8, "news in a mail");

static struct mail news_mail(const struct news *news)
{
    struct mail mail = {.kind = MAIL_NEIGHBOUR, .c = news->boot};

    mail.n = (uint32_t)news->address.port << 16 | (uint32_t)news->address.family << 8 | (uint32_t)news->alive << 7 |
             news->number;
    memcpy(&mail.a, news->id.bytes, 8);
    memcpy(&mail.b, news->id.bytes + 8, 8);
    memcpy(&mail.ptr, news->address.bytes, 8);
    memcpy(&mail.ptr2, news->address.bytes + 8, 8);
    return mail;
}

static void news_read(const struct mail *mail, struct news *ret_news)
{
    *ret_news = (struct news){.boot = mail->c,
                              .number = mail->n & 0x7f,
                              .alive = mail->n >> 7 & 1,
                              .address = {.family = (uint8_t)(mail->n >> 8), .port = (uint16_t)(mail->n >> 16)}};
    memcpy(ret_news->id.bytes, &mail->a, 8);
    memcpy(ret_news->id.bytes + 8, &mail->b, 8);
    memcpy(ret_news->address.bytes, &mail->ptr, 8);
    memcpy(ret_news->address.bytes + 8, &mail->ptr2, 8);
}

static void heed(struct broker *b, const struct news *news)
{
    if (news->alive) {
        peer_forget(&b->cluster->room, &news->id, news->boot - 1); /* of an earlier start */
        link_up(b, news->number, &news->id, &news->address);
    } else {
        link_down(b, news->number, &news->id, news->boot);
    }
}

void cluster_mail(struct broker *b, const struct mail *mail)
{
    struct node_cluster *cluster = b->node->cluster;

    switch ((enum mail_kind)mail->kind) {
    case MAIL_PEER_WIRE:
        peer_wire_arrived(&b->cluster->room, mail->ptr);
        break;
    case MAIL_NEIGHBOUR: {
        struct news news;
        news_read(mail, &news);
        heed(b, &news);
        if (!news.alive) {
            struct mail done = {.kind = MAIL_NEIGHBOUR_LEFT, .n = news.number};
            broker_answer(b, CONTROL_SHARD, &done);
        }
        break;
    }
    case MAIL_NEIGHBOUR_LEFT: {
        struct neighbour *n = &cluster->neighbours[mail->n];
        if (--n->leaving == 0 && !n->alive) {
            n->used = false;
        }
        break;
    }
    case MAIL_CLAIM:
        claim_mail(b, mail);
        break;
    case MAIL_SHARE_LOAD:
        share_nodes_mail(b, mail);
        break;
    case MAIL_SEEK:
    case MAIL_FOUND:
        seek_mail(b, mail);
        break;
    case MAIL_ATTACH:
        attach_mail(b, mail);
        break;
    case MAIL_CATCHUP:
        catchup_mail(b, mail);
        break;
    default:
        break;
    }
}

void cluster_discard(const struct mail *mail)
{
    if (mail->kind == MAIL_PEER_WIRE) {
        peer_wire_discard(mail->ptr);
    } else if (mail->kind != MAIL_SHARE_LOAD && mail->kind != MAIL_FOUND && mail->kind != MAIL_NEIGHBOUR &&
               mail->kind != MAIL_NEIGHBOUR_LEFT) {
        free(mail->ptr);
    }
}

/* ---- on the control shard ---- */

static void tell_shards(struct broker *b, const struct news *news)
{
    struct mail mail = news_mail(news);

    for (unsigned i = 0; i < b->shard->count; i++) {
        if (i == CONTROL_SHARD) {
            heed(b, news);
        } else {
            broker_answer(b, i, &mail);
        }
    }
}

static int free_number(const struct node_cluster *cluster)
{
    for (unsigned i = 0; i < NEIGHBOURS_MAX; i++) {
        if (!cluster->neighbours[i].used) {
            return (int)i;
        }
    }
    return -1;
}

static void depart(struct broker *b, unsigned number)
{
    struct neighbour *n = &b->node->cluster->neighbours[number];
    struct news news = {.id = n->id, .boot = n->boot, .number = number};

    log_event(LOG_WARN, "node_gone", {"node", LOG_STR(n->name)});
    n->alive = false;
    atomic_store_explicit(&b->node->cluster->met[number], false, memory_order_relaxed);
    atomic_fetch_sub(&b->node->cluster->neighbour_count, 1);
    n->leaving = b->shard->count - 1;
    n->used = n->leaving > 0;
    feed_peer_gone(b, number);
    tell_shards(b, &news);
}

void neighbour_changed(struct broker *b, const struct member *member, bool alive)
{
    struct node_cluster *cluster = b->node->cluster;
    int number = neighbour_find(cluster, &member->id);
    struct neighbour *n = number >= 0 ? &cluster->neighbours[number] : NULL;

    cluster->ready_stale = true;
    if (n && !alive) {
        depart(b, (unsigned)number);
    }
    if (!alive) {
        return;
    }
    if (n && n->boot != member->boot) {
        log_event(LOG_WARN, "node_restarted", {"node", LOG_STR(member->name)},
                  {"boot", LOG_INT((int64_t)member->boot)});
        feed_peer_gone(b, (unsigned)number); /* what it has not answered for is sent again, by its links */
    }
    if (!n) {
        number = free_number(cluster);
        if (number < 0) {
            log_event(LOG_ERROR, "too_many_nodes", {"node", LOG_STR(member->name)}, {"limit", LOG_INT(NEIGHBOURS_MAX)});
            return;
        }
        n = &cluster->neighbours[number];
        atomic_fetch_add(&cluster->neighbour_count, 1);
        log_event(LOG_INFO, "node_joined", {"node", LOG_STR(member->name)}, {"boot", LOG_INT((int64_t)member->boot)});
    }
    *n = (struct neighbour){
        .id = member->id, .boot = member->boot, .address = member->address, .used = true, .alive = true};
    memcpy(n->name, member->name, sizeof(n->name));
    struct news news = {member->id, member->address, member->boot, (unsigned)number, true};
    tell_shards(b, &news);
}

/* ---- frames find their flow ---- */

static int take_frame(struct peer_link *link, const struct link_frame *frame, struct slice body)
{
    switch ((enum peer_frame)frame->type) {
    case FRAME_PUBLISH:
        return link->dialled ? -EPROTO : arrive_publish(link, frame, body);
    case FRAME_PUBLISH_DONE:
        return link->dialled ? forward_done(link, body) : -EPROTO;
    case FRAME_ROUTES:
        return link->dialled || link->shard != 0 ? -EPROTO : feed_take(link, body);
    case FRAME_ROUTES_DONE:
        return link->dialled && link->shard == 0 ? feed_done(link, body) : -EPROTO;
    case FRAME_MEMBERS:
        return link->shard != 0 ? -EPROTO : driver_members(link, body);
    case FRAME_CLAIMS:
        return link->dialled ? -EPROTO : claim_take(link, body);
    case FRAME_SHARES:
        return link->dialled ? -EPROTO : share_nodes_take(link, body);
    case FRAME_SEEK:
        return link->dialled ? -EPROTO : seek_take(link, body);
    case FRAME_FOUND:
        return link->dialled ? -EPROTO : seek_found(link, body);
    case FRAME_ATTACH:
        return link->dialled ? -EPROTO : attach_take_open(link, body);
    case FRAME_ATTACHED:
        return link->dialled ? -EPROTO : attach_take(link, body);
    case FRAME_INQUIRY:
        return link->dialled || link->shard != 0 ? -EPROTO : inquire_take(link, body);
    case FRAME_INQUIRY_ANSWER:
        return link->dialled || link->shard != 0 ? -EPROTO : inquire_taken(link, body);
    case FRAME_RETAINED_SUMS:
        return link->dialled || link->shard != 0 ? -EPROTO : catchup_sums(link, body);
    case FRAME_RETAINED_PULL:
        return link->dialled && link->shard == 0 ? catchup_pull(link, body) : -EPROTO;
    }
    return 0; /* of a later version: it has been told that we do not know it, and can do without */
}

static int link_opened(struct peer_link *link)
{
    struct broker *b = broker_of_link(link);

    if (!link->dialled && !link->owner) {
        link->owner = arrival_lane_new();
        if (!link->owner) {
            return -ENOMEM;
        }
    }
    int number = neighbour_find(b->node->cluster, &link->id);
    link->peer = number >= 0 ? (unsigned)number + 1 : 0;
    if (link->dialled && link->shard == CONTROL_SHARD) {
        atomic_store_explicit(&b->node->cluster->met[number_of(link)], true, memory_order_relaxed);
        driver_link(b, link, true);
    }
    if (link->dialled) {
        seek_link_opened(b);
    }
    return 0;
}

static void link_lost(struct peer_link *link)
{
    struct broker *b = broker_of_link(link);

    if (link->dialled && link->shard == CONTROL_SHARD && !b->cluster->over) { /* else nobody is there who minds */
        driver_link(b, link, false);
    }
}

static void link_reset(struct peer_link *link)
{
    struct broker *b = broker_of_link(link);

    if (!link->dialled) {
        arrive_ended(b, link); /* link_opened makes a new one */
        return;
    }
    attach_neighbour_gone(b, number_of(link));
    forward_reset(link);
    ((struct forward_lane *)link->owner)->claims_told = 0;
    ((struct forward_lane *)link->owner)->shares_told = false;
    ((struct forward_lane *)link->owner)->shares_at = 0;
    catchup_drop(link->owner);
    if (b->shard->index == CONTROL_SHARD) {
        feed_peer_up(b, number_of(link));
        catchup_peer_up(b, number_of(link));
    }
}

static void link_ended(struct peer_link *link)
{
    struct broker *b = broker_of_link(link);

    if (!link->dialled) {
        if (link->owner) {
            arrive_ended(b, link);
        }
        return;
    }
    b->cluster->links[number_of(link)] = NULL;
    if (!b->cluster->over) {
        share_nodes_gone(b, number_of(link));
        seek_neighbour_gone(b, number_of(link));
        inquire_neighbour_gone(b, number_of(link));
        attach_neighbour_gone(b, number_of(link));
    }
    forward_give_up(b, link);
    forward_lane_free(b, link->owner);
    link->owner = NULL;
}

static void move_wire(struct peer_room *room, struct peer_wire *wire, unsigned shard)
{
    struct broker *b = CONTAINER_OF(room, struct cluster_shard, room)->broker;
    struct mail mail = {.kind = MAIL_PEER_WIRE, .ptr = wire};

    if (shard_post(b->shard, shard, &mail) != 0) {
        peer_wire_discard(wire);
    }
}

static bool is_known(struct peer_room *room, const struct node_id *id, uint64_t boot)
{
    const struct node_cluster *cluster = CONTAINER_OF(room, struct cluster_shard, room)->broker->node->cluster;
    int number = neighbour_find(cluster, id);

    return number >= 0 && cluster->neighbours[number].boot == boot;
}

const struct peer_handler cluster_peer_handler = {
    .frame = take_frame,
    .opened = link_opened,
    .lost = link_lost,
    .reset = link_reset,
    .ended = link_ended,
    .drained = forward_drained,
    .known = is_known,
    .move = move_wire,
};

/* ---- the shard's part ---- */

int cluster_shard_new(struct broker *b)
{
    if (!b->node->cluster) {
        return 0;
    }
    b->cluster = calloc(1, sizeof(*b->cluster));
    if (!b->cluster) {
        return -ENOMEM;
    }
    b->cluster->broker = b;
    list_init(&b->cluster->owing);
    list_init(&b->cluster->seeks);
    list_init(&b->cluster->attaches_due);
    return share_nodes_new(b);
}

void cluster_shard_free(struct broker *b)
{
    if (b->cluster) {
        attach_stop(b);
        map_deinit(&b->cluster->seeks_by_token);
        share_nodes_free(b);
        free(b->cluster);
        b->cluster = NULL;
    }
}

int cluster_start(struct broker *b)
{
    if (!b->cluster) {
        return 0;
    }
    peer_room_init(&b->cluster->room, b->shard, &b->node->cluster->terms);
    if (b->shard->index != CONTROL_SHARD) {
        return 0;
    }
    int rc = feed_new(b);
    rc = rc ? rc : catchup_new(b);
    rc = rc ? rc : peer_room_listen(&b->cluster->room, b->node->cluster->listen_fd);
    if (rc == 0) {
        b->node->cluster->listen_fd = -1; /* the door's */
    }
    return rc ? rc : driver_start(b);
}

void cluster_turn_end(struct broker *b)
{
    if (!b->cluster) {
        return;
    }
    if (b->shard->index == CONTROL_SHARD) {
        driver_turn(b);
        feed_turn(b);
        ready_turn(b);
    }
    link_again(b);
    claim_turn(b);
    share_nodes_turn(b);
    seek_turn(b);
    attach_turn(b);
    catchup_turn(b);
    arrive_turn_end(b);
    peer_room_flush(&b->cluster->room);
}

void cluster_stop(struct broker *b)
{
    if (!b->cluster) {
        return;
    }
    b->cluster->over = true;
    if (b->shard->index == CONTROL_SHARD) {
        driver_stop(b);
    }
    peer_room_stop(&b->cluster->room);
    if (b->shard->index == CONTROL_SHARD) {
        feed_free(b);
        catchup_free(b);
    }
}
