/* topic_tree_test.c -- which sessions a topic finds, and what several subscriptions of one session become. */
#include "broker/topic/topic_tree.h"
#include "proto/base/prng.h"
#include "proto/mqtt/topic.h"
#include "tests/lib/make_message.h"
#include "tests/lib/unit.h"

#include <stdio.h>
#include <stdlib.h>

static char owners[64]; /* only their addresses count */

static struct topic_tree *tree_new(void)
{
    struct topic_tree *t = NULL;
    CHECK(topic_tree_new(&test_key, &t) == 0);
    return t;
}

struct added {
    struct subscription *subscription;
    bool existed, first;
};

static struct added add(struct topic_tree *t, void *owner, const char *filter, struct subscription_options options)
{
    struct added a;
    CHECK(topic_tree_subscribe(t, owner, slice_str(filter), &options, &a.subscription, &a.existed, &a.first) == 0);
    return a;
}

static bool end(struct topic_tree *t, void *owner, const char *filter)
{
    struct subscription *s = topic_tree_find(t, owner, slice_str(filter));
    CHECK(s != NULL);
    return topic_tree_unsubscribe(t, s);
}

static struct match *match(struct topic_tree *t, const char *topic)
{
    struct match *m = NULL;
    CHECK(topic_tree_match(t, slice_str(topic), test_hash(slice_str(topic)), &m) == 0);
    return m;
}

/* Every pair of these is tried, alone in a tree: both directions of the definition. */
static const char *const filters[] = {
    "a",           "a/b",   "a/b/c", "/",      "/a",     "a/",   "//",     "#",     "+",
    "+/+",         "a/#",   "a/+",   "+/b",    "/+",     "+/",   "/#",     "a/+/c", "a/b/#",
    "+/b/#",       "+/+/#", "#",     "$SYS/#", "$SYS/+", "$SYS", "$SYS/a", "+/a",   "a/b/c/d/e/f/g/h",
    "a/+/c/+/e/#", "a//b",  "a/+/b", "$a",     "$a/+/b",
};
static const char *const topics[] = {
    "a",  "b",     "a/b",    "a/b/c",           "/",         "/a", "a/",  "//", "a//b", "$SYS", "$SYS/a", "$SYS/a/b",
    "$a", "$a//b", "a/$SYS", "a/b/c/d/e/f/g/h", "a/b/c/d/e", "A",  "A/b", "ab", "a/bc", "b/a",  " a",     "a/b/",
};

static void test_pairs(void)
{
    for (size_t i = 0; i < COUNT_OF(filters); i++) {
        struct topic_tree *t = tree_new();
        add(t, &owners[0], filters[i], (struct subscription_options){0});
        for (size_t k = 0; k < COUNT_OF(topics); k++) {
            char name[64];
            snprintf(name, sizeof(name), "%s, %s", filters[i], topics[k]);
            struct match *m = match(t, topics[k]);
            bool want = mqtt_filter_matches(slice_str(filters[i]), slice_str(topics[k]));
            CHECK_CASE(name, m->count == want);
            CHECK_CASE(name, !want || m->entries[0].owner == &owners[0]);
            free(m);
        }
        CHECK(end(t, &owners[0], filters[i]));
        topic_tree_free(t);
    }
}

