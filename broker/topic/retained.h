/* retained.h -- the retained messages whose topics are at home on one shard (3.3.1.3).
 *
 * Shape: a map from topic to entry for exact reads, and a tree of levels for wildcard reads. A wildcard read is a
 * cursor that walks in bounded steps and survives any change between two steps: what was there all the time is found
 * exactly once; what comes or goes meanwhile may or may not be.
 *
 * In a cluster every node keeps all of them, and the last writer wins: what is older than what is here (message_stamp)
 * changes nothing. A deleted or expired message leaves a grave, its topic and stamp, for a while. What all shards
 * together hold is summed up in buckets, to be compared with other nodes. Touched by: its shard. */
#ifndef TERN_BROKER_TOPIC_RETAINED_H
#define TERN_BROKER_TOPIC_RETAINED_H

#include "broker/topic/message.h"
#include "proto/base/hash.h"

struct retained;
struct retained_cursor;

#define RETAINED_BUCKETS 4096u
#define RETAINED_GRAVE_MS (24u * 3600 * 1000)
#define RETAINED_GRAVES_MAX (1u << 20)

/* What makes the stores of a node a copy of those of all others; shared by them. `$SYS/` topics have no part in it. */
struct retained_replica {
    struct hash_key key; /* of topics: the same on all nodes */
    uint64_t grave_ms;   /* how long a grave stands, from its stamp on */
    uint64_t graves_max; /* of the node */
    atomic_uint_least64_t graves;
    atomic_uint_least64_t sums[RETAINED_BUCKETS]; /* XOR over topic and stamp of all messages and graves */
};

static inline unsigned retained_bucket(uint64_t replica_hash)
{
    return (unsigned)(replica_hash % RETAINED_BUCKETS);
}

/* The node's quota, shared by the stores of all shards. `$SYS/` topics are the broker's own: they are in neither
 * number. */
struct retained_quota {
    atomic_uint_least64_t count, bytes;
    atomic_uint_least64_t count_max, bytes_max; /* set by a reload */
    struct retained_replica *replica;           /* NULL: the node is alone, there are no graves */
};

int retained_new(const struct hash_key *key, struct retained_quota *quota, struct retained **ret_retained);
void retained_free(struct retained *retained);

/* Keep msg (its payload is not empty) as the retained message of its topic, in place of an earlier one [MQTT-3.3.1-5];
 * takes its own reference. Returns 0; -ESTALE when what is here, be it a grave, is not older by its stamp (a stamp of
 * time 0 is older than none); -EDQUOT when the quota does not allow it; -ENOMEM. What is here stays then. */
int retained_set(struct retained *retained, struct message *msg);

/* Remove the retained message of a topic [MQTT-3.3.1-6]. Returns 1 if there was one, 0 if not; -ESTALE as above;
 * -ENOMEM, in a cluster only, and then it stays. */
int retained_clear(struct retained *retained, struct slice topic, uint64_t topic_hash, struct message_stamp stamp);

/* The retained message of a topic, unless it has expired at now_ms (wall clock; removed then). Borrowed; NULL if none.
 */
struct message *retained_get(struct retained *retained, struct slice topic, uint64_t topic_hash, uint64_t now_ms);

/* What is to be known of a topic after a new start: its message, expired or not, or its grave (no payload). Borrowed.
 */
struct message *retained_look(const struct retained *retained, struct slice topic, uint64_t topic_hash);

/* Call this when that has changed by itself: a message has expired, a grave is forgotten. Not from within. */
typedef void retained_gone(void *arg, struct message *message);
void retained_watch(struct retained *retained, retained_gone *gone, void *arg);

/* Grows with each message that is set. A cursor opened with this number leaves out what was set later. */
uint64_t retained_sequence(const struct retained *retained);

/* A cursor over all topics that match the (valid) filter; `$`-topics only if the filter says so [MQTT-4.7.2-1]. */
int retained_cursor_open(struct retained *retained, struct slice filter, uint64_t sequence,
                         struct retained_cursor **ret_cursor);
/* Or over all that a replica has: every topic but `$SYS/`, then the graves. */
int retained_cursor_open_all(struct retained *retained, struct retained_cursor **ret_cursor);
void retained_cursor_close(struct retained_cursor *cursor); /* NULL is allowed; must precede retained_free */

/* Visit at most `steps` nodes, put at most `max` messages into out, each with a reference for the caller; expired ones
 * are skipped. Returns how many; *ret_done when there are no more. */
unsigned retained_cursor_next(struct retained_cursor *cursor, uint64_t now_ms, unsigned steps, struct message **out,
                              unsigned max, bool *ret_done);

/* Remove expired messages, visiting at most `steps` entries a call and going on where the last call ended, and so many
 * graves. Returns how many messages. */
unsigned retained_sweep(struct retained *retained, uint64_t now_ms, unsigned steps);

size_t retained_count(const struct retained *retained);
size_t retained_graves(const struct retained *retained);
uint64_t retained_bytes(const struct retained *retained);

#endif
