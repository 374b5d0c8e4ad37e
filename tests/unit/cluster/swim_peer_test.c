/* swim_peer_test.c -- what is believed of whom, when somebody is buried, and who is remembered. */
#include "tests/unit/cluster/swim_node.h"

static void test_precedence(void)
{
#define A MEMBER_ALIVE
#define S MEMBER_SUSPECT
#define D MEMBER_DEAD
#define L MEMBER_LEFT
    static const struct {
        const char *name;
        enum member_state known;
        uint64_t boot;
        uint32_t incarnation;
        enum member_state heard;
        uint64_t heard_boot;
        uint32_t heard_incarnation;
        enum member_state want;
        bool newer;
    } rows[] = {
        {"the same again", A, 5, 5, A, 5, 5, A, false},
        {"newer and alive", A, 5, 5, A, 5, 6, A, true},
        {"older and alive", S, 5, 5, A, 5, 4, S, false},
        {"suspect at the same", A, 5, 5, S, 5, 5, S, false},
        {"suspect, older", A, 5, 5, S, 5, 4, A, false},
        {"suspect, newer", A, 5, 5, S, 5, 6, S, true},
        {"alive does not clear at the same", S, 5, 5, A, 5, 5, S, false},
        {"alive clears when newer", S, 5, 5, A, 5, 6, A, true},
        {"dead at the same: only suspected", A, 5, 5, D, 5, 5, S, false},
        {"dead and newer: only suspected", A, 5, 5, D, 5, 6, S, true},
        {"dead of a suspect: not yet", S, 5, 5, D, 5, 5, S, false},
        {"dead and older", A, 5, 5, D, 4, 9, A, false},
        {"left at the same", A, 5, 5, L, 5, 5, L, false},
        {"left of a suspect", S, 5, 5, L, 5, 5, L, false},
        {"left of a dead one", D, 5, 5, L, 5, 5, L, false},
        {"left and older", A, 5, 5, L, 5, 4, A, false},
        {"dead after left", L, 5, 5, D, 5, 5, L, false},
        {"suspect after dead", D, 5, 5, S, 5, 5, D, false},
        {"alive after dead at the same", D, 5, 5, A, 5, 5, D, false},
        {"alive after dead, denied", D, 5, 5, A, 5, 6, A, true},
        {"dead, and started again", D, 5, 5, A, 6, 0, A, true},
        {"left, and started again", L, 5, 5, A, 6, 0, A, true},
        {"an old boot, whatever it says", A, 5, 5, A, 4, 60, A, false},
        {"a new boot at any incarnation", A, 5, 5, A, 9, 70000, A, true},
        {"a jump that may be", A, 5, 5, A, 5, 69, A, true},
        {"a jump too far", A, 5, 5, A, 5, 70, A, false},
        {"a jump too far of a dead one", D, 5, 5, A, 5, 70, D, false},
    };
#undef A
#undef S
#undef D
#undef L
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct node_id id = id_of(2);
        begin();
        hear(rows[i].known, 2, rows[i].boot, rows[i].incarnation);
        CHECK_CASE(rows[i].name, changes == 1 && changed_before == MEMBER_NONE && changed_last.state == rows[i].known);
        look_away();
        hear(rows[i].heard, 2, rows[i].heard_boot, rows[i].heard_incarnation);
        const struct member *m = swim_find(s, &id);
        CHECK_CASE(rows[i].name, m && m->state == rows[i].want);
        CHECK_CASE(rows[i].name, m && m->boot == (rows[i].newer ? rows[i].heard_boot : rows[i].boot));
        CHECK_CASE(rows[i].name,
                   m && m->incarnation == (rows[i].newer ? rows[i].heard_incarnation : rows[i].incarnation));
        bool told = rows[i].want != rows[i].known || (rows[i].newer && rows[i].heard_boot != rows[i].boot);
        CHECK_CASE(rows[i].name, changes == told);
        end();
    }
}