/* What overlapping subscriptions of one session become. */
static const struct {
    const char *name;
    struct {
        const char *filter;
        struct subscription_options options;
    } subs[4];
    const char *want_ids, *want_self_ids; /* hex; in any order */
    uint8_t want_qos, want_self_qos;
    bool want_rap, want_self_rap;
} joins[] = {
    {"one", {{"a/b", {.qos = 1}}}, "", "", 1, 1, false, false},
    {"highest of two [MQTT-3.3.4-2]", {{"a/b", {.qos = 0}}, {"a/#", {.qos = 2}}}, "", "", 2, 2, false, false},
    {"all identifiers [MQTT-3.3.4-4]",
     {{"a/b", {.id = 1}}, {"a/+", {.id = 127}}, {"#", {.id = 128}}},
     "0b01 0b7f 0b8001",
     "0b01 0b7f 0b8001",
     0,
     0,
     false,
     false},
    {"one identifier twice is sent twice",
     {{"a/b", {.id = 5}}, {"a/+", {.id = 5}}},
     "0b05 0b05",
     "0b05 0b05",
     0,
     0,
     false,
     false},
    {"largest identifiers",
     {{"a/b", {.id = 16383}}, {"a/+", {.id = 2097151}}, {"+/b", {.id = 268435455}}, {"#", {.id = 16384}}},
     "0bff7f 0bffff7f 0bffffff7f 0b808001",
     "0bff7f 0bffff7f 0bffffff7f 0b808001",
     0,
     0,
     false,
     false},
    {"some without identifier", {{"a/b", {.qos = 1}}, {"a/+", {.id = 9}}}, "0b09", "0b09", 1, 1, false, false},
    {"retain as published of any", {{"a/b", {0}}, {"#", {.retain_as_published = true}}}, "", "", 0, 0, true, true},
    {"no local [MQTT-3.8.3-3]",
     {{"a/b", {.qos = 2, .no_local = true, .id = 3}}},
     "0b03",
     "",
     2,
     MATCH_NONE,
     false,
     false},
    {"no local of one of two: it alone is left out",
     {{"a/b", {.qos = 2, .no_local = true, .id = 3, .retain_as_published = true}}, {"a/#", {.qos = 1, .id = 4}}},
     "0b03 0b04",
     "0b04",
     2,
     1,
     true,
     false},
    {"no local, the other has retain as published",
     {{"a/b", {.qos = 0, .no_local = true}}, {"a/#", {.qos = 0, .retain_as_published = true}}},
     "",
     "",
     0,
     0,
     true,
     true},
    {"no local twice",
     {{"a/b", {.qos = 1, .no_local = true, .id = 1}}, {"a/#", {.qos = 2, .no_local = true}}},
     "0b01",
     "",
     2,
     MATCH_NONE,
     false,
     false},
    {"not matching ones do not count",
     {{"a/b", {.qos = 0, .id = 2}}, {"a", {.qos = 2, .id = 3, .no_local = true}}},
     "0b02",
     "0b02",
     0,
     0,
     false,
     false},
};

/* Whether got is made of the same identifier properties as hex, in any order. */
static bool same_ids(struct slice got, const char *hex)
{
    struct slice want = unit_hex(hex);
    bool used[32] = {false};
    size_t taken = 0;

    for (size_t g = 0; g < got.len;) {
        size_t len = 2;
        while (got.ptr[g + len - 1] > 127) {
            len++;
        }
        for (size_t w = 0, next; w < want.len; w = next) {
            for (next = w + 2; want.ptr[next - 1] > 127; next++) {
            }
            if (!used[w] && slice_eq(slice_of(got.ptr + g, len), slice_of(want.ptr + w, next - w))) {
                used[w] = true;
                taken += len;
                break;
            }
        }
        g += len;
    }
    bool same = taken == got.len && got.len == want.len;
    free((void *)want.ptr);
    return same;
}

