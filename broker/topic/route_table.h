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

/* A `$share/{name}/{filter}` that has members somewhere: its messages go to its home shard, which picks the member. */
struct route_share {
    uint64_t id;   /* of the share, unique in the node; never reused */
    uint32_t home; /* shard */
};

struct route_match {
    uint64_t shards; /* bit n: shard n has a matching subscription */
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

/* Free what no reader can see any more; called once a turn by the writer. Cheap when there is nothing. */
void route_table_reclaim(struct route_table *table);

size_t route_table_filter_count(const struct route_table *table);

/* ---- any shard ---- */

/* Match a valid topic; topic_hash is hash_keyed(key, topic). *ret_match is the caller's, free(). Shares and shards at
 * most once each. A route whose add returned before this call began is found. Returns 0 or -ENOMEM. */
int route_table_match(const struct route_table *table, struct slice topic, uint64_t topic_hash,
                      struct route_match **ret_match);

/* Grows with every change; read it before matching, and a cached result with this number is as good as a new match. */
uint64_t route_table_generation(const struct route_table *table);

/* Reader `reader` holds no pointer into the table now. Called once a turn. */
void route_table_quiescent(struct route_table *table, unsigned reader);
/* The reader will not look at the table until it says awake. */
void route_table_asleep(struct route_table *table, unsigned reader);
void route_table_awake(struct route_table *table, unsigned reader);

#endif
