/* Which cluster a node belongs to: it takes an id, makes one, or waits. And SWIM with nodes of other clusters. */
#include "tests/unit/cluster/swim_node.h"
/* Behind the one that is compiled with allocations that can fail. */
#include "cluster/bootstrap.h"

#define LATE_MS (BOOTSTRAP_SETTLE_MS + 1)

static struct bootstrap boot;
static uint8_t found[MEMBER_CLUSTER_ID_SIZE];

static enum bootstrap_verdict look(unsigned expect, uint64_t after_ms)
{
    struct node_id self = id_of(ME);

    now += after_ms;
    return bootstrap_look(&boot, s, &self, expect, now, found);
}

/* Member i tells of itself, with the id of this cluster; 0: none. */
static void introduce(unsigned i, enum member_state state, uint32_t incarnation, uint8_t cluster)
{
    struct swim_rumour r = record(i, state, 1, incarnation);

    r.member.cluster_id[0] = cluster;
    receive(SWIM_ACK, i, 0, 200, &r);
}

/* This node belongs to a cluster from now on. */
static void join(uint8_t cluster)
{
    struct member self = options().self;

    self.cluster_id[0] = cluster;
    swim_self(s, now, &self);
}

static void start(void)
{
    begin();
    boot = (struct bootstrap){0};
}

static void test_expectations(void)
{
    static const struct {
        const char *name;
        unsigned expect, others[4];
        enum member_state state; /* of the last of them */
        enum bootstrap_verdict want;
    } rows[] = {
        {"alone, as expected", 1, {0}, MEMBER_ALIVE, BOOTSTRAP_MAKE},
        {"alone, one more expected", 2, {0}, MEMBER_ALIVE, BOOTSTRAP_WAIT},
        {"two of two", 2, {5}, MEMBER_ALIVE, BOOTSTRAP_MAKE},
        {"two of three", 3, {5}, MEMBER_ALIVE, BOOTSTRAP_WAIT},
        {"three of three", 3, {5, 6}, MEMBER_ALIVE, BOOTSTRAP_MAKE},
        {"more than expected", 2, {5, 6, 7}, MEMBER_ALIVE, BOOTSTRAP_MAKE},
        {"one of three is suspected", 3, {5, 6}, MEMBER_SUSPECT, BOOTSTRAP_WAIT},
        {"one of three has left", 3, {5, 6}, MEMBER_LEFT, BOOTSTRAP_WAIT},
        {"three of three, but another is the first", 3, {5, 0xffff}, MEMBER_ALIVE, BOOTSTRAP_WAIT},
    };

    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        start();
        for (unsigned k = 0; k < 4 && rows[i].others[k]; k++) {
            bool last = k == 3 || !rows[i].others[k + 1];
            struct swim_rumour r = record(rows[i].others[k], last ? rows[i].state : MEMBER_ALIVE, 1, 0);
            if (rows[i].others[k] == 0xffff) {
                r.member.id = (struct node_id){{0x01}};
            }
            receive(SWIM_ACK, 200, 0, 200, &r);
        }
        CHECK_CASE(rows[i].name, look(rows[i].expect, 0) == BOOTSTRAP_WAIT); /* others may be about to come */
        CHECK_CASE(rows[i].name, look(rows[i].expect, LATE_MS) == rows[i].want);
        CHECK_CASE(rows[i].name, (boot.due_ms == UINT64_MAX) == (rows[i].want == BOOTSTRAP_WAIT));
        end();
    }
}

static void test_settling(void)
{
    start();
    CHECK(look(1, 0) == BOOTSTRAP_WAIT && boot.due_ms == now + BOOTSTRAP_SETTLE_MS);
    CHECK(look(1, BOOTSTRAP_SETTLE_MS - 1) == BOOTSTRAP_WAIT);
    introduce(5, MEMBER_ALIVE, 0, 0);
    CHECK(look(1, 1) == BOOTSTRAP_WAIT); /* somebody has come: from the beginning */
    CHECK(look(1, BOOTSTRAP_SETTLE_MS - 1) == BOOTSTRAP_WAIT);
    CHECK(look(1, 1) == BOOTSTRAP_MAKE);
    end();
}

static void test_taking(void)
{
    start();
    introduce(5, MEMBER_ALIVE, 0, 0);
    introduce(6, MEMBER_LEFT, 0, 7); /* nobody is there any more who could say so */
    CHECK(look(1, 0) == BOOTSTRAP_WAIT);
    introduce(7, MEMBER_ALIVE, 0, 8);
    CHECK(look(1, LATE_MS) == BOOTSTRAP_TAKE && found[0] == 8 && found[1] == 0);
    CHECK(look(9, 0) == BOOTSTRAP_TAKE); /* whatever was expected */
    end();
}

/* Who belongs to another cluster is not taken in, is forgotten when it was, and so is nobody else by its word. */
static void test_foreign(void)
{
    start();
    introduce(5, MEMBER_ALIVE, 0, 7);
    introduce(6, MEMBER_ALIVE, 0, 8);
    introduce(9, MEMBER_ALIVE, 0, 0);
    CHECK(state_of(5) == MEMBER_ALIVE && state_of(6) == MEMBER_ALIVE && foreigners == 0);
    look_away();
    join(8);
    CHECK(state_of(5) == MEMBER_NONE && state_of(6) == MEMBER_ALIVE && state_of(9) == MEMBER_ALIVE);
    CHECK(changes == 1 && changed_last.state == MEMBER_NONE && changed_before == MEMBER_ALIVE);
    introduce(5, MEMBER_ALIVE, 1, 7);
    CHECK(state_of(5) == MEMBER_NONE && foreigners == 1);
    struct swim_rumour r = record(10, MEMBER_ALIVE, 1, 0);
    r.member.cluster_id[0] = 7;
    receive(SWIM_ACK, 9, 0, 200, &r);
    CHECK(state_of(10) == MEMBER_NONE && foreigners == 1); /* hearsay */
    r = record(9, MEMBER_ALIVE, 1, 1);
    r.member.cluster_id[0] = 7;
    receive(SWIM_ACK, 6, 0, 200, &r);
    CHECK(state_of(9) == MEMBER_ALIVE && foreigners == 1); /* hearsay too */
    introduce(9, MEMBER_ALIVE, 0, 7);
    CHECK(state_of(9) == MEMBER_ALIVE); /* not newer than what it said before */
    introduce(9, MEMBER_ALIVE, 1, 7);
    CHECK(state_of(9) == MEMBER_NONE && foreigners == 3);
    for (uint64_t until = now + 60000; now < until; now = swim_due(s)) {
        swim_tick(s, now);
    }
    CHECK(state_of(6) == MEMBER_DEAD);
    end();
}

UNIT_MAIN("cluster/bootstrap", {"how many there are", test_expectations}, {"when nobody comes any more", test_settling},
          {"another has an id", test_taking}, {"other clusters", test_foreign})
