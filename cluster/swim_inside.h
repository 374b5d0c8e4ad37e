/* swim_inside.h -- what the files of SWIM share; nobody else includes it.
 *
 * swim.c holds the entry points, swim_peer.c the table and what is believed, swim_probe.c the pings, swim_gossip.c what
 * is sent and how often. */
#ifndef TERN_CLUSTER_SWIM_INSIDE_H
#define TERN_CLUSTER_SWIM_INSIDE_H

#include "cluster/swim.h"
#include "cluster/swim_message.h"
#include "proto/base/prng.h"

#define SWIM_PEERS_MAX (SWIM_MEMBERS_MAX + SWIM_GONE_MAX)
#define SWIM_AGREE 2 /* so many others who agree make a suspicion as short as it gets */
#define SWIM_ACCUSERS_MAX (1 + SWIM_AGREE)
#define SWIM_FANOUT 3 /* members that news go to, and that are asked to ping another */
#define SWIM_RELAYS_MAX 32

/* A member, and what is to be said of it. Slots do not move, so that a pointer lives as long as the member. */
struct peer {
    struct member member; /* MEMBER_NONE: the slot is free */

    bool queued;       /* there is news of it, */
    unsigned sent;     /* sent so often since */
    uint64_t news;     /* its number: higher is newer */
    uint64_t datagram; /* the last one that it was in */

    /* Who says so: the first and those who agree while SUSPECT; one while DEAD. Else none. */
    struct node_id accusers[SWIM_ACCUSERS_MAX];
    unsigned accuser_count;
    uint64_t suspect_since_ms, suspect_until_ms; /* while SUSPECT */
    uint64_t forget_ms;                          /* while DEAD or LEFT: until when it is remembered */
};

/* The ping that is under way; one a period. */
struct probe {
    bool active;
    bool asked; /* others have been asked to ping it */
    struct node_id target;
    uint32_t seq;
    uint64_t ask_ms, end_ms;
    unsigned nacks_wanted, nacks;
};

/* A ping for somebody else. Free when end_ms has passed. */
struct relay {
    struct node_id target;
    struct member_address origin;
    uint32_t origin_seq, seq;
    uint64_t nack_ms, end_ms;
    bool nacked;
};

struct swim {
    struct swim_driver driver;
    struct swim_timers timers;
    struct prng prng;
    uint64_t now_ms; /* of the last call */
    uint32_t seq;
    unsigned health;
    uint64_t ignored;

    struct peer peers[SWIM_PEERS_MAX]; /* the first is this node */
    unsigned peers_end;                /* behind the last slot that was ever used */
    unsigned living_count, gone_count; /* this node counts as living, even when it leaves */
    unsigned suspect_count;

    unsigned order[SWIM_MEMBERS_MAX]; /* slots of living peers, in the order of their pings */
    unsigned order_count, order_next;
    uint64_t probe_ms; /* the next one */
    struct probe probe;
    struct relay relays[SWIM_RELAYS_MAX];
    uint64_t dead_ping_ms;

    unsigned queued_count;
    uint64_t news, datagram; /* numbers of the last */
    uint64_t gossip_ms;      /* not before; counts while something is queued */
    struct buf out;          /* owned: the datagram that is made; large enough from swim_new() on */

    bool conflict_told;
    uint64_t conflict_boot;
    struct member_address conflict_address;
};

/* What is sent. */
struct letter {
    enum swim_kind kind;
    const struct member_address *to;
    struct peer *receiver; /* NULL if not known; if it is not believed alive it is told so */
    uint32_t seq;
    const struct node_id *subject; /* NULL if there is none */
    struct peer *first;            /* NULL, or whose rumour it begins with */
};

static inline struct peer *swim_me(struct swim *s)
{
    return &s->peers[0];
}

/* swim_peer.c */
struct peer *swim_peer(const struct swim *s, const struct node_id *id);
struct swim_rumour swim_rumour_of(const struct swim *s, const struct peer *p);
/* Of its own word no jump of a node's incarnation is too far. */
void swim_hear(struct swim *s, const struct swim_rumour *r, bool own_word);
void swim_accuse(struct swim *s, struct peer *p, const struct node_id *accuser);
void swim_bury_late(struct swim *s);
void swim_forget_old(struct swim *s);
void swim_forget_foreign(struct swim *s);

/* swim_probe.c */
void swim_order_add(struct swim *s, const struct peer *p);
void swim_order_remove(struct swim *s, const struct peer *p);
void swim_probe_tick(struct swim *s);
void swim_probe_answered(struct swim *s, const struct node_id *target);
void swim_probe_ack(struct swim *s, const struct swim_message *m);
void swim_probe_nack(struct swim *s, const struct swim_message *m);
void swim_probe_for(struct swim *s, const struct member_address *origin, const struct swim_message *m);
void swim_dead_ping(struct swim *s);
void swim_health_change(struct swim *s, int by);

/* swim_gossip.c */
void swim_queue(struct swim *s, struct peer *p);
void swim_unqueue(struct swim *s, struct peer *p);
void swim_send(struct swim *s, const struct letter *letter);
void swim_gossip_tick(struct swim *s);
/* Up to SWIM_FANOUT different members that satisfy `fits`, by chance. */
unsigned swim_pick(struct swim *s, bool (*fits)(const struct swim *s, const struct peer *p),
                   struct peer *ret_picked[SWIM_FANOUT]);

#endif
