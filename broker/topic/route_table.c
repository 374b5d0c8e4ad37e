/* route_table.c -- one open-addressing index of atomic pointers for each kind of entry: exact filters by hash, tree
 * nodes by edge.
 *
 * The writer puts an entry into a free slot with a release store; readers probe with acquire loads until they meet an
 * empty slot. Entries never move within an index. A removed one leaves a tombstone, unless the next slot is empty: else
 * one filter that comes and goes would lengthen its own probes without end. When half the slots are used or dead, or
 * nearly all are empty, the writer builds a new index and retires the old one whole. */
#include "broker/topic/route_table.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "broker/topic/grace.h"
#include "proto/mqtt/topic.h"

#define INDEX_START 64u

/* A share of a filter, in a list of one link: taking one out needs no memory, and a reader that stands on it still
 * finds the rest. */
struct share_entry {
    struct grace_item item; /* first */
    _Atomic(struct share_entry *) next;
    struct route_share share;
};

/* Where a filter ends, or a level on the way to one. */
struct entry {
    struct grace_item item; /* first */
    uint64_t hash;          /* exact: of the topic. Node: of the edge */
    atomic_uint_least64_t shards;
    _Atomic(struct share_entry *) shares; /* owned; NULL: none */
    struct entry *parent;                 /* node: NULL for the root */
    uint32_t children;                    /* node: the writer's count */
    uint16_t level_len;
    uint8_t level[]; /* node */
};

struct index {
    struct grace_item item; /* first */
    uint32_t mask;
    uint32_t used; /* slots not empty, dead ones too; the writer's */
    uint32_t live;
    _Atomic(struct entry *) slots[];
};

struct route_table {
    const struct hash_key *key; /* borrowed */
    struct grace grace;
    atomic_uint_least64_t generation;
    _Atomic(struct index *) exact, nodes;
    struct entry *root;
    uint64_t plus_hash, rest_hash; /* of the levels `+` and `#`, which each step of a match asks for */
    size_t filter_count;
};

static struct entry dead; /* the tombstone; never read but for its address */

static struct index *index_new(uint32_t slots)
{
    struct index *x = calloc(1, sizeof(*x) + slots * sizeof(x->slots[0]));
    if (x) {
        x->mask = slots - 1;
    }
    return x;
}

static bool is_free(const struct entry *e)
{
    return !e || e == &dead;
}

static void index_put(struct index *x, struct entry *e)
{
    uint32_t i = (uint32_t)e->hash & x->mask;
    struct entry *there;

    while (!is_free(there = atomic_load_explicit(&x->slots[i], memory_order_relaxed))) {
        i = (i + 1) & x->mask;
    }
    atomic_store_explicit(&x->slots[i], e, memory_order_release);
    x->used += !there;
    x->live++;
}

/* Put what lives into a new index, so large that as many again can be added before the next time. Only the writer. */
static int index_rebuild(struct route_table *t, _Atomic(struct index *) *where)
{
    struct index *x = atomic_load_explicit(where, memory_order_relaxed);
    uint32_t slots = INDEX_START;

    while (slots / 4 < x->live + 1) {
        slots *= 2;
    }
    struct index *next = index_new(slots);
    if (!next) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i <= x->mask; i++) {
        struct entry *e = atomic_load_explicit(&x->slots[i], memory_order_relaxed);
        if (!is_free(e)) {
            index_put(next, e);
        }
    }
    atomic_store_explicit(where, next, memory_order_release);
    grace_retire(&t->grace, &x->item);
    return 0;
}

/* Make sure that one more fits. */
static int index_reserve(struct route_table *t, _Atomic(struct index *) *where)
{
    const struct index *x = atomic_load_explicit(where, memory_order_relaxed);
    return (x->used + 1) * 2 <= x->mask + 1 ? 0 : index_rebuild(t, where);
}

static void index_remove(struct route_table *t, _Atomic(struct index *) *where, const struct entry *e)
{
    struct index *x = atomic_load_explicit(where, memory_order_relaxed);
    uint32_t i = (uint32_t)e->hash & x->mask;

    while (atomic_load_explicit(&x->slots[i], memory_order_relaxed) != e) {
        i = (i + 1) & x->mask;
    }
    atomic_store_explicit(&x->slots[i], &dead, memory_order_release);
    x->live--;
    if (!atomic_load_explicit(&x->slots[(i + 1) & x->mask], memory_order_relaxed)) { /* nothing lies behind it */
        for (; atomic_load_explicit(&x->slots[i], memory_order_relaxed) == &dead; i = (i - 1) & x->mask) {
            atomic_store_explicit(&x->slots[i], NULL, memory_order_release);
            x->used--;
        }
    }
    if (x->mask >= INDEX_START && x->live < x->mask / 32) {
        (void)index_rebuild(t, where); /* without memory it stays large */
    }
}

