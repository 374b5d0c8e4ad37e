#include "broker/topic/match_cache.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#define WAYS 4u
#define SETS_START 64u
#define TOPIC_BYTES_MAX 256u
#define RESULT_BYTES_MAX (64u << 10)

struct way {
    uint64_t topic_hash;
    uint8_t *topic;             /* owned; NULL: empty */
    struct route_match *routes; /* owned; NULL: not matched yet */
    struct match *local;        /* owned; NULL: not matched yet */
    uint64_t routes_generation, local_generation;
    uint32_t bytes;
    uint16_t topic_len;
    uint8_t age; /* 0: used last */
};

struct match_cache {
    struct way *ways; /* owned; WAYS a set */
    uint32_t set_mask, sets_max;
    uint32_t misses; /* since the last growth */
    size_t bytes;
    struct route_match *last_routes; /* owned: the result that was not kept */
    struct match *last_local;
};

int match_cache_new(unsigned sets_max, struct match_cache **ret_cache)
{
    assert(sets_max >= SETS_START && (sets_max & (sets_max - 1)) == 0);
    struct match_cache *c = calloc(1, sizeof(*c));
    if (!c) {
        return -ENOMEM;
    }
    c->ways = calloc(SETS_START * WAYS, sizeof(struct way));
    if (!c->ways) {
        free(c);
        return -ENOMEM;
    }
    c->set_mask = SETS_START - 1;
    c->sets_max = sets_max;
    *ret_cache = c;
    return 0;
}

static void way_clear(struct match_cache *c, struct way *w)
{
    c->bytes -= w->bytes;
    free(w->topic);
    free(w->routes);
    free(w->local);
    *w = (struct way){0};
}

void match_cache_clear(struct match_cache *c)
{
    for (uint32_t i = 0; i < (c->set_mask + 1) * WAYS; i++) {
        way_clear(c, &c->ways[i]);
    }
    free(c->last_routes);
    free(c->last_local);
    c->last_routes = NULL;
    c->last_local = NULL;
    assert(c->bytes == 0);
}

void match_cache_free(struct match_cache *c)
{
    if (!c) {
        return;
    }
    match_cache_clear(c);
    free(c->ways);
    free(c);
}

static void touch(struct way *set, struct way *used)
{
    if (used->age == 0) {
        return;
    }
    for (unsigned i = 0; i < WAYS; i++) {
        set[i].age = (uint8_t)(set[i].age + (set[i].age < UINT8_MAX));
    }
    used->age = 0;
}

static struct way *find(struct match_cache *c, struct slice topic, uint64_t topic_hash)
{
    struct way *set = &c->ways[(topic_hash >> 8 & c->set_mask) * WAYS];

    for (unsigned i = 0; i < WAYS; i++) {
        struct way *w = &set[i];
        if (w->topic_hash == topic_hash && w->topic_len == topic.len && memcmp(w->topic, topic.ptr, topic.len) == 0) {
            touch(set, w);
            return w;
        }
    }
    return NULL;
}

/* Twice as many sets, when topics have pushed each other out as often as there are places. Without memory it stays as
 * it is. */
static void grow(struct match_cache *c)
{
    uint32_t sets = (c->set_mask + 1) * 2;
    struct way *ways = calloc((size_t)sets * WAYS, sizeof(struct way));

    c->misses = 0;
    if (!ways) {
        return;
    }
    for (uint32_t i = 0; i < (c->set_mask + 1) * WAYS; i++) {
        struct way *from = &c->ways[i];
        if (from->topic) {
            struct way *to = &ways[(from->topic_hash >> 8 & (sets - 1)) * WAYS];
            while (to->topic) { /* a set never gets more than it had */
                to++;
            }
            *to = *from;
        }
    }
    free(c->ways);
    c->ways = ways;
    c->set_mask = sets - 1;
}

/* A place for a topic, or NULL when it is not kept: too long, or memory is short. */
static struct way *claim(struct match_cache *c, struct slice topic, uint64_t topic_hash)
{
    if (topic.len > TOPIC_BYTES_MAX) {
        return NULL;
    }
    if (++c->misses > (c->set_mask + 1) * WAYS && c->set_mask + 1 < c->sets_max) {
        grow(c);
    }
    struct way *set = &c->ways[(topic_hash >> 8 & c->set_mask) * WAYS], *oldest = set;
    for (unsigned i = 0; i < WAYS; i++) {
        if (!set[i].topic) {
            oldest = &set[i];
            break;
        }
        if (set[i].age > oldest->age) {
            oldest = &set[i];
        }
    }
    way_clear(c, oldest);
    if (c->bytes > MATCH_CACHE_BYTES_MAX) {
        match_cache_clear(c);
    }
    oldest->topic = malloc(topic.len);
    if (!oldest->topic) {
        return NULL;
    }
    memcpy(oldest->topic, topic.ptr, topic.len);
    oldest->topic_len = (uint16_t)topic.len;
    oldest->topic_hash = topic_hash;
    oldest->bytes = (uint32_t)topic.len;
    oldest->age = 1;
    c->bytes += oldest->bytes;
    touch(set, oldest);
    return oldest;
}

static void account(struct match_cache *c, struct way *w, size_t minus, size_t plus)
{
    w->bytes += (uint32_t)(plus - minus);
    c->bytes += plus - minus;
}

static size_t routes_bytes(const struct route_match *m)
{
    return m ? sizeof(*m) + m->share_count * sizeof(m->shares[0]) : 0;
}

static size_t local_bytes(const struct match *m)
{
    return m ? sizeof(*m) + m->count * sizeof(m->entries[0]) + m->ids_len : 0;
}

const struct route_match *match_cache_routes(struct match_cache *c, const struct route_table *table, struct slice topic,
                                             uint64_t topic_hash)
{
    struct way *w = find(c, topic, topic_hash);
    uint64_t generation = route_table_generation(table); /* before the match: a change meanwhile makes it stale */
    struct route_match *m;

    if (w && w->routes && w->routes_generation == generation) {
        return w->routes;
    }
    if (route_table_match(table, topic, &m) != 0) {
        return NULL;
    }
    if (!w) {
        w = claim(c, topic, topic_hash);
    }
    if (!w || routes_bytes(m) > RESULT_BYTES_MAX) {
        free(c->last_routes);
        return c->last_routes = m;
    }
    account(c, w, routes_bytes(w->routes), routes_bytes(m));
    free(w->routes);
    w->routes = m;
    w->routes_generation = generation;
    return m;
}

const struct match *match_cache_local(struct match_cache *c, struct topic_tree *tree, struct slice topic,
                                      uint64_t topic_hash)
{
    struct way *w = find(c, topic, topic_hash);
    uint64_t generation = topic_tree_generation(tree);
    struct match *m;

    if (w && w->local && w->local_generation == generation) {
        return w->local;
    }
    if (topic_tree_match(tree, topic, topic_hash, &m) != 0) {
        return NULL;
    }
    if (!w) {
        w = claim(c, topic, topic_hash);
    }
    if (!w || local_bytes(m) > RESULT_BYTES_MAX) {
        free(c->last_local);
        return c->last_local = m;
    }
    account(c, w, local_bytes(w->local), local_bytes(m));
    free(w->local);
    w->local = m;
    w->local_generation = generation;
    return m;
}
