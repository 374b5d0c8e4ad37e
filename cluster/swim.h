/* swim.h -- who is in the cluster and who answers: SWIM with Lifeguard.
 *
 * Why: a node must know its peers without asking all of them all the time. Each node pings one member a period; what
 * it finds out travels on the back of the pings. Nothing is decided here: that a node is dead for the cluster, and who
 * takes over, are decisions of the meta group. This is the rumour that starts them.
 *
 *   NONE ----- first heard of ----------------------------> any other state
 *   ALIVE ---- no answer, its links lost, or so it is said -> SUSPECT    pings tell it; it may say otherwise
 *   SUSPECT -- deadline (sooner when others agree) --------> DEAD       never by hearsay alone
 *   ALIVE, SUSPECT, DEAD -- it leaves ---------------------> LEFT
 *   any ------ it says so itself, newer -------------------> ALIVE
 *   DEAD, LEFT -- a day later, or too many of them --------> NONE
 *   any ------ it belongs to another cluster than this node -> NONE
 *
 * Pure: time, datagrams and a seed come in; datagrams and changes go out by the driver's functions, called within the
 * calls below. They may read (swim_find, swim_next), and must not call anything that changes. No call allocates but
 * swim_new and swim_table. Touched by one thread.
 *
 * Datagrams are plain text here; that they come from a node of this cluster the caller has checked (sealed datagrams).
 * Such a node may still be mad: every field is checked, every table has a bound, and one datagram received makes at
 * most three be sent.
 *
 * Time is any clock in ms that does not go back; steps back are taken for standing still. A call that comes much later
 * than swim_due() said is taken for a pause of this node: nobody is blamed for not having answered meanwhile. */
#ifndef TERN_CLUSTER_SWIM_H
#define TERN_CLUSTER_SWIM_H

#include "cluster/member.h"
#include "proto/base/buf.h"

#define SWIM_MEMBERS_MAX 128     /* living ones, this node included; others are not taken in */
#define SWIM_GONE_MAX 128        /* dead and left ones that are remembered; of more the oldest is forgotten */
#define SWIM_INCARNATION_JUMP 64 /* what others say of a node is not believed beyond so many more than is known */
#define SWIM_HEALTH_MAX 8

struct swim;

/* Of a field that is 0 the default is taken. */
struct swim_timers {
    uint32_t probe_ms;       /* 500: one member is pinged each period */
    uint32_t timeout_ms;     /* 200: then others are asked to ping it too */
    uint32_t suspect_min_ms; /* 2000: from suspicion to death when two more agree, or in a cluster of three or less */
    uint32_t suspect_max_ms; /* 12000: when nobody does */
    uint32_t gossip_ms;      /* 200: news go to three members, when there are any */
    uint32_t dead_ping_ms;   /* 10000: one of the dead is looked for, so that a partition heals by itself */
    uint32_t forget_ms;      /* a day: how long dead and left ones are remembered */
};

struct swim_driver {
    void *arg;
    /* Send one datagram; it may get lost. plain lives as long as the call. */
    void (*send)(void *arg, const struct member_address *to, struct slice plain);
    /* A member is new, was forgotten (its state is MEMBER_NONE then), or has another state, address, boot or cluster
     * id. Told once for each change, and never of this node itself. */
    void (*changed)(void *arg, const struct member *member, enum member_state before);
    /* Somebody lives under this node's id with another boot or address, or the word goes round that this node is what
     * it cannot deny any more: the same disk was mounted twice, or is an old copy. `claimed` says what is told. Once
     * for each boot and address. A peer's word: look by a link before acting. A higher boot (swim_self) ends it. */
    void (*conflict)(void *arg, const struct member *claimed);
    /* A node of another cluster has introduced itself here. It is not taken in. Told each time. */
    void (*foreign)(void *arg, const struct member *member);
};

struct swim_options {
    struct member self; /* incarnation and state are not looked at */
    struct swim_timers timers;
    struct swim_driver driver;
    uint64_t now_ms;
    uint64_t seed;
};

/* Returns 0 or -ENOMEM. self must be sendable as it is (swim_member_valid). */
int swim_new(const struct swim_options *options, struct swim **ret);
void swim_free(struct swim *s);

/* A datagram came from `from`. */
void swim_receive(struct swim *s, uint64_t now_ms, const struct member_address *from, struct slice plain);

/* Do what is due. Returns swim_due(). */
uint64_t swim_tick(struct swim *s, uint64_t now_ms);

/* When swim_tick() wants to be called next. Every other call may bring it forward: ask after it. */
uint64_t swim_due(const struct swim *s);

/* Ping an address where a member may be, whoever that is. Nothing is kept of it: call again until one answers. */
void swim_join(struct swim *s, uint64_t now_ms, const struct member_address *seed);

/* This node leaves for good. It pings nobody any more, but answers; it may go when swim_busy() is false. */
void swim_leave(struct swim *s, uint64_t now_ms);

/* Whether there is news that has not been sent often enough. */
bool swim_busy(const struct swim *s);

/* This node's record is another now. id as before, boot as before or higher: then it begins anew and is alive. The
 * load and its time alone are no news: they go along with what is sent anyway, and with tables. With a cluster id that
 * it did not have before, members of other clusters are forgotten; who has none is a member for both. */
void swim_self(struct swim *s, uint64_t now_ms, const struct member *changed);

/* Every link to a node broke: it is suspected at once. A sign of life came by one: as good as an answered ping. */
void swim_link_lost(struct swim *s, uint64_t now_ms, const struct node_id *id);
void swim_link_up(struct swim *s, uint64_t now_ms, const struct node_id *id);

/* Push-pull: append all that this node knows, at most SWIM_TABLE_MAX bytes (swim_message.h); when memory is out
 * ret->failed says so. And take in what another node knows: 0, or -EBADMSG with nothing changed. */
void swim_table(const struct swim *s, struct buf *ret);
int swim_merge(struct swim *s, uint64_t now_ms, struct slice table);

/* A member by its id, this node too; NULL if not known. And all of them: *at is 0 at first; NULL after the last. What
 * they return lives until the next call that changes. */
const struct member *swim_find(const struct swim *s, const struct node_id *id);
const struct member *swim_next(const struct swim *s, unsigned *at);

/* Lifeguard's score: 0 is well; at 8 this node waits nine times as long before it blames others. */
unsigned swim_health(const struct swim *s);

/* Datagrams, tables and rumours that were not taken: not sound, not believable, or no room for them. */
uint64_t swim_ignored(const struct swim *s);

#endif
