#include "broker/group/snapshot.h"

#include <errno.h>
#include <stdlib.h>

enum { SESSION_ATTACHED = 1, SESSION_QUEUE = 2, ENTRY_RETAIN = 4, ENTRY_SENT_BEFORE = 8 };

/* ---- keys ---- */

static uint8_t *put_u64(uint8_t *at, uint64_t value)
{
    for (int shift = 56; shift >= 0; shift -= 8) {
        *at++ = (uint8_t)(value >> shift);
    }
    return at;
}

struct slice snapshot_key_group(uint8_t *key, uint16_t group, enum snapshot_kind kind)
{
    key[0] = (uint8_t)(group >> 8);
    key[1] = (uint8_t)group;
    key[2] = (uint8_t)kind;
    return slice_of(key, 3);
}

struct slice snapshot_key_session(uint8_t *key, uint16_t group, uint64_t uid)
{
    snapshot_key_group(key, group, SNAPSHOT_SESSION);
    return slice_of(key, (size_t)(put_u64(key + 3, uid) - key));
}

struct slice snapshot_key_queue(uint8_t *key, uint16_t group, uint64_t uid, uint64_t number)
{
    snapshot_key_group(key, group, SNAPSHOT_QUEUE);
    return slice_of(key, (size_t)(put_u64(put_u64(key + 3, uid), number) - key));
}

struct slice snapshot_key_retained(uint8_t *key, uint16_t group, const struct hash_key *hash_key, struct slice topic)
{
    struct hash_key other = {~hash_key->k0, ~hash_key->k1};

    snapshot_key_group(key, group, SNAPSHOT_RETAINED);
    uint8_t *end = put_u64(put_u64(key + 3, hash_keyed(hash_key, topic)), hash_keyed(&other, topic));
    return slice_of(key, (size_t)(end - key));
}

int snapshot_get_number(struct slice key, uint64_t *ret_number)
{
    if (key.len != SNAPSHOT_KEY_MAX || key.ptr[2] != SNAPSHOT_QUEUE) {
        return -EBADMSG;
    }
    struct cursor c = cursor_at(slice_drop(key, 11));
    *ret_number = cursor_u64(&c);
    return 0;
}

/* ---- sessions ---- */

static void put_queue(struct buf *b, const struct session *s)
{
    const struct queue *q = s->queue;
    uint64_t sent = q->resend_below;

    if (q->sent > sent) {
        sent = q->sent;
    }
    if (s->front && q->tail > sent) { /* it goes on sending after this has been written */
        sent = q->tail;
    }
    buf_u64(b, q->head);
    buf_u64(b, q->tail);
    buf_u64(b, q->bytes);
    buf_u64(b, sent);
    buf_u32(b, q->waiting);
    buf_u32(b, (uint32_t)(queue_count(q) - q->waiting));
}

void snapshot_put_session(struct buf *b, const struct session *s)
{
    buf_u8(b, SNAPSHOT_VERSION);
    buf_u8(b, (uint8_t)((s->front || s->attached_before ? SESSION_ATTACHED : 0) | (s->queue ? SESSION_QUEUE : 0)));
    buf_u64(b, s->uid);
    buf_string(b, session_client_id(s));
    buf_u32(b, s->expiry_s);
    buf_u64(b, s->expires_at_ms);
    buf_u64(b, s->due_index == SESSION_NOT_DUE ? UINT64_MAX : s->due_ms);
    buf_u16(b, s->receive_max);
    record_put_principal(b, s->principal);
    record_put_will(b, s->will);
    if (s->queue) {
        put_queue(b, s);
    }
    buf_u32(b, s->qos2.count);
    for (uint32_t i = 0; s->qos2.slots && i <= s->qos2.mask; i++) {
        if (s->qos2.slots[i]) {
            buf_u16(b, s->qos2.slots[i]);
        }
    }
    uint32_t shares = 0;
    for (const struct list *at = s->shares.next; at != &s->shares; at = at->next) {
        shares++;
    }
    buf_u32(b, shares);
    for (const struct list *at = s->shares.next; at != &s->shares; at = at->next) {
        const struct session_share *share = CONTAINER_OF(at, const struct session_share, in_session);
        buf_string(b, session_share_name(share));
        buf_string(b, session_share_filter(share));
        record_put_options(b, &share->options);
    }
    buf_u32(b, s->subscription_count - shares);
    for (const struct list *at = s->subscriptions.next; at != &s->subscriptions; at = at->next) {
        const struct subscription *sub = CONTAINER_OF(at, const struct subscription, in_owner);
        buf_string(b, subscription_filter(sub));
        record_put_options(b, &sub->options);
    }
}

