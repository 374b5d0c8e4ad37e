/* group_test.c -- each command and what comes of it: sessions, wills, subscriptions, QoS 2, retained messages. The
 * queue has its own file, group_queue_test.c. */
#include "tests/unit/broker/group/group_fixture.h"

#include <errno.h>
#include <stdio.h>

static void test_claim(void)
{
    struct fixture f;
    fixture_init(&f);

    struct outcome a = claim(&f, "a", false, 60, NULL), b = claim(&f, "b", true, 0, NULL);
    CHECK(a.error == 0 && a.session && !a.existed && !a.ended && !a.will);
    CHECK(b.error == 0 && b.session && b.session != a.session && !b.existed);
    CHECK(a.session->uid != 0 && a.session->uid != b.session->uid);
    CHECK(a.session->expiry_s == 60 && a.session->receive_max == 10 && a.session->group == 3);
    CHECK(slice_eq(session_client_id(a.session), SLICE("a")));
    CHECK(group_find(&f.group, SLICE("a"), test_hash(SLICE("a"))) == a.session);
    CHECK(group_find(&f.group, SLICE("c"), test_hash(SLICE("c"))) == NULL);
    CHECK(f.sessions.count == 2);

    subscribe(&f, a.session, "x", 1);
    CHECK(!detach(&f, a.session).ended);
    CHECK(a.session->front == NULL);
    struct outcome again = claim(&f, "a", false, 30, NULL); /* [MQTT-3.1.2-5] */
    CHECK(again.existed && again.session == a.session && !again.ended);
    CHECK(again.session->subscription_count == 1 && again.session->expiry_s == 30);

    detach(&f, a.session);
    struct outcome clean = claim(&f, "a", true, 60, NULL); /* [MQTT-3.1.2-4] */
    CHECK(!clean.existed && clean.session && clean.ended == a.session && clean.session != a.session);
    CHECK(clean.session->subscription_count == 0);
    CHECK(group_find(&f.group, SLICE("a"), test_hash(SLICE("a"))) == clean.session);
    CHECK(f.sessions.count == 2);
    fixture_free_session(&f, clean.ended);

    CHECK(detach(&f, b.session).ended == b.session); /* expiry 0: it ends with its connection [MQTT-4.1.0-2] */
    fixture_free_session(&f, b.session);
    CHECK(group_find(&f.group, SLICE("b"), test_hash(SLICE("b"))) == NULL);
    fixture_deinit(&f);
}

static void test_session_quota(void)
{
    struct fixture f;
    fixture_init(&f);
    f.sessions.max = 2;

    struct outcome a = claim(&f, "a", false, 60, NULL), b = claim(&f, "b", false, 0, NULL);
    struct will *will = will_make(5);
    struct outcome c = claim(&f, "c", false, 60, will);
    CHECK(c.error == -EDQUOT && !c.session && !c.ended && !c.will);
    CHECK(f.sessions.count == 2 && f.group.sessions.count == 2);
    CHECK(atomic_load(&will->message->refs) == 1); /* still the caller's */
    detach(&f, a.session);
    CHECK(claim(&f, "a", false, 60, NULL).existed); /* known clients are let in */
    detach(&f, a.session);
    struct outcome clean = claim(&f, "a", true, 60, NULL); /* one for one */
    CHECK(clean.error == 0 && clean.ended == a.session);
    fixture_free_session(&f, clean.ended);
    CHECK(f.sessions.count == 2);
    CHECK(claim(&f, "c", true, 60, NULL).error == -EDQUOT);
    fixture_free_session(&f, detach(&f, b.session).ended);
    CHECK(claim(&f, "c", false, 60, will).error == 0);
    f.sessions.max = 1; /* lowered while running: who is there stays */
    CHECK(claim(&f, "d", false, 60, NULL).error == -EDQUOT);
    f.sessions.max = 0; /* no limit */
    CHECK(claim(&f, "d", false, 60, NULL).error == 0);
    CHECK(f.sessions.count == 3);
    fixture_deinit(&f);
}

#define AT_ONCE 0
#define NOT UINT64_MAX

