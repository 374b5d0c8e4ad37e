/* topic_match.h -- inside the room: from the filters that match a topic to one entry for each session. */
#ifndef TERN_BROKER_TOPIC_TOPIC_MATCH_H
#define TERN_BROKER_TOPIC_TOPIC_MATCH_H

#include "broker/topic/topic_tree.h"

struct level_node;

struct topic_filter {
    struct list subscriptions; /* struct subscription.in_filter, oldest first */
    struct level_node *node;   /* of a wildcard filter; NULL: an exact one */
    uint64_t hash;
    uint16_t text_len;
    uint8_t text[];
};

/* Filters collected during a walk. Begin with {0}. */
struct topic_match_found {
    const struct topic_filter **filters;
    uint32_t count, capacity;
    bool failed; /* memory was out */
};

void topic_match_add(struct topic_match_found *found, const struct topic_filter *filter);

/* Make the result and free what was collected. Returns 0 or -ENOMEM. */
int topic_match_join(struct topic_match_found *found, struct match **ret_match);

#endif
