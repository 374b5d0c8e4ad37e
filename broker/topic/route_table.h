/* route_table.h -- which shards and which shares want a topic: one table for the node.
 *
 * Why: a publish is matched once at its publisher's shard, and goes only where somebody waits. One thread writes (the
 * control shard); all shards read at the same time without a lock. Memory that a reader may still see is freed when
 * every reader has been quiescent since (McKenney's QSBR): a reader is quiescent once a turn, and all the while it
 * sleeps.
 *
 * Shape: a filter without wildcards is kept as its keyed 64-bit hash alone (a false match costs a needless mail, never
 * a wrong delivery); wildcard filters lie in a tree of levels. A leaf holds a mask of shards and a list of shares, both
 * changed by one atomic store. */
#ifndef TERN_BROKER_TOPIC_ROUTE_TABLE_H
#define TERN_BROKER_TOPIC_ROUTE_TABLE_H

#include "proto/base/hash.h"

struct route_table;

#define ROUTE_SLOTS 256 /* sets of filters of other nodes; while one is exchanged for another a node has two */
#define ROUTE_NO_HOME UINT32_MAX

/* A `$share/{name}/{filter}` that has members somewhere: its messages go to its home shard, which picks the member. */
struct route_share {
    uint64_t id;                      /* of its name and filter, the same on all nodes */
    uint32_t home;                    /* shard; ROUTE_NO_HOME: no member on this node */
    uint64_t slots[ROUTE_SLOTS / 64]; /* only in a match: other nodes with members */
};

/* A filter as nodes tell each other of it. */
struct route_filter {
    uint64_t hash;     /* hash_keyed of the text with the table's key */
    struct slice text; /* with wildcards; empty: an exact filter, which is known by its hash alone */
    uint64_t share;    /* 0: plain */
};

/* What a set of filters comes to, in whatever order they came: two sets are taken for equal when this is. */
struct route_digest {
    uint64_t count, sum;
};

/* Where a walk has got to; all zero at the beginning. */
struct route_walk {
    unsigned stage;
    uint32_t at;
    const void *of;
};

struct route_match {
    uint64_t shards;                  /* bit n: shard n has a matching subscription */
    uint64_t slots[ROUTE_SLOTS / 64]; /* and the node of slot n */
    uint32_t share_count;
    struct route_share shares[];
};

int route_table_new(const struct hash_key *key, unsigned reader_count, struct route_table **ret_table);
void route_table_free(struct route_table *table); /* no readers any more */

/* ---- the writer alone; return 0 or -ENOMEM with nothing changed (removals never fail for lack of memory) ---- */

/* filter is valid and without `$share`. Each shard announces a filter at its first subscription and withdraws it at its
 * last; to add what is there or to remove what is not there changes nothing, for a withdrawal may have been lost for
 * lack of memory. */
int route_table_add(struct route_table *table, struct slice filter, unsigned shard);
int route_table_remove(struct route_table *table, struct slice filter, unsigned shard);
int route_table_add_share(struct route_table *table, struct slice filter, const struct route_share *share);
int route_table_remove_share(struct route_table *table, struct slice filter, uint64_t share_id);

/* Another node's set: the filter of its slot. Idempotent. Returns 0, or -ENOMEM with nothing changed. */
int route_table_add_remote(struct route_table *table, const struct route_filter *filter, unsigned slot);
/* Never fails; without memory the filter may stay, which costs needless hops. */
void route_table_remove_remote(struct route_table *table, const struct route_filter *filter, unsigned slot);
/* A slot that is not live is in no match, whatever it has. In constant time: so a node's death is seen at once. */
void route_table_slot_live(struct route_table *table, unsigned slot, bool live);
/* Empty a slot, about `budget` entries a call. One slot at a time. Returns true when nothing of it is left. */
bool route_table_slot_sweep(struct route_table *table, unsigned slot, unsigned budget);
struct route_digest route_table_slot_digest(const struct route_table *table, unsigned slot);
void route_digest_count(struct route_digest *digest, const struct route_filter *filter, bool added);

/* This node's own set: `watch` is called when it gains or loses a filter; NULL: nobody. */
void route_table_watch(struct route_table *table,
                       void (*watch)(void *arg, const struct route_filter *filter, bool added), void *arg);
struct route_digest route_table_own_digest(const struct route_table *table);
/* Visit all of it, about `budget` filters a call, while it changes in between: what is there from the first call to the
 * last is visited, perhaps more than once, and nothing that is not there at that moment. Texts are borrowed until the
 * next call. Returns true when that was all. */
bool route_table_walk(struct route_table *table, struct route_walk *walk, unsigned budget,
                      void (*visit)(void *arg, const struct route_filter *filter), void *arg);

/* Free what no reader can see any more; called once a turn by the writer. Cheap when there is nothing. */
void route_table_reclaim(struct route_table *table);

size_t route_table_filter_count(const struct route_table *table);

/* ---- any shard ---- */

/* Match a valid topic. *ret_match is the caller's, free(). Shares and shards at
 * most once each. A route whose add returned before this call began is found. Returns 0 or -ENOMEM. */
int route_table_match(const struct route_table *table, struct slice topic, struct route_match **ret_match);

/* Grows with every change; read it before matching, and a cached result with this number is as good as a new match. */
uint64_t route_table_generation(const struct route_table *table);

/* Reader `reader` holds no pointer into the table now. Called once a turn. */
void route_table_quiescent(struct route_table *table, unsigned reader);
/* The reader will not look at the table until it says awake. */
void route_table_asleep(struct route_table *table, unsigned reader);
void route_table_awake(struct route_table *table, unsigned reader);

#endif
