/* retained_inside.h -- between retained.c (messages, and cursors over them) and graves.c (what has been deleted). */
#ifndef TERN_BROKER_TOPIC_RETAINED_INSIDE_H
#define TERN_BROKER_TOPIC_RETAINED_INSIDE_H

#include "broker/topic/level_tree.h"
#include "broker/topic/retained.h"

struct grave {
    struct list in_store;    /* retained.graves_by_age */
    struct message *message; /* counted: topic and stamp, no payload; expires when the grave may be forgotten */
};

struct retained {
    struct retained_quota *quota; /* the node's */
    struct level_tree tree;
    struct map topics;         /* struct retained_node with a message, by topic */
    struct list cursors;       /* open ones */
    struct map graves;         /* struct grave, by topic: never one that has a message too */
    struct list graves_by_age; /* oldest first */
    struct list grave_cursors; /* struct grave_cursor, open ones */
    uint64_t bytes, sequence;
    size_t sweep_at, graves_sweep_at; /* slots that retained_sweep looks at next */
    retained_gone *gone;
    void *gone_arg;
};

/* A walk over the graves: where it goes on. */
struct grave_cursor {
    struct list in_store;
    struct grave *next; /* NULL: at the end */
};

static inline bool retained_is_own(struct slice topic)
{
    return topic.len >= 5 && memcmp(topic.ptr, "$SYS/", 5) == 0;
}

/* What is stored of its topic has changed by itself. */
static inline void retained_tell(struct retained *r, struct message *message)
{
    if (r->gone) {
        r->gone(r->gone_arg, message);
    }
}

/* A message or a grave comes or goes: into the digest of its bucket, or out of it. */
void retained_count_in(struct retained *retained, const struct message *message);

/* When a grave of this stamp may be forgotten (wall clock). */
static inline uint64_t grave_end_ms(const struct retained_replica *replica, struct message_stamp stamp)
{
    return (stamp.at >> MESSAGE_STAMP_SHIFT) + replica->grave_ms;
}

struct grave *grave_find(const struct retained *retained, struct slice topic, uint64_t topic_hash);
/* Bury a topic, in place of an earlier grave. 0 or -ENOMEM with nothing changed. */
int grave_dig(struct retained *retained, struct slice topic, uint64_t topic_hash, struct message_stamp stamp);
void grave_forget(struct retained *retained, struct grave *grave);
/* Forget those whose time is over, as retained_sweep does. */
unsigned grave_sweep(struct retained *retained, uint64_t now_ms, unsigned steps);
void graves_free(struct retained *retained);

void grave_cursor_open(struct retained *retained, struct grave_cursor *cursor);
void grave_cursor_close(struct grave_cursor *cursor);
/* Borrowed; NULL: the end. */
struct message *grave_cursor_next(struct retained *retained, struct grave_cursor *cursor);

#endif
