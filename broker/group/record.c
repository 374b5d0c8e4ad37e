#include "broker/group/record.h"

#include <assert.h>

#include "broker/group/record_inside.h"

/* ---- parts ---- */

void record_put_message(struct buf *b, const struct message *m)
{
    buf_u64(b, m->expires_at_ms);
    buf_u64(b, m->publisher);
    buf_u8(b, (uint8_t)(m->qos | (m->retain ? MESSAGE_RETAIN : 0) | (m->stamped ? MESSAGE_STAMPED : 0)));
    buf_u16(b, m->packet_id);
    buf_u16(b, m->topic_len);
    buf_u32(b, m->properties_len);
    buf_u32(b, m->payload_len);
    buf_put(b, slice_of(m->bytes, (size_t)m->topic_len + m->properties_len + m->payload_len));
    if (m->stamped) {
        buf_u64(b, message_stamp(m).at);
        buf_u64(b, message_stamp(m).origin);
    }
}

static void put_long(struct buf *b, struct slice s)
{
    buf_u32(b, (uint32_t)s.len);
    buf_put(b, s);
}

void record_put_principal(struct buf *b, const struct principal *p)
{
    buf_u8(b, p != NULL);
    if (!p) {
        return;
    }
    buf_u32(b, p->method);
    buf_u64(b, p->expires_at_ms);
    buf_u64(b, p->credential);
    buf_put(b, slice_of(&p->address, sizeof(p->address)));
    put_long(b, p->user);
    put_long(b, slice_str(p->listener ? p->listener : ""));
    buf_u16(b, p->role_count);
    for (unsigned i = 0; i < p->role_count; i++) {
        put_long(b, p->roles[i]);
    }
    put_long(b, p->rules ? acl_claim(p->rules) : SLICE(""));
}

void record_put_will(struct buf *b, const struct will *w)
{
    buf_u8(b, w != NULL);
    if (!w) {
        return;
    }
    buf_u32(b, w->delay_s);
    buf_u8(b, w->has_expiry);
    buf_u32(b, w->expiry_s);
    put_long(b, slice_of(w->client_id, w->client_id_len));
    record_put_principal(b, w->principal);
    record_put_message(b, w->message);
}

void record_put_options(struct buf *b, const struct subscription_options *o)
{
    buf_u32(b, o->id);
    buf_u8(b, (uint8_t)(o->qos | o->retain_handling << 2 | o->no_local << 4 | o->retain_as_published << 5));
}

/* ---- how large ---- */

static size_t message_bytes(const struct message *m)
{
    return ENTRY_HEAD_BYTES + MESSAGE_HEAD_BYTES + (size_t)m->topic_len + m->properties_len + m->payload_len +
           (m->stamped ? sizeof(struct message_stamp) : 0);
}

static size_t principal_bytes(const struct principal *p)
{
    size_t bytes = 64;

    if (p) {
        bytes += p->user.len + (p->listener ? strlen(p->listener) : 0) + (p->rules ? acl_claim(p->rules).len : 0);
        for (unsigned i = 0; i < p->role_count; i++) {
            bytes += 4 + p->roles[i].len;
        }
    }
    return bytes;
}

size_t record_bytes_max(const struct command *c)
{
    size_t bytes = ENTRY_HEAD_BYTES + 64;
    const struct will *w;

    switch (c->type) {
    case COMMAND_CLAIM:
        w = c->claim.will;
        bytes += c->claim.client_id.len + principal_bytes(c->claim.principal);
        return w ? bytes + 32 + w->client_id_len + principal_bytes(w->principal) + message_bytes(w->message) : bytes;
    case COMMAND_SUBSCRIBE:
        return bytes + c->subscribe.filter.len;
    case COMMAND_UNSUBSCRIBE:
        return bytes + c->unsubscribe.len;
    case COMMAND_SHARE_JOIN:
        return bytes + c->share.name.len + c->share.filter.len;
    case COMMAND_SHARE_LEAVE:
        return bytes + c->share_leave->name_len + c->share_leave->filter_len;
    case COMMAND_PUBLISH:
        return bytes + message_bytes(c->publish.message) + c->publish.ids.len;
    case COMMAND_RETAIN:
        return bytes + message_bytes(c->retain);
    default:
        return bytes;
    }
}

/* ---- entries ---- */

void record_begin(struct record_writer *w, uint64_t wall_ms)
{
    assert(w->bytes.len == 0);
    buf_u8(&w->bytes, RECORD_VERSION_PLAIN);
    buf_u64(&w->bytes, wall_ms);
}

/* Where the length of an entry will stand. */
static uint32_t entry_begin(struct buf *b, uint8_t type)
{
    buf_u8(b, type);
    buf_u32(b, 0);
    return b->len;
}