int snapshot_next_subscription(struct cursor *c, struct slice *ret_filter, struct subscription_options *ret_options)
{
    *ret_filter = cursor_binary(c);
    return ret_filter->len == 0 ? -EBADMSG : record_get_options(c, ret_options);
}

int snapshot_next_share(struct cursor *c, struct slice *ret_name, struct slice *ret_filter,
                        struct subscription_options *ret_options)
{
    *ret_name = cursor_binary(c);
    *ret_filter = cursor_binary(c);
    return ret_filter->len == 0 ? -EBADMSG : record_get_options(c, ret_options);
}

/* The lists at the end of the row: seen through once, so that their ends are known. */
static int get_lists(struct cursor *c, struct snapshot_session *s)
{
    struct slice name, filter;
    struct subscription_options options;
    int rc = 0;

    s->qos2_count = cursor_u32(c);
    s->qos2 = cursor_take(c, (size_t)s->qos2_count * 2);
    s->share_count = cursor_u32(c);
    s->shares = *c;
    for (uint32_t i = 0; i < s->share_count && rc == 0; i++) {
        rc = snapshot_next_share(c, &name, &filter, &options);
    }
    s->subscription_count = rc ? 0 : cursor_u32(c);
    s->subscriptions = *c;
    for (uint32_t i = 0; i < s->subscription_count && rc == 0; i++) {
        rc = snapshot_next_subscription(c, &filter, &options);
    }
    return rc ? rc : c->failed || cursor_left(c) > 0 ? -EBADMSG : 0;
}

static int get_queue(struct cursor *c, struct snapshot_session *s)
{
    s->queue_head = cursor_u64(c);
    s->queue_tail = cursor_u64(c);
    s->queue_bytes = cursor_u64(c);
    s->queue_sent = cursor_u64(c);
    s->queue_waiting = cursor_u32(c);
    s->queue_inflight = cursor_u32(c);
    return s->queue_tail < s->queue_head ||
                   (uint64_t)s->queue_waiting + s->queue_inflight > s->queue_tail - s->queue_head
               ? -EBADMSG
               : 0;
}

int snapshot_get_session(struct slice value, const struct record_world *world, struct snapshot_session *ret_session)
{
    struct snapshot_session *s = ret_session;
    struct cursor c = cursor_at(value);

    *s = (struct snapshot_session){0};
    if (cursor_u8(&c) != SNAPSHOT_VERSION) {
        return c.failed ? -EBADMSG : -EPROTONOSUPPORT;
    }
    uint8_t flags = cursor_u8(&c);
    s->attached = flags & SESSION_ATTACHED;
    s->has_queue = flags & SESSION_QUEUE;
    s->uid = cursor_u64(&c);
    s->client_id = cursor_binary(&c);
    s->expiry_s = cursor_u32(&c);
    s->expires_at_ms = cursor_u64(&c);
    s->due_ms = cursor_u64(&c);
    s->receive_max = cursor_u16(&c);
    if (c.failed || s->client_id.len == 0 || s->uid == 0) {
        return -EBADMSG;
    }
    int rc = record_get_principal(&c, world, &s->principal);
    rc = rc ? rc : record_get_will(&c, world, &s->will);
    if (rc == 0 && s->has_queue) {
        rc = get_queue(&c, s);
    }
    rc = rc ? rc : get_lists(&c, s);
    if (rc) {
        will_free(s->will);
        principal_unref(s->principal);
        s->will = NULL;
        s->principal = NULL;
    }
    return rc;
}

/* ---- queue entries ---- */

static uint8_t version_of(const struct message *m)
{
    return m && m->stamped ? SNAPSHOT_VERSION_STAMPED : SNAPSHOT_VERSION;
}

/* Whether a row begins with a version that its reader knows. */
static bool known(struct cursor *c)
{
    uint8_t version = cursor_u8(c);
    return version == SNAPSHOT_VERSION || version == SNAPSHOT_VERSION_STAMPED;
}

void snapshot_put_entry(struct buf *b, const struct queue_entry *e)
{
    buf_u8(b, version_of(e->message));
    buf_u8(b, e->state);
    buf_u8(b, (uint8_t)(e->qos | (e->retain ? ENTRY_RETAIN : 0) | (e->sent_before ? ENTRY_SENT_BEFORE : 0)));
    buf_u64(b, e->extra ? e->extra->share : 0);
    buf_u32(b, e->extra ? e->extra->ids_len : 0);
    if (e->extra) {
        buf_put(b, slice_of(e->extra->ids, e->extra->ids_len));
    }
    if (e->message) {
        record_put_message(b, e->message);
    }
}

