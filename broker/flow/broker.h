/* broker.h -- the tables that one shard owns, and the few that the node shares. Flows are functions over them. */
#ifndef TERN_BROKER_FLOW_BROKER_H
#define TERN_BROKER_FLOW_BROKER_H

#include "broker/auth/auth.h"
#include "broker/base/config.h"
#include "broker/conn/conn.h"
#include "broker/conn/listener.h"
#include "broker/flow/drain.h"
#include "broker/group/group.h"
#include "broker/group/record.h"
#include "broker/topic/match_cache.h"
#include "broker/topic/share_group.h"
#include "broker/topic/share_spread.h"
#include "proto/base/prng.h"
#include "storage/store.h"

#define CONTROL_SHARD 0u

struct admin;

/* Shared by all shards; only what says so is ever changed after the start. */
struct node_tables {
    struct hash_key key;                  /* of every table whose keys clients choose */
    struct route_table *routes;           /* written by the control shard */
    struct retained_quota retained_quota; /* atomics */
    struct session_quota session_quota;   /* atomics */
    struct ledger *ledger;                /* locked */
    struct auth *auth;                    /* its policy is exchanged by the main thread */
    struct store *store;                  /* NULL: nothing outlives the node */
    struct node_cluster *cluster;         /* NULL: it is alone */
    atomic_uint_least64_t stamp;          /* hybrid clock (stamp.c) */
    uint64_t origin;                      /* of stamps: the first bytes of the node's id */
    struct hash_key route_key;            /* of the route table and of shares; the same on all nodes of a cluster */
    struct listener listeners[CONFIG_LISTENERS_MAX];
    unsigned listener_count;
    uint64_t started_ms;                       /* monotonic */
    const struct metrics *metrics[SHARDS_MAX]; /* each written by its shard, read by the control shard */
    unsigned shard_count;
    _Atomic(const struct config *) config;     /* set by the main thread; each shard takes it over in its next turn */
    _Atomic(struct reload_outcome *) reloaded; /* what came of the last reload (reload.h); owned; NULL: taken */
    struct admin *admin;                       /* the admin port (broker/admin); NULL: none */
    const struct inquiry_desk *desk;           /* who knows what operators ask (inquire.h); NULL: nobody */
    struct drain drain;                        /* atomics, but for what says so (drain.h) */
    atomic_uint_least64_t stop_by_ms;          /* monotonic; not 0: send everybody away and stop, at the latest then */
};

struct receipt;
struct parcel;
struct node_cluster;
struct cluster_shard;

/* Receipts that wait for another shard, in the order of the mails. */
struct receipt_fifo {
    struct receipt **ring; /* owned */
    uint32_t mask, head, tail;
};

/* What this turn is going to write to the log (journal.c). */
struct journal {
    struct record_writer writer;
    struct store_batch *batch; /* owned: memory for it */
    struct buf answers;        /* struct mail: to other shards, that tell of it */
    uint64_t records;          /* ever written */
    uint64_t lsn;              /* of the last batch; 0: none */
    uint64_t timed_lsn;        /* one whose way to the disk is being timed, since */
    uint64_t timed_ns;         /* then; 0: none */
};

