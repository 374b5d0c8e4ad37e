/* A node that was killed comes up with all that it has said: the same sessions, whatever of them is in the state and
 * what in the log, and however many shards it has now. */
#include "tests/lib/alloc_fail.h"

/* Memory fails in recovery only: what comes before it is asserted to have all. */
#define recover recover_really
#include "broker/flow/recover.c"
#undef recover
int recover(struct node_tables *node, struct broker *const *brokers, unsigned count);

#include "broker/group/group_restore.c"
#include "proto/base/map.c"

#include "tests/unit/broker/flow/durable_fixture.h"

static unsigned fail_at; /* allocation of the next recovery; 0: none */
static bool has_failed;

int recover(struct node_tables *node, struct broker *const *brokers, unsigned count)
{
    alloc_fail_at = fail_at;
    int rc = recover_really(node, brokers, count);
    has_failed = fail_at > 0 && alloc_fail_at == 0;
    alloc_fail_at = fail_at = 0;
    return rc;
}

/* ---- one story that has everything ---- */

static void take_part(struct sim_socket *s, uint8_t qos, uint16_t packet_id, unsigned number, const char *topic)
{
    publish(s, &(struct words){.topic = topic, .qos = qos, .packet_id = packet_id, .size = 8, .number = number});
    CHECK(hear_type(s, qos == 1 ? MQTT_PUBACK : MQTT_PUBREC));
    if (qos == 2) {
        answer(s, MQTT_PUBREL, packet_id);
        CHECK(hear_type(s, MQTT_PUBCOMP));
    }
}

static void unsubscribe(struct sim_socket *s, const char *filter)
{
    struct mqtt_subscription sub = {.filter = slice_str(filter)};
    struct buf out = {0};

    mqtt_unsubscribe_encode(&out, MQTT_V5, 2, &(struct mqtt_properties){0}, &sub, 1);
    say(s, &out);
    CHECK(hear_type(s, MQTT_UNSUBACK));
}

static void who_stays_away(void)
{
    struct sim_socket *s = come_back("away", NULL);

    subscribe(s, "t/+", 1);
    subscribe(s, "q/#", 2);
    leave(s);
    s = come_back("not any more", NULL);
    subscribe(s, "t/+", 1);
    subscribe(s, "other", 1);
    unsubscribe(s, "t/+");
    leave(s);
    s = come_back("shared 1", NULL);
    subscribe(s, "$share/g/s/#", 1);
    subscribe(s, "$share/h/s/#", 1);
    unsubscribe(s, "$share/h/s/#");
    leave(s);
    leave(come_back("ends", NULL));
    leave(come(&(struct visitor){.id = "ends", .clean = true}, 0, NULL));
    s = come_back("begins anew", NULL);
    subscribe(s, "t/+", 1);
    leave(s);
    leave(come(&(struct visitor){.id = "begins anew", .clean = true, .expiry_s = KEPT_S}, 0, NULL));
}

/* Who is connected when the node is killed. */
static void who_is_here(struct sim_socket **ret_here, struct sim_socket **ret_sender)
{
    struct sim_socket *s =
        come(&(struct visitor){.id = "wills", .expiry_s = KEPT_S, .will = "t/w", .will_delay_s = 30}, 1, NULL);
    s = come_back("shared 2", NULL);
    subscribe(s, "$share/g/s/#", 1);
    s = come(&(struct visitor){.id = "here", .expiry_s = KEPT_S, .receive_max = 3}, 1, NULL);
    subscribe(s, "t/1", 1);
    subscribe(s, "q/1", 2);
    *ret_here = s;
    *ret_sender = come_back("sender", NULL);
}

