/* swim_probe_test.c -- which datagrams a node sends, to whom, when, and with which news. */
#include "tests/unit/cluster/swim_node.h"

static void test_probe(void)
{
    begin();
    know(5);
    while (!sent_first(SWIM_PING)) {
        swim_tick(s, ++now);
    }
    struct swim_message ping = sent_first(SWIM_PING)->head;
    unsigned target = ping.subject.bytes[2], other = target == 2 ? 3 : 2;
    uint64_t from = now;

    receive(SWIM_ACK, target, ping.seq + 1, target, NULL); /* to another question */
    receive(SWIM_ACK, other, ping.seq, other, NULL);       /* of another */
    while (!sent_first(SWIM_ASK)) {
        swim_tick(s, ++now);
    }
    CHECK(now - from == 200);
    CHECK(sent_of(SWIM_ASK) == 3);
    for (unsigned i = 0; i < sent_count; i++) {
        if (sent[i].head.kind == SWIM_ASK) {
            CHECK(sent[i].head.subject.bytes[2] == target && sent[i].head.seq == ping.seq);
            CHECK(sent[i].to.bytes[3] != target);
        }
    }
    receive(SWIM_NACK, other, ping.seq, target, NULL);
    look_away();
    while (state_of(target) == MEMBER_ALIVE) {
        swim_tick(s, ++now);
    }
    CHECK(now - from == 500);
    CHECK(swim_health(s) == 2); /* two of three were not heard */
    CHECK(changes == 1 && changed_last.state == MEMBER_SUSPECT);

    const struct sent *told = sent_first(SWIM_GOSSIP); /* it is told at once */
    CHECK(told && told->to.bytes[3] == target && told->rumours[0].member.id.bytes[2] == target);
    CHECK(told && told->rumours[0].member.state == MEMBER_SUSPECT);
    CHECK(told && told->rumours[0].accuser.bytes[2] == ME);

    struct swim_rumour denied = record(target, MEMBER_ALIVE, 1, 1);
    receive(SWIM_GOSSIP, target, 0, 0, &denied);
    CHECK(state_of(target) == MEMBER_ALIVE);
    pass(20000, 0);
    CHECK(swim_health(s) == 0);
    CHECK(state_of(target) == MEMBER_ALIVE);
    end();
}

/* A node in bad health waits longer before it asks, and before it blames. */
static void test_slower(void)
{
    for (unsigned health = 0; health <= SWIM_HEALTH_MAX; health += 4) {
        begin();
        know(5);
        swim_health_change(s, (int)health);
        while (!sent_first(SWIM_PING)) {
            swim_tick(s, ++now);
        }
        unsigned target = sent_first(SWIM_PING)->head.subject.bytes[2];
        uint64_t from = now;
        while (!sent_first(SWIM_ASK)) {
            swim_tick(s, ++now);
        }
        CHECK(now - from == 200 * (health + 1));
        while (state_of(target) == MEMBER_ALIVE) {
            swim_tick(s, ++now);
        }
        CHECK(now - from == 500 * (health + 1));
        CHECK(swim_health(s) == (health + 3 < SWIM_HEALTH_MAX ? health + 3 : SWIM_HEALTH_MAX));
        end();
    }
}

/* Each member is pinged once a round, also where others come and go in the middle of it: none waits for more than the
 * rest of one round and the whole of the next. */
static void test_rounds(void)
{
    unsigned waits[30] = {0};

    begin();
    know(20);
    for (unsigned pings = 0; pings < 2000;) {
        sent_count = 0;
        pass(1, 0);
        for (unsigned i = 0; i < sent_count; i++) {
            unsigned target = sent[i].head.subject.bytes[2];
            if (sent[i].head.kind != SWIM_PING || target > 21) {
                continue;
            }
            pings++;
            for (unsigned of = 2; of < 22; of++) {
                waits[of] = of == target ? 0 : waits[of] + 1;
                CHECK(waits[of] <= 2 * 20 + 8);
            }
        }
        if (pings % 5 == 0) {
            hear(pings % 2 ? MEMBER_LEFT : MEMBER_ALIVE, 22 + pings / 10 % 4, 1 + pings, 0);
        }
    }
    end();
}

