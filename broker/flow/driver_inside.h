/* driver_inside.h -- between driver.c (SWIM's hands) and enter.c (how this node gets in). */
#ifndef TERN_BROKER_FLOW_DRIVER_INSIDE_H
#define TERN_BROKER_FLOW_DRIVER_INSIDE_H

#include "broker/flow/driver.h"
#include "cluster/bootstrap.h"

enum enter_stage {
    ENTER_BEGUN,   /* the addresses of the seeds have not been found yet */
    ENTER_ASKING,  /* it asks them whether somebody lives under its node id. Nobody is to hear of it so far */
    ENTER_SEEKING, /* it has no cluster id */
    ENTER_STORING, /* and this one is being written */
    ENTER_DONE,
};

struct entry {
    enum enter_stage stage;
    struct seed_list *seeds; /* owned: the last that were found; NULL: not yet */
    uint64_t due_ms;
    /* ASKING */
    uint32_t question;         /* number of the last one */
    unsigned asked, denied;    /* seeds; those that say that nobody answers */
    bool refused, refused_now; /* somebody does: ever, in answer to the last question */
    /* SEEKING, STORING */
    struct bootstrap bootstrap;
    unsigned told_seen; /* what the log has */
    bool founding;      /* the id is made here */
    uint8_t id[MEMBER_CLUSTER_ID_SIZE];
};

#define FOREIGN_MAX 16u /* nodes of other clusters that are remembered, so that each is named once */

struct driver {
    struct broker *broker;
    struct swim *swim;
    struct seal *seal;
    struct io_datagram socket;
    struct timer timer;
    struct buf out; /* scratch */
    uint64_t push_pull_ms;
    struct entry entry;
    struct node_id foreign[FOREIGN_MAX];
    unsigned foreign_next;
    bool draining; /* and the others were told */
    bool told;     /* by another node, of all that it knows */
};

static inline struct driver *driver_of(const struct broker *b)
{
    return b->node->cluster->driver;
}

/* ---- driver.c ---- */

void driver_send(struct driver *d, const struct member_address *to, struct slice plain);
void driver_rearm(struct driver *d);
/* This node's record, as it is now. */
void driver_self(const struct broker *b, struct member *ret_self);
/* Members count from now on, or no more: this node belongs to a cluster. */
void driver_count_all(struct driver *d);

/* ---- enter.c ---- */

/* Other addresses of seeds: taken over. */
void enter_seeds(struct driver *d, struct seed_list *seeds);
/* A datagram while this node is not yet to be heard of: whether it is, and SWIM is not to have it. */
bool enter_received(struct driver *d, const struct member_address *from, struct slice plain);
/* A member has changed, or the time has come. */
void enter_step(struct driver *d);
/* So many nodes found a cluster. The seeds have been found. */
unsigned enter_expected(const struct driver *d);
void enter_deinit(struct driver *d);

#endif