/* checkpoint_after: a bit for each of the four parts, all groups go into the state behind it. */
static void tell_story(unsigned checkpoint_after)
{
    struct sim_socket *here, *sender;
    struct mqtt_publish p;

    who_stays_away();
    if (checkpoint_after & 1) {
        checkpoint();
    }
    who_is_here(&here, &sender);
    if (checkpoint_after & 2) {
        checkpoint();
    }
    take_part(sender, 1, 1, 1, "t/1");
    take_part(sender, 2, 2, 2, "q/1");
    take_part(sender, 1, 3, 3, "t/1");
    take_part(sender, 1, 4, 4, "t/1");
    publish(sender, &(struct words){.topic = "r", .qos = 1, .retain = true, .packet_id = 5, .size = 8, .number = 5});
    CHECK(hear_type(sender, MQTT_PUBACK));
    if (checkpoint_after & 4) {
        checkpoint();
    }
    CHECK(hear_number(here, &p) == 1 && p.packet_id == 1);
    CHECK(hear_number(here, &p) == 2 && p.packet_id == 2);
    CHECK(hear_number(here, &p) == 3 && p.packet_id == 3);
    answer(here, MQTT_PUBREC, 2);
    CHECK(hear_type(here, MQTT_PUBREL));
    answer(here, MQTT_PUBACK, 3);
    CHECK(hear_number(here, &p) == 4 && p.packet_id == 4);
    publish(sender, &(struct words){.topic = "q/2", .qos = 2, .packet_id = 9, .size = 8, .number = 6});
    CHECK(hear_type(sender, MQTT_PUBREC));
    if (checkpoint_after & 8) {
        checkpoint();
    }
}

static void digests(uint64_t *ret)
{
    for (unsigned g = 0; g < GROUPS; g++) {
        ret[g] = w.node.brokers[g % w.node.shard_count].groups[g].digest;
    }
}

/* Each message that comes by itself, answered to the end; digits of their numbers in order. */
static long hear_all(struct sim_socket *s)
{
    struct mqtt_publish p;
    struct mqtt_frame f;
    long all = 0;

    while (hear(s, &f)) {
        if (f.type == MQTT_PUBREL) {
            answer(s, MQTT_PUBCOMP, (uint16_t)(f.body.ptr[0] << 8 | f.body.ptr[1]));
            continue;
        }
        CHECK(f.type == MQTT_PUBLISH && mqtt_publish_decode(f.body, f.flags, MQTT_V5, &p) == MQTT_SUCCESS);
        all = all * 10 + atoi((const char *)p.payload.ptr);
        if (p.qos > 0) {
            answer(s, p.qos == 1 ? MQTT_PUBACK : MQTT_PUBREC, p.packet_id);
        }
    }
    return all;
}

static void check_here(void)
{
    struct mqtt_publish p;
    struct mqtt_frame f;
    bool present;
    struct sim_socket *s = come(&(struct visitor){.id = "here", .expiry_s = KEPT_S, .receive_max = 3}, 0, &present);

    CHECK(present);
    CHECK(hear_number(s, &p) == 1 && p.dup && p.packet_id == 1);
    CHECK(hear(s, &f) && f.type == MQTT_PUBREL && f.body.ptr[1] == 2);
    CHECK(hear_number(s, &p) == 4 && p.dup && p.packet_id == 4);
    CHECK(!hear(s, &f));
    answer(s, MQTT_PUBACK, 1);
    answer(s, MQTT_PUBACK, 4);
    answer(s, MQTT_PUBCOMP, 2);
    CHECK(!hear(s, &f));
    leave(s);
}

static void check_sender(void)
{
    struct sim_socket *s = come_back("sender", NULL);

    publish(s, &(struct words){.topic = "q/2", .qos = 2, .packet_id = 9, .size = 8, .number = 6}); /* again */
    CHECK(hear_type(s, MQTT_PUBREC));
    answer(s, MQTT_PUBREL, 9);
    CHECK(hear_type(s, MQTT_PUBCOMP));
    take_part(s, 1, 1, 7, "s/1");
    leave(s);
}