static void test_joins(void)
{
    for (size_t i = 0; i < COUNT_OF(joins); i++) {
        const char *name = joins[i].name;
        struct topic_tree *t = tree_new();
        for (size_t k = 0; k < 4 && joins[i].subs[k].filter; k++) {
            add(t, &owners[1], joins[i].subs[k].filter, joins[i].subs[k].options);
            add(t, &owners[2], joins[i].subs[k].filter, (struct subscription_options){.qos = 1}); /* a neighbour */
        }
        struct match *m = match(t, "a/b");
        CHECK_CASE(name, m->count == 2);
        const struct match_entry *e = m->entries[0].owner == &owners[1] ? &m->entries[0] : &m->entries[1];
        CHECK_CASE(name, e->owner == &owners[1]);
        CHECK_CASE(name, e->qos == joins[i].want_qos);
        CHECK_CASE(name, e->retain_as_published == joins[i].want_rap);
        CHECK_CASE(name, same_ids(slice_of(m->ids + e->ids_at, e->ids_len), joins[i].want_ids));
        CHECK_CASE(name, e->self_qos == joins[i].want_self_qos);
        CHECK_CASE(name, e->self_retain_as_published == joins[i].want_self_rap);
        CHECK_CASE(name, same_ids(slice_of(m->ids + e->self_ids_at, e->self_ids_len), joins[i].want_self_ids));
        free(m);
        for (size_t k = 0; k < 4 && joins[i].subs[k].filter; k++) {
            CHECK_CASE(name, !end(t, &owners[1], joins[i].subs[k].filter));
            CHECK_CASE(name, end(t, &owners[2], joins[i].subs[k].filter));
        }
        topic_tree_free(t);
    }
}

/* The words by which routes are announced and withdrawn: first of its filter, last of its filter. */
static void test_first_and_last(void)
{
    static const char *const both[] = {"a/b", "a/+", "#"};

    for (size_t i = 0; i < COUNT_OF(both); i++) {
        struct topic_tree *t = tree_new();
        uint64_t generation = topic_tree_generation(t);
        struct added one = add(t, &owners[0], both[i], (struct subscription_options){.qos = 1});
        CHECK_CASE(both[i], one.first && !one.existed);
        CHECK_CASE(both[i], list_empty(&one.subscription->in_owner));
        CHECK_CASE(both[i], one.subscription->owner == &owners[0]);
        CHECK_CASE(both[i], slice_eq(subscription_filter(one.subscription), slice_str(both[i])));
        CHECK_CASE(both[i], topic_tree_generation(t) > generation);
        struct added two = add(t, &owners[1], both[i], (struct subscription_options){.qos = 2});
        CHECK_CASE(both[i], !two.first && !two.existed && two.subscription != one.subscription);

        generation = topic_tree_generation(t);
        struct added again = add(t, &owners[0], both[i], (struct subscription_options){.qos = 0, .id = 7});
        CHECK_CASE(both[i], !again.first && again.existed); /* [MQTT-3.8.4-3] */
        CHECK_CASE(both[i], again.subscription == one.subscription);
        CHECK_CASE(both[i], one.subscription->options.id == 7 && one.subscription->options.qos == 0);
        CHECK_CASE(both[i], two.subscription->options.qos == 2);
        CHECK_CASE(both[i], topic_tree_generation(t) > generation);
        CHECK_CASE(both[i], topic_tree_filter_count(t) == 1);

        generation = topic_tree_generation(t);
        CHECK_CASE(both[i], !end(t, &owners[0], both[i]));
        CHECK_CASE(both[i], topic_tree_generation(t) > generation);
        CHECK_CASE(both[i], topic_tree_find(t, &owners[0], slice_str(both[i])) == NULL);
        CHECK_CASE(both[i], topic_tree_find(t, &owners[1], slice_str(both[i])) == two.subscription);
        CHECK_CASE(both[i], end(t, &owners[1], both[i]));
        CHECK_CASE(both[i], topic_tree_filter_count(t) == 0);
        CHECK_CASE(both[i], add(t, &owners[0], both[i], (struct subscription_options){0}).first);
        CHECK_CASE(both[i], end(t, &owners[0], both[i]));
        topic_tree_free(t);
    }
}

