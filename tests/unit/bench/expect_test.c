/* expect_test.c -- objectives as people write them, and as they get them wrong. */
#include <math.h>
#include <stdio.h>

#include "bench/load/expect.h"
#include "tests/lib/unit.h"

/* --- reading ----------------------------------------------------------------------------------------------------- */

static const struct {
    const char *text, *name;
    enum expect_relation relation;
    double limit;
} good[] = {
    {"lost=0", "lost", EXPECT_EQUAL, 0},
    {"p99<5ms", "p99", EXPECT_LESS, 5000},
    {"rate>20k", "rate", EXPECT_MORE, 20000},
    {"p99.9<=1s", "p99.9", EXPECT_AT_MOST, 1e6},
    {"rate>=1.5M", "rate", EXPECT_AT_LEAST, 1.5e6},
    {"cpu<500ns", "cpu", EXPECT_LESS, 0.5},
    {"cpu<100ns", "cpu", EXPECT_LESS, 0.1},
    {"p50<250us", "p50", EXPECT_LESS, 250},
    {"p90<250", "p90", EXPECT_LESS, 250}, /* microseconds without a unit */
    {"p99.99<0.25ms", "p99.99", EXPECT_LESS, 250},
    {"max<.5s", "max", EXPECT_LESS, 500000},
    {"mean<5.ms", "mean", EXPECT_LESS, 5000},
    {"ack-p99<2ms", "ack-p99", EXPECT_LESS, 2000},
    {"connect-max<3s", "connect-max", EXPECT_LESS, 3e6},
    {"late-p99.9<1ms", "late-p99.9", EXPECT_LESS, 1000},
    {"connection-cpu<=40us", "connection-cpu", EXPECT_AT_MOST, 40},
    {"subscription-cpu<1us", "subscription-cpu", EXPECT_LESS, 1},
    {"rss<2k", "rss", EXPECT_LESS, 2000},
    {"sent>0", "sent", EXPECT_MORE, 0},
    {"received>=1000000", "received", EXPECT_AT_LEAST, 1e6},
    {"  p99 \t<  5 ms ", "p99", EXPECT_LESS, 5000},
    {"p99 <= 5", "p99", EXPECT_AT_MOST, 5},
    {"\nrefused = 0\n", "refused", EXPECT_EQUAL, 0},
};

static void test_good(void)
{
    for (size_t i = 0; i < COUNT_OF(good); i++) {
        struct expect_list list = {0};
        const struct expectation *e = &list.items[0];

        CHECK_CASE(good[i].text, expect_parse(&list, good[i].text) == NULL);
        CHECK_CASE(good[i].text, list.count == 1);
        CHECK_CASE(good[i].text, strcmp(e->name, good[i].name) == 0);
        CHECK_CASE(good[i].text, e->relation == good[i].relation);
        CHECK_CASE(good[i].text, e->limit == good[i].limit);
        CHECK_CASE(good[i].text, !e->known && !e->met);
    }
}

static const struct {
    const char *text, *sentence; /* a piece of the answer */
} bad[] = {
    {"", "empty"},
    {"   ", "empty"},
    {",", "empty"},
    {"p99<5ms,", "empty"},
    {",p99<5ms", "empty"},
    {"p99<5ms,,lost=0", "empty"},
    {"p99", "none of"},
    {"p99 5ms", "none of"},
    {"p99!5ms", "none of"},
    {"<5ms", "no figure"},
    {"=", "no figure"},
    {"p98<5ms", "no figure"},
    {"P99<5ms", "no figure"},
    {"p99.999<5ms", "no figure"},
    {"p 99<5ms", "no figure"},
    {"p99!=5ms", "no figure"},
    {"lots=0", "no figure"},
    {"ack-lost=0", "no figure"},
    {"ack-<1", "no figure"},
    {"ack-connect-p99<1ms", "no figure"},
    {"ack-cpu<1us", "no figure"},
    {"late-rate>1", "no figure"},
    {"ackp99<1", "no figure"},
    {"p99<", "number"},
    {"p99<ms", "number"},
    {"p99<.", "number"},
    {"p99<.ms", "number"},
    {"p99<1.2.3ms", "number"},
    {"p99<..5", "number"},
    {"p99<-5ms", "number"},
    {"p99<+5ms", "number"},
    {"p99<inf", "number"},
    {"p99<nan", "number"},
    {"p99==5ms", "number"},
    {"p99=<5ms", "number"},
    {"p99<>5ms", "number"},
    {"p99<<5ms", "number"},
    {"p99<==5ms", "number"},
    {"p99< =5ms", "number"},
    {"p99<5x", "one of ns, us, ms, s"},
    {"p99<5k", "one of ns, us, ms, s"},
    {"p99<5 m s", "one of ns, us, ms, s"},
    {"p99<5MS", "one of ns, us, ms, s"},
    {"p99<5e3", "one of ns, us, ms, s"},
    {"p99<0x10", "one of ns, us, ms, s"},
    {"p99<5ms<6ms", "one of ns, us, ms, s"},
    {"cpu<1M", "one of ns, us, ms, s"},
    {"p99<5 5", "one of ns, us, ms, s"},
    {"p99<5ms lost=0", "one of ns, us, ms, s"},
    {"p99<5ms;lost=0", "one of ns, us, ms, s"},
    {"lost=0ms", "k or M"},
    {"rate>20K", "k or M"},
    {"rate>20kk", "k or M"},
    {"rate>20m", "k or M"},
    {"rss<2KiB", "k or M"},
    {"received>1e6", "k or M"},
    {"lost=0123456789012345678901234567890123456789012345678901234567890", "longer than 63"},
};

