/* snapshot.h -- sessions, queue entries and retained messages as rows of the state.
 *
 *     group u16 BE, 'a'                            applied: lsn, digest of the group
 *     group u16 BE, 'q', uid u64 BE, number u64 BE  one entry of a queue
 *     group u16 BE, 'r', hash 16 bytes              a retained message, or one without payload: the grave of one; the
 *                                                   hash is of its topic, with two keys
 *     group u16 BE, 's', uid u64 BE                 a session: all but the entries of its queue
 *     0xffff, 'c'                                   the id of the cluster that the node belongs to
 *
 * Each value begins with a version. Numbers in keys are big endian, so that the rows of a queue lie in its order. No
 * IO, no thread. */
#ifndef TERN_BROKER_GROUP_SNAPSHOT_H
#define TERN_BROKER_GROUP_SNAPSHOT_H

#include "broker/group/group.h"
#include "broker/group/record.h"

#define SNAPSHOT_VERSION 1u
#define SNAPSHOT_VERSION_STAMPED 2u /* of an entry or a retained message with a stamp */
#define SNAPSHOT_KEY_MAX 19u

enum snapshot_kind {
    SNAPSHOT_APPLIED = 'a',
    SNAPSHOT_QUEUE = 'q',
    SNAPSHOT_RETAINED = 'r',
    SNAPSHOT_SESSION = 's',
    SNAPSHOT_CLUSTER = 'c'
};

#define SNAPSHOT_NODE UINT16_MAX /* in the place of a group: the node's own rows */
#define SNAPSHOT_CLUSTER_ID 16u  /* bytes */

/* Keys: written into key (SNAPSHOT_KEY_MAX bytes), returned as a slice of it. */
struct slice snapshot_key_group(uint8_t *key, uint16_t group, enum snapshot_kind kind); /* prefix of all of a kind */
struct slice snapshot_key_session(uint8_t *key, uint16_t group, uint64_t uid);
struct slice snapshot_key_queue(uint8_t *key, uint16_t group, uint64_t uid, uint64_t number);
struct slice snapshot_key_retained(uint8_t *key, uint16_t group, const struct hash_key *hash_key, struct slice topic);

/* Values; failure to get memory is bytes->failed. */
void snapshot_put_session(struct buf *bytes, const struct session *session);
void snapshot_put_entry(struct buf *bytes, const struct queue_entry *entry);
void snapshot_put_applied(struct buf *bytes, uint64_t lsn, uint64_t digest);
void snapshot_put_retained(struct buf *bytes, const struct message *message);
void snapshot_put_cluster(struct buf *bytes, const uint8_t id[SNAPSHOT_CLUSTER_ID]);

/* What a session row says. Slices point into the row. */
struct snapshot_session {
    struct slice client_id;
    uint64_t uid, expires_at_ms;
    uint64_t due_ms; /* UINT64_MAX: not armed */
    uint32_t expiry_s;
    uint16_t receive_max;
    bool attached;
    struct will *will;           /* the caller's */
    struct principal *principal; /* the caller's reference */
    uint32_t qos2_count, subscription_count, share_count;
    struct slice qos2;                   /* qos2_count x u16 */
    struct cursor subscriptions, shares; /* for snapshot_next_* */
    bool has_queue;
    uint64_t queue_head, queue_tail, queue_bytes; /* all entries are in rows */
    uint64_t queue_sent;                          /* what has a lower number may have been sent */
    uint32_t queue_waiting, queue_inflight;
};

/* 0; -EBADMSG; -EPROTONOSUPPORT; -ENOMEM. Any bytes are safe. */
int snapshot_get_session(struct slice value, const struct record_world *world, struct snapshot_session *ret_session);
/* Read one more from subscriptions or shares, as many as the counts say. */
/* Make the session of a row in its group, with its subscriptions in the tree; will and principal are taken over, all
 * entries of its queue are cold. Returns 0; -EBADMSG, -ENOMEM, and then *ret_session is NULL or what could be had of
 * it. In group_restore.c. */
int group_restore(struct group *group, const struct hash_key *key, struct snapshot_session *row,
                  struct session **ret_session);

int snapshot_next_subscription(struct cursor *c, struct slice *ret_filter, struct subscription_options *ret_options);
int snapshot_next_share(struct cursor *c, struct slice *ret_name, struct slice *ret_filter,
                        struct subscription_options *ret_options);
/* The number of an entry from the key of its row. */
int snapshot_get_number(struct slice key, uint64_t *ret_number);
/* message is the caller's reference; extra is the caller's (malloc), NULL if it has none. */
int snapshot_get_entry(struct slice value, const struct record_world *world, struct queue_entry *ret_entry);
int snapshot_get_retained(struct slice value, const struct record_world *world, struct message **ret_message);
int snapshot_get_applied(struct slice value, uint64_t *ret_lsn, uint64_t *ret_digest);
int snapshot_get_cluster(struct slice value, uint8_t ret_id[SNAPSHOT_CLUSTER_ID]);

#endif
