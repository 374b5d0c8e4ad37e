#include <errno.h>
#include <stdlib.h>

#include "broker/group/record.h"
#include "broker/group/record_inside.h"
#include "proto/mqtt/packet.h"

/* ---- parts ---- */

static int get_message(struct cursor *c, const struct record_world *world, struct message_stamp stamp,
                       struct message **ret_message)
{
    struct message_source source = {.stamp = stamp};

    source.expires_at_ms = cursor_u64(c);
    source.publisher = cursor_u64(c);
    uint8_t flags = cursor_u8(c);
    source.packet_id = cursor_u16(c);
    uint16_t topic_len = cursor_u16(c);
    uint32_t properties_len = cursor_u32(c);
    uint32_t payload_len = cursor_u32(c);
    source.topic = cursor_take(c, topic_len);
    source.properties = cursor_take(c, properties_len);
    source.payload = cursor_take(c, payload_len);
    if (flags & MESSAGE_STAMPED) {
        source.stamp.at = cursor_u64(c);
        source.stamp.origin = cursor_u64(c);
        if (source.stamp.at == 0 && source.stamp.origin == 0) { /* nobody writes that */
            return -EBADMSG;
        }
    }
    source.qos = flags & 3;
    source.retain = flags & MESSAGE_RETAIN;
    if (c->failed || topic_len == 0 || source.qos > 2) {
        return -EBADMSG;
    }
    source.topic_hash = hash_keyed(world->key, source.topic);
    *ret_message = message_new(&source);
    return *ret_message ? 0 : -ENOMEM;
}

int record_get_message(struct cursor *c, const struct record_world *world, struct message **ret_message)
{
    return get_message(c, world, (struct message_stamp){0}, ret_message);
}

int record_get_retained(struct cursor *c, const struct record_world *world, struct message **ret_message)
{
    return get_message(c, world, (struct message_stamp){.origin = world->origin}, ret_message);
}

static struct slice take_long(struct cursor *c)
{
    uint32_t len = cursor_u32(c);
    return cursor_take(c, len);
}

/* Names of roles as principal_new wants them: each ended by NUL. */
static int get_roles(struct cursor *c, struct buf *text, struct principal_source *source)
{
    source->role_count = cursor_u16(c);
    for (unsigned i = 0; i < source->role_count && !c->failed; i++) {
        struct slice role = take_long(c);
        if (role.len > 0 && memchr(role.ptr, 0, role.len)) {
            return -EBADMSG;
        }
        buf_put(text, role);
        buf_u8(text, 0);
    }
    return text->failed ? -ENOMEM : 0;
}

int record_get_principal(struct cursor *c, const struct record_world *world, struct principal **ret_principal)
{
    struct principal_source source = {.rates = world->rates};
    struct buf roles = {0};
    char error[200];

    *ret_principal = NULL;
    if (cursor_u8(c) == 0) {
        return c->failed ? -EBADMSG : 0;
    }
    source.method = cursor_u32(c);
    source.expires_at_ms = cursor_u64(c);
    source.credential = cursor_u64(c);
    struct slice address = cursor_take(c, sizeof(source.address));
    source.user = take_long(c);
    struct slice listener = take_long(c);
    int rc = get_roles(c, &roles, &source);
    struct slice claim = take_long(c);
    if (rc == 0 && c->failed) {
        rc = -EBADMSG;
    }
    if (rc == 0 && claim.len > 0) {
        struct acl *rules;
        rc = acl_parse_claim(claim, error, sizeof(error), &rules);
        source.rules = rc ? NULL : rules;
        rc = rc == -EINVAL ? -EBADMSG : rc;
    }
    if (rc == 0) {
        memcpy(&source.address, address.ptr, sizeof(source.address));
        source.listener = world->listener ? world->listener(world->arg, listener) : "";
        source.roles = buf_slice(&roles);
        *ret_principal = principal_new(&source);
        rc = *ret_principal ? 0 : -ENOMEM;
    }
    if (rc) {
        acl_free(source.rules);
    }
    buf_deinit(&roles);
    return rc;
}