/* A wrong one says what is wrong, and the right ones before it do not stay. */
static void test_bad(void)
{
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        struct expect_list list = {.count = 1}, before = list;
        char behind[160];

        snprintf(behind, sizeof(behind), "lost=0,%s", bad[i].text);
        const char *alone = expect_parse(&list, bad[i].text);
        CHECK_CASE(bad[i].text, alone && strstr(alone, bad[i].sentence));
        const char *second = expect_parse(&list, behind);
        CHECK_CASE(bad[i].text, second && strstr(second, bad[i].sentence));
        CHECK_CASE(bad[i].text, memcmp(&list, &before, sizeof(list)) == 0);
    }
}

/* The sentence names the objective, but not all of the list around it. */
static void test_sentence_names_the_culprit(void)
{
    struct expect_list list = {0};

    const char *why = expect_parse(&list, "lost=0, p98 < 5ms ,rate>1");
    CHECK(why && strstr(why, "\"p98 < 5ms\""));
    CHECK(why && !strstr(why, "lost=0") && !strstr(why, "rate>1"));
}

/* Zeros in front of a number cost nothing but room. */
static void test_longest(void)
{
    struct expect_list list = {0};
    char text[EXPECT_TEXT_MAX + 1];

    snprintf(text, sizeof(text), "lost=%0*d", EXPECT_TEXT_MAX - 5, 7);
    CHECK(strlen(text) == EXPECT_TEXT_MAX); /* a byte too much */
    CHECK(expect_parse(&list, text) != NULL);
    CHECK(list.count == 0);
    snprintf(text, sizeof(text), "lost=%0*d", EXPECT_TEXT_MAX - 6, 7);
    CHECK(expect_parse(&list, text) == NULL);
    CHECK(list.count == 1 && list.items[0].limit == 7);
    CHECK(strcmp(list.items[0].text, text) == 0);
}

static void test_several(void)
{
    struct expect_list list = {0};

    CHECK(expect_parse(&list, "p99 < 5ms, lost=0,cpu<=1us") == NULL);
    CHECK(list.count == 3);
    CHECK(strcmp(list.items[0].text, "p99 < 5ms") == 0); /* as it was written */
    CHECK(strcmp(list.items[1].text, "lost=0") == 0);
    CHECK(strcmp(list.items[2].text, "cpu<=1us") == 0);
    CHECK(expect_parse(&list, "rate>1k") == NULL); /* a second --expect adds to it */
    CHECK(list.count == 4);
    CHECK(strcmp(list.items[3].name, "rate") == 0);
    CHECK(strcmp(list.items[0].name, "p99") == 0);
}

static void test_too_many(void)
{
    struct expect_list list = {0};

    for (size_t i = 0; i + 1 < EXPECT_MAX; i++) {
        CHECK(expect_parse(&list, "lost=0") == NULL);
    }
    const char *why = expect_parse(&list, "sent>1,sent>2"); /* only one more has room */
    CHECK(why && strstr(why, "more than 32"));
    CHECK(list.count == EXPECT_MAX - 1);
    CHECK(expect_parse(&list, "sent>1") == NULL);
    CHECK(list.count == EXPECT_MAX);
    CHECK(expect_parse(&list, "sent>2") != NULL);
    CHECK(list.count == EXPECT_MAX);
    CHECK(list.items[EXPECT_MAX - 1].limit == 1);
}

