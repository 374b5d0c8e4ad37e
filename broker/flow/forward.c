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

#define RING_START 64u
#define LANE_BYTES (4u << 20) /* not answered: beyond it publishers are made to wait */

struct forward_lane *forward_lane_new(void)
{
    struct forward_lane *lane = calloc(1, sizeof(*lane));

    if (lane) {
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
    uint8_t head[FORWARD_HEAD_BYTES], length[4];
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
    struct slice parts[] = {slice_of(head, sizeof(head)), pub->topic, buf_slice(&varint), pub->properties,
                            pub->payload};
    return peer_put(link, flags & FORWARD_ANSWER ? LINK_LIVE : LINK_QOS0, FRAME_PUBLISH, 0, parts, COUNT_OF(parts));
}

static uint8_t flags_of(const struct publication *pub, bool answer)
{
    return (uint8_t)(pub->qos | (pub->retain ? FORWARD_RETAIN : 0) | (answer ? FORWARD_ANSWER : 0));
}

/* QoS 1 and 2: kept until it is answered for. Returns 0, -ENOMEM or -ENOBUFS. */
static int send_kept(struct broker *b, struct peer_link *link, struct publication *pub, struct receipt_open *open,
                     uint64_t share)
{
    struct forward_lane *lane = link->owner;
    struct message *message = publication_message(pub);
    uint8_t flags = flags_of(pub, true);

    if (!message || lane_reserve(lane) != 0) {
        return -ENOMEM;
    }
    struct receipt *receipt = open ? receipt_wait(b, open) : NULL;
    if (open && !receipt) {
        return -ENOMEM;
    }
    int rc = put(b, link, pub, lane->tail, flags, share);
    if (rc) {
        if (receipt) {
            receipt->waiting--;
        }
        return rc;
    }
    *at(lane, lane->tail++) = (struct forward){message_ref(message), receipt, share,
                                               (uint32_t)(publication_bytes(pub) + FORWARD_HEAD_BYTES), flags};
    lane->bytes += publication_bytes(pub) + FORWARD_HEAD_BYTES;
    return 0;
}

static void forward_to(struct broker *b, unsigned neighbour, struct publication *pub, struct receipt_open *open)
{
    struct peer_link *link = b->cluster->links[neighbour];
    int rc;

    if (!link) { /* it is about to be dialled, or about to be gone */
        rc = -ENOTCONN;
    } else if (pub->qos == 0 && !open) {
        rc = put(b, link, pub, 0, flags_of(pub, false), 0);
    } else {
        rc = send_kept(b, link, pub, open, 0);
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

bool forward_publication(struct broker *b, struct publication *pub, const uint64_t slots[4], struct receipt_open *open)
{
    uint64_t seen[NEIGHBOURS_MAX / 64] = {0};
    bool any = false;

    for (unsigned word = 0; word < 4; word++) {
        for (uint64_t bits = slots[word]; bits; bits &= bits - 1) {
            unsigned slot = word * 64 + (unsigned)__builtin_ctzll(bits);
            unsigned n = atomic_load_explicit(&b->node->cluster->slots[slot], memory_order_relaxed);
            if (n == 0 || seen[(n - 1) / 64] >> (n - 1) % 64 & 1) { /* while a set is exchanged two stand for one */
                continue;
            }
            seen[(n - 1) / 64] |= 1ull << (n - 1) % 64;
            any = true;
            broker_metric(b, METRIC_FORWARDED, 1);
            forward_to(b, n - 1, pub, open);
        }
    }
    return any;
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
static void settle(struct broker *b, struct forward_lane *lane, struct forward *f, uint8_t reason)
{
    struct receipt *receipt = f->receipt;

    lane->bytes -= f->bytes;
    message_unref(f->message);
    f->message = NULL;
    f->receipt = NULL;
    if (receipt) {
        if (reason != MQTT_SUCCESS) {
            receipt_reason(b, (struct receipt_ref){receipt, b->shard->index}, reason);
        }
        receipt_settle(b, receipt, 0);
    }
}

static void advance(struct forward_lane *lane)
{
    while (lane->head != lane->tail && !at(lane, lane->head)->message) {
        lane->head++;
    }
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
        for (uint64_t n = first; n < first + count; n++) {
            if (n >= lane->head && at(lane, n)->message) { /* else: answered before the link was reset */
                settle(b, lane, at(lane, n), reason);
            }
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
        if (put(b, link, &pub, n, f->flags, f->share) != 0) { /* the link ends again and all begins anew */
            log_event(LOG_ERROR, "forward_not_resent", {"reason", LOG_STR("no memory")});
            settle(b, lane, f, RECEIPT_NO_MEMORY);
        }
    }
    advance(lane);
}

void forward_give_up(struct broker *b, struct peer_link *link)
{
    struct forward_lane *lane = link->owner;

    for (uint64_t n = lane->head; n != lane->tail; n++) {
        if (at(lane, n)->message) {
            settle(b, lane, at(lane, n), MQTT_SUCCESS);
        }
    }
    lane->head = lane->tail;
    lane_resume(lane);
}

void forward_lane_free(struct broker *b, struct forward_lane *lane)
{
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
