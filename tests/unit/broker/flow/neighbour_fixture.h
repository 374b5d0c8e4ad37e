/* neighbour_fixture.h -- a node of a cluster, without a kernel (sim_node), and a test in the place of its one
 * neighbour: it reads what the node puts on its link, frame by frame, and says what it likes on the link the other way.
 *
 * No connection exists: what the links themselves promise is tests/unit/broker/peer's affair. */
#ifndef TERN_TESTS_UNIT_BROKER_FLOW_NEIGHBOUR_FIXTURE_H
#define TERN_TESTS_UNIT_BROKER_FLOW_NEIGHBOUR_FIXTURE_H

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "broker/flow/cluster.h"
#include "broker/flow/driver.h"
#include "broker/flow/feed_inside.h"
#include "broker/flow/forward_frame.h"
#include "broker/loop/io_backend.h"
#include "broker/peer/peer_inside.h"
#include "proto/base/cursor.h"
#include "proto/base/log.h"
#include "proto/wire/peer.pb-c.h"
#include "tests/lib/sim_node.h"

struct town {
    struct sim_node node;
    struct node_cluster *cluster; /* the node's */
    struct io_ops ops;            /* the door's, and datagrams that go nowhere */
    struct member member;         /* the neighbour */
    struct peer_link *in;         /* it has dialled this one; NULL: not yet, or ended */
    struct io_datagram *gossip;   /* the node's socket for it */
    struct buf frame;             /* the last one that was heard */
    unsigned datagrams;
};

static struct town town;

static int town_datagram(struct io *io, struct io_datagram *d)
{
    (void)io;
    town.gossip = d;
    return 0;
}

static void town_datagram_send(struct io *io, struct io_datagram *d, struct slice data, const struct sockaddr *to,
                               socklen_t to_len)
{
    (void)io;
    (void)d;
    (void)data;
    (void)to;
    (void)to_len;
    town.datagrams++;
}

static int town_dial(struct io *io, const struct sockaddr *to, socklen_t to_len)
{
    (void)io;
    (void)to;
    (void)to_len;
    return -ECONNREFUSED;
}

static inline struct broker *town_broker(void)
{
    return &town.node.brokers[0];
}

static inline struct peer_link *town_out(void)
{
    int n = neighbour_find(town.cluster, &town.member.id);
    return n < 0 ? NULL : town_broker()->cluster->links[n];
}

/* The neighbour dials. */
static inline void town_dials(void)
{
    struct broker *b = town_broker();

    town.in = peer_link_new(&b->cluster->room, &town.member.id);
    assert(town.in);
    town.in->boot = town.member.boot;
    int rc = cluster_peer_handler.opened(town.in);
    assert(rc == 0);
}

static inline void town_open(const char *const *settings)
{
    struct broker *b = town_broker();
    struct peer_terms *terms;

    sim_node_open(&town.node, 1, settings);
    town.cluster = calloc(1, sizeof(*town.cluster));
    assert(town.cluster);
    terms = &town.cluster->terms;

    memset(terms->node_id.bytes, 1, sizeof(terms->node_id.bytes));
    terms->boot = 1;
    terms->wire_min = PEER_WIRE_MIN;
    terms->wire_max = PEER_WIRE_MAX;
    snprintf(terms->cluster, sizeof(terms->cluster), "test");
    terms->frame_bytes_max = 1u << 20;
    terms->handler = &cluster_peer_handler;
    town.cluster->listen_fd = -1;
    town.cluster->gossip_fd = SIM_FIRST_FD - 1;
    town.cluster->address = (struct member_address){.family = 4, .bytes = {127, 0, 0, 1}, .port = 1};
    seal_ring_insecure("test", &town.cluster->ring);
    town.ops = *b->shard->io->ops;
    town.ops.datagram = town_datagram;
    town.ops.datagram_send = town_datagram_send;
    town.ops.dial = town_dial;
    b->shard->io->ops = &town.ops;
    town.node.tables.cluster = town.cluster;
    int rc = cluster_shard_new(b);
    assert(rc == 0);
    peer_room_init(&b->cluster->room, b->shard, terms);
    rc = feed_new(b);
    assert(rc == 0);
    rc = catchup_new(b);
    assert(rc == 0);
    rc = driver_start(b);
    assert(rc == 0);
    town.member = (struct member){.boot = 1,
                                  .state = MEMBER_ALIVE,
                                  .name = "other",
                                  .wire_min = 1,
                                  .wire_max = 1,
                                  .shards = 1,
                                  .address = {.family = 4, .bytes = {127, 0, 0, 2}, .port = 1}};
    memset(town.member.id.bytes, 2, sizeof(town.member.id.bytes));
    neighbour_changed(b, &town.member, true);
    town_dials();
    sim_node_settle(&town.node);
}

