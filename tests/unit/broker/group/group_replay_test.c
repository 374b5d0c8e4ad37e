/* group_replay_test.c -- the same commands give the same outcomes, wherever things lie in memory; and a command for
 * which memory runs out has changed nothing. */
#include "tests/lib/alloc_fail.h"

/* Compiled here once more, so that their allocations can be made to fail. */
#include "broker/group/group.c"
#include "broker/group/group_due.c"
#include "broker/session/packet_ids.c"
#include "broker/session/queue.c"
#include "broker/session/session.c"
#include "proto/base/map.c"

#include "proto/base/prng.h"
#include "tests/unit/broker/group/group_fixture.h"

#include <stdio.h>

#define CLIENTS 12
#define STEPS 6000

/* A node that is given a script, and what it made of it. */
struct player {
    struct fixture f;
    struct prng random;
    uint64_t trace;                         /* of all outcomes so far */
    unsigned errors, ended, wills, resumed; /* how often, so that the script is known to reach everything */
};

static void trace_number(struct player *p, uint64_t n)
{
    p->trace = hash_mix(p->trace ^ n) + 1;
}

static void trace_text(struct player *p, struct slice text)
{
    trace_number(p, test_hash(text));
}

/* Everything that an outcome says, by name and never by address. */
static void trace_outcome(struct player *p, struct outcome *out)
{
    trace_number(p, (uint64_t)-out->error);
    trace_number(p, (uint64_t)(out->existed | out->announce << 1 | out->replaced_oldest << 2));
    trace_number(p, out->share_settled);
    if (out->session) {
        trace_text(p, session_client_id(out->session));
        trace_number(p, out->session->uid);
    }
    if (out->subscription) {
        trace_text(p, subscription_filter(out->subscription));
    }
    if (out->share) {
        trace_text(p, session_share_filter(out->share));
    }
    if (out->will) {
        trace_text(p, message_payload(out->will->message));
    }
    if (out->ended) {
        trace_text(p, session_client_id(out->ended));
        trace_number(p, out->ended->queue ? out->ended->queue->bytes : 0);
    }
    p->errors += out->error != 0;
    p->wills += out->will != NULL;
    p->ended += out->ended != NULL;
    p->resumed += out->session && out->existed;
    will_free(out->will);
    if (out->ended) {
        fixture_free_session(&p->f, out->ended);
    }
}

static void trace_state(struct player *p)
{
    trace_number(p, p->f.sessions.count);
    trace_number(p, group_due_ms(&p->f.group));
    trace_number(p, topic_tree_filter_count(p->f.context.tree));
    trace_number(p, retained_bytes(p->f.context.retained));
}

static struct session *client(struct player *p, uint32_t number)
{
    char id[8];
    snprintf(id, sizeof(id), "c%u", number);
    return group_find(&p->f.group, slice_str(id), test_hash(slice_str(id)));
}

static struct outcome play_connection(struct player *p, uint32_t number, struct session *s)
{
    static const uint32_t expiries[] = {0, 1, 5, 60, UINT32_MAX};
    uint32_t expiry_s = expiries[prng_below(&p->random, COUNT_OF(expiries))], delay_s = prng_below(&p->random, 8);
    bool clean = prng_below(&p->random, 4) == 0, will = prng_below(&p->random, 2) == 0;
    char id[8];

    if (s && s->front) {
        struct command c = {
            .type = COMMAND_DETACH,
            .session = s,
            .detach = {.discard_will = clean, .set_expiry = will && s->expiry_s != 0, .expiry_s = expiry_s}};
        return fixture_apply(&p->f, &c);
    }
    snprintf(id, sizeof(id), "c%u", number);
    struct will *made = will ? will_make(delay_s) : NULL;
    struct outcome out = claim(&p->f, id, clean, expiry_s, made);
    if (out.error) {
        will_free(made);
    }
    return out;
}

static struct outcome play_subscription(struct player *p, struct session *s)
{
    static const char *const filters[] = {"a", "a/+", "#", "b/c", "+/c", "d"};
    const char *filter = filters[prng_below(&p->random, COUNT_OF(filters))];
    struct outcome out;

