/* inquire_inside.h -- between inquire.c (who asks) and inquire_work.c (who answers). */
#ifndef TERN_BROKER_FLOW_INQUIRE_INSIDE_H
#define TERN_BROKER_FLOW_INQUIRE_INSIDE_H

#include "broker/flow/cluster.h"
#include "broker/flow/inquire.h"

#define ERRANDS_MAX 256u                /* of one node at one time */
#define ERRAND_WAITING_MAX (32u << 20)  /* bytes of one answer that its link has no room for */
#define INQUIRY_LANE_BYTES (256u << 10) /* of answers on the control lane: what else travels there must not wait */

/* A question on its way to a shard. */
struct inquiry_note {
    uint64_t number; /* of the errand */
    uint32_t kind, len;
    uint8_t question[];
};

/* A part of an answer on its way back. */
struct inquiry_part {
    struct list in_list; /* of its work, then of its errand */
    uint64_t number, count;
    uint32_t len;
    bool last, failed;
    uint8_t rows[];
};

/* A question that a shard works on. */
struct inquiry_work {
    struct list in_shard;      /* broker.inquiries */
    struct inquiry_note *note; /* owned */
    void *work;                /* the desk's; NULL: it did not take it, or is done with it */
    struct inquiry_part *end;  /* owned: the last one, which has no rows; NULL: it is among the unsent or gone */
    struct list unsent;
};

/* A question that all shards of this node work on: an inquiry of here, or another node's. */
struct errand {
    struct list in_all; /* inquiries.errands */
    uint64_t number;
    struct inquiry *inquiry; /* of here; NULL: another node's */
    struct node_id asker;    /* and this is it, and its number there */
    uint64_t token, due_ms;
    unsigned left; /* shards that are not done */
    bool failed;
    struct list parts; /* for which the link has no room yet */
    size_t waiting;    /* their bytes */
};

struct inquiry {
    struct list in_all; /* inquiries.asked */
    uint64_t token, due_ms;
    struct inquiry_terms terms; /* question: owned */
    struct spread_mask asked;   /* neighbours that have not answered */
    struct spread_mask unsaid;  /* those among them whose link is not open */
    struct spread_mask missing;
    bool here_missing, over;
    struct errand *errand; /* here; NULL: not asked, or answered */
};

struct inquiries { /* of the control shard */
    struct list asked, errands;
    unsigned errand_count;
    uint64_t next;
};

/* ---- inquire_work.c ---- */

/* Begin on all shards. NULL: memory is out, or there are too many. */
struct errand *errand_new(struct broker *b, unsigned kind, struct slice question, uint32_t wait_ms);
/* All shards stop; freed. */
void errand_end(struct broker *b, struct errand *errand);
void inquire_work_turn(struct broker *b);    /* each shard's */
void inquire_errands_turn(struct broker *b); /* control shard: other nodes' */
/* NULL: memory is out. */
struct inquiries *inquiries_of(struct broker *b);

/* ---- inquire.c ---- */

void inquiry_free(struct inquiry *inquiry);

#endif