static int get_extra(struct cursor *c, struct queue_extra **ret_extra)
{
    uint64_t share = cursor_u64(c);
    uint32_t ids_len = cursor_u32(c);
    struct slice ids = cursor_take(c, ids_len);

    *ret_extra = NULL;
    if (c->failed) {
        return -EBADMSG;
    }
    if (share != 0 || ids_len > 0) {
        struct queue_extra *extra = malloc(sizeof(*extra) + ids_len);
        if (!extra) {
            return -ENOMEM;
        }
        extra->share = share;
        extra->ids_len = ids_len;
        if (ids_len > 0) {
            memcpy(extra->ids, ids.ptr, ids_len);
        }
        *ret_extra = extra;
    }
    return 0;
}

int snapshot_get_entry(struct slice value, const struct record_world *world, struct queue_entry *ret_entry)
{
    struct cursor c = cursor_at(value);

    *ret_entry = (struct queue_entry){0};
    if (!known(&c)) {
        return c.failed ? -EBADMSG : -EPROTONOSUPPORT;
    }
    ret_entry->state = cursor_u8(&c);
    uint8_t flags = cursor_u8(&c);
    ret_entry->qos = flags & 3;
    ret_entry->retain = flags & ENTRY_RETAIN;
    ret_entry->sent_before = flags & ENTRY_SENT_BEFORE;
    if (ret_entry->state >= QUEUE_DONE || ret_entry->qos < 1 || ret_entry->qos > 2 ||
        (ret_entry->state == QUEUE_RELEASED && ret_entry->qos != 2)) {
        return -EBADMSG;
    }
    int rc = get_extra(&c, &ret_entry->extra);
    if (rc == 0 && ret_entry->state != QUEUE_RELEASED) {
        rc = record_get_message(&c, world, &ret_entry->message);
    }
    if (rc == 0 && cursor_left(&c) > 0) {
        rc = -EBADMSG;
    }
    if (rc) {
        message_unref(ret_entry->message);
        free(ret_entry->extra);
        ret_entry->message = NULL;
        ret_entry->extra = NULL;
    }
    return rc;
}

/* ---- the rest ---- */

void snapshot_put_retained(struct buf *b, const struct message *m)
{
    buf_u8(b, version_of(m));
    record_put_message(b, m);
}

int snapshot_get_retained(struct slice value, const struct record_world *world, struct message **ret_message)
{
    struct cursor c = cursor_at(value);

    if (!known(&c)) {
        return c.failed ? -EBADMSG : -EPROTONOSUPPORT;
    }
    struct message *m = NULL;
    int rc = record_get_retained(&c, world, &m);
    if (rc || cursor_left(&c) > 0) {
        message_unref(m);
        return rc ? rc : -EBADMSG;
    }
    *ret_message = m;
    return 0;
}

void snapshot_put_applied(struct buf *b, uint64_t lsn, uint64_t digest)
{
    buf_u8(b, SNAPSHOT_VERSION);
    buf_u64(b, lsn);
    buf_u64(b, digest);
}

void snapshot_put_cluster(struct buf *b, const uint8_t id[SNAPSHOT_CLUSTER_ID])
{
    buf_u8(b, SNAPSHOT_VERSION);
    buf_put(b, slice_of(id, SNAPSHOT_CLUSTER_ID));
}

int snapshot_get_cluster(struct slice value, uint8_t ret_id[SNAPSHOT_CLUSTER_ID])
{
    struct cursor c = cursor_at(value);

    if (cursor_u8(&c) != SNAPSHOT_VERSION) {
        return c.failed ? -EBADMSG : -EPROTONOSUPPORT;
    }
    struct slice id = cursor_rest(&c);
    if (id.len != SNAPSHOT_CLUSTER_ID) {
        return -EBADMSG;
    }
    memcpy(ret_id, id.ptr, id.len);
    return 0;
}

int snapshot_get_applied(struct slice value, uint64_t *ret_lsn, uint64_t *ret_digest)
{
    struct cursor c = cursor_at(value);

    if (cursor_u8(&c) != SNAPSHOT_VERSION) {
        return c.failed ? -EBADMSG : -EPROTONOSUPPORT;
    }
    uint64_t lsn = cursor_u64(&c), digest = cursor_u64(&c);
    if (c.failed || cursor_left(&c) > 0) {
        return -EBADMSG;
    }
    *ret_lsn = lsn;
    *ret_digest = digest;
    return 0;
}
