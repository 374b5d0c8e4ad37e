/* What is acknowledged is on the disk first: commands into batches, batches into the store, output behind gates. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "broker/conn/gate.h"
#include "broker/flow/cluster.h"
#include "broker/flow/durable.h"
#include "proto/base/log.h"

#define BATCH_BYTES 262144u /* what is beyond goes into another one */
#define BATCH_START 4096u

/* ---- writing ---- */

/* Memory for one more entry, and for the batch that it will be in. */
static int reserve(struct journal *j, unsigned shard, size_t bytes)
{
    size_t need = j->writer.bytes.len + RECORD_HEAD_BYTES + bytes;

    if (need > STORE_BATCH_MAX || buf_grow(&j->writer.bytes, RECORD_HEAD_BYTES + bytes) != 0) {
        j->writer.bytes.failed = false; /* what is in it is whole */
        return -ENOMEM;
    }
    if (!j->batch || j->batch->capacity < need) {
        struct store_batch *batch = store_batch_new(shard, (uint32_t)(need < BATCH_START ? BATCH_START : 2 * need));
        if (!batch) {
            return -ENOMEM;
        }
        free(j->batch);
        j->batch = batch;
    }
    return 0;
}

uint64_t journal_flush(struct broker *b)
{
    struct journal *j = &b->journal;

    if (j->writer.bytes.len > 0) {
        record_end(&j->writer);
        memcpy(j->batch->bytes, j->writer.bytes.ptr, j->writer.bytes.len);
        j->batch->len = j->writer.bytes.len;
        j->lsn = store_append(b->node->store, j->batch);
        j->batch = NULL;
        j->writer.bytes.len = 0;
        if (j->writer.bytes.cap > 2 * BATCH_BYTES) { /* one large message shall not take its size for ever */
            buf_deinit(&j->writer.bytes);
        }
    }
    return j->lsn;
}

static void write_record(struct broker *b, struct group *group, uint64_t uid, const struct command *c,
                         const struct outcome *out)
{
    struct journal *j = &b->journal;
    uint32_t before = j->writer.bytes.len;

    if (before == 0) {
        record_begin(&j->writer, c->wall_ms);
    }
    group_digest(group, record_put(&j->writer, group->id, uid, c, out));
    j->records++;
    checkpoint_note(b, group, c, out, j->writer.bytes.len - before);
    if (j->writer.bytes.len > BATCH_BYTES) {
        journal_flush(b);
    }
}

/* ---- deciding ---- */

/* Whether it makes the store larger: refused when the disk is full. */
static bool grows(const struct group *group, const struct command *c)
{
    switch (c->type) {
    case COMMAND_CLAIM: /* who comes back may fetch what there is */
        return !group_find(group, c->claim.client_id, c->claim.hash);
    case COMMAND_SUBSCRIBE:
    case COMMAND_SHARE_JOIN:
    case COMMAND_PUBLISH:
        return true;
    case COMMAND_RETAIN:
        return c->retain->payload_len > 0;
    default:
        return false;
    }
}

/* Whether the outcome is to survive the node's end. */
static bool durable(struct group *group, const struct command *c)
{
    const struct session *earlier;
    struct slice topic;

    switch (c->type) {
    case COMMAND_CLAIM:
        earlier = group_find(group, c->claim.client_id, c->claim.hash);
        return c->claim.durable || (earlier && earlier->durable);
    case COMMAND_TICK:
        return group->due_count > 0 && group->due[0]->durable;
    case COMMAND_RETAIN:
        topic = message_topic(c->retain);
        return !(topic.len >= 5 && memcmp(topic.ptr, "$SYS/", 5) == 0);
    default:
        return c->session->durable;
    }
}

/* Whether it can be refused for lack of memory. If not, and it cannot be logged, it is applied all the same: the next
 * checkpoint writes what has become of it. */
static bool refusable(const struct command *c)
{
    switch (c->type) {
    case COMMAND_CLAIM:
    case COMMAND_SUBSCRIBE:
    case COMMAND_SHARE_JOIN:
    case COMMAND_PUBLISH:
    case COMMAND_RETAIN:
    case COMMAND_QOS2_IN:
        return true;
    default:
        return false;
    }
}

/* A session that is not durable has taken the place of one that was: all that the log says is that this has ended. */
static void write_replaced(struct broker *b, struct group *group, const struct command *c, const struct outcome *out)
{
    struct command end = {.type = COMMAND_END, .wall_ms = c->wall_ms, .session = out->ended};
    struct outcome ended = {.ended = out->ended};

    write_record(b, group, out->ended->uid, &end, &ended);
}

static void write_outcome(struct broker *b, struct group *group, const struct command *c, const struct outcome *out)
{
    struct session *session = c->type == COMMAND_CLAIM || c->type == COMMAND_TICK ? out->session : c->session;

    if (c->type == COMMAND_TICK && !session) { /* nothing was due */
        return;
    }
    if (c->type == COMMAND_CLAIM && !session->durable) {
        write_replaced(b, group, c, out);
        return;
    }
    write_record(b, group, c->type == COMMAND_RETAIN ? 0 : session->uid, c, out);
    if (c->type != COMMAND_RETAIN && session->front) {
        gate_close(session->front, GATE_THIS_TURN);
    }
}

