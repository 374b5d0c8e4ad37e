/* gate.h -- output that waits until what it tells of is durable.
 *
 * Why: a client may believe an acknowledgement only if no power cut takes it back. Changes are made at once, but a
 * packet that lets the client know of one (CONNACK, SUBACK, PUBACK, PUBREC, a delivery with its packet identifier)
 * leaves when the log is on the disk up to the number (lsn) of the batch that the change is in. Nothing may overtake it
 * either, so the whole output of the connection waits, in two parts:
 *
 *     out    what was written up to the end of a turn: waits for `lsn`
 *     next   what was written since, while out was closed: waits for `next_lsn`
 *
 * Two commits are so the most that any byte waits. A connection without durable business never has a gate. Touched by:
 * the connection's shard. */
#ifndef TERN_BROKER_CONN_GATE_H
#define TERN_BROKER_CONN_GATE_H

#include "broker/conn/conn.h"

#define GATE_THIS_TURN UINT64_MAX

struct gate {
    struct list in_pending; /* told in this turn to wait */
    struct list in_closed;  /* by lsn, the least first */
    struct conn *conn;
    uint64_t pending;  /* what this turn's output waits for besides; 0: nothing */
    bool this_turn;    /* it waits for this turn's batch */
    uint64_t wanted;   /* the greatest that any output has waited for; what is written later tells of it too */
    uint64_t lsn;      /* what conn->out waits for; 0: it is open */
    uint64_t next_lsn; /* what next waits for */
    struct outbox next;
};

/* Make the gate of a connection if it has none. 0 or -ENOMEM. */
int gate_make(struct conn *conn);

/* The output of this turn waits for this lsn, or for GATE_THIS_TURN. The connection has a gate. */
void gate_close(struct conn *conn, uint64_t lsn);

/* At the end of the turn: this is the number of its batch, or of the last one if it has none. */
void gate_end_turn(struct conn_lists *lists, uint64_t lsn);

/* All up to lsn is durable: what waited for it is sent at the end of this turn. */
void gate_open_all(struct conn_lists *lists, uint64_t lsn);

/* ---- inside the room ---- */

static inline bool gate_closed(const struct conn *conn)
{
    return conn->gate && (conn->gate->lsn != 0 || !list_empty(&conn->gate->in_pending));
}

/* Where the next packet goes. */
static inline struct outbox *gate_outbox(struct conn *conn)
{
    struct gate *g = conn->gate;
    return g && (g->lsn != 0 || g->next.bytes.len > 0 || g->next.bytes.failed) ? &g->next : &conn->out;
}

/* A packet is about to be written. */
void gate_before_packet(struct conn *conn);

/* out has been handed to the door: next takes its place. */
void gate_advance(struct conn *conn);
void gate_free(struct conn *conn);

#endif