struct broker {
    struct conn_lists conns; /* first: conn.c finds it through shard->broker */
    struct shard *shard;
    struct node_tables *node;
    _Atomic(const struct config *) config_seen; /* for the main thread: the one this shard uses */
    const struct config *config;                /* of this turn */
    struct auth_policy *policy;                 /* of this turn; the node's */
    _Atomic(struct auth_policy *) policy_seen;  /* for the main thread */
    uint64_t bans_seen;                         /* ban_version of the last sweep */
    size_t sweep_left;                          /* connections that are still to be judged anew */
    struct access_cache *access;                /* decisions of the rules */
    struct group_context groups_of_shard;
    struct journal journal;
    struct checkpoint *checkpoint; /* owned (checkpoint.c) */
    struct group groups[GROUPS];   /* those at home here are used: id % shards == index */
    struct topic_tree *tree;
    struct match_cache *cache;
    struct retained *retained;
    struct share_table *shares;     /* those at home here */
    struct map share_subscriptions; /* struct session_share by (share, session uid) */
    struct {                        /* settled share deliveries, gathered for one mail */
        uint64_t share, session;
        uint32_t count;
    } share_settled;
    struct listener_door doors[CONFIG_LISTENERS_MAX];
    struct receipt_fifo receipts[SHARDS_MAX]; /* by shard that has to answer */
    struct list receipts_all;                 /* struct receipt.in_broker */
    struct map receipts_orphaned;             /* by (session, packet identifier): QoS 2, the publisher is gone */
    struct list receipts_spare;               /* memory of answered ones, by in_broker */
    uint32_t receipts_spare_count;
    struct parcel *parcels[SHARDS_MAX]; /* owned; by shard: being filled, or NULL (parcel.c) */
    uint16_t parcels_out[SHARDS_MAX];   /* by shard: on their way to it */
    struct parcel *parcels_spare;       /* owned */
    unsigned parcels_spare_count;
    uint32_t settled[SHARDS_MAX]; /* by shard: mails with receipts handled since the last answer */
    uint64_t settled_logged;      /* bits of the shards some of whose mails were logged here in doing so */
    struct list holds;            /* struct hold: acknowledgements that wait for a slow subscriber */
    uint64_t parked_bytes;        /* of messages among them that wait too */
    struct list congested;        /* conns that wait for the mail, by in_ready */
    struct list logins;           /* conns whose AUTH exchange is over: their CONNECT is handled again; by in_ready */
    struct list claims, claims_next; /* conns that take over another's session in this turn, in the next; by in_ready */
    struct list jobs;                /* struct subscribe_job */
    struct list replays, replays_ready; /* struct replay: all; those that can go on */
    unsigned routes_pending;            /* announcements not yet answered by the control shard */
    struct timer due_timer;             /* the next TICK of a group */
    struct timer house_timer;           /* holds, sweeps, spare memory */
    struct buf mounted;                 /* scratch: a topic behind its mount point */
    struct sys *sys;                    /* control shard: state of $SYS */
    struct {
        uint64_t at_ms, received, sent, dropped;
    } samples[2];        /* control shard: sums of the node, the older first (sys_rates) */
    struct buf frame[3]; /* scratch: a frame to be shared, by kind (deliver.c); forwarded properties (publish.c) */
    struct prng prng;
    struct map repeats;            /* struct repeat (repeat.c) */
    struct cluster_shard *cluster; /* owned; NULL: no cluster */
    struct list inquiries;         /* struct inquiry_work: questions that this shard answers (inquire.c) */
    struct trace *traces;          /* who watches (trace.h); NULL: nobody. Borrowed */
    struct mishaps *mishaps;       /* owned; NULL: none so far (look.h) */
    struct inquiries *asked;       /* control shard, owned: those of here and of other nodes */
    bool recovered;                /* its first turn is over (recover.c) */
    uint64_t refused_ms;           /* when the log had it that a message could not be retained */
    uint64_t trimmed_ms;           /* when spare memory was given back last */
    bool draining;                 /* clients are sent away, and who comes is refused */
    bool stopping;
    unsigned settled_turns; /* since nothing of any shard is on its way to other nodes any more */
};

_Static_assert(offsetof(struct broker, conns) == 0, "conn.c finds the lists through shard->broker");

static inline struct broker *broker_of(const struct conn *conn)
{
    return conn->shard->broker;
}

static inline uint64_t broker_hash(const struct broker *b, struct slice s)
{
    return hash_keyed(&b->node->key, s);
}

/* Home shard of a client id, a retained topic or a share by its hash. */
static inline unsigned broker_home(const struct broker *b, uint64_t hash)
{
    return group_of(hash) % b->shard->count;
}

static inline struct group *broker_group(struct broker *b, const struct session *session)
{
    return &b->groups[session->group];
}

static inline void broker_metric(struct broker *b, enum metric metric, int64_t n)
{
    metric_add(b->shard->metrics, metric, n);
}

/* A packet leaves for a client. */
static inline void broker_sent(struct broker *b, enum mqtt_type type)
{
    metric_inc(b->shard->metrics, METRIC_PACKETS_SENT);
    metric_inc_at(b->shard->metrics, METRIC_CELL_SENT_BY_PACKET, (unsigned)type);
}

/* Post what another shard waits for. It has room unless everything is lost already (mail_post_answer): then it is
 * better to be started anew than to be stuck for ever. */
void broker_answer(struct broker *b, unsigned shard, const struct mail *mail);

/* Apply a command to the group of its session at the time of this turn, and log it if the session is durable. */
void broker_apply(struct broker *b, struct command *command, struct outcome *ret_outcome);

/* Build a shard's tables before its thread starts. Returns 0 or -ENOMEM, and then broker_deinit takes the half-made
 * one. */
int broker_init(struct broker *b, struct node_tables *node, unsigned shard, unsigned shard_count);

/* After all threads have ended and the mail has been discarded: first broker_release for each, for tables of one may
 * point into another's, then broker_deinit. */
void broker_release(struct broker *b);
void broker_deinit(struct broker *b);

/* What a shard calls: node.c hands it over. */
extern const struct shard_handler broker_shard_handler;

#endif
