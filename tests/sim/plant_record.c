/* Bugs of those who read what was written: one field of a record or a row is lost, as if it had never been encoded. */
#include "broker/group/record.h"
#include "broker/group/snapshot.h"
#include "tests/sim/plant.h"

/* ---- the log ---- */

static void lose_from_record(struct record *rec)
{
    struct command *c = &rec->command;

    if (c->type == COMMAND_PUBLISH && planted(PLANT_LOG_QOS)) {
        c->publish.qos = 1;
    } else if (c->type == COMMAND_PUBLISH && planted(PLANT_LOG_INTERVAL)) {
        c->publish.message->expires_at_ms = MESSAGE_NEVER;
    } else if (c->type == COMMAND_SUBSCRIBE && planted(PLANT_LOG_SUBSCRIPTION)) {
        c->subscribe.options.qos = 0;
    } else if (c->type == COMMAND_CLAIM && planted(PLANT_LOG_EXPIRY)) {
        c->claim.expiry_s = 0;
    } else if (c->type == COMMAND_CLAIM && planted(PLANT_LOG_WILL)) {
        will_free(c->claim.will);
        c->claim.will = NULL;
    } else if (c->type == COMMAND_CLAIM && c->claim.will && planted(PLANT_LOG_WILL_DELAY)) {
        c->claim.will->delay_s = 0;
    } else if (c->type == COMMAND_DETACH && planted(PLANT_LOG_SENT)) {
        rec->decided.sent = 0;
    }
}

WRAP(int, record_next, struct record_reader *r, struct record *ret_record)
{
    int more = __real_record_next(r, ret_record);

    if (more > 0) {
        lose_from_record(ret_record);
    }
    return more;
}

/* ---- the state ---- */

static void lose_from_session(struct snapshot_session *s)
{
    if (planted(PLANT_STATE_WILL)) {
        will_free(s->will);
        s->will = NULL;
    }
    if (planted(PLANT_STATE_QOS2)) {
        s->qos2_count = 0;
    }
    if (planted(PLANT_STATE_DUE)) {
        s->due_ms = UINT64_MAX;
    }
    if (planted(PLANT_STATE_SENT)) {
        s->queue_sent = 0;
    }
    if (planted(PLANT_STATE_ATTACHED)) {
        s->attached = false;
    }
}

WRAP(int, snapshot_get_session, struct slice value, const struct record_world *world,
     struct snapshot_session *ret_session)
{
    int rc = __real_snapshot_get_session(value, world, ret_session);

    if (rc == 0) {
        lose_from_session(ret_session);
    }
    return rc;
}

WRAP(int, snapshot_next_subscription, struct cursor *c, struct slice *ret_filter,
     struct subscription_options *ret_options)
{
    int rc = __real_snapshot_next_subscription(c, ret_filter, ret_options);

    if (rc == 0 && planted(PLANT_STATE_SUBSCRIPTION)) {
        ret_options->qos = 0;
    }
    return rc;
}

WRAP(int, snapshot_get_entry, struct slice value, const struct record_world *world, struct queue_entry *ret_entry)
{
    int rc = __real_snapshot_get_entry(value, world, ret_entry);

    if (rc == 0 && ret_entry->state != QUEUE_RELEASED && planted(PLANT_STATE_QOS)) {
        ret_entry->qos = 1;
    }
    if (rc == 0 && ret_entry->state == QUEUE_SENT && planted(PLANT_STATE_SENT)) {
        ret_entry->state = QUEUE_WAITING;
        ret_entry->sent_before = false;
    }
    return rc;
}
