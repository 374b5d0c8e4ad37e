/* durable.h -- how what is acknowledged gets onto the disk, and back.
 *
 *     journal.c     a command that concerns a durable session or a retained message: applied, and written into the
 *                   batch of this turn; at the turn's end the batch goes to the store, and the output of all
 *                   connections that tell of it waits at their gates (conn_gate) until it is durable
 *     checkpoint.c  every 30 s, or when much has been logged: what a group has changed goes into the state, and memory
 *                   that waiting messages of absent sessions take is given up
 *     page.c        those are read back, a page at a time, when their session is served again
 *     recover.c     at the start: the state, then the log behind it
 *     repeat.c      a QoS 2 message that several shards log is known to some of them only, if the node dies meanwhile:
 *                   when it comes again, these do not take it twice
 *
 * All on the shard's thread, but for recover, which runs before there are any. Without a store all of it does nothing.
 */
#ifndef TERN_BROKER_FLOW_DURABLE_H
#define TERN_BROKER_FLOW_DURABLE_H

#include "broker/flow/broker.h"

struct publication;

/* ---- journal.c ---- */

/* Apply a command of this shard's group; log it if it is durable. session: whose it is, NULL for RETAIN and for a
 * CLAIM. Besides group_apply's errors: -ENOSPC, the disk is full and this would make the store grow. */
void journal_apply(struct broker *b, struct group *group, struct command *command, struct outcome *ret_outcome);

/* Only log it: it was applied when it was not yet certain (QOS2_IN), or is still to be. 0 or -ENOMEM. */
int journal_record(struct broker *b, const struct command *command);

/* Log that an entry of a queue is gone, which was taken out when it was given to somebody else; its session need not be
 * there any more. */
void journal_discard(struct broker *b, uint16_t group, uint64_t uid, uint64_t number);

/* Output of this connection tells of what is durable with this lsn, or of what this turn has logged (GATE_THIS_TURN).
 * Who does not own a durable session may have no gate yet: 0 or -ENOMEM. */
int journal_gate(struct broker *b, struct conn *conn, uint64_t lsn);

/* Answer another shard, at the end of this turn if this turn has logged anything; mail.a becomes the lsn that what is
 * answered is durable with, or 0: it is already, or need not be. */
void journal_answer(struct broker *b, unsigned shard, const struct mail *mail);

/* Hand over what this turn has logged so far. Returns the lsn of the last batch. */
uint64_t journal_flush(struct broker *b);

/* Number of records that this shard has written in all: who compares it before and after knows whether it logged. */
static inline uint64_t journal_records(const struct broker *b)
{
    return b->journal.records;
}

/* What this turn answers tells of what is in the log already, though it has added nothing: it waits all the same. */
static inline void journal_lean(struct broker *b)
{
    b->journal.records++;
}

/* First thing at the end of a turn: open the gates of what has become durable, take back finished tasks. */
void journal_turn_begin(struct broker *b);
/* Before output leaves: hand over the batch, close the gates. */
void journal_turn_end(struct broker *b);
void journal_deinit(struct broker *b);

/* ---- checkpoint.c ---- */

int checkpoint_init(struct broker *b); /* only with a store. 0 or -ENOMEM */

/* Before a command is applied: memory for what checkpoint_note must remember. 0 or -ENOMEM. */
int checkpoint_reserve(struct broker *b, struct group *group, const struct command *command);
/* A record of so many bytes was written for this command (already applied): note what has changed. Never fails.
 * Also called by recover for each record that it applies. */
void checkpoint_note(struct broker *b, struct group *group, const struct command *command,
                     const struct outcome *outcome, size_t bytes);
/* A session that is about to be freed: take it out of the notes, note that its rows are to be deleted. */
void checkpoint_forget(struct broker *b, struct session *session);
/* Once a turn: begin the checkpoint that is due, a group at a time. */
void checkpoint_turn(struct broker *b);
void checkpoint_finished(struct broker *b, struct store_task *task);
/* All groups, as soon as it goes: for an orderly stop and for tests. */
void checkpoint_hurry(struct broker *b);
void checkpoint_deinit(struct broker *b);

/* ---- page.c ---- */

/* The session's queue wants a page: have it read, unless that is under way. deliver_pump goes on when it is there. */
void page_want(struct broker *b, struct session *session);
void page_finished(struct broker *b, struct store_task *task);
void page_forget(struct session *session); /* it ends */
/* Put the rows of a finished STORE_READ into the session's queue. 0; -ENOMEM or the task's error, nothing changed. */
int page_load(const struct store_task *task, struct session *session, const struct record_world *world);

/* ---- repeat.c ---- */

/* A QoS 2 message of a durable publisher is in this session's queue, says the log. Until the publisher's own shard has
 * logged that it is taken (repeat_taken) it may come again. 0 or -ENOMEM. Both only while recovering. */
int repeat_note(struct broker *b, const struct message *message, const struct session *session);
void repeat_taken(struct broker *b, uint64_t publisher, uint16_t packet_id);
/* Whether the session has had this message before the node was started; asked once for each. */
bool repeat_known(struct broker *b, const struct publication *pub, const struct session *session);
void repeat_deinit(struct broker *b);

/* ---- recover.c ---- */

/* Read node->store into the groups of all shards: sessions, subscriptions (tree, routes, shares), retained messages,
 * queues (cold), digests; then the log behind it. After broker_init of all, before the first turn, on one thread.
 * Returns 0 or a negative errno, what to do about it being in the system log. Sessions that were attached are left so
 * (session->front NULL, session->attached_before); recover_turn detaches them in the first turn of their shard. */
int recover(struct node_tables *node, struct broker *const *brokers, unsigned count);
/* In the first turn of a shard, before any CLAIM, journalled as any other: DETACH for each session that was attached
 * when the node ended.
 */
void recover_turn(struct broker *b);

#endif
