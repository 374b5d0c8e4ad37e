/* cluster.h -- the ways between nodes; one file each.
 *
 *     neighbour.c   who is there: members come and go, each shard keeps a link to each; frames find their flow
 *     forward.c     a message to another node that has subscribers for it, and who waits for its answer
 *     arrive.c      a message from another node: to the sessions here, and the answer back
 *     routefeed.c   which filters this node has subscribers for, told to all
 *     routetake.c   and what they tell
 *     claim.c       a client has connected here: whoever else has one of that name sends it away
 *
 * Without a cluster (node->cluster NULL) none of it does anything. */
#ifndef TERN_BROKER_FLOW_CLUSTER_H
#define TERN_BROKER_FLOW_CLUSTER_H

#include "broker/flow/broker.h"
#include "broker/peer/peer_link.h"
#include "broker/peer/seal.h"

#define NEIGHBOURS_MAX 128u /* other nodes, ever alive at one time */

/* Frames of the lanes; aside ones are peer_inside.h's. */
enum peer_frame {
    FRAME_PUBLISH = 16, /* live and QoS 0: forward.c */
    FRAME_PUBLISH_DONE, /* live, the other way */
    FRAME_ROUTES = 32,  /* control: routefeed.c */
    FRAME_ROUTES_DONE,  /* control, the other way */
    FRAME_MEMBERS,      /* control: neighbour.c */
    FRAME_CLAIMS,       /* control: claim.c */
};

struct publication;
struct receipt_open;
struct receipt;
struct driver;
struct feed;
struct route_request;

/* Another node, by a number that stays while this process lives. Written by the control shard, which tells the others
 * by mail; the number is free again when all shards have let go of it. */
struct neighbour {
    struct node_id id;
    uint64_t boot;
    struct member_address address;
    char name[MEMBER_NAME_MAX + 1];
    bool used, alive;
    unsigned leaving; /* shards that have not yet let go */
};

#define SEEDS_MAX 64u

struct seed_list {
    struct member_address seeds[SEEDS_MAX];
    unsigned count;
};

/* What the shards of a node share of its cluster. */
struct node_cluster {
    struct peer_terms terms;
    struct neighbour neighbours[NEIGHBOURS_MAX];
    _Atomic(uint8_t) slots[ROUTE_SLOTS]; /* whose filters a slot of the route table has: neighbour + 1 */
    struct driver *driver;               /* control shard: owned */
    struct feed *feed;                   /* control shard: owned */
    struct member_address address;       /* that other nodes are told */
    struct seal_ring ring;
    int listen_fd, gossip_fd;                /* taken over by the control shard; -1: not open */
    _Atomic(struct seed_list *) seeds_found; /* by the main thread; the control shard takes it; owned */
    atomic_uint neighbour_count;             /* living ones */
    atomic_uint_least64_t stamp;             /* hybrid clock (claim.c) */
};

/* A message that another node has been given and has not yet answered for. */
struct forward {
    struct message *message; /* counted; NULL: answered */
    struct receipt *receipt; /* who waits; NULL: nobody */
    uint64_t share;          /* 0: all subscribers there; else: one member of this share */
    uint32_t bytes;
    uint8_t flags;
};

/* Those on their way to one neighbour, in the order of their numbers. */
struct forward_lane {
    struct forward *ring; /* owned; a power of two */
    uint32_t mask;
    uint64_t head, tail;  /* numbers: the oldest not answered, the next */
    uint64_t bytes;       /* not answered */
    struct list waiting;  /* conns that are not read until it is shorter, by in_ready */
    unsigned claims_told; /* groups whose connected clients it knows (claim.c) */
};

/* Answers that a link owes: those that wait for the log come later. */
struct arrival_lane {
    struct list receipts; /* struct receipt.in_conn: not yet settled */
    struct buf now;       /* answers that may leave */
    struct buf held;      /* of this turn, when its log is durable */
    uint64_t held_lsn;    /* another shard's, further on than this turn's; 0 */
    struct buf waiting;   /* struct held_answers and their bytes, oldest first */
    struct list in_shard; /* cluster_shard.owing; empty: owes nothing */
    struct peer_link *link;
};

