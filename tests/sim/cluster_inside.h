/* cluster_inside.h -- a story of three to seven nodes (cluster.c), shared by its parts: what is between the nodes
 * (cluster_net.c), what goes wrong (cluster_fault.c), the clients (cluster_rover.c) and who judges them
 * (cluster_judge.c). */
#ifndef TERN_TESTS_SIM_CLUSTER_INSIDE_H
#define TERN_TESTS_SIM_CLUSTER_INSIDE_H

#include "proto/base/prng.h"
#include "tests/lib/mem_store.h"
#include "tests/lib/sim_node.h"
#include "tests/sim/world.h"

#define HOSTS_MAX 7u
#define HOST_SETTINGS 16u
#define WIRES_MAX 400u
#define DATAGRAMS_MAX 4000u
#define ROVERS_MAX 12u
#define ROVER_TOPICS 3u
#define ROVER_SHARED ROVER_TOPICS      /* the topic of the group */
#define ROVER_ALL ROVER_TOPICS         /* the filter of all topics at once */
#define ROVER_GROUP (ROVER_TOPICS + 1) /* the filter of the group */
#define ROVER_FILTERS (ROVER_TOPICS + 2)
#define ROVER_OPEN_MAX 8u
#define LETTERS_MAX 6000u
#define GHOSTS_MAX 400u
#define FAULTS_MAX 10u

/* ---- nodes ---- */

/* A node, its disk, and where it is. */
struct host {
    unsigned index;
    struct sim_node node;
    struct mem_store *disk; /* owned */
    bool up;
    bool stopping; /* in the ordinary way */
    bool frugal;   /* its disk is slow */
    unsigned shard_count;
    uint32_t life;
    int64_t skew_ms;
    uint64_t paused_until_ms, back_at_ms, look_ms;
    char texts[HOST_SETTINGS][200];
    const char *settings[HOST_SETTINGS + 1];
    /* What it thinks of each other node, as seen at the last look. */
    struct view {
        bool known;          /* it is told of filters here */
        uint64_t boot;       /* as it is known; 0: it is not */
        uint32_t slot;       /* of its filters, NO_SLOT: they are not in force here */
        uint64_t break_step; /* when they were not last */
    } views[HOSTS_MAX];
};

/* ---- between them ---- */

/* A connection between two nodes; [0] has dialled. */
struct wire {
    bool used, joined; /* joined: the other end is there */
    struct wire_end {
        unsigned host;
        struct sim_socket *socket; /* NULL: not there yet, or its node has ended */
        bool over;                 /* its node has heard of the end */
        uint64_t due_ms;           /* what it has said goes on then */
    } ends[2];
};

struct letterbag { /* a datagram on its way */
    unsigned from, to;
    uint64_t due_ms;
    struct buf bytes; /* owned */
};

/* ---- clients ---- */

/* A message. */
struct letter {
    uint8_t rover, topic, qos, host;
    bool acked, troubled;           /* troubled: a node ended, or was taken for dead, before it was acknowledged */
    uint32_t number, session;       /* of the publisher's: their order */
    uint64_t first_step, sent_step; /* sent first, and last */
    uint16_t candidates;            /* rovers who are to have it if it is acknowledged */
    bool unsure;                    /* its rover was */
    bool owed;                      /* to the group: somebody must have it */
    uint16_t takers;                /* of the group: rovers who have had it */
};

struct rover_subscription {
    enum { ROVER_NONE, ROVER_ASKED, ROVER_THERE, ROVER_LEAVING } state;
    uint8_t qos, known; /* known: bits of the nodes that have it in force */
    uint16_t packet_id;
    uint64_t step; /* SUBACK came */
};

struct rover {
    unsigned index;
    unsigned host;   /* where its session is */
    unsigned via;    /* where it has connected */
    uint8_t version; /* 4 or 5 */
    bool lasting;    /* its sessions outlive their connections */
    bool visitor;    /* its session stays where it is, and it asks other nodes for it */
    bool settled;    /* its session stays where it is, and may be a member of the group */
    bool wild, lazy;
    struct sim_socket *socket; /* NULL: not connected */
    uint32_t life;             /* of the host, then */
    struct buf in, out, late;  /* owned */
    bool welcome, leaving, clean, must_clean;
    bool unsure;                   /* an earlier clean start of its own may be heard later, and end its session */
    uint64_t welcome_ms, doubt_ms; /* doubt: until then an earlier CONNECT of its own may be heard */
    uint32_t session, last_number; /* session 0: none */
    struct {
        uint32_t letter;
        uint16_t packet_id;
        bool released;
    } open[ROVER_OPEN_MAX];
    unsigned open_count;
    uint16_t last_id;
    struct rover_subscription subscriptions[ROVER_FILTERS];
    uint8_t *taken;       /* owned; by packet identifier: QoS 2, not yet released */
    uint32_t *got, *owed; /* owned; by letter: the session in which it came, in which it must come */
    struct {
        uint32_t session, number;
    } last[ROVERS_MAX][ROVER_TOPICS][3];
};