static void entry_end(struct buf *b, uint32_t begun)
{
    uint32_t len = b->len - begun;
    uint8_t *at = b->ptr + begun - 4;

    at[0] = (uint8_t)(len >> 24);
    at[1] = (uint8_t)(len >> 16);
    at[2] = (uint8_t)(len >> 8);
    at[3] = (uint8_t)len;
}

static void put_claim(struct buf *b, const struct command_claim *claim, const struct outcome *out)
{
    buf_string(b, claim->client_id);
    buf_u8(b, (uint8_t)((claim->clean_start ? CLAIM_CLEAN : 0) | (out->session->durable ? CLAIM_DURABLE : 0) |
                        (out->ended ? CLAIM_ENDED : 0)));
    buf_u32(b, claim->expiry_s);
    buf_u16(b, claim->receive_max);
    record_put_principal(b, claim->principal);
    record_put_will(b, claim->will);
}

static void put_publish(struct buf *b, const struct queue_item *item, const struct outcome *out)
{
    buf_u64(b, out->number);
    buf_u8(b, (uint8_t)(item->qos | (item->retain ? PUBLISH_RETAINED : 0) |
                        (out->dropped != UINT64_MAX ? PUBLISH_DROPPED : 0) | (item->share ? PUBLISH_SHARED : 0)));
    if (out->dropped != UINT64_MAX) {
        buf_u64(b, out->dropped);
    }
    if (item->share) {
        buf_u64(b, item->share);
    }
    buf_put(b, item->ids); /* to the end */
}

static void put_body(struct buf *b, const struct command *c, const struct outcome *out)
{
    switch (c->type) {
    case COMMAND_CLAIM:
        put_claim(b, &c->claim, out);
        break;
    case COMMAND_DETACH:
        buf_u8(b,
               (uint8_t)((c->detach.discard_will ? DETACH_NO_WILL : 0) | (c->detach.set_expiry ? DETACH_EXPIRY : 0)));
        buf_u32(b, c->detach.expiry_s);
        buf_u64(b, out->number);
        break;
    case COMMAND_SUBSCRIBE:
        buf_string(b, c->subscribe.filter);
        record_put_options(b, &c->subscribe.options);
        break;
    case COMMAND_UNSUBSCRIBE:
        buf_string(b, c->unsubscribe);
        break;
    case COMMAND_SHARE_JOIN:
        buf_string(b, c->share.name);
        buf_string(b, c->share.filter);
        record_put_options(b, &c->share.options);
        break;
    case COMMAND_SHARE_LEAVE:
        buf_string(b, session_share_name(c->share_leave));
        buf_string(b, session_share_filter(c->share_leave));
        break;
    case COMMAND_PUBLISH:
        put_publish(b, &c->publish, out);
        break;
    case COMMAND_ACK:
    case COMMAND_REJECTED:
    case COMMAND_RECEIVED:
    case COMMAND_COMPLETE:
        buf_u64(b, out->number);
        break;
    case COMMAND_DISCARD:
        buf_u64(b, c->number);
        break;
    case COMMAND_QOS2_IN:
    case COMMAND_QOS2_RELEASE:
        buf_u16(b, c->packet_id);
        break;
    case COMMAND_TICK:
        buf_u8(b, out->ended != NULL);
        break;
    case COMMAND_RETAIN:
        record_put_message(b, c->retain);
        break;
    case COMMAND_END:
        break;
    }
}

static void note_stamp(struct record_writer *w, const struct message *m)
{
    if (m->stamped) {
        w->bytes.ptr[0] = RECORD_VERSION;
    }
}

struct slice record_put(struct record_writer *w, uint16_t group, uint64_t uid, const struct command *c,
                        const struct outcome *out)
{
    struct buf *b = &w->bytes;

    if (c->type == COMMAND_PUBLISH && c->publish.message != w->message) {
        uint32_t begun = entry_begin(b, RECORD_MESSAGE);
        record_put_message(b, c->publish.message);
        entry_end(b, begun);
        note_stamp(w, c->publish.message);
        message_unref(w->message);
        w->message = message_ref(c->publish.message);
    }
    if (c->type == COMMAND_RETAIN) {
        note_stamp(w, c->retain);
    }
    uint32_t begun = entry_begin(b, (uint8_t)c->type);
    buf_u16(b, group);
    buf_u64(b, uid);
    put_body(b, c, out);
    entry_end(b, begun);
    assert(!b->failed);
    return slice_of(b->ptr + begun, b->len - begun);
}

void record_end(struct record_writer *w)
{
    message_unref(w->message);
    w->message = NULL;
}
