/* Shares with members on several nodes: each node tells the others what its members come to (share_load), and the home
 * shard of the share on the publisher's node picks the node; the home shard there picks the member. A node that cannot
 * take the message says so, and it goes to another one; what a dead node has not answered for does the same. */
#include <errno.h>
#include <stdlib.h>

#include "broker/flow/forward_frame.h"
#include "broker/flow/share_inside.h"
#include "proto/wire/peer.pb-c.h"

#define LOADS_AT_ONCE 256u
#define AHEAD_BYTES (256u << 10) /* of loads not yet acknowledged */
#define LOAD_MS 250u             /* between two reports of what members have outstanding */

/* ---- telling ---- */

struct report {
    Tern__ShareLoads message;
    Tern__ShareLoad load[LOADS_AT_ONCE], *list[LOADS_AT_ONCE];
};

static void report_begin(struct report *r)
{
    r->message = (Tern__ShareLoads)TERN__SHARE_LOADS__INIT;
    r->message.loads = r->list;
}

static void report_add(struct report *r, uint64_t id, const struct share_load *load)
{
    Tern__ShareLoad *l = r->list[r->message.n_loads] = &r->load[r->message.n_loads];

    *l = (Tern__ShareLoad)TERN__SHARE_LOAD__INIT;
    l->share = id;
    l->online = load->online;
    l->offline = load->offline;
    l->room = load->room;
    l->outstanding = load->outstanding;
    r->message.n_loads++;
}

static bool report_full(const struct report *r)
{
    return r->message.n_loads == LOADS_AT_ONCE;
}

/* To one neighbour; if that has no room it is told everything later. */
static bool report_to(struct peer_link *link, const struct report *r)
{
    struct forward_lane *lane = link->owner;

    if (peer_put_message(link, LINK_CONTROL, FRAME_SHARES, &r->message.base) != 0) {
        lane->shares_told = false;
        lane->shares_at = 0;
        return false;
    }
    return true;
}

static void report_to_all(struct broker *b, struct report *r)
{
    for (unsigned n = 0; r->message.n_loads > 0 && n < b->cluster->links_end; n++) {
        if (b->cluster->links[n]) {
            (void)report_to(b->cluster->links[n], r);
        }
    }
    report_begin(r);
}

static void tell_changes(struct broker *b)
{
    static const struct share_load nobody;
    struct buf *left = &b->cluster->shares_left;
    struct share_group *group;
    struct report report;

    report_begin(&report);
    for (size_t at = 0; at < left->len; at += sizeof(uint64_t)) {
        uint64_t id;
        memcpy(&id, left->ptr + at, sizeof(id));
        if (!share_table_by_id(b->shares, id)) {
            report_add(&report, id, &nobody);
        }
        if (report_full(&report)) {
            report_to_all(b, &report);
        }
    }
    left->len = 0;
    while ((group = share_table_changed(b->shares)) != NULL) {
        struct share_load load = share_group_load(group);
        report_add(&report, share_group_id(group), &load);
        if (report_full(&report)) {
            report_to_all(b, &report);
        }
    }
    report_to_all(b, &report);
}

/* A neighbour that knows nothing yet: the next part. */
static void tell_on(struct broker *b, struct peer_link *link)
{
    struct forward_lane *lane = link->owner;
    const struct share_group *group = NULL;
    struct report report;

    report_begin(&report);
    while (!report_full(&report) && (group = share_table_next(b->shares, &lane->shares_at)) != NULL) {
        struct share_load load = share_group_load(group);
        report_add(&report, share_group_id(group), &load);
    }
    if (report.message.n_loads == 0 || report_to(link, &report)) {
        lane->shares_told = !group;
        b->shard->busy |= group != NULL;
    }
}

