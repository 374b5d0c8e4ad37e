/* written.h -- a command of every type with all that it can carry, as it would be just after it was applied; and what
 * was read written again.
 *
 * Shared by unit tests and fuzz targets; the sessions are not in any group. */
#ifndef TERN_TESTS_UNIT_BROKER_GROUP_WRITTEN_H
#define TERN_TESTS_UNIT_BROKER_GROUP_WRITTEN_H

#include <stdlib.h>

#include "broker/group/record.h"
#include "tests/lib/make_message.h"

#define WRITTEN_MS 1700000000000u
#define WRITTEN_STEPS_MAX 32

static inline const char *written_listener(void *arg, struct slice name)
{
    return slice_eq(name, slice_str(arg)) ? arg : "";
}

static inline struct record_world written_world(struct user_rates *rates)
{
    static char tls[] = "tls";
    return (struct record_world){.rates = rates, .listener = written_listener, .arg = tls, .key = &test_key};
}

static inline struct principal *written_principal(struct user_rates *rates)
{
    struct principal_source source = {
        .method = 16,
        .user = SLICE("alice"),
        .roles = SLICE("reader\0ops\0"),
        .role_count = 2,
        .expires_at_ms = WRITTEN_MS + 5000,
        .credential = 0x1122334455667788,
        .listener = "tls",
        .address = {{{0x20, 1, 0x0d, 0xb8, [15] = 7}}},
        .rates = rates,
    };
    char error[200];
    int rc = acl_parse_claim(SLICE("[{\"allow\":\"publish\",\"topic\":\"a/#\"}]"), error, sizeof(error), &source.rules);
    assert(rc == 0);
    struct principal *p = principal_new(&source);
    assert(p);
    return p;
}

/* QoS 2, with one User Property (0x26), all numbers other than 0. */
static inline struct message *written_stamped(const char *topic, const char *payload, struct message_stamp stamp)
{
    struct message *m = message_new(&(struct message_source){
        .topic = slice_str(topic),
        .payload = slice_str(payload),
        .properties = SLICE("\x26\0\1k\0\1v"),
        .topic_hash = test_hash(slice_str(topic)),
        .publisher = 0x0102030405060708,
        .expires_at_ms = WRITTEN_MS + 60000,
        .stamp = stamp,
        .packet_id = 513,
        .qos = 2,
        .retain = true,
    });
    assert(m);
    return m;
}

static inline struct message *written_message(const char *topic, const char *payload)
{
    return written_stamped(topic, payload, (struct message_stamp){0});
}

#define WRITTEN_STAMP ((struct message_stamp){WRITTEN_MS << MESSAGE_STAMP_SHIFT | 9, 0x8070605040302010})

static inline struct will *written_will(struct user_rates *rates)
{
    struct will *w = calloc(1, sizeof(*w) + 4);
    assert(w);
    w->message = written_message("will/of", "gone");
    w->principal = written_principal(rates);
    w->delay_s = 30;
    w->has_expiry = true;
    w->expiry_s = 3600;
    w->client_id_len = 4;
    memcpy(w->client_id, "c-01", 4);
    return w;
}

static inline struct session_share *written_share(struct slice name, struct slice filter)
{
    struct session_share *share = calloc(1, sizeof(*share) + name.len + filter.len + 1);
    assert(share);
    share->name_len = (uint16_t)name.len;
    share->filter_len = (uint16_t)filter.len;
    if (name.len > 0) {
        memcpy(share->text, name.ptr, name.len);
    }
    if (filter.len > 0) {
        memcpy(share->text + name.len, filter.ptr, filter.len);
    }
    return share;
}

struct written_step {
    const char *name;
    uint64_t uid;
    struct command command;
    struct outcome outcome;
};

struct written {
    struct written_step steps[WRITTEN_STEPS_MAX];
    unsigned count;
    struct message *message, *other, *clear, *stamped, *grave;
    struct session_share *share;
    struct session session; /* of every outcome; last, for it ends with its client id */
};

