/* group_restore.c -- sessions as the rows of the state say. */
#include <errno.h>
#include <stdlib.h>

#include "broker/group/group.h"
#include "broker/group/snapshot.h"

static int restore_queue(struct session *s, const struct snapshot_session *row)
{
    if (!row->has_queue) {
        return 0;
    }
    s->queue = queue_new();
    if (!s->queue) {
        return -ENOMEM;
    }
    return queue_restore(s->queue, row->queue_head, row->queue_tail, row->queue_waiting, row->queue_bytes,
                         row->queue_sent);
}

static int restore_subscriptions(struct group *g, struct session *s, const struct snapshot_session *row)
{
    struct cursor at = row->subscriptions;

    for (uint32_t i = 0; i < row->subscription_count; i++) {
        struct command c = {.type = COMMAND_SUBSCRIBE, .session = s, .decided = &(struct decided){0}};
        struct outcome out;
        int rc = snapshot_next_subscription(&at, &c.subscribe.filter, &c.subscribe.options);
        if (rc == 0) {
            group_apply(g, &c, &out);
            rc = out.error;
        }
        if (rc) {
            return rc;
        }
    }
    at = row->shares;
    for (uint32_t i = 0; i < row->share_count; i++) {
        struct command c = {.type = COMMAND_SHARE_JOIN, .session = s, .decided = &(struct decided){0}};
        struct outcome out;
        int rc = snapshot_next_share(&at, &c.share.name, &c.share.filter, &c.share.options);
        if (rc == 0) {
            group_apply(g, &c, &out);
            rc = out.error;
        }
        if (rc) {
            return rc;
        }
    }
    return 0;
}

/* Everything but its place in the group's tables. */
static int restore_rest(struct group *g, struct session *s, struct snapshot_session *row)
{
    struct cursor ids = cursor_at(row->qos2);
    int rc = restore_queue(s, row);

    for (uint32_t i = 0; i < row->qos2_count && rc == 0; i++) {
        uint16_t id = cursor_u16(&ids);
        rc = id == 0 ? -EBADMSG : packet_ids_has(&s->qos2, id) ? 0 : packet_ids_add(&s->qos2, id);
    }
    rc = rc ? rc : restore_subscriptions(g, s, row);
    if (rc == 0 && row->due_ms < row->expires_at_ms && !s->will) { /* due for what it does not have */
        rc = -EBADMSG;
    }
    if (rc) {
        return rc;
    }
    s->expiry_s = row->expiry_s;
    s->expires_at_ms = row->expires_at_ms;
    s->receive_max = row->receive_max;
    s->attached_before = row->attached;
    if (row->due_ms != UINT64_MAX) {
        group_due_set(g, s, row->due_ms);
    }
    return 0;
}

int group_restore(struct group *g, const struct hash_key *key, struct snapshot_session *row,
                  struct session **ret_session)
{
    uint64_t hash = hash_keyed(key, row->client_id);
    struct session *s = group_find(g, row->client_id, hash) ? NULL : session_new(row->client_id, hash, row->uid);

    if (!s) {
        return group_find(g, row->client_id, hash) ? -EBADMSG : -ENOMEM;
    }
    s->group = g->id;
    s->durable = true;
    s->stored = calloc(1, sizeof(*s->stored));
    if (!s->stored || group_due_reserve(g, g->sessions.count + 1) || map_add(&g->sessions, hash, s)) {
        session_free(s);
        return -ENOMEM;
    }
    list_init(&s->stored->in_group);
    s->stored->uid = s->uid;
    atomic_fetch_add(&g->context->session_quota->count, 1);
    s->will = row->will;
    s->principal = row->principal;
    row->will = NULL;
    row->principal = NULL;
    *ret_session = s; /* also when the rest of it cannot be had: the caller decides */
    return restore_rest(g, s, row);
}
