/* queue.h -- the QoS 1 and 2 messages on their way to one client: in flight first, waiting behind them.
 *
 * Why one structure for window and queue: both are one sequence. Each message gets the next sequence number; the packet
 * identifier follows from it (1 + number % 65535), so that it survives whatever the sequence survives, and an
 * acknowledgement finds its entry without a search. A resumed session goes through the same ring from its head and so
 * resends in the order of first sending [MQTT-4.6.0-1].
 *
 *      head                sent              tail
 *       |  SENT DONE SENT   |  WAITING ...    |          DONE in front of head is dropped at once
 *
 * Numbers repeat their identifier after 65,535: one whose identifier is open when it is given out is passed over
 * [MQTT-2.2.1-4]. A client that leaves a message open for ever while four times as many go by, or 65,535 behind it
 * waiting, gets no more until it answers. Touched by: the session that owns it. No IO, no clock but the caller's.
 *
 * A durable session's queue is also in the store, one row an entry, as of the last checkpoint. Entries that wait there
 * and whose session is away need not be in memory: they are cold, a gap in the ring, [cold, cold_end), always WAITING.
 *
 *      head         sent        cold ....... cold_end        tail
 *       | in flight  | waiting   |  rows only  | came since   |     in memory: head..cold and cold_end..tail
 *
 * When the gap is next to be sent a page of it is read (flow/page) and put in at `cold`. To find an entry costs the
 * same with a gap or without. */
#ifndef TERN_BROKER_SESSION_QUEUE_H
#define TERN_BROKER_SESSION_QUEUE_H

#include "broker/topic/message.h"

#define QUEUE_IDS 65535u
#define QUEUE_SPAN_MAX (4 * QUEUE_IDS)

enum queue_state {
    QUEUE_WAITING,  /* never sent */
    QUEUE_SENT,     /* PUBLISH sent: PUBACK or PUBREC is due */
    QUEUE_RELEASED, /* PUBREC came, PUBREL sent: PUBCOMP is due. The message is gone */
    QUEUE_DONE,
};

/* What only some deliveries carry. Owned by the entry. */
struct queue_extra {
    uint64_t share; /* id of the share that picked this session; 0: none */
    uint32_t ids_len;
    uint8_t ids[]; /* encoded Subscription Identifier properties */
};

struct queue_entry {
    struct message *message; /* counted; NULL when RELEASED or DONE */
    struct queue_extra *extra;
    uint8_t state; /* enum queue_state */
    uint8_t qos;   /* of this delivery: 1 or 2 */
    bool retain;
    bool sent_before; /* a further sending is a re-delivery: DUP [MQTT-3.3.1-1] */
    bool changed;     /* its row in the store, if it has one, is not as it is here */
};

struct queue {
    struct queue_entry *ring; /* owned */
    uint32_t mask;
    uint32_t inflight; /* entries SENT or RELEASED */
    uint32_t waiting;  /* entries from `sent` to `tail` that are WAITING */
    uint64_t head, sent, tail;
    uint64_t bytes;                    /* message_size of all entries that hold a message, cold ones included */
    uint64_t cold, cold_end;           /* equal: nothing is cold */
    uint64_t cold_bytes;               /* those of `bytes` that are cold: the rest is exact, these may be a guess */
    uint32_t cold_waiting;             /* those of `waiting` that are cold: the same */
    uint64_t stored_head, stored_tail; /* entries that may have a row in the store; equal: none */
    uint64_t resend_below;             /* those with a lower number may have been sent before the node was started */
};

/* What is to be put in: everything is borrowed, the queue takes its own reference and copies. */
struct queue_item {
    struct message *message;
    struct slice ids;
    uint64_t share;
    uint8_t qos;
    bool retain;
};

struct queue *queue_new(void);        /* NULL when memory is out */
void queue_free(struct queue *queue); /* drops all references; NULL is allowed */

/* An entry that is not cold. Each stands in the ring by its number; those in front of the gap follow upon each other up
 * to its end, so that what comes in behind never moves. */
static inline struct queue_entry *queue_at(const struct queue *q, uint64_t number)
{
    return &q->ring[(number < q->cold ? number + (q->cold_end - q->cold) : number) & q->mask];
}

