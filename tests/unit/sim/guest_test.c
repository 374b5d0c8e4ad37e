/* The judges of the simulator: a story told by hand that is right, and the same with one thing wrong. */
#include "tests/lib/unit.h"

#include <stdlib.h>

/* Only the simulator's own program links these. */
#include "tests/sim/guest.c"
#include "tests/sim/guest_judge.c"
#include "tests/sim/guest_receive.c"

#define CONNACK "20 02 00 00"
#define PRESENT "20 02 01 00"
#define SUBACK "90 03 7530 02"            /* of the first SUBSCRIBE */
#define FIRST "32 08 0003 742f30 0001 30" /* message 0 on t/0 */
#define FIRST_DUP "3a 08 0003 742f30 0001 30"
#define SECOND "32 08 0003 742f30 0002 31"
#define EXACT "34 08 0003 742f30 0001 30"
#define EXACT_DUP "3c 08 0003 742f30 0001 30"
#define EXACT_ANEW "34 08 0003 742f30 0009 30"
#define PUBREL "62 02 0001"
#define LOST "-"   /* the connection */
#define CRASH "!"  /* the node, with a disk */
#define FORGOT "?" /* the node, without one */
#define SETTLE "s" /* all that was said has arrived for good */
#define CONNECT "+"
#define CLEAN "*" /* connect with Clean Session */

static struct party party;

/* Messages 0 and 1 of guest 1, QoS of the test, acknowledged; guest 0 subscribes to t/0 before. */
static void begin(uint8_t qos)
{
    party_init(&party, 1, 2);
    for (unsigned i = 0; i < 2; i++) {
        party.guest[i].version = 4;
        party.guest[i].always_clean = party.guest[i].wild = party.guest[i].lazy = false;
        party.guest[i].has_will = i == 1;
        party.guest[i].receive_max = 2;
    }
    for (unsigned i = 0; i < 2; i++) {
        party.message[i] = (struct guest_message){
            .guest = 1, .qos = qos, .acknowledged = true, .received = true, .number = i + 1, .step = 50 + i};
    }
    party.message_count = 2;
}

static void tell(const char *event)
{
    struct guest *g = &party.guest[0];
    struct buf out = {0};

    party.step += 10;
    if (*event == '-') {
        guest_lost(&party, 0);
    } else if (*event == '!' || *event == '?') {
        guest_lost(&party, 0);
        party_node_ended(&party, *event == '!');
    } else if (*event == 's') {
        party.settled_step = party.step;
    } else if (*event == '+' || *event == '*') {
        guest_connect(&party, 0, &out);
        g->clean = *event == '*';
        g->expiry_s = g->clean ? 0 : 200;
    } else {
        struct slice bytes = unit_hex(event);
        guest_receive(&party, 0, bytes, &out);
        free((void *)bytes.ptr);
    }
    if (g->welcome && g->subscriptions[FILTER_T].state == SUB_NONE && party.sent_filters == 0) {
        subscribe(&party, g, FILTER_T, true, &out);
        g->subscriptions[FILTER_T].qos = 2;
    }
    buf_deinit(&out);
}

