/* grace_test.c -- what is retired is freed as soon as nobody can see it, and no sooner. The threads are in
 * route_table_test.c. */
#include <stdlib.h>

static unsigned freed;

static void count_free(void *item)
{
    freed++;
    free(item);
}

#define free count_free
#include "broker/topic/grace.c"
#undef free

#include "proto/base/prng.h"
#include "tests/lib/unit.h"

enum { READERS = 3 };

static struct grace grace;

static void begin(void)
{
    freed = 0;
    grace_init(&grace, READERS);
}

static void retire(void)
{
    struct grace_item *item = malloc(sizeof(*item));
    CHECK(item != NULL);
    grace_retire(&grace, item);
}

static unsigned reclaimed(void)
{
    unsigned before = freed;
    grace_reclaim(&grace);
    return freed - before;
}

/* One letter a step: R retire; a-c awake, A-C asleep, 0-2 quiescent (of readers 0, 1, 2). After all of them
 * the writer reclaims. */
static const struct {
    const char *name, *steps;
    unsigned freed;
} cases[] = {
    {"nothing retired", "a0A", 0},
    {"nobody reads", "RR", 2},
    {"a reader that woke before", "aR", 0},
    {"a reader that woke after", "Ra", 1},
    {"between two", "RaR", 1},
    {"quiescent since", "aR0", 1},
    {"quiescent before only", "a0R", 0},
    {"quiescent between two", "aR0R", 1},
    {"asleep since", "aRA", 1},
    {"asleep and awake again", "aRAa", 1},
    {"asleep before, awake since", "aARa", 1},
    {"awake, asleep, awake before", "aAaR", 0},
    {"one of three is not quiescent", "abcR01", 0},
    {"another one of three is not", "abcR12", 0},
    {"all three are", "abcR012", 1},
    {"two are, one sleeps", "abcR0B2", 1},
    {"the slowest counts", "abcR012R01R0", 1},
    {"the slowest catches up", "abcR012R01R02", 2},
    {"quiescent twice before", "abR00", 0},
};

static void step(char what)
{
    if (what == 'R') {
        retire();
    } else if (what >= 'a') {
        grace_awake(&grace, (unsigned)(what - 'a'));
    } else if (what >= 'A') {
        grace_asleep(&grace, (unsigned)(what - 'A'));
    } else {
        grace_quiescent(&grace, (unsigned)(what - '0'));
    }
}

static void test_cases(void)
{
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        begin();
        unsigned retired = 0;
        for (const char *s = cases[i].steps; *s; s++) {
            step(*s);
            retired += *s == 'R';
        }
        CHECK_CASE(cases[i].name, freed == 0); /* only the writer frees, and only when it says so */
        CHECK_CASE(cases[i].name, reclaimed() == cases[i].freed);
        CHECK_CASE(cases[i].name, reclaimed() == 0);
        grace_deinit(&grace);
        CHECK_CASE(cases[i].name, freed == retired);
    }
}

/* At random, against the definition: an item may go exactly when each reader has said since that it holds nothing, or
 * sleeps. */
static void test_against_model(void)
{
    enum { ITEMS = 20000 };
    static bool held[ITEMS][READERS];
    bool awake[READERS] = {0}, right = true;
    unsigned retired = 0, gone = 0;
    struct prng prng;

    prng_seed(&prng, 3);
    begin();
    while (retired < ITEMS) {
        unsigned reader = prng_below(&prng, READERS), kind = prng_below(&prng, 5);
        if (kind == 0) {
            memcpy(held[retired++], awake, sizeof(awake));
            step('R');
        } else if (kind == 1) {
            while (gone < retired && !held[gone][0] && !held[gone][1] && !held[gone][2]) {
                gone++; /* items go in order */
            }
            grace_reclaim(&grace);
            right &= freed == gone;
        } else if (kind == 2 && !awake[reader]) {
            grace_awake(&grace, reader);
            awake[reader] = true;
        } else if (awake[reader]) {
            awake[reader] = kind == 3;
            (kind == 3 ? grace_quiescent : grace_asleep)(&grace, reader);
            for (unsigned i = gone; i < retired; i++) {
                held[i][reader] = false;
            }
        }
    }
    CHECK(right);
    CHECK(gone > ITEMS / 2); /* the model did free something */
    grace_deinit(&grace);
    CHECK(freed == ITEMS);
}

UNIT_MAIN("broker/topic/grace", {"cases", test_cases}, {"against model", test_against_model})
