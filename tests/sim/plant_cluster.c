/* Plants between nodes. */
#include <stdlib.h>

#include "broker/flow/feed_inside.h"
#include "broker/peer/peer_inside.h"
#include "cluster/swim_inside.h"
#include "proto/base/cursor.h"
#include "tests/sim/plant.h"

static struct broker *broker_of_link(const struct peer_link *link)
{
    return CONTAINER_OF(link->room, struct cluster_shard, room)->broker;
}

/* ---- links ---- */

WRAP(int, link_flow_resume, struct link_flow *flow, unsigned lane, uint32_t expected)
{
    struct link_lane *l = &flow->lanes[lane];
    struct link_lane before = *l;

    if (planted(PLANT_LINK_TWICE) && lane == LINK_LIVE && l->bytes.len > 0) { /* from the last acknowledgement on */
        l->sent = l->front;
        l->told = l->expected;
        return 0;
    }
    int rc = __real_link_flow_resume(flow, lane, expected);
    if (rc == 0 && planted(PLANT_LINK_NOT_RESENT) && lane == LINK_LIVE && before.sent > before.front) {
        l->sent = before.sent - (before.bytes.len - l->bytes.len);
    }
    return rc;
}

WRAP(enum link_verdict, link_flow_take, struct link_flow *flow, const struct link_frame *frame)
{
    enum link_verdict verdict = __real_link_flow_take(flow, frame);

    return verdict == LINK_AGAIN && planted(PLANT_LINK_TWICE) ? LINK_NEW : verdict;
}

static void swap_bytes(uint8_t *a, uint8_t *b, uint32_t len)
{
    for (uint32_t i = 0; i < len; i++) {
        uint8_t was = a[i];
        a[i] = b[i];
        b[i] = was;
    }
}

/* The last two frames, if they are of one length and have not left. */
static void swap_last(struct link_lane *l, uint32_t frame_bytes)
{
    uint32_t last = l->bytes.len - frame_bytes;
    struct link_frame a, b;

    if (last < frame_bytes || last - frame_bytes < l->sent) {
        return;
    }
    link_frame_read(l->bytes.ptr + last - frame_bytes, &a);
    link_frame_read(l->bytes.ptr + last, &b);
    if (a.len == b.len && a.seq + 1 == b.seq) {
        swap_bytes(l->bytes.ptr + last - frame_bytes + LINK_HEADER_BYTES, l->bytes.ptr + last + LINK_HEADER_BYTES,
                   b.len);
    }
}

WRAP(int, link_flow_put, struct link_flow *flow, unsigned lane, uint8_t type, uint16_t flags, const struct slice *parts,
     unsigned count)
{
    uint32_t before = flow->lanes[lane].bytes.len;
    int rc = __real_link_flow_put(flow, lane, type, flags, parts, count);

    if (rc == 0 && lane == LINK_LIVE && planted(PLANT_LINK_ORDER)) {
        swap_last(&flow->lanes[lane], flow->lanes[lane].bytes.len - before);
    }
    return rc;
}

/* ---- routes ---- */

WRAP(int, route_table_add_remote, struct route_table *table, const struct route_filter *filter, unsigned slot)
{
    return planted_once_in(PLANT_DELTA_LOST, 4) ? 0 : __real_route_table_add_remote(table, filter, slot);
}

static void (*told_of)(void *arg, const struct route_filter *filter, bool added);

static void tell_added(void *arg, const struct route_filter *filter, bool added)
{
    if (added) {
        told_of(arg, filter, added);
    }
}

WRAP(void, route_table_watch, struct route_table *table,
     void (*changed)(void *arg, const struct route_filter *filter, bool added), void *arg)
{
    told_of = changed ? changed : told_of;
    __real_route_table_watch(table, changed && planted(PLANT_WITHDRAWAL) ? tell_added : changed, arg);
}

WRAP(int, feed_take, struct peer_link *link, struct slice body)
{
    struct broker *b = broker_of_link(link);
    int n = neighbour_find(b->node->cluster, &link->id);
    ProtobufCMessage *m;

    if (planted(PLANT_SNAPSHOT_EARLY) && n >= 0 &&
        wire_decode(&tern__routes__descriptor, body, &link->room->arena, &m) == 0 && ((Tern__Routes *)m)->begin) {
        feed_bury(feed_of(b), &feed_of(b)->peers[n].slot);
    }
    return __real_feed_take(link, body);
}