/* [MQTT-3.10.4-1]: compared character by character, a filter that matches another is not that other. */
static void test_find_is_exact(void)
{
    struct topic_tree *t = tree_new();
    static const char *const others[] = {"#", "a", "+/b", "a/b/", "a/B", "a/b/#", "/a/b", "+/+"};

    add(t, &owners[0], "a/b", (struct subscription_options){0});
    add(t, &owners[0], "a/+", (struct subscription_options){0});
    for (size_t i = 0; i < COUNT_OF(others); i++) {
        CHECK_CASE(others[i], topic_tree_find(t, &owners[0], slice_str(others[i])) == NULL);
    }
    CHECK(topic_tree_find(t, &owners[1], SLICE("a/b")) == NULL);
    end(t, &owners[0], "a/b");
    CHECK(topic_tree_find(t, &owners[0], SLICE("a/+")) != NULL);
    end(t, &owners[0], "a/+");
    topic_tree_free(t);
}

static void test_nothing(void)
{
    struct topic_tree *t = tree_new();
    struct match *m = match(t, "a/b");

    CHECK(m->count == 0 && m->ids_len == 0);
    free(m);
    CHECK(topic_tree_filter_count(t) == 0);
    topic_tree_free(t);
    topic_tree_free(NULL);
}

/* As many levels as a topic may have, and a filter that ends at each of them. */
static void test_deep(void)
{
    struct topic_tree *t = tree_new();
    char topic[512] = "x", filter[520];

    for (int depth = 1; depth < 200; depth++) {
        snprintf(filter, sizeof(filter), "%s/#", topic);
        add(t, &owners[depth % 8], filter, (struct subscription_options){.id = 1});
        strcat(topic, "/x");
    }
    struct match *m = match(t, topic);
    CHECK(m->count == 8);
    CHECK(m->ids_len == 199 * 2);
    free(m);
    strcpy(topic, "x");
    for (int depth = 1; depth < 200; depth++) {
        snprintf(filter, sizeof(filter), "%s/#", topic);
        CHECK(end(t, &owners[depth % 8], filter));
        strcat(topic, "/x");
    }
    topic_tree_free(t);
}

/* Many sessions on many filters at once, against a list. */
static void test_against_a_list(void)
{
    struct topic_tree *t = tree_new();
    static bool subscribed[COUNT_OF(owners)][COUNT_OF(filters)];
    struct prng random;

    prng_seed(&random, 1);
    for (int step = 0; step < 4000; step++) {
        uint32_t o = prng_below(&random, COUNT_OF(owners)), f = prng_below(&random, COUNT_OF(filters));
        for (uint32_t same = 0; same < f; same++) { /* `#` is in the table twice */
            f = strcmp(filters[same], filters[f]) == 0 ? same : f;
        }
        if (subscribed[o][f]) {
            end(t, &owners[o], filters[f]);
        } else {
            CHECK(!add(t, &owners[o], filters[f], (struct subscription_options){0}).existed);
        }
        subscribed[o][f] = !subscribed[o][f];
        if (step % 20) {
            continue;
        }
        const char *topic = topics[prng_below(&random, COUNT_OF(topics))];
        struct match *m = match(t, topic);
        unsigned want = 0, found = 0;
        for (o = 0; o < COUNT_OF(owners); o++) {
            bool matches = false;
            for (f = 0; f < COUNT_OF(filters); f++) {
                matches |= subscribed[o][f] && mqtt_filter_matches(slice_str(filters[f]), slice_str(topic));
            }
            want += matches;
            for (uint32_t i = 0; i < m->count; i++) {
                found += matches && m->entries[i].owner == &owners[o];
            }
        }
        CHECK_CASE(topic, m->count == want && found == want); /* each once, and nobody else */
        free(m);
    }
    for (size_t o = 0; o < COUNT_OF(owners); o++) {
        for (size_t f = 0; f < COUNT_OF(filters); f++) {
            if (subscribed[o][f]) {
                end(t, &owners[o], filters[f]);
            }
        }
    }
    CHECK(topic_tree_filter_count(t) == 0);
    topic_tree_free(t);
}

UNIT_MAIN("broker/topic/topic_tree", {"pairs", test_pairs}, {"joins", test_joins},
          {"first and last", test_first_and_last}, {"find is exact", test_find_is_exact}, {"nothing", test_nothing},
          {"deep", test_deep}, {"against a list", test_against_a_list})
