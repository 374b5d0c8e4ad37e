/* A message to another node: it is given once to each that has a subscriber for it, over this shard's own link, so that
 * one publisher's messages stay in order. QoS 1 and 2 are kept here until the other node answers that it has them: if
 * its link is lost and it was started anew meanwhile they are sent again; if it is dead, nobody waits any more. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "broker/flow/cluster.h"
#include "broker/flow/flow.h"
#include "broker/flow/forward_frame.h"
#include "proto/base/cursor.h"
#include "proto/base/log.h"
#include "proto/mqtt/packet.h"

#define RING_START 64u
#define LANE_BYTES (4u << 20) /* not answered: beyond it publishers are made to wait */

struct forward_lane *forward_lane_new(unsigned neighbour)
{
    struct forward_lane *lane = calloc(1, sizeof(*lane));

    if (lane) {
        lane->neighbour = neighbour;
        list_init(&lane->waiting);
    }
    return lane;
}

static struct forward *at(const struct forward_lane *lane, uint64_t number)
{
    return &lane->ring[number & lane->mask];
}

/* Room for one more. */
static int lane_reserve(struct forward_lane *lane)
{
    uint64_t slots = lane->ring ? (uint64_t)lane->mask + 1 : 0;

    if (lane->tail - lane->head < slots) {
        return 0;
    }
    uint64_t next_slots = slots ? slots * 2 : RING_START;
    struct forward *ring = next_slots <= UINT32_MAX ? malloc(next_slots * sizeof(*ring)) : NULL;
    if (!ring) {
        return -ENOMEM;
    }
    for (uint64_t n = lane->head; n != lane->tail; n++) {
        ring[n & (next_slots - 1)] = *at(lane, n);
    }
    free(lane->ring);
    lane->ring = ring;
    lane->mask = (uint32_t)(next_slots - 1);
    return 0;
}

/* Put the frame on the link. message NULL: pub has the parts. */
static int put(struct broker *b, struct peer_link *link, struct publication *pub, uint64_t number, uint8_t flags,
               uint64_t share)
{
    uint8_t head[FORWARD_HEAD_BYTES], stamp[FORWARD_STAMP_BYTES], length[4];
    struct buf varint = {.ptr = length, .cap = sizeof(length)};
    struct forward_head h = {
        .number = number,
        .share = share,
        .expires_in_ms = FORWARD_NEVER,
        .flags = flags,
        .topic_len = (uint16_t)pub->topic.len,
    };

    if (pub->expires_at_ms != MESSAGE_NEVER) { /* the clocks of two nodes differ: what is left of it travels */
        h.expires_in_ms = pub->expires_at_ms > b->shard->wall_ms ? pub->expires_at_ms - b->shard->wall_ms : 0;
    }
    forward_head_write(head, &h);
    buf_varint(&varint, (uint32_t)pub->properties.len);
    forward_stamp_write(stamp, pub->stamp);
    struct slice parts[] = {slice_of(head, sizeof(head)),
                            slice_of(stamp, flags & FORWARD_KEEP ? sizeof(stamp) : 0),
                            pub->topic,
                            buf_slice(&varint),
                            pub->properties,
                            pub->payload};
    return peer_put(link, flags & FORWARD_ANSWER ? LINK_LIVE : LINK_QOS0, FRAME_PUBLISH, 0, parts, COUNT_OF(parts));
}

/* A retained one, that goes to all: every node has all of them. */
static uint8_t keep_of(const struct publication *pub)
{
    return pub->retain && pub->stamp.at != 0 ? FORWARD_KEEP : 0;
}

static uint8_t flags_of(const struct publication *pub, bool answer, bool sole)
{
    return (uint8_t)(pub->qos | (pub->retain ? FORWARD_RETAIN : 0) | (answer ? FORWARD_ANSWER : 0) |
                     (sole ? FORWARD_SOLE : 0));
}

/* Bytes of a lane that are not answered: of what is published, or of what was asked for. */
static uint64_t *unanswered(struct forward_lane *lane, uint8_t flags)
{
    return flags & FORWARD_QUIET ? &lane->quiet_bytes : &lane->bytes;
}

/* Kept until it is answered for. Returns 0, -ENOMEM or -ENOBUFS. */
static int send_kept(struct broker *b, struct peer_link *link, struct publication *pub, struct receipt_ref ref,
                     const struct share_way *way, uint8_t flags)
{
    struct forward_lane *lane = link->owner;
    struct message *message = publication_message(pub);
    uint32_t bytes = (uint32_t)(publication_bytes(pub) + FORWARD_HEAD_BYTES);

    if (!message || lane_reserve(lane) != 0) {
        return -ENOMEM;
    }
    int rc = put(b, link, pub, lane->tail, flags, way->share);
    if (rc) {
        return rc;
    }
    *at(lane, lane->tail++) = (struct forward){message_ref(message), ref, *way, bytes, flags};
    *unanswered(lane, flags) += bytes;
    return 0;
}

