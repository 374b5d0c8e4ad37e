/* feed_inside.h -- between routefeed.c (what this node tells of its filters) and routetake.c (what others tell). */
#ifndef TERN_BROKER_FLOW_FEED_INSIDE_H
#define TERN_BROKER_FLOW_FEED_INSIDE_H

#include "broker/flow/cluster.h"
#include "proto/wire/peer.pb-c.h"

#define NO_SLOT UINT32_MAX
#define TO_ALL UINT32_MAX /* every neighbour */

/* A filter that has come, or is on its way out. */
struct change {
    struct list in_feed;
    uint64_t hash, share;
    uint64_t due_ms; /* withdrawal: when */
    bool remove;
    uint16_t len;
    uint8_t text[];
};

/* What one neighbour was told of us, and has told us. */
struct feed_peer {
    bool used;
    bool walking; /* it is being told all of the set */
    bool begun;   /* the first frame of that is out */
    struct route_walk walk;
    uint64_t done;           /* barrier that it has answered */
    uint64_t digest_ms;      /* when the next comparison is due */
    uint32_t slot, building; /* of the route table: what it has told us; NO_SLOT */
};

/* A SUBACK that waits for other nodes. */
struct held {
    struct list in_feed;
    struct route_request *request;
    unsigned from;
    uint64_t barrier, due_ms;
};

#define OPS_AT_ONCE 4096u /* in one message */

/* A message being filled: what it tells lies here until it is out. */
struct telling {
    Tern__Routes message;
    unsigned to;      /* neighbour, or TO_ALL */
    struct buf texts; /* of its filters */
    uint64_t added[OPS_AT_ONCE], removed[OPS_AT_ONCE];
    Tern__RouteOp ops[OPS_AT_ONCE];
    Tern__RouteOp *op_list[OPS_AT_ONCE];
    bool failed; /* memory was out */
};

struct feed {
    struct broker *broker;
    struct list changes; /* struct change of this turn, oldest first */
    struct list leaving; /* withdrawals, by due_ms */
    struct map leaving_by_hash;
    struct list waiting;  /* struct held, by barrier */
    struct change *spare; /* memory for the next change */
    size_t spare_len;
    uint64_t barrier; /* the last one that was told */
    bool barrier_due; /* somebody waits for what this turn tells */
    struct feed_peer peers[NEIGHBOURS_MAX];
    struct route_digest told; /* the set as it was told */
    bool dead[ROUTE_SLOTS];   /* to be swept */
    unsigned dead_count;
    struct telling telling; /* scratch */
};

static inline struct feed *feed_of(const struct broker *b)
{
    return b->node->cluster->feed;
}

/* ---- routetake.c ---- */

/* What was told in a slot counts no more; it is swept by and by. */
void feed_bury(struct feed *feed, uint32_t *slot);
/* Once a turn: sweep some of what is dead. */
void feed_sweep(struct feed *feed);

#endif
