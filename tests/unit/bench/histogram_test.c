/* histogram_test.c -- that no value is told wrong by more than a hundredth, and no percentile by more than its bucket.
 */
#include <stdlib.h>

#include "bench/load/histogram.h"
#include "proto/base/prng.h"
#include "tests/lib/unit.h"

#define VALUES_MAX 20000

static struct histogram one, two, three; /* 30 KiB each: too much for some stacks */

static void clear_all(void)
{
    histogram_clear(&one);
    histogram_clear(&two);
    histogram_clear(&three);
}

static const struct {
    const char *name;
    uint64_t value;
    uint32_t bucket;
    uint64_t top;
} buckets[] = {
    {"zero", 0, 0, 0},
    {"one", 1, 1, 1},
    {"last exact one", 127, 127, 127},
    {"first of the second power, still exact", 128, 128, 128},
    {"last that is exact", 255, 255, 255},
    {"first of a pair", 256, 256, 257},
    {"second of a pair", 257, 256, 257},
    {"last pair", 511, 383, 511},
    {"first of four", 512, 384, 515},
    {"last of four", 515, 384, 515},
    {"next four", 516, 385, 519},
    {"a second in us", 1000000, 13 * 128 + 116, 1003519},
    {"largest that fits", (1ull << 36) - 1, HISTOGRAM_BUCKETS - 1, (1ull << 36) - 1},
    {"first that does not fit", 1ull << 36, HISTOGRAM_BUCKETS - 1, (1ull << 36) - 1},
    {"largest of all", UINT64_MAX, HISTOGRAM_BUCKETS - 1, (1ull << 36) - 1},
};

static void test_bucket_of_a_value(void)
{
    for (size_t i = 0; i < COUNT_OF(buckets); i++) {
        CHECK_CASE(buckets[i].name, histogram_bucket(buckets[i].value) == buckets[i].bucket);
        CHECK_CASE(buckets[i].name, histogram_bucket_top(buckets[i].bucket) == buckets[i].top);
    }
}

/* Every boundary there is: a bucket ends at its top, and the next begins right behind it. */
static void test_buckets_meet(void)
{
    bool ends = true, begins = true;

    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        ends = ends && histogram_bucket(histogram_bucket_top(i)) == i;
        begins = begins && (i + 1 == HISTOGRAM_BUCKETS || histogram_bucket(histogram_bucket_top(i) + 1) == i + 1);
    }
    CHECK(ends);
    CHECK(begins);
}

static bool told_well(uint64_t value)
{
    uint64_t top = histogram_bucket_top(histogram_bucket(value));
    return top >= value && (top - value) * 100 <= value;
}

static void test_error_is_below_a_hundredth(void)
{
    struct prng random;
    bool boundaries = true, others = true;

    for (unsigned bit = 0; bit < HISTOGRAM_VALUE_BITS; bit++) {
        uint64_t power = 1ull << bit;
        boundaries = boundaries && told_well(power) && told_well(power - 1) && told_well(2 * power - 1) &&
                     told_well(power + power / 2);
    }
    for (uint32_t i = 0; i + 1 < HISTOGRAM_BUCKETS; i++) {
        boundaries = boundaries && told_well(histogram_bucket_top(i) + 1);
    }
    prng_seed(&random, 1);
    for (unsigned i = 0; i < 200000; i++) { /* each size of value as often as any other */
        others = others && told_well(prng_next(&random) >> (64 - HISTOGRAM_VALUE_BITS) >> i % HISTOGRAM_VALUE_BITS);
    }
    CHECK(boundaries);
    CHECK(others);
}

/* --- percentiles ------------------------------------------------------------------------------------------------- */

static int compare_values(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return (a > b) - (a < b);
}

/* The smallest value that at least percent_1000 / 1000 percent do not exceed, in whole numbers. */
static uint64_t sorted_percentile(const uint64_t *values, uint64_t count, uint64_t percent_1000)
{
    uint64_t rank = (count * percent_1000 + 99999) / 100000;
    return values[rank > 0 ? rank - 1 : 0];
}

