/* route_table.c -- one open-addressing index of atomic pointers for each kind of entry: exact filters by hash, tree
 * nodes by edge.
 *
 * The writer puts an entry into a free slot with a release store; readers probe with acquire loads until they meet an
 * empty slot. Entries never move within an index. A removed one leaves a tombstone, unless the next slot is empty: else
 * one filter that comes and goes would lengthen its own probes without end. When half the slots are used or dead, or
 * nearly all are empty, the writer builds a new index and retires the old one whole. */
#include "broker/topic/route_inside.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "proto/base/clock.h"
#include "proto/mqtt/topic.h"

struct entry route_dead;

static struct index *index_new(uint32_t slots, uint64_t factor)
{
    struct index *x = calloc(1, sizeof(*x) + slots * sizeof(x->slots[0]));
    if (x) {
        x->mask = slots - 1;
        x->scatter = factor;
    }
    return x;
}

static void index_put(struct index *x, struct entry *e)
{
    uint32_t i = scatter(e->hash, x->scatter) & x->mask;
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
    struct index *next = index_new(slots, t->scatter);
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
    uint32_t i = scatter(e->hash, x->scatter) & x->mask;

    while (atomic_load_explicit(&x->slots[i], memory_order_relaxed) != e) {
        i = (i + 1) & x->mask;
    }
    atomic_store_explicit(&x->slots[i], &route_dead, memory_order_release);
    x->live--;
    if (!atomic_load_explicit(&x->slots[(i + 1) & x->mask], memory_order_relaxed)) { /* nothing lies behind it */
        for (; atomic_load_explicit(&x->slots[i], memory_order_relaxed) == &route_dead; i = (i - 1) & x->mask) {
            atomic_store_explicit(&x->slots[i], NULL, memory_order_release);
            x->used--;
        }
    }
    if (x->mask >= INDEX_START && x->live < x->mask / 32) {
        (void)index_rebuild(t, where); /* without memory it stays large */
    }
}

struct entry *index_find(const struct index *x, uint64_t hash, const struct entry *parent, struct slice level)
{
    for (uint32_t i = scatter(hash, x->scatter) & x->mask;; i = (i + 1) & x->mask) {
        struct entry *e = atomic_load_explicit(&x->slots[i], memory_order_acquire);
        if (!e) {
            return NULL;
        }
        if (e != &route_dead && e->hash == hash &&
            (!parent || (e->parent == parent && slice_eq(slice_of(e->level, e->level_len), level)))) {
            return e;
        }
    }
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
    clock_random(&t->scatter, sizeof(t->scatter));
    t->scatter |= 1;
    t->sweep.slot = NO_SLOT;
    struct index *exact = index_new(INDEX_START, t->scatter), *nodes = index_new(INDEX_START, t->scatter);
    struct cells *cells = cells_new(INDEX_START, t->scatter);
    t->root = entry_new(0, NULL, slice_of(NULL, 0));
    if (!exact || !nodes || !cells || !t->root) {
        free(exact);
        free(nodes);
        free(cells);
        free(t->root);
        free(t);
        return -ENOMEM;
    }
    atomic_init(&t->exact, exact);
    atomic_init(&t->nodes, nodes);
    atomic_init(&t->cells, cells);
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
            free(atomic_load(&e->slots));
            free(e);
        }
    }
    free(x);
}

void route_table_free(struct route_table *t)
{
    index_free(atomic_load(&t->exact));
    index_free(atomic_load(&t->nodes));
    cells_free(atomic_load(&t->cells));
    buf_deinit(&t->text);
    free(t->root);
    grace_deinit(&t->grace);
    free(t);
}

/* ---- the writer ---- */

void route_changed(struct route_table *t)
{
    atomic_fetch_add_explicit(&t->generation, 1, memory_order_release);
}

/* Whether somebody wants what ends here. */
static bool in_use(const struct entry *e)
{
    return atomic_load_explicit(&e->shards, memory_order_relaxed) ||
           atomic_load_explicit(&e->shares, memory_order_relaxed) ||
           atomic_load_explicit(&e->slots, memory_order_relaxed);
}

void route_prune(struct route_table *t, struct entry *e)
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
                route_prune(t, e); /* what this call has made on the way */
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