/* The bound on jumps is for what others say: a node that was away for long is believed when it speaks itself. */
static void test_own_word(void)
{
    struct swim_rumour r = record(2, MEMBER_ALIVE, 1, 1000);

    begin();
    know(1);
    receive(SWIM_GOSSIP, 3, 0, 0, &r);
    CHECK(swim_ignored(s) == 1);
    CHECK(swim_find(s, &r.member.id)->incarnation == 0);
    receive(SWIM_GOSSIP, 2, 0, 0, &r);
    CHECK(swim_find(s, &r.member.id)->incarnation == 1000);
    end();
}

static void test_of_myself(void)
{
    static const struct {
        const char *name;
        enum member_state state;
        uint64_t boot;
        uint32_t incarnation;
        bool moved;
        uint32_t want;
        unsigned conflicts;
    } rows[] = {
        {"alive as I am", MEMBER_ALIVE, BOOT, 0, false, 0, 0},
        {"suspect", MEMBER_SUSPECT, BOOT, 0, false, 1, 0},
        {"dead", MEMBER_DEAD, BOOT, 0, false, 1, 0},
        {"left, which I have not", MEMBER_LEFT, BOOT, 0, false, 1, 0},
        {"dead, by an incarnation I have not reached", MEMBER_DEAD, BOOT, 64, false, 65, 0},
        {"beyond what may be", MEMBER_DEAD, BOOT, 65, false, 0, 1},
        {"beyond everything", MEMBER_ALIVE, BOOT, UINT32_MAX, false, 0, 1},
        {"an old boot", MEMBER_DEAD, BOOT - 1, 99, false, 0, 0},
        {"a boot that I am not in", MEMBER_ALIVE, BOOT + 1, 0, false, 0, 1},
        {"elsewhere at the same incarnation", MEMBER_ALIVE, BOOT, 0, true, 0, 1},
        {"elsewhere and newer", MEMBER_ALIVE, BOOT, 3, true, 4, 1},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct swim_rumour r = record(ME, rows[i].state, rows[i].boot, rows[i].incarnation);
        r.member.address.port += rows[i].moved;
        begin();
        know(1);
        receive(SWIM_GOSSIP, 2, 0, 0, &r);
        CHECK_CASE(rows[i].name, me()->incarnation == rows[i].want);
        CHECK_CASE(rows[i].name, me()->state == MEMBER_ALIVE && me()->boot == BOOT && changes == 0);
        CHECK_CASE(rows[i].name, conflicts == rows[i].conflicts);
        CHECK_CASE(rows[i].name, me()->address.port == address_of(ME).port);
        receive(SWIM_GOSSIP, 2, 0, 0, &r);
        CHECK_CASE(rows[i].name, conflicts == rows[i].conflicts); /* told once */
        CHECK_CASE(rows[i].name, swim_health(s) == (rows[i].state != MEMBER_ALIVE && rows[i].want > 0));
        if (rows[i].want > 0 || rows[i].boot < BOOT) {
            swim_tick(s, now);
            CHECK_CASE(rows[i].name, sent_first(SWIM_GOSSIP) &&
                                         sent_first(SWIM_GOSSIP)->rumours[0].member.incarnation == rows[i].want);
        }
        end();
    }
}

/* Whatever others made of it, the incarnation does not wrap. */
static void test_last_incarnation(void)
{
    begin();
    know(1);
    swim_me(s)->member.incarnation = UINT32_MAX - 1;
    hear(MEMBER_SUSPECT, ME, BOOT, UINT32_MAX - 1);
    CHECK(me()->incarnation == UINT32_MAX && conflicts == 0);
    hear(MEMBER_SUSPECT, ME, BOOT, UINT32_MAX);
    CHECK(me()->incarnation == UINT32_MAX && conflicts == 1);
    swim_leave(s, now);
    CHECK(me()->incarnation == UINT32_MAX && me()->state == MEMBER_LEFT);
    end();
}