WRAP(void, route_table_slot_live, struct route_table *table, unsigned slot, bool live)
{
    if (!live || !planted(PLANT_NOT_IN_FORCE)) {
        __real_route_table_slot_live(table, slot, live);
    }
}

WRAP(bool, feed_holds, struct broker *b, struct route_request *request, unsigned from)
{
    return !planted(PLANT_SUBACK_EARLY) && __real_feed_holds(b, request, from);
}

WRAP(void, feed_peer_gone, struct broker *b, unsigned neighbour)
{
    if (!planted(PLANT_OLD_ROUTES) || !b->node->cluster->neighbours[neighbour].alive) {
        __real_feed_peer_gone(b, neighbour);
    }
}

WRAP(void, feed_peer_back, struct broker *b, unsigned neighbour)
{
    if (!planted(PLANT_NOT_TOLD_BACK)) {
        __real_feed_peer_back(b, neighbour);
    }
}

/* ---- messages ---- */

WRAP(void, forward_publication, struct broker *b, struct publication *pub, const struct spread_mask *nodes,
     struct receipt_open *open)
{
    __real_forward_publication(b, pub, nodes, planted(PLANT_PUBACK_EARLY) ? NULL : open);
}

WRAP(int, forward_share, struct broker *b, unsigned neighbour, struct publication *pub, struct receipt_ref ref,
     const struct share_way *way)
{
    if (planted_once_in(PLANT_SHARE_BOTH, 10)) {
        (void)__real_forward_share(b, neighbour, pub, (struct receipt_ref){0}, way);
    }
    return __real_forward_share(b, neighbour, pub, ref, way);
}

WRAP(bool, share_nodes_answered, struct broker *b, unsigned neighbour, struct forward *f, uint8_t reason)
{
    if (reason != MQTT_SUCCESS && planted(PLANT_SHARE_GIVEN_UP)) { /* as if somebody had it */
        receipt_answer(b, f->ref);
        message_unref(f->message);
        return true;
    }
    return __real_share_nodes_answered(b, neighbour, f, reason);
}

WRAP(void, peer_link_lost, struct peer_link *link, struct peer_wire *wire)
{
    __real_peer_link_lost(link, wire);
    if (link->dialled && link->owner && planted(PLANT_GIVEN_UP)) {
        forward_give_up(broker_of_link(link), link);
    }
}

WRAP(void, forward_reset, struct peer_link *link)
{
    if (!planted(PLANT_RESTART_FORGOTTEN)) {
        __real_forward_reset(link);
    }
}

WRAP(void, arrive_answer, struct broker *b, struct peer_link *link, uint64_t number, uint8_t reason, bool logged,
     uint64_t lsn)
{
    bool unsafe = planted(PLANT_ANSWER_UNSAFE);

    __real_arrive_answer(b, link, number, reason, logged && !unsafe, unsafe ? 0 : lsn);
}

WRAP(int, forward_done, struct peer_link *link, struct slice body)
{
    const struct forward_lane *lane = link->owner;
    struct cursor c = cursor_at(body);
    uint64_t first = cursor_u64(&c);
    uint32_t count = cursor_u32(&c);
    uint8_t changed[64];
    struct buf b = {.ptr = changed, .cap = sizeof(changed)};

    if (!planted(PLANT_WRONG_NUMBER) || !link->dialled || first + count >= lane->tail || body.len > sizeof(changed)) {
        return __real_forward_done(link, body);
    }
    buf_u64(&b, first + 1);
    memcpy(changed + b.len, body.ptr + b.len, body.len - b.len);
    return __real_forward_done(link, slice_of(changed, body.len));
}

WRAP(bool, receipt_adopt, struct broker *b, struct conn *conn, uint16_t packet_id)
{
    return !planted(PLANT_REPEATED_EARLY) && __real_receipt_adopt(b, conn, packet_id);
}

/* ---- who is there ---- */

WRAP(void, claim_tell, struct broker *b, struct session *session, bool clean)
{
    __real_claim_tell(b, session, clean);
    session->claimed = planted(PLANT_CLAIM_STAMP) ? 1 : session->claimed;
}

WRAP(void, claim_turn, struct broker *b)
{
    if (!planted(PLANT_CLAIMS_ONCE)) {
        __real_claim_turn(b);
    }
}

WRAP(void, swim_hear, struct swim *s, const struct swim_rumour *r, bool own_word)
{
    if (!planted(PLANT_NEVER_REFUTED) || !node_id_eq(&r->member.id, &swim_me(s)->member.id)) {
        __real_swim_hear(s, r, own_word);
    }
}
