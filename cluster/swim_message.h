/* swim_message.h -- the plain text of SWIM's datagrams and of its whole table: bytes to structs and back.
 *
 *     datagram  version 1 | kind 1 | sender 16 | its boot 8 | its incarnation 4 | seq 4 | subject 16 | rumours
 *     table     version 1 | rumours
 *     rumour    size 1 | the fields of struct member in their order, numbers big-endian, the address in 4 or 16 bytes,
 *               the name behind one byte of size | SUSPECT, DEAD: accuser 16 | DEAD, LEFT: gone_s 4
 *
 * The size of a rumour lets a later version append fields: what stands behind the known ones is passed over. Each
 * field is checked here, so that who hears a rumour has only to decide whether to believe it. */
#ifndef TERN_CLUSTER_SWIM_MESSAGE_H
#define TERN_CLUSTER_SWIM_MESSAGE_H

#include "cluster/member.h"
#include "proto/base/buf.h"

#define SWIM_VERSION 1
#define SWIM_DATAGRAM_MAX 1200 /* and the seal, and the headers of IP: one packet on any road */
#define SWIM_RUMOUR_MAX 256    /* bytes, its size included */
#define SWIM_TABLE_MAX (1 + 256 * SWIM_RUMOUR_MAX)

enum swim_kind {
    SWIM_PING = 1, /* subject, are you there? seq names the question */
    SWIM_HELLO,    /* a ping that begins with the sender's own rumour and wants the receiver's; subject may be zero */
    SWIM_ACK,      /* subject is there, to the question seq */
    SWIM_ASK,      /* ping subject for me */
    SWIM_NACK,     /* subject did not answer me in time; but I am here */
    SWIM_GOSSIP    /* rumours only */
};

struct swim_message {
    enum swim_kind kind;
    struct node_id sender;
    uint64_t boot;
    uint32_t incarnation;
    uint32_t seq;
    struct node_id subject;
    struct slice rumours; /* borrowed from the datagram; all of them are sound */
};

/* What one node says of another. */
struct swim_rumour {
    struct member member;
    struct node_id accuser; /* of SUSPECT and DEAD: who found it so; else zero */
    uint32_t gone_s;        /* of DEAD and LEFT: since when, so that a death is not remembered in turns for ever */
};

/* Whether every field of what a node says of itself may be sent. */
bool swim_member_valid(const struct member *m);

/* Append the head of a datagram, or a rumour. When memory is out b->failed says so. */
void swim_head_encode(const struct swim_message *m, struct buf *b);
void swim_rumour_encode(const struct swim_rumour *r, struct buf *b);

/* Returns 0, or -EBADMSG with *ret_message untouched: another version, a kind that is not known, or any field that
 * cannot be. */
int swim_message_decode(struct slice plain, struct swim_message *ret_message);

/* A whole table: 0 and its rumours, which borrow from it and are sound; or -EBADMSG. */
int swim_table_decode(struct slice table, struct slice *ret_rumours);

/* Take the first rumour off *rumours. False at the end, or when it is not sound. */
bool swim_rumour_next(struct slice *rumours, struct swim_rumour *ret_rumour);

#endif
