/* route_inside.h -- between route_table.c (the writer's part), route_match.c (readers) and route_remote.c (what other
 * nodes want). */
#ifndef TERN_BROKER_TOPIC_ROUTE_INSIDE_H
#define TERN_BROKER_TOPIC_ROUTE_INSIDE_H

#include <stdatomic.h>

#include "broker/topic/grace.h"
#include "broker/topic/route_table.h"
#include "proto/base/buf.h"

#define INDEX_START 64u

#define NO_SLOT UINT32_MAX

/* Which other nodes want something; never changed, but exchanged for another. */
struct slot_set {
    struct grace_item item; /* first */
    uint64_t bits[ROUTE_SLOTS / 64];
};

/* A share of a filter that has members here, or in the slot of another node; in a list of one link: taking one out
 * needs no memory, and a reader that stands on it still finds the rest. */
struct share_entry {
    struct grace_item item; /* first */
    _Atomic(struct share_entry *) next;
    uint64_t id;
    uint32_t home; /* shard; ROUTE_NO_HOME: it is another node's */
    uint32_t slot; /* NO_SLOT: it is ours */
};

/* Where a filter ends, or a level on the way to one. */
struct entry {
    struct grace_item item; /* first */
    uint64_t hash;          /* exact: of the topic. Node: of the edge */
    atomic_uint_least64_t shards;
    _Atomic(struct share_entry *) shares; /* owned; NULL: none */
    _Atomic(struct slot_set *) slots;     /* owned; NULL: none. Wildcards only: others are in cells */
    struct entry *parent;                 /* node: NULL for the root */
    uint32_t children;                    /* node: the writer's count */
    uint16_t level_len;
    uint8_t level[]; /* node */
};

struct index {
    struct grace_item item; /* first */
    uint64_t scatter;       /* the process's own: clients may know the key, and yet not where an entry lies */
    uint32_t mask;
    uint32_t used; /* slots not empty, dead ones too; the writer's */
    uint32_t live;
    _Atomic(struct entry *) slots[];
};

/* An exact filter of other nodes. hash 0: free. word: odd: one slot; even: a struct slot_set, owned; 0: none any more
 */
struct cell {
    atomic_uint_least64_t hash, word;
};

struct cells {
    struct grace_item item; /* first */
    uint64_t scatter;
    uint32_t mask;
    uint32_t used, live; /* the writer's: with a hash; with a word */
    struct cell cells[];
};

/* Where the sweep of a slot has got to. */
struct route_sweep {
    unsigned slot, stage;
    uint32_t at;
    const void *of; /* the index that `at` is a place in */
};

struct route_table {
    const struct hash_key *key; /* borrowed */
    uint64_t scatter;
    _Atomic(struct cells *) cells;
    atomic_uint_least64_t alive[ROUTE_SLOTS / 64]; /* slots whose filters count */
    struct route_digest digests[ROUTE_SLOTS], own;
    struct route_sweep sweep;
    void (*watch)(void *arg, const struct route_filter *filter, bool added);
    void *watch_arg;
    struct buf text; /* scratch of the writer */
    struct grace grace;
    atomic_uint_least64_t generation;
    _Atomic(struct index *) exact, nodes;
    struct entry *root;
    uint64_t plus_hash, rest_hash; /* of the levels `+` and `#`, which each step of a match asks for */
    size_t filter_count;
};

extern struct entry route_dead; /* the tombstone of an index; never read but for its address */

static inline bool is_free(const struct entry *e)
{
    return !e || e == &route_dead;
}

/* Where an entry of this hash is looked for first. */
static inline uint32_t scatter(uint64_t hash, uint64_t factor)
{
    return (uint32_t)((hash * factor) >> 32);
}

/* The entry of this hash; with a parent, that of this edge. */
struct entry *index_find(const struct index *x, uint64_t hash, const struct entry *parent, struct slice level);

static inline uint64_t edge_hash(const struct entry *parent, uint64_t level_hash)
{
    return level_hash ^ hash_mix((uint64_t)(uintptr_t)parent);
}

/* ---- the writer's ---- */

void route_changed(struct route_table *table); /* the next match sees it */
struct entry *route_find_entry(struct route_table *table, struct slice filter, bool make);
/* The entry of an exact filter known by its hash. */
struct entry *route_find_exact(struct route_table *table, uint64_t hash, bool make);
/* Take an entry that nothing needs any more out of its index, and its parents that are then unused too. */
void route_prune(struct route_table *table, struct entry *e);
/* The link that leads to a share of this slot, or the last link, which is NULL. */
_Atomic(struct share_entry *) *route_find_share(struct entry *e, uint64_t share_id, uint32_t slot);
void route_put_share(struct route_table *table, struct entry *e, struct share_entry *share);
bool route_drop_share(struct route_table *table, struct entry *e, uint64_t share_id, uint32_t slot);

/* ---- route_remote.c ---- */

struct cells *cells_new(uint32_t slots, uint64_t factor);
void cells_free(struct cells *cells);
/* Set the bits of the slots that want the exact filter of this hash. */
void cells_collect(const struct cells *cells, uint64_t hash, uint64_t bits[ROUTE_SLOTS / 64]);

#endif