static void test_links(void)
{
    struct node_id self = id_of(ME), two = id_of(2), stranger = id_of(99);

    begin();
    know(1);
    swim_link_lost(s, now, &stranger);
    swim_link_up(s, now, &stranger);
    swim_link_lost(s, now, &self);
    CHECK(changes == 0 && sent_count == 0);
    for (unsigned i = 0; i < 50; i++) { /* datagrams do not come through, but the link does */
        pass(100, 2);
        swim_link_up(s, now, &two);
    }
    CHECK(state_of(2) == MEMBER_ALIVE && changes == 0);
    swim_link_lost(s, now, &two);
    CHECK(state_of(2) == MEMBER_SUSPECT && changes == 1);
    look_away();
    swim_link_up(s, now, &two); /* only its own word clears it; it hears what is said */
    CHECK(state_of(2) == MEMBER_SUSPECT);
    CHECK(sent_count == 1 && sent[0].rumours[0].member.state == MEMBER_SUSPECT);
    end();
}

static void test_relay(void)
{
    begin();
    know(3);
    receive(SWIM_ASK, 2, 77, 3, NULL);
    CHECK(sent_count == 1 && sent[0].head.kind == SWIM_PING && sent[0].to.bytes[3] == 3);
    uint32_t seq = sent[0].head.seq;
    look_away();
    receive(SWIM_ACK, 3, seq + 1, 3, NULL);
    CHECK(sent_count == 0);
    pass(199, 0);
    CHECK(!sent_first(SWIM_NACK));
    pass(1, 0);
    const struct sent *nack = sent_first(SWIM_NACK);
    CHECK(nack && nack->to.bytes[3] == 2 && nack->head.seq == 77 && nack->head.subject.bytes[2] == 3);
    look_away();
    receive(SWIM_ACK, 3, seq, 3, NULL); /* late, but it lives; and its record goes along */
    CHECK(sent_count == 1 && sent[0].head.kind == SWIM_ACK && sent[0].to.bytes[3] == 2);
    CHECK(sent[0].head.seq == 77 && sent[0].head.subject.bytes[2] == 3);
    CHECK(sent[0].rumours[0].member.id.bytes[2] == 3);
    receive(SWIM_ACK, 3, seq, 3, NULL);
    CHECK(sent_count == 1);

    look_away();
    receive(SWIM_ASK, 2, 78, 99, NULL);
    CHECK(sent_count == 1 && sent[0].head.kind == SWIM_NACK && sent[0].head.seq == 78);
    look_away();
    receive(SWIM_ASK, 2, 79, ME, NULL);
    CHECK(sent_count == 1 && sent[0].head.kind == SWIM_ACK && sent[0].head.seq == 79);

    look_away();
    for (uint32_t i = 0; i < 2 * SWIM_RELAYS_MAX; i++) {
        receive(SWIM_ASK, 2, 100 + i, 3, NULL);
    }
    CHECK(sent_of(SWIM_PING) == SWIM_RELAYS_MAX && swim_ignored(s) == SWIM_RELAYS_MAX);
    look_away();
    pass(701, 0);
    look_away();
    receive(SWIM_ASK, 2, 200, 3, NULL);
    CHECK(sent_of(SWIM_PING) == 1);
    end();
}