    switch (prng_below(&p->random, 4)) {
    case 0:
        out = fixture_apply(
            &p->f, &(struct command){.type = COMMAND_UNSUBSCRIBE, .session = s, .unsubscribe = slice_str(filter)});
        if (out.subscription) {
            trace_number(p, topic_tree_unsubscribe(p->f.context.tree, out.subscription));
            out.subscription = NULL;
        }
        return out;
    case 1:
        if (!list_empty(&s->shares)) {
            struct session_share *share = CONTAINER_OF(s->shares.next, struct session_share, in_session);
            out = fixture_apply(&p->f,
                                &(struct command){.type = COMMAND_SHARE_LEAVE, .session = s, .share_leave = share});
            free(share);
            return out;
        }
        return fixture_apply(&p->f, &(struct command){.type = COMMAND_SHARE_JOIN,
                                                      .session = s,
                                                      .share = {.name = SLICE("g"), .filter = slice_str(filter)}});
    default:
        return subscribe(&p->f, s, filter, (uint8_t)prng_below(&p->random, 3));
    }
}

static struct outcome play_message(struct player *p, struct session *s)
{
    static const enum command_type kinds[] = {COMMAND_ACK,      COMMAND_REJECTED, COMMAND_RECEIVED,
                                              COMMAND_COMPLETE, COMMAND_QOS2_IN,  COMMAND_QOS2_RELEASE};
    uint32_t kind = prng_below(&p->random, 10);
    uint64_t number;

    if (kind < COUNT_OF(kinds)) {
        uint64_t head = s->queue ? s->queue->head : 0;
        uint16_t id = queue_packet_id(head + prng_below(&p->random, 6));
        return acknowledge(&p->f, s, kinds[kind], id);
    }
    if (kind == COUNT_OF(kinds) && s->queue && queue_oldest_waiting(s->queue, &number)) {
        return fixture_apply(&p->f, &(struct command){.type = COMMAND_DISCARD, .session = s, .number = number});
    }
    if (kind == COUNT_OF(kinds) + 1 && s->front) {
        trace_number(p, send_next(s));
    }
    return publish(&p->f, s, slice_of("0123456789", prng_below(&p->random, 11)),
                   (uint8_t)(1 + prng_below(&p->random, 2)), prng_below(&p->random, 3));
}

static struct outcome play_retain(struct player *p)
{
    char topic[8];
    snprintf(topic, sizeof(topic), "r/%u", prng_below(&p->random, 8));
    struct message *m = make_message(slice_str(topic), slice_of("xxxx", prng_below(&p->random, 4)), MESSAGE_NEVER);
    struct outcome out = fixture_apply(&p->f, &(struct command){.type = COMMAND_RETAIN, .retain = m});
    message_unref(m);
    return out;
}

static void player_begin(struct player *p)
{
    *p = (struct player){0};
    fixture_init(&p->f);
    prng_seed(&p->random, 7);
    p->f.sessions.max = CLIENTS - 2;
    p->f.retained.count_max = 5;
    p->f.context.subscriptions_max = 4;
    p->f.context.waiting_max = 6;
    p->f.context.drop_oldest = true;
}

static void player_step(struct player *p)
{
    uint32_t number = prng_below(&p->random, CLIENTS), what = prng_below(&p->random, 12);
    struct session *s = client(p, number);
    struct outcome out;

    p->f.now_ms += prng_below(&p->random, 700);
    if (what == 0) {
        out = tick(&p->f);
    } else if (what == 1) {
        out = play_retain(p);
    } else if (what == 2 && s) {
        out = end(&p->f, s);
    } else if (what < 6 || !s) {
        out = play_connection(p, number, s);
    } else if (what < 8) {
        out = play_subscription(p, s);
    } else {
        out = play_message(p, s);
    }
    trace_outcome(p, &out);
    trace_state(p);
}

/* Two nodes play one script step by step. The second has other addresses: its memory is cut up before. */
static void test_same_commands_same_outcomes(void)
{
    static struct player a, b;
    static void *litter[200];
    unsigned differ = 0;

    player_begin(&a);
    for (size_t i = 0; i < COUNT_OF(litter); i++) {
        litter[i] = malloc(16 + i * 8);
    }
    for (size_t i = 0; i < COUNT_OF(litter); i += 3) {
        free(litter[i]);
        litter[i] = NULL;
    }
    player_begin(&b);
    for (int step = 0; step < STEPS && differ == 0; step++) {
        player_step(&a);
        player_step(&b);
        differ += a.trace != b.trace;
    }
    CHECK(differ == 0);
    CHECK(a.errors > 100 && a.ended > 100 && a.wills > 20 && a.resumed > 100); /* the script is not a dull one */
    uint64_t trace = a.trace;
    b.f.now_ms++;
    player_step(&a);
    player_step(&b);
    CHECK(a.trace != trace); /* nor is the trace */
    fixture_deinit(&a.f);
    fixture_deinit(&b.f);
    for (size_t i = 0; i < COUNT_OF(litter); i++) {
        free(litter[i]);
    }
}

