/* command.h -- everything that changes a session or a retained message, as data.
 *
 * Why: one list of changes, applied in one place. Every session is changed at once; what changes a durable one is also
 * written to the log (record.h), and nothing that tells of it leaves the node before the log is on the disk. Read from
 * the log the same commands make the same sessions again. Hence the rules: a command carries its time (wall_ms), and
 * applying it uses no clock, no chance and no order of a hash table. What a limit decided, or a number that was given
 * out, is in the record (struct decided) and not decided again: a limit that was lowered meanwhile takes away nothing
 * that was acknowledged. A command names its session by pointer, its written form by uid. Slices and pointers are
 * borrowed. */
#ifndef TERN_BROKER_GROUP_COMMAND_H
#define TERN_BROKER_GROUP_COMMAND_H

#include "broker/session/session.h"

enum command_type {
    COMMAND_CLAIM,  /* a client connects: find, make or replace its session */
    COMMAND_DETACH, /* its connection is gone */
    COMMAND_END,    /* end the session now, attached or not */
    COMMAND_SUBSCRIBE,
    COMMAND_UNSUBSCRIBE,
    COMMAND_SHARE_JOIN, /* SUBSCRIBE to a `$share` */
    COMMAND_SHARE_LEAVE,
    COMMAND_PUBLISH,      /* a QoS 1 or 2 message for this session */
    COMMAND_ACK,          /* PUBACK: done with it */
    COMMAND_REJECTED,     /* PUBREC with a failure: done with it too */
    COMMAND_RECEIVED,     /* PUBREC: the client has it, its identifier is kept until PUBCOMP */
    COMMAND_COMPLETE,     /* PUBCOMP */
    COMMAND_DISCARD,      /* give up one entry of the queue: expired, too large, handed to another member */
    COMMAND_QOS2_IN,      /* a QoS 2 PUBLISH from the client */
    COMMAND_QOS2_RELEASE, /* PUBREL from the client */
    COMMAND_TICK,         /* a will delay or an expiry interval of this group is over */
    COMMAND_RETAIN,       /* set or, with an empty payload, clear a retained message */
};

struct command_claim {
    struct slice client_id;
    uint64_t hash; /* keyed hash of the client id */
    bool clean_start;
    uint32_t expiry_s;
    uint16_t receive_max;
    bool durable;                /* it is to survive the node's end; once durable it stays so until it ends */
    struct will *will;           /* taken over when the command succeeds; NULL: none */
    struct principal *principal; /* whose session it is from now on; the session takes its own reference */
};

/* What was decided when the command was applied first; read from the log. */
struct decided {
    uint64_t uid;     /* CLAIM: the session's. TICK: whose turn it was */
    uint64_t number;  /* PUBLISH, ACK, REJECTED, RECEIVED, COMPLETE: in the session's queue */
    uint64_t dropped; /* PUBLISH: the oldest that made room; UINT64_MAX: none */
    uint64_t sent;    /* DETACH: what has a lower number may have been sent */
    bool ended;       /* TICK: the session has expired; else its will delay was over. CLAIM: an earlier one has ended */
};

struct command {
    enum command_type type;
    uint64_t wall_ms;
    const struct decided *decided; /* NULL: now */
    struct session *session;       /* all but CLAIM, TICK, RETAIN */
    union {
        struct command_claim claim;
        struct {
            bool discard_will; /* [MQTT-3.14.4-3] */
            bool set_expiry;   /* DISCONNECT brought a new Session Expiry Interval (3.14.2.2.2) */
            uint32_t expiry_s;
        } detach;
        struct {
            struct slice filter;
            struct subscription_options options;
        } subscribe;
        struct slice unsubscribe;
        struct {
            struct slice name, filter;
            struct subscription_options options;
        } share;
        struct session_share *share_leave;
        struct queue_item publish;
        uint16_t packet_id; /* ACK, REJECTED, RECEIVED, COMPLETE, QOS2_IN, QOS2_RELEASE */
        uint64_t number;    /* DISCARD: in the session's queue */
        struct message *retain;
    };
};

/* What came of it. Zero where nothing did.
 *
 * error is 0 or, with nothing changed, a negative errno: -ENOMEM; -EDQUOT, a limit of sessions, subscriptions or
 * retained messages; -ENOENT, no such packet identifier; -ENOBUFS, the queue is full; -EPROTO, an acknowledgement of
 * the wrong kind; -ENOSPC, the disk is full (flow/journal); -EBADMSG, a decided command that does not fit to what is
 * there: the log or the state is damaged; -ESTALE, a later retained message is there. */
struct outcome {
    int error;
    bool existed;         /* CLAIM: session present. SUBSCRIBE, SHARE_JOIN: replaced. QOS2_IN: a repetition */
    bool announce;        /* SUBSCRIBE: first of its filter on this shard */
    bool replaced_oldest; /* PUBLISH: made room by dropping the oldest waiting message */
    /* CLAIM, TICK: the session. After TICK it may be `ended`. */
    struct session *session;
    /* For the record: see struct decided. */
    uint64_t number, dropped;
    /* SUBSCRIBE. UNSUBSCRIBE: unlinked, to be freed by topic_tree_unsubscribe; NULL: there was none. */
    struct subscription *subscription;
    /* SHARE_JOIN. */
    struct session_share *share;
    /* ACK, REJECTED, COMPLETE, DISCARD, PUBLISH: the share that this message came from has one less outstanding. */
    uint64_t share_settled;
    /* DETACH, CLAIM, END, TICK: to be published now; the caller's. */
    struct will *will;
    /* CLAIM, DETACH, END, TICK: out of all tables of the group. The caller takes its subscriptions out of the tree and
     * the shares, then calls session_free. */
    struct session *ended;
};

#endif
