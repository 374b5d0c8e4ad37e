/* share_group_test.c -- who of a share's members gets a message, and what is counted against whom. */
#include "tests/lib/alloc_fail.h"

#include "broker/topic/share_group.c"

#include "tests/lib/make_message.h"
#include "tests/lib/unit.h"

/* map.c is part of the library and does not fail here: its own memory is tested where it lives. */

static struct share_table *table;
static struct share_group *group;
static struct prng prng;

static void begin(void)
{
    uint64_t next_id = 1;
    bool created = false;

    prng_seed(&prng, 7);
    CHECK(share_table_new(&test_key, &table) == 0);
    CHECK(share_table_open(table, SLICE("s"), SLICE("t/#"), &next_id, &group, &created) == 0);
    CHECK(created);
}

static void end(void)
{
    share_table_free(table); /* members that are left go with it */
}

static bool join(struct share_member member)
{
    bool existed = true;
    CHECK(share_group_join(group, &member, &existed) == 0);
    return existed;
}

static const struct share_member *member(uint64_t session)
{
    return find_member(group, session);
}

static uint64_t pick_except(enum share_strategy strategy, uint64_t topic_hash, uint8_t qos, uint64_t except)
{
    const struct share_member *m = share_group_pick(group, strategy, topic_hash, qos, except, &prng);
    return m ? m->session : 0;
}

static uint64_t pick_one(enum share_strategy strategy, uint8_t qos)
{
    return pick_except(strategy, 99, qos, 0);
}

/* ---- the table ---- */

static void test_table(void)
{
    static const struct {
        const char *share, *filter;
        uint64_t id;
        bool created;
    } opens[] = {
        {"s", "t/#", 1, false},  {"s", "t/+", 10, true}, {"S", "t/#", 11, true},  {"st", "/#", 12, true},
        {"s", "t/+", 10, false}, {"t/#", "s", 13, true}, {"st", "/#", 12, false},
    };
    uint64_t next_id = 10;

    begin();
    for (size_t i = 0; i < COUNT_OF(opens); i++) {
        struct slice name = slice_str(opens[i].share), filter = slice_str(opens[i].filter);
        struct share_group *g = NULL;
        bool created = !opens[i].created;
        CHECK_CASE(opens[i].filter, share_table_open(table, name, filter, &next_id, &g, &created) == 0);
        CHECK_CASE(opens[i].filter, created == opens[i].created);
        CHECK_CASE(opens[i].filter, share_group_id(g) == opens[i].id);
        CHECK_CASE(opens[i].filter, slice_eq(share_group_filter(g), filter));
        CHECK_CASE(opens[i].filter, share_table_find(table, name, filter) == g);
        CHECK_CASE(opens[i].filter, share_table_by_id(table, opens[i].id) == g);
    }
    CHECK(next_id == 14);
    CHECK(share_table_find(table, SLICE("s"), SLICE("t")) == NULL);
    CHECK(share_table_find(table, SLICE(""), SLICE("st/#")) == NULL);
    CHECK(share_table_by_id(table, 14) == NULL);
    CHECK(share_table_by_id(table, 0) == NULL);
    end();
}

/* A share that comes again after its last member left is another one: a late mail to the old one must not reach it. */
static void test_table_close(void)
{
    uint64_t next_id = 2;
    bool created = false;

    begin();
    join((struct share_member){.session = 1});
    CHECK(share_group_leave(group, 1));
    share_table_close(table, group);
    CHECK(share_table_by_id(table, 1) == NULL);
    CHECK(share_table_find(table, SLICE("s"), SLICE("t/#")) == NULL);
    CHECK(share_table_open(table, SLICE("s"), SLICE("t/#"), &next_id, &group, &created) == 0);
    CHECK(created);
    CHECK(share_group_id(group) == 2);
    CHECK(share_group_count(group) == 0);
    end();
}