static inline void town_close(void)
{
    sim_node_close(&town.node);
    buf_deinit(&town.frame);
    memset(&town.frame, 0, sizeof(town.frame));
    town.in = NULL;
}

static inline void town_pass(uint64_t ms)
{
    sim_node_advance(ms);
    sim_node_settle(&town.node);
}

/* The next frame of a lane, which the neighbour thereby has and acknowledges. Returns its type, 0: there is none. */
static inline uint8_t town_hears(struct peer_link *link, unsigned lane, struct slice *ret_body)
{
    struct link_lane *l = &link->flow.lanes[lane];
    struct link_frame frame;
    uint8_t ack[LINK_ACK_BYTES];

    if (l->sent == l->bytes.len) {
        return 0;
    }
    link_frame_read(l->bytes.ptr + l->sent, &frame);
    town.frame.len = 0;
    buf_put(&town.frame, slice_of(l->bytes.ptr + l->sent + LINK_HEADER_BYTES, frame.len));
    assert(!town.frame.failed);
    *ret_body = buf_slice(&town.frame);
    link_flow_sent(&link->flow, lane, LINK_HEADER_BYTES + frame.len);
    for (unsigned i = 0; i < LINK_KEPT_LANES; i++) {
        uint32_t seq = i == lane ? frame.seq + 1 : link->flow.lanes[i].oldest;
        for (unsigned k = 0; k < 4; k++) {
            ack[4 * i + k] = (uint8_t)(seq >> (24 - 8 * k));
        }
    }
    int rc = link_flow_ack_read(&link->flow, ack);
    assert(rc == 0);
    peer_link_acknowledged(link);
    return frame.type;
}

/* Forget all that waits to be heard. */
static inline void town_ignores(struct peer_link *link)
{
    struct slice body;

    for (unsigned lane = 0; lane < LINK_LANES; lane++) {
        while (town_hears(link, lane, &body)) {
        }
    }
}

/* The neighbour says this, on the link that it has dialled or, as an answer, on ours. What the node answers. */
static inline int town_says(struct peer_link *link, unsigned lane, uint8_t type, struct slice body)
{
    struct link_frame frame = {.len = (uint32_t)body.len, .lane = (uint8_t)lane, .type = type};
    uint8_t *copy = malloc(body.len + 1); /* of its exact size, but one that nobody may look at */
    assert(copy);
    if (body.len > 0) {
        memcpy(copy, body.ptr, body.len);
    }
    copy = realloc(copy, body.len ? body.len : 1);
    int rc = cluster_peer_handler.frame(link, &frame, slice_of(copy, body.len));
    free(copy);
    return rc;
}

static inline int town_says_message(struct peer_link *link, uint8_t type, const ProtobufCMessage *message)
{
    struct buf body = {0};
    int rc = wire_encode(message, &body);

    assert(rc == 0);
    rc = town_says(link, LINK_CONTROL, type, buf_slice(&body));
    buf_deinit(&body);
    return rc;
}

/* The neighbour has a subscriber for this filter: one set, complete. */
static inline void town_wants(uint64_t hash)
{
    Tern__Routes routes = TERN__ROUTES__INIT;

    routes.begin = routes.end = true;
    routes.added = &hash;
    routes.n_added = 1;
    int rc = town_says_message(town.in, FRAME_ROUTES, &routes.base);
    assert(rc == 0);
    sim_node_settle(&town.node);
}

/* `count` messages from number `first` on are answered for. */
static inline int town_has(uint64_t first, uint32_t count, uint8_t reason)
{
    struct buf body = {0};

    buf_u64(&body, first);
    buf_u32(&body, count);
    buf_u8(&body, reason);
    int rc = town_says(town_out(), LINK_LIVE, FRAME_PUBLISH_DONE, buf_slice(&body));
    buf_deinit(&body);
    sim_node_settle(&town.node);
    return rc;
}

/* A message for the subscribers of this node. */
static inline void town_put_publish(struct buf *out, uint64_t number, uint8_t flags, const char *topic,
                                    const char *payload)
{
    struct forward_head head = {
        .number = number, .expires_in_ms = FORWARD_NEVER, .flags = flags, .topic_len = (uint16_t)strlen(topic)};
    uint8_t bytes[FORWARD_HEAD_BYTES];

    forward_head_write(bytes, &head);
    buf_put(out, slice_of(bytes, sizeof(bytes)));
    buf_put(out, slice_str(topic));
    buf_u8(out, 0); /* no properties */
    buf_put(out, slice_str(payload));
}

#endif
