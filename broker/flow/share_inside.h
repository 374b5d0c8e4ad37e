/* share_inside.h -- between share.c (members at home here), share_home.c (shares at home here) and share_nodes.c (those
 * that have members on other nodes). */
#ifndef TERN_BROKER_FLOW_SHARE_INSIDE_H
#define TERN_BROKER_FLOW_SHARE_INSIDE_H

#include "broker/flow/cluster.h"
#include "broker/flow/dispatch.h"
#include "broker/flow/flow.h"

/* A join on its way to the share's home and back. */
struct share_request {
    struct subscribe_job *job;
    uint32_t index;
    unsigned from;
    int error;
    uint64_t id;
    struct share_member member;
    uint32_t name_len, filter_len;
    uint8_t text[];
};

/* One message on its way through a share, and where to answer for it. */
struct handing {
    struct share_way way;
    struct spread_mask nodes;  /* other nodes with members, as the publisher's shard has found them */
    bool nodes_known;          /* else it is still to be looked up */
    struct receipt_open *open; /* the publisher is here: answered here */
    struct receipt_ref ref;    /* else: the publisher's receipt, or NULL */
    uint8_t reason;            /* why others could not take it */
};

/* mail.n of SHARE_PUBLISH and SHARE_DELIVER. */
static inline uint32_t share_mail_number(const struct share_way *way)
{
    return (way->sole ? 1u : 0u) | (way->here ? 2u : 0u) | way->refusals << 3;
}

#define SHARE_MAIL_FRESH 4u /* SHARE_PUBLISH: b and c are the nodes with members */

static inline struct share_way share_way_of(const struct mail *mail)
{
    return (struct share_way){.share = mail->a, .sole = mail->n & 1, .here = mail->n & 2, .refusals = mail->n >> 3};
}

static inline unsigned share_home(const struct broker *b, uint64_t id)
{
    return group_of(id) % b->shard->count;
}

/* ---- share.c ---- */
struct session_share *share_find_member(struct broker *b, uint64_t share, uint64_t session);
int share_add_member(struct broker *b, struct session_share *share); /* 0 or -ENOMEM */
/* The member that was picked is at home here. */
void share_deliver(struct broker *b, uint64_t session_uid, struct publication *pub, const struct handing *h);
/* The publisher is to be told that it did not go well. */
void share_refuse(struct broker *b, const struct handing *h, enum mqtt_reason reason);
/* The publisher is not to be read until this one has caught up. */
void share_tell_slow(struct broker *b, struct receipt_ref ref);

/* ---- share_home.c ---- */
/* Pick who gets it, and hand it over. */
void share_dispatch(struct broker *b, struct publication *pub, struct handing *h);

/* ---- share_nodes.c ---- */
/* If members of another node are to have it: hand it over and return true. */
bool share_to_node(struct broker *b, const struct share_group *group, struct publication *pub, struct handing *h);
/* The last member here has left. */
void share_nodes_left(struct broker *b, uint64_t id);

#endif
