/* inquire.h -- what an operator asks: a question that runs on every shard of this node and of all others.
 *
 * Why: no shard knows all clients, and none may look into another. So a question goes to each of them by mail, and to
 * the control shards of the other nodes by a frame of their links; each shard works on it a slice a turn, beside what
 * it does for clients, and answers in parts. Nobody waits beyond a deadline; who has not answered by then is named.
 *
 *     asker (control shard) -- mail --> each shard --- parts, mail ---> asker
 *                           -- FRAME_INQUIRY --> control shard of another node -- mail --> each of its shards
 *                           <-- FRAME_INQUIRY_ANSWER, a part each --      <-- parts, mail --
 *
 * What a question means and what an answer looks like, this does not know: the desk (broker/admin) does. A node whose
 * version does not know the frames, or the kind of question, is one that has not answered. */
#ifndef TERN_BROKER_FLOW_INQUIRE_H
#define TERN_BROKER_FLOW_INQUIRE_H

#include "broker/flow/broker.h"
#include "broker/flow/rows.h"

#define INQUIRY_HERE 128u            /* the number of this node, where others have a neighbour's */
#define INQUIRY_QUESTION_MAX 262144u /* bytes */
#define INQUIRY_PART_BYTES 65536u    /* a part ends when it has so many; one row may go beyond that */
#define INQUIRY_WAIT_MS 2000u        /* for an answer */

enum inquiry_progress {
    INQUIRY_DONE,
    INQUIRY_MORE,   /* a slice in the next turn, which comes at once */
    INQUIRY_IDLE,   /* nothing now: whenever a turn ends */
    INQUIRY_FAILED, /* memory is out: the answer is not whole */
};

/* What a shard has to say: rows as rows_write writes them. */
struct inquiry_out {
    struct buf rows;
    uint64_t count; /* of what the question is about, whether it became a row or not */
};

/* The node's one, filled by broker/admin. All on the shard that works. */
struct inquiry_desk {
    /* A question of this kind has come; it is borrowed until `end`. Returns what the others are given, or NULL: the
     * kind or the question is not known, or memory is out. */
    void *(*begin)(struct broker *b, unsigned kind, struct slice question);
    /* One slice: some tens of microseconds. Stop when out->rows is above INQUIRY_PART_BYTES. */
    enum inquiry_progress (*step)(struct broker *b, void *work, struct inquiry_out *out);
    void (*end)(struct broker *b, void *work);
};

/* Parts of an answer, and that it is over. On the control shard. */
struct inquiry_terms {
    unsigned kind;
    struct slice question; /* copied */
    uint32_t wait_ms;
    const char *node; /* the name of the only one to be asked; NULL: all */
    bool here;        /* this node alone */
    void *context;
    /* from: INQUIRY_HERE or a neighbour. rows: to be read with rows_read. */
    void (*part)(void *context, unsigned from, uint64_t count, struct slice rows);
    /* All have answered, or time is over. The inquiry is freed when this returns; inquire_missing can be asked. */
    void (*done)(void *context);
};

struct inquiry;

/* Ask. Parts come in later turns. NULL when memory is out, or when no node has that name (*ret_error -ENOENT). */
struct inquiry *inquire(struct broker *b, const struct inquiry_terms *terms, int *ret_error);
/* The answer is of no interest any more: no further call. */
void inquire_cancel(struct broker *b, struct inquiry *inquiry);
/* The name of a node that has not answered wholly; *at is 0 for the first. NULL: no more. */
const char *inquire_missing(const struct broker *b, const struct inquiry *inquiry, unsigned *at);
/* By number, as in a part or a row; "" if it is gone. */
const char *inquire_node_name(const struct broker *b, unsigned from);

/* ---- for the others of this room ---- */
struct peer_link;
void inquire_mail(struct broker *b, const struct mail *mail);
void inquire_turn(struct broker *b); /* at the end of a turn */
int inquire_take(struct peer_link *link, struct slice body);
int inquire_taken(struct peer_link *link, struct slice body);
void inquire_neighbour_gone(struct broker *b, unsigned neighbour);
void inquire_stop(struct broker *b);

#endif
