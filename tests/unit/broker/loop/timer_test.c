/* timer_test.c -- the wheel against what a clock would do. */
#include "broker/loop/timer.h"
#include "tests/lib/unit.h"

#include <stdlib.h>

#define TICK 8

struct bell {
    struct timer timer;
    struct timer_wheel *wheel;
    unsigned rung;
    uint64_t at_ms, again_ms; /* again_ms: set anew that much later */
    struct timer *victim;     /* cancelled when this one fires */
    bool free_me;
};

static unsigned freed;

static void ring(struct timer *timer, uint64_t now_ms)
{
    struct bell *b = CONTAINER_OF(timer, struct bell, timer);

    CHECK(!timer_armed(timer));
    b->rung++;
    b->at_ms = now_ms;
    if (b->victim) {
        timer_cancel(b->wheel, b->victim);
    }
    if (b->again_ms != UINT64_MAX) {
        timer_set(b->wheel, timer, now_ms + b->again_ms);
    }
    if (b->free_me) {
        freed++;
        free(b);
    }
}

static void bell_init(struct bell *b, struct timer_wheel *wheel)
{
    *b = (struct bell){.wheel = wheel, .again_ms = UINT64_MAX};
    timer_init(&b->timer, ring);
}

static struct timer_wheel *wheel_at(uint64_t now_ms)
{
    struct timer_wheel *w = NULL;
    CHECK(timer_wheel_new(now_ms, &w) == 0);
    CHECK(timer_next_ms(w) == UINT64_MAX);
    return w;
}

/* Sleep as a shard does, from one timer_next_ms to the next, until nothing is armed or `end_ms`. Returns the number of
 * sleeps. */
static unsigned sleep_through(struct timer_wheel *w, uint64_t now_ms, uint64_t end_ms)
{
    unsigned sleeps = 0;
    uint64_t next;

    while ((next = timer_next_ms(w)) <= end_ms) {
        now_ms = next > now_ms ? next : now_ms;
        timer_run(w, now_ms, UINT32_MAX);
        if (++sleeps > 100000) {
            break;
        }
    }
    return sleeps;
}

static void test_due_times(void)
{
    static const struct {
        const char *name;
        uint64_t start_ms, delay_ms;
    } cases[] = {
        {"now", 1000, 0},
        {"next millisecond", 1000, 1},
        {"same tick, later", 1001, 3},
        {"one tick", 1000, 8},
        {"last slot of level 0", 0, 255 * 8},
        {"first slot of level 1", 0, 256 * 8},
        {"over the edge of level 0", 250 * 8, 10 * 8},
        {"level 1, one after", 0, 256 * 8 + 1},
        {"level 2", 12345, 65536 * 8 + 77},
        {"level 3", 99999, UINT64_C(16777216) * 8 + 5},
        {"60 s keep alive", 123456789, 90000},
        {"an hour", 5, 3600000},
        {"49 days less one", 77, 0xfffffffeu},
        {"carry over all levels", (UINT64_C(1) << 32) * 8 - 3, 6},
        {"carry over all levels, far", (UINT64_C(1) << 32) * 8 - 100000, 0xf0000000u},
        {"late in the machine's life", UINT64_C(1) << 52, 1234567},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct timer_wheel *w = wheel_at(cases[i].start_ms);
        struct bell b;
        uint64_t due = cases[i].start_ms + cases[i].delay_ms;
        bell_init(&b, w);
        timer_set(w, &b.timer, due);
        CHECK_CASE(cases[i].name, timer_armed(&b.timer));
        CHECK_CASE(cases[i].name, b.rung == 0);
        CHECK_CASE(cases[i].name, timer_next_ms(w) <= (due + TICK - 1) / TICK * TICK);
        unsigned sleeps = sleep_through(w, cases[i].start_ms, UINT64_MAX - 1);
        CHECK_CASE(cases[i].name, b.rung == 1);
        CHECK_CASE(cases[i].name, b.at_ms >= due);
        CHECK_CASE(cases[i].name, b.at_ms < due + TICK);
        CHECK_CASE(cases[i].name, sleeps <= 4); /* one a level */
        CHECK_CASE(cases[i].name, timer_next_ms(w) == UINT64_MAX);
        timer_wheel_free(w);
    }
}

/* A wheel that was not run for long finds everything, in any jump. */
static void test_jumps(void)
{
    static const uint64_t jumps[] = {7, 8, 9, 2047, 2048, 2049, 100000, 524288, 1u << 30, UINT64_C(1) << 36};

    for (size_t i = 0; i < COUNT_OF(jumps); i++) {
        struct timer_wheel *w = wheel_at(4001);
        struct bell b[40];
        uint64_t now = 4001;
        for (unsigned k = 0; k < COUNT_OF(b); k++) {
            bell_init(&b[k], w);
            timer_set(w, &b[k].timer, now + (UINT64_C(3) << k % 29));
        }
        for (unsigned round = 0; round < 5; round++) {
            now += jumps[i];
            timer_run(w, now, UINT32_MAX);
            for (unsigned k = 0; k < COUNT_OF(b); k++) {
                CHECK(b[k].rung == 0 || b[k].at_ms >= b[k].timer.due_ms);
                CHECK(b[k].rung == 1 || b[k].timer.due_ms + TICK > now);
            }
        }
        timer_wheel_free(w);
    }
}