/* A session with a will loses its connection; then the group's ticks come when they are due. Times in seconds from the
 * loss. */
static const struct {
    const char *name;
    uint32_t expiry_s;
    bool has_will;
    uint32_t delay_s;
    bool discard, set_expiry;
    uint32_t new_expiry_s;
    uint64_t will_at_s, ends_at_s;
} ends[] = {
    {"no will, ends at once", 0, false, 0, false, false, 0, NOT, AT_ONCE},
    {"no will, ends later", 60, false, 0, false, false, 0, NOT, 60},
    {"no will, never ends", UINT32_MAX, false, 0, false, false, 0, NOT, NOT},
    {"no delay, ends at once", 0, true, 0, false, false, 0, AT_ONCE, AT_ONCE},
    {"no delay, ends later", 60, true, 0, false, false, 0, AT_ONCE, 60},
    {"delay, but the session ends at once [MQTT-3.1.2-8]", 0, true, 10, false, false, 0, AT_ONCE, AT_ONCE},
    {"delay before the end", 60, true, 10, false, false, 0, 10, 60},
    {"delay as long as the session", 10, true, 10, false, false, 0, 10, 10},
    {"delay longer than the session", 10, true, 60, false, false, 0, 10, 10},
    {"delay, never ends", UINT32_MAX, true, 10, false, false, 0, 10, NOT},
    {"longest delay, never ends", UINT32_MAX, true, UINT32_MAX, false, false, 0, UINT32_MAX, NOT},
    {"longest delay, longest end", UINT32_MAX - 1, true, UINT32_MAX, false, false, 0, UINT32_MAX - 1, UINT32_MAX - 1},
    {"discarded [MQTT-3.14.4-3]", 60, true, 10, true, false, 0, NOT, 60},
    {"discarded without delay", 60, true, 0, true, false, 0, NOT, 60},
    {"discarded, ends at once", 0, true, 0, true, false, 0, NOT, AT_ONCE},
    {"DISCONNECT lengthens", 60, true, 100, false, true, 200, 100, 200},
    {"DISCONNECT shortens", 60, true, 10, false, true, 5, 5, 5},
    {"DISCONNECT ends", 60, true, 10, false, true, 0, AT_ONCE, AT_ONCE},
    {"DISCONNECT to never", 60, true, 10, false, true, UINT32_MAX, 10, NOT},
};

/* What an outcome brings at this second is noted, and freed. */
static void note(struct fixture *f, const struct outcome *out, uint64_t at_s, uint64_t *will_at_s, uint64_t *ends_at_s)
{
    if (out->will) {
        CHECK(*will_at_s == NOT); /* once only */
        CHECK(slice_eq(message_topic(out->will->message), SLICE("will")));
        *will_at_s = at_s;
        will_free(out->will);
    }
    if (out->ended) {
        CHECK(*ends_at_s == NOT);
        *ends_at_s = at_s;
        fixture_free_session(f, out->ended);
    }
}

static void test_will_and_expiry(void)
{
    for (size_t i = 0; i < COUNT_OF(ends); i++) {
        struct fixture f;
        uint64_t will_at_s = NOT, ends_at_s = NOT;
        fixture_init(&f);
        struct session *s =
            claim(&f, "c", false, ends[i].expiry_s, ends[i].has_will ? will_make(ends[i].delay_s) : NULL).session;
        CHECK_CASE(ends[i].name, group_due_ms(&f.group) == UINT64_MAX); /* never while attached */
        uint64_t lost_ms = f.now_ms;
        struct command c = {.type = COMMAND_DETACH,
                            .session = s,
                            .detach = {.discard_will = ends[i].discard,
                                       .set_expiry = ends[i].set_expiry,
                                       .expiry_s = ends[i].new_expiry_s}};
        struct outcome out = fixture_apply(&f, &c);
        note(&f, &out, 0, &will_at_s, &ends_at_s);
        for (int n = 0; n < 3 && group_due_ms(&f.group) != UINT64_MAX; n++) {
            uint64_t due_ms = group_due_ms(&f.group);
            f.now_ms = due_ms - 1;
            out = tick(&f);
            CHECK_CASE(ends[i].name, !out.will && !out.ended && group_due_ms(&f.group) == due_ms); /* not too early */
            f.now_ms = due_ms;
            out = tick(&f);
            CHECK_CASE(ends[i].name, out.will || out.ended);
            CHECK_CASE(ends[i].name, (due_ms - lost_ms) % 1000 == 0);
            note(&f, &out, (due_ms - lost_ms) / 1000, &will_at_s, &ends_at_s);
        }
        CHECK_CASE(ends[i].name, group_due_ms(&f.group) == UINT64_MAX);
        CHECK_CASE(ends[i].name, will_at_s == ends[i].will_at_s);
        CHECK_CASE(ends[i].name, ends_at_s == ends[i].ends_at_s);
        fixture_deinit(&f);
    }
}

