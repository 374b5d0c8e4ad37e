/* match_cache.h -- what a topic matched a moment ago, on one shard.
 *
 * Why: publishers repeat their topics. A hit costs one probe and one comparison instead of a walk over the tree; a
 * generation, not an invalidation message, says whether the answer still holds. Set associative (4 ways), bounded in
 * entries and in bytes; a topic longer than 256 bytes or a result above 64 KiB is not kept. One cache serves both
 * matches of a shard: it keeps two results per topic, each with its own generation. Touched by: its shard. */
#ifndef TERN_BROKER_TOPIC_MATCH_CACHE_H
#define TERN_BROKER_TOPIC_MATCH_CACHE_H

#include "broker/topic/route_table.h"
#include "broker/topic/topic_tree.h"

struct match_cache;

#define MATCH_CACHE_BYTES_MAX (32u << 20)

/* Starts small (64 sets) and doubles with use up to `sets_max` (power of two). */
int match_cache_new(unsigned sets_max, struct match_cache **ret_cache);
void match_cache_free(struct match_cache *cache);

/* The routes of a topic, from the cache or freshly matched. Borrowed until the next call on this cache; NULL when
 * memory is out. */
const struct route_match *match_cache_routes(struct match_cache *cache, const struct route_table *table,
                                             struct slice topic, uint64_t topic_hash);

/* The same for the shard's own subscriptions. */
const struct match *match_cache_local(struct match_cache *cache, struct topic_tree *tree, struct slice topic,
                                      uint64_t topic_hash);

/* Forget everything, e.g. when memory is short. */
void match_cache_clear(struct match_cache *cache);

#endif
