/* swim_test.c -- clusters of 3 to 40 nodes on a network that loses, delays, doubles and cuts; in virtual time. */
#include "cluster/swim.h"

#include <stdio.h>

#include "tests/lib/swim_net.h"
#include "tests/lib/unit.h"

/* A road, and how long a cluster on it may take for what its tests ask. */
static const struct road {
    const char *name;
    struct net_options net;
    uint64_t form_ms, death_ms, heal_ms;
} roads[] = {
    {"3 nodes", {.nodes = 3, .delay_max_ms = 5}, 3000, 6000, 30000},
    {"4 nodes", {.nodes = 4, .delay_max_ms = 90}, 3000, 15000, 30000},
    {"10 nodes", {.nodes = 10, .delay_max_ms = 30, .duplicate_percent = 20}, 5000, 10000, 30000},
    {"40 nodes", {.nodes = 40, .delay_max_ms = 20}, 10000, 10000, 60000},
    {"10 nodes without tables", {.nodes = 10, .delay_max_ms = 20, .no_tables = true}, 10000, 10000, 60000},
    {"3 nodes, 10 % loss", {.nodes = 3, .loss_percent = 10, .delay_max_ms = 50}, 20000, 30000, 90000},
    {"10 nodes, 30 % loss",
     {.nodes = 10, .loss_percent = 30, .duplicate_percent = 10, .delay_max_ms = 80},
     60000,
     60000,
     180000},
    {"40 nodes, 20 % loss", {.nodes = 40, .loss_percent = 20, .delay_max_ms = 60}, 60000, 60000, 180000},
};
#define SEEDS 2

static char label[128];

static struct net *formed(const struct road *road, unsigned seed)
{
    struct net_options options = road->net;

    snprintf(label, sizeof(label), "%s, seed %u", road->name, seed);
    options.seed = seed;
    struct net *net = net_new(&options);
    net_start_all(net);
    CHECK_CASE(label, net_run_until(net, net_agrees, road->form_ms));
    return net;
}

static void finish(const struct road *road, struct net *net)
{
    if (net->broken) {
        printf("\n%s: %s\n", label, net->broken);
    }
    CHECK_CASE(label, net->broken == NULL);
    for (unsigned i = 0; i < net->options.nodes && road->net.loss_percent == 0; i++) {
        CHECK_CASE(label, net->nodes[i].false_deaths == 0);
    }
    net_free(net);
}

typedef void story(const struct road *road, struct net *net);

static void tell(story *told)
{
    for (size_t i = 0; i < COUNT_OF(roads); i++) {
        for (unsigned seed = 1; seed <= SEEDS; seed++) {
            struct net *net = formed(&roads[i], seed);
            told(&roads[i], net);
            finish(&roads[i], net);
        }
    }
}

static uint64_t sent_by_all(const struct net *net)
{
    uint64_t sent = 0;

    for (unsigned i = 0; i < net->options.nodes; i++) {
        sent += net->nodes[i].sent;
    }
    return sent;
}

/* Two pings and two answers a second, and nothing else while nothing happens. */
static void quiet(const struct road *road, struct net *net)
{
    net_run(net, 5000); /* the news of the beginning go out */
    uint64_t before = sent_by_all(net), told = net->nodes[0].told;

    net_run(net, 60000);
    uint64_t each = (sent_by_all(net) - before) / net->options.nodes;
    CHECK_CASE(label, each >= 60);
    CHECK_CASE(label, each <= (road->net.loss_percent > 0 ? 60 * 40 : 60 * (road->net.duplicate_percent ? 5 : 4) + 10));
    CHECK_CASE(label, road->net.loss_percent > 0 || net->nodes[0].told == told);
    CHECK_CASE(label, road->net.loss_percent > 0 || swim_health(net->nodes[0].swim) == 0);
}

static bool last_is_gone(struct net *net)
{
    unsigned last = net->options.nodes - 1;

    for (unsigned i = 0; i < last; i++) {
        if (net_state(net, i, last) != MEMBER_DEAD && net_state(net, i, last) != MEMBER_LEFT) {
            return false;
        }
    }
    return true;
}