static bool percentiles_match(uint64_t *values, uint64_t count)
{
    static const uint64_t percents_1000[] = {0,     1,     1000,  10000, 33333, 50000, 66667,
                                             90000, 99000, 99900, 99990, 99999, 100000};
    uint64_t max;
    bool match = true;

    histogram_clear(&one);
    for (uint64_t i = 0; i < count; i++) {
        histogram_add(&one, values[i], 1);
    }
    qsort(values, count, sizeof(*values), compare_values);
    max = values[count - 1];
    for (size_t i = 0; i < COUNT_OF(percents_1000); i++) {
        uint64_t want = histogram_bucket_top(histogram_bucket(sorted_percentile(values, count, percents_1000[i])));
        uint64_t got = histogram_percentile(&one, (double)percents_1000[i] / 1000);
        match = match && got == (want < max ? want : max);
    }
    return match && histogram_count(&one) == count && histogram_max(&one) == max;
}

static const struct {
    const char *name;
    uint64_t count;
    unsigned bits; /* values are below 2^bits */
    bool long_tail;
} arrays[] = {
    {"a single value", 1, 20, false},
    {"two", 2, 20, false},
    {"three", 3, 36, false},
    {"ten, exact ones", 10, 7, false},
    {"a hundred", 100, 16, false},
    {"a thousand: p99.9 is the last but one", 1000, 16, false},
    {"ten thousand", 10000, 30, false},
    {"all the same", 500, 0, false},
    {"long tail", 20000, 36, true},
    {"an odd number with a long tail", 19997, 30, true},
};

static void test_percentiles(void)
{
    static uint64_t values[VALUES_MAX];
    struct prng random;

    prng_seed(&random, 2);
    for (size_t i = 0; i < COUNT_OF(arrays); i++) {
        for (uint64_t j = 0; j < arrays[i].count; j++) {
            uint64_t value = arrays[i].bits ? prng_next(&random) >> (64 - arrays[i].bits) : 7;
            values[j] = arrays[i].long_tail ? value >> prng_below(&random, arrays[i].bits) : value;
        }
        CHECK_CASE(arrays[i].name, percentiles_match(values, arrays[i].count));
    }
}

static void test_percentile_out_of_range(void)
{
    clear_all();
    histogram_add(&one, 5, 1);
    histogram_add(&one, 500, 1);
    CHECK(histogram_percentile(&one, -1) == 5);
    CHECK(histogram_percentile(&one, 101) == 500);
    CHECK(histogram_percentile(&one, 1e300) == 500);
}

static void test_empty(void)
{
    clear_all();
    CHECK(histogram_count(&one) == 0);
    CHECK(histogram_mean(&one) == 0);
    CHECK(histogram_min(&one) == 0);
    CHECK(histogram_max(&one) == 0);
    CHECK(histogram_percentile(&one, 0) == 0);
    CHECK(histogram_percentile(&one, 100) == 0);
    histogram_add(&one, 9, 0); /* no times at all */
    CHECK(histogram_count(&one) == 0);
}

/* One value stands for itself, not for the top of its bucket. */
static void test_one_value(void)
{
    clear_all();
    histogram_add(&one, 1000001, 1);
    CHECK(histogram_min(&one) == 1000001);
    CHECK(histogram_max(&one) == 1000001);
    CHECK(histogram_percentile(&one, 50) == 1000001);
    CHECK(histogram_mean(&one) == 1000001);
}

static void test_many_times(void)
{
    clear_all();
    histogram_add(&one, 10, 999000);
    histogram_add(&one, 100, 1000);
    CHECK(histogram_count(&one) == 1000000);
    CHECK(histogram_mean(&one) == 10.09);
    CHECK(histogram_percentile(&one, 99.9) == 10);
    CHECK(histogram_percentile(&one, 99.90001) == 100);
}

static void test_beyond_the_range(void)
{
    clear_all();
    histogram_add(&one, 3, 1);
    histogram_add(&one, 1ull << 40, 1);
    CHECK(histogram_count(&one) == 2);
    CHECK(histogram_max(&one) == 1ull << 40); /* the maximum stays exact */
    CHECK(histogram_percentile(&one, 100) == (1ull << 36) - 1);
    CHECK(histogram_percentile(&one, 50) == 3);
    histogram_add(&one, UINT64_MAX, 1);
    CHECK(histogram_max(&one) == UINT64_MAX);
    CHECK(histogram_count(&one) == 3);
}

/* --- several of them --------------------------------------------------------------------------------------------- */

