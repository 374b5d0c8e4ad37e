/* sim_node.h -- a whole node on one thread: one to three shards over sim_io, turned by hand, with a clock that a test
 * moves.
 *
 * Why: what passes between clients, sessions and shards can then be tried in any order of turns, without threads,
 * sockets or waiting. It is the broker's own code from the door up; only node.c, which starts threads, is left out. */
#ifndef TERN_TESTS_LIB_SIM_NODE_H
#define TERN_TESTS_LIB_SIM_NODE_H

#include "broker/flow/broker.h"
#include "tests/lib/sim_io.h"

#define SIM_SHARDS_MAX 3

struct sim_node {
    struct node_tables tables;
    struct auth auth;
    struct auth_policy policy;
    struct config *config; /* owned; may be changed before a shard's first turn */
    struct mail_office *office;
    struct broker brokers[SIM_SHARDS_MAX];
    struct shard *shards[SHARDS_MAX];
    unsigned shard_count;
    struct sim_net net;
};

/* Build and start; arguments: pairs for `--set`, "key=value", ended by NULL; may be NULL. All memory must be there:
 * asserted. One at a time. */
void sim_node_open(struct sim_node *node, unsigned shard_count, const char *const *settings);
void sim_node_close(struct sim_node *node);

void sim_node_turn(struct sim_node *node, unsigned shard);
/* Turn all shards until nothing more comes of it; the clock stands still. */
void sim_node_settle(struct sim_node *node);
/* Move the clock, without a turn. */
void sim_node_advance(uint64_t ms);

/* Whether the broker has ended this connection, if only by a FIN that waits for the client's. */
bool sim_ended(const struct sim_socket *s);

/* Close what is open, let all sessions expire, and name what is left; NULL: nothing. */
const char *sim_node_leftover(struct sim_node *node);

#endif
