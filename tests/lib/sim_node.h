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

    /* The disk beneath, if it is to work while sim_node_settle turns: do what there is to do, return whether there was
     * anything. May be NULL. */
    bool (*disk)(void *arg);
    void *disk_arg;
};

/* Of nodes that are started from now on; NULL: they are alone. */
extern struct retained_replica *sim_replica;

/* Build and start; arguments: pairs for `--set`, "key=value", ended by NULL; may be NULL. All memory must be there:
 * asserted. With cluster.listen it is one of several, if it has a world (sim_io.h). The clock and the chance begin
 * anew. */
void sim_node_open(struct sim_node *node, unsigned shard_count, const char *const *settings);

/* The same without a new beginning, for one that is started again: sim_begin comes first in a story. store: opened, not
 * started, or NULL; the node recovers from it, starts it and closes it. Returns 0 or what recovery has answered, and
 * then the node is to be closed without a turn. */
int sim_node_start(struct sim_node *node, unsigned shard_count, const char *const *settings, struct store *store);

/* Free everything in memory, no flow runs any more: what was not sent is lost. With a store that is crashed first
 * (mem_store_crash) it is as after kill -9, otherwise the store is closed in the ordinary way. */
void sim_node_close(struct sim_node *node);

/* As on SIGTERM: everybody is sent away, and what is to be told is told. sim_node_close comes next. */
void sim_node_stop(struct sim_node *node);

void sim_begin(uint64_t seed);  /* the clock, and what the node takes for chance */
void sim_reboot(void);          /* the monotonic clock begins anew; no node is there */
void sim_wall_step(int64_t ms); /* somebody sets the wall clock */
void sim_wall_skew(int64_t ms); /* the node that turns next has a wall clock that is so far ahead */
uint64_t sim_now_ms(void);      /* since sim_begin; no step, no reboot */
uint64_t sim_wall_now_ms(void);

void sim_node_turn(struct sim_node *node, unsigned shard);
/* Turn all shards until nothing more comes of it; the clock stands still. */
void sim_node_settle(struct sim_node *node);
/* Move the clock, without a turn. */
void sim_node_advance(uint64_t ms);

/* Whether the broker has ended this connection, if only by a FIN that waits for the client's. */
bool sim_ended(const struct sim_socket *s);

/* Close what is open, let all sessions expire, and name what is left; NULL: nothing. */
const char *sim_node_leftover(struct sim_node *node);
/* The same, without doing anything for it. */
const char *sim_node_left(const struct sim_node *node);

#endif