int forward_retained(struct broker *b, struct peer_link *link, struct message *message)
{
    static const struct share_way all;
    struct publication pub;

    publication_of_message(&pub, message);
    return send_kept(b, link, &pub, (struct receipt_ref){0}, &all,
                     (uint8_t)(pub.qos | FORWARD_RETAIN | FORWARD_ANSWER | FORWARD_KEEP | FORWARD_QUIET));
}

/* The same, and the publisher is to be told of the answer. */
static int send_waited(struct broker *b, struct peer_link *link, struct publication *pub, struct receipt_open *open)
{
    static const struct share_way all;
    struct receipt *receipt = open ? receipt_wait(b, open) : NULL;

    if (open && !receipt) {
        return -ENOMEM;
    }
    int rc = send_kept(b, link, pub, (struct receipt_ref){receipt, b->shard->index}, &all,
                       (uint8_t)(flags_of(pub, true, false) | keep_of(pub)));
    if (rc && receipt) {
        receipt->waiting--;
    }
    return rc;
}

static void forward_to(struct broker *b, unsigned neighbour, struct publication *pub, struct receipt_open *open)
{
    struct peer_link *link = b->cluster->links[neighbour];
    int rc;

    broker_metric(b, METRIC_FORWARDED, 1);
    if (!link) { /* it is about to be dialled, or about to be gone */
        rc = -ENOTCONN;
    } else if (pub->qos == 0 && !open) {
        rc = put(b, link, pub, 0, (uint8_t)(flags_of(pub, false, false) | keep_of(pub)), 0);
    } else {
        rc = send_waited(b, link, pub, open);
    }
    if (rc) {
        broker_metric(b, rc == -ENOMEM ? METRIC_DROPPED_NO_MEMORY : METRIC_DROPPED_LINK_FULL, 1);
        if (open) {
            open->failed = true; /* the publisher is sent away without an acknowledgement, and sends it again */
        }
    }
    struct forward_lane *lane = link ? link->owner : NULL;
    if (lane && lane->bytes > LANE_BYTES) {
        b->cluster->choked = lane;
    }
}

struct spread_mask forward_nodes(const struct broker *b, const struct publication *pub,
                                 const uint64_t slots[ROUTE_SLOTS / 64])
{
    struct spread_mask nodes = {{0}};

    for (unsigned word = 0; word < ROUTE_SLOTS / 64; word++) {
        for (uint64_t bits = slots[word]; bits && !topic_is_own(pub->topic); bits &= bits - 1) {
            unsigned slot = word * 64 + (unsigned)__builtin_ctzll(bits);
            unsigned n = atomic_load_explicit(&b->node->cluster->slots[slot], memory_order_relaxed);
            if (n > 0) { /* while a set is exchanged two slots stand for one node */
                spread_mask_set(&nodes, n - 1);
            }
        }
    }
    return nodes;
}

void forward_everyone(const struct broker *b, struct spread_mask *nodes)
{
    for (unsigned n = 0; b->cluster && n < b->cluster->links_end; n++) {
        if (b->cluster->links[n] && atomic_load_explicit(&b->node->cluster->met[n], memory_order_relaxed)) {
            spread_mask_set(nodes, n);
        }
    }
}

void forward_publication(struct broker *b, struct publication *pub, const struct spread_mask *nodes,
                         struct receipt_open *open)
{
    for (unsigned word = 0; word < COUNT_OF(nodes->bits); word++) {
        for (uint64_t bits = nodes->bits[word]; bits; bits &= bits - 1) {
            forward_to(b, word * 64 + (unsigned)__builtin_ctzll(bits), pub, open);
        }
    }
}

enum forward_reach forward_reach(const struct broker *b, unsigned neighbour)
{
    const struct peer_link *link = b->cluster->links[neighbour];
    const struct forward_lane *lane = link ? link->owner : NULL;

    if (!link || !link->open || lane->bytes > 2 * LANE_BYTES) {
        return REACH_LOST;
    }
    bool leaving = atomic_load_explicit(&b->node->cluster->leaving[neighbour], memory_order_relaxed);
    return leaving || lane->bytes > LANE_BYTES ? REACH_SLOW : REACH_GOOD;
}

int forward_share(struct broker *b, unsigned neighbour, struct publication *pub, struct receipt_ref ref,
                  const struct share_way *way)
{
    struct peer_link *link = b->cluster->links[neighbour];
    int rc;

    if (!link) {
        return -ENOTCONN;
    }
    if (pub->qos > 0) {
        rc = send_kept(b, link, pub, ref, way, flags_of(pub, true, way->sole));
    } else {
        rc = put(b, link, pub, 0, flags_of(pub, false, false), way->share);
    }
    broker_metric(b, METRIC_FORWARDED, rc == 0);
    return rc;
}

bool forward_settled(const struct broker *b)
{
    for (unsigned i = 0; i < b->cluster->links_end; i++) {
        const struct peer_link *link = b->cluster->links[i];
        const struct forward_lane *lane = link && link->open ? link->owner : NULL;
        if (lane && (lane->head != lane->tail || link_flow_held(&link->flow, LINK_LIVE) > 0 ||
                     link_flow_held(&link->flow, LINK_QOS0) > 0)) {
            return false;
        }
    }
    return true;
}

