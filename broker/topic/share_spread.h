/* share_spread.h -- which node's members get the next message of a shared subscription (4.8.2 over a cluster).
 *
 * Why: who publishes picks the node, and that node picks the member: so nobody has to know all members of the cluster,
 * and what is known of other nodes is a few numbers for each share, a moment old. What this node has itself sent there
 * and has not been answered for is counted here, so that a node is not flooded between two reports.
 *
 * Pure: no clock, chance comes in. Touched by: the share's home shard. */
#ifndef TERN_BROKER_TOPIC_SHARE_SPREAD_H
#define TERN_BROKER_TOPIC_SHARE_SPREAD_H

#include "broker/topic/share_group.h"

#define SPREAD_NODES 128 /* other nodes, by number */
#define SPREAD_HERE SPREAD_NODES
#define SPREAD_NOBODY (-1)

struct share_spread;

struct spread_mask {
    uint64_t bits[SPREAD_NODES / 64];
};

static inline bool spread_mask_has(const struct spread_mask *mask, unsigned node)
{
    return mask->bits[node / 64] >> node % 64 & 1;
}

static inline void spread_mask_set(struct spread_mask *mask, unsigned node)
{
    mask->bits[node / 64] |= 1ull << node % 64;
}

/* Where a message may go. */
struct spread_choice {
    struct spread_mask nodes; /* those that have announced members and can be reached */
    struct share_load here;   /* all 0: nobody here, or nobody who may have it */
    uint64_t here_seed;
    uint64_t topic_hash; /* the same on all nodes */
    uint8_t qos;
};

int share_spread_new(struct share_spread **ret_spread);
void share_spread_free(struct share_spread *spread);

/* A node has told of its members; seed: what it is known by on all nodes. Without memory it is as if it had not told.
 */
void share_spread_told(struct share_spread *spread, uint64_t share, unsigned node, uint64_t seed,
                       const struct share_load *load);
/* What it has told counts no more. */
void share_spread_forget(struct share_spread *spread, unsigned node);

/* Returns a node, SPREAD_HERE or SPREAD_NOBODY. Nodes with members online come first; then those of whom it is not yet
 * known; then, for QoS > 0, those whose members are offline. Among the first, by strategy:
 * - least inflight: this node if its room is at least half of the best one's; else the better of two, drawn. Room: what
 *   the members may have outstanding, SHARE_ROOM each, less what they have. - round robin: in turn, each as often as it
 *   has members. - sticky: the same as last time while it has room. - hash topic: rendezvous over all
 *   members; the same on every node while their number stays. - random: uniform over members.
 * For a node the message counts as outstanding until share_spread_settle, if qos > 0. */
int share_spread_pick(struct share_spread *spread, uint64_t share, enum share_strategy strategy,
                      const struct spread_choice *choice, struct prng *prng);
void share_spread_settle(struct share_spread *spread, uint64_t share, unsigned node);

#endif