static void test_join_and_leave(void)
{
    struct share_member first = {
        .session = 1, .shard = 3, .window = 10, .online = true, .options = {.qos = 1, .id = 5}};

    begin();
    CHECK(pick_one(SHARE_BY_ROUND_ROBIN, 1) == 0); /* nobody there */
    CHECK(!join(first));
    CHECK(pick_one(SHARE_BY_ROUND_ROBIN, 1) == 1);
    first.options.qos = 2;
    first.options.id = 6;
    CHECK(join(first));
    CHECK(share_group_count(group) == 1);
    CHECK(member(1)->options.qos == 2);
    CHECK(member(1)->options.id == 6);
    CHECK(member(1)->shard == 3);
    CHECK(member(1)->outstanding == 1); /* new options settle nothing */
    CHECK(!join((struct share_member){.session = 2}));
    CHECK(share_group_count(group) == 2);
    CHECK(!share_group_leave(group, 3)); /* unknown */
    CHECK(share_group_count(group) == 2);
    CHECK(!share_group_leave(group, 1));
    CHECK(!share_group_leave(group, 1)); /* twice */
    CHECK(member(1) == NULL);
    CHECK(share_group_leave(group, 2));
    CHECK(share_group_leave(group, 2)); /* empty is empty */
    CHECK(pick_one(SHARE_BY_ROUND_ROBIN, 1) == 0);
    end();
}

/* ---- who is picked ---- */

#define UP(n, w, o) \
    ((struct share_member){.session = n, .online = true, .window = w, .outstanding = o, .options = {.qos = 1}})
#define DOWN(n, o) ((struct share_member){.session = n, .outstanding = o, .options = {.qos = 1}})
#define DOWN0(n) ((struct share_member){.session = n})

#define ROUND SHARE_BY_ROUND_ROBIN
#define LEAST SHARE_BY_LEAST_INFLIGHT
#define STICKY SHARE_BY_STICKY
#define HASH SHARE_BY_HASH_TOPIC
#define RANDOM SHARE_BY_RANDOM

/* Picks one after the other from the members as they are at first, what is picked counting as outstanding. */
static const struct {
    const char *name;
    enum share_strategy strategy;
    uint8_t qos;
    uint64_t except;
    struct share_member members[4];
    uint64_t want[6]; /* sessions; up to 0 = nobody */
} picks[] = {
    {"in order of joining", ROUND, 1, 0, {UP(3, 9, 0), UP(1, 9, 0), UP(2, 9, 0)}, {3, 1, 2, 3, 1}},
    {"does not weigh", ROUND, 1, 0, {UP(1, 9, 5), UP(2, 9, 0)}, {1, 2, 1, 2}},
    {"passes over the full", ROUND, 1, 0, {UP(1, 9, 0), UP(2, 5, 5), UP(3, 9, 0)}, {1, 3, 1, 3}},
    {"passes over the offline", ROUND, 1, 0, {UP(1, 9, 0), DOWN(2, 0), UP(3, 9, 0)}, {1, 3, 1}},
    {"one gets full on the way", ROUND, 1, 0, {UP(1, 1, 0), UP(2, 9, 0)}, {1, 2, 2, 2}},
    {"all full: fewest outstanding", ROUND, 1, 0, {UP(1, 5, 7), UP(2, 5, 5), UP(3, 5, 6)}, {2, 3, 2, 3, 1}},
    {"full before offline", ROUND, 1, 0, {DOWN(1, 0), UP(2, 1, 9)}, {2, 2, 2}},
    {"all offline: fewest outstanding", ROUND, 1, 0, {DOWN(1, 2), DOWN(2, 0)}, {2, 2, 1, 2, 1}},
    {"offline ones get no QoS 0", ROUND, 0, 0, {DOWN(1, 0), DOWN(2, 0)}, {0}},
    {"offline ones of QoS 0 get nothing", ROUND, 1, 0, {DOWN0(1), DOWN0(2)}, {0}},
    {"offline, one of them of QoS 0", ROUND, 2, 0, {DOWN0(1), DOWN(2, 50)}, {2, 2}},
    {"QoS 0 goes round too", ROUND, 0, 0, {UP(1, 1, 0), UP(2, 1, 0)}, {1, 2, 1, 2}},
    {"QoS 0 to the full if there are no others", ROUND, 0, 0, {UP(1, 1, 1), UP(2, 1, 2)}, {1, 1}},
    {"window 0 is full", ROUND, 1, 0, {UP(1, 0, 0), UP(2, 9, 8)}, {2, 1, 1}},

    {"least", LEAST, 1, 0, {UP(1, 9, 2), UP(2, 9, 0), UP(3, 9, 1)}, {2, 3, 2, 3, 1}},
    {"least: ties go round", LEAST, 1, 0, {UP(1, 9, 0), UP(2, 9, 0), UP(3, 9, 0)}, {1, 2, 3, 1, 2}},
    {"least: QoS 0 goes round", LEAST, 0, 0, {UP(1, 9, 0), UP(2, 9, 0)}, {1, 2, 1}},
    {"least: room before fewest", LEAST, 1, 0, {UP(1, 1, 1), UP(2, 9, 5)}, {2, 2, 2}},
    {"least: online before fewest", LEAST, 1, 0, {DOWN(1, 0), UP(2, 9, 5)}, {2, 2}},
    {"least: all offline", LEAST, 1, 0, {DOWN(1, 1), DOWN(2, 0)}, {2, 1, 2, 1}},

    {"sticky", STICKY, 1, 0, {UP(1, 3, 0), UP(2, 9, 0)}, {1, 1, 1, 2, 2}},
    {"sticky: nobody has room", STICKY, 1, 0, {UP(1, 1, 4), UP(2, 1, 3)}, {2, 1, 2}},
    {"sticky: all offline", STICKY, 1, 0, {DOWN(1, 1), DOWN(2, 0)}, {2, 1, 2}},

    {"random: the only one with room", RANDOM, 1, 0, {UP(1, 1, 1), DOWN(2, 0), UP(3, 9, 8)}, {3, 1, 1}},
    {"random: all full", RANDOM, 1, 0, {UP(1, 1, 4), UP(2, 1, 3)}, {2, 1, 2}},
    {"random: nobody", RANDOM, 0, 0, {DOWN(1, 0)}, {0}},

    {"hash: full or not", HASH, 1, 0, {UP(1, 1, 7), DOWN(2, 0), DOWN(3, 0)}, {1, 1, 1}},
    {"hash: nobody", HASH, 0, 0, {DOWN(1, 0), DOWN(2, 0)}, {0}},

    {"except, round robin", ROUND, 1, 1, {UP(1, 9, 0), UP(2, 9, 0), UP(3, 9, 0)}, {2, 3, 2, 3}},
    {"except, least inflight", LEAST, 1, 1, {UP(1, 9, 0), UP(2, 9, 8)}, {2, 2}},
    {"except, sticky", STICKY, 1, 1, {UP(1, 9, 0), UP(2, 9, 0)}, {2, 2}},
    {"except, random", RANDOM, 1, 1, {UP(1, 9, 0), UP(2, 9, 0)}, {2, 2, 2, 2}},
    {"except, hash", HASH, 1, 1, {UP(1, 9, 0), UP(2, 9, 0)}, {2, 2}},
    {"except: the others are full", ROUND, 1, 1, {UP(1, 9, 0), UP(2, 1, 1)}, {2, 2}},
    {"except: the others are offline", LEAST, 1, 1, {UP(1, 9, 0), DOWN(2, 0)}, {2, 2}},
    {"except: no other can have it", ROUND, 0, 1, {UP(1, 9, 0), DOWN(2, 0)}, {1, 1}},
    {"except: no other at all", STICKY, 1, 1, {UP(1, 9, 0)}, {1, 1}},
    {"except: hash, no other at all", HASH, 1, 1, {UP(1, 9, 0)}, {1, 1}},
    {"except: random, no other at all", RANDOM, 1, 1, {UP(1, 9, 0)}, {1, 1}},
    {"except: one who is not there", ROUND, 1, 77, {UP(1, 9, 0), UP(2, 9, 0)}, {1, 2, 1}},
};

