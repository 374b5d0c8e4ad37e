#include "broker/topic/topic_tree.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "broker/topic/level_tree.h"
#include "broker/topic/topic_match.h"
#include "proto/mqtt/topic.h"

struct filter_node {
    struct level_node node;      /* first */
    struct topic_filter *filter; /* that ends here, or NULL */
};

struct topic_tree {
    const struct hash_key *key; /* borrowed */
    struct map filters;         /* struct topic_filter by text, both kinds; owned */
    struct map subscriptions;   /* struct subscription by (filter, owner); owned */
    struct level_tree wildcards;
    uint64_t generation;
};

int topic_tree_new(const struct hash_key *key, struct topic_tree **ret_tree)
{
    struct topic_tree *t = calloc(1, sizeof(*t));
    if (!t) {
        return -ENOMEM;
    }
    t->key = key;
    t->generation = 1;
    if (level_tree_init(&t->wildcards, key, sizeof(struct filter_node)) != 0) {
        free(t);
        return -ENOMEM;
    }
    *ret_tree = t;
    return 0;
}

void topic_tree_free(struct topic_tree *t)
{
    if (!t) {
        return;
    }
    assert(t->subscriptions.count == 0);
    assert(t->filters.count == 0);
    map_deinit(&t->filters);
    map_deinit(&t->subscriptions);
    level_tree_deinit(&t->wildcards);
    free(t);
}

uint64_t topic_tree_generation(const struct topic_tree *t)
{
    return t->generation;
}

size_t topic_tree_filter_count(const struct topic_tree *t)
{
    return t->filters.count;
}

static struct slice text_of(const struct topic_filter *f)
{
    return slice_of(f->text, f->text_len);
}

struct slice subscription_filter(const struct subscription *s)
{
    return text_of(s->filter);
}

static bool has_text(const void *value, const void *key)
{
    return slice_eq(text_of(value), *(const struct slice *)key);
}

static struct topic_filter *find_filter(const struct topic_tree *t, struct slice text, uint64_t hash)
{
    return map_find(&t->filters, hash, has_text, &text);
}

struct pair {
    const struct topic_filter *filter;
    const void *owner;
};

static uint64_t pair_hash(const struct topic_filter *filter, const void *owner)
{
    return hash_mix((uint64_t)(uintptr_t)filter ^ hash_mix((uint64_t)(uintptr_t)owner));
}

static bool is_pair(const void *value, const void *key)
{
    const struct subscription *s = value;
    const struct pair *pair = key;
    return s->filter == pair->filter && s->owner == pair->owner;
}

static struct subscription *find_subscription(const struct topic_tree *t, const struct topic_filter *filter,
                                              const void *owner)
{
    struct pair pair = {filter, owner};
    return map_find(&t->subscriptions, pair_hash(filter, owner), is_pair, &pair);
}

struct subscription *topic_tree_find(struct topic_tree *t, const void *owner, struct slice text)
{
    struct topic_filter *filter = find_filter(t, text, hash_keyed(t->key, text));
    return filter ? find_subscription(t, filter, owner) : NULL;
}

static bool no_filter_ends_here(const struct level_node *node)
{
    return ((const struct filter_node *)node)->filter == NULL;
}

static void leave_wildcards(struct topic_tree *t, struct topic_filter *f)
{
    if (f->node) {
        ((struct filter_node *)f->node)->filter = NULL;
        level_tree_prune(&t->wildcards, f->node, no_filter_ends_here, NULL);
    }
}

static struct topic_filter *filter_new(struct topic_tree *t, struct slice text, uint64_t hash)
{
    struct topic_filter *f = calloc(1, sizeof(*f) + text.len);
    if (!f) {
        return NULL;
    }
    list_init(&f->subscriptions);
    f->hash = hash;
    f->text_len = (uint16_t)text.len;
    memcpy(f->text, text.ptr, text.len);
    if (mqtt_filter_has_wildcard(text)) {
        f->node = level_tree_make(&t->wildcards, text);
        if (!f->node) {
            free(f);
            return NULL;
        }
        ((struct filter_node *)f->node)->filter = f;
    }
    if (map_add(&t->filters, hash, f) != 0) {
        leave_wildcards(t, f);
        free(f);
        return NULL;
    }
    return f;
}