/* ---- the answers ---- */

static void lane_resume(struct forward_lane *lane)
{
    struct list *conn;

    while (lane->bytes <= LANE_BYTES / 2 && (conn = list_pop(&lane->waiting)) != NULL) {
        conn_resume(CONTAINER_OF(conn, struct conn, in_ready), PAUSE_CONGESTION);
    }
}

/* One is answered for. */
static void settle(struct broker *b, struct forward_lane *lane, uint64_t number, uint8_t reason)
{
    struct forward f = *at(lane, number);

    *unanswered(lane, f.flags) -= f.bytes;
    at(lane, number)->message = NULL;
    if (f.way.share && share_nodes_answered(b, lane->neighbour, &f, reason)) {
        return;
    }
    message_unref(f.message);
    if (!f.ref.receipt) {
        return;
    }
    if (reason != MQTT_SUCCESS) {
        receipt_reason(b, f.ref, reason);
    }
    if (f.ref.from == b->shard->index) {
        receipt_settle(b, f.ref.receipt, 0);
    } else {
        receipt_answer(b, f.ref);
    }
}

static void advance(struct forward_lane *lane)
{
    while (lane->head != lane->tail && !at(lane, lane->head)->message) {
        lane->head++;
    }
}

/* Whether this is an answer that may come: it is handed on to the publisher [MQTT-3.4.2-1] [MQTT-3.5.2-1]. */
static bool is_answer(const struct forward *f, uint8_t reason)
{
    static const uint8_t reasons[] = {0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99, 0xff};

    return mqtt_reason_in(reason, reasons) || reason == RECEIPT_NO_SPACE ||
           (reason == RECEIPT_NO_MEMBER && f->way.share != 0);
}

int forward_done(struct peer_link *link, struct slice body)
{
    struct broker *b = CONTAINER_OF(link->room, struct cluster_shard, room)->broker;
    struct forward_lane *lane = link->owner;
    struct cursor c = cursor_at(body);

    while (cursor_left(&c) > 0) {
        uint64_t first = cursor_u64(&c);
        uint32_t count = cursor_u32(&c);
        uint8_t reason = cursor_u8(&c);
        if (c.failed || !link->dialled || count > lane->tail - first || first > lane->tail) {
            return -EPROTO;
        }
        for (uint64_t n = first > lane->head ? first : lane->head; n < first + count; n++) {
            if (!at(lane, n)->message) { /* answered before the link was reset */
                continue;
            }
            if (!is_answer(at(lane, n), reason)) {
                return -EPROTO;
            }
            settle(b, lane, n, reason);
        }
        advance(lane);
    }
    lane_resume(lane);
    return 0;
}

void forward_reset(struct peer_link *link)
{
    struct broker *b = CONTAINER_OF(link->room, struct cluster_shard, room)->broker;
    struct forward_lane *lane = link->owner;

    for (uint64_t n = lane->head; n != lane->tail; n++) {
        struct forward *f = at(lane, n);
        struct publication pub;
        if (!f->message) {
            continue;
        }
        publication_of_message(&pub, f->message);
        pub.retain = f->flags & FORWARD_RETAIN;
        if (put(b, link, &pub, n, f->flags, f->way.share) != 0) { /* the link ends again and all begins anew */
            log_event(LOG_ERROR, "forward_not_resent", {"reason", LOG_STR("no memory")});
            settle(b, lane, n, RECEIPT_NO_MEMORY);
        }
    }
    advance(lane);
}

void forward_give_up(struct broker *b, struct peer_link *link)
{
    struct forward_lane *lane = link->owner;

    for (uint64_t n = lane->head; n != lane->tail; n++) {
        if (at(lane, n)->message) { /* a share may have other members */
            settle(b, lane, n, at(lane, n)->way.share ? RECEIPT_NO_MEMBER : MQTT_SUCCESS);
        }
    }
    lane->head = lane->tail;
    lane_resume(lane);
}

void forward_lane_free(struct broker *b, struct forward_lane *lane)
{
    catchup_drop(lane);
    for (uint64_t n = lane->head; n != lane->tail; n++) {
        message_unref(at(lane, n)->message);
    }
    lane->bytes = 0;
    (void)b;
    lane_resume(lane);
    free(lane->ring);
    free(lane);
}

void forward_drained(struct peer_link *link)
{
    if (link->dialled) {
        lane_resume(link->owner);
    }
}

void forward_pause(struct broker *b, struct conn *conn)
{
    struct forward_lane *lane = b->cluster ? b->cluster->choked : NULL;

    if (lane) {
        b->cluster->choked = NULL;
        if (conn->state == CONN_OPEN && list_empty(&conn->in_ready)) {
            conn_pause(conn, PAUSE_CONGESTION);
            list_append(&lane->waiting, &conn->in_ready);
        }
    }
}
