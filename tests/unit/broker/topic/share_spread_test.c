/* share_spread_test.c -- which node's members of a share get a message. */
#include "tests/lib/alloc_fail.h"

#include "broker/topic/share_spread.c"

#include "tests/lib/make_message.h"
#include "tests/lib/unit.h"

#define SHARE 77u

static struct share_spread *spread;
static struct prng prng;

static void begin(void)
{
    prng_seed(&prng, 7);
    CHECK(share_spread_new(&spread) == 0);
}

static void end(void)
{
    share_spread_free(spread);
}

static void tell(unsigned node, struct share_load load)
{
    share_spread_told(spread, SHARE, node, 1000 + 100 * node, &load);
}

static struct share_load online(uint32_t members, uint32_t outstanding)
{
    return (struct share_load){.online = members, .room = members * SHARE_ROOM, .outstanding = outstanding};
}

static struct spread_choice among(unsigned nodes, struct share_load here)
{
    struct spread_choice choice = {.here = here, .here_seed = 999, .qos = 1};

    for (unsigned n = 0; n < nodes; n++) {
        spread_mask_set(&choice.nodes, n);
    }
    return choice;
}

static int pick_from(enum share_strategy strategy, const struct spread_choice *choice)
{
    return share_spread_pick(spread, SHARE, strategy, choice, &prng);
}

static const struct share_load nobody;

static void test_nobody(void)
{
    struct spread_choice choice = among(0, nobody);

    begin();
    CHECK(pick_from(SHARE_BY_LEAST_INFLIGHT, &choice) == SPREAD_NOBODY);
    tell(5, online(3, 0)); /* it has told, but no route leads there */
    CHECK(pick_from(SHARE_BY_LEAST_INFLIGHT, &choice) == SPREAD_NOBODY);
    choice.here = online(1, 0);
    CHECK(pick_from(SHARE_BY_LEAST_INFLIGHT, &choice) == SPREAD_HERE);
    end();
}

static void test_classes(void)
{
    struct spread_choice choice = among(3, (struct share_load){.offline = 2});

    begin();
    tell(0, (struct share_load){.offline = 5});
    tell(1, online(1, 500));
    CHECK(pick_from(SHARE_BY_LEAST_INFLIGHT, &choice) == 1); /* online, however busy, before all others */
    tell(1, nobody);
    for (int i = 0; i < 20; i++) { /* 1 and 2 may have somebody */
        int node = pick_from(SHARE_BY_LEAST_INFLIGHT, &choice);
        CHECK(node == 1 || node == 2);
    }
    choice.nodes = (struct spread_mask){{1}};
    CHECK(pick_from(SHARE_BY_LEAST_INFLIGHT, &choice) == SPREAD_HERE); /* offline, as near as any */
    choice.qos = 0;
    CHECK(pick_from(SHARE_BY_LEAST_INFLIGHT, &choice) == SPREAD_NOBODY);
    end();
}

static void test_near(void)
{
    struct spread_choice choice = among(1, online(1, 8));

    begin();
    tell(0, online(1, 0));
    CHECK(pick_from(SHARE_BY_LEAST_INFLIGHT, &choice) == SPREAD_HERE); /* half the room of the best */
    choice.here.outstanding = 9;
    CHECK(pick_from(SHARE_BY_LEAST_INFLIGHT, &choice) == 0);
    choice.here.outstanding = 16;
    for (int i = 0; i < 15; i++) {
        CHECK(pick_from(SHARE_BY_LEAST_INFLIGHT, &choice) == 0);
    }
    CHECK(pick_from(SHARE_BY_LEAST_INFLIGHT, &choice) == SPREAD_HERE); /* both are full: near */
    share_spread_settle(spread, SHARE, 0);
    CHECK(pick_from(SHARE_BY_LEAST_INFLIGHT, &choice) == 0);
    choice.here.outstanding = 1600;
    CHECK(pick_from(SHARE_BY_LEAST_INFLIGHT, &choice) == 0);
    end();
}

/* Over many picks each node gets about as many as it has room; a report that is old does not draw all to one. */
static void test_two_choices(void)
{
    struct spread_choice choice = among(10, nobody);
    unsigned got[10] = {0};

    begin();
    for (unsigned n = 0; n < 10; n++) {
        tell(n, online(10, 0));
    }
    for (int i = 0; i < 1000; i++) {
        got[pick_from(SHARE_BY_LEAST_INFLIGHT, &choice)]++;
    }
    for (unsigned n = 0; n < 10; n++) {
        CHECK(got[n] > 80 && got[n] < 120);
    }
    end();
}