static void filter_free(struct topic_tree *t, struct topic_filter *f)
{
    assert(list_empty(&f->subscriptions));
    map_remove(&t->filters, f->hash, f);
    leave_wildcards(t, f);
    free(f);
}

static struct subscription *subscription_new(struct topic_tree *t, void *owner, struct topic_filter *filter)
{
    struct subscription *s = calloc(1, sizeof(*s));
    if (!s) {
        return NULL;
    }
    s->filter = filter;
    s->owner = owner;
    list_init(&s->in_owner);
    list_init(&s->in_filter);
    if (map_add(&t->subscriptions, pair_hash(filter, owner), s) != 0) {
        free(s);
        return NULL;
    }
    list_append(&filter->subscriptions, &s->in_filter);
    return s;
}

int topic_tree_subscribe(struct topic_tree *t, void *owner, struct slice text,
                         const struct subscription_options *options, struct subscription **ret_subscription,
                         bool *ret_existed, bool *ret_first)
{
    uint64_t hash = hash_keyed(t->key, text);
    struct topic_filter *filter = find_filter(t, text, hash);
    struct subscription *s = filter ? find_subscription(t, filter, owner) : NULL;
    bool existed = s != NULL, first = filter == NULL;

    if (first && !(filter = filter_new(t, text, hash))) {
        return -ENOMEM;
    }
    if (!existed && !(s = subscription_new(t, owner, filter))) {
        if (first) {
            filter_free(t, filter);
        }
        return -ENOMEM;
    }
    s->options = *options;
    t->generation++;
    *ret_subscription = s;
    *ret_existed = existed;
    *ret_first = first;
    return 0;
}

bool topic_tree_unsubscribe(struct topic_tree *t, struct subscription *s)
{
    struct topic_filter *filter = s->filter;

    assert(list_empty(&s->in_owner));
    bool there = map_remove(&t->subscriptions, pair_hash(filter, s->owner), s);
    assert(there);
    list_remove(&s->in_filter);
    free(s);
    t->generation++;
    if (!list_empty(&filter->subscriptions)) {
        return false;
    }
    filter_free(t, filter);
    return true;
}

static void filter_at(const struct level_node *node, struct topic_match_found *found)
{
    if (node && ((const struct filter_node *)node)->filter) {
        topic_match_add(found, ((const struct filter_node *)node)->filter);
    }
}

/* Walk the wildcard filters that match the rest of a topic. Depth: its levels, which are limited. */
static void walk(const struct topic_tree *t, const struct level_node *node, struct slice rest, bool done, bool dollar,
                 struct topic_match_found *found)
{
    struct slice level;

    if (list_empty(&node->children) && !done) {
        struct slice probe = rest;
        bool probe_done = done;
        if (mqtt_level_next(&probe, &probe_done, &level)) {
            return; /* the topic goes on, no filter does */
        }
    }
    if (!dollar) {
        filter_at(level_tree_child(&t->wildcards, node, SLICE("#")), found); /* also the parent level (4.7.1.2) */
    }
    if (!mqtt_level_next(&rest, &done, &level)) {
        filter_at(node, found);
        return;
    }
    const struct level_node *plus = dollar ? NULL : level_tree_child(&t->wildcards, node, SLICE("+"));
    const struct level_node *same = level_tree_child(&t->wildcards, node, level);
    if (plus) {
        walk(t, plus, rest, done, false, found);
    }
    if (same) {
        walk(t, same, rest, done, false, found);
    }
}

int topic_tree_match(struct topic_tree *t, struct slice topic, uint64_t topic_hash, struct match **ret_match)
{
    struct topic_match_found found = {0};
    const struct topic_filter *exact = find_filter(t, topic, topic_hash);

    if (exact) {
        topic_match_add(&found, exact);
    }
    if (!list_empty(&t->wildcards.root->children)) {
        walk(t, t->wildcards.root, topic, false, topic.ptr[0] == '$', &found);
    }
    return topic_match_join(&found, ret_match);
}
