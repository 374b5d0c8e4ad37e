/* map_test.c -- the table against a plain array as its model, with hashes that collide on purpose. */
#include <stdlib.h>

#include "proto/base/hash.h"
#include "proto/base/map.h"
#include "proto/base/prng.h"
#include "tests/lib/unit.h"

struct item {
    unsigned key;
    bool in;
};

static bool item_match(const void *value, const void *key)
{
    return ((const struct item *)value)->key == *(const unsigned *)key;
}

static bool never_match(const void *value, const void *key)
{
    return value && !key;
}

static void test_empty(void)
{
    struct map m = {0};
    unsigned key = 1;
    size_t index = 0;
    CHECK(map_find(&m, 1, item_match, &key) == NULL);
    CHECK(!map_remove(&m, 1, &key));
    CHECK(map_next(&m, &index) == NULL);
    map_deinit(&m);
}

static void test_equal_hashes_are_told_apart(void)
{
    struct map m = {0};
    struct item items[3] = {{.key = 0}, {.key = 1}, {.key = 2}};
    for (unsigned i = 0; i < 3; i++) {
        CHECK(map_add(&m, 99, &items[i]) == 0);
    }
    for (unsigned i = 0; i < 3; i++) {
        CHECK(map_find(&m, 99, item_match, &i) == &items[i]);
    }
    CHECK(map_find(&m, 99, never_match, &items) == NULL);
    CHECK(map_remove(&m, 99, &items[0]));
    CHECK(!map_remove(&m, 99, &items[0]));
    for (unsigned i = 1; i < 3; i++) {
        CHECK(map_find(&m, 99, item_match, &i) == &items[i]);
        CHECK(map_remove(&m, 99, &items[i]));
    }
    CHECK(m.count == 0 && m.slots == NULL);
}

static bool match_forbidden(const void *value, const void *key)
{
    CHECK(value == key); /* only the one of that hash may be asked about */
    return value == key;
}

/* Two in one probe run: the key of the object is looked at only where the whole hash is equal. */
static void test_match_sees_equal_hashes_only(void)
{
    struct map m = {0};
    struct item first = {.key = 0}, second = {.key = 1};
    CHECK(map_add(&m, 0x100000000u, &first) == 0);
    CHECK(map_add(&m, 0x200000000u, &second) == 0);
    CHECK(map_find(&m, 0x200000000u, match_forbidden, &second) == &second);
    CHECK(map_find(&m, 0x300000000u, match_forbidden, &first) == NULL);
    map_deinit(&m);
}

/* Few distinct places near the table's end, so that runs are long and wrap around. */
static uint64_t crowded_hash(unsigned key)
{
    return 0xfffffffcu + key % 7;
}

static uint64_t spread_hash(unsigned key)
{
    return hash_mix(key + 1);
}

static void check_against_model(const struct map *m, const struct item *items, unsigned count,
                                uint64_t (*hash)(unsigned))
{
    unsigned in = 0, walked = 0;
    for (unsigned i = 0; i < count; i++) {
        in += items[i].in;
        const struct item *want = items[i].in ? &items[i] : NULL;
        if (map_find(m, hash(i), item_match, &i) != want) {
            CHECK(!"found what is out, or missed what is in");
            return;
        }
    }
    size_t index = 0;
    for (struct item *item; (item = map_next(m, &index)) != NULL;) {
        CHECK(item->in);
        walked++;
    }
    CHECK(walked == in);
    CHECK(m->count == in);
    CHECK(!m->slots || m->count * 4 <= (m->mask + 1) * 3);
}

static void run_model(unsigned count, unsigned steps, uint64_t (*hash)(unsigned))
{
    struct item *items = calloc(count, sizeof(*items));
    struct map m = {0};
    struct prng prng;
    prng_seed(&prng, 1);
    for (unsigned i = 0; i < count; i++) {
        items[i].key = i;
    }
    for (unsigned step = 0; step < steps; step++) {
        /* First mostly adding, then mostly removing, so that the table grows and shrinks. */
        unsigned key = prng_below(&prng, count);
        bool add = prng_below(&prng, 10) < (step < steps / 2 ? 7u : 3u);
        if (add && !items[key].in) {
            CHECK(map_add(&m, hash(key), &items[key]) == 0);
            items[key].in = true;
        } else if (!add) {
            CHECK(map_remove(&m, hash(key), &items[key]) == items[key].in);
            items[key].in = false;
        }
        if (step % (steps / 50) == 0) {
            check_against_model(&m, items, count, hash);
        }
    }
    for (unsigned i = 0; i < count; i++) {
        CHECK(map_remove(&m, hash(i), &items[i]) == items[i].in);
        items[i].in = false;
    }
    CHECK(m.slots == NULL);
    free(items);
}

static void test_model_crowded(void)
{
    run_model(60, 5000, crowded_hash);
}

static void test_model_spread(void)
{
    run_model(5000, 50000, spread_hash);
}

static void test_shrinks(void)
{
    struct item *items = calloc(1000, sizeof(*items));
    struct map m = {0};
    for (unsigned i = 0; i < 1000; i++) {
        items[i].key = i;
        CHECK(map_add(&m, spread_hash(i), &items[i]) == 0);
    }
    CHECK(m.mask + 1 == 2048);
    for (unsigned i = 3; i < 1000; i++) {
        CHECK(map_remove(&m, spread_hash(i), &items[i]));
    }
    CHECK(m.mask + 1 <= 32);
    for (unsigned i = 0; i < 3; i++) {
        CHECK(map_find(&m, spread_hash(i), item_match, &i) == &items[i]);
    }
    map_deinit(&m);
    free(items);
}

/* As those of one group of sessions are: no long way to any of them. */
static void test_equal_low_bits_are_spread(void)
{
    struct item *items = calloc(3000, sizeof(*items));
    struct map m = {0};
    unsigned run = 0, longest = 0;
    for (unsigned i = 0; i < 3000; i++) {
        CHECK(map_add(&m, spread_hash(i) << 12 | 77, &items[i]) == 0);
    }
    for (uint32_t i = 0; i <= m.mask; i++) {
        run = m.slots[i].value ? run + 1 : 0;
        longest = run > longest ? run : longest;
    }
    CHECK(longest < 200); /* of slots that are three quarters full; some thirty are usual */
    map_deinit(&m);
    free(items);
}

UNIT_MAIN("proto/base/map", {"empty", test_empty}, {"equal hashes are told apart", test_equal_hashes_are_told_apart},
          {"match sees equal hashes only", test_match_sees_equal_hashes_only}, {"model, crowded", test_model_crowded},
          {"model, spread", test_model_spread}, {"shrinks", test_shrinks},
          {"equal low bits are spread", test_equal_low_bits_are_spread})