static void test_pick(void)
{
    for (size_t i = 0; i < COUNT_OF(picks); i++) {
        begin();
        for (size_t k = 0; k < COUNT_OF(picks[i].members) && picks[i].members[k].session; k++) {
            join(picks[i].members[k]);
        }
        for (size_t k = 0; k == 0 || (k < COUNT_OF(picks[i].want) && picks[i].want[k]); k++) {
            uint64_t got = pick_except(picks[i].strategy, 99, picks[i].qos, picks[i].except);
            CHECK_CASE(picks[i].name, got == picks[i].want[k]);
        }
        end();
    }
}

/* What a pick counts: the lower QoS of message and member decides whether an acknowledgement will come. */
static void test_counting(void)
{
    static const struct {
        const char *name;
        uint8_t message, member;
        uint32_t counted;
    } rows[] = {
        {"0 to 0", 0, 0, 0}, {"0 to 2", 0, 2, 0}, {"1 to 0", 1, 0, 0}, {"2 to 0", 2, 0, 0},
        {"1 to 1", 1, 1, 1}, {"1 to 2", 1, 2, 1}, {"2 to 1", 2, 1, 1}, {"2 to 2", 2, 2, 1},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        begin();
        join((struct share_member){.session = 1, .online = true, .window = 9, .options = {.qos = rows[i].member}});
        CHECK_CASE(rows[i].name, pick_one(SHARE_BY_LEAST_INFLIGHT, rows[i].message) == 1);
        CHECK_CASE(rows[i].name, member(1)->outstanding == rows[i].counted);
        end();
    }
}