static void test_answers(void)
{
    static const struct {
        const char *name;
        enum swim_kind kind;
        unsigned from, subject;
        bool acked, asked, introduced;
    } rows[] = {
        {"a ping of a member", SWIM_PING, 2, ME, true, false, false},
        {"a ping of a stranger", SWIM_PING, 9, ME, true, true, false},
        {"a ping for another, who had this address before", SWIM_PING, 2, 3, false, false, false},
        {"a hello to nobody in particular", SWIM_HELLO, 9, 0, true, false, true},
        {"a hello to this node", SWIM_HELLO, 9, ME, true, false, true},
        {"a hello to another", SWIM_HELLO, 9, 3, false, false, false},
        {"an answer of a stranger", SWIM_ACK, 9, 9, false, false, false},
        {"gossip of a stranger", SWIM_GOSSIP, 9, 0, false, true, false},
        {"its own, come back", SWIM_HELLO, ME, 0, false, false, false},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        begin();
        know(2);
        receive(rows[i].kind, rows[i].from, 55, rows[i].subject, NULL);
        const struct sent *ack = sent_first(SWIM_ACK), *hello = sent_first(SWIM_HELLO);
        CHECK_CASE(rows[i].name, (ack != NULL) == rows[i].acked);
        CHECK_CASE(rows[i].name, (hello != NULL) == rows[i].asked);
        CHECK_CASE(rows[i].name, sent_count == (unsigned)rows[i].acked + rows[i].asked);
        CHECK_CASE(rows[i].name, !ack || (ack->head.seq == 55 && ack->head.subject.bytes[2] == ME &&
                                          ack->to.bytes[3] == rows[i].from));
        bool mine = ack && ack->rumour_count > 0 && ack->rumours[0].member.id.bytes[2] == ME;
        CHECK_CASE(rows[i].name, mine == rows[i].introduced);
        CHECK_CASE(rows[i].name, !hello || (hello->rumours[0].member.id.bytes[2] == ME &&
                                            hello->head.subject.bytes[2] == rows[i].from));
        CHECK_CASE(rows[i].name, changes == 0 && swim_ignored(s) == 0);
        end();
    }
}

/* Who is not believed alive hears so first, and the answer is what makes it alive again. */
static void test_buddy(void)
{
    begin();
    know(1);
    hear(MEMBER_DEAD, 5, 1, 0);
    look_away();
    receive(SWIM_PING, 5, 1, ME, NULL);
    const struct sent *ack = sent_first(SWIM_ACK);
    CHECK(ack && ack->rumours[0].member.id.bytes[2] == 5 && ack->rumours[0].member.state == MEMBER_DEAD);

    look_away();
    struct swim_rumour r = record(ME, MEMBER_DEAD, BOOT, 0);
    receive(SWIM_PING, 2, 1, ME, &r);
    ack = sent_first(SWIM_ACK);
    CHECK(ack && ack->rumours[0].member.id.bytes[2] == ME && ack->rumours[0].member.incarnation == 1);

    look_away();
    pass(10000, 5); /* the dead are pinged now and then */
    unsigned pinged = 0;
    for (unsigned i = 0; i < sent_count; i++) {
        pinged += sent[i].head.kind == SWIM_PING && sent[i].to.bytes[3] == 5;
    }
    CHECK(pinged == 1);
    const struct sent *ask = sent_first(SWIM_ASK); /* and somebody is asked who may know better */
    CHECK(ask && ask->to.bytes[3] == 2 && ask->head.subject.bytes[2] == 5);
    end();
}

/* Each news goes out 4 * ceil(log10(n + 1)) times, the least often sent first, of those the newest. */
static void test_gossip(void)
{
    unsigned count = 0;

    begin();
    know(20);
    swim_tick(s, now);
    CHECK(sent_of(SWIM_GOSSIP) == 3);
    const struct sent *first = &sent[0];
    CHECK(first->rumours[0].member.id.bytes[2] == 21 && first->rumours[1].member.id.bytes[2] == 20);
    CHECK(first->rumour_count < 20 && sent[1].rumours[0].member.id.bytes[2] == 21 - first->rumour_count);
    look_away();
    swim_tick(s, now); /* not again before its time */
    CHECK(sent_of(SWIM_GOSSIP) == 0);
    CHECK(swim_busy(s));

    look_away();
    for (unsigned i = 0; swim_busy(s) && i < 60000; i++) {
        pass(1, 0);
    }
    CHECK(!swim_busy(s));

    struct swim_rumour r = record(5, MEMBER_ALIVE, 1, 1);
    receive(SWIM_GOSSIP, 2, 0, 0, &r);
    look_away();
    pass(5000, 0);
    for (unsigned i = 0; i < sent_count; i++) {
        for (unsigned j = 0; j < sent[i].rumour_count; j++) {
            count += sent[i].rumours[j].member.id.bytes[2] == 5;
        }
    }
    CHECK(count == 8);
    CHECK(!swim_busy(s));
    end();
}