void share_nodes_turn(struct broker *b)
{
    struct cluster_shard *cs = b->cluster;
    bool members = share_table_members_changed(b->shares) || cs->shares_left.len > 0;

    if (members || b->shard->now_ms >= cs->shares_due_ms) {
        cs->shares_due_ms = b->shard->now_ms + LOAD_MS;
        tell_changes(b);
    }
    for (unsigned n = 0; n < cs->links_end; n++) {
        struct peer_link *link = cs->links[n];
        if (link && !((struct forward_lane *)link->owner)->shares_told &&
            link_flow_held(&link->flow, LINK_CONTROL) < AHEAD_BYTES) {
            tell_on(b, link);
        }
    }
}

void share_nodes_left(struct broker *b, uint64_t id)
{
    if (b->cluster) { /* without memory for it: others ask in vain, until the filter is withdrawn */
        buf_put(&b->cluster->shares_left, slice_of(&id, sizeof(id)));
        b->cluster->shares_left.failed = false;
    }
}

/* ---- being told ---- */

static uint64_t seed_of(const struct broker *b, const struct node_id *id)
{
    return hash_keyed(&b->node->route_key, slice_of(id->bytes, sizeof(id->bytes)));
}

void share_nodes_mail(struct broker *b, const struct mail *mail)
{
    struct share_load load = {.online = mail->n,
                              .offline = (uint32_t)(uintptr_t)mail->ptr,
                              .room = (uint32_t)mail->c,
                              .outstanding = (uint32_t)(mail->c >> 32)};

    share_spread_told(b->cluster->spread, mail->a, (unsigned)mail->b,
                      seed_of(b, &b->node->cluster->neighbours[mail->b].id), &load);
}

int share_nodes_take(struct peer_link *link, struct slice body)
{
    struct broker *b = CONTAINER_OF(link->room, struct cluster_shard, room)->broker;
    int n = neighbour_find(b->node->cluster, &link->id);
    ProtobufCMessage *decoded;

    int rc = wire_decode(&tern__share_loads__descriptor, body, &link->room->arena, &decoded);
    if (rc || n < 0) { /* it is about to be gone */
        return rc;
    }
    const Tern__ShareLoads *loads = (const Tern__ShareLoads *)decoded;
    for (size_t i = 0; i < loads->n_loads; i++) {
        const Tern__ShareLoad *l = loads->loads[i];
        struct mail mail = {.kind = MAIL_SHARE_LOAD,
                            .a = l->share,
                            .b = (unsigned)n,
                            .n = l->online,
                            .ptr = (void *)(uintptr_t)l->offline,
                            .c = (uint64_t)l->outstanding << 32 | l->room};
        if (share_home(b, l->share) == b->shard->index) {
            share_nodes_mail(b, &mail);
        } else if (shard_post(b->shard, share_home(b, l->share), &mail) != 0) {
            return -ENOMEM;
        }
    }
    return 0;
}

void share_nodes_gone(struct broker *b, unsigned neighbour)
{
    share_spread_forget(b->cluster->spread, neighbour);
}

/* ---- handing over ---- */

/* Which other nodes have announced members. */
static void look_up(struct broker *b, const struct publication *pub, struct handing *h)
{
    const struct route_match *routes = match_cache_routes(b->cache, b->node->routes, pub->topic, pub->topic_hash);

    h->nodes_known = true;
    for (uint32_t i = 0; routes && i < routes->share_count; i++) {
        if (routes->shares[i].id == h->way.share) {
            h->nodes = forward_nodes(b, pub, routes->shares[i].slots);
        }
    }
}

static void mask_clear(struct spread_mask *mask, unsigned node)
{
    mask->bits[node / 64] &= ~(1ull << node % 64);
}

/* Take out who has been tried, and all but the ones that can be reached best. */
static struct spread_mask reachable(const struct broker *b, const struct handing *h)
{
    struct spread_mask by_reach[REACH_LOST + 1] = {0}, left = h->nodes;