/* The client is back before the delay is over: the will is not published [MQTT-3.1.3-9], and the next loss counts anew.
 */
static void test_back_in_time(void)
{
    struct fixture f;
    fixture_init(&f);

    struct will *first = will_make(10);
    struct message *m = message_ref(first->message);
    struct session *s = claim(&f, "c", false, 60, first).session;
    detach(&f, s);
    CHECK(atomic_load(&m->refs) == 2);
    f.now_ms += 9999;
    struct outcome out = claim(&f, "c", false, 60, will_make(20));
    CHECK(out.existed && !out.will && !out.ended);
    CHECK(atomic_load(&m->refs) == 1); /* dropped */
    CHECK(group_due_ms(&f.group) == UINT64_MAX);
    f.now_ms += 100000; /* far beyond what the first loss had meant */
    out = tick(&f);
    CHECK(!out.will && !out.ended);
    detach(&f, s);
    CHECK(group_due_ms(&f.group) == f.now_ms + 20000);
    message_unref(m);

    out = claim(&f, "c", true, 0, NULL); /* Clean Start ends the earlier session: its will is published */
    CHECK(out.ended == s && out.will && !out.existed);
    will_free(out.will);
    fixture_free_session(&f, s);
    out = end(&f, out.session); /* attached or not */
    CHECK(out.ended && !out.will);
    fixture_free_session(&f, out.ended);
    fixture_deinit(&f);
}

static int by_due(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;
    return x[0] != y[0] ? (x[0] < y[0] ? -1 : 1) : x[1] < y[1] ? -1 : 1;
}

/* Many sessions end in the order of their times, those of one time in the order of their making; some come back, some
 * are ended. */
static void test_due_order(void)
{
    enum { SESSIONS = 300 };
    static struct session *sessions[SESSIONS];
    static uint64_t want[SESSIONS][2];
    struct fixture f;
    unsigned left = 0, wrong = 0;
    char id[500];
    fixture_init(&f);

    for (unsigned i = 0; i < SESSIONS; i++) {
        snprintf(id, sizeof(id), "%0*u", i / 100 % 2 ? 4 : 400,
                 i); /* two sizes, so that addresses do not grow as uids do */
        sessions[i] = claim(&f, id, false, 1 + i * 7919 % 100, NULL).session;
    }
    for (unsigned i = 0; i < SESSIONS; i++) {
        detach(&f, sessions[i * 101 % SESSIONS]);
    }
    for (unsigned i = 0; i < SESSIONS; i++) {
        snprintf(id, sizeof(id), "%0*u", i / 100 % 2 ? 4 : 400, i);
        if (i % 3 == 0) {
            wrong += claim(&f, id, false, 60, NULL).session != sessions[i];
        } else if (i % 3 == 1 && i % 2) {
            fixture_free_session(&f, end(&f, sessions[i]).ended);
        } else {
            want[left][0] = sessions[i]->expires_at_ms;
            want[left++][1] = sessions[i]->uid;
        }
    }
    qsort(want, left, sizeof(want[0]), by_due);
    for (unsigned i = 0; i < left; i++) {
        wrong += group_due_ms(&f.group) != want[i][0];
        f.now_ms = group_due_ms(&f.group);
        struct outcome out = tick(&f);
        wrong += !out.ended || out.ended->uid != want[i][1];
        fixture_free_session(&f, out.ended);
    }
    CHECK(wrong == 0);
    CHECK(group_due_ms(&f.group) == UINT64_MAX);
    CHECK(f.group.sessions.count == SESSIONS / 3);
    fixture_deinit(&f);
}

