/* swim_net.h -- many SWIM nodes on one thread and one virtual clock, with a network between them that does its worst.
 *
 * Everything comes from the seed. What must hold at any time is checked here, and the first break is kept in
 * `broken`: each change is told once and as it is, no datagram is too large, nobody asks for a call in the past.
 * Each node does what its shell would: every 30 s it exchanges tables with a member by chance, as over a link; it
 * joins by the first two nodes, every 5 s while it is alone and every minute after. */
#ifndef TERN_TESTS_LIB_SWIM_NET_H
#define TERN_TESTS_LIB_SWIM_NET_H

#include "cluster/swim.h"
#include "proto/base/prng.h"

#define NET_NODES_MAX 40
#define NET_DELAY_MAX 1000

struct net_options {
    unsigned nodes;
    uint64_t seed;
    unsigned loss_percent, duplicate_percent;
    unsigned delay_min_ms, delay_max_ms; /* each datagram by itself, so that they overtake each other */
    bool no_tables;                      /* datagrams must do */
};

struct net_packet;

struct net_node {
    struct net *net;
    unsigned index;
    struct swim *swim; /* NULL while it does not run */
    uint64_t boot;
    uint16_t port; /* its address but for that is made of its index */
    bool paused;
    bool left;
    uint64_t tick_ms; /* when it wants to be called; 0: it shall be asked */
    uint64_t join_ms, table_ms;
    uint64_t sent;
    struct member mirror[SWIM_MEMBERS_MAX + SWIM_GONE_MAX]; /* what it was told, nothing else */
    unsigned told, told_dead, told_conflict;
    unsigned false_deaths; /* told of a node that ran in that very boot */
};

struct net {
    struct net_options options;
    struct prng prng;
    uint64_t now_ms;
    struct net_node nodes[NET_NODES_MAX];
    bool cut[NET_NODES_MAX][NET_NODES_MAX]; /* from, to */
    struct net_packet *due[NET_DELAY_MAX + 1];
    const char *broken;
};

/* All nodes stopped. */
struct net *net_new(const struct net_options *options);
void net_free(struct net *net);

/* Start node i in a new boot, with another port each time. Stop it without a word. */
void net_start(struct net *net, unsigned i);
void net_start_all(struct net *net);
void net_crash(struct net *net, unsigned i);

/* A paused node neither ticks nor reads; what comes waits for it. */
void net_pause(struct net *net, unsigned i, bool paused);
/* Node `at` has lost its links to node `to`. */
void net_link_lost(struct net *net, unsigned at, unsigned to);
void net_leave(struct net *net, unsigned i);

/* What was told so far was not false: the test made it so. */
void net_forgive(struct net *net);

/* Cut all ways between nodes below `at` and the others, in both directions; or mend everything. */
void net_split(struct net *net, unsigned at);
void net_mend(struct net *net);

void net_run(struct net *net, uint64_t ms);
/* Until done() holds, looked at each 100 ms; false if it did not within `ms`. */
bool net_run_until(struct net *net, bool (*done)(struct net *net), uint64_t ms);

/* Every running node knows every running node alive, in its boot and at its address; nobody else; and all agree about
 * who is gone. */
bool net_agrees(struct net *net);
/* What node `of` is to node `at`. */
enum member_state net_state(struct net *net, unsigned at, unsigned of);

struct node_id net_id(unsigned i);
struct member_address net_address(const struct net *net, unsigned i);

#endif
