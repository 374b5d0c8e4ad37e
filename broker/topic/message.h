/* message.h -- one published message, immutable and counted.
 *
 * Why: a message is copied once, when it comes in, and then handed from queue to queue and from shard to shard by
 * reference. All shards may read it at once; the last message_unref, on whichever shard, frees the one allocation. */
#ifndef TERN_BROKER_TOPIC_MESSAGE_H
#define TERN_BROKER_TOPIC_MESSAGE_H

#include "proto/base/slice.h"

#include <stdatomic.h>

#define MESSAGE_NEVER UINT64_MAX

/* When (a hybrid clock's reading) and on which node a retained message was published: of two with one topic the later
 * one counts, everywhere; of equal times that of the greater node. All zero: it was not noted. */
struct message_stamp {
    uint64_t at, origin;
};

#define MESSAGE_STAMP_SHIFT 16 /* a millisecond of wall time has so many bits of stamps */

struct message {
    atomic_uint refs;
    uint32_t payload_len;
    uint32_t properties_len;
    uint16_t topic_len;
    uint8_t qos;            /* as published; a delivery may lower it */
    bool retain;            /* as published [MQTT-3.3.1-13] */
    bool again;             /* DUP was set: perhaps it was published before the node was started (flow/repeat) */
    bool stamped;           /* a struct message_stamp lies behind the payload */
    uint16_t packet_id;     /* of a QoS 2 PUBLISH, for the same; 0: of no interest */
    uint64_t expires_at_ms; /* wall clock; MESSAGE_NEVER: no Message Expiry Interval */
    uint64_t publisher;     /* session_uid of who published it, for No Local; 0: the broker itself */
    uint64_t topic_hash;    /* hash_keyed of the topic with the node's key */
    uint8_t bytes[];        /* topic, properties (encoded, as mqtt_properties_forward writes them), payload; stamp */
};

/* What a message is made from; all slices are copied. */
struct message_source {
    struct slice topic, payload;
    struct slice properties_raw; /* as received; only what is handed on is kept */
    struct slice properties;     /* or as message_properties gave them: taken as they are */
    uint64_t topic_hash, publisher, expires_at_ms;
    struct message_stamp stamp;
    uint16_t packet_id;
    uint8_t qos;
    bool retain, again;
};

/* One reference belongs to the caller. NULL when memory is out. */
struct message *message_new(const struct message_source *source);

static inline struct message *message_ref(struct message *m)
{
    atomic_fetch_add_explicit(&m->refs, 1, memory_order_relaxed);
    return m;
}

void message_unref(struct message *m); /* NULL is allowed */

/* Free all but `keep` of each size of the memory that this thread has kept of ended messages: when it has been idle,
 * and before it ends. */
void message_pool_trim(unsigned keep);

static inline struct slice message_topic(const struct message *m)
{
    return slice_of(m->bytes, m->topic_len);
}

static inline struct slice message_properties(const struct message *m)
{
    return slice_of(m->bytes + m->topic_len, m->properties_len);
}

static inline struct slice message_payload(const struct message *m)
{
    return slice_of(m->bytes + m->topic_len + m->properties_len, m->payload_len);
}

/* $SYS/ tells of one node: no other hears of it, and it outlives nothing. */
static inline bool topic_is_own(struct slice topic)
{
    return topic.len >= 5 && memcmp(topic.ptr, "$SYS/", 5) == 0;
}

/* Less than, equal to or greater than 0, as a is earlier than, the same as or later than b. */
static inline int message_stamp_cmp(struct message_stamp a, struct message_stamp b)
{
    return a.at != b.at ? (a.at > b.at) - (a.at < b.at) : (a.origin > b.origin) - (a.origin < b.origin);
}

/* All zero for one that has none. */
struct message_stamp message_stamp(const struct message *m);

/* Memory that the message takes, for quotas. */
static inline size_t message_size(const struct message *m)
{
    return sizeof(*m) + m->topic_len + m->properties_len + m->payload_len +
           (m->stamped ? sizeof(struct message_stamp) : 0);
}

#endif