static void test_round_robin(void)
{
    struct spread_choice choice = among(2, online(1, 0));
    unsigned got[3] = {0};

    begin();
    tell(0, online(2, 0));
    tell(1, online(3, 0));
    for (int i = 0; i < 60; i++) {
        int node = pick_from(SHARE_BY_ROUND_ROBIN, &choice);
        got[node == SPREAD_HERE ? 2 : node]++;
    }
    CHECK(got[0] == 20 && got[1] == 30 && got[2] == 10);
    end();
}

static void test_random_and_sticky(void)
{
    struct spread_choice choice = among(2, online(1, 0));
    unsigned got[3] = {0};

    begin();
    tell(0, online(2, 0));
    tell(1, online(1, 0));
    choice.qos = 0;
    for (int i = 0; i < 4000; i++) {
        int node = pick_from(SHARE_BY_RANDOM, &choice);
        got[node == SPREAD_HERE ? 2 : node]++;
    }
    CHECK(got[0] > 1800 && got[0] < 2200 && got[1] > 850 && got[2] > 850);
    choice.here = nobody;
    int first = pick_from(SHARE_BY_STICKY, &choice);
    for (int i = 0; i < 50; i++) {
        CHECK(pick_from(SHARE_BY_STICKY, &choice) == first);
    }
    tell((unsigned)first, online(1, 100)); /* no room any more */
    CHECK(pick_from(SHARE_BY_STICKY, &choice) == 1 - first);
    end();
}

/* The same from each node's point of view, and only the topics of what was lost move. */
static void test_hash_topic(void)
{
    struct spread_choice at_here = among(2, online(2, 0)), at_one = among(0, online(2, 0));
    unsigned moved = 0;

    begin();
    tell(0, online(2, 0));
    tell(1, online(2, 0));
    share_spread_told(spread, SHARE, 2, 999, &at_here.here); /* as node 1 sees it: this one is node 2 */
    spread_mask_set(&at_one.nodes, 0);
    spread_mask_set(&at_one.nodes, 2);
    at_one.here_seed = 1100;
    for (uint64_t topic = 0; topic < 600; topic++) {
        at_here.topic_hash = at_one.topic_hash = hash_mix(topic);
        int here = pick_from(SHARE_BY_HASH_TOPIC, &at_here), one = pick_from(SHARE_BY_HASH_TOPIC, &at_one);
        CHECK((here == 0 && one == 0) || (here == 1 && one == SPREAD_HERE) || (here == SPREAD_HERE && one == 2));
    }
    for (uint64_t topic = 0; topic < 600; topic++) {
        at_here.topic_hash = hash_mix(topic);
        tell(0, online(2, 0));
        int before = pick_from(SHARE_BY_HASH_TOPIC, &at_here);
        tell(0, online(1, 0));
        int after = pick_from(SHARE_BY_HASH_TOPIC, &at_here);
        CHECK(before == 0 || before == after);
        moved += before != after;
    }
    CHECK(moved > 60 && moved < 140);
    end();
}

static void test_forget(void)
{
    struct spread_choice choice = among(1, (struct share_load){.offline = 1});

    begin();
    tell(0, online(1, 0));
    tell(1, online(1, 0));
    share_spread_forget(spread, 0);
    share_spread_forget(spread, 1);
    CHECK(pick_from(SHARE_BY_ROUND_ROBIN, &choice) == 0); /* unknown again */
    tell(0, online(1, 0));
    CHECK(pick_from(SHARE_BY_ROUND_ROBIN, &choice) == 0);
    end();
}

static void test_no_memory(void)
{
    struct spread_choice choice = among(2, nobody);

    begin();
    tell(0, online(1, 0));
    alloc_fail_at = 1;
    tell(1, online(1, 0));
    tell(0, online(4, 1)); /* needs none */
    alloc_fail_at = 0;
    CHECK(pick_from(SHARE_BY_LEAST_INFLIGHT, &choice) == 0);
    end();
    alloc_fail_at = 1;
    CHECK(share_spread_new(&spread) == -ENOMEM);
    alloc_fail_at = 0;
}

UNIT_MAIN("broker/topic/share_spread", {"nobody is there", test_nobody}, {"online, unknown, offline", test_classes},
          {"near is preferred while it has room", test_near}, {"two choices", test_two_choices},
          {"round robin goes by members", test_round_robin}, {"random and sticky", test_random_and_sticky},
          {"hash topic", test_hash_topic}, {"a node is forgotten", test_forget}, {"no memory", test_no_memory})
