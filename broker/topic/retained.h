/* retained.h -- the retained messages whose topics are at home on one shard (3.3.1.3).
 *
 * Shape: a map from topic to entry for exact reads, and a tree of levels for wildcard reads. A wildcard read is a
 * cursor that walks in bounded steps and survives any change between two steps: what was there all the time is found
 * exactly once; what comes or goes meanwhile may or may not be. Touched by: its shard. */
#ifndef TERN_BROKER_TOPIC_RETAINED_H
#define TERN_BROKER_TOPIC_RETAINED_H

#include "broker/topic/message.h"
#include "proto/base/hash.h"

struct retained;
struct retained_cursor;

/* The node's quota, shared by the stores of all shards. `$SYS/` topics are the broker's own: they are in neither
 * number. */
struct retained_quota {
    atomic_uint_least64_t count, bytes;
    uint64_t count_max, bytes_max;
};

int retained_new(const struct hash_key *key, struct retained_quota *quota, struct retained **ret_retained);
void retained_free(struct retained *retained);

/* Keep msg (its payload is not empty) as the retained message of its topic, in place of an earlier one [MQTT-3.3.1-5];
 * takes its own reference. Returns 0, -EDQUOT when the quota does not allow it, -ENOMEM; the earlier one stays then. */
int retained_set(struct retained *retained, struct message *msg);

/* Remove the retained message of a topic [MQTT-3.3.1-6]. Returns whether there was one. Never fails. */
bool retained_clear(struct retained *retained, struct slice topic, uint64_t topic_hash);

/* The retained message of a topic, unless it has expired at now_ms (wall clock; removed then). Borrowed; NULL if none.
 */
struct message *retained_get(struct retained *retained, struct slice topic, uint64_t topic_hash, uint64_t now_ms);

/* Grows with each message that is set. A cursor opened with this number leaves out what was set later. */
uint64_t retained_sequence(const struct retained *retained);

/* A cursor over all topics that match the (valid) filter; `$`-topics only if the filter says so [MQTT-4.7.2-1]. */
int retained_cursor_open(struct retained *retained, struct slice filter, uint64_t sequence,
                         struct retained_cursor **ret_cursor);
void retained_cursor_close(struct retained_cursor *cursor); /* NULL is allowed; must precede retained_free */

/* Visit at most `steps` nodes, put at most `max` messages into out, each with a reference for the caller; expired ones
 * are skipped. Returns how many; *ret_done when there are no more. */
unsigned retained_cursor_next(struct retained_cursor *cursor, uint64_t now_ms, unsigned steps, struct message **out,
                              unsigned max, bool *ret_done);

/* Remove expired messages, visiting at most `steps` entries a call and going on where the last call ended. Returns how
 * many. */
unsigned retained_sweep(struct retained *retained, uint64_t now_ms, unsigned steps);

size_t retained_count(const struct retained *retained);
uint64_t retained_bytes(const struct retained *retained);

#endif
