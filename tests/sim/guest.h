/* guest.h -- model clients, MQTT 3.1.1 and 5, and who judges what they are told.
 *
 * Why: what a broker promises is a sentence about all that its clients have seen, over connections and crashes. So each
 * guest keeps what a client that never loses its memory would keep, all of a story's guests are one party that knows
 * every message, and the judges (guest_judge.c) compare. Codec and rules are written anew here: a mistake of the
 * broker's own would be believed. No IO, no clock: the world hands bytes over and says what time it is.
 *
 * What they do is chosen so that it can be judged:
 *     t/0 t/1 t/2   messages, numbered: the payload is the message's number in the party
 *     r/N           retained messages of guest N only
 *     s/N           messages of guest N for a shared subscription: one group of those whose sessions last
 *     w/N           its wills: the payload is the number of the connection
 * A guest subscribes to t/# or to single topics, never to both, so that nobody gets a message by two ways. */
#ifndef TERN_TESTS_SIM_GUEST_H
#define TERN_TESTS_SIM_GUEST_H

#include "proto/base/buf.h"
#include "proto/base/prng.h"

#define GUESTS_MAX 8u
#define GUEST_TOPICS 3u
#define GUEST_MESSAGES_MAX 4000u
#define GUEST_WILLS_MAX 500u
#define GUEST_OPEN_MAX 10u
#define GUEST_IDS 65536u

/* T: t/0, or t/# if wild */
enum guest_filter { FILTER_T, FILTER_T1, FILTER_T2, FILTER_W, FILTER_S, FILTER_R, GUEST_FILTERS };

struct guest_message {
    uint8_t guest, topic, qos;
    bool shared;        /* to s/N: its topic counts for nothing */
    bool retain, clear; /* clear: retained with an empty payload */
    bool acknowledged;  /* with success */
    bool received;      /* QoS 2: PUBREC came */
    bool interrupted;   /* QoS 2: the node ended before PUBREC, so QoS 0 may see it twice */
    bool perhaps_twice; /* and so may everybody (README.md) */
    uint32_t number;    /* of its guest's: their order */
    uint64_t step;      /* when it was sent first */
    uint32_t life;      /* of the node, then */
    uint32_t expiry_s;  /* 0: it never expires */
    uint64_t sent_ms;   /* when it was sent first: its interval begins later */
    uint64_t taken_ms;  /* when it was acknowledged: its interval began before; 0: it was not */
    uint8_t taken_by;   /* shared: 1 + the guest who had it last; 0: nobody */
    uint8_t taken_qos;  /* with it */
};

struct guest_subscription {
    enum { SUB_NONE, SUB_ASKED, SUB_THERE, SUB_LEAVING, SUB_LEFT } state;
    uint8_t qos;
    uint16_t packet_id;
    uint64_t step; /* SUBACK or UNSUBACK came */
};

struct guest_will {
    bool due;                  /* it must have been published: the node knew of the end, and the delay was over */
    bool pending;              /* the connection was lost after CONNACK, the delay may not be over */
    bool served;               /* the node served the connection when it was lost */
    bool unsure;               /* an earlier clean start may be heard later */
    bool cancelled;            /* it must never be published: DISCONNECT was heard, or the session resumed in time */
    uint32_t wait_ms;          /* its delay, or the session's interval if that is shorter */
    uint64_t step;             /* when its connection was seen alive last: it ended later */
    uint64_t due_step;         /* since when it is due */
    uint64_t cancelled_step;   /* DISCONNECT was heard */
    uint64_t alive_ms;         /* when the connection was seen alive last */
    uint64_t noticed_ms;       /* since when the node has known of its end; 0: it may not know */
    uint32_t seen[GUESTS_MAX]; /* 1 + the life of the node in which each got it */
};

enum guest_knowledge { SESSION_NONE, SESSION_THERE, SESSION_PERHAPS };

struct guest {
    unsigned index;
    uint8_t version; /* 4 or 5 */
    bool always_clean, has_will, wild;
    bool lazy, shy; /* acknowledges late; stays away for long */
    bool away;      /* does not come back in the end */
    uint32_t expiry_s, will_delay_s;
    uint16_t receive_max, server_max;

    /* What it keeps over connections. */
    struct {
        uint32_t message;
        uint16_t packet_id;
        bool released;      /* PUBREL was sent */
    } open[GUEST_OPEN_MAX]; /* its own messages without acknowledgement, in order */
    unsigned open_count;
    uint16_t last_id;
    uint32_t last_number;
    struct guest_subscription subscriptions[GUEST_FILTERS];
    uint8_t *taken; /* owned; by packet identifier: QoS 2, taken and not yet released */
    uint32_t
        *answered_by_id;  /* owned; by packet identifier: the step in which it acknowledged it for good; 0: not yet */
    uint32_t *last_by_id; /* owned; by packet identifier: 1 + the message that came with it last in this session */