static void test_settle(void)
{
    begin();
    join(UP(1, 2, 0));
    join(UP(2, 9, 9));
    CHECK(pick_one(SHARE_BY_ROUND_ROBIN, 1) == 1);
    CHECK(pick_one(SHARE_BY_ROUND_ROBIN, 1) == 1);
    CHECK(pick_one(SHARE_BY_ROUND_ROBIN, 1) == 1); /* both full: the fewest */
    CHECK(member(1)->outstanding == 3);
    share_group_settle(group, 1, 2);
    CHECK(member(1)->outstanding == 1);
    share_group_settle(group, 1, 0);
    CHECK(member(1)->outstanding == 1);
    share_group_settle(group, 1, 5); /* more than there is: a member that left and came again */
    CHECK(member(1)->outstanding == 0);
    share_group_settle(group, 3, 1); /* unknown */
    CHECK(member(2)->outstanding == 9);
    share_group_settle(group, 2, 1);
    CHECK(pick_one(SHARE_BY_ROUND_ROBIN, 1) == 2); /* has room again */
    end();
}

static void test_presence(void)
{
    begin();
    join(UP(1, 5, 3));
    share_group_presence(group, 1, false, 5);
    CHECK(!member(1)->online);
    CHECK(member(1)->window == 0);
    CHECK(member(1)->outstanding == 3); /* they stay with the session */
    CHECK(pick_one(SHARE_BY_ROUND_ROBIN, 0) == 0);
    CHECK(pick_one(SHARE_BY_ROUND_ROBIN, 1) == 1);
    CHECK(member(1)->outstanding == 4);
    share_group_presence(group, 1, true, 4);
    CHECK(member(1)->online);
    CHECK(member(1)->window == 4);
    join(UP(2, 9, 8));
    CHECK(pick_one(SHARE_BY_LEAST_INFLIGHT, 1) == 2); /* 1 came back with a smaller window, which is full */
    share_group_presence(group, 1, true, 5);
    CHECK(pick_one(SHARE_BY_LEAST_INFLIGHT, 1) == 1);
    share_group_presence(group, 9, true, 5); /* unknown */
    CHECK(share_group_count(group) == 2);
    end();
}

/* Who leaves in the middle of a round costs nobody a turn. */
static void test_round_and_leaving(void)
{
    static const struct {
        const char *name;
        unsigned before; /* picks of five members until one leaves */
        uint64_t leaves, want[5];
    } rows[] = {
        {"one who had his turn", 2, 1, {3, 4, 5, 2, 3}},   {"the one picked last", 2, 2, {3, 4, 5, 1, 3}},
        {"the one who is next", 2, 3, {4, 5, 1, 2, 4}},    {"one who comes later", 2, 4, {3, 5, 1, 2, 3}},
        {"the last, as the next", 4, 5, {1, 2, 3, 4, 1}},  {"the last, after his turn", 5, 5, {1, 2, 3, 4, 1}},
        {"the first, as the next", 5, 1, {2, 3, 4, 5, 2}},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        begin();
        for (uint64_t session = 1; session <= 5; session++) {
            join(UP(session, 99, 0));
        }
        for (unsigned k = 0; k < rows[i].before; k++) {
            CHECK_CASE(rows[i].name, pick_one(SHARE_BY_ROUND_ROBIN, 1) == k % 5 + 1);
        }
        CHECK_CASE(rows[i].name, !share_group_leave(group, rows[i].leaves));
        for (size_t k = 0; k < COUNT_OF(rows[i].want); k++) {
            CHECK_CASE(rows[i].name, pick_one(SHARE_BY_ROUND_ROBIN, 1) == rows[i].want[k]);
        }
        end();
    }
}

static void test_sticky_leaves(void)
{
    begin();
    for (uint64_t session = 1; session <= 3; session++) {
        join(UP(session, 99, 0));
    }
    CHECK(pick_one(SHARE_BY_STICKY, 1) == 1);
    CHECK(pick_one(SHARE_BY_STICKY, 1) == 1);
    share_group_presence(group, 1, false, 0);
    CHECK(pick_one(SHARE_BY_STICKY, 1) == 2);
    share_group_presence(group, 1, true, 99);
    CHECK(pick_one(SHARE_BY_STICKY, 1) == 2); /* does not go back */
    share_group_leave(group, 2);
    CHECK(pick_one(SHARE_BY_STICKY, 1) == 3);
    CHECK(pick_one(SHARE_BY_STICKY, 1) == 3);
    end();
}

