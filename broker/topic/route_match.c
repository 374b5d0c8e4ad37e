/* route_match.c -- which shards, nodes and shares want a topic; any shard, without a lock. */
#include <errno.h>
#include <stdlib.h>

#include "broker/topic/route_inside.h"
#include "proto/mqtt/topic.h"

struct matching {
    const struct route_table *table;
    const struct index *nodes;
    uint64_t shards, slots[ROUTE_SLOTS / 64], alive[ROUTE_SLOTS / 64];
    struct route_match *match; /* once there is a share */
    uint32_t capacity;
    bool failed;
};

/* The share in the result, put there if it is new; NULL: memory is out. */
static struct route_share *result_share(struct matching *m, uint64_t id)
{
    uint32_t count = m->match ? m->match->share_count : 0;

    for (uint32_t i = 0; i < count; i++) {
        if (m->match->shares[i].id == id) {
            return &m->match->shares[i];
        }
    }
    if (count == m->capacity || !m->match) {
        uint32_t capacity = m->capacity ? m->capacity * 2 : 4;
        struct route_match *next = realloc(m->match, sizeof(*next) + capacity * sizeof(next->shares[0]));
        if (!next) {
            m->failed = true;
            return NULL;
        }
        next->share_count = count;
        m->match = next;
        m->capacity = capacity;
    }
    struct route_share *share = &m->match->shares[m->match->share_count++];
    *share = (struct route_share){.id = id, .home = ROUTE_NO_HOME};
    return share;
}

static void add_share(struct matching *m, const struct share_entry *e)
{
    bool ours = e->slot == NO_SLOT;

    if (!ours && !(m->alive[e->slot / 64] >> e->slot % 64 & 1)) {
        return;
    }
    struct route_share *share = result_share(m, e->id);
    if (share && ours) {
        share->home = e->home;
    } else if (share) {
        share->slots[e->slot / 64] |= 1ull << e->slot % 64;
    }
}

/* What ends at an entry. */
static void take(struct matching *m, const struct entry *e)
{
    if (!e) {
        return;
    }
    m->shards |= atomic_load_explicit(&e->shards, memory_order_acquire);
    for (const struct share_entry *share = atomic_load_explicit(&e->shares, memory_order_acquire); share;
         share = atomic_load_explicit(&share->next, memory_order_acquire)) {
        add_share(m, share);
    }
    const struct slot_set *slots = atomic_load_explicit(&e->slots, memory_order_acquire);
    for (unsigned i = 0; slots && i < COUNT_OF(slots->bits); i++) {
        m->slots[i] |= slots->bits[i];
    }
}

static struct entry *child_of(const struct matching *m, const struct entry *parent, struct slice level,
                              uint64_t level_hash)
{
    return index_find(m->nodes, edge_hash(parent, level_hash), parent, level);
}

static void walk(struct matching *m, const struct entry *node, struct slice rest, bool done, bool dollar)
{
    struct slice level;

    if (!dollar) {
        take(m, child_of(m, node, SLICE("#"), m->table->rest_hash));
    }
    if (!mqtt_level_next(&rest, &done, &level)) {
        take(m, node);
        return;
    }
    const struct entry *plus = dollar ? NULL : child_of(m, node, SLICE("+"), m->table->plus_hash);
    const struct entry *same = child_of(m, node, level, hash_keyed(m->table->key, level));
    if (plus) {
        walk(m, plus, rest, done, false);
    }
    if (same) {
        walk(m, same, rest, done, false);
    }
}

int route_table_match(const struct route_table *t, struct slice topic, struct route_match **ret_match)
{
    struct matching m = {.table = t, .nodes = atomic_load_explicit(&t->nodes, memory_order_acquire)};
    uint64_t topic_hash = hash_keyed(t->key, topic);

    for (unsigned i = 0; i < COUNT_OF(m.alive); i++) {
        m.alive[i] = atomic_load_explicit(&t->alive[i], memory_order_acquire);
    }
    cells_collect(atomic_load_explicit(&t->cells, memory_order_acquire), topic_hash, m.slots);
    take(&m, index_find(atomic_load_explicit(&t->exact, memory_order_acquire), topic_hash, NULL, topic));
    walk(&m, t->root, topic, false, topic.ptr[0] == '$');
    if (!m.match && !m.failed) {
        m.match = malloc(sizeof(*m.match));
        m.failed = !m.match;
        if (m.match) {
            m.match->share_count = 0;
        }
    }
    if (m.failed) {
        free(m.match);
        return -ENOMEM;
    }
    m.match->shards = m.shards;
    for (unsigned i = 0; i < COUNT_OF(m.slots); i++) {
        m.match->slots[i] = m.slots[i] & m.alive[i];
    }
    *ret_match = m.match;
    return 0;
}