static inline struct written_step *written_add(struct written *w, const char *name, enum command_type type)
{
    assert(w->count < WRITTEN_STEPS_MAX);
    struct written_step *step = &w->steps[w->count++];
    *step = (struct written_step){.name = name, .uid = 0xa000000000000001};
    step->command.type = type;
    step->command.wall_ms = WRITTEN_MS;
    step->outcome.dropped = UINT64_MAX;
    step->outcome.session = &w->session;
    return step;
}

static inline void written_claims(struct written *w, struct user_rates *rates)
{
    struct written_step *step = written_add(w, "claim", COMMAND_CLAIM);
    step->command.claim = (struct command_claim){
        .client_id = SLICE("c"), .hash = test_hash(SLICE("c")), .receive_max = 1, .durable = true};
    step = written_add(w, "claim with all", COMMAND_CLAIM);
    step->command.claim = (struct command_claim){
        .client_id = SLICE("c-01"),
        .hash = test_hash(SLICE("c-01")),
        .clean_start = true,
        .expiry_s = 0xfffefdfc,
        .receive_max = 65535,
        .durable = true,
        .will = written_will(rates),
        .principal = written_principal(rates),
    };
    step->outcome.ended = &w->session;
    step = written_add(w, "detach", COMMAND_DETACH);
    step = written_add(w, "detach with all", COMMAND_DETACH);
    step->command.detach.discard_will = true;
    step->command.detach.set_expiry = true;
    step->command.detach.expiry_s = 77;
    step->outcome.number = 0x1000000000000003;
    written_add(w, "end", COMMAND_END);
    written_add(w, "tick of a will", COMMAND_TICK);
    written_add(w, "tick of a session", COMMAND_TICK)->outcome.ended = &w->session;
}

static inline void written_subscriptions(struct written *w)
{
    struct written_step *step = written_add(w, "subscribe", COMMAND_SUBSCRIBE);
    step->command.subscribe.filter = SLICE("#");
    step = written_add(w, "subscribe with all", COMMAND_SUBSCRIBE);
    step->command.subscribe.filter = SLICE("a/+/b");
    step->command.subscribe.options = (struct subscription_options){268435455, 2, 2, true, true};
    written_add(w, "unsubscribe", COMMAND_UNSUBSCRIBE)->command.unsubscribe = SLICE("a/+/b");
    step = written_add(w, "share join", COMMAND_SHARE_JOIN);
    step->command.share.name = SLICE("group");
    step->command.share.filter = SLICE("a/#");
    step->command.share.options = (struct subscription_options){.id = 3, .qos = 1, .retain_handling = 1};
    w->share = written_share(SLICE("group"), SLICE("a/#"));
    written_add(w, "share leave", COMMAND_SHARE_LEAVE)->command.share_leave = w->share;
}