static void test_suspicion(void)
{
    static const struct {
        const char *name;
        unsigned members; /* besides this node */
        unsigned accusers[4];
        bool buried;
        uint64_t want_ms;
    } rows[] = {
        {"nobody agrees", 4, {50}, false, 12000},
        {"the same one twice", 4, {50, 50}, false, 12000},
        {"itself", 4, {50, 2}, false, 12000},
        {"one agrees", 4, {50, 51}, false, 5690},
        {"two agree", 4, {50, 51, 52}, false, 2000},
        {"more do not help", 4, {50, 51, 52, 53}, false, 2000},
        {"a cluster of three: nobody could agree", 2, {50}, false, 2000},
        {"a cluster of four", 3, {50}, false, 12000},
        {"others have buried it", 4, {50}, true, 2000},
        {"suspected, and others have buried it", 4, {50, 50}, true, 2000},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        begin();
        know(rows[i].members);
        unsigned count = 0;
        while (count < 4 && rows[i].accusers[count] > 0) {
            bool last = count == 3 || rows[i].accusers[count + 1] == 0;
            accuse(2, rows[i].accusers[count++], last && rows[i].buried ? MEMBER_DEAD : MEMBER_SUSPECT);
        }
        CHECK_CASE(rows[i].name, state_of(2) == MEMBER_SUSPECT && changes == 1);
        swim_me(s)->member.state = MEMBER_LEFT; /* no ping of this node's own disturbs */
        CHECK_CASE(rows[i].name, burial_ms(2) == rows[i].want_ms);
        CHECK_CASE(rows[i].name, changes == 2 && changed_before == MEMBER_SUSPECT);
        end();
    }
}

/* Agreement that comes when its time would have been over buries at once, and is no pause of this node. */
static void test_late_agreement(void)
{
    begin();
    know(4);
    accuse(2, 50, MEMBER_SUSPECT);
    pass(9000, 2);
    CHECK(state_of(2) == MEMBER_SUSPECT || state_of(2) == MEMBER_DEAD);
    accuse(2, 51, MEMBER_SUSPECT);
    accuse(2, 52, MEMBER_SUSPECT);
    pass(1, 2);
    CHECK(state_of(2) == MEMBER_DEAD);
    CHECK(swim_health(s) <= 1);
    end();
}

/* As many members as there may be; who comes then is not taken, whoever says so and however often. */
static void test_full(void)
{
    unsigned at = 0, count = 0;

    begin();
    know(SWIM_MEMBERS_MAX - 1);
    hear(MEMBER_ALIVE, 1000, 1, 0);
    hear(MEMBER_SUSPECT, 1001, 1, 0);
    receive(SWIM_PING, 1002, 1, ME, NULL);
    CHECK(changes == 0 && swim_ignored(s) == 2);
    CHECK(!sent_first(SWIM_HELLO)); /* there is no sense in asking who it is */

    hear(MEMBER_LEFT, 2, 1, 0);
    hear(MEMBER_ALIVE, 1000, 1, 0);
    CHECK(state_of(1000) == MEMBER_ALIVE);
    hear(MEMBER_ALIVE, 2, 2, 0); /* its place has been taken */
    CHECK(state_of(2) == MEMBER_LEFT && swim_ignored(s) == 3);

    look_away();
    for (unsigned i = 0; i < 2 * SWIM_GONE_MAX; i++) {
        hear(MEMBER_DEAD, 2000 + i, 1, 0);
    }
    CHECK(changes == SWIM_GONE_MAX - 1);
    while (swim_next(s, &at)) {
        count++;
    }
    CHECK(count == SWIM_MEMBERS_MAX + SWIM_GONE_MAX);

    look_away();
    hear(MEMBER_LEFT, 3, 1, 0); /* one that was here is remembered in the place of the oldest */
    CHECK(changes == 2 && state_of(3) == MEMBER_LEFT && state_of(2) == MEMBER_NONE);
    end();
}

