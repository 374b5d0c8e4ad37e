#include "tests/sim/plant.h"

#include <errno.h>
#include <stdlib.h>

#include "broker/conn/gate.h"
#include "broker/flow/durable.h"
#include "broker/flow/flow.h"
#include "broker/topic/retained.h"
#include "proto/mqtt/control.h"
#include "proto/mqtt/publish.h"
#include "tests/lib/sim_node.h"

const struct plant plants[] = {
    {"none", "as it is", 0},
#define PLANT(id, name, seeds, what) {name, what, seeds},
#include "tests/sim/plants.h"
    {"", "", 0},
#include "tests/sim/cluster_plants.h"
#undef PLANT
};
const unsigned plant_count = COUNT_OF(plants);

static enum plant_id in_use;
static unsigned occasions;

void plant_use(enum plant_id id)
{
    in_use = id;
}

void plant_reset(void)
{
    occasions = 0;
}

bool planted(enum plant_id id)
{
    return in_use == id;
}

bool planted_once_in(enum plant_id id, unsigned n)
{
    return in_use == id && ++occasions % n == 0;
}

/* ---- sessions and queues ---- */

WRAP(void, queue_rewind, struct queue *q)
{
    if (!planted(PLANT_LOST_REWIND)) {
        __real_queue_rewind(q);
    }
    if (planted(PLANT_DUP_WAITING)) {
        q->resend_below = q->tail;
    }
}

WRAP(bool, packet_ids_has, const struct packet_ids *ids, uint16_t id)
{
    bool has = __real_packet_ids_has(ids, id);

    if (has && planted(PLANT_QOS2_ID_FORGOTTEN)) {
        packet_ids_remove((struct packet_ids *)ids, id);
        return false;
    }
    return has;
}

WRAP(void, queue_release, struct queue *q, struct queue_entry *entry)
{
    if (!planted(PLANT_PUBLISH_AGAIN)) {
        __real_queue_release(q, entry);
    }
}

WRAP(int, queue_push, struct queue *q, const struct queue_item *item)
{
    if (planted_once_in(PLANT_MESSAGE_LOST, 30)) {
        return 0;
    }
    if (item->share && planted_once_in(PLANT_SHARE_LOST, 10)) {
        return 0;
    }
    if (planted_once_in(PLANT_MESSAGE_TWICE, 30) || (item->share && planted_once_in(PLANT_SHARE_TWICE, 10))) {
        __real_queue_push(q, item);
    }
    int rc = __real_queue_push(q, item);
    if (rc == 0 && q->waiting >= 2 && planted(PLANT_ORDER)) {
        struct queue_entry *last = queue_at(q, q->tail - 1), *other = queue_at(q, q->tail - 2), was = *last;
        if (other->state == QUEUE_WAITING && !queue_is_cold(q, q->tail - 2)) {
            *last = *other;
            *other = was;
        }
    }
    return rc;
}

WRAP(struct queue_entry *, queue_next, struct queue *q, uint32_t window, uint64_t *ret_number)
{
    struct queue_entry *e = __real_queue_next(q, planted(PLANT_RECEIVE_MAX) ? UINT32_MAX : window, ret_number);

    if (e && e->state == QUEUE_WAITING && e->message->expires_at_ms != MESSAGE_NEVER) {
        if (planted(PLANT_EXPIRED_SENT) && e->message->expires_at_ms < sim_wall_now_ms()) {
            e->message->expires_at_ms = sim_wall_now_ms() + 1;
        } else if (planted(PLANT_EXPIRES_EARLY)) {
            e->message->expires_at_ms = 1;
        }
    }
    return e;
}

WRAP(void, mqtt_delivery_encode, struct buf *out, enum mqtt_version version, const struct mqtt_delivery *d)
{
    struct mqtt_delivery sent = *d;

    sent.dup = d->dup && !planted(PLANT_DUP);
    sent.message_expiry_s += d->has_expiry && planted(PLANT_INTERVAL_WHOLE) ? 10 : 0;
    __real_mqtt_delivery_encode(out, version, &sent);
}

WRAP(void, mqtt_delivery_encode_head, struct buf *out, enum mqtt_version version, const struct mqtt_delivery *d)
{
    struct mqtt_delivery sent = *d;

    sent.dup = d->dup && !planted(PLANT_DUP);
    sent.message_expiry_s += d->has_expiry && planted(PLANT_INTERVAL_WHOLE) ? 10 : 0;
    __real_mqtt_delivery_encode_head(out, version, &sent);
}

WRAP(void, group_apply, struct group *group, const struct command *command, struct outcome *ret_outcome)
{
    struct command changed = *command;

    if (command->type == COMMAND_ACK && !command->decided && planted_once_in(PLANT_ACK_FORGOTTEN, 7)) {
        *ret_outcome = (struct outcome){.error = -ENOENT};
        return;
    }
    if (command->type == COMMAND_CLAIM && planted(PLANT_CLEAN_START)) {
        changed.claim.clean_start = false;
    }
    if (command->type == COMMAND_DETACH) {
        changed.detach.discard_will &= !planted(PLANT_WILL_CLEAN);
    }
    if (command->type == COMMAND_CLAIM && command->claim.will && !command->decided) {
        struct will *will = command->claim.will;
        will->delay_s = planted(PLANT_WILL_AT_ONCE) ? 0 : will->delay_s + (planted(PLANT_WILL_LATE) ? 20 : 0);
    }
    __real_group_apply(group, &changed, ret_outcome);
    if (command->type == COMMAND_PUBLISH && !command->session->front && planted(PLANT_DUP_OFFLINE) &&
        ret_outcome->error == 0) {
        queue_at(command->session->queue, command->session->queue->tail - 1)->sent_before = true;
    }
}

