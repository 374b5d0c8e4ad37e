/* route_table.c -- one open-addressing index of atomic pointers for each kind of entry: exact filters by hash, tree nodes by edge.
 *
 * The writer puts an entry into a free slot with a release store; readers probe with acquire loads until they meet an empty slot. A removed entry
 * leaves a tombstone. When half the slots are used or dead the writer builds a new index and retires the old one whole. */
#include "broker/topic/route_table.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "broker/topic/grace.h"
#include "proto/mqtt/topic.h"

#define INDEX_START 64u

/* The shares of one filter: replaced whole, never changed. */
struct share_list {
    struct grace_item item; /* first */
    uint32_t count;
    struct route_share shares[];
};

/* Where a filter ends, or a level on the way to one. */
struct entry {
    struct grace_item item; /* first */
    uint64_t hash;          /* exact: of the topic. Node: of the edge */
    atomic_uint_least64_t shards;
    _Atomic(struct share_list *) shares; /* owned; NULL: none */
    struct entry *parent;   /* node: NULL for the root */
    uint32_t children;      /* node: the writer's count */
    uint16_t level_len;
    uint8_t level[];        /* node */
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

static void index_put(struct index *x, struct entry *e)
{
    uint32_t i = (uint32_t)e->hash & x->mask;

    while (atomic_load_explicit(&x->slots[i], memory_order_relaxed)) {
        i = (i + 1) & x->mask;
    }
    atomic_store_explicit(&x->slots[i], e, memory_order_release);
    x->used++;
    x->live++;
}

/* Make sure that one more fits. Only the writer. */
static int index_reserve(struct route_table *t, _Atomic(struct index *) *where)
{
    struct index *x = atomic_load_explicit(where, memory_order_relaxed);

    if ((x->used + 1) * 2 <= x->mask + 1) {
        return 0;
    }
    struct index *next = index_new(x->live * 4 > x->mask + 1 ? (x->mask + 1) * 2 : x->mask + 1);
    if (!next) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i <= x->mask; i++) {
        struct entry *e = atomic_load_explicit(&x->slots[i], memory_order_relaxed);
        if (e && e != &dead) {
            index_put(next, e);
        }
    }
    atomic_store_explicit(where, next, memory_order_release);
    grace_retire(&t->grace, &x->item);
    return 0;
}

static void index_remove(struct index *x, const struct entry *e)
{
    uint32_t i = (uint32_t)e->hash & x->mask;

    while (atomic_load_explicit(&x->slots[i], memory_order_relaxed) != e) {
        i = (i + 1) & x->mask;
    }
    atomic_store_explicit(&x->slots[i], &dead, memory_order_release);
    x->live--;
}

/* The entry of this hash; with a parent, that of this edge. */
static struct entry *index_find(const struct index *x, uint64_t hash, const struct entry *parent, struct slice level)
{
    for (uint32_t i = (uint32_t)hash & x->mask;; i = (i + 1) & x->mask) {
        struct entry *e = atomic_load_explicit(&x->slots[i], memory_order_acquire);
        if (!e) {
            return NULL;
        }
        if (e != &dead && e->hash == hash && (!parent || (e->parent == parent && slice_eq(slice_of(e->level, e->level_len), level)))) {
            return e;
        }
    }
}