/* The entry of this hash; with a parent, that of this edge. */
static struct entry *index_find(const struct index *x, uint64_t hash, const struct entry *parent, struct slice level)
{
    for (uint32_t i = (uint32_t)hash & x->mask;; i = (i + 1) & x->mask) {
        struct entry *e = atomic_load_explicit(&x->slots[i], memory_order_acquire);
        if (!e) {
            return NULL;
        }
        if (e != &dead && e->hash == hash &&
            (!parent || (e->parent == parent && slice_eq(slice_of(e->level, e->level_len), level)))) {
            return e;
        }
    }
}

static uint64_t edge_hash(const struct entry *parent, uint64_t level_hash)
{
    return level_hash ^ hash_mix((uint64_t)(uintptr_t)parent);
}

static struct entry *entry_new(uint64_t hash, struct entry *parent, struct slice level)
{
    struct entry *e = calloc(1, sizeof(*e) + level.len);
    if (!e) {
        return NULL;
    }
    e->hash = hash;
    e->parent = parent;
    e->level_len = (uint16_t)level.len;
    if (level.len > 0) {
        memcpy(e->level, level.ptr, level.len);
    }
    return e;
}

int route_table_new(const struct hash_key *key, unsigned reader_count, struct route_table **ret_table)
{
    struct route_table *t = aligned_alloc(64, (sizeof(*t) + 63) / 64 * 64);
    if (!t) {
        return -ENOMEM;
    }
    memset(t, 0, sizeof(*t));
    t->key = key;
    t->plus_hash = hash_keyed(key, SLICE("+"));
    t->rest_hash = hash_keyed(key, SLICE("#"));
    grace_init(&t->grace, reader_count);
    atomic_init(&t->generation, 1);
    struct index *exact = index_new(INDEX_START), *nodes = index_new(INDEX_START);
    t->root = entry_new(0, NULL, slice_of(NULL, 0));
    if (!exact || !nodes || !t->root) {
        free(exact);
        free(nodes);
        free(t->root);
        free(t);
        return -ENOMEM;
    }
    atomic_init(&t->exact, exact);
    atomic_init(&t->nodes, nodes);
    *ret_table = t;
    return 0;
}

static void index_free(struct index *x)
{
    for (uint32_t i = 0; i <= x->mask; i++) {
        struct entry *e = atomic_load(&x->slots[i]);
        if (!is_free(e)) {
            for (struct share_entry *share = atomic_load(&e->shares), *next; share; share = next) {
                next = atomic_load(&share->next);
                free(share);
            }
            free(e);
        }
    }
    free(x);
}

void route_table_free(struct route_table *t)
{
    index_free(atomic_load(&t->exact));
    index_free(atomic_load(&t->nodes));
    free(t->root);
    grace_deinit(&t->grace);
    free(t);
}

/* ---- the writer ---- */

static void changed(struct route_table *t)
{
    atomic_fetch_add_explicit(&t->generation, 1, memory_order_release);
}

/* Whether somebody wants what ends here. */
static bool in_use(const struct entry *e)
{
    return atomic_load_explicit(&e->shards, memory_order_relaxed) ||
           atomic_load_explicit(&e->shares, memory_order_relaxed);
}

/* Take an entry that nothing needs any more out of its index, and its parents that are then unused too. */
static void prune(struct route_table *t, struct entry *e)
{
    bool node = e->parent != NULL;

    while (e != t->root && e->children == 0 && !in_use(e)) {
        struct entry *parent = e->parent;
        index_remove(t, node ? &t->nodes : &t->exact, e);
        grace_retire(&t->grace, &e->item);
        if (!parent) {
            return;
        }
        parent->children--;
        e = parent;
    }
}

static struct entry *find_node(struct route_table *t, struct slice filter, bool make)
{
    struct entry *e = t->root;
    struct slice level;
    bool done = false;

    while (mqtt_level_next(&filter, &done, &level)) {
        uint64_t hash = edge_hash(e, hash_keyed(t->key, level));
        struct entry *child = index_find(atomic_load_explicit(&t->nodes, memory_order_relaxed), hash, e, level);
        if (!child && make) {
            child = entry_new(hash, e, level);
            if (!child || index_reserve(t, &t->nodes) != 0) {
                free(child);
                prune(t, e); /* what this call has made on the way */
                return NULL;
            }
            index_put(atomic_load_explicit(&t->nodes, memory_order_relaxed), child);
            e->children++;
        }
        if (!child) {
            return NULL;
        }
        e = child;
    }
    return e;
}

static struct entry *find_entry(struct route_table *t, struct slice filter, bool make)
{
    if (mqtt_filter_has_wildcard(filter)) {
        return find_node(t, filter, make);
    }
    uint64_t hash = hash_keyed(t->key, filter);
    struct entry *e = index_find(atomic_load_explicit(&t->exact, memory_order_relaxed), hash, NULL, filter);
    if (!e && make) {
        e = entry_new(hash, NULL, slice_of(NULL, 0));
        if (!e || index_reserve(t, &t->exact) != 0) {
            free(e);
            return NULL;
        }
        index_put(atomic_load_explicit(&t->exact, memory_order_relaxed), e);
    }
    return e;
}