static inline void written_queues(struct written *w)
{
    struct written_step *step = written_add(w, "publish", COMMAND_PUBLISH);
    step->command.publish = (struct queue_item){.message = w->message, .qos = 1};
    step->outcome.number = 5;
    step = written_add(w, "publish with all", COMMAND_PUBLISH);
    step->uid = 0xb000000000000002;
    step->command.publish = (struct queue_item){w->message, SLICE("\x0b\x05\x0b\x06"), 0x7000000000000009, 2, true};
    step->outcome.number = 0x2000000000000004;
    step->outcome.dropped = 0x2000000000000001;
    step = written_add(w, "publish another", COMMAND_PUBLISH);
    step->command.publish = (struct queue_item){.message = w->other, .qos = 2};
    step->outcome.number = 6;
    static const struct {
        const char *name;
        enum command_type type;
    } acks[] = {{"ack", COMMAND_ACK},
                {"rejected", COMMAND_REJECTED},
                {"received", COMMAND_RECEIVED},
                {"complete", COMMAND_COMPLETE}};
    for (unsigned i = 0; i < COUNT_OF(acks); i++) {
        step = written_add(w, acks[i].name, acks[i].type);
        step->command.packet_id = (uint16_t)(6 + i);
        step->outcome.number = 0x3000000000000005 + i;
    }
    written_add(w, "discard", COMMAND_DISCARD)->command.number = 0x4000000000000006;
    written_add(w, "qos 2 in", COMMAND_QOS2_IN)->command.packet_id = 65535;
    written_add(w, "qos 2 release", COMMAND_QOS2_RELEASE)->command.packet_id = 1;
    step = written_add(w, "retain", COMMAND_RETAIN);
    step->uid = 0;
    step->command.retain = w->message;
    step = written_add(w, "retain nothing", COMMAND_RETAIN);
    step->uid = 0;
    step->command.retain = w->clear;
    step = written_add(w, "retain with its stamp", COMMAND_RETAIN);
    step->uid = 0;
    step->command.retain = w->stamped;
    step = written_add(w, "retain nothing with its stamp", COMMAND_RETAIN);
    step->uid = 0;
    step->command.retain = w->grave;
    step = written_add(w, "publish with a stamp", COMMAND_PUBLISH);
    step->command.publish = (struct queue_item){.message = w->stamped, .qos = 1};
    step->outcome.number = 7;
    step->outcome.dropped = UINT64_MAX;
}

static inline void written_init(struct written *w, struct user_rates *rates)
{
    *w = (struct written){.session = {.uid = 0xa000000000000001, .durable = true}};
    w->message = written_message("a/b", "hello");
    w->other = make_message(SLICE("t"), SLICE(""), MESSAGE_NEVER);
    w->clear = make_message(SLICE("a/b"), SLICE(""), MESSAGE_NEVER);
    w->stamped = written_stamped("a/b", "hello", WRITTEN_STAMP);
    w->grave = written_stamped("a/b", "", WRITTEN_STAMP);
    written_claims(w, rates);
    written_subscriptions(w);
    written_queues(w);
}

static inline void written_deinit(struct written *w)
{
    for (unsigned i = 0; i < w->count; i++) {
        if (w->steps[i].command.type == COMMAND_CLAIM) {
            will_free(w->steps[i].command.claim.will);
            principal_unref(w->steps[i].command.claim.principal);
        }
    }
    message_unref(w->message);
    message_unref(w->other);
    message_unref(w->clear);
    message_unref(w->stamped);
    message_unref(w->grave);
    free(w->share);
}

/* What record_put does to one more command, its memory included; the entry's body. */
static inline struct slice written_put(struct record_writer *writer, uint16_t group, uint64_t uid,
                                       const struct command *c, const struct outcome *out)
{
    size_t room = record_bytes_max(c);
    int rc = buf_grow(&writer->bytes, room);
    assert(rc == 0);
    uint32_t before = writer->bytes.len;
    struct slice body = record_put(writer, group, uid, c, out);
    assert(writer->bytes.len - before <= room);
    return body;
}

/* Write what was read, as if it had just been applied with what was decided then. */
static inline void written_again(struct record_writer *writer, const struct record *r)
{
    struct command c = r->command;
    struct session session = {.uid = r->uid, .durable = c.type == COMMAND_CLAIM && c.claim.durable};
    struct outcome out = {.session = &session, .dropped = r->decided.dropped};

    out.ended = r->decided.ended ? &session : NULL;
    out.number = c.type == COMMAND_DETACH ? r->decided.sent : r->decided.number;
    struct session_share *share = NULL;
    if (c.type == COMMAND_SHARE_LEAVE) {
        c.share_leave = share = written_share(r->share_name, r->share_filter);
    }
    written_put(writer, r->group, r->uid, &c, &out);
    free(share);
}

static inline void written_begin(struct record_writer *writer)
{
    writer->bytes.len = 0;
    int rc = buf_grow(&writer->bytes, RECORD_HEAD_BYTES);
    assert(rc == 0);
    record_begin(writer, WRITTEN_MS);
}

#endif