static struct outcome unsubscribe(struct fixture *f, struct session *s, const char *filter)
{
    struct command c = {.type = COMMAND_UNSUBSCRIBE, .session = s, .unsubscribe = slice_str(filter)};
    struct outcome out = fixture_apply(f, &c);
    if (out.subscription) {
        topic_tree_unsubscribe(f->context.tree, out.subscription);
    }
    return out;
}

static struct outcome join(struct fixture *f, struct session *s, const char *name, const char *filter, uint8_t qos)
{
    struct command c = {.type = COMMAND_SHARE_JOIN,
                        .session = s,
                        .share = {.name = slice_str(name), .filter = slice_str(filter), .options = {.qos = qos}}};
    return fixture_apply(f, &c);
}

static void test_subscribe(void)
{
    struct fixture f;
    fixture_init(&f);
    struct session *a = claim(&f, "a", false, 60, NULL).session, *b = claim(&f, "b", false, 60, NULL).session;

    struct outcome out = subscribe(&f, a, "x/+", 1);
    CHECK(out.error == 0 && out.subscription && !out.existed && out.announce);
    CHECK(out.subscription->owner == a && a->subscription_count == 1);
    out = subscribe(&f, b, "x/+", 1);
    CHECK(!out.existed && !out.announce);
    out = subscribe(&f, a, "x/+", 2); /* [MQTT-3.8.4-3] */
    CHECK(out.existed && !out.announce && out.subscription->options.qos == 2 && a->subscription_count == 1);
    CHECK(unsubscribe(&f, a, "x/#").subscription == NULL); /* not the same filter */
    CHECK(a->subscription_count == 1);
    CHECK(unsubscribe(&f, a, "x/+").subscription != NULL);
    CHECK(unsubscribe(&f, a, "x/+").subscription == NULL); /* a second time */
    CHECK(a->subscription_count == 0 && b->subscription_count == 1);
    CHECK(list_empty(&a->subscriptions));
    CHECK(topic_tree_find(f.context.tree, b, SLICE("x/+")) != NULL);
    fixture_deinit(&f);
}

static void test_share(void)
{
    struct fixture f;
    fixture_init(&f);
    struct session *s = claim(&f, "a", false, 60, NULL).session;

    struct outcome one = join(&f, s, "g", "x", 1);
    CHECK(one.error == 0 && one.share && !one.existed && one.share->session == s && one.share->share == 0);
    CHECK(slice_eq(session_share_name(one.share), SLICE("g")) && slice_eq(session_share_filter(one.share), SLICE("x")));
    CHECK(!join(&f, s, "g", "y", 1).existed); /* the pair of name and filter counts */
    CHECK(!join(&f, s, "h", "x", 1).existed);
    struct outcome cut = join(&f, s, "gx", "x", 1); /* not the text of both, run together */
    CHECK(!cut.existed && s->subscription_count == 4);
    struct outcome again = join(&f, s, "g", "x", 2);
    CHECK(again.existed && again.share == one.share && again.share->options.qos == 2 && s->subscription_count == 4);
    CHECK(!subscribe(&f, s, "x", 1).existed); /* and no subscription of its own */
    fixture_apply(&f, &(struct command){.type = COMMAND_SHARE_LEAVE, .session = s, .share_leave = one.share});
    free(one.share);
    CHECK(s->subscription_count == 4);
    CHECK(!join(&f, s, "g", "x", 0).existed);
    fixture_deinit(&f);
}