/* All of it, once. */
static void check_story(void)
{
    struct sim_socket *s;
    bool present;

    world_settle();
    CHECK(metric(METRIC_SESSIONS) == 8);
    CHECK(session_of("ends") == NULL);
    CHECK(session_of("begins anew")->subscription_count == 0 && session_of("not any more")->subscription_count == 1);
    CHECK(session_of("away")->subscription_count == 2 && session_of("shared 1")->subscription_count == 1);
    check_here();
    check_sender();
    s = come_back("away", &present);
    CHECK(present && hear_all(s) == 12346);
    subscribe(s, "r", 0);
    CHECK(hear_all(s) == 5);
    world_pass(29500);
    CHECK(hear_all(s) == 0);
    world_pass(1000);
    CHECK(hear_all(s) == 77); /* the will */
    leave(s);
    long first = hear_all(come_back("shared 1", NULL)), second = hear_all(come_back("shared 2", NULL));
    CHECK(first + second == 7);
    CHECK(hear_all(come_back("not any more", NULL)) == 0);
    CHECK(metric(METRIC_QUEUED) == 0 && metric(METRIC_QUEUED_BYTES) == 0);
    const char *left = sim_node_leftover(&w.node);
    CHECK_CASE(left ? left : "nothing left", left == NULL);
}

static void test_story(void)
{
    uint64_t before[GROUPS], after[GROUPS];
    char name[64];

    for (unsigned i = 0; i < 48; i++) {
        unsigned shards = 1 + i % 3, then = 1 + i / 3 % 3;
        world_begin(shards, NULL);
        tell_story(i % 16);
        digests(before);
        world_restart(then);
        digests(after);
        snprintf(name, sizeof(name), "%u shards, then %u, checkpoints %x", shards, then, i % 16);
        CHECK_CASE(name, memcmp(before, after, sizeof(before)) == 0);
        if (i & 1) { /* killed again before anything could happen, and after the first turns */
            world_restart(shards);
            world_settle();
            world_restart(then);
        }
        check_story();
        world_end();
    }
}

/* What was acknowledged stays, though it would not be allowed now. */
static void test_lower_limits(void)
{
    static const char *const low[] = {"sys_interval=0",
                                      "limits.max_sessions=1",
                                      "limits.max_subscriptions=1",
                                      "limits.max_queued_messages=1",
                                      "limits.max_queued_bytes=1KiB",
                                      "limits.max_retained_messages=1",
                                      NULL};

    for (unsigned i = 0; i < 16; i += 5) {
        world_begin(1, NULL);
        tell_story(i);
        struct sim_socket *s = come(&(struct visitor){.id = "more", .clean = true}, 0, NULL);
        publish(s, &(struct words){.topic = "r/2", .qos = 1, .retain = true, .packet_id = 5, .size = 8});
        leave(s);
        world_crash();
        world_start(2, low);
        CHECK(w.rc == 0);
        world_settle();
        CHECK(metric(METRIC_SESSIONS) == 8 && metric(METRIC_QUEUED) == 8);
        CHECK(retained_count(w.node.brokers[0].retained) + retained_count(w.node.brokers[1].retained) == 2);
        world_restart(1);
        check_story();
        world_end();
    }
}

/* Of queues only their lengths are read, but for what was under way. */
static void test_reads(void)
{
    world_begin(2, NULL);
    struct sim_socket *s = come_back("a", NULL);
    subscribe(s, "t", 1);
    leave(s);
    publish_many("t", 0, 500, 100);
    checkpoint();
    publish_many("t", 500, 100, 100);
    uint64_t reads = mem_store_counts(w.disk)->reads;
    world_restart(1);
    CHECK(mem_store_counts(w.disk)->reads == reads);
    CHECK(session_of("a")->queue->waiting == 600);
    s = come_back("a", NULL);
    CHECK(take(s, 0, 10) == 10);
    world_restart(2); /* in the log are answers to what is in rows */
    CHECK(mem_store_counts(w.disk)->reads > reads);
    s = come_back("a", NULL);
    CHECK(take(s, 10, 1000) == 590);
    world_end();
}