int record_get_will(struct cursor *c, const struct record_world *world, struct will **ret_will)
{
    *ret_will = NULL;
    if (cursor_u8(c) == 0) {
        return c->failed ? -EBADMSG : 0;
    }
    uint32_t delay_s = cursor_u32(c);
    bool has_expiry = cursor_u8(c) != 0;
    uint32_t expiry_s = cursor_u32(c);
    struct slice client_id = take_long(c);
    if (c->failed) {
        return -EBADMSG;
    }
    struct will *w = calloc(1, sizeof(*w) + client_id.len);
    if (!w) {
        return -ENOMEM;
    }
    w->delay_s = delay_s;
    w->has_expiry = has_expiry;
    w->expiry_s = expiry_s;
    w->client_id_len = (uint32_t)client_id.len;
    if (client_id.len > 0) {
        memcpy(w->client_id, client_id.ptr, client_id.len);
    }
    int rc = record_get_principal(c, world, &w->principal);
    rc = rc ? rc : record_get_message(c, world, &w->message);
    if (rc) {
        will_free(w);
        return rc;
    }
    *ret_will = w;
    return 0;
}

int record_get_options(struct cursor *c, struct subscription_options *ret_options)
{
    uint32_t id = cursor_u32(c);
    uint8_t bits = cursor_u8(c);

    *ret_options = (struct subscription_options){
        .id = id,
        .qos = bits & 3,
        .retain_handling = bits >> 2 & 3,
        .no_local = bits >> 4 & 1,
        .retain_as_published = bits >> 5 & 1,
    };
    /* A Subscription Identifier is a Variable Byte Integer too (3.8.2.1.2): the encoder asserts its range. */
    bool valid = id <= MQTT_REMAINING_LENGTH_MAX && ret_options->qos <= 2 && ret_options->retain_handling <= 2;
    return c->failed || !valid || bits >> 6 ? -EBADMSG : 0;
}

/* ---- entries ---- */

int record_open(struct record_reader *r, struct slice batch, const struct record_world *world)
{
    *r = (struct record_reader){.at = cursor_at(batch), .world = world};
    uint8_t version = cursor_u8(&r->at);
    if (version == 0 || version > RECORD_VERSION) {
        return r->at.failed ? -EBADMSG : -EPROTONOSUPPORT;
    }
    r->wall_ms = cursor_u64(&r->at);
    return r->at.failed ? -EBADMSG : 0;
}

static int get_claim(struct record_reader *r, struct cursor *c, struct record *rec)
{
    struct command_claim *claim = &rec->command.claim;

    claim->client_id = cursor_binary(c);
    uint8_t flags = cursor_u8(c);
    claim->clean_start = flags & CLAIM_CLEAN;
    claim->durable = flags & CLAIM_DURABLE;
    rec->decided.ended = flags & CLAIM_ENDED;
    claim->expiry_s = cursor_u32(c);
    claim->receive_max = cursor_u16(c);
    if (c->failed || claim->client_id.len == 0) {
        return -EBADMSG;
    }
    claim->hash = hash_keyed(r->world->key, claim->client_id);
    principal_unref(r->principal);
    r->principal = NULL;
    int rc = record_get_principal(c, r->world, &r->principal);
    claim->principal = r->principal;
    return rc ? rc : record_get_will(c, r->world, &claim->will);
}

static int get_publish(struct record_reader *r, struct cursor *c, struct record *rec)
{
    struct queue_item *item = &rec->command.publish;

    rec->decided.number = cursor_u64(c);
    uint8_t flags = cursor_u8(c);
    rec->decided.dropped = flags & PUBLISH_DROPPED ? cursor_u64(c) : UINT64_MAX;
    item->share = flags & PUBLISH_SHARED ? cursor_u64(c) : 0;
    item->qos = flags & 3;
    item->retain = flags & PUBLISH_RETAINED;
    item->ids = cursor_rest(c);
    item->message = r->message;
    return r->message && (item->qos == 1 || item->qos == 2) ? 0 : -EBADMSG;
}

