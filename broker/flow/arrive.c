/* A message from another node: to the sessions here, never to a third node; and the answer, which leaves when everybody
 * here has it, and it is durable where it must be. Answers go out in batches, not in the order of the messages: one
 * slow subscriber holds up nobody but who publishes to it. */
#include <errno.h>
#include <stdlib.h>

#include "broker/flow/cluster.h"
#include "broker/flow/durable.h"
#include "broker/flow/flow.h"
#include "broker/flow/forward_frame.h"
#include "proto/base/cursor.h"
#include "proto/base/log.h"
#include "proto/mqtt/property.h"
#include "proto/mqtt/topic.h"

#define DONE_BYTES 13u /* first number u64, count u32, reason u8 */

struct held_answers { /* in arrival_lane.waiting, its bytes behind it */
    uint64_t lsn;
    uint32_t len;
};

void forward_head_write(uint8_t out[FORWARD_HEAD_BYTES], const struct forward_head *head)
{
    struct buf b = {.ptr = out, .cap = FORWARD_HEAD_BYTES};

    buf_u64(&b, head->number);
    buf_u64(&b, head->share);
    buf_u64(&b, head->expires_in_ms);
    buf_u16(&b, head->topic_len);
    buf_u8(&b, head->flags);
}

void forward_stamp_write(uint8_t out[FORWARD_STAMP_BYTES], struct message_stamp stamp)
{
    struct buf b = {.ptr = out, .cap = FORWARD_STAMP_BYTES};

    buf_u64(&b, stamp.at);
    buf_u64(&b, stamp.origin);
}

int forward_head_read(struct slice body, struct forward_head *ret_head, struct slice *ret_topic,
                      struct slice *ret_properties, struct slice *ret_payload)
{
    struct cursor c = cursor_at(body);
    struct mqtt_properties properties;

    ret_head->number = cursor_u64(&c);
    ret_head->share = cursor_u64(&c);
    ret_head->expires_in_ms = cursor_u64(&c);
    ret_head->topic_len = cursor_u16(&c);
    ret_head->flags = cursor_u8(&c);
    ret_head->stamp = (struct message_stamp){0};
    if (ret_head->flags & FORWARD_KEEP) {
        ret_head->stamp.at = cursor_u64(&c);
        ret_head->stamp.origin = cursor_u64(&c);
    }
    *ret_topic = cursor_take(&c, ret_head->topic_len);
    if (c.failed || (ret_head->flags & FORWARD_QOS) > 2 || !mqtt_topic_valid(*ret_topic, UINT16_MAX) ||
        mqtt_properties_decode(&c, MQTT_PUBLISH, &properties) != MQTT_SUCCESS) {
        return -EPROTO;
    }
    *ret_properties = properties.raw;
    *ret_payload = cursor_rest(&c);
    return 0;
}

struct arrival_lane *arrival_lane_new(void)
{
    struct arrival_lane *lane = calloc(1, sizeof(*lane));

    if (lane) {
        list_init(&lane->receipts);
        list_init(&lane->in_shard);
    }
    return lane;
}

void arrive_ended(struct broker *b, struct peer_link *link)
{
    struct arrival_lane *lane = link->owner;

    (void)b;
    receipt_orphan_all(&lane->receipts);
    list_remove(&lane->in_shard);
    buf_deinit(&lane->now);
    buf_deinit(&lane->held);
    buf_deinit(&lane->waiting);
    free(lane);
    link->owner = NULL;
}

/* To all subscribers here, or to one member of a share, or to nobody: this node has asked for it. */
static void arrived(struct broker *b, struct publication *pub, const struct forward_head *head,
                    struct receipt_open *open)
{
    static const struct spread_mask nobody;
    struct share_way way = {.share = head->share, .here = true, .sole = head->flags & FORWARD_SOLE};
    uint64_t records = journal_records(b);

    if (head->flags & FORWARD_QUIET) {
        atomic_store_explicit(&b->node->cluster->caught_up_ms, b->shard->now_ms, memory_order_relaxed);
        broker_metric(b, METRIC_RETAINED_CAUGHT_UP, 1);
        publish_keep(b, pub, open);
        return;
    }
    if (head->share == 0) {
        publish_arrived(b, pub, open, head->flags & FORWARD_KEEP);
        return;
    }
    deliver_begin(b);
    share_publish(b, &way, &nobody, pub, open);
    if (open && records != journal_records(b)) {
        open->logged = true;
    }
}

/* Returns 0 or -EPROTO. What is in the publication is borrowed from body. */
static int read_message(struct broker *b, struct slice body, struct forward_head *ret_head, struct publication *ret_pub)
{
    struct forward_head head;
    struct publication pub = {0};

    if (forward_head_read(body, &head, &pub.topic, &pub.properties, &pub.payload) != 0 ||
        !stamp_possible(head.stamp.at) || (head.flags & FORWARD_KEEP && topic_is_own(pub.topic)) ||
        (head.flags & FORWARD_QUIET && ~head.flags & (FORWARD_KEEP | FORWARD_ANSWER))) {
        return -EPROTO;
    }
    stamp_seen(b, head.stamp.at);
    pub.topic_hash = broker_hash(b, pub.topic);
    pub.qos = head.flags & FORWARD_QOS;
    pub.retain = head.flags & FORWARD_RETAIN;
    pub.stamp = head.stamp;
    pub.expires_at_ms = MESSAGE_NEVER;
    if (head.expires_in_ms < MESSAGE_NEVER - b->shard->wall_ms) {
        pub.expires_at_ms = b->shard->wall_ms + head.expires_in_ms;
    }
    *ret_head = head;
    *ret_pub = pub;
    return 0;
}