void journal_apply(struct broker *b, struct group *group, struct command *command, struct outcome *ret_outcome)
{
    if (!b->node->store || !durable(group, command)) {
        group_apply(group, command, ret_outcome);
        return;
    }
    *ret_outcome = (struct outcome){0};
    if (store_status(b->node->store) != STORE_OPEN && grows(group, command)) {
        ret_outcome->error = -ENOSPC;
        return;
    }
    bool room = reserve(&b->journal, b->shard->index, record_bytes_max(command)) == 0 &&
                checkpoint_reserve(b, group, command) == 0;
    if (!room && refusable(command)) {
        ret_outcome->error = -ENOMEM;
        return;
    }
    group_apply(group, command, ret_outcome);
    if (!ret_outcome->error && room) {
        write_outcome(b, group, command, ret_outcome);
    } else if (!ret_outcome->error) {
        log_event(LOG_ERROR, "not_logged", {"reason", LOG_STR("no memory")});
        checkpoint_note(b, group, command, ret_outcome, 0);
    }
}

int journal_record(struct broker *b, const struct command *command)
{
    struct outcome outcome = {0};

    if (!b->node->store || !command->session->durable) {
        return 0;
    }
    if (reserve(&b->journal, b->shard->index, record_bytes_max(command)) != 0) {
        return -ENOMEM;
    }
    write_outcome(b, broker_group(b, command->session), command, &outcome);
    return 0;
}

void journal_discard(struct broker *b, uint16_t group, uint64_t uid, uint64_t number)
{
    struct command command = {.type = COMMAND_DISCARD, .wall_ms = b->shard->wall_ms, .number = number};
    struct outcome outcome = {0};

    if (reserve(&b->journal, b->shard->index, record_bytes_max(&command)) == 0) { /* else it may come twice */
        write_record(b, &b->groups[group], uid, &command, &outcome);
    }
}

/* ---- waiting ---- */

int journal_gate(struct broker *b, struct conn *conn, uint64_t lsn)
{
    if (lsn != GATE_THIS_TURN && lsn <= b->conns.durable) {
        return 0;
    }
    int rc = gate_make(conn);
    if (rc == 0) {
        gate_close(conn, lsn);
    }
    return rc;
}

void journal_answer(struct broker *b, unsigned shard, const struct mail *mail)
{
    struct journal *j = &b->journal;
    struct mail held = *mail;

    if (j->writer.bytes.len > 0) { /* it may tell of what has no number yet */
        held.from = (uint16_t)shard;
        buf_put(&j->answers, slice_of(&held, sizeof(held)));
        if (!j->answers.failed) {
            return;
        }
        j->answers.failed = false;
        journal_flush(b);
    }
    held.a = j->lsn > b->conns.durable ? j->lsn : 0;
    broker_answer(b, shard, &held);
}

static void post_answers(struct broker *b)
{
    struct buf *answers = &b->journal.answers;

    for (uint32_t at = 0; at < answers->len; at += sizeof(struct mail)) {
        struct mail mail;
        memcpy(&mail, answers->ptr + at, sizeof(mail));
        mail.a = b->journal.lsn;
        broker_answer(b, mail.from, &mail);
    }
    answers->len = 0;
}

/* ---- turns ---- */

static void take_back(struct broker *b)
{
    struct store_task *task = store_collect(b->node->store, b->shard->index);

    while (task) {
        struct store_task *next = task->next;
        if (task->type == STORE_READ) {
            page_finished(b, task);
        } else if (!cluster_stored(b, task)) {
            checkpoint_finished(b, task);
        }
        task = next;
    }
}

void journal_turn_begin(struct broker *b)
{
    if (!b->node->store) {
        return;
    }
    gate_open_all(&b->conns, store_durable(b->node->store));
    if (b->journal.timed_ns && b->journal.timed_lsn <= b->conns.durable) {
        metric_observe(b->shard->metrics, METRIC_HISTOGRAM_COMMIT, b->shard->now_ns - b->journal.timed_ns);
        b->journal.timed_ns = 0;
    }
    take_back(b);
}

void journal_turn_end(struct broker *b)
{
    if (!b->node->store) {
        return;
    }
    journal_flush(b);
    post_answers(b);
    gate_end_turn(&b->conns, b->journal.lsn);
    if (!list_empty(&b->conns.closed) || arrive_waits(b)) {
        store_notify(b->node->store, b->shard->index);
        if (!b->journal.timed_ns && b->journal.lsn > b->conns.durable) {
            b->journal.timed_lsn = b->journal.lsn;
            b->journal.timed_ns = b->shard->now_ns;
        }
        b->shard->busy |= store_durable(b->node->store) != b->conns.durable; /* meanwhile */
    } else {
        b->journal.timed_ns = 0; /* nobody wakes the shard for it */
    }
}

void journal_deinit(struct broker *b)
{
    record_end(&b->journal.writer);
    buf_deinit(&b->journal.writer.bytes);
    buf_deinit(&b->journal.answers);
    free(b->journal.batch);
}