/* What must not change when memory runs out. */
struct footprint {
    uint64_t uid, bytes, tail, head, due_ms, retained_bytes;
    uint32_t sessions, in_map, due, subscriptions, waiting, qos2, filters;
};

static struct footprint footprint_of(const struct fixture *f, const struct session *s)
{
    struct footprint p;

    memset(&p, 0, sizeof(p)); /* so that footprints can be compared as bytes */
    p.uid = f->context.next_uid;
    p.bytes = s->queue ? s->queue->bytes : 0;
    p.tail = s->queue ? s->queue->tail : 0;
    p.head = s->queue ? s->queue->head : 0;
    p.due_ms = group_due_ms(&f->group);
    p.retained_bytes = retained_bytes(f->context.retained);
    p.sessions = f->sessions.count;
    p.in_map = f->group.sessions.count;
    p.due = f->group.due_count;
    p.subscriptions = s->subscription_count;
    p.waiting = session_waiting(s);
    p.qos2 = s->qos2.count;
    p.filters = (uint32_t)topic_tree_filter_count(f->context.tree);
    return p;
}

static struct message *spare; /* the message of the rows below */

/* Commands that take memory; `s` is detached, has a will with a delay and a full queue of one message, and a neighbour.
 */
static struct command hungry_command(unsigned row, struct session *s)
{
    switch (row) {
    case 0:
        return (struct command){.type = COMMAND_CLAIM,
                                .claim = {.client_id = SLICE("new"), .hash = test_hash(SLICE("new"))}};
    case 1:
        return (struct command){.type = COMMAND_CLAIM,
                                .claim = {.client_id = SLICE("s"), .hash = test_hash(SLICE("s")), .clean_start = true}};
    case 2:
        return (struct command){.type = COMMAND_SUBSCRIBE, .session = s, .subscribe.filter = SLICE("new")};
    case 3:
        return (struct command){
            .type = COMMAND_SHARE_JOIN, .session = s, .share = {.name = SLICE("g"), .filter = SLICE("f")}};
    case 4:
        return (struct command){
            .type = COMMAND_PUBLISH, .session = s, .publish = {.message = spare, .qos = 1, .ids = SLICE("\x0b\x01")}};
    case 5:
        return (struct command){.type = COMMAND_QOS2_IN, .session = s, .packet_id = 5};
    default:
        return (struct command){.type = COMMAND_RETAIN, .retain = spare};
    }
}
#define HUNGRY 7
static const char *const hungry_names[HUNGRY] = {"claim",   "clean start", "subscribe", "share join",
                                                 "publish", "qos 2 in",    "retain"};

static void test_out_of_memory(void)
{
    for (unsigned row = 0; row < HUNGRY; row++) {
        const char *name = hungry_names[row];
        unsigned failures = 0;
        for (unsigned n = 1;; n++) {
            struct fixture f;
            fixture_init(&f);
            f.sessions.max = 7;
            for (int i = 0; i < 3; i++) { /* so many that the group's map and heap have to grow with the next */
                claim(&f, i == 0 ? "x" : i == 1 ? "y" : "s", false, 60, will_make(5));
            }
            struct session *s = group_find(&f.group, SLICE("s"), test_hash(SLICE("s")));
            publish(&f, s, SLICE("old"), 1, 9);
            detach(&f, s);
            f.context.waiting_max = 1;
            f.context.drop_oldest = true;
            spare = make_message(SLICE("t"), SLICE("new"), MESSAGE_NEVER);
            struct command c = hungry_command(row, s);
            struct footprint before = footprint_of(&f, s), after;

            alloc_fail_at = n;
            struct outcome out = fixture_apply(&f, &c);
            bool ran_out = alloc_fail_at == 0;
            alloc_fail_at = 0;
            if (out.error) {
                after = footprint_of(&f, s);
                CHECK_CASE(name, out.error == -ENOMEM && ran_out);
                CHECK_CASE(name, memcmp(&before, &after, sizeof(before)) == 0);
                CHECK_CASE(name, !out.ended && !out.will && !out.session && !out.share_settled && !out.replaced_oldest);
                CHECK_CASE(name, atomic_load(&spare->refs) == 1);
                failures++;
            }
            will_free(out.will);
            if (out.ended) {
                fixture_free_session(&f, out.ended);
            }
            fixture_deinit(&f);
            message_unref(spare);
            if (!ran_out) {
                CHECK_CASE(name, out.error == 0);
                break;
            }
        }
        CHECK_CASE(name, failures > 0);
    }
}

UNIT_MAIN("broker/group/group (replay)", {"same commands, same outcomes", test_same_commands_same_outcomes},
          {"out of memory", test_out_of_memory})