static int get_retain(struct record_reader *r, struct cursor *c, struct record *rec)
{
    message_unref(r->retained);
    r->retained = NULL;
    int rc = record_get_retained(c, r->world, &r->retained);
    rec->command.retain = r->retained;
    return rc;
}

static int get_body(struct record_reader *r, struct cursor *c, struct record *rec)
{
    struct command *command = &rec->command;
    uint8_t flags;

    switch (command->type) {
    case COMMAND_CLAIM:
        return get_claim(r, c, rec);
    case COMMAND_DETACH:
        flags = cursor_u8(c);
        command->detach.discard_will = flags & DETACH_NO_WILL;
        command->detach.set_expiry = flags & DETACH_EXPIRY;
        command->detach.expiry_s = cursor_u32(c);
        rec->decided.sent = cursor_u64(c);
        return 0;
    case COMMAND_SUBSCRIBE:
        command->subscribe.filter = cursor_binary(c);
        return command->subscribe.filter.len ? record_get_options(c, &command->subscribe.options) : -EBADMSG;
    case COMMAND_UNSUBSCRIBE:
        command->unsubscribe = cursor_binary(c);
        return command->unsubscribe.len ? 0 : -EBADMSG;
    case COMMAND_SHARE_JOIN:
        command->share.name = cursor_binary(c);
        command->share.filter = cursor_binary(c);
        return command->share.filter.len ? record_get_options(c, &command->share.options) : -EBADMSG;
    case COMMAND_SHARE_LEAVE:
        rec->share_name = cursor_binary(c);
        rec->share_filter = cursor_binary(c);
        return 0;
    case COMMAND_PUBLISH:
        return get_publish(r, c, rec);
    case COMMAND_ACK:
    case COMMAND_REJECTED:
    case COMMAND_RECEIVED:
    case COMMAND_COMPLETE:
        rec->decided.number = cursor_u64(c);
        return 0;
    case COMMAND_DISCARD:
        command->number = cursor_u64(c);
        return 0;
    case COMMAND_QOS2_IN:
    case COMMAND_QOS2_RELEASE:
        command->packet_id = cursor_u16(c);
        return command->packet_id ? 0 : -EBADMSG;
    case COMMAND_TICK:
        rec->decided.ended = cursor_u8(c) != 0;
        return 0;
    case COMMAND_RETAIN:
        return get_retain(r, c, rec);
    case COMMAND_END:
        return 0;
    }
    return -EBADMSG;
}

int record_next(struct record_reader *r, struct record *ret_record)
{
    for (;;) {
        if (cursor_left(&r->at) == 0) {
            return 0;
        }
        uint8_t type = cursor_u8(&r->at);
        uint32_t len = cursor_u32(&r->at);
        struct slice entry = cursor_take(&r->at, len);
        struct cursor body = cursor_at(entry);
        if (r->at.failed) {
            return -EBADMSG;
        }
        if (type == RECORD_MESSAGE) {
            message_unref(r->message);
            r->message = NULL;
            int rc = record_get_message(&body, r->world, &r->message);
            if (rc || cursor_left(&body) > 0) {
                return rc ? rc : -EBADMSG;
            }
            continue;
        }
        *ret_record =
            (struct record){.body = entry, .command = {.type = (enum command_type)type, .wall_ms = r->wall_ms}};
        ret_record->group = cursor_u16(&body);
        ret_record->uid = ret_record->decided.uid = cursor_u64(&body);
        int rc = get_body(r, &body, ret_record);
        ret_record->command.decided = &ret_record->decided;
        if (rc == 0 && (body.failed || cursor_left(&body) > 0)) {
            rc = -EBADMSG;
        }
        if (rc && type == COMMAND_CLAIM) {
            will_free(ret_record->command.claim.will);
        }
        return rc ? rc : 1;
    }
}

void record_close(struct record_reader *r)
{
    message_unref(r->message);
    message_unref(r->retained);
    principal_unref(r->principal);
    r->message = r->retained = NULL;
    r->principal = NULL;
}
