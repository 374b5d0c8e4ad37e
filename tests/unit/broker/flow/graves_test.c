/* graves_test.c -- the retained messages of a node in a cluster over crashes: their stamps, and what was deleted, come
 * back from the log and from the state, and are forgotten in time. */
#include "tests/unit/broker/flow/durable_fixture.h"

#define SETS 10u
#define CLEARS 4u
#define GRAVE_MS 60000u

static struct retained_replica replica;

/* As a node of a cluster, whose sums begin with nothing. */
static void be_replica(void)
{
    memset(&replica, 0, sizeof(replica));
    replica.key = (struct hash_key){1, 2};
    replica.grave_ms = GRAVE_MS;
    replica.graves_max = 100;
    sim_replica = &replica;
}

static uint64_t sum_of_all(void)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < RETAINED_BUCKETS; i++) {
        sum = hash_mix(sum ^ atomic_load(&replica.sums[i]));
    }
    return sum;
}

static void restart(unsigned shards)
{
    world_crash();
    be_replica();
    world_start(shards, NULL);
    CHECK(w.rc == 0);
}

static size_t kept(void)
{
    size_t count = 0;

    for (unsigned i = 0; i < w.node.shard_count; i++) {
        count += retained_count(w.node.brokers[i].retained);
    }
    return count;
}

static void begin(unsigned shards)
{
    struct words m = {.qos = 1, .retain = true, .packet_id = 1};
    char topic[8];

    be_replica();
    world_begin(shards, NULL);
    struct sim_socket *s = come(&(struct visitor){.id = "p", .clean = true}, 0, NULL);
    for (unsigned i = 0; i < SETS + CLEARS; i++) {
        snprintf(topic, sizeof(topic), "r/%u", i % SETS);
        m.topic = topic;
        m.size = i < SETS ? 5 : 0;
        publish(s, &m);
    }
}

static void end(void)
{
    world_end();
    sim_replica = NULL;
}

static void test_from_log_and_state(void)
{
    begin(2);
    uint64_t sum = sum_of_all(), clock = atomic_load(&w.node.tables.stamp);

    CHECK(kept() == SETS - CLEARS && atomic_load(&replica.graves) == CLEARS);
    restart(1); /* from the log */
    CHECK(w.rows[SNAPSHOT_RETAINED] == 0);
    CHECK(kept() == SETS - CLEARS && atomic_load(&replica.graves) == CLEARS && sum_of_all() == sum);
    CHECK(atomic_load(&w.node.tables.stamp) == clock); /* what comes now is later */
    checkpoint();
    restart(3); /* from the state */
    CHECK(w.rows[SNAPSHOT_RETAINED] == SETS);
    CHECK(kept() == SETS - CLEARS && atomic_load(&replica.graves) == CLEARS && sum_of_all() == sum);
    CHECK(atomic_load(&w.node.tables.stamp) == clock);
    end();
}

/* When their time is over, their rows go too: at once, or at the next start. */
static void test_forgotten(void)
{
    begin(1);
    checkpoint();
    world_pass(GRAVE_MS + 1000);
    CHECK(atomic_load(&replica.graves) == 0);
    world_pass(60000); /* each group's next checkpoint: nobody has logged a change that would hurry it */
    restart(1);
    CHECK(w.rows[SNAPSHOT_RETAINED] == SETS - CLEARS && kept() == SETS - CLEARS);
    end();
}

/* A node that is alone again has no use for them. */
static void test_alone_again(void)
{
    begin(1);
    checkpoint();
    world_crash();
    sim_replica = NULL;
    world_start(1, NULL);
    CHECK(w.rc == 0 && w.rows[SNAPSHOT_RETAINED] == SETS && kept() == SETS - CLEARS);
    world_pass(40000);
    world_crash();
    world_start(1, NULL);
    CHECK(w.rows[SNAPSHOT_RETAINED] == SETS - CLEARS);
    end();
}

UNIT_MAIN("broker/flow/graves", {"from the log and from the state", test_from_log_and_state},
          {"forgotten in time", test_forgotten}, {"alone again", test_alone_again})