/* The cluster as one shard sees it. */
struct cluster_shard {
    struct broker *broker;
    struct peer_room room;
    struct peer_link *links[NEIGHBOURS_MAX]; /* dialled; NULL: none */
    struct list owing;                       /* arrival lanes with answers that wait for the log */
    struct forward_lane *choked;             /* inside publish_from_client: the full lane that its message met */
};

/* ---- neighbour.c ---- */
int cluster_shard_new(struct broker *b); /* 0 or -ENOMEM; nothing without a cluster */
int cluster_start(struct broker *b);     /* the door is open */
void cluster_turn_end(struct broker *b); /* behind the journal */
void cluster_stop(struct broker *b);
void cluster_mail(struct broker *b, const struct mail *mail);
void cluster_discard(const struct mail *mail);
/* The number of a living node, or -1. */
int neighbour_find(const struct node_cluster *cluster, const struct node_id *id);
/* Control shard: a member has come, has another address or boot, or is gone (alive false). */
void neighbour_changed(struct broker *b, const struct member *member, bool alive);
extern const struct peer_handler cluster_peer_handler;

/* ---- forward.c ---- */
/* Hand a message to each node that these slots stand for. open NULL: nobody waits. Returns whether there was one. */
bool forward_publication(struct broker *b, struct publication *pub, const uint64_t slots[4], struct receipt_open *open);
int forward_done(struct peer_link *link, struct slice body);
void forward_reset(struct peer_link *link);                     /* send all anew */
void forward_give_up(struct broker *b, struct peer_link *link); /* the node is dead: nobody waits for it any more */
void forward_drained(struct peer_link *link);
/* A publisher whose message met a full lane is not read until that has room. */
void forward_pause(struct broker *b, struct conn *conn);
struct forward_lane *forward_lane_new(void);
void forward_lane_free(struct broker *b, struct forward_lane *lane);

/* ---- arrive.c ---- */
int arrive_publish(struct peer_link *link, const struct link_frame *frame, struct slice body);
/* A message that came over this link is settled. logged: by this shard, so far; lsn: by others, 0: it need not wait. */
void arrive_answer(struct broker *b, struct peer_link *link, uint64_t number, uint8_t reason, bool logged,
                   uint64_t lsn);
struct arrival_lane *arrival_lane_new(void);
void arrive_ended(struct broker *b, struct peer_link *link); /* nobody waits for its answers any more */
void arrive_turn_end(struct broker *b);
bool arrive_waits(const struct broker *b); /* for the log */

/* ---- routefeed.c, routetake.c; all on the control shard ---- */
int feed_new(struct broker *b); /* 0 or -ENOMEM */
void feed_free(struct broker *b);
/* Before a filter is added to the route table: memory to tell of it. 0 or -ENOMEM. */
int feed_reserve(struct broker *b, size_t filter_len);
/* Whether the answer to this announcement (route.c's) has to wait for other nodes: route_told comes later. */
bool feed_holds(struct broker *b, struct route_request *request, unsigned from);
void feed_turn(struct broker *b);
/* A neighbour is to be told everything, from the beginning. */
void feed_peer_up(struct broker *b, unsigned neighbour);
/* The same, if it was gone. */
void feed_peer_back(struct broker *b, unsigned neighbour);
void feed_peer_gone(struct broker *b, unsigned neighbour);
int feed_take(struct peer_link *link, struct slice body);
int feed_done(struct peer_link *link, struct slice body);

/* ---- claim.c ---- */
/* A client has just been connected here. */
void claim_tell(struct broker *b, struct session *session);
/* Tell a neighbour, which knows nothing yet, of all who are connected: a part, each turn. */
void claim_turn(struct broker *b);
int claim_take(struct peer_link *link, struct slice body);
void claim_mail(struct broker *b, const struct mail *mail);

#endif
