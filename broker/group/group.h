/* group.h -- one of the node's groups: the sessions of the client ids that hash to it, changed by commands alone.
 *
 * Why: a group is the unit that will be logged, replicated and moved (128 of them, whatever the number of shards). On
 * its home shard, group % shards, it lives on one thread. group_apply is deterministic: the same commands give the same
 * group. Touched by: its home shard. */
#ifndef TERN_BROKER_GROUP_GROUP_H
#define TERN_BROKER_GROUP_GROUP_H

#include "broker/group/command.h"
#include "broker/topic/retained.h"
#include "proto/base/map.h"

#define GROUPS 128u

struct session_quota {
    atomic_uint_least32_t count;
    atomic_uint_least32_t max; /* 0: no limit; set by a reload */
};

/* What the groups of one shard share. Borrowed by all of them. */
struct group_context {
    struct topic_tree *tree;
    struct retained *retained;
    struct session_quota *session_quota; /* the node's */
    uint64_t next_uid;                   /* start of the node (24 bits), shard (6), number (34): never given twice */
    uint32_t subscriptions_max;          /* per session */
    uint32_t waiting_max;                /* messages waiting per session */
    uint64_t waiting_bytes_max;          /* and their bytes, in flight ones included */
    bool drop_oldest;                    /* when full: the oldest waiting message, not the new one */
};

struct group {
    uint16_t id;
    struct group_context *context;
    struct map sessions;              /* by client id */
    struct session **due;             /* owned: heap of sessions with a due time, the earliest first */
    uint32_t due_count, due_capacity; /* room for every session, so that arming cannot fail */
    uint64_t digest;                  /* over all its records: two groups with the same are the same */
    struct list changed;              /* durable sessions, by in_changed: for the next checkpoint */
    struct list gone;                 /* struct group_gone: rows to be deleted by it */
    struct map changed_topics;        /* struct group_topic by hash: retained messages set or cleared since the last */
    uint64_t changed_bytes;           /* of log written since the last */
};

/* A session that had a row and has ended. */
struct group_gone {
    struct list in_group;
    uint64_t uid;
};

/* A topic whose retained message is not in the state as it is. */
struct group_topic {
    struct group_topic *next; /* for the checkpoint's own use */
    uint64_t hash;
    uint16_t len;
    uint8_t topic[];
};

void group_init(struct group *group, uint16_t id, struct group_context *context);

/* Every session must have ended before: asserted. */
void group_deinit(struct group *group);

static inline unsigned group_of(uint64_t client_id_hash)
{
    return (unsigned)(client_id_hash & (GROUPS - 1));
}

struct session *group_find(const struct group *group, struct slice client_id, uint64_t hash);

/* Apply one command; *ret_outcome is set in every field. */
void group_apply(struct group *group, const struct command *command, struct outcome *ret_outcome);

/* An entry of a record (record.h) has been written for this group, or applied to it: into its digest. */
void group_digest(struct group *group, struct slice entry);

/* When the next TICK is due (wall clock), UINT64_MAX: never. One TICK handles one session. */
uint64_t group_due_ms(const struct group *group);

/* ---- inside the room: the heap (group_due.c) ---- */
int group_due_reserve(struct group *group, uint32_t count);
void group_due_set(struct group *group, struct session *session, uint64_t due_ms);
void group_due_clear(struct group *group, struct session *session);

#endif