static const struct {
    const char *name;
    uint8_t qos;
    const char *events[12];
    const char *wrong; /* part of the sentence; NULL: all is well */
} stories[] = {
    {"all is well", 1, {CONNECT, CONNACK, SUBACK, FIRST, SECOND}, NULL},
    {"over a crash", 1, {CONNECT, CONNACK, SUBACK, FIRST, CRASH, CONNECT, PRESENT, FIRST_DUP, SECOND}, NULL},
    {"lost message", 1, {CONNECT, CONNACK, SUBACK, FIRST}, "never got message 1"},
    {"lost session", 1, {CONNECT, CONNACK, SUBACK, CRASH, CONNECT, CONNACK}, "session is lost"},
    {"no disk", 1, {CONNECT, CONNACK, SUBACK, FORGOT, CONNECT, CONNACK}, NULL},
    {"a session out of nothing", 1, {CONNECT, PRESENT}, "cannot be"},
    {"not clean", 1, {CONNECT, CONNACK, SUBACK, LOST, CLEAN, PRESENT}, "clean start"},
    {"order", 1, {CONNECT, CONNACK, SUBACK, SECOND, FIRST}, "out of order"},
    {"no DUP", 1, {CONNECT, CONNACK, SUBACK, FIRST, LOST, CONNECT, PRESENT, FIRST}, "without DUP"},
    {"DUP at first", 1, {CONNECT, CONNACK, SUBACK, FIRST_DUP}, "DUP in the first"},
    {"acknowledged",
     1,
     {CONNECT, CONNACK, SUBACK, FIRST, SETTLE, LOST, CONNECT, PRESENT, FIRST_DUP},
     "has acknowledged"},
    {"identifier in use", 2, {CONNECT, CONNACK, SUBACK, EXACT, EXACT_DUP}, "in use"},
    {"exactly once",
     2,
     {CONNECT, CONNACK, SUBACK, EXACT, LOST, CONNECT, PRESENT, EXACT_DUP, PUBREL, "34 08 0003 742f30 0002 31"},
     NULL},
    {"twice", 2, {CONNECT, CONNACK, SUBACK, EXACT, PUBREL, EXACT_ANEW}, "twice, with QoS 2"},
    {"nobody's", 1, {CONNECT, CONNACK, SUBACK, "32 08 0003 742f30 0001 37"}, "nobody has sent"},
    {"another topic", 1, {CONNECT, CONNACK, SUBACK, "32 08 0003 742f31 0001 30"}, "it was sent to"},
    {"before CONNACK", 1, {CONNECT, FIRST}, "before CONNACK"},
    {"acknowledgement of nothing", 1, {CONNECT, CONNACK, "40 02 0005"}, "owes nothing"},
    {"granted more", 1, {CONNECT, CONNACK, "90 03 7530 01"}, "is granted"},
    {"too many",
     2,
     {CONNECT, CONNACK, SUBACK, EXACT, "34 08 0003 742f30 0002 31", "34 08 0003 742f30 0003 30"},
     "Receive Maximum"},
    {"a will", 1, {CONNECT, CONNACK, SUBACK, FIRST, SECOND, "30 06 0003 772f31 33"}, NULL},
    {"a will twice", 1, {CONNECT, CONNACK, SUBACK, "30 06 0003 772f31 33", "30 06 0003 772f31 33"}, "twice"},
};

static void test_stories(void)
{
    for (unsigned i = 0; i < COUNT_OF(stories); i++) {
        begin(stories[i].qos);
        for (unsigned k = 0; k < COUNT_OF(stories[i].events) && stories[i].events[k]; k++) {
            tell(stories[i].events[k]);
        }
        judge_losses(&party, &party.guest[0]);
        CHECK_CASE(stories[i].name, stories[i].wrong ? strstr(party.wrong, stories[i].wrong) != NULL : !party.wrong[0]);
        if (stories[i].wrong ? !strstr(party.wrong, stories[i].wrong) : party.wrong[0] != '\0') {
            printf("%s: %s\n", stories[i].name, party.wrong);
        }
        party_deinit(&party);
    }
}

/* What is retained in the end, against what was acknowledged. */
static void test_retained(void)
{
    static const struct {
        const char *name;
        bool clear[2], acknowledged[2];
        uint32_t seen; /* 1 + the message; 0: nothing */
        bool right;
    } cases[] = {
        {"the last", {false, false}, {true, true}, 2, true},
        {"an old one", {false, false}, {true, true}, 1, false},
        {"nothing", {false, false}, {true, true}, 0, false},
        {"not certain", {false, false}, {true, false}, 1, true},
        {"nor so", {false, false}, {true, false}, 2, true},
        {"cleared", {false, true}, {true, true}, 0, true},
        {"not cleared", {false, true}, {true, true}, 1, false},
        {"perhaps cleared", {false, true}, {true, false}, 0, true},
        {"set again", {true, false}, {true, true}, 0, false},
    };

    for (unsigned i = 0; i < COUNT_OF(cases); i++) {
        begin(1);
        for (unsigned k = 0; k < 2; k++) {
            party.message[k].retain = true;
            party.message[k].clear = cases[i].clear[k];
            party.message[k].acknowledged = cases[i].acknowledged[k];
        }
        party.retained_seen[1] = cases[i].seen;
        judge_retained(&party, 1);
        CHECK_CASE(cases[i].name, cases[i].right == !party.wrong[0]);
        party_deinit(&party);
    }
}

/* A will is owed to who had subscribed before, if the node lived to notice the loss. */
static void test_wills(void)
{
    for (unsigned i = 0; i < 4; i++) {
        begin(1);
        party.guest[0].subscriptions[FILTER_W] =
            (struct guest_subscription){.state = SUB_THERE, .qos = 1, .step = i & 1 ? 99 : 5};
        party.guest[1].wills[3] = (struct guest_will){.due = true, .step = 20};
        party.guest[1].wills[3].seen[0] = i & 2;
        judge_wills(&party, &party.guest[0]);
        CHECK((party.wrong[0] != '\0') == (i == 0));
        party_deinit(&party);
    }
}

UNIT_MAIN("sim/guest", {"stories", test_stories}, {"retained messages", test_retained}, {"wills", test_wills})
