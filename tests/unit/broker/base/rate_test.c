/* rate_test.c -- the leaky bucket: its second's worth, its pace, its ends; and by several threads. */
#include "broker/base/rate.h"

#include <pthread.h>

#include "tests/lib/unit.h"

#define S 1000000000ull

struct take {
    uint64_t now_ns, n, wait_ns;
};

static const struct {
    const char *name;
    uint64_t per_second;
    struct take takes[6]; /* as far as n goes */
} rows[] = {
    {"a second's worth at once", 10, {{5 * S, 10, 0}, {5 * S, 1, S / 10}, {5 * S, 1, S / 5}}},
    {"the pace itself is never stopped",
     10,
     {{S, 10, 0}, {S + S / 10, 1, 0}, {S + S / 5, 1, 0}, {S + S / 5, 1, S / 10}}},
    {"who waited goes on", 10, {{S, 15, S / 2}, {S + S / 2, 1, S / 10}, {S + S / 2 + S / 10, 1, S / 10}}},
    {"idle time is saved for one second only", 10, {{S, 1, 0}, {1000 * S, 10, 0}, {1000 * S, 1, S / 10}}},
    {"more than the bucket is taken and paid", 10, {{S, 100, 9 * S}, {9 * S, 1, S + S / 10}, {12 * S, 1, 0}}},
    {"one a second", 1, {{S, 1, 0}, {S, 1, S}, {3 * S, 1, 0}}},
    {"a third leaves no wait behind", 3, {{S, 1, 0}, {S, 1, 0}, {S, 1, 0}, {S, 1, S / 3 - 1}}},
    {"nothing costs nothing", 1, {{S, 0, 0}, {S, 1, 0}}},
    {"the beginning of time", 2, {{0, 2, 0}, {0, 1, S / 2}}},
    {"time that stands still behind another shard's", 10, {{2 * S, 10, 0}, {2 * S - 5, 1, S / 10 + 5}}},
    {"ten gigabytes", 10ull << 30, {{S, 5ull << 30, 0}, {S, 5ull << 30, 0}, {S, 10ull << 30, S}}},
    {"no overflow", 1, {{S, UINT64_MAX, (1ull << 62) - S}, {S, UINT64_MAX, (2ull << 62) - S}}},
};

static void test_takes(void)
{
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct rate rate = {0};
        for (size_t k = 0; k < COUNT_OF(rows[i].takes); k++) {
            const struct take *t = &rows[i].takes[k];
            if (t->now_ns > 0 || t->n > 0) {
                CHECK_CASE(rows[i].name, rate_take(&rate, rows[i].per_second, t->n, t->now_ns) == t->wait_ns);
            }
        }
    }
}

/* However often it is asked for more, the number does not come round. */
static void test_saturates(void)
{
    struct rate rate = {0};
    uint64_t last = 0;

    for (unsigned i = 0; i < 100; i++) {
        uint64_t wait = rate_take(&rate, 1, UINT64_MAX, S);
        CHECK(wait >= last);
        last = wait;
    }
}

#define THREADS 4
#define TAKES 20000
static struct rate shared;

static void *take_many(void *unused)
{
    for (unsigned i = 0; i < TAKES; i++) {
        rate_take(&shared, 1000, 1, S);
    }
    return unused;
}

static void test_threads(void)
{
    pthread_t threads[THREADS];

    for (unsigned i = 0; i < THREADS; i++) {
        CU_ASSERT_FATAL(pthread_create(&threads[i], NULL, take_many, NULL) == 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
    }
    CHECK(rate_take(&shared, 1000, 0, S) == (uint64_t)THREADS * TAKES * (S / 1000) - S); /* nothing was lost */
}

UNIT_MAIN("broker/base/rate", {"takes", test_takes}, {"saturates", test_saturates}, {"threads", test_threads})