static void test_expiry(void)
{
    world_begin(1, NULL);
    leave(come(&(struct visitor){.id = "away", .expiry_s = 20}, 0, NULL));
    come(&(struct visitor){.id = "here", .expiry_s = 20}, 0, NULL);
    checkpoint();
    world_crash();
    sim_node_advance(19000);
    world_start(2, NULL);
    CHECK(session_of("away") && session_of("here"));
    world_pass(2000);
    CHECK(!session_of("away") && session_of("here"));
    world_restart(1);
    CHECK(!session_of("away") && session_of("here"));
    world_pass(17000);
    CHECK(session_of("here") != NULL); /* since the node came up */
    world_pass(2000);
    CHECK(session_of("here") == NULL && metric(METRIC_SESSIONS) == 0);
    world_pass(31000);
    world_restart(1);
    CHECK(w.rows[SNAPSHOT_SESSION] == 0);
    CHECK(mem_store_log_count(w.disk) == 0);
    world_end();
}

/* Those that end with their connection end with the node. */
static void test_end_with_node(void)
{
    char id[8];

    for (unsigned late = 0; late < 2; late++) {
        world_begin(1, NULL);
        for (unsigned i = 0; i < 300; i++) {
            snprintf(id, sizeof(id), "c%u", i);
            come_back(id, NULL);
        }
        if (late) {
            checkpoint();
        }
        for (unsigned i = 0; i < 300; i++) {
            snprintf(id, sizeof(id), "c%u", i);
            come(&(struct visitor){.id = id, .expiry_s = i % 5 ? 0 : KEPT_S}, 0, NULL);
        }
        world_restart(1);
        world_settle();
        CHECK(metric(METRIC_SESSIONS) == 60);
        world_restart(1);
        world_settle();
        CHECK(metric(METRIC_SESSIONS) == 60 && session_of("c5") && !session_of("c6"));
        world_end();
    }
}

/* Whatever one batch or row is lost, the node comes up with the rest. */
static void test_damage(void)
{
    bool more = true;

    for (unsigned n = 0; more; n++) {
        world_begin(2, NULL);
        tell_story(n & 1 ? 0 : 4);
        mem_store_crash(w.disk, 0);
        sim_node_close(&w.node);
        sim_reboot();
        if (n & 1) {
            more = n / 2 < mem_store_log_count(w.disk);
            mem_store_damage_batch(w.disk, n / 2);
        } else {
            mem_store_damage_row(w.disk, n / 2);
        }
        world_start(1 + n % 3, NULL);
        CHECK(w.rc == 0);
        world_settle();
        CHECK(metric(METRIC_SESSIONS) >= 7);
        leave(come_back("away", NULL));
        checkpoint();
        world_restart(1);
        CHECK(session_of("away") != NULL);
        world_end();
    }
}

/* Each allocation fails once: recovery says so, everything is freed, and the next start finds all. */
static void test_memory_fails(void)
{
    for (unsigned checkpoints = 0; checkpoints < 16; checkpoints += 5) {
        has_failed = true;
        for (unsigned n = 1; has_failed; n++) {
            world_begin(2, NULL);
            tell_story(checkpoints);
            world_crash();
            fail_at = n;
            world_start(2, NULL);
            CHECK(w.rc == (has_failed ? -ENOMEM : 0));
            CHECK(has_failed || n > 20);
            world_restart(1);
            if (n % 4 == 0) {
                check_story();
            }
            world_end();
        }
    }
}

UNIT_MAIN("broker/flow/recover", {"everything is there again", test_story}, {"limits were lowered", test_lower_limits},
          {"queues are left on the disk", test_reads}, {"clocks go on", test_expiry},
          {"sessions of the connection", test_end_with_node}, {"damage", test_damage},
          {"memory fails", test_memory_fails})