int arrive_publish(struct peer_link *link, const struct link_frame *frame, struct slice body)
{
    struct broker *b = CONTAINER_OF(link->room, struct cluster_shard, room)->broker;
    struct forward_head head;
    struct publication pub;

    if (read_message(b, body, &head, &pub) != 0 || (frame->lane == LINK_LIVE) != ((head.flags & FORWARD_ANSWER) != 0) ||
        !link->owner) {
        return -EPROTO;
    }
    broker_metric(b, METRIC_FORWARDED_IN, !(head.flags & FORWARD_QUIET));
    if (!(head.flags & FORWARD_ANSWER)) {
        arrived(b, &pub, &head, NULL);
    } else {
        struct receipt_open open = {.link = link, .number = head.number};
        arrived(b, &pub, &head, &open);
        if (open.failed && !open.receipt) {
            open.reason = RECEIPT_NO_MEMORY;
        }
        receipt_close(b, &open, open.failed ? RECEIPT_NO_MEMORY : open.reason);
    }
    publication_end(&pub);
    return 0;
}

/* Add a number to a batch of answers: to its last range if it continues that. */
static void put_done(struct buf *out, uint64_t number, uint8_t reason)
{
    if (out->len >= DONE_BYTES) {
        uint8_t *last = out->ptr + out->len - DONE_BYTES;
        struct cursor c = cursor_at(slice_of(last, DONE_BYTES));
        uint64_t first = cursor_u64(&c);
        uint32_t count = cursor_u32(&c);
        if (first + count == number && cursor_u8(&c) == reason) {
            struct buf b = {.ptr = last + 8, .cap = 4};
            buf_u32(&b, count + 1);
            return;
        }
    }
    buf_u64(out, number);
    buf_u32(out, 1);
    buf_u8(out, reason);
}

void arrive_answer(struct broker *b, struct peer_link *link, uint64_t number, uint8_t reason, bool logged, uint64_t lsn)
{
    struct arrival_lane *lane = link->owner;
    bool held = b->node->store && (logged || lsn > b->conns.durable);

    put_done(held ? &lane->held : &lane->now, number, reason);
    if (held && lsn > lane->held_lsn) {
        lane->held_lsn = lsn;
    }
    if (list_empty(&lane->in_shard)) {
        list_append(&b->cluster->owing, &lane->in_shard);
    }
    lane->link = link;
}

/* Without memory for its answers a link is of no use: it ends, and all that was not answered comes again. */
static bool sound(struct arrival_lane *lane)
{
    return !lane->now.failed && !lane->held.failed && !lane->waiting.failed;
}

static void send_done(struct arrival_lane *lane)
{
    struct slice body = buf_slice(&lane->now);

    if (body.len > 0 && peer_put(lane->link, LINK_LIVE, FRAME_PUBLISH_DONE, 0, &body, 1) != 0) {
        lane->now.failed = true;
    }
    lane->now.len = 0;
}

/* What this turn has logged has a number now. */
static void hold_back(struct broker *b, struct arrival_lane *lane)
{
    struct held_answers h = {.lsn = lane->held_lsn > b->journal.lsn ? lane->held_lsn : b->journal.lsn,
                             .len = lane->held.len};

    if (h.len > 0) {
        buf_put(&lane->waiting, slice_of(&h, sizeof(h)));
        buf_put(&lane->waiting, buf_slice(&lane->held));
        lane->held.len = 0;
        lane->held_lsn = 0;
    }
}

static void let_go(struct broker *b, struct arrival_lane *lane)
{
    while (lane->waiting.len > 0) {
        struct held_answers h;
        memcpy(&h, lane->waiting.ptr, sizeof(h));
        if (h.lsn > b->conns.durable) {
            break;
        }
        buf_put(&lane->now, slice_of(lane->waiting.ptr + sizeof(h), h.len));
        buf_consume(&lane->waiting, sizeof(h) + h.len);
    }
}

void arrive_turn_end(struct broker *b)
{
    struct list *next;

    for (struct list *at = b->cluster->owing.next; at != &b->cluster->owing; at = next) {
        struct arrival_lane *lane = CONTAINER_OF(at, struct arrival_lane, in_shard);
        next = at->next;
        hold_back(b, lane);
        let_go(b, lane);
        send_done(lane);
        if (!sound(lane)) {
            log_event(LOG_ERROR, "no_memory_to_answer", {"what", LOG_STR("another node")});
            peer_hang_up(lane->link);
        } else if (lane->waiting.len == 0) {
            list_remove(&lane->in_shard);
        }
    }
}

bool arrive_waits(const struct broker *b)
{
    return b->cluster && !list_empty(&b->cluster->owing);
}
