/* prng_test.c -- the generator against its authors' published first outputs. */
#include "proto/base/prng.h"
#include "tests/lib/unit.h"

static void test_published_outputs(void)
{
    static const uint64_t want[] = {41943041u,
                                    58720359u,
                                    3588806011781223u,
                                    3591011842654386u,
                                    9228616714210784205u,
                                    9973669472204895162u,
                                    14011001112246962877u,
                                    12406186145184390807u};
    struct prng p = {{1, 2, 3, 4}};
    for (size_t i = 0; i < COUNT_OF(want); i++) {
        CHECK(prng_next(&p) == want[i]);
    }
}

static void test_seed_is_splitmix64(void)
{
    static const uint64_t want[] = {6457827717110365317u, 3203168211198807973u, 9817491932198370423u,
                                    4593380528125082431u};
    struct prng p;
    prng_seed(&p, 1234567);
    for (size_t i = 0; i < COUNT_OF(want); i++) {
        CHECK(p.s[i] == want[i]);
    }
}

static void test_below_is_bounded_and_even(void)
{
    struct prng p;
    unsigned seen[7] = {0};
    prng_seed(&p, 5);
    for (unsigned i = 0; i < 70000; i++) {
        uint32_t n = prng_below(&p, 7);
        CHECK(n < 7);
        seen[n < 7 ? n : 0]++;
    }
    for (unsigned i = 0; i < 7; i++) {
        CHECK(seen[i] > 9500 && seen[i] < 10500); /* five standard deviations */
    }
    CHECK(prng_below(&p, 1) == 0);
    uint32_t largest = 0;
    for (unsigned i = 0; i < 100; i++) {
        uint32_t n = prng_below(&p, UINT32_MAX);
        largest = n > largest ? n : largest;
    }
    CHECK(largest > UINT32_MAX / 2);
}

/* Here four draws fall on three results: were none thrown away, each result divisible by three would come twice as
 * often as the others. */
static void test_below_large_bound_is_even(void)
{
    struct prng p;
    unsigned counts[3] = {0};
    prng_seed(&p, 7);
    for (unsigned i = 0; i < 30000; i++) {
        counts[prng_below(&p, 3u << 30) % 3]++;
    }
    for (unsigned i = 0; i < 3; i++) {
        CHECK(counts[i] > 9600 && counts[i] < 10400); /* five standard deviations */
    }
}

UNIT_MAIN("proto/base/prng", {"published outputs", test_published_outputs},
          {"seed is splitmix64", test_seed_is_splitmix64},
          {"below is bounded and even", test_below_is_bounded_and_even},
          {"below a large bound is even", test_below_large_bound_is_even})
