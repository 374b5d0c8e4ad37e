/* fuzz_topic_match.c -- filters and topics from the input, matched in the tree, in the route table and by the plain
 * definition.
 *
 * The input is text: lines of filters and, after an empty line, lines of topics. Its bytes below 128 are spread over
 * the few characters that matter, so that any input says something. Each filter belongs to an owner of its own and to a
 * shard. Both indexes must find for each topic exactly what mqtt_filter_matches says, filter by filter. */
#include "broker/topic/route_table.h"
#include "broker/topic/topic_tree.h"
#include "proto/mqtt/topic.h"
#include "tests/fuzz/ops.h"

#define FILTERS_MAX 60 /* below the number of shards */
#define TOPICS_MAX 30
#define LEVELS_MAX 40

struct lines {
    struct slice at[FILTERS_MAX];
    unsigned count;
};

static bool in_lines(const struct lines *lines, struct slice text)
{
    for (unsigned i = 0; i < lines->count; i++) {
        if (slice_eq(lines->at[i], text)) {
            return true;
        }
    }
    return false;
}

/* Take lines off the input, valid ones once each, until an empty one or the end. */
static void take_lines(struct slice *rest, bool (*valid)(struct slice, unsigned), unsigned max, struct lines *lines)
{
    lines->count = 0;
    while (rest->len > 0) {
        const uint8_t *end = memchr(rest->ptr, '\n', rest->len);
        struct slice line = slice_of(rest->ptr, end ? (size_t)(end - rest->ptr) : rest->len);
        *rest = slice_drop(*rest, end ? line.len + 1 : line.len);
        if (line.len == 0) {
            return;
        }
        if (lines->count < max && line.len < 1000 && valid(line, LEVELS_MAX) && !in_lines(lines, line)) {
            lines->at[lines->count++] = line;
        }
    }
}

static void check_topic(struct topic_tree *tree, const struct route_table *routes, const struct lines *filters,
                        char *owners, struct slice topic)
{
    uint64_t hash = hash_keyed(&ops_key, topic), want = 0, found = 0;
    struct match *local = NULL;
    struct route_match *shards = NULL;

    for (unsigned i = 0; i < filters->count; i++) {
        want |= (uint64_t)mqtt_filter_matches(filters->at[i], topic) << i;
    }
    require(topic_tree_match(tree, topic, hash, &local) == 0);
    for (uint32_t i = 0; i < local->count; i++) {
        uint64_t bit = UINT64_C(1) << ((char *)local->entries[i].owner - owners);
        require(!(found & bit)); /* one entry an owner */
        found |= bit;
    }
    require(found == want);
    require(route_table_match(routes, topic, &shards) == 0);
    require(shards->shards == want);
    require(shards->share_count == 0);
    free(local);
    free(shards);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char owners[FILTERS_MAX];
    struct subscription *subscriptions[FILTERS_MAX];
    struct lines filters, topics;
    static uint8_t text[4096];
    struct slice rest = slice_of(text, size < sizeof(text) ? size : sizeof(text));
    struct topic_tree *tree = NULL;
    struct route_table *routes = NULL;

    for (size_t i = 0; i < rest.len; i++) {
        text[i] = data[i] < 128 ? (uint8_t) "ab/+#$\n/"[data[i] % 8] : data[i];
    }
    take_lines(&rest, mqtt_filter_valid, FILTERS_MAX, &filters);
    take_lines(&rest, mqtt_topic_valid, TOPICS_MAX, &topics);
    require(topic_tree_new(&ops_key, &tree) == 0 && route_table_new(&ops_key, 1, &routes) == 0);
    for (unsigned i = 0; i < filters.count; i++) {
        struct subscription_options options = {.qos = 1};
        bool existed, first;
        require(topic_tree_subscribe(tree, &owners[i], filters.at[i], &options, &subscriptions[i], &existed, &first) ==
                0);
        require(!existed && first);
        require(route_table_add(routes, filters.at[i], i) == 0);
    }
    for (unsigned i = 0; i < topics.count; i++) {
        check_topic(tree, routes, &filters, owners, topics.at[i]);
    }
    for (unsigned i = 0; i < filters.count; i++) { /* each is a topic too, if it has no wildcard */
        if (mqtt_topic_valid(filters.at[i], LEVELS_MAX)) {
            check_topic(tree, routes, &filters, owners, filters.at[i]);
        }
    }
    for (unsigned i = 0; i < filters.count; i++) {
        require(topic_tree_unsubscribe(tree, subscriptions[i]));
        require(route_table_remove(routes, filters.at[i], i) == 0);
    }
    require(topic_tree_filter_count(tree) == 0 && route_table_filter_count(routes) == 0);
    topic_tree_free(tree);
    route_table_free(routes);
    return 0;
}
