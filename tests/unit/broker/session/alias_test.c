/* alias_test.c -- numbers that the client gives to topics, and numbers that we do. */
#include "broker/session/alias.h"
#include "tests/lib/unit.h"

#include <stdlib.h>

static void test_in(void)
{
    struct alias_in *a = alias_in_new(10);

    for (uint16_t i = 1; i <= 10; i++) {
        CHECK(alias_in_get(a, i).len == 0); /* nobody has said yet what it means */
    }
    char topic[] = "first/topic";
    CHECK(alias_in_set(a, 1, slice_str(topic)) == 0);
    memset(topic, 'x', sizeof(topic)); /* the packet is gone: the bytes were copied */
    CHECK(slice_eq(alias_in_get(a, 1), SLICE("first/topic")));
    CHECK(alias_in_set(a, 10, SLICE("t")) == 0);
    CHECK(slice_eq(alias_in_get(a, 10), SLICE("t")));
    CHECK(alias_in_get(a, 2).len == 0 && alias_in_get(a, 9).len == 0);

    const uint8_t *before = alias_in_get(a, 1).ptr;
    CHECK(alias_in_set(a, 1, SLICE("first/topic")) == 0); /* said again: nothing to do */
    CHECK(alias_in_get(a, 1).ptr == before);
    CHECK(alias_in_set(a, 1, SLICE("second")) == 0); /* the number gets another meaning (3.3.2.3.4) */
    CHECK(slice_eq(alias_in_get(a, 1), SLICE("second")));
    CHECK(slice_eq(alias_in_get(a, 10), SLICE("t")));
    alias_in_free(a);
    alias_in_free(NULL);
}

static void test_in_bounds(void)
{
    static const uint16_t bounds[] = {1, 2, 255, 256, 65535};

    for (size_t i = 0; i < COUNT_OF(bounds); i++) {
        struct alias_in *a = alias_in_new(bounds[i]);
        CHECK(a->max == bounds[i]);
        CHECK(alias_in_set(a, bounds[i], SLICE("last")) == 0);
        CHECK(slice_eq(alias_in_get(a, bounds[i]), SLICE("last")));
        CHECK(slice_eq(alias_in_get(a, 1), bounds[i] == 1 ? SLICE("last") : SLICE("")));
        alias_in_free(a);
    }
}

/* One PUBLISH to go out: the topic (by its hash) and what is expected. Slots are hash % 4. */
struct use {
    uint64_t hash;
    size_t topic_len;
    uint16_t want_alias;
    bool want_alone;
};

static const struct {
    const char *name;
    struct use uses[8];
} sequences[] = {
    {"announced at the second appearance, alone from the third",
     {{4, 9, 0, false}, {4, 9, 1, false}, {4, 9, 1, true}, {4, 9, 1, true}}},
    {"each slot has its number",
     {{5, 9, 0, false}, {7, 9, 0, false}, {5, 9, 2, false}, {7, 9, 4, false}, {5, 9, 2, true}}},
    {"too short to pay", {{4, 3, 0, false}, {4, 3, 0, false}, {4, 3, 0, false}, {4, 4, 0, false}, {4, 4, 1, false}}},
    {"topics that come once get none", {{4, 9, 0, false}, {8, 9, 0, false}, {12, 9, 0, false}, {16, 9, 0, false}}},
    {"a slot is taken back when others want it more, and announced anew",
     {{4, 9, 0, false},
      {4, 9, 1, false},
      {8, 9, 0, false},
      {8, 9, 0, false},
      {8, 9, 0, false},
      {8, 9, 1, false},
      {8, 9, 1, true},
      {4, 9, 0, false}}},
    {"a topic that comes often keeps its slot",
     {{4, 9, 0, false}, {4, 9, 1, false}, {8, 9, 0, false}, {4, 9, 1, true}, {8, 9, 0, false}, {4, 9, 1, true}}},
};

static void test_out(void)
{
    for (size_t i = 0; i < COUNT_OF(sequences); i++) {
        struct alias_out *a = alias_out_new(4);
        for (size_t k = 0; k < 8 && sequences[i].uses[k].hash; k++) {
            const struct use *use = &sequences[i].uses[k];
            bool alone = !use->want_alone;
            CHECK_CASE(sequences[i].name, alias_out_use(a, use->hash, use->topic_len, &alone) == use->want_alias);
            CHECK_CASE(sequences[i].name, alone == use->want_alone);
        }
        alias_out_free(a);
    }
    alias_out_free(NULL);
}

/* An announcement that did not fit into the packet is made again. */
static void test_forget(void)
{
    struct alias_out *a = alias_out_new(1);
    bool alone;

    CHECK(alias_out_use(a, 77, 20, &alone) == 0);
    CHECK(alias_out_use(a, 77, 20, &alone) == 1 && !alone);
    alias_out_forget(a, 1);
    CHECK(alias_out_use(a, 77, 20, &alone) == 1 && !alone);
    CHECK(alias_out_use(a, 77, 20, &alone) == 1 && alone);
    alias_out_free(a);
}

/* Whatever comes, the client's table and ours agree: a number stands alone only for the topic that it was last sent
 * with. */
static void test_client_agrees(void)
{
    static const uint16_t bounds[] = {1, 3, 10, 65535};

    for (size_t i = 0; i < COUNT_OF(bounds); i++) {
        struct alias_out *a = alias_out_new(bounds[i]);
        uint64_t *client = calloc(bounds[i] + 1u, sizeof(*client));
        unsigned wrong = 0, saved = 0;
        for (uint64_t n = 1; n < 100000; n++) {
            uint64_t hash = 1 + (n * n / 7) % 41;
            bool alone;
            uint16_t alias = alias_out_use(a, hash, 10, &alone);
            wrong += alias > bounds[i] || (alone && alias == 0);
            if (alias && alone) {
                wrong += client[alias] != hash;
                saved++;
            } else if (alias) {
                client[alias] = hash;
            }
        }
        CHECK(wrong == 0);
        CHECK(bounds[i] < 41 || saved > 90000);
        free(client);
        alias_out_free(a);
    }
}

UNIT_MAIN("broker/session/alias", {"in", test_in}, {"in, bounds", test_in_bounds}, {"out", test_out},
          {"forget", test_forget}, {"client agrees", test_client_agrees})