/* A topic stays with its member, whatever that one has outstanding; when a member goes only its own topics move, and
 * each finds its way back. */
static void test_hash_topic(void)
{
    enum { TOPICS = 2000, MEMBERS = 8 };
    static uint64_t first[TOPICS];
    unsigned each[MEMBERS + 1] = {0}, moved_to[MEMBERS + 1] = {0};
    bool stays = true, moves = true, returns = true;

    begin();
    for (uint64_t session = 1; session <= MEMBERS; session++) {
        join(UP(session, session, 0));
    }
    for (size_t i = 0; i < TOPICS; i++) {
        first[i] = pick_except(SHARE_BY_HASH_TOPIC, hash_mix(i + 1), 1, 0);
        each[first[i]]++;
        stays &= pick_except(SHARE_BY_HASH_TOPIC, hash_mix(i + 1), 1, 0) == first[i];
    }
    CHECK(stays);
    for (size_t n = 1; n <= MEMBERS; n++) {
        CHECK(each[n] > TOPICS / MEMBERS * 7 / 10 && each[n] < TOPICS / MEMBERS * 13 / 10);
    }
    share_group_presence(group, 5, false, 0);
    for (size_t i = 0; i < TOPICS; i++) {
        uint64_t now = pick_except(SHARE_BY_HASH_TOPIC, hash_mix(i + 1), 1, 0);
        moves &= first[i] == 5 ? now != 5 : now == first[i];
        moved_to[now] += first[i] == 5;
    }
    CHECK(moves);
    for (size_t n = 1; n <= MEMBERS; n++) {
        CHECK(n == 5 ? moved_to[n] == 0 : moved_to[n] > 0); /* spread, not all on one neighbour */
    }
    share_group_presence(group, 5, true, 9);
    for (size_t i = 0; i < TOPICS; i++) {
        returns &= pick_except(SHARE_BY_HASH_TOPIC, hash_mix(i + 1), 1, 0) == first[i];
    }
    CHECK(returns);
    end();
}

static void test_random_is_even(void)
{
    unsigned each[7] = {0};

    begin();
    for (uint64_t session = 1; session <= 6; session++) {
        join(UP(session, 1, 0));
    }
    share_group_presence(group, 2, false, 0); /* neither offline */
    share_group_presence(group, 6, true, 0);  /* nor full */
    for (unsigned i = 0; i < 8000; i++) {
        each[pick_one(SHARE_BY_RANDOM, 0)]++;
    }
    CHECK(each[0] == 0 && each[2] == 0 && each[6] == 0);
    CHECK(each[1] > 1800 && each[1] < 2200);
    CHECK(each[3] > 1800 && each[3] < 2200);
    CHECK(each[4] > 1800 && each[4] < 2200);
    CHECK(each[5] > 1800 && each[5] < 2200);
    end();
}

/* Members come, go and settle at random; what the group says is compared with plain arrays. */
static void test_against_model(void)
{
    enum { SESSIONS = 40, STEPS = 60000 };
    static struct {
        bool in, online;
        uint32_t window, outstanding;
    } model[SESSIONS + 1];
    bool best = true;
    size_t count = 0;

    begin();
    for (unsigned step = 0; step < STEPS; step++) {
        uint64_t s = 1 + prng_below(&prng, SESSIONS), got;
        switch (prng_below(&prng, 8)) {
        case 0:
            model[s].online = prng_below(&prng, 4) != 0;
            model[s].window = model[s].online ? prng_below(&prng, 6) : 0;
            CHECK(join((struct share_member){
                      .session = s, .online = model[s].online, .window = model[s].window, .options = {.qos = 1}}) ==
                  model[s].in);
            count += !model[s].in;
            model[s].in = true;
            break;
        case 1:
            count -= model[s].in;
            model[s].in = false;
            model[s].outstanding = 0;
            CHECK(share_group_leave(group, s) == (count == 0));
            break;
        case 2:
            model[s].online = prng_below(&prng, 2);
            model[s].window = model[s].online ? prng_below(&prng, 6) : 0;
            share_group_presence(group, s, model[s].online, model[s].window);
            break;
        case 3:
        case 4:
            model[s].outstanding -= model[s].outstanding > 0;
            share_group_settle(group, s, 1);
            break;
        default: /* nobody may be better than who is picked: class first, then outstanding */
            got = pick_one(SHARE_BY_LEAST_INFLIGHT, 1);
            best &= (got == 0) == (count == 0);
            for (unsigned i = 1; got && i <= SESSIONS; i++) {
                unsigned mine = !model[got].online ? 2 : model[got].outstanding >= model[got].window;
                unsigned its = !model[i].online ? 2 : model[i].outstanding >= model[i].window;
                best &= model[got].in;
                best &= !model[i].in || mine < its || (mine == its && model[got].outstanding <= model[i].outstanding);
            }
            model[got].outstanding += got != 0;
        }
        best &= share_group_count(group) == count;
    }
    CHECK(best);
    for (unsigned i = 1; i <= SESSIONS; i++) {
        CHECK((member(i) != NULL) == model[i].in);
        CHECK(!model[i].in || member(i)->outstanding == model[i].outstanding);
    }
    end();
}

