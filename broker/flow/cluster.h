/* cluster.h -- the ways between nodes; one file each.
 *
 *     enter.c       how this node becomes one of them
 *     ready.c       whether it is one, and should be sent clients
 *     neighbour.c   who is there: members come and go, each shard keeps a link to each; frames find their flow
 *     forward.c     a message to another node that has subscribers for it, and who waits for its answer
 *     arrive.c      a message from another node: to the sessions here, and the answer back
 *     routefeed.c   which filters this node has subscribers for, told to all
 *     routetake.c   and what they tell
 *     share_nodes.c which nodes have members of a share, and who gets the next message
 *     seek.c        a client wants its session back: on which node is it
 *     attach.c      a client whose session is on another node: its connection goes on there
 *     catchup.c     retained messages that this node has missed, or another
 *     stamp.c       the clock that decides what is newer
 *     inquire.c     an operator's question to all shards of all nodes (inquire.h)
 *     claim.c       a client has connected here: whoever else has one of that name sends it away
 *
 * Without a cluster (node->cluster NULL) none of it does anything. */
#ifndef TERN_BROKER_FLOW_CLUSTER_H
#define TERN_BROKER_FLOW_CLUSTER_H

#include "broker/flow/broker.h"
#include "broker/flow/flow.h"
#include "broker/peer/peer_link.h"
#include "broker/peer/seal.h"
#include "proto/mqtt/connect.h"

#define NEIGHBOURS_MAX 128u /* other nodes, ever alive at one time */

_Static_assert(NEIGHBOURS_MAX == METRIC_PEERS_MAX, "each has its counters");

/* Frames of the lanes; aside ones are peer_inside.h's. */
enum peer_frame {
    FRAME_PUBLISH = 16,       /* live and QoS 0: forward.c */
    FRAME_PUBLISH_DONE,       /* live, the other way */
    FRAME_ROUTES = 32,        /* control: routefeed.c */
    FRAME_ROUTES_DONE,        /* control, the other way */
    FRAME_MEMBERS,            /* control: neighbour.c */
    FRAME_CLAIMS,             /* control: claim.c */
    FRAME_SHARES,             /* control: share_nodes.c */
    FRAME_SEEK,               /* control: seek.c */
    FRAME_FOUND,              /* control */
    FRAME_RETAINED_SUMS = 40, /* control: catchup.c */
    FRAME_RETAINED_PULL,      /* control, the other way */
    FRAME_INQUIRY,            /* control, of control shards: inquire.c */
    FRAME_INQUIRY_ANSWER,     /* the same */
    FRAME_ATTACH = 48,        /* durable: attach.c */
    FRAME_ATTACHED,           /* durable */
};

struct driver;
struct feed;
struct route_request;
struct catchup;
struct catchup_walk;

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
    unsigned others; /* nodes that the list speaks of besides this one; a name without an address counts too */
};

#define CLUSTER_ID_TEXT (2 * MEMBER_CLUSTER_ID_SIZE + 1)

/* What the shards of a node share of its cluster. */
struct node_cluster {
    struct peer_terms terms;
    struct neighbour neighbours[NEIGHBOURS_MAX];
    _Atomic(uint8_t) slots[ROUTE_SLOTS];     /* whose filters a slot of the route table has: neighbour + 1 */
    struct driver *driver;                   /* control shard: owned */
    struct feed *feed;                       /* control shard: owned */
    struct member_address address;           /* that other nodes are told */
    struct seal_ring ring;                   /* at the start */
    _Atomic(struct seal_ring *) ring_next;   /* of a reload: the control shard takes it; owned */
    bool insecure;                           /* at the start: plain links */
    atomic_bool leaving[NEIGHBOURS_MAX];     /* it sends its clients away: written by the control shard */
    atomic_bool met[NEIGHBOURS_MAX];         /* the control shard has had a link to it: it is who it says it is */
    struct catchup *catchup;                 /* control shard: owned */
    atomic_uint_least64_t caught_up_ms;      /* when a message came last that was asked for (catchup.c) */
    int listen_fd, gossip_fd;                /* taken over by the control shard; -1: not open */
    _Atomic(struct seed_list *) seeds_found; /* by the main thread; the control shard takes it; owned */
    atomic_uint neighbour_count;             /* living ones */
    _Atomic(const char *) unready;           /* why it is not to be sent clients; NULL: it is ready */
    bool ready_stale;                        /* control shard: to be looked at */
    struct retained_replica replica;         /* of the retained messages of all */
};

