/* peer_nodes.h -- some nodes of one shard each, that are nothing but their links: plain TCP on loopback, turned by
 * the test's thread. What their handler is told is written down. */
#ifndef TERN_TESTS_UNIT_BROKER_PEER_PEER_NODES_H
#define TERN_TESTS_UNIT_BROKER_PEER_PEER_NODES_H

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "broker/loop/mailbox.h"
#include "broker/peer/peer_inside.h"
#include "tests/lib/unit.h"

#define NODES_MAX 4u
#define TURNS_MAX 200000u /* of all, 1 ms each at most: who comes here hangs */

struct peer_node {
    struct peer_terms terms;
    struct mail_office *office;
    struct shard *peers[1], *shard;
    struct peer_room room;
    struct member_address address;
    unsigned opened, lost, resets, ended;
    unsigned frames;       /* that have come */
    uint8_t last_type;     /* of the last */
    struct buf heard;      /* the bodies of all, one after the other */
    int frame_answer;      /* what its handler says to a frame */
    struct node_id barred; /* whose HELLO it does not know; zero: nobody's */
};

static struct peer_node nodes[NODES_MAX];
static unsigned node_count;

static inline struct peer_node *node_of(const struct peer_link *link)
{
    return CONTAINER_OF(link->room, struct peer_node, room);
}

static int on_frame(struct peer_link *link, const struct link_frame *frame, struct slice body)
{
    struct peer_node *n = node_of(link);

    if (n->frame_answer != 0) {
        return n->frame_answer;
    }
    n->frames++;
    n->last_type = frame->type;
    buf_put(&n->heard, body);
    return 0;
}

static int on_opened(struct peer_link *link)
{
    node_of(link)->opened++;
    return 0;
}

static void on_lost(struct peer_link *link)
{
    node_of(link)->lost++;
}

static void on_reset(struct peer_link *link)
{
    node_of(link)->resets++;
}

static void on_ended(struct peer_link *link)
{
    node_of(link)->ended++;
}

static void on_drained(struct peer_link *link)
{
    (void)link;
}

static bool is_known(struct peer_room *room, const struct node_id *id, uint64_t boot)
{
    (void)boot;
    return !node_id_eq(&CONTAINER_OF(room, struct peer_node, room)->barred, id);
}

static void move(struct peer_room *room, struct peer_wire *wire, unsigned shard)
{
    (void)room;
    (void)wire;
    (void)shard;
    CHECK(false); /* there is one */
}

static const struct peer_handler recorder = {
    .frame = on_frame,
    .opened = on_opened,
    .lost = on_lost,
    .reset = on_reset,
    .ended = on_ended,
    .drained = on_drained,
    .known = is_known,
    .move = move,
};

static int shard_start(struct shard *shard)
{
    struct peer_node *n = shard->broker;

    peer_room_init(&n->room, shard, &n->terms);
    return 0;
}

static void shard_mail(struct shard *shard, const struct mail *mail)
{
    (void)shard;
    (void)mail;
}

static void shard_turn_end(struct shard *shard)
{
    peer_room_flush(&((struct peer_node *)shard->broker)->room);
}

static void shard_nothing(struct shard *shard)
{
    (void)shard;
}

static void shard_stopped(struct shard *shard)
{
    peer_room_stop(&((struct peer_node *)shard->broker)->room);
}

static int open_door(struct member_address *ret_address)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(in);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    CU_ASSERT_FATAL(fd >= 0 && bind(fd, (struct sockaddr *)&in, len) == 0 && listen(fd, 16) == 0);
    getsockname(fd, (struct sockaddr *)&in, &len);
    peer_address_of((struct sockaddr *)&in, ret_address);
    return fd;
}

/* A node whose HELLO says these versions; its id is made of its number. */
static inline struct peer_node *add_node(uint32_t wire_min, uint32_t wire_max, uint64_t features)
{
    static const struct shard_handler handler = {shard_start,   shard_mail,    shard_turn_end,
                                                 shard_nothing, shard_nothing, shard_stopped};
    struct peer_node *n = &nodes[node_count++];

    *n = (struct peer_node){.terms = {.node_id = {{(uint8_t)node_count}},
                                      .boot = 1,
                                      .wire_min = wire_min,
                                      .wire_max = wire_max,
                                      .features = features,
                                      .cluster = "c",
                                      .cluster_id = {7},
                                      .frame_bytes_max = 1u << 24,
                                      .handler = &recorder}};
    atomic_store(&n->terms.has_id, true);
    int fd = open_door(&n->address);
    CU_ASSERT_FATAL(mail_office_new(1, &n->office) == 0);
    struct shard_options options = {.count = 1,
                                    .io = {.backend = IO_EPOLL},
                                    .office = n->office,
                                    .peers = n->peers,
                                    .handler = &handler,
                                    .broker = n};
    CU_ASSERT_FATAL(shard_new(&options, &n->shard) == 0);
    CU_ASSERT_FATAL(peer_room_listen(&n->room, fd) == 0);
    return n;
}

static inline void turn_all(void)
{
    for (unsigned i = 0; i < node_count; i++) {
        shard_turn(nodes[i].shard, true);
    }
    usleep(500);
}

/* Turn until the condition holds. */
#define UNTIL(condition) \
    do { \
        unsigned turns_ = 0; \
        while (!(condition) && turns_++ < TURNS_MAX) { \
            turn_all(); \
        } \
        CU_ASSERT_FATAL(condition); \
    } while (0)

static inline struct peer_link *connect_nodes(struct peer_node *from, struct peer_node *to)
{
    return peer_dial(&from->room, &to->terms.node_id, &to->address);
}

static inline void end_nodes(void)
{
    for (unsigned i = 0; i < node_count; i++) {
        shard_free(nodes[i].shard);
        mail_office_free(nodes[i].office);
        buf_deinit(&nodes[i].heard);
    }
    node_count = 0;
}

#endif