    for (unsigned i = 0; i < h->way.tries; i++) {
        mask_clear(&left, h->way.tried[i]);
    }
    for (unsigned word = 0; word < SPREAD_NODES / 64; word++) {
        for (uint64_t bits = left.bits[word]; bits; bits &= bits - 1) {
            unsigned n = word * 64 + (unsigned)__builtin_ctzll(bits);
            spread_mask_set(&by_reach[forward_reach(b, n)], n);
        }
    }
    for (unsigned r = REACH_GOOD; r < REACH_LOST; r++) {
        if (by_reach[r].bits[0] | by_reach[r].bits[1]) {
            return by_reach[r];
        }
    }
    return by_reach[REACH_LOST];
}

/* Give it to this node. Returns whether that went well. */
static bool hand_over(struct broker *b, unsigned node, struct publication *pub, struct handing *h)
{
    struct receipt_ref ref = h->ref;
    bool slow = forward_reach(b, node) != REACH_GOOD;

    if (h->open && pub->qos > 0) {
        ref = (struct receipt_ref){receipt_wait(b, h->open), b->shard->index};
        if (!ref.receipt) {
            return false;
        }
    }
    if (forward_share(b, node, pub, ref, &h->way) != 0) {
        if (h->open && pub->qos > 0) {
            ref.receipt->waiting--;
        }
        share_spread_settle(b->cluster->spread, h->way.share, node);
        return false;
    }
    if (ref.receipt && slow) {
        share_tell_slow(b, ref);
    }
    if (pub->qos == 0) {
        receipt_answer(b, h->ref);
    }
    return true;
}

bool share_to_node(struct broker *b, const struct share_group *group, struct publication *pub, struct handing *h)
{
    struct spread_choice choice = {.qos = pub->qos, .here_seed = seed_of(b, &b->node->cluster->terms.node_id)};
    enum share_strategy strategy = (enum share_strategy)b->config->mqtt.share_strategy;

    if (h->way.here) {
        return false;
    }
    if (!h->nodes_known) {
        look_up(b, pub, h);
    }
    if ((h->nodes.bits[0] | h->nodes.bits[1]) == 0) {
        return false;
    }
    if (group && h->way.refusals < share_group_count(group)) {
        choice.here = share_group_load(group);
    }
    if (strategy == SHARE_BY_HASH_TOPIC) {
        choice.topic_hash = hash_keyed(&b->node->route_key, pub->topic);
    }
    while (h->way.tries < SHARE_TRIES) {
        choice.nodes = reachable(b, h);
        int node = share_spread_pick(b->cluster->spread, h->way.share, strategy, &choice, &b->prng);
        if (node == SPREAD_HERE || node == SPREAD_NOBODY) {
            break;
        }
        if (hand_over(b, (unsigned)node, pub, h)) {
            return true;
        }
        h->way.tried[h->way.tries++] = (uint8_t)node;
    }
    return false;
}

bool share_nodes_answered(struct broker *b, unsigned neighbour, struct forward *f, uint8_t reason)
{
    struct handing h = {.way = f->way, .ref = f->ref};
    struct publication pub;

    share_spread_settle(b->cluster->spread, f->way.share, neighbour);
    if (reason < 0x80) {
        return false;
    }
    if (h.way.tries < SHARE_TRIES) {
        h.way.tried[h.way.tries++] = (uint8_t)neighbour;
    }
    h.reason = reason == RECEIPT_NO_MEMBER ? MQTT_SUCCESS : reason;
    publication_of_message(&pub, f->message);
    pub.retain = f->flags & FORWARD_RETAIN;
    deliver_begin(b);
    share_dispatch(b, &pub, &h);
    message_unref(f->message);
    return true;
}

int share_nodes_new(struct broker *b)
{
    return share_spread_new(&b->cluster->spread);
}

void share_nodes_free(struct broker *b)
{
    share_spread_free(b->cluster->spread);
    buf_deinit(&b->cluster->shares_left);
}