static inline bool queue_is_cold(const struct queue *q, uint64_t number)
{
    return number >= q->cold && number < q->cold_end;
}

/* message_size of a waiting entry; of a cold one what they have on average. */
uint64_t queue_entry_bytes(const struct queue *q, uint64_t number);

static inline uint16_t queue_packet_id(uint64_t number)
{
    return (uint16_t)(1 + number % QUEUE_IDS);
}

static inline bool queue_empty(const struct queue *q)
{
    return q->head == q->tail;
}

/* Entries that are not DONE. */
size_t queue_count(const struct queue *q);

/* Put an item at the end, WAITING. Returns 0 or -ENOMEM with nothing changed. */
int queue_push(struct queue *q, const struct queue_item *item);

/* The next entry to be sent and its number, or NULL if there is none, if `window` entries are in flight [MQTT-3.3.4-9],
 * or if the span of packet identifiers is used up. After a rewind it may be one that is SENT (send PUBLISH again) or
 * RELEASED (send PUBREL again). Not changed: the caller sends and calls queue_mark_sent, or gives it up with
 * queue_finish. */
struct queue_entry *queue_next(struct queue *q, uint32_t window, uint64_t *ret_number);

/* The entry that queue_next returned was sent. */
void queue_mark_sent(struct queue *q, uint64_t number);

/* The entry in flight with this packet identifier, or NULL. */
struct queue_entry *queue_find(const struct queue *q, uint16_t packet_id, uint64_t *ret_number);

/* PUBREC: the message is the client's now; only the identifier is kept. */
void queue_release(struct queue *q, struct queue_entry *entry);

/* Acknowledged, or given up: drop it and move head over what is done. */
void queue_finish(struct queue *q, uint64_t number);

/* The number of the oldest entry that was never sent; false when there is none. */
bool queue_oldest_waiting(const struct queue *q, uint64_t *ret_number);

/* A connection has ended: what was in flight is to be sent again, with the same identifiers [MQTT-4.4.0-1]. */
void queue_rewind(struct queue *q);

/* ---- from the log ---- */

/* Put an item at this number, which is not below tail; numbers passed over are DONE. 0, -ENOMEM, or -EBADMSG. */
int queue_push_at(struct queue *q, const struct queue_item *item, uint64_t number);
/* The client has answered to this number: all up to it have been sent. It is not cold. False: there is no such entry.
 */
bool queue_was_sent(struct queue *q, uint64_t number);

/* ---- in the store ---- */

/* Rows of the numbers from stored_head to head are to be deleted. Of the others: the next at or behind *io_number whose
 * row must be written (*ret_entry, not DONE) or deleted (NULL), and false when there is none; go on with
 * *io_number + 1. In between the queue is not changed. */
bool queue_next_changed(const struct queue *q, uint64_t *io_number, const struct queue_entry **ret_entry);
/* All of these have been handed to the store. Should that fail: queue_not_stored, and all rows are written, and all in
 * front of head deleted, again. */
void queue_stored(struct queue *q);
void queue_not_stored(struct queue *q);
/* Rows below `then` (a value of tail) are in the store for good: let go of the memory of those that wait there
 * unchanged. Only while nobody is connected and the queue is rewound. Returns the bytes of messages given up. */
uint64_t queue_evict(struct queue *q, uint64_t then);
/* All entries in [head, tail) are in rows: the queue as a row of the state says. The accounts of the row may
 * be off by what its entries' rows do not say yet: they come right as the entries are read. 0 or -EBADMSG. */
int queue_restore(struct queue *q, uint64_t head, uint64_t tail, uint32_t waiting, uint64_t bytes,
                  uint64_t resend_below);
/* Whether the next to be sent is cold: a page of rows from q->cold on is wanted. queue_next gives NULL then. */
bool queue_wants_page(const struct queue *q);
/* Put a page in at q->cold: entries with rising numbers below cold_end (each from a row, taken over, WAITING or in
 * whatever state it was stored), then `upto` is where the page ends; numbers without an entry are DONE. upto ==
 * cold_end ends the gap. 0 or -ENOMEM with nothing changed and nothing taken over. */
struct queue_page_entry {
    uint64_t number;
    struct queue_entry entry;
};
int queue_load(struct queue *q, struct queue_page_entry *entries, uint32_t count, uint64_t upto);

#endif
