/* group_fixture.h -- a group with all that it borrows, and a short way to give it commands. */
#ifndef TERN_TESTS_UNIT_BROKER_GROUP_GROUP_FIXTURE_H
#define TERN_TESTS_UNIT_BROKER_GROUP_GROUP_FIXTURE_H

#include "broker/group/group.h"
#include "tests/lib/make_message.h"
#include "tests/lib/unit.h"

#include <stdlib.h>

struct fixture {
    struct group group;
    struct group_context context;
    struct session_quota sessions;
    struct retained_quota retained;
    uint64_t now_ms;
};

static inline void fixture_init(struct fixture *f)
{
    *f = (struct fixture){.now_ms = 1000000};
    f->retained.count_max = 1000;
    f->retained.bytes_max = UINT64_MAX;
    f->context.session_quota = &f->sessions;
    f->context.subscriptions_max = 100;
    f->context.waiting_max = 100;
    f->context.waiting_bytes_max = 1 << 20;
    int rc = topic_tree_new(&test_key, &f->context.tree);
    assert(rc == 0);
    rc = retained_new(&test_key, &f->retained, &f->context.retained);
    assert(rc == 0);
    group_init(&f->group, 3, &f->context);
}

static inline struct outcome fixture_apply(struct fixture *f, struct command *c)
{
    struct outcome out;
    c->wall_ms = f->now_ms;
    group_apply(&f->group, c, &out);
    return out;
}

/* What the caller of a command that ended a session has to do. */
static inline void fixture_free_session(struct fixture *f, struct session *s)
{
    struct list *at;
    while ((at = list_pop(&s->subscriptions)) != NULL) {
        topic_tree_unsubscribe(f->context.tree, CONTAINER_OF(at, struct subscription, in_owner));
    }
    while ((at = list_pop(&s->shares)) != NULL) {
        free(CONTAINER_OF(at, struct session_share, in_session));
    }
    s->front = NULL;
    session_free(s);
}

static inline struct will *will_make(uint32_t delay_s)
{
    struct will *will = calloc(1, sizeof(*will));
    assert(will);
    will->message = make_message(SLICE("will"), SLICE("gone"), MESSAGE_NEVER);
    will->delay_s = delay_s;
    return will;
}

/* The session that is claimed counts as attached to a connection, for which its own address stands. */
static inline struct outcome claim(struct fixture *f, const char *client_id, bool clean_start, uint32_t expiry_s,
                                   struct will *will)
{
    struct slice id = slice_str(client_id);
    struct command c = {.type = COMMAND_CLAIM,
                        .claim = {.client_id = id,
                                  .hash = test_hash(id),
                                  .clean_start = clean_start,
                                  .expiry_s = expiry_s,
                                  .receive_max = 10,
                                  .will = will}};
    struct outcome out = fixture_apply(f, &c);
    if (out.session) {
        out.session->front = out.session;
    }
    return out;
}

static inline struct outcome detach(struct fixture *f, struct session *s)
{
    return fixture_apply(f, &(struct command){.type = COMMAND_DETACH, .session = s});
}

static inline struct outcome end(struct fixture *f, struct session *s)
{
    return fixture_apply(f, &(struct command){.type = COMMAND_END, .session = s});
}

static inline struct outcome tick(struct fixture *f)
{
    return fixture_apply(f, &(struct command){.type = COMMAND_TICK});
}

static inline struct outcome subscribe(struct fixture *f, struct session *s, const char *filter, uint8_t qos)
{
    struct command c = {
        .type = COMMAND_SUBSCRIBE, .session = s, .subscribe = {.filter = slice_str(filter), .options = {.qos = qos}}};
    return fixture_apply(f, &c);
}

static inline struct outcome publish(struct fixture *f, struct session *s, struct slice payload, uint8_t qos,
                                     uint64_t share)
{
    struct message *m = make_message(SLICE("t"), payload, MESSAGE_NEVER);
    struct command c = {.type = COMMAND_PUBLISH, .session = s, .publish = {.message = m, .qos = qos, .share = share}};
    struct outcome out = fixture_apply(f, &c);
    message_unref(m);
    return out;
}

/* Send the next waiting message; its packet identifier, or 0 when there is none. */
static inline uint16_t send_next(struct session *s)
{
    uint64_t number;
    if (!s->queue || !queue_next(s->queue, s->receive_max, &number)) {
        return 0;
    }
    queue_mark_sent(s->queue, number);
    return queue_packet_id(number);
}

static inline struct outcome acknowledge(struct fixture *f, struct session *s, enum command_type type,
                                         uint16_t packet_id)
{
    return fixture_apply(f, &(struct command){.type = type, .session = s, .packet_id = packet_id});
}

static inline void fixture_deinit(struct fixture *f)
{
    while (f->group.sessions.count > 0) {
        size_t i = 0;
        struct outcome out = end(f, map_next(&f->group.sessions, &i));
        will_free(out.will);
        fixture_free_session(f, out.ended);
    }
    group_deinit(&f->group);
    topic_tree_free(f->context.tree);
    retained_free(f->context.retained);
    CHECK(f->sessions.count == 0);
}

#endif
