/* sequence_test.c -- lanes and tallies against a model that remembers everything. */
#include <pthread.h>
#include <stdlib.h>

#include "bench/load/sequence.h"
#include "proto/base/prng.h"
#include "tests/lib/unit.h"

#define PLACES 64u

static const struct {
    const char *name;
    int places[12]; /* in the order of coming; -1: the end */
    uint32_t next, missing, duplicate, reordered;
} cases[] = {
    {"nothing", {-1}, 0, 0, 0, 0},
    {"in order", {0, 1, 2, -1}, 3, 0, 0, 0},
    {"the first is lost", {1, 2, -1}, 3, 1, 0, 0},
    {"three in a row are lost", {0, 4, 5, -1}, 6, 3, 0, 0},
    {"twice", {0, 0, 1, -1}, 2, 0, 1, 0},
    {"much later again", {0, 1, 2, 0, -1}, 3, 0, 1, 0},
    {"two change places", {1, 0, 2, -1}, 3, 0, 0, 1},
    {"a hole is filled from its front", {0, 4, 1, 2, 3, -1}, 5, 0, 0, 3},
    {"from its end", {0, 4, 3, 2, 1, -1}, 5, 0, 0, 3},
    {"from its middle", {0, 4, 2, 1, 3, -1}, 5, 0, 0, 3},
    {"late and again", {1, 0, 0, -1}, 2, 0, 1, 1},
    {"two holes, one is filled", {1, 3, 2, -1}, 4, 1, 0, 1},
};

static void test_lane(void)
{
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct lane lane = {0};
        struct sequence_counts counts = {0};
        for (const int *place = cases[i].places; *place >= 0; place++) {
            lane_take(&lane, (uint32_t)*place, &counts);
        }
        CHECK_CASE(cases[i].name, lane.next == cases[i].next);
        CHECK_CASE(cases[i].name, lane.missing == cases[i].missing && counts.missing == cases[i].missing);
        CHECK_CASE(cases[i].name, counts.duplicate == cases[i].duplicate);
        CHECK_CASE(cases[i].name, counts.reordered == cases[i].reordered);
        lane_deinit(&lane);
    }
}

/* A broker that does everything at once: the lane knows as much as who writes everything down. */
static void test_lane_at_random(void)
{
    struct prng prng;

    prng_seed(&prng, 7);
    for (unsigned round = 0; round < 2000; round++) {
        struct lane lane = {0};
        struct sequence_counts counts = {0}, want = {0};
        bool seen[PLACES] = {false};
        uint32_t next = 0;
        for (unsigned n = 0; n < PLACES; n++) {
            uint32_t place = (uint32_t)(prng_next(&prng) % PLACES);
            enum arrival arrival = lane_take(&lane, place, &counts);
            enum arrival expected = seen[place] ? ARRIVAL_DUPLICATE : place < next ? ARRIVAL_LATE : ARRIVAL_FIRST;
            CHECK(arrival == expected);
            want.duplicate += expected == ARRIVAL_DUPLICATE;
            want.reordered += expected == ARRIVAL_LATE;
            seen[place] = true;
            next = place >= next ? place + 1 : next;
        }
        for (uint32_t place = 0; place < next; place++) {
            want.missing += !seen[place];
        }
        CHECK(lane.next == next && lane.missing == want.missing && counts.missing == want.missing);
        CHECK(counts.duplicate == want.duplicate && counts.reordered == want.reordered);
        lane_deinit(&lane);
    }
}

/* Every other message lost, beyond what is remembered: still counted as lost, and a duplicate if it comes. */
static void test_lane_bound(void)
{
    struct lane lane = {0};
    struct sequence_counts counts = {0};
    uint32_t holes = LANE_HOLES_MAX + 100;

    for (uint32_t i = 0; i < holes; i++) {
        CHECK(lane_take(&lane, 2 * i + 1, &counts) == ARRIVAL_FIRST);
    }
    CHECK(counts.missing == holes && lane.hole_count == LANE_HOLES_MAX);
    CHECK(lane_take(&lane, 0, &counts) == ARRIVAL_DUPLICATE);        /* given up */
    CHECK(lane_take(&lane, 2 * holes - 2, &counts) == ARRIVAL_LATE); /* remembered */
    CHECK(counts.missing == holes - 1 && counts.duplicate == 1 && counts.reordered == 1);
    lane_deinit(&lane);
}

#define THREADS 4
#define TALLY_PLACES 200000u /* several chunks */

static struct tally tally;

static void *taker(void *context)
{
    uint32_t *first = context;

    for (uint32_t place = 0; place < TALLY_PLACES; place++) {
        *first += !tally_take(&tally, place);
    }
    return NULL;
}

/* Whoever takes a place first: one of them does. */
static void test_tally(void)
{
    pthread_t threads[THREADS];
    uint32_t first[THREADS] = {0}, sum = 0;

    for (int i = 0; i < THREADS; i++) {
        CHECK(pthread_create(&threads[i], NULL, taker, &first[i]) == 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        sum += first[i];
    }
    CHECK(sum == TALLY_PLACES);
    CHECK(!tally_take(&tally, TALLY_PLACES) && tally_take(&tally, TALLY_PLACES));
    tally_deinit(&tally);
    CHECK(!tally_take(&tally, 0));
    tally_deinit(&tally);
}

UNIT_MAIN("bench/load/sequence", {"lane", test_lane}, {"lane at random", test_lane_at_random},
          {"lane's bound", test_lane_bound}, {"tally", test_tally})