static uint64_t edge_hash(const struct route_table *t, const struct entry *parent, struct slice level)
{
    return hash_keyed(t->key, level) ^ hash_mix((uint64_t)(uintptr_t)parent);
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
        if (e && e != &dead) {
            free(atomic_load(&e->shares));
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

static bool is_unused(const struct entry *e)
{
    return e->children == 0 && atomic_load_explicit(&e->shards, memory_order_relaxed) == 0 &&
           atomic_load_explicit(&e->shares, memory_order_relaxed) == NULL;
}

/* Take an entry that nothing needs any more out of its index, and its parents that are then unused too. */
static void prune(struct route_table *t, struct entry *e)
{
    bool node = e->parent != NULL;

    while (e != t->root && is_unused(e)) {
        struct entry *parent = e->parent;
        index_remove(atomic_load_explicit(node ? &t->nodes : &t->exact, memory_order_relaxed), e);
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
        uint64_t hash = edge_hash(t, e, level);
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

/* Count filters as they come into use and go out of it. */
static void count_filter(struct route_table *t, const struct entry *e, bool before)
{
    bool after = atomic_load_explicit(&e->shards, memory_order_relaxed) || atomic_load_explicit(&e->shares, memory_order_relaxed);
    t->filter_count += after;
    t->filter_count -= before;
}

static bool in_use(const struct entry *e)
{
    return atomic_load_explicit(&e->shards, memory_order_relaxed) || atomic_load_explicit(&e->shares, memory_order_relaxed);
}

int route_table_add(struct route_table *t, struct slice filter, unsigned shard)
{
    struct entry *e = find_entry(t, filter, true);

    if (!e) {
        return -ENOMEM;
    }
    bool before = in_use(e);
    atomic_fetch_or_explicit(&e->shards, 1ull << shard, memory_order_release);
    count_filter(t, e, before);
    changed(t);
    return 0;
}

int route_table_remove(struct route_table *t, struct slice filter, unsigned shard)
{
    struct entry *e = find_entry(t, filter, false);

    if (e) {
        bool before = in_use(e);
        atomic_fetch_and_explicit(&e->shards, ~(1ull << shard), memory_order_release);
        count_filter(t, e, before);
        prune(t, e);
        changed(t);
    }
    return 0;
}

static void replace_shares(struct route_table *t, struct entry *e, struct share_list *old, struct share_list *next)
{
    bool before = in_use(e);

    atomic_store_explicit(&e->shares, next, memory_order_release);
    if (old) {
        grace_retire(&t->grace, &old->item);
    }
    count_filter(t, e, before);
    changed(t);
}

int route_table_add_share(struct route_table *t, struct slice filter, const struct route_share *share)
{
    struct entry *e = find_entry(t, filter, true);

    if (!e) {
        return -ENOMEM;
    }
    struct share_list *old = atomic_load_explicit(&e->shares, memory_order_relaxed);
    uint32_t count = old ? old->count : 0;
    for (uint32_t i = 0; i < count; i++) {
        if (old->shares[i].id == share->id) {
            return 0;
        }
    }
    struct share_list *next = malloc(sizeof(*next) + (count + 1) * sizeof(next->shares[0]));
    if (!next) {
        prune(t, e);
        return -ENOMEM;
    }
    next->count = count + 1;
    if (count > 0) {
        memcpy(next->shares, old->shares, count * sizeof(next->shares[0]));
    }
    next->shares[count] = *share;
    replace_shares(t, e, old, next);
    return 0;
}

int route_table_remove_share(struct route_table *t, struct slice filter, uint64_t share_id)
{
    struct entry *e = find_entry(t, filter, false);
    struct share_list *old = e ? atomic_load_explicit(&e->shares, memory_order_relaxed) : NULL;
    struct share_list *next = NULL;
    uint32_t at = 0;

    while (old && at < old->count && old->shares[at].id != share_id) {
        at++;
    }
    if (!old || at == old->count) {
        return 0;
    }
    if (old->count > 1) {
        next = malloc(sizeof(*next) + (old->count - 1) * sizeof(next->shares[0]));
        if (!next) {
            return -ENOMEM;
        }
        next->count = old->count - 1;
        memcpy(next->shares, old->shares, at * sizeof(next->shares[0]));
        memcpy(next->shares + at, old->shares + at + 1, (old->count - at - 1) * sizeof(next->shares[0]));
    }
    replace_shares(t, e, old, next);
    prune(t, e);
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
    const struct share_list *shares = atomic_load_explicit(&e->shares, memory_order_acquire);
    for (uint32_t i = 0; shares && i < shares->count; i++) {
        add_share(m, &shares->shares[i]);
    }
}

static struct entry *child_of(const struct matching *m, const struct entry *parent, struct slice level)
{
    return index_find(m->nodes, edge_hash(m->table, parent, level), parent, level);
}

static void walk(struct matching *m, const struct entry *node, struct slice rest, bool done, bool dollar)
{
    struct slice level;

    if (!dollar) {
        take(m, child_of(m, node, SLICE("#")));
    }
    if (!mqtt_level_next(&rest, &done, &level)) {
        take(m, node);
        return;
    }
    const struct entry *plus = dollar ? NULL : child_of(m, node, SLICE("+"));
    const struct entry *same = child_of(m, node, level);
    if (plus) {
        walk(m, plus, rest, done, false);
    }
    if (same) {
        walk(m, same, rest, done, false);
    }
}

int route_table_match(const struct route_table *t, struct slice topic, uint64_t topic_hash, struct route_match **ret_match)
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