static void crash(const struct road *road, struct net *net)
{
    net_crash(net, net->options.nodes - 1);
    CHECK_CASE(label, net_run_until(net, last_is_gone, road->death_ms));
    CHECK_CASE(label, net_run_until(net, net_agrees, road->heal_ms));

    net_start(net, net->options.nodes - 1); /* with a higher boot and another address */
    CHECK_CASE(label, net_run_until(net, net_agrees, road->heal_ms));
}

/* Back before anybody has noticed: one change, and no death. */
static void restart(const struct road *road, struct net *net)
{
    unsigned last = net->options.nodes - 1, told_dead = net->nodes[0].told_dead;

    net_crash(net, last);
    net_run(net, 100);
    net_start(net, last);
    CHECK_CASE(label, net_run_until(net, net_agrees, road->heal_ms));
    CHECK_CASE(label, road->net.loss_percent > 0 || net->nodes[0].told_dead == told_dead);
}

/* Stopped for longer than a suspicion lasts. It is buried, blames nobody, and comes back by its own word. */
static void pause_long(const struct road *road, struct net *net)
{
    unsigned last = net->options.nodes - 1, told_dead = net->nodes[last].told_dead;

    net_pause(net, last, true);
    CHECK_CASE(label, net_run_until(net, last_is_gone, road->death_ms));
    net_run(net, 20000);
    net_forgive(net); /* that of the paused one */
    net_pause(net, last, false);
    net_run(net, 1);
    CHECK_CASE(label, net->nodes[last].told_dead == told_dead);
    CHECK_CASE(label, net_run_until(net, net_agrees, road->heal_ms));
    CHECK_CASE(label, road->net.loss_percent > 0 || net->nodes[last].told_dead == told_dead);
}

/* Suspected perhaps, but back before it is buried. */
static void pause_short(const struct road *road, struct net *net)
{
    net_pause(net, 1, true);
    net_run(net, 1500);
    net_pause(net, 1, false);
    CHECK_CASE(label, net_run_until(net, net_agrees, road->heal_ms));
}

static void one_way(const struct road *road, struct net *net)
{
    if (road->net.nodes > 2) {
        net->cut[0][1] = true; /* others reach both */
        net_run(net, 60000);
        net_mend(net);
        CHECK_CASE(label, net_run_until(net, net_agrees, road->heal_ms));
    }
}

/* It sends and hears nothing: it is buried, whatever it says of the others; they stay together. */
static void deaf(const struct road *road, struct net *net)
{
    unsigned last = net->options.nodes - 1;

    for (unsigned i = 0; i < last; i++) {
        net->cut[i][last] = true;
    }
    CHECK_CASE(label, net_run_until(net, last_is_gone, road->death_ms));
    net_run(net, 30000);
    for (unsigned i = 0; i < last && road->net.loss_percent == 0; i++) {
        CHECK_CASE(label, net_state(net, 0, i) == MEMBER_ALIVE);
        CHECK_CASE(label, net->nodes[i].told_dead == 1);
    }
    net_forgive(net); /* it was buried, and buried the others */
    net_mend(net);
    CHECK_CASE(label, net_run_until(net, net_agrees, road->heal_ms));
    net->nodes[last].false_deaths = 0; /* it went on a little with what it had begun, but nobody followed */
}

/* Both halves bury each other, go on, and find each other again without seeds. */
static void split(const struct road *road, struct net *net)
{
    unsigned half = net->options.nodes / 2, last = net->options.nodes - 1;

    net_split(net, half);
    net_run(net, 120000);
    CHECK_CASE(label, net_state(net, 0, last) == MEMBER_DEAD);
    CHECK_CASE(label, net_state(net, last, 0) == MEMBER_DEAD);
    net_forgive(net);
    net_mend(net);
    CHECK_CASE(label, net_run_until(net, net_agrees, road->heal_ms));
}

/* One against all the others, which it finds again although it has nobody left. */
static void alone(const struct road *road, struct net *net)
{
    unsigned last = net->options.nodes - 1;

    net_split(net, last);
    net_run(net, 180000);
    CHECK_CASE(label, net_state(net, last, 0) == MEMBER_DEAD);
    net_forgive(net);
    net_mend(net);
    CHECK_CASE(label, net_run_until(net, net_agrees, road->heal_ms));
    net->nodes[last].false_deaths = 0; /* as above */
}

