/* topic_tree.h -- the non-shared subscriptions of the sessions at home on one shard.
 *
 * Shape: filters without wildcards lie in a map by hash; filters with wildcards in a tree of levels whose edges are one
 * map keyed by (parent, level). Each filter has a list of its subscriptions. A match gives one entry for each session,
 * overlapping subscriptions already joined: the highest QoS [MQTT-3.3.4-2], all subscription identifiers
 * [MQTT-3.3.4-4]. Touched by: its shard. Owners (sessions) are opaque here. */
#ifndef TERN_BROKER_TOPIC_TOPIC_TREE_H
#define TERN_BROKER_TOPIC_TOPIC_TREE_H

#include "proto/base/hash.h"
#include "proto/base/list.h"

struct topic_tree;
struct topic_filter; /* one distinct filter of the tree */

struct subscription_options {
    uint32_t id; /* Subscription Identifier; 0: none */
    uint8_t qos;
    uint8_t retain_handling;
    bool no_local, retain_as_published;
};

struct subscription {
    struct list in_owner;  /* the owner's own list: the owner links and unlinks */
    struct list in_filter; /* the tree's */
    struct topic_filter *filter;
    void *owner; /* opaque */
    struct subscription_options options;
};

/* key: the node's; borrowed for the life of the tree. */
int topic_tree_new(const struct hash_key *key, struct topic_tree **ret_tree);
void topic_tree_free(struct topic_tree *tree); /* no subscription may be left: asserted */

/* Subscribe owner to filter (valid, `$share` never), or change the options of the subscription that it has
 * [MQTT-3.8.4-3]. *ret_existed says which; *ret_first whether the filter was new to this tree, so that a route must be
 * announced. ret_subscription->in_owner is initialised, not linked, when new. Returns 0 or -ENOMEM with nothing
 * changed. */
int topic_tree_subscribe(struct topic_tree *tree, void *owner, struct slice filter,
                         const struct subscription_options *options, struct subscription **ret_subscription,
                         bool *ret_existed, bool *ret_first);

/* The subscription of owner to exactly this filter [MQTT-3.10.4-1], or NULL. */
struct subscription *topic_tree_find(struct topic_tree *tree, const void *owner, struct slice filter);

/* End and free a subscription, already unlinked from its owner's list. Returns whether it was the last of its filter,
 * so that the route is to be withdrawn; copy subscription_filter() first if the text is needed. Never fails. */
bool topic_tree_unsubscribe(struct topic_tree *tree, struct subscription *subscription);

/* The filter's text; lives as long as the subscription. */
struct slice subscription_filter(const struct subscription *subscription);

/* Grows with every change: what was matched before is stale then. */
uint64_t topic_tree_generation(const struct topic_tree *tree);
size_t topic_tree_filter_count(const struct topic_tree *tree);

/* One session that gets the message. */
struct match_entry {
    void *owner;
    uint32_t ids_at, ids_len; /* its encoded Subscription Identifier properties, in match.ids */
    uint8_t qos;              /* highest granted of the matching subscriptions */
    bool retain_as_published; /* of any of them */
    /* The same joined over the subscriptions without No Local only: what the publisher itself gets [MQTT-3.8.3-3].
     * self_qos is MATCH_NONE when there are none. Differs from the above only if one has No Local. */
    uint8_t self_qos;
    bool self_retain_as_published;
    uint32_t self_ids_at, self_ids_len;
};
#define MATCH_NONE 0xFF

/* One allocation. */
struct match {
    uint32_t count;
    uint32_t ids_len;
    const uint8_t *ids;           /* inside the same allocation */
    struct match_entry entries[]; /* one a session; their order is unspecified */
};

/* Match a valid topic name. *ret_match is the caller's, to be freed with free(); entries of one owner are joined in
 * linear time. Returns 0 or -ENOMEM. */
int topic_tree_match(struct topic_tree *tree, struct slice topic, uint64_t topic_hash, struct match **ret_match);

#endif
