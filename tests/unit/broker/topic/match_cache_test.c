/* match_cache_test.c -- an answer from the cache is what a match would give now, and answers that can be kept are. */
#include "broker/topic/match_cache.h"
#include "tests/lib/make_message.h"
#include "tests/lib/unit.h"

#include <stdio.h>
#include <stdlib.h>

static char owners[4000]; /* only their addresses count */

struct fixture {
    struct match_cache *cache;
    struct topic_tree *tree;
    struct route_table *routes;
    struct list subscriptions;
};

static void setup(struct fixture *f, unsigned sets_max)
{
    CHECK(match_cache_new(sets_max, &f->cache) == 0);
    CHECK(topic_tree_new(&test_key, &f->tree) == 0);
    CHECK(route_table_new(&test_key, 1, &f->routes) == 0);
    list_init(&f->subscriptions);
}

static void teardown(struct fixture *f)
{
    struct list *at;

    match_cache_free(f->cache);
    while ((at = list_pop(&f->subscriptions)) != NULL) {
        topic_tree_unsubscribe(f->tree, CONTAINER_OF(at, struct subscription, in_owner));
    }
    topic_tree_free(f->tree);
    route_table_free(f->routes);
}

static void subscribe(struct fixture *f, void *owner, const char *filter)
{
    struct subscription *s;
    bool existed, first;
    CHECK(topic_tree_subscribe(f->tree, owner, slice_str(filter), &(struct subscription_options){.qos = 1}, &s,
                               &existed, &first) == 0);
    list_append(&f->subscriptions, &s->in_owner);
}

static void unsubscribe(struct fixture *f, void *owner, const char *filter)
{
    struct subscription *s = topic_tree_find(f->tree, owner, slice_str(filter));
    CHECK(s != NULL);
    list_remove(&s->in_owner);
    topic_tree_unsubscribe(f->tree, s);
}

static const struct match *local(struct fixture *f, const char *topic)
{
    const struct match *m = match_cache_local(f->cache, f->tree, slice_str(topic), test_hash(slice_str(topic)));
    CHECK(m != NULL);
    return m;
}

static const struct route_match *routes(struct fixture *f, const char *topic)
{
    const struct route_match *m =
        match_cache_routes(f->cache, f->routes, slice_str(topic), test_hash(slice_str(topic)));
    CHECK(m != NULL);
    return m;
}

/* A result that the cache holds can be told from a new one by a mark that no match makes. */
#define MARK 99
static void mark(const struct match *m)
{
    ((struct match *)(uintptr_t)m)->entries[0].qos = MARK;
}

static bool marked(const struct match *m)
{
    return m->entries[0].qos == MARK;
}

static void test_keeps(void)
{
    struct fixture f;
    setup(&f, 64);
    subscribe(&f, &owners[0], "a/+");

    mark(local(&f, "a/b"));
    CHECK(marked(local(&f, "a/b")));
    CHECK(!marked(local(&f, "a/c"))); /* another topic */
    CHECK(local(&f, "b")->count == 0);
    CHECK(marked(local(&f, "a/b")));
    match_cache_clear(f.cache);
    CHECK(!marked(local(&f, "a/b")));
    CHECK(local(&f, "a/b")->entries[0].owner == &owners[0]);
    teardown(&f);
    match_cache_free(NULL);
}

/* Whatever changes the tree is seen by the next question, also by one that was answered before. */
static void test_local_changes(void)
{
    struct fixture f;
    setup(&f, 64);

    CHECK(local(&f, "a/b")->count == 0);
    subscribe(&f, &owners[0], "a/b");
    CHECK(local(&f, "a/b")->count == 1);
    subscribe(&f, &owners[1], "#");
    CHECK(local(&f, "a/b")->count == 2);
    CHECK(local(&f, "a/c")->count == 1);
    mark(local(&f, "a/b"));
    struct subscription *s;
    bool existed, first;
    CHECK(topic_tree_subscribe(f.tree, &owners[0], SLICE("a/b"), &(struct subscription_options){.qos = 2}, &s, &existed,
                               &first) == 0);
    CHECK(existed && !marked(local(&f, "a/b"))); /* new options are a change too */
    unsubscribe(&f, &owners[1], "#");
    CHECK(local(&f, "a/b")->count == 1);
    CHECK(local(&f, "a/b")->entries[0].qos == 2);
    unsubscribe(&f, &owners[0], "a/b");
    CHECK(local(&f, "a/b")->count == 0);
    teardown(&f);
}

static void test_route_changes(void)
{
    struct fixture f;
    setup(&f, 64);

    CHECK(routes(&f, "a/b")->shards == 0);
    CHECK(route_table_add(f.routes, SLICE("a/+"), 3) == 0);
    CHECK(routes(&f, "a/b")->shards == 1u << 3);
    const struct route_share share = {.id = 17, .home = 2};
    CHECK(route_table_add_share(f.routes, SLICE("a/b"), &share) == 0);
    CHECK(routes(&f, "a/b")->share_count == 1 && routes(&f, "a/b")->shares[0].id == 17);
    CHECK(route_table_remove(f.routes, SLICE("a/+"), 3) == 0);
    CHECK(routes(&f, "a/b")->shards == 0 && routes(&f, "a/b")->share_count == 1);
    CHECK(route_table_remove_share(f.routes, SLICE("a/b"), 17) == 0);
    CHECK(routes(&f, "a/b")->share_count == 0);
    teardown(&f);
}