static void test_table_of_all(void)
{
    struct buf table = {0}, again = {0};

    begin();
    know(SWIM_MEMBERS_MAX - 1);
    for (unsigned i = 0; i < SWIM_GONE_MAX; i++) {
        hear(i % 2 ? MEMBER_DEAD : MEMBER_LEFT, 2000 + i, 1, 0);
    }
    hear(MEMBER_SUSPECT, 5, 1, 0);
    swim_table(s, &table);
    CHECK(!table.failed && table.len <= SWIM_TABLE_MAX);
    look_away();
    CHECK(swim_merge(s, now, buf_slice(&table)) == 0); /* nothing new */
    CHECK(changes == 0 && conflicts == 0);
    CHECK(swim_merge(s, now, slice_of(table.ptr, table.len - 1)) == -EBADMSG);
    CHECK(changes == 0 && swim_ignored(s) == 1);
    end();

    struct swim_options o = options();
    o.self = record(3000, MEMBER_ALIVE, 1, 0).member;
    CHECK(swim_new(&o, &s) == 0);
    look_away();
    CHECK(swim_merge(s, now, buf_slice(&table)) == 0);
    CHECK(changes == SWIM_MEMBERS_MAX - 1 + SWIM_GONE_MAX); /* for this node is there too, which makes one too many */
    CHECK(swim_ignored(s) == 1 && state_of(5) == MEMBER_SUSPECT && state_of(ME) == MEMBER_ALIVE);
    swim_table(s, &again);
    CHECK(again.len > 0 && again.len <= SWIM_TABLE_MAX);
    buf_deinit(&table);
    buf_deinit(&again);
    end();
}

static void test_forgetting(void)
{
    struct swim_rumour r = record(2, MEMBER_DEAD, 1, 0);

    begin();
    r.gone_s = 86399 - 3600;
    receive(SWIM_GOSSIP, 200, 0, 0, &r);
    r = record(3, MEMBER_LEFT, 1, 0);
    r.gone_s = 86400; /* who heard of it long ago does not keep it in memory by telling others */
    receive(SWIM_GOSSIP, 200, 0, 0, &r);
    CHECK(state_of(2) == MEMBER_DEAD && state_of(3) == MEMBER_NONE);
    for (uint64_t until = now + 3600 * 1000; now < until; now = swim_due(s)) {
        swim_tick(s, now);
    }
    CHECK(state_of(2) == MEMBER_DEAD);
    struct buf table = {0};
    struct slice rumours;
    swim_table(s, &table);
    CHECK(swim_table_decode(buf_slice(&table), &rumours) == 0);
    CHECK(swim_rumour_next(&rumours, &r) && swim_rumour_next(&rumours, &r) && r.gone_s >= 86380);
    buf_deinit(&table);
    for (uint64_t until = now + 11000; now < until; now = swim_due(s)) {
        swim_tick(s, now);
    }
    CHECK(state_of(2) == MEMBER_NONE && changed_last.state == MEMBER_NONE && changed_before == MEMBER_DEAD);
    end();
}

/* What is told in silence: the load goes with the newest time, and nothing else at the same incarnation. */
static void test_load(void)
{
    struct swim_rumour r = record(2, MEMBER_ALIVE, 1, 0);
    const struct member *m;

    begin();
    know(1);
    r.member.wall_ms = 500;
    r.member.load = 7;
    r.member.features = 1;
    receive(SWIM_GOSSIP, 3, 0, 0, &r);
    m = swim_find(s, &r.member.id);
    CHECK(m->load == 7 && m->wall_ms == 500 && m->features == 0);
    r.member.wall_ms = 400;
    r.member.load = 3;
    receive(SWIM_GOSSIP, 3, 0, 0, &r);
    CHECK(m->load == 7 && changes == 0);
    r.member.incarnation = 1;
    receive(SWIM_GOSSIP, 3, 0, 0, &r);
    CHECK(m->load == 3 && m->features == 1 && changes == 0);
    r.member.incarnation = 2;
    r.member.cluster_id[0] = 1;
    receive(SWIM_GOSSIP, 3, 0, 0, &r);
    CHECK(changes == 1 && changed_before == MEMBER_ALIVE && changed_last.state == MEMBER_ALIVE);
    r.member.incarnation = 3;
    r.member.address.port++;
    receive(SWIM_GOSSIP, 3, 0, 0, &r);
    CHECK(changes == 2);
    end();
}

UNIT_MAIN("cluster/swim_peer", {"what wins", test_precedence}, {"its own word", test_own_word},
          {"what is said of this node", test_of_myself}, {"the last incarnation", test_last_incarnation},
          {"suspicion", test_suspicion}, {"late agreement", test_late_agreement}, {"full tables", test_full},
          {"the whole table", test_table_of_all}, {"forgetting", test_forgetting}, {"silent changes", test_load})