static void flapping(const struct road *road, struct net *net)
{
    unsigned last = net->options.nodes - 1;
    uint64_t before = sent_by_all(net);

    for (unsigned i = 0; i < 10; i++) {
        net_crash(net, last);
        net_run(net, 500 + 700 * i);
        net_start(net, last);
        net_run(net, 3000 - 300 * i);
    }
    CHECK_CASE(label, (sent_by_all(net) - before) / net->options.nodes < 50 * 40);
    CHECK_CASE(label, net_run_until(net, net_agrees, road->heal_ms));
}

static void leave(const struct road *road, struct net *net)
{
    unsigned last = net->options.nodes - 1, told_dead = net->nodes[0].told_dead;

    net_leave(net, last);
    CHECK_CASE(label, swim_busy(net->nodes[last].swim));
    net_run(net, 10000);
    CHECK_CASE(label, !swim_busy(net->nodes[last].swim));
    net_crash(net, last);
    CHECK_CASE(label, net_run_until(net, net_agrees, road->heal_ms));
    CHECK_CASE(label, net_state(net, 0, last) == MEMBER_LEFT);
    CHECK_CASE(label, road->net.loss_percent > 0 || net->nodes[0].told_dead == told_dead);
}

/* All who had links to it say so: buried in the shortest time, however many they are. */
static void links_lost(const struct road *road, struct net *net)
{
    unsigned last = net->options.nodes - 1;

    net_link_lost(net, 0, 1); /* a mistake: it will deny it */
    CHECK_CASE(label, net_state(net, 0, 1) == MEMBER_SUSPECT);
    net_run(net, 1000);
    CHECK_CASE(label, road->net.loss_percent > 0 || net_state(net, 0, 1) == MEMBER_ALIVE);

    net_crash(net, last);
    for (unsigned i = 0; i < last; i++) {
        net_link_lost(net, i, last);
    }
    CHECK_CASE(label, net_run_until(net, last_is_gone, road->net.loss_percent > 0 ? 6000 : 2700));
}

/* A bit of everything, by chance, for two minutes. */
static void chaos(const struct road *road, struct net *net)
{
    for (unsigned i = 0; i < 40; i++) {
        unsigned at = 1 + prng_below(&net->prng, net->options.nodes - 1);
        switch (prng_below(&net->prng, 5)) {
        case 0:
            net_crash(net, at);
            break;
        case 1:
            net_pause(net, at, !net->nodes[at].paused);
            break;
        case 2:
            net_split(net, prng_below(&net->prng, net->options.nodes));
            break;
        case 3:
            net->cut[at][prng_below(&net->prng, net->options.nodes)] = true;
            break;
        default:
            net_mend(net);
            break;
        }
        net_run(net, prng_below(&net->prng, 6000));
        if (!net->nodes[at].swim) {
            net_start(net, at);
        }
    }
    net_mend(net);
    for (unsigned i = 0; i < net->options.nodes; i++) {
        net_pause(net, i, false);
    }
    CHECK_CASE(label, net_run_until(net, net_agrees, 2 * road->heal_ms));
    net_forgive(net);
}

#define STORY(name) \
    static void test_##name(void) \
    { \
        tell(name); \
    }
STORY(quiet)
STORY(crash)
STORY(restart)
STORY(pause_long)
STORY(pause_short)
STORY(one_way)
STORY(deaf)
STORY(split)
STORY(alone)
STORY(flapping)
STORY(leave)
STORY(links_lost)
STORY(chaos)

UNIT_MAIN("cluster/swim", {"a quiet cluster costs little", test_quiet}, {"a crash is found by all", test_crash},
          {"a restart is one change", test_restart}, {"a long pause", test_pause_long},
          {"a short pause", test_pause_short}, {"a way that is cut in one direction", test_one_way},
          {"a node that hears nothing", test_deaf}, {"two halves", test_split}, {"one against all", test_alone},
          {"a node that comes and goes", test_flapping}, {"leaving", test_leave}, {"links lost", test_links_lost},
          {"chaos", test_chaos})