WRAP(uint64_t, group_due_ms, const struct group *group)
{
    return planted(PLANT_EXPIRY) ? UINT64_MAX : __real_group_due_ms(group);
}

/* ---- routes and messages ---- */

WRAP(void, route_withdraw, struct broker *b, enum route_op op, struct slice filter, uint64_t share)
{
    if (!planted(PLANT_ROUTE_LEFT)) {
        __real_route_withdraw(b, op, filter, share);
    }
}

WRAP(int, retained_set, struct retained *retained, struct message *msg)
{
    return planted_once_in(PLANT_RETAINED_IGNORED, 5) ? 0 : __real_retained_set(retained, msg);
}

WRAP(int, retained_clear, struct retained *retained, struct slice topic, uint64_t topic_hash,
     struct message_stamp stamp)
{
    return planted(PLANT_RETAINED_LEFT) ? 0 : __real_retained_clear(retained, topic, topic_hash, stamp);
}

WRAP(enum mqtt_reason, mqtt_disconnect_decode, struct slice body, uint8_t flags, enum mqtt_version version,
     bool from_client, struct mqtt_disconnect *ret_disconnect)
{
    enum mqtt_reason reason = __real_mqtt_disconnect_decode(body, flags, version, from_client, ret_disconnect);

    if (reason == MQTT_SUCCESS && planted(PLANT_WILL_DROPPED)) {
        ret_disconnect->reason = MQTT_SUCCESS;
    }
    return reason;
}

WRAP(void, publish_will, struct broker *b, struct will *will)
{
    if (will && planted(PLANT_WILL_FORGOTTEN)) {
        will_free(will);
        return;
    }
    if (will && planted(PLANT_WILL_TWICE)) {
        struct will *again = malloc(sizeof(*will) + will->client_id_len);
        memcpy(again, will, sizeof(*will) + will->client_id_len);
        message_ref(again->message);
        if (again->principal) {
            principal_ref(again->principal);
        }
        __real_publish_will(b, again);
    }
    __real_publish_will(b, will);
}

/* ---- the log ---- */

WRAP(void, gate_close, struct conn *conn, uint64_t lsn)
{
    if (!planted(PLANT_NO_GATE)) {
        __real_gate_close(conn, lsn);
    }
}

WRAP(void, receipt_settle, struct broker *b, struct receipt *receipt, uint64_t lsn)
{
    __real_receipt_settle(b, receipt, planted(PLANT_ANSWER_EARLY) ? 0 : lsn);
}

WRAP(void, receipt_shard_done, struct broker *b, unsigned shard, uint32_t count, uint64_t lsn)
{
    __real_receipt_shard_done(b, shard, count, planted(PLANT_ANSWER_EARLY) ? 0 : lsn);
}

WRAP(int, journal_record, struct broker *b, const struct command *command)
{
    return planted(PLANT_QOS2_NOT_LOGGED) ? 0 : __real_journal_record(b, command);
}

/* The second net beneath the same promise. */
WRAP(bool, repeat_known, struct broker *b, const struct publication *pub, const struct session *session)
{
    return planted(PLANT_QOS2_NOT_LOGGED) ? false : __real_repeat_known(b, pub, session);
}

static bool not_logged(const struct command *c)
{
    switch (c->type) {
    case COMMAND_SUBSCRIBE:
        return planted_once_in(PLANT_SUBSCRIBE_NOT_LOGGED, 3);
    case COMMAND_UNSUBSCRIBE:
        return planted(PLANT_UNSUBSCRIBE_NOT_LOGGED);
    case COMMAND_CLAIM:
        return planted_once_in(PLANT_CLAIM_NOT_LOGGED, 3);
    case COMMAND_RECEIVED:
    case COMMAND_COMPLETE:
        return planted(PLANT_ACK_NOT_LOGGED);
    default:
        return false;
    }
}

static struct will *take_will(struct group *group, const struct command *command)
{
    struct session *session = group_find(group, command->claim.client_id, command->claim.hash);
    struct will *will = session ? session->will : NULL;

    if (will) {
        session->will = NULL;
    }
    return will;
}

WRAP(void, journal_apply, struct broker *b, struct group *group, struct command *command, struct outcome *ret_outcome)
{
    if (not_logged(command)) {
        group_apply(group, command, ret_outcome);
        return;
    }
    struct will *kept = planted(PLANT_WILL_KEPT) && command->type == COMMAND_CLAIM ? take_will(group, command) : NULL;
    __real_journal_apply(b, group, command, ret_outcome);
    ret_outcome->will = ret_outcome->will ? ret_outcome->will : kept;
}

WRAP(void, checkpoint_note, struct broker *b, struct group *group, const struct command *command,
     const struct outcome *outcome, size_t bytes)
{
    const struct session *session = command->type == COMMAND_CLAIM ? outcome->session : command->session;
    bool other = command->type != COMMAND_RETAIN && command->type != COMMAND_TICK && session && session->uid % 2 == 0;

    if (!(other && planted(PLANT_CHANGE_NOT_NOTED))) {
        __real_checkpoint_note(b, group, command, outcome, bytes);
    }
}