static void test_self(void)
{
    struct swim_options o = options();
    struct member changed = o.self;

    begin();
    know(1);
    pass(5000, 0);
    CHECK(!swim_busy(s));
    changed.load = 5;
    changed.wall_ms = 99;
    swim_self(s, now, &changed);
    CHECK(!swim_busy(s) && me()->incarnation == 0 && me()->load == 5);
    changed.address.port++;
    swim_self(s, now, &changed);
    CHECK(swim_busy(s) && me()->incarnation == 1 && member_address_eq(&me()->address, &changed.address));
    changed.cluster_id[3] = 1;
    swim_self(s, now, &changed);
    CHECK(me()->incarnation == 2);
    swim_leave(s, now);
    CHECK(me()->state == MEMBER_LEFT && me()->incarnation == 3);
    swim_leave(s, now);
    CHECK(me()->incarnation == 3);
    pass(5000, 0);
    look_away();
    pass(5000, 0);
    CHECK(sent_count == 0 && !swim_busy(s)); /* it pings nobody any more */
    receive(SWIM_PING, 2, 1, ME, NULL);
    CHECK(sent_of(SWIM_ACK) == 1);

    changed.boot++;
    swim_self(s, now, &changed);
    CHECK(me()->state == MEMBER_ALIVE && me()->incarnation == 0 && me()->boot == BOOT + 1 && swim_busy(s));
    CHECK(changes == 0);
    end();
}

/* Time in which this node did not run is not time in which others were silent. */
static void test_pause(void)
{
    begin();
    know(4);
    accuse(2, 50, MEMBER_SUSPECT);
    pass(1000, 0);
    unsigned health = swim_health(s);
    look_away();
    now += 60000;
    swim_tick(s, now);
    const struct sent *ping = sent_first(SWIM_PING);
    if (ping) { /* the next one, if that was due */
        receive(SWIM_ACK, ping->head.subject.bytes[2], ping->head.seq, ping->head.subject.bytes[2], NULL);
    }
    CHECK(changes == 0 && swim_health(s) == health + 1 - (ping ? 1 : 0));
    CHECK(swim_due(s) > now);
    pass(10000, 0);
    CHECK(state_of(2) == MEMBER_SUSPECT);
    pass(2000, 0);
    CHECK(state_of(2) == MEMBER_DEAD && changes == 1);

    uint64_t due = swim_due(s); /* a step back is standing still */
    swim_tick(s, now - 5000);
    CHECK(swim_due(s) == due);
    end();
}

/* Alone it keeps quiet, and its news wait for nobody. */
static void test_alone(void)
{
    struct member_address seed = address_of(9);

    begin();
    CHECK(swim_due(s) == START_MS + 10000);
    hear(MEMBER_LEFT, 5, 1, 0);
    CHECK(swim_busy(s));
    look_away();
    pass(60000, 0);
    CHECK(sent_count == 0 && !swim_busy(s));
    swim_join(s, now, &seed);
    CHECK(sent_count == 1 && sent[0].head.kind == SWIM_HELLO && member_address_eq(&sent[0].to, &seed));
    CHECK(sent[0].rumours[0].member.id.bytes[2] == ME && node_id_is_zero(&sent[0].head.subject));
    end();
}

static void test_memory(void)
{
    struct swim_options o = options();
    struct swim *got = NULL;
    unsigned n = 1;

    for (alloc_fail_at = 1; swim_new(&o, &got) == -ENOMEM; alloc_fail_at = ++n) {
        CHECK(got == NULL);
    }
    CHECK(n == 3);
    alloc_fail_at = 0;
    swim_free(got);
    swim_free(NULL);

    begin();
    know(100);
    for (n = 1; n < 50; n++) {
        struct buf table = {0};
        alloc_fail_at = n;
        swim_table(s, &table);
        bool failed = table.failed;
        alloc_fail_at = 0;
        buf_deinit(&table);
        if (!failed) {
            break;
        }
    }
    CHECK(n > 1 && n < 50);
    alloc_fail_at = 1; /* nothing else asks for memory */
    receive(SWIM_PING, 2, 1, ME, NULL);
    alloc_fail_at = 0;
    end();
}

UNIT_MAIN("cluster/swim_probe", {"a ping and its failure", test_probe}, {"a node in bad health", test_slower},
          {"rounds", test_rounds}, {"links", test_links}, {"pings for others", test_relay}, {"answers", test_answers},
          {"the buddy", test_buddy}, {"gossip", test_gossip}, {"its own record", test_self}, {"a pause", test_pause},
          {"alone", test_alone}, {"memory out", test_memory})