struct entry *route_find_exact(struct route_table *t, uint64_t hash, bool make)
{
    struct entry *e = index_find(atomic_load_explicit(&t->exact, memory_order_relaxed), hash, NULL, slice_of(NULL, 0));

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

struct entry *route_find_entry(struct route_table *t, struct slice filter, bool make)
{
    return mqtt_filter_has_wildcard(filter) ? find_node(t, filter, make)
                                            : route_find_exact(t, hash_keyed(t->key, filter), make);
}

/* How many of this node's own want what ends here: its shards as one, and each share. */
static unsigned own_uses(const struct entry *e)
{
    unsigned count = atomic_load_explicit(&e->shards, memory_order_relaxed) != 0;

    for (const struct share_entry *share = atomic_load_explicit(&e->shares, memory_order_relaxed); share;
         share = atomic_load_explicit(&share->next, memory_order_relaxed)) {
        count += share->slot == NO_SLOT;
    }
    return count;
}

/* The set of this node's own filters has gained or lost one. */
static void own_changed(struct route_table *t, const struct entry *e, struct slice filter, uint64_t share, bool added)
{
    bool exact = e->parent == NULL;
    struct route_filter f = {.hash = exact ? e->hash : hash_keyed(t->key, filter),
                             .text = exact ? slice_of(NULL, 0) : filter,
                             .share = share};

    t->filter_count += added && own_uses(e) == 1;
    t->filter_count -= !added && own_uses(e) == 0;
    route_digest_count(&t->own, &f, added);
    if (t->watch) {
        t->watch(t->watch_arg, &f, added);
    }
}

static void set_shards(struct route_table *t, struct entry *e, struct slice filter, uint64_t shards)
{
    uint64_t before = atomic_load_explicit(&e->shards, memory_order_relaxed);

    if (before == shards) {
        return; /* no change, and what the caches hold stays good */
    }
    atomic_store_explicit(&e->shards, shards, memory_order_release);
    route_changed(t);
    if (!before || !shards) {
        own_changed(t, e, filter, 0, shards != 0);
    }
}

int route_table_add(struct route_table *t, struct slice filter, unsigned shard)
{
    assert(shard < 64);
    struct entry *e = route_find_entry(t, filter, true);

    if (!e) {
        return -ENOMEM;
    }
    set_shards(t, e, filter, atomic_load_explicit(&e->shards, memory_order_relaxed) | 1ull << shard);
    return 0;
}

int route_table_remove(struct route_table *t, struct slice filter, unsigned shard)
{
    assert(shard < 64);
    struct entry *e = route_find_entry(t, filter, false);

    if (e) {
        set_shards(t, e, filter, atomic_load_explicit(&e->shards, memory_order_relaxed) & ~(1ull << shard));
        route_prune(t, e);
    }
    return 0;
}

_Atomic(struct share_entry *) *route_find_share(struct entry *e, uint64_t share_id, uint32_t slot)
{
    _Atomic(struct share_entry *) *link = &e->shares;
    struct share_entry *share;

    while ((share = atomic_load_explicit(link, memory_order_relaxed)) != NULL &&
           (share->id != share_id || share->slot != slot)) {
        link = &share->next;
    }
    return link;
}

void route_put_share(struct route_table *t, struct entry *e, struct share_entry *share)
{
    atomic_init(&share->next, NULL);
    atomic_store_explicit(route_find_share(e, share->id, share->slot), share, memory_order_release);
    route_changed(t);
}

bool route_drop_share(struct route_table *t, struct entry *e, uint64_t share_id, uint32_t slot)
{
    _Atomic(struct share_entry *) *link = route_find_share(e, share_id, slot);
    struct share_entry *gone = atomic_load_explicit(link, memory_order_relaxed);

    if (gone) {
        atomic_store_explicit(link, atomic_load_explicit(&gone->next, memory_order_relaxed), memory_order_release);
        grace_retire(&t->grace, &gone->item);
        route_changed(t);
    }
    return gone != NULL;
}

int route_table_add_share(struct route_table *t, struct slice filter, const struct route_share *share)
{
    struct share_entry *added = malloc(sizeof(*added));
    struct entry *e = added ? route_find_entry(t, filter, true) : NULL;

    if (!e) {
        free(added);
        return -ENOMEM;
    }
    if (atomic_load_explicit(route_find_share(e, share->id, NO_SLOT), memory_order_relaxed)) {
        free(added);
        return 0;
    }
    added->id = share->id;
    added->home = share->home;
    added->slot = NO_SLOT;
    route_put_share(t, e, added);
    own_changed(t, e, filter, share->id, true);
    return 0;
}

int route_table_remove_share(struct route_table *t, struct slice filter, uint64_t share_id)
{
    struct entry *e = route_find_entry(t, filter, false);

    if (e && route_drop_share(t, e, share_id, NO_SLOT)) {
        own_changed(t, e, filter, share_id, false);
        route_prune(t, e);
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