/* Both answers of a topic are kept side by side; a change of one table leaves the other's answer. */
static void test_both_answers(void)
{
    struct fixture f;
    setup(&f, 64);
    subscribe(&f, &owners[0], "a/+");
    CHECK(route_table_add(f.routes, SLICE("a/b"), 5) == 0);

    mark(local(&f, "a/b"));
    CHECK(routes(&f, "a/b")->shards == 1u << 5);
    CHECK(route_table_add(f.routes, SLICE("a/b"), 6) == 0);
    CHECK(routes(&f, "a/b")->shards == 3u << 5);
    CHECK(marked(local(&f, "a/b")));
    ((struct route_match *)(uintptr_t)routes(&f, "a/b"))->shards = 1; /* a mark again */
    subscribe(&f, &owners[1], "a/b");
    CHECK(local(&f, "a/b")->count == 2);
    CHECK(routes(&f, "a/b")->shards == 1);
    teardown(&f);
}

/* What is too long or too large is answered all the same, but not kept. */
static void test_too_large(void)
{
    struct fixture f;
    char topic[258];
    setup(&f, 64);
    subscribe(&f, &owners[0], "+");

    for (size_t len = 255; len <= 257; len++) {
        memset(topic, 't', len);
        topic[len] = 0;
        mark(local(&f, topic));
        CHECK(marked(local(&f, topic)) == (len <= 256));
        CHECK(routes(&f, topic)->shards == 0);
    }
    mark(local(&f, "small"));
    for (size_t i = 1; i < COUNT_OF(owners); i++) {
        subscribe(&f, &owners[i], "large");
    }
    CHECK(local(&f, "large")->count == COUNT_OF(owners));
    mark(local(&f, "large"));
    CHECK(!marked(local(&f, "large")));
    mark(local(&f, "small"));
    CHECK(local(&f, "large")->count == COUNT_OF(owners));
    CHECK(marked(local(&f, "small")));

    for (size_t i = 1; i < COUNT_OF(owners); i++) { /* once it is small enough it is kept */
        unsubscribe(&f, &owners[i], "large");
    }
    mark(local(&f, "large"));
    CHECK(marked(local(&f, "large")));
    teardown(&f);
}

/* Topics of one set push each other out, the one that was used longest ago first. Their hashes differ above the bits
 * that choose the set; the only filter has a wildcard, so that nothing is looked up by hash. */
static const struct match *in_one_set(struct fixture *f, uint64_t number)
{
    char topic[8];
    snprintf(topic, sizeof(topic), "t%u", (unsigned)number);
    return match_cache_local(f->cache, f->tree, slice_str(topic), number << 40);
}

static void test_oldest_goes_first(void)
{
    struct fixture f;
    setup(&f, 64);
    subscribe(&f, &owners[0], "+");

    for (uint64_t i = 1; i <= 4; i++) {
        mark(in_one_set(&f, i));
    }
    for (uint64_t i = 4; i >= 1; i--) { /* now 4 was used longest ago */
        CHECK(marked(in_one_set(&f, i)));
    }
    mark(in_one_set(&f, 5));
    for (uint64_t i = 1; i <= 5; i++) {
        CHECK(i == 4 || marked(in_one_set(&f, i)));
    }
    CHECK(!marked(in_one_set(&f, 4)));
    CHECK(!marked(in_one_set(&f, 1))); /* whose place it took: 2, 3 and 5 were used after 1 */
    teardown(&f);
}

/* More topics than a small cache has room for: with room to grow, they are all kept in the end. Without, the answers
 * are right. */
static void test_growth(void)
{
    static const unsigned sets_max[] = {64, 8192};
    enum { TOPICS = 1000, ROUNDS = 40 };

    for (size_t s = 0; s < COUNT_OF(sets_max); s++) {
        struct fixture f;
        char topic[32];
        unsigned kept = 0, right = 0;
        setup(&f, sets_max[s]);
        subscribe(&f, &owners[0], "device/#");
        for (unsigned round = 0; round < ROUNDS; round++) {
            for (unsigned i = 0; i < TOPICS; i++) {
                snprintf(topic, sizeof(topic), "device/%u", i);
                const struct match *m = local(&f, topic);
                kept += round == ROUNDS - 1 && marked(m);
                right += m->count == 1 && m->entries[0].owner == &owners[0];
                mark(m);
            }
        }
        CHECK(right == ROUNDS * TOPICS);
        CHECK(sets_max[s] == 64 ? kept <= 256 : kept > TOPICS * 9 / 10);
        teardown(&f);
    }
}

/* Bytes are bounded too: results near the limit of a single one, many times the limit of all. */
static void test_bytes(void)
{
    struct fixture f;
    char topic[32];
    size_t owner_count = 60000 / sizeof(struct match_entry), kept = 0, topic_count = 2 * MATCH_CACHE_BYTES_MAX / 60000;
    setup(&f, 1024);
    for (size_t i = 0; i < owner_count; i++) {
        subscribe(&f, &owners[i], "large/#");
    }
    for (size_t i = 0; i < topic_count; i++) {
        snprintf(topic, sizeof(topic), "large/%zu", i);
        mark(local(&f, topic));
    }
    for (size_t i = 0; i < topic_count; i++) {
        snprintf(topic, sizeof(topic), "large/%zu",
                 topic_count - 1 - i); /* the latest first, so that asking changes nothing */
        if (!marked(local(&f, topic))) {
            break;
        }
        kept++;
    }
    CHECK(kept > 0);
    CHECK(kept * 60000 <= MATCH_CACHE_BYTES_MAX + 60000);
    teardown(&f);
}

UNIT_MAIN("broker/topic/match_cache", {"keeps", test_keeps}, {"local changes", test_local_changes},
          {"route changes", test_route_changes}, {"both answers", test_both_answers}, {"too large", test_too_large},
          {"oldest goes first", test_oldest_goes_first}, {"growth", test_growth}, {"bytes", test_bytes})