static void set_shards(struct route_table *t, struct entry *e, uint64_t shards)
{
    bool before = in_use(e);

    if (atomic_load_explicit(&e->shards, memory_order_relaxed) == shards) {
        return; /* no change, and what the caches hold stays good */
    }
    atomic_store_explicit(&e->shards, shards, memory_order_release);
    t->filter_count += in_use(e);
    t->filter_count -= before;
    changed(t);
}

int route_table_add(struct route_table *t, struct slice filter, unsigned shard)
{
    assert(shard < 64);
    struct entry *e = find_entry(t, filter, true);

    if (!e) {
        return -ENOMEM;
    }
    set_shards(t, e, atomic_load_explicit(&e->shards, memory_order_relaxed) | 1ull << shard);
    return 0;
}

int route_table_remove(struct route_table *t, struct slice filter, unsigned shard)
{
    assert(shard < 64);
    struct entry *e = find_entry(t, filter, false);

    if (e) {
        set_shards(t, e, atomic_load_explicit(&e->shards, memory_order_relaxed) & ~(1ull << shard));
        prune(t, e);
    }
    return 0;
}

/* The link that leads to a share, or the last link, which is NULL. */
static _Atomic(struct share_entry *) *find_share(struct entry *e, uint64_t share_id)
{
    _Atomic(struct share_entry *) *link = &e->shares;
    struct share_entry *share;

    while ((share = atomic_load_explicit(link, memory_order_relaxed)) != NULL && share->share.id != share_id) {
        link = &share->next;
    }
    return link;
}

int route_table_add_share(struct route_table *t, struct slice filter, const struct route_share *share)
{
    struct share_entry *added = malloc(sizeof(*added));
    struct entry *e = added ? find_entry(t, filter, true) : NULL;

    if (!e) {
        free(added);
        return -ENOMEM;
    }
    _Atomic(struct share_entry *) *link = find_share(e, share->id);
    if (atomic_load_explicit(link, memory_order_relaxed)) {
        free(added);
        return 0;
    }
    atomic_init(&added->next, NULL);
    added->share = *share;
    t->filter_count += !in_use(e);
    atomic_store_explicit(link, added, memory_order_release);
    changed(t);
    return 0;
}

int route_table_remove_share(struct route_table *t, struct slice filter, uint64_t share_id)
{
    struct entry *e = find_entry(t, filter, false);
    _Atomic(struct share_entry *) *link = e ? find_share(e, share_id) : NULL;
    struct share_entry *gone = link ? atomic_load_explicit(link, memory_order_relaxed) : NULL;

    if (gone) {
        atomic_store_explicit(link, atomic_load_explicit(&gone->next, memory_order_relaxed), memory_order_release);
        grace_retire(&t->grace, &gone->item);
        t->filter_count -= !in_use(e);
        changed(t);
        prune(t, e);
    }
    return 0;
}

void route_table_reclaim(struct route_table *t)
{
    grace_reclaim(&t->grace);
}

size_t route_table_filter_count(const struct route_table *t)
{
    return t->filter_count;
}

/* ---- any shard ---- */

struct matching {
    const struct route_table *table;
    const struct index *nodes;
    uint64_t shards;
    struct route_match *match; /* once there is a share */
    uint32_t capacity;
    bool failed;
};

static void add_share(struct matching *m, const struct route_share *share)
{
    uint32_t count = m->match ? m->match->share_count : 0;

    if (count == m->capacity || !m->match) {
        uint32_t capacity = m->capacity ? m->capacity * 2 : 4;
        struct route_match *next = realloc(m->match, sizeof(*next) + capacity * sizeof(next->shares[0]));
        if (!next) {
            m->failed = true;
            return;
        }
        next->share_count = count;
        m->match = next;
        m->capacity = capacity;
    }
    m->match->shares[m->match->share_count++] = *share;
}

/* What ends at an entry. A share has one filter, so none is found twice. */
static void take(struct matching *m, const struct entry *e)
{
    if (!e) {
        return;
    }
    m->shards |= atomic_load_explicit(&e->shards, memory_order_acquire);
    for (const struct share_entry *share = atomic_load_explicit(&e->shares, memory_order_acquire); share;
         share = atomic_load_explicit(&share->next, memory_order_acquire)) {
        add_share(m, &share->share);
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

int route_table_match(const struct route_table *t, struct slice topic, uint64_t topic_hash,
                      struct route_match **ret_match)
{
    struct matching m = {.table = t, .nodes = atomic_load_explicit(&t->nodes, memory_order_acquire)};

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
    *ret_match = m.match;
    return 0;
}

uint64_t route_table_generation(const struct route_table *t)
{
    return atomic_load_explicit(&t->generation, memory_order_acquire);
}

void route_table_quiescent(struct route_table *t, unsigned reader)
{
    grace_quiescent(&t->grace, reader);
}

void route_table_asleep(struct route_table *t, unsigned reader)
{
    grace_asleep(&t->grace, reader);
}

void route_table_awake(struct route_table *t, unsigned reader)
{
    grace_awake(&t->grace, reader);
}