/* A connection that its client has forgotten. */
struct ghost {
    unsigned host;
    uint32_t life;
    struct sim_socket *socket;
};

/* ---- the story ---- */

struct cluster {
    struct prng prng;
    uint64_t trace, step;
    bool verbose;
    struct world_result *result;
    int log_fd; /* what nodes write to their logs */

    struct host *hosts; /* owned */
    unsigned host_count;
    bool skewed, strict, calm;
    uint64_t trouble_step; /* a node ended, or thought otherwise of another */
    uint64_t pace_ms;

    bool cut[HOSTS_MAX][HOSTS_MAX]; /* nothing comes from the first to the second */
    uint64_t heal_ms;
    unsigned fault_steps[FAULTS_MAX]; /* one in so many steps has it; 0: none */
    unsigned drop_percent, twice_percent, refuse_percent;
    uint32_t delay_ms, datagram_delay_ms; /* the longest */
    struct wire wires[WIRES_MAX];
    struct letterbag bags[DATAGRAMS_MAX];
    unsigned bag_count;

    struct rover rovers[ROVERS_MAX];
    unsigned rover_count;
    struct letter *letters; /* owned */
    uint32_t letter_count, session_count;
    uint32_t filters_sent;
    struct ghost ghosts[GHOSTS_MAX];
    unsigned ghost_count;
};

/* ---- cluster.c ---- */

uint32_t pick(struct cluster *w, uint32_t bound); /* 0 .. bound - 1 */
static inline bool one_in(struct cluster *w, uint32_t n)
{
    return pick(w, n) == 0;
}
void note(struct cluster *w, const char *what, unsigned who, uint64_t number);
void note_bytes(struct cluster *w, const char *what, unsigned who, struct slice bytes);
void wrong(struct cluster *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
void host_start(struct cluster *w, struct host *h);
void host_end(struct cluster *w, struct host *h, bool crash);

/* ---- cluster_net.c ---- */

void net_use(struct cluster *w, struct host *h);   /* its node was just started */
void net_leave(struct cluster *w, struct host *h); /* its node is about to end */
void net_carry(struct cluster *w);                 /* what is due */
void net_reset(struct cluster *w, struct wire *wire);
void net_free(struct cluster *w);

/* ---- cluster_fault.c ---- */

void faults_choose(struct cluster *w);
void faults_run(struct cluster *w); /* each step */
void faults_end(struct cluster *w); /* all is well again */

/* ---- cluster_rover.c, cluster_hear.c ---- */

void rovers_init(struct cluster *w);
void rovers_free(struct cluster *w);
void rover_connect(struct cluster *w, struct rover *r, unsigned host);
void rover_act(struct cluster *w, struct rover *r);
void rover_publish(struct cluster *w, struct rover *r, unsigned topic, unsigned qos);
void rover_disconnect(struct cluster *w, struct rover *r);
void rover_cut(struct cluster *w, struct rover *r); /* its connection breaks */
void rovers_pump(struct cluster *w, bool whole);    /* what they say and hear */
void rovers_host_ended(struct cluster *w, unsigned host);

/* With cluster_hear.c: */
void rover_topic(char text[20], unsigned topic);
void rover_put_ack(struct buf *out, uint8_t first, uint16_t packet_id);
void rover_put_publish(struct cluster *w, struct rover *r, uint32_t letter, uint16_t packet_id, bool dup);
void rover_forget(struct rover *r); /* its session */
void rover_lose(struct rover *r);   /* its connection: it knows of it no more */

/* ---- cluster_judge.c ---- */

void judge_look(struct cluster *w); /* after each step */
void judge_sent(struct cluster *w, struct rover *r, struct letter *m);
void judge_acked(struct cluster *w, struct letter *m);
void judge_got(struct cluster *w, struct rover *r, uint32_t letter, unsigned qos);
void judge_subscribed(struct cluster *w, struct rover *r, struct rover_subscription *s);
bool judge_agree(struct cluster *w); /* whether all have the filters of all */
void judge_quiet(struct cluster *w); /* all is healed, and said */
void judge_left(struct cluster *w);  /* everybody is gone */
void judge_log(struct cluster *w);   /* at the very end: what nodes have said of each other */

#endif
