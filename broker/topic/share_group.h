/* share_group.h -- shared subscriptions whose home is this shard: members from all shards, one picked for each message
 * (4.8.2).
 *
 * Why: one thread knows all members of a share, so that every strategy is exact over all shards of the node. A member
 * is a session on some shard; what it still has to acknowledge through this share is counted here: `outstanding`. A
 * member can take a message now when it is online and outstanding < window. Pure: no mail, no clock; chance comes in.
 * Touched by: its shard. */
#ifndef TERN_BROKER_TOPIC_SHARE_GROUP_H
#define TERN_BROKER_TOPIC_SHARE_GROUP_H

#include "broker/topic/topic_tree.h"
#include "proto/base/prng.h"

enum share_strategy {
    SHARE_BY_LEAST_INFLIGHT,
    SHARE_BY_ROUND_ROBIN,
    SHARE_BY_STICKY,
    SHARE_BY_HASH_TOPIC,
    SHARE_BY_RANDOM
};

struct share_table;
struct share_group;

struct share_member {
    uint64_t session; /* session_uid */
    uint32_t shard;   /* where the session is at home */
    uint32_t window;  /* messages that it may have outstanding (its receive maximum); 0 while offline */
    uint32_t outstanding;
    bool online;
    struct subscription_options options;
};

#define SHARE_ROOM 16u /* messages that a member may have outstanding before others are better */

/* What the members here come to, for the other nodes to choose by (share_spread.h). */
struct share_load {
    uint32_t online, offline; /* members; offline: those whom a message with QoS > 0 can wait for */
    uint32_t room;            /* what the online ones may have outstanding, at most SHARE_ROOM each */
    uint32_t outstanding;     /* what they have */
};

int share_table_new(const struct hash_key *key, struct share_table **ret_table);
void share_table_free(struct share_table *table);

/* Find or make the share of (name, filter). New ones get *next_id, which is then incremented. Returns 0 or -ENOMEM.
 * *ret_created: a route must be announced. */
int share_table_open(struct share_table *table, struct slice name, struct slice filter, uint64_t *next_id,
                     struct share_group **ret_group, bool *ret_created);
struct share_group *share_table_find(struct share_table *table, struct slice name, struct slice filter); /* or NULL */
struct share_group *share_table_by_id(struct share_table *table, uint64_t id);                           /* or NULL */

uint64_t share_group_id(const struct share_group *group);
struct slice share_group_filter(const struct share_group *group);
size_t share_group_count(const struct share_group *group);
struct share_load share_group_load(const struct share_group *group); /* kept: O(1) */

/* The next of the shares whose load has changed since it was last given out here, or NULL. */
struct share_group *share_table_changed(struct share_table *table);
/* Whether it is more than what members have outstanding. */
bool share_table_members_changed(const struct share_table *table);
/* Visit all: *at is 0 at the beginning. While shares come and go some may be left out. */
const struct share_group *share_table_next(const struct share_table *table, size_t *at);

/* Join, or change the options of a member that is there (*ret_existed). Returns 0 or -ENOMEM. */
int share_group_join(struct share_group *group, const struct share_member *member, bool *ret_existed);

/* Leave; unknown members are ignored. Returns whether the group is empty now: withdraw the route and call
 * share_table_close. */
bool share_group_leave(struct share_group *group, uint64_t session);
void share_table_close(struct share_table *table, struct share_group *group); /* must be empty */

/* A member came, went or changed its window; unknown ones are ignored. Going offline sets outstanding to what it was:
 * unacknowledged messages stay with a session that lives on. */
void share_group_presence(struct share_group *group, uint64_t session, bool online, uint32_t window);

/* Pick the member for a message, by strategy, among those that can take it now; if there is none, among those online
 * with the fewest outstanding; if none is online, among the offline ones (only if qos > 0), fewest outstanding first;
 * ties go round.
 * - least inflight: fewest outstanding. - round robin: next in order of joining. - sticky: the same as last time while
 * it can take.
 * - hash topic: rendezvous hash of (topic_hash, session) over all online members, full or not, so that a topic's
 * messages keep their order and only a leaving member's topics move. - random: uniform. `except` (0: none) is not
 * picked while there is another. Counts the message as outstanding when qos > 0 (lower of message's and member's).
 * NULL: no member can have it. O(1) for round robin and sticky, at most O(members) otherwise. */
const struct share_member *share_group_pick(struct share_group *group, enum share_strategy strategy,
                                            uint64_t topic_hash, uint8_t qos, uint64_t except, struct prng *prng);

/* For a message that a member may not have: the next one in the order of joining, whatever the strategy, so that each
 * is asked once; online ones only while QoS is 0. `session` unknown (it has left): the first. Counts as
 * share_group_pick. NULL when there is none. */
const struct share_member *share_group_next(struct share_group *group, uint64_t session, uint8_t qos);

/* n messages of a member are settled (acknowledged, dropped, or handed back). */
void share_group_settle(struct share_group *group, uint64_t session, uint32_t n);

#endif
