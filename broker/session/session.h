/* session.h -- what a client and the broker know of each other beyond one connection (4.1): subscriptions, messages on
 * their way both ways, the will, and when it all ends.
 *
 * Why apart from the connection: a session outlives it. It has no socket, no clock and no thread; it changes only by
 * the commands of its group (broker/group), so that the same commands, read from a log, make the same session again.
 * Touched by: its home shard. */
#ifndef TERN_BROKER_SESSION_SESSION_H
#define TERN_BROKER_SESSION_SESSION_H

#include "broker/auth/principal.h"
#include "broker/session/packet_ids.h"
#include "broker/session/queue.h"
#include "broker/session/will.h"
#include "broker/topic/topic_tree.h"

#define SESSION_NOT_DUE UINT32_MAX

/* A shared subscription; the share itself lives at its home shard. */
struct session_share {
    struct list in_session;
    struct session *session;
    uint64_t share; /* id of the share, 0 until its home has answered */
    uint32_t home;  /* shard */
    struct subscription_options options;
    uint16_t name_len, filter_len;
    uint8_t text[]; /* name, filter */
};

static inline struct slice session_share_name(const struct session_share *s)
{
    return slice_of(s->text, s->name_len);
}

static inline struct slice session_share_filter(const struct session_share *s)
{
    return slice_of(s->text + s->name_len, s->filter_len);
}

struct session {
    void *front;                 /* the connection attached now (struct conn), or NULL; borrowed, opaque here */
    void *replays;               /* retained messages still to be handed over (flow/retain), or NULL; opaque here */
    uint64_t uid;                /* unique in the life of the node's store, never 0 */
    uint64_t hash;               /* keyed hash of the client id */
    struct list subscriptions;   /* struct subscription.in_owner */
    struct list shares;          /* struct session_share.in_session */
    struct group_gone *stored;   /* it may have rows in the state: the note that they are to be deleted; owned */
    struct page *page;           /* a page of its queue is being read (flow/page), or NULL; borrowed, opaque here */
    struct list in_changed;      /* durable: those of its group that are not in the state as they are */
    struct queue *queue;         /* to the client; NULL until first used */
    struct packet_ids qos2;      /* from the client, not yet released */
    struct will *will;           /* owned; NULL: none */
    struct principal *principal; /* counted: whose session this is; NULL: anonymous */
    uint64_t due_ms;    /* wall clock: the next end of will delay or expiry, while due_index says that it is armed */
    uint32_t due_index; /* place in the group's heap, or SESSION_NOT_DUE */
    uint32_t expiry_s;  /* Session Expiry Interval; 0: ends with the connection */
    uint64_t expires_at_ms;      /* wall clock, while detached */
    uint64_t claimed;            /* while attached: stamp of since when (flow/claim) */
    uint32_t subscription_count; /* both kinds */
    uint32_t hold_count;         /* publishers' acknowledgements that wait for this session (flow/hold) */
    uint32_t parked_count;       /* those of them whose message waits too, for room in the queue */
    uint32_t
        open_version; /* the policy under which it may receive whatever it has subscribed to (flow/access); 0: none */
    uint32_t seen_version; /* the policy under which its subscriptions were judged; 0: none */
    uint32_t since_s; /* wall clock: since when it has a connection, or none; 0: since before the node was started */
    uint32_t dropped; /* deliveries to it that were dropped, since the node was started */
    uint16_t group;
    uint16_t receive_max; /* the client's Receive Maximum, cut by our own limit */
    uint16_t client_id_len;
    bool ruled : 1;           /* under seen_version some rule may concern it */
    bool partial : 1;         /* and some may forbid part of what it has subscribed to */
    bool durable : 1;         /* what changes it is logged */
    bool attached_before : 1; /* recovered: it had a connection when the node ended (flow/recover) */
    bool stalled : 1; /* it kept a publisher waiting to no avail: no more until it acknowledges something (flow/hold) */
    uint8_t client_id_bytes[];
};

static inline struct slice session_client_id(const struct session *s)
{
    return slice_of(s->client_id_bytes, s->client_id_len);
}

/* NULL when memory is out. */
struct session *session_new(struct slice client_id, uint64_t hash, uint64_t uid);

/* Free a session that is in no table, has no subscription and no connection (asserted). */
void session_free(struct session *session);

/* Number of messages waiting, in flight ones not counted. */
static inline uint32_t session_waiting(const struct session *s)
{
    return s->queue ? s->queue->waiting : 0;
}

#endif