/* A message that another node has been given and has not yet answered for. */
struct forward {
    struct message *message; /* counted; NULL: answered */
    struct receipt_ref ref;  /* who waits; NULL: nobody */
    struct share_way way;    /* share 0: to all subscribers there; else: to one member of this share */
    uint32_t bytes;
    uint8_t flags;
};

/* Those on their way to one neighbour, in the order of their numbers. */
struct forward_lane {
    unsigned neighbour;
    struct forward *ring; /* owned; a power of two */
    uint32_t mask;
    uint64_t head, tail;  /* numbers: the oldest not answered, the next */
    uint64_t bytes;       /* not answered */
    uint64_t quiet_bytes; /* the same, of retained messages that were asked for */
    struct list waiting;  /* conns that are not read until it is shorter, by in_ready */
    unsigned claims_told; /* groups whose connected clients it knows (claim.c) */
    size_t shares_at;     /* share_nodes.c: how far it was told */
    bool shares_told;
    struct catchup_walk *walk; /* owned: what it has asked for (catchup.c); NULL: nothing yet */
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
    unsigned links_end;                      /* above it there never was one */
    struct {                                 /* living ones whose link there was no memory for, by number */
        struct node_id id;
        struct member_address address;
        bool waits;
    } unlinked[NEIGHBOURS_MAX];
    unsigned unlinked_count;
    struct list owing;           /* arrival lanes with answers that wait for the log */
    struct share_spread *spread; /* owned: of shares at home here (share_nodes.c) */
    struct buf shares_left;      /* ids that have no member here any more, and all are to know it */
    uint64_t shares_due_ms;      /* when what members have outstanding is told next */
    struct list seeks;           /* struct seek.in_shard, oldest first */
    struct map seeks_by_token;
    struct map attaches;         /* struct attach by number */
    struct list attaches_due;    /* those with something to send that a link had no room for */
    uint64_t next_token;         /* of seeks and attaches */
    bool over;                   /* the shard has made its last turn */
    struct forward_lane *choked; /* inside publish_from_client: the full lane that its message met */
};

/* ---- neighbour.c ---- */
int cluster_shard_new(struct broker *b); /* 0 or -ENOMEM; nothing without a cluster */
void cluster_shard_free(struct broker *b);
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

/* ---- ready.c ---- */
/* Why this node should not be sent clients, one sentence; NULL: it is ready. Any thread may ask, with or without a
 * cluster. */
const char *node_unready(const struct node_tables *node);
/* Control shard, at the end of a turn; looks when ready_stale says so. */
void ready_turn(struct broker *b);

/* ---- enter.c ---- */
/* Before the store is started: which cluster this node belongs to, says its disk. If that row is damaged the node seeks
 * one anew. store may be NULL. */
void cluster_load_id(struct peer_terms *terms, struct store *store);
/* A finished task of the store: whether it was the cluster's, which then has freed it. */
bool cluster_stored(struct broker *b, struct store_task *task);
void cluster_id_text(const uint8_t id[MEMBER_CLUSTER_ID_SIZE], char ret_text[CLUSTER_ID_TEXT]);

/* ---- forward.c ---- */
/* The living nodes that these slots stand for; none for what tells of one node ($SYS). */
struct spread_mask forward_nodes(const struct broker *b, const struct publication *pub,
                                 const uint64_t slots[ROUTE_SLOTS / 64]);
/* And all that are living and can be reached, or could be once: nobody waits for who only gossips. */
void forward_everyone(const struct broker *b, struct spread_mask *nodes);
/* Hand a message to all subscribers of each of these nodes. open NULL: nobody waits. */
void forward_publication(struct broker *b, struct publication *pub, const struct spread_mask *nodes,
                         struct receipt_open *open);
/* Hand it to one of a share's members there. ref: who waits, or NULL. Returns 0; else it is not given. */
int forward_share(struct broker *b, unsigned neighbour, struct publication *pub, struct receipt_ref ref,
                  const struct share_way *way);
/* How well a node can be reached. */
enum forward_reach { REACH_GOOD, REACH_SLOW, REACH_LOST };
enum forward_reach forward_reach(const struct broker *b, unsigned neighbour);
bool forward_settled(const struct broker *b); /* all is out, and answered for where an answer is due */
int forward_done(struct peer_link *link, struct slice body);
void forward_reset(struct peer_link *link);                     /* send all anew */
void forward_give_up(struct broker *b, struct peer_link *link); /* the node is dead: nobody waits for it any more */
void forward_drained(struct peer_link *link);
/* A publisher whose message met a full lane is not read until that has room. */
void forward_pause(struct broker *b, struct conn *conn);
struct forward_lane *forward_lane_new(unsigned neighbour);
void forward_lane_free(struct broker *b, struct forward_lane *lane);

