/* alias.h -- topic aliases of one connection, both ways (3.3.2.3.4). They end with it [MQTT-3.3.2-7].
 *
 * Inward: what the client has said its numbers mean. Outward: which topics are worth a number. A topic that comes again
 * is; a table of as many slots as the client allows, found by the topic's hash, gives a slot to a topic at its second
 * appearance, and takes it back when other topics have wanted it more often than it was used. Two topics with one
 * 64-bit keyed hash do not happen. Touched by: the connection's shard. */
#ifndef TERN_BROKER_SESSION_ALIAS_H
#define TERN_BROKER_SESSION_ALIAS_H

#include "proto/base/slice.h"

struct alias_in {
    uint16_t max;
    struct slice topics[]; /* owned bytes; [alias - 1] */
};

struct alias_in *alias_in_new(uint16_t max); /* max > 0; NULL when memory is out */
void alias_in_free(struct alias_in *a);

/* The topic of a number, empty when it has none. The number is 1..max: the caller has checked. */
struct slice alias_in_get(const struct alias_in *a, uint16_t alias);
int alias_in_set(struct alias_in *a, uint16_t alias, struct slice topic); /* 0 or -ENOMEM */

struct alias_slot {
    uint64_t topic_hash;
    uint8_t score;
    bool announced;
};

struct alias_out {
    uint16_t max;
    struct alias_slot slots[];
};

struct alias_out *alias_out_new(uint16_t max);
void alias_out_free(struct alias_out *a);

/* How the next PUBLISH of this topic goes out: returns the alias to send or 0; *ret_alone when it stands for the topic,
 * else both are sent. The answer must be followed. */
uint16_t alias_out_use(struct alias_out *a, uint64_t topic_hash, size_t topic_len, bool *ret_alone);

/* The alias that alias_out_use has just announced was not sent after all. */
void alias_out_forget(struct alias_out *a, uint16_t alias);

#endif