static void test_past(void)
{
    struct timer_wheel *w = wheel_at(10000);
    struct bell b;

    bell_init(&b, w);
    b.again_ms = 0; /* due at once, again and again: fires once a run, or a run would not end */
    timer_set(w, &b.timer, 3);
    CHECK(timer_next_ms(w) <= 10000);
    for (unsigned run = 1; run <= 3; run++) {
        CHECK(timer_run(w, 10000 + run, UINT32_MAX) == 1);
        CHECK(b.rung == run);
        CHECK(timer_next_ms(w) <= 10000 + run);
    }
    timer_cancel(w, &b.timer);
    CHECK(timer_run(w, 20000, UINT32_MAX) == 0);
    timer_wheel_free(w);
}

static void test_horizon(void)
{
    struct timer_wheel *w = wheel_at(1000);
    struct bell b;
    static const uint64_t far[] = {UINT64_MAX, UINT64_C(1) << 40, 1000 + (UINT64_C(1) << 33)};

    for (size_t i = 0; i < COUNT_OF(far); i++) {
        bell_init(&b, w);
        timer_set(w, &b.timer, far[i]);
        CHECK(timer_next_ms(w) != UINT64_MAX);
        CHECK(timer_next_ms(w) > 1000);
        CHECK(timer_run(w, 1000, UINT32_MAX) == 0);
        timer_cancel(w, &b.timer);
        CHECK(timer_next_ms(w) == UINT64_MAX);
    }
    /* A jump once around the top level, with a timer behind it and one that is set on the way. */
    struct bell early;
    uint64_t jump = UINT64_C(1) << 35;
    bell_init(&b, w);
    bell_init(&early, w);
    early.again_ms = 3 * jump;
    timer_set(w, &b.timer, 1000 + 2 * jump);
    timer_set(w, &early.timer, 2000);
    CHECK(timer_run(w, 1000 + jump, UINT32_MAX) == 1);
    CHECK(early.rung == 1);
    CHECK(timer_run(w, 1000 + 2 * jump, UINT32_MAX) == 1);
    CHECK(b.rung == 1);
    CHECK(timer_run(w, 1000 + 4 * jump, UINT32_MAX) == 1);
    CHECK(early.rung == 2);
    timer_wheel_free(w);
}

static void test_set_again_and_cancel(void)
{
    struct timer_wheel *w = wheel_at(0);
    struct bell a, b;

    bell_init(&a, w);
    bell_init(&b, w);
    timer_cancel(w, &a.timer); /* not armed: allowed */
    timer_set(w, &a.timer, 100);
    timer_set(w, &b.timer, 100);
    timer_set(w, &a.timer, 5000); /* later */
    CHECK(timer_run(w, 1000, UINT32_MAX) == 1);
    CHECK(a.rung == 0);
    CHECK(b.rung == 1);
    timer_set(w, &a.timer, 1500); /* earlier */
    CHECK(timer_run(w, 1504, UINT32_MAX) == 1);
    CHECK(a.rung == 1);

    /* One timer cancels another of its slot. */
    a.victim = &b.timer;
    timer_set(w, &a.timer, 3000);
    timer_set(w, &b.timer, 3000);
    CHECK(timer_run(w, 4000, UINT32_MAX) == 1);
    CHECK(a.rung == 2);
    CHECK(b.rung == 1);
    CHECK(!timer_armed(&b.timer));
    CHECK(timer_next_ms(w) == UINT64_MAX);

    struct bell *gone = malloc(sizeof(*gone));
    bell_init(gone, w);
    gone->free_me = true;
    timer_set(w, &gone->timer, 5000);
    CHECK(timer_run(w, 6000, UINT32_MAX) == 1);
    CHECK(freed == 1);
    timer_wheel_free(w);
}

static void test_budget(void)
{
    enum { MANY = 1000 };
    struct timer_wheel *w = wheel_at(0);
    struct bell *b = malloc(MANY * sizeof(*b));
    unsigned fired = 0, runs = 0;

    for (unsigned i = 0; i < MANY; i++) {
        bell_init(&b[i], w);
        timer_set(w, &b[i].timer, i % 2 ? 60000 + i : 3);
    }
    CHECK(timer_run(w, 70000, 0) == 0);
    while (timer_next_ms(w) <= 70000 && runs < 1000) {
        unsigned n = timer_run(w, 70000, 7);
        CHECK(n <= 7);
        fired += n;
        runs++;
    }
    CHECK(fired == MANY);
    CHECK(timer_next_ms(w) == UINT64_MAX);
    free(b);
    timer_wheel_free(w);
}

UNIT_MAIN("broker/loop/timer", {"due times", test_due_times}, {"jumps", test_jumps}, {"past", test_past},
          {"horizon", test_horizon}, {"set again, cancel", test_set_again_and_cancel}, {"budget", test_budget})