static const struct {
    const char *name;
    bool known;
} names[] = {
    {"p50", true},       {"p99.99", true},
    {"ack-mean", true},  {"connect-p90", true},
    {"late-max", true},  {"misdelivered", true},
    {"reordered", true}, {"disconnected", true},
    {"rss", true},       {"misacknowledged", true},
    {"duplicate", true}, {"unacknowledged", true},
    {"", false},         {"p", false},
    {"p9", false},       {"p999", false},
    {"p50 ", false},     {"ack-", false},
    {"ack-rss", false},  {"late-late-p50", false},
    {"-p50", false},     {"cpu-connection", false},
    {"Lost", false},     {"losts", false},
};

static void test_names(void)
{
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        CHECK_CASE(names[i].name, expect_name_known(names[i].name) == names[i].known);
    }
}

/* --- judging ----------------------------------------------------------------------------------------------------- */

struct figure {
    const char *name; /* what the run has, and nothing else */
    double value;
};

static bool figure_lookup(void *context, const char *name, double *ret_value)
{
    const struct figure *figure = context;

    if (strcmp(figure->name, name) != 0) {
        return false;
    }
    *ret_value = figure->value;
    return true;
}

static const struct {
    const char *text;
    struct figure figure;
    bool known, met;
} judged[] = {
    {"p99<5ms", {"p99", 4999}, true, true},        {"p99<5ms", {"p99", 5000}, true, false},
    {"p99<5ms", {"p99", 5001}, true, false},       {"p99<=5ms", {"p99", 5000}, true, true},
    {"p99<=5ms", {"p99", 5000.5}, true, false},    {"rate>20k", {"rate", 20001}, true, true},
    {"rate>20k", {"rate", 20000}, true, false},    {"rate>=20k", {"rate", 20000}, true, true},
    {"rate>=20k", {"rate", 19999.9}, true, false}, {"lost=0", {"lost", 0}, true, true},
    {"lost=0", {"lost", 1}, true, false},          {"sent=1000", {"sent", 999}, true, false},
    {"cpu<500ns", {"cpu", 0.49}, true, true},      {"cpu<500ns", {"cpu", 0.5}, true, false},
    {"cpu<1us", {"rss", 0}, false, false}, /* a run without --pid */
    {"cpu>=0", {"rss", 0}, false, false},          {"lost=0", {"", 0}, false, false},
    {"p99<5ms", {"ack-p99", 1}, false, false},     {"rate>=0", {"rate", NAN}, true, false},
    {"rate<1", {"rate", NAN}, true, false},        {"lost=0", {"lost", NAN}, true, false},
};

static void test_judge(void)
{
    for (size_t i = 0; i < COUNT_OF(judged); i++) {
        struct expect_list list = {0};
        struct figure figure = judged[i].figure;

        CHECK_CASE(judged[i].text, expect_parse(&list, judged[i].text) == NULL);
        CHECK_CASE(judged[i].text, expect_judge(&list, figure_lookup, &figure) == judged[i].met);
        CHECK_CASE(judged[i].text, list.items[0].met == judged[i].met);
        CHECK_CASE(judged[i].text, list.items[0].known == judged[i].known);
        double want = judged[i].known ? figure.value : 0;
        CHECK_CASE(judged[i].text, list.items[0].value == want || isnan(want));
    }
}

/* One that is missed does not keep the others from being looked up. */
static void test_judge_several(void)
{
    struct expect_list list = {0};
    struct figure lost = {"lost", 3};

    CHECK(expect_judge(&list, figure_lookup, &lost)); /* nothing was asked */
    CHECK(expect_parse(&list, "lost=0,lost<5,p99<1,lost=3") == NULL);
    CHECK(!expect_judge(&list, figure_lookup, &lost));
    CHECK(!list.items[0].met && list.items[1].met && !list.items[2].met && list.items[3].met);
    CHECK(list.items[0].value == 3 && list.items[2].value == 0);
    CHECK(!list.items[2].known);
}

/* Judging again forgets what was before. */
static void test_judge_again(void)
{
    struct expect_list list = {0};
    struct figure lost = {"lost", 0}, other = {"sent", 1};

    CHECK(expect_parse(&list, "lost=0") == NULL);
    CHECK(expect_judge(&list, figure_lookup, &lost));
    CHECK(!expect_judge(&list, figure_lookup, &other));
    CHECK(!list.items[0].known && !list.items[0].met);
}

UNIT_MAIN("bench/expect", {"good", test_good}, {"bad", test_bad},
          {"sentence names the culprit", test_sentence_names_the_culprit}, {"longest", test_longest},
          {"several", test_several}, {"too many", test_too_many}, {"names", test_names}, {"judge", test_judge},
          {"judge several", test_judge_several}, {"judge again", test_judge_again})