static bool same(const struct histogram *a, const struct histogram *b)
{
    bool equal = histogram_max(a) == histogram_max(b) && histogram_mean(a) == histogram_mean(b);
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        equal = equal && a->counts[i] == b->counts[i];
    }
    return equal;
}

static void test_merge_is_counting_both(void)
{
    struct prng random;

    clear_all();
    prng_seed(&random, 3);
    for (unsigned i = 0; i < 10000; i++) {
        uint64_t value = prng_next(&random) >> (28 + prng_below(&random, 36));
        histogram_add(i % 3 ? &one : &two, value, 1);
        histogram_add(&three, value, 1);
    }
    histogram_merge(&one, &two);
    CHECK(same(&one, &three));
    histogram_clear(&two);
    histogram_merge(&one, &two); /* nothing */
    CHECK(same(&one, &three));
    histogram_merge(&two, &one); /* into an empty one */
    CHECK(same(&two, &three));
}

static void test_clear(void)
{
    clear_all();
    histogram_add(&one, 1ull << 40, 5);
    histogram_clear(&one);
    CHECK(same(&one, &two));
    CHECK(histogram_count(&one) == 0);
}

/* one grows, two is the earlier copy, three what came since. */
static void test_since(void)
{
    clear_all();
    histogram_add(&one, 1000000, 10);
    histogram_merge(&two, &one);
    histogram_add(&three, 77, 7); /* the result need not be empty */
    histogram_since(&one, &two, &three);
    CHECK(histogram_count(&three) == 0);
    CHECK(histogram_max(&three) == 0);
    CHECK(histogram_mean(&three) == 0);

    histogram_add(&one, 100, 3);
    histogram_add(&one, 1001, 1);
    histogram_since(&one, &two, &three);
    CHECK(histogram_count(&three) == 4);
    CHECK(histogram_min(&three) == 100);
    CHECK(histogram_max(&three) == 1003); /* a larger one came before: the top of its bucket */
    CHECK(histogram_mean(&three) == 1301.0 / 4);

    histogram_add(&one, 2000001, 1);
    histogram_since(&one, &two, &three);
    CHECK(histogram_max(&three) == 2000001); /* a new maximum is exact */
    CHECK(histogram_count(&three) == 5);
}

static void test_since_then_merge_is_all(void)
{
    struct prng random;

    clear_all();
    prng_seed(&random, 4);
    for (unsigned i = 0; i < 5000; i++) {
        histogram_add(&one, prng_next(&random) >> 40, 1);
        if (i == 2500) {
            histogram_merge(&two, &one);
        }
    }
    histogram_since(&one, &two, &three);
    CHECK(histogram_count(&three) == 2499);
    histogram_merge(&two, &three);
    CHECK(histogram_count(&two) == 5000);
    CHECK(histogram_mean(&two) == histogram_mean(&one));
}

/* The earlier copy may be written over. */
static void test_since_in_place(void)
{
    clear_all();
    histogram_add(&one, 4, 1);
    histogram_merge(&two, &one);
    histogram_add(&one, 9, 2);
    histogram_since(&one, &two, &two);
    CHECK(histogram_count(&two) == 2);
    CHECK(histogram_min(&two) == 9);
    CHECK(histogram_max(&two) == 9);
}

/* Copies that were not taken in order give nothing rather than a huge number. */
static void test_since_something_later(void)
{
    clear_all();
    histogram_add(&two, 4, 10);
    histogram_add(&one, 4, 3);
    histogram_since(&one, &two, &three);
    CHECK(histogram_count(&three) == 0);
    CHECK(histogram_mean(&three) == 0);
}

UNIT_MAIN("bench/histogram", {"bucket of a value", test_bucket_of_a_value}, {"buckets meet", test_buckets_meet},
          {"error is below a hundredth", test_error_is_below_a_hundredth}, {"percentiles", test_percentiles},
          {"percentile out of range", test_percentile_out_of_range}, {"empty", test_empty},
          {"one value", test_one_value}, {"many times", test_many_times}, {"beyond the range", test_beyond_the_range},
          {"merge is counting both", test_merge_is_counting_both}, {"clear", test_clear}, {"since", test_since},
          {"since, then merge, is all", test_since_then_merge_is_all}, {"since in place", test_since_in_place},
          {"since something later", test_since_something_later})