/* A retained message for this neighbour alone, which has asked for it. 0, -ENOBUFS or -ENOMEM. */
int forward_retained(struct broker *b, struct peer_link *link, struct message *message);

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

/* ---- share_nodes.c ---- */
int share_nodes_new(struct broker *b); /* 0 or -ENOMEM */
void share_nodes_free(struct broker *b);
/* Tell the other nodes what has changed: a part, each turn. */
void share_nodes_turn(struct broker *b);
void share_nodes_gone(struct broker *b, unsigned neighbour);
int share_nodes_take(struct peer_link *link, struct slice body);
void share_nodes_mail(struct broker *b, const struct mail *mail);
/* A member there has the message, or none can have it (reason): returns whether it goes to somebody else. f is the
 * caller's copy. */
bool share_nodes_answered(struct broker *b, unsigned neighbour, struct forward *f, uint8_t reason);
/* ---- catchup.c ---- */
int catchup_new(struct broker *b); /* control shard. 0 or -ENOMEM */
void catchup_free(struct broker *b);
void catchup_peer_up(struct broker *b, unsigned neighbour); /* control shard: a link that knows nothing */
int catchup_sums(struct peer_link *link, struct slice body);
int catchup_pull(struct peer_link *link, struct slice body);
void catchup_mail(struct broker *b, const struct mail *mail);
void catchup_turn(struct broker *b);
void catchup_drop(struct forward_lane *lane); /* it is asked for no more */

/* ---- stamp.c; also without a cluster ---- */
void stamp_start(struct node_tables *node); /* the node's id is known */
uint64_t stamp_origin(const uint8_t *node_id);
uint64_t stamp_next(struct broker *b);
/* One was seen, here or on another node. */
void stamp_seen(struct broker *b, uint64_t stamp);
bool stamp_possible(uint64_t stamp); /* no clock gives another */

/* ---- seek.c ---- */
enum seek_result {
    SEEK_NOWHERE, /* on no node that lives and answers */
    SEEK_PENDING, /* the connection is paused; its CONNECT is handled again */
    SEEK_THERE,   /* at *ret_neighbour */
};
enum seek_result seek_session(struct conn *conn, struct slice client_id, unsigned *ret_neighbour);
void seek_end(struct conn *conn); /* nobody waits for it any more */
void seek_turn(struct broker *b);
/* Who waits for a link that was being made asks now. */
void seek_link_opened(struct broker *b);
void seek_neighbour_gone(struct broker *b, unsigned neighbour);
int seek_take(struct peer_link *link, struct slice body);
int seek_found(struct peer_link *link, struct slice body);
void seek_mail(struct broker *b, const struct mail *mail);

/* ---- attach.c ---- */
/* The session of this connection is at the neighbour's: from now on it only carries bytes. packet, c: its CONNECT.
 * Returns 0 or a negative errno. */
int attach_begin(struct conn *conn, unsigned neighbour, const struct mqtt_frame *packet, const struct mqtt_connect *c);
static inline bool attach_is(const struct conn *conn)
{
    return conn->more && conn->more->attach;
}
/* Have the session's node say goodbye to its client, at a packet's end. Returns whether it was asked to. */
bool attach_leave(struct conn *conn, enum mqtt_reason reason);
bool attach_leaving(const struct conn *conn); /* it was */
/* Its connection: has ended; has room again; sends bytes (conn_handler.elsewhere). */
void attach_lost(struct conn *conn);
void attach_drained(struct conn *conn);
size_t attach_bytes(struct conn *conn, struct slice bytes);
int attach_take_open(struct peer_link *link, struct slice body);
int attach_take(struct peer_link *link, struct slice body);
void attach_mail(struct broker *b, const struct mail *mail);
void attach_turn(struct broker *b);
void attach_neighbour_gone(struct broker *b, unsigned neighbour);
void attach_stop(struct broker *b);

/* ---- claim.c ---- */
/* A client has just been connected here. clean: with Clean Start. */
void claim_tell(struct broker *b, struct session *session, bool clean);
/* Tell a neighbour, which knows nothing yet, of all who are connected: a part, each turn. */
void claim_turn(struct broker *b);
int claim_take(struct peer_link *link, struct slice body);
void claim_mail(struct broker *b, const struct mail *mail);

#endif