static void test_subscription_limit(void)
{
    struct fixture f;
    fixture_init(&f);
    f.context.subscriptions_max = 3;
    struct session *a = claim(&f, "a", false, 60, NULL).session, *b = claim(&f, "b", false, 60, NULL).session;

    CHECK(subscribe(&f, a, "1", 0).error == 0);
    CHECK(join(&f, a, "g", "2", 0).error == 0);
    CHECK(subscribe(&f, a, "3", 0).error == 0);
    struct outcome out = subscribe(&f, a, "4", 0);
    CHECK(out.error == -EDQUOT && !out.subscription && !out.announce);
    CHECK(topic_tree_find(f.context.tree, a, SLICE("4")) == NULL);
    CHECK(join(&f, a, "g", "4", 0).error == -EDQUOT);
    CHECK(a->subscription_count == 3);
    CHECK(subscribe(&f, a, "1", 2).error == 0); /* what exists may be changed */
    CHECK(join(&f, a, "g", "2", 2).existed);
    CHECK(subscribe(&f, b, "4", 0).error == 0); /* each session for itself */
    unsubscribe(&f, a, "1");
    CHECK(subscribe(&f, a, "4", 0).error == 0);
    fixture_deinit(&f);
}

/* [MQTT-4.3.3-10]: until PUBREL the identifier stands for one message. */
static void test_qos2_in(void)
{
    struct fixture f;
    fixture_init(&f);
    struct session *a = claim(&f, "a", false, 60, NULL).session, *b = claim(&f, "b", false, 60, NULL).session;

    CHECK(acknowledge(&f, a, COMMAND_QOS2_RELEASE, 1).error == -ENOENT);
    struct outcome out = acknowledge(&f, a, COMMAND_QOS2_IN, 1);
    CHECK(out.error == 0 && !out.existed);
    out = acknowledge(&f, a, COMMAND_QOS2_IN, 1);
    CHECK(out.error == 0 && out.existed);
    CHECK(!acknowledge(&f, a, COMMAND_QOS2_IN, 65535).existed);
    CHECK(!acknowledge(&f, b, COMMAND_QOS2_IN, 1).existed); /* another session */
    detach(&f, a);
    claim(&f, "a", false, 60, NULL);
    CHECK(acknowledge(&f, a, COMMAND_QOS2_IN, 1).existed); /* outlives the connection */
    CHECK(acknowledge(&f, a, COMMAND_QOS2_RELEASE, 1).error == 0);
    CHECK(acknowledge(&f, a, COMMAND_QOS2_RELEASE, 1).error == -ENOENT);
    CHECK(!acknowledge(&f, a, COMMAND_QOS2_IN, 1).existed); /* a new message */
    fixture_deinit(&f);
}

static struct outcome retain(struct fixture *f, const char *topic, const char *payload)
{
    struct message *m = make_message(slice_str(topic), slice_str(payload), MESSAGE_NEVER);
    struct outcome out = fixture_apply(f, &(struct command){.type = COMMAND_RETAIN, .retain = m});
    message_unref(m);
    return out;
}

static void test_retain(void)
{
    struct fixture f;
    fixture_init(&f);
    f.retained.count_max = 2;

    CHECK(retain(&f, "a", "").error == 0); /* nothing there to be cleared */
    CHECK(!retain(&f, "a", "").existed);
    CHECK(retain(&f, "a", "1").error == 0);
    CHECK(retain(&f, "b", "1").error == 0);
    CHECK(retain(&f, "c", "1").error == -EDQUOT);
    CHECK(retain(&f, "c", "").error == 0);
    CHECK(retain(&f, "a", "2").error == 0); /* [MQTT-3.3.1-5] */
    const struct message *m = retained_get(f.context.retained, SLICE("a"), test_hash(SLICE("a")), 0);
    CHECK(m && slice_eq(message_payload(m), SLICE("2")));
    CHECK(retain(&f, "a", "").existed); /* [MQTT-3.3.1-6] */
    CHECK(retained_get(f.context.retained, SLICE("a"), test_hash(SLICE("a")), 0) == NULL);
    CHECK(retain(&f, "c", "1").error == 0);
    CHECK(retained_count(f.context.retained) == 2);
    fixture_deinit(&f);
}

UNIT_MAIN("broker/group/group", {"claim", test_claim}, {"session quota", test_session_quota},
          {"will and expiry", test_will_and_expiry}, {"back in time", test_back_in_time}, {"due order", test_due_order},
          {"subscribe", test_subscribe}, {"share", test_share}, {"subscription limit", test_subscription_limit},
          {"qos 2 in", test_qos2_in}, {"retain", test_retain})