/* ---- memory ---- */

static void test_no_memory(void)
{
    uint64_t next_id = 5;
    bool flag = false;
    unsigned failures = 0;

    alloc_fail_at = 1;
    CHECK(share_table_new(&test_key, &table) == -ENOMEM);
    begin();
    struct share_group *g = group;
    alloc_fail_at = 1;
    CHECK(share_table_open(table, SLICE("x"), SLICE("y"), &next_id, &g, &flag) == -ENOMEM);
    CHECK(g == group && next_id == 5);
    CHECK(share_table_find(table, SLICE("x"), SLICE("y")) == NULL);
    for (uint64_t session = 1; session <= 20; session++) {
        struct share_member m = UP(session, 9, 0);
        for (unsigned n = 1;; n++) {
            alloc_fail_at = n;
            if (share_group_join(group, &m, &flag) == 0) {
                break;
            }
            failures++;
            CHECK(share_group_count(group) == session - 1);
            CHECK(member(session) == NULL);
        }
    }
    alloc_fail_at = 0;
    CHECK(failures == 20 + 4); /* each member, and the array at 1, 5, 9 and 17 */
    CHECK(pick_one(SHARE_BY_ROUND_ROBIN, 1) == 1);
    end();
}

/* The load that is kept is what the members come to, whatever happens to them. */
static void test_load(void)
{
    begin();
    CHECK(share_table_changed(table) == NULL);
    for (uint64_t session = 1; session <= 8; session++) {
        join((struct share_member){.session = session,
                                   .window = (uint32_t)session * 4,
                                   .online = session % 3 != 0,
                                   .options = {.qos = session % 2}});
    }
    for (unsigned i = 0; i < 3000; i++) {
        uint64_t session = 1 + prng_below(&prng, 8);
        unsigned what = prng_below(&prng, 8);
        if (what == 0) {
            share_group_presence(group, session, prng_below(&prng, 2), 1 + prng_below(&prng, 30));
        } else if (what == 1) {
            share_group_settle(group, session, prng_below(&prng, 20));
        } else if (what == 2 && share_group_count(group) > 1) {
            share_group_leave(group, session);
        } else if (what == 3) {
            join((struct share_member){.session = session, .window = 9, .online = true, .options = {.qos = 1}});
        } else {
            pick_one((enum share_strategy)prng_below(&prng, 5), prng_below(&prng, 3));
        }
        struct share_load want = {0}, got = share_group_load(group);
        for (uint32_t m = 0; m < group->count; m++) {
            const struct share_member *is = &group->members[m]->is;
            want.online += is->online;
            want.offline += !is->online && is->options.qos > 0;
            want.room += !is->online ? 0 : is->window < SHARE_ROOM ? is->window : SHARE_ROOM;
            want.outstanding += is->online ? is->outstanding : 0;
        }
        CHECK(memcmp(&want, &got, sizeof(got)) == 0);
    }
    CHECK(share_table_changed(table) == group);
    CHECK(share_table_changed(table) == NULL && !share_table_members_changed(table));
    share_group_presence(group, group->members[0]->is.session, !group->members[0]->is.online, 5);
    CHECK(share_table_members_changed(table));
    end();
}

UNIT_MAIN("broker/topic/share_group", {"table", test_table}, {"table close", test_table_close},
          {"join and leave", test_join_and_leave}, {"pick", test_pick}, {"counting", test_counting},
          {"settle", test_settle}, {"presence", test_presence}, {"round and leaving", test_round_and_leaving},
          {"sticky leaves", test_sticky_leaves}, {"hash topic", test_hash_topic},
          {"random is even", test_random_is_even}, {"against model", test_against_model}, {"load", test_load},
          {"no memory", test_no_memory})
