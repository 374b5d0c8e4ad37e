/* packet_ids_test.c -- the set of identifiers, against an array of all of them. */
#include "broker/session/packet_ids.h"
#include "proto/base/prng.h"
#include "tests/lib/unit.h"

#include <stdlib.h>

static bool there[65536];

/* Every identifier is in the set exactly if the array says so. */
static bool same(const struct packet_ids *ids)
{
    uint32_t count = 0;
    for (uint32_t id = 1; id <= UINT16_MAX; id++) {
        if (packet_ids_has(ids, (uint16_t)id) != there[id]) {
            return false;
        }
        count += there[id];
    }
    return ids->count == count;
}

static void test_empty(void)
{
    struct packet_ids ids = {0};

    memset(there, 0, sizeof(there));
    CHECK(same(&ids));
    CHECK(!packet_ids_remove(&ids, 1));
    CHECK(!packet_ids_remove(&ids, 65535));
    CHECK(ids.slots == NULL); /* most clients never send QoS 2: they cost nothing */
    packet_ids_deinit(&ids);
}

/* Patterns that clients make, put in and then taken out in another order. */
static const struct {
    const char *name;
    uint32_t first, step, count;
} patterns[] = {
    {"the lowest", 1, 1, 1},
    {"the highest", 65535, 1, 1},
    {"one after the other", 1, 1, 100},
    {"wrapping around", 65500, 1, 100},
    {"all in one slot of a small table", 8, 1024, 60},
    {"every other", 2, 2, 2000},
};

static uint16_t member(size_t pattern, uint32_t index)
{
    return (uint16_t)((patterns[pattern].first + index * patterns[pattern].step - 1) % 65535 + 1);
}

static void test_patterns(void)
{
    for (size_t i = 0; i < COUNT_OF(patterns); i++) {
        struct packet_ids ids = {0};
        uint32_t count = patterns[i].count, wrong = 0;
        memset(there, 0, sizeof(there));
        for (uint32_t k = 0; k < count; k++) {
            wrong += packet_ids_add(&ids, member(i, k)) != 0;
            there[member(i, k)] = true;
        }
        CHECK_CASE(patterns[i].name, wrong == 0 && same(&ids));
        for (uint32_t k = 0; k < count; k += 2) { /* every other, then the rest backwards */
            wrong += !packet_ids_remove(&ids, member(i, k));
            wrong += packet_ids_remove(&ids, member(i, k));
            there[member(i, k)] = false;
        }
        CHECK_CASE(patterns[i].name, wrong == 0 && same(&ids));
        for (uint32_t k = count; k-- > 0;) {
            wrong += packet_ids_remove(&ids, member(i, k)) != there[member(i, k)];
            there[member(i, k)] = false;
        }
        CHECK_CASE(patterns[i].name, wrong == 0 && same(&ids));
        packet_ids_deinit(&ids);
        CHECK_CASE(patterns[i].name, ids.slots == NULL && ids.count == 0);
    }
}

static void test_random(void)
{
    struct packet_ids ids = {0};
    struct prng random;
    uint32_t wrong = 0;

    prng_seed(&random, 2);
    memset(there, 0, sizeof(there));
    for (int step = 0; step < 100000; step++) {
        uint16_t id = (uint16_t)(1 + prng_below(&random, 300) * 7);
        if (there[id] || packet_ids_has(&ids, id)) {
            wrong += packet_ids_remove(&ids, id) != there[id];
            there[id] = false;
        } else {
            wrong += packet_ids_add(&ids, id) != 0;
            there[id] = true;
        }
        if (step % 5000 == 0) {
            wrong += !same(&ids);
        }
    }
    CHECK(wrong == 0);
    CHECK(same(&ids));
    packet_ids_deinit(&ids);
}

/* Every identifier that there is, as a client may have with the greatest Receive Maximum. */
static void test_full(void)
{
    struct packet_ids ids = {0};
    uint32_t wrong = 0;

    memset(there, 0, sizeof(there));
    for (uint32_t id = 1; id <= UINT16_MAX; id++) {
        wrong += packet_ids_add(&ids, (uint16_t)id) != 0;
        there[id] = true;
    }
    CHECK(wrong == 0 && same(&ids));
    for (uint32_t id = UINT16_MAX; id >= 1; id--) {
        wrong += !packet_ids_remove(&ids, (uint16_t)id);
    }
    memset(there, 0, sizeof(there));
    CHECK(wrong == 0 && same(&ids));
    packet_ids_deinit(&ids);
}

UNIT_MAIN("broker/session/packet_ids", {"empty", test_empty}, {"patterns", test_patterns}, {"full", test_full},
          {"random", test_random})