    /* What it knows about its session. */
    enum guest_knowledge session;
    bool clean;            /* of this connection */
    bool must_clean;       /* it has forgotten its part: the broker is to forget the other */
    bool unsure;           /* it may be another than the one whose messages the guest remembers */
    unsigned connections;  /* of this session that it knows of */
    uint64_t began_step;   /* when it was told that its session is a new one */
    uint64_t lost_ms;      /* when the last connection with a CONNACK was lost */
    uint64_t noticed_step; /* since when the node has known that the last connection is over; 0: it may not know */
    uint64_t noticed_ms;   /* the same, in time */
    bool in_share;         /* its session may be a member of the group */
    bool many_dups;        /* the node has ended with a connection of this session: what it had sent it cannot know */

    /* This connection. */
    bool linked, welcome, leaving; /* CONNECT sent; CONNACK came; DISCONNECT sent or received */
    bool leaving_with_will;        /* by DISCONNECT 0x04, or sent away */
    bool alive;                    /* the node serves it: set by the world before each call */
    uint32_t connection;
    bool clean_pending;        /* the node may not have heard an earlier clean start yet */
    uint32_t clean_connection; /* the last one with a clean start: earlier wills need not wait */
    struct buf in, late;       /* owned: half a packet; acknowledgements that it has not sent yet */
    uint8_t *in_flight;        /* owned; by packet identifier: PUBLISH came and was not answered */
    unsigned in_flight_count;
    uint64_t connect_ms; /* when it began */
    uint64_t fresh_step; /* what is published later cannot have been sent in an earlier connection */
    unsigned dups;       /* PUBLISH packets with DUP */

    /* For the judges. */
    uint8_t *got;                                   /* owned; by message: how often, QoS 2 counted in bit 7 */
    uint32_t last_got[GUESTS_MAX][GUEST_TOPICS][3]; /* number of the last first delivery, by QoS */
    struct guest_will *wills;                       /* owned; by connection */
};

struct party {
    struct prng prng;
    struct guest guest[GUESTS_MAX];
    unsigned count;
    struct guest_message *message; /* owned */
    unsigned message_count;
    uint32_t retained_seen[GUESTS_MAX]; /* in the end, by guest 0: 1 + the message; 0: none */

    uint64_t step, now_ms;   /* set by the world before each call */
    bool clock_set;          /* somebody has set the wall clock: nobody knows what has expired */
    bool lossy;              /* messages may have been dropped or refused by rule: their loss is none */
    bool damaged;            /* a record or a row was lost on the disk: what the node remembers is not to be claimed */
    bool split;              /* the node has more than one shard */
    uint64_t calm_ms;        /* when that began */
    unsigned calm;           /* not 0: the end, in which everybody only finishes what is begun; its round */
    uint32_t life;           /* of the node */
    uint64_t settled_step;   /* the node has noticed, for good, what had happened up to here */
    uint64_t forgotten_step; /* up to here the node has forgotten everything: it had no disk */
    uint64_t share_broken_step; /* the session of a member may have ended: what it had may be lost */
    uint32_t sent_filters;      /* SUBSCRIBE and UNSUBSCRIBE packets, for their identifiers */
    uint64_t connects, sent, received, acknowledged;
    char wrong[600]; /* the first thing that is; "": nothing */
};

void party_init(struct party *p, uint64_t seed, unsigned count);
void party_deinit(struct party *p);

/* What a guest writes is appended to out. */
void guest_connect(struct party *p, unsigned index, struct buf *out);
void guest_act(struct party *p, unsigned index, struct buf *out);
void guest_receive(struct party *p, unsigned index, struct slice bytes, struct buf *out);
void guest_lost(struct party *p, unsigned index);

/* The node has read this guest's DISCONNECT: without its will. */
void guest_left(struct party *p, unsigned index);

/* The node has ended, all connections are lost. durable: it has a disk. */
void party_node_ended(struct party *p, bool durable);

/* All that was said until now is handled and on the disk, and the node knows of every connection that is over. */
void party_settled(struct party *p);

/* In the end nobody begins anything: late acknowledgements are sent, and guest 0 asks for what is retained when all has
 * settled. */
void guest_finish(struct party *p, unsigned index, struct buf *out);

/* Everything has been delivered that ever will be. */
void party_judge(struct party *p);

/* ---- between guest.c, guest_receive.c and guest_judge.c ---- */

struct guest_delivery {
    uint8_t qos;
    bool dup, retain;
    uint16_t packet_id;
    uint32_t expiry_s; /* 0: not told */
    char topic[40], payload[60];
};

void party_wrong(struct party *p, const char *format, ...) __attribute__((format(printf, 2, 3)));
void guest_forget(struct party *p, struct guest *g);  /* its session is gone */
void guest_unshare(struct party *p, struct guest *g); /* and it was perhaps a member of the group */
void guest_put_ack(struct buf *out, uint8_t first, uint16_t packet_id);
void guest_put_publish(struct party *p, struct guest *g, struct buf *out, uint32_t message, uint16_t packet_id,
                       bool dup);
void guest_put_late(struct party *p, struct guest *g, struct buf *out);
void judge_connack(struct party *p, struct guest *g, bool present);
/* again: it is QoS 2, and the guest has it already. */
void judge_delivery(struct party *p, struct guest *g, const struct guest_delivery *d, bool again);

#endif
